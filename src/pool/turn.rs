//! A backend's turn: how often it is served before those who came after it.
//!
//! If each who waits were served once and then stood last, two hundred clients on ten connections would have two
//! hundred backends work in a circle, each of which finds the processor's caches full of the others' data. So who has
//! waited is served a few times in a row: it keeps its place in front of those who came after it, for [`LEASES`] leases
//! and not longer than [`TIME`]. Nobody waits longer than that for each of those before it.
//!
//! ```
//! use sharding::pool::turn::{LEASES, Turn};
//! use std::time::Instant;
//! let now = Instant::now();
//! let mut turn = Turn::default();
//! assert_eq!(turn.number(now), None);     // it has none yet: it waits behind all others
//! turn.served(7, now);                    // and is served, under number 7
//! for _ in 1..LEASES {
//!     assert_eq!(turn.number(now), Some(7));
//!     turn.served(7, now);
//! }
//! assert_eq!(turn.number(now), None);
//! ```

use std::time::{Duration, Instant};

/// Leases of a turn that others wait for.
pub const LEASES: u32 = 8;
/// How long after its first lease a turn may go on.
pub const TIME: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turn {
    /// The number, leases left, and the end.
    now: Option<(u64, u32, Instant)>,
}

impl Turn {
    pub const NONE: Turn = Turn { now: None };

    /// The number of the turn that goes on; `None` if a new one is due.
    pub fn number(&self, now: Instant) -> Option<u64> {
        let (number, left, end) = self.now?;
        (left > 0 && now < end).then_some(number)
    }

    /// Was served in the turn of that number, after a wait.
    pub fn served(&mut self, number: u64, now: Instant) {
        self.now = match self.now {
            Some((current, left, end)) if current == number => Some((number, left.saturating_sub(1), end)),
            _ => Some((number, LEASES - 1, now + TIME)),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_ends_by_time() {
        let now = Instant::now();
        let mut turn = Turn::default();
        turn.served(3, now);
        turn.served(3, now + TIME / 2);
        assert_eq!(turn.number(now + TIME * 3 / 4), Some(3));
        assert_eq!(turn.number(now + TIME), None);
    }
}
