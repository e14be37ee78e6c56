//! A backend that has waited longer than `deadlock_timeout`: the worker looks whether it waits in a circle, and may
//! tell it to give way.
//!
//! Until then a wait costs nothing. Where no ERROR may be raised, since the node's answer decides (the end of a
//! commit), [`Watch`] says when the node is to be asked to stop.

use crate::error::{Error, sqlstate};
use crate::pg::maintenance::shared::{self, is_alive, long_waits, my_database, seats};
use crate::pg::pool::shared::{my_latch, my_pid};
use pgrx::pg_sys;
use std::time::{Duration, Instant};

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

/// Watches over a wait that consists of several.
#[derive(Default)]
pub struct Watch {
    /// When the wait becomes a long one.
    look: Option<Instant>,
    long: Option<LongWait>,
}

impl Watch {
    /// Until when to wait at most, before [`Watch::verdict`] is to be asked.
    pub fn until(&mut self) -> Option<Instant> {
        if self.long.is_some() {
            return None;
        }
        Some(*self.look.get_or_insert_with(|| Instant::now() + limit()))
    }

    /// Why the wait must not go on, if that is so.
    pub fn verdict(&mut self) -> Option<Error> {
        if self.long.is_none() && self.look.is_some_and(|look| Instant::now() >= look) {
            self.long = Some(begin());
        }
        self.long.as_ref()?.verdict()
    }
}

impl Drop for LongWait {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            long_waits().leave(place);
        }
    }
}
