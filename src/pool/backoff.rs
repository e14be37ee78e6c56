//! How long to leave a node alone that refuses connections.
//!
//! The first failures are tried again at once: whoever asks shall hear what is wrong now. After
//! that each attempt waits, twice as long as the one before, so that a node that struggles to its
//! feet is not knocked down by its clients. Never so long that somebody who has repaired it notices.
//!
//! ```
//! use sharding::pool::backoff::pause_after;
//! use std::time::Duration;
//! assert_eq!(pause_after(3), Duration::ZERO);
//! assert_eq!(pause_after(5), Duration::from_millis(20));
//! assert_eq!(pause_after(500), Duration::from_secs(1));
//! ```

use std::time::Duration;

const AT_ONCE: u32 = 3;
const FIRST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(1);

/// The time between the last of so many failures in a row and the next attempt.
pub fn pause_after(failures: u32) -> Duration {
    match failures.checked_sub(AT_ONCE + 1) {
        None => Duration::ZERO,
        Some(doublings) => FIRST.saturating_mul(1 << doublings.min(10)).min(LONGEST),
    }
}
