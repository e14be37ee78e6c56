//! The pool's settings.

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};
use std::time::Duration;

static SIZE: GucSetting<i32> = GucSetting::<i32>::new(10);
static MIN_SIZE: GucSetting<i32> = GucSetting::<i32>::new(0);
static MAX_CONNECTIONS: GucSetting<i32> = GucSetting::<i32>::new(256);
static WAIT_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(30_000);
static IDLE_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(600);
static LIFETIME: GucSetting<i32> = GucSetting::<i32>::new(3600);
static WORKERS: GucSetting<i32> = GucSetting::<i32>::new(1);

/// More workers than this have never been of use.
pub const MOST_WORKERS: usize = 16;

pub fn install() {
    GucRegistry::define_int_guc(
        c"sharding.pool_size",
        c"Connections to a node per user of it.",
        c"All sessions of the coordinator share them, each for the time of a transaction.",
        &SIZE,
        1,
        10_000,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"sharding.pool_min_size",
        c"Connections to a node per user of it that are kept although nobody uses them.",
        c"For who was connected there within the time of sharding.pool_lifetime.",
        &MIN_SIZE,
        0,
        10_000,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"sharding.max_pooled_connections",
        c"Connections to all nodes together.",
        c"",
        &MAX_CONNECTIONS,
        1,
        10_000,
        GucContext::Postmaster,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"sharding.pool_wait_timeout",
        c"Time to wait for a connection that other sessions use.",
        c"0 waits without limit.",
        &WAIT_TIMEOUT,
        0,
        i32::MAX,
        GucContext::Userset,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"sharding.pool_idle_timeout",
        c"Time after which a connection that nobody uses is closed.",
        c"0 keeps it.",
        &IDLE_TIMEOUT,
        0,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_int_guc(
        c"sharding.pool_lifetime",
        c"Age at which a connection is closed after its transaction.",
        c"0 keeps it.",
        &LIFETIME,
        0,
        i32::MAX,
        GucContext::Sighup,
        GucFlags::UNIT_S,
    );
    GucRegistry::define_int_guc(
        c"sharding.pool_workers",
        c"Processes that open and watch the connections.",
        c"",
        &WORKERS,
        1,
        MOST_WORKERS as i32,
        GucContext::Postmaster,
        GucFlags::default(),
    );
}

/// Connections per node and user.
pub fn size() -> u32 {
    SIZE.get().max(1) as u32
}

/// Connections per node and user that are kept.
pub fn min_size() -> u32 {
    MIN_SIZE.get().max(0) as u32
}

pub fn max_connections() -> usize {
    MAX_CONNECTIONS.get().max(1) as usize
}

pub fn workers() -> usize {
    (WORKERS.get().max(1) as usize).min(MOST_WORKERS)
}

/// `None` is without limit.
pub fn wait_timeout() -> Option<Duration> {
    positive(WAIT_TIMEOUT.get()).map(Duration::from_millis)
}

pub fn idle_timeout() -> Option<Duration> {
    positive(IDLE_TIMEOUT.get()).map(Duration::from_secs)
}

pub fn lifetime() -> Option<Duration> {
    positive(LIFETIME.get()).map(Duration::from_secs)
}

fn positive(value: i32) -> Option<u64> {
    u64::try_from(value).ok().filter(|value| *value > 0)
}
