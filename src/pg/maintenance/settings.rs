//! The maintenance worker's settings.

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};
use std::time::Duration;

static STATISTICS_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(60_000);
static RECOVERY_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(5_000);

pub fn install() {
    GucRegistry::define_int_guc(
        c"sharding.recovery_interval",
        c"How often a node is asked that may hold transactions in doubt.",
        c"They are then committed or rolled back, as sharding.recover_transactions() does. 0 leaves them to it.",
        &RECOVERY_INTERVAL,
        0,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"sharding.statistics_interval",
        c"How often the planner's statistics of distributed tables are compared with those of the nodes.",
        c"They are refreshed where autovacuum has analyzed shards. 0 leaves that to ANALYZE.",
        &STATISTICS_INTERVAL,
        0,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
}

/// `None`: statistics come here by ANALYZE only.
pub fn statistics_interval() -> Option<Duration> {
    u64::try_from(STATISTICS_INTERVAL.get()).ok().filter(|millis| *millis > 0).map(Duration::from_millis)
}

/// `None`: transactions in doubt are left to the user.
pub fn recovery_interval() -> Option<Duration> {
    u64::try_from(RECOVERY_INTERVAL.get()).ok().filter(|millis| *millis > 0).map(Duration::from_millis)
}
