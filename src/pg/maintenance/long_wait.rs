//! A backend that has waited longer than `deadlock_timeout`: the worker looks whether it waits in a circle, and may
//! tell it to give way.
//!
//! Until then a wait costs nothing. Only waits in which an ERROR may be raised are registered: of the others, those
//! for the end of a commit, it is one of their partners that gives way.

use crate::error::{Error, sqlstate};
use crate::pg::maintenance::shared::{self, is_alive, long_waits, my_database, seats};
use crate::pg::pool::shared::{my_latch, my_pid};
use pgrx::pg_sys;
use std::time::Duration;

/// As long as it exists, this backend may be told to give way.
pub struct LongWait {
    place: Option<usize>,
}

/// After which time a wait is long.
pub fn limit() -> Duration {
    // SAFETY: a setting of this backend.
    Duration::from_millis(unsafe { pg_sys::DeadlockTimeout }.max(1) as u64)
}

/// This backend has waited for long and goes on to wait.
pub fn begin() -> LongWait {
    let database = my_database();
    let Some(seat) = seats().find(database).filter(|_| !shared::is_worker()) else {
        return LongWait { place: None };
    };
    let place = long_waits().enter(my_pid(), database, my_latch(), is_alive);
    seat.report_wait();
    shared::wake_worker(seat);
    LongWait { place }
}

impl LongWait {
    /// Why the wait must not go on, if that is so.
    pub fn verdict(&self) -> Option<Error> {
        let story = long_waits().verdict(self.place?)?;
        let error = Error::new(sqlstate::DEADLOCK_DETECTED, "deadlock detected").detail(story);
        Some(error.hint("Repeat the transaction."))
    }
}

impl Drop for LongWait {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            long_waits().leave(place);
        }
    }
}
