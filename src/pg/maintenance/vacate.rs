//! How a database gets rid of its worker: for statements that want nobody else to be in it.
//!
//! DROP DATABASE, ALTER DATABASE RENAME and SET TABLESPACE, CREATE DATABASE from it as a template fail while
//! anybody is connected. The worker is asked to leave, and until the statement is over none is started.

use crate::maintenance::seats::Seat;
use crate::pg::maintenance::shared::{is_alive, locked, seats, wake_launcher, wake_worker};
use crate::pg::pool::shared::my_pid;
use crate::pg::wait::{Event, Patience, wait_as};
use std::time::{Duration, Instant};

/// How long the worker may take to notice by itself.
const GRACE: Duration = Duration::from_millis(500);
/// How long until the statement goes on and says that the database is in use.
const BOUND: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(10);

/// While it exists, no worker of ours is in the database.
pub struct Vacant(&'static Seat);

/// Sends the worker of a database away and waits until it has gone, within a bound.
pub fn vacate(database: u32) -> Option<Vacant> {
    // Also where there is none: one may be about to come.
    let seat = locked(|seats| seats.find_or_make(database, is_alive))?;
    seat.hold(my_pid());
    let vacant = Vacant(seat);
    let begun = Instant::now();
    let mut terminated = false;
    loop {
        let worker = seat.worker();
        if worker == 0 || !is_alive(worker) || begun.elapsed() > BOUND {
            return Some(vacant);
        }
        if !terminated && begun.elapsed() > GRACE {
            terminated = true;
            // SAFETY: it waits for a node; the signal ends that.
            unsafe { libc::kill(worker as i32, libc::SIGTERM) };
        }
        wake_worker(seat);
        wait_as(Event::Maintenance, &[], Patience::until(Instant::now() + LOOK));
    }
}

impl Drop for Vacant {
    fn drop(&mut self) {
        self.0.release(my_pid());
        if seats().find(self.0.database()).is_some() {
            wake_launcher();
        }
    }
}
