//! Looking for an answer again and again for a moment before the backend goes to sleep.
//!
//! On an idle machine a node nearby answers a point query sooner than the kernel puts a process to sleep on one processor
//! and wakes it on another. So a backend that expects its answer within `sharding.busy_poll` looks for it,
//! as long as there are processors that nobody else wants.
//!
//! What to expect is what was seen: the usual wait of each connection, a moving average ([`UsualWait`]). Whether
//! others want the processors is what the kernel counts: a process that waits longer for one than it has one is
//! on a busy machine ([`Load`]).

use crate::pg::session::registry::{Key, pump, try_with_sessions, with_sessions};
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};
use std::cell::RefCell;
use std::time::{Duration, Instant};

/// Microseconds.
static BUSY_POLL: GucSetting<i32> = GucSetting::<i32>::new(100);
/// A wait counts as at most so many times the limit: after a lock or a large query, a few quick answers restore trust.
const LONGEST: u32 = 4;
/// Every so many waits the kernel is asked how busy the machine is; that takes some microseconds.
const WAITS_PER_LOOK: u32 = 64;

thread_local! {
    static LOAD: RefCell<Load> = const { RefCell::new(Load { waits: 0, seen: None, is_idle: false }) };
}

/// Defines `sharding.busy_poll`; called once from `_PG_init`.
pub fn install() {
    GucRegistry::define_int_guc(
        c"sharding.busy_poll",
        c"Time to look for a node's answer before going to sleep, in microseconds.",
        c"Only on an idle machine, for nodes that usually answer in this time. 0 sleeps at once.",
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

/// Whether this process gets a processor whenever it wants one.
struct Load {
    waits: u32,
    seen: Option<Turns>,
    is_idle: bool,
}

/// Nanoseconds, as Linux counts them in `/proc/self/schedstat`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Turns {
    had: u64,
    waited: u64,
}

impl Turns {
    fn read() -> Option<Turns> {
        Turns::parse(&std::fs::read_to_string("/proc/self/schedstat").ok()?)
    }

    fn parse(text: &str) -> Option<Turns> {
        let mut numbers = text.split_ascii_whitespace().map_while(|number| number.parse().ok());
        Some(Turns { had: numbers.next()?, waited: numbers.next()? })
    }
}

impl Load {
    /// Counts a wait. Where the kernel does not tell, the machine counts as busy.
    fn note_wait(&mut self, read: impl FnOnce() -> Option<Turns>) -> bool {
        self.waits += 1;
        if self.waits.is_multiple_of(WAITS_PER_LOOK) {
            let now = read();
            self.is_idle = self.seen.zip(now).is_some_and(|(then, now)| now.waited - then.waited < now.had - then.had);
            self.seen = now;
        }
        self.is_idle
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
        let is_idle = LOAD.with_borrow_mut(|load| load.note_wait(Turns::read));
        if !is_idle || !usual.is_some_and(|usual| usual.is_within(self.limit)) {
            return false;
        }
        while self.begun.elapsed() < self.limit {
            if pump(&[self.key]) {
                return true;
            }
            std::hint::spin_loop();
        }
        false
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let wait = self.begun.elapsed().min(self.limit * LONGEST);
        try_with_sessions(|sessions| {
            let connection = sessions.get_mut(&self.key).and_then(|session| session.connection.as_mut());
            if let Some(connection) = connection {
                connection.usual_wait.note(wait);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_answers_end_it_and_quick_ones_bring_it_back() {
        let limit = Duration::from_micros(100);
        let mut usual = UsualWait::default();
        assert!(usual.is_within(limit));
        (0..4).for_each(|_| usual.note(limit * LONGEST));
        assert!(!usual.is_within(limit));
        (0..16).for_each(|_| usual.note(limit / 2));
        assert!(usual.is_within(limit));
    }

    #[test]
    fn a_machine_is_idle_where_nobody_waits_for_it() {
        let mut load = Load { waits: 0, seen: None, is_idle: false };
        let mut look = |had, waited| {
            (0..WAITS_PER_LOOK).map(|_| load.note_wait(|| Some(Turns { had, waited }))).last().unwrap_or_default()
        };
        assert!(!look(1000, 0), "not known yet");
        assert!(look(2000, 500));
        assert!(!look(3000, 2500));
        assert!(look(4000, 2500));
    }

    #[test]
    fn what_linux_says_is_read() {
        assert_eq!(Turns::parse("12 34 5\n"), Some(Turns { had: 12, waited: 34 }));
        assert_eq!(Turns::parse("12"), None);
        assert_eq!(Turns::parse("never"), None);
    }
}
