//! Looking for an answer again and again for a moment before the backend goes to sleep.
//!
//! A node nearby answers a point query sooner than the kernel puts a process to sleep on one processor, wakes another
//! and wakes the first again. So a backend that expects its answer within `sharding.busy_poll` looks
//! for it, as long as nobody else wants the processor: after each look it offers it to others, and once one
//! has taken it there are better things to do than to wait in a loop.
//!
//! What to expect is what was seen: the usual wait of each connection, a moving average.
//!
//! ```
//! use sharding::pg::session::busy_poll::UsualWait;
//! use std::time::Duration;
//! let mut usual = UsualWait::default();
//! assert!(usual.is_within(Duration::from_micros(50)));
//! for _ in 0..8 { usual.note(Duration::from_micros(400)); }
//! assert!(!usual.is_within(Duration::from_micros(50)));
//! ```

use crate::pg::session::registry::{Key, pump, with_sessions};
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};
use std::time::{Duration, Instant};

/// Microseconds.
static BUSY_POLL: GucSetting<i32> = GucSetting::<i32>::new(100);
/// Who gets the processor back later than this after offering it has not been alone: a look and an offer take 1 to 2.
const TAKEN: Duration = Duration::from_micros(8);
/// A wait counts as at most so many times the limit: after a lock or a large query, a few quick answers restore trust.
const LONGEST: u32 = 4;

/// Defines `sharding.busy_poll`; called once from `_PG_init`.
pub fn install() {
    GucRegistry::define_int_guc(
        c"sharding.busy_poll",
        c"Time to look for a node's answer before going to sleep, in microseconds.",
        c"Only on a processor that nobody else wants, for nodes that usually answer in this time. 0 sleeps at once.",
        &BUSY_POLL,
        0,
        10_000,
        GucContext::Userset,
        GucFlags::default(),
    );
}

/// How long a connection's answers usually take.
#[derive(Clone, Copy, Debug, Default)]
pub struct UsualWait(Duration);

impl UsualWait {
    pub fn note(&mut self, wait: Duration) {
        self.0 = (self.0 * 7 + wait) / 8;
    }

    pub fn is_within(&self, limit: Duration) -> bool {
        self.0 <= limit
    }
}

/// The wait for the answer on one connection, while it lasts.
pub struct Wait {
    key: Key,
    begun: Instant,
    limit: Duration,
}

impl Wait {
    /// `None` where nobody polls.
    pub fn begin(key: Key) -> Option<Wait> {
        let limit = Duration::from_micros(BUSY_POLL.get().max(0) as u64);
        (!limit.is_zero()).then(|| Wait { key, begun: Instant::now(), limit })
    }

    /// Looks for the answer for a moment; whether something came in.
    pub fn poll(&self) -> bool {
        let usual = with_sessions(|sessions| Some(sessions.get(&self.key)?.connection.as_ref()?.usual_wait));
        if !usual.is_some_and(|usual| usual.is_within(self.limit)) {
            return false;
        }
        let mut last = self.begun;
        loop {
            // SAFETY: has no arguments and cannot fail.
            unsafe { libc::sched_yield() };
            if pump(&[self.key]) {
                return true;
            }
            let now = Instant::now();
            if now - last > TAKEN || now - self.begun > self.limit {
                return false;
            }
            last = now;
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let wait = self.begun.elapsed().min(self.limit * LONGEST);
        crate::pg::session::registry::try_with_sessions(|sessions| {
            let connection = sessions.get_mut(&self.key).and_then(|session| session.connection.as_mut());
            if let Some(connection) = connection {
                connection.usual_wait.note(wait);
            }
        });
    }
}
