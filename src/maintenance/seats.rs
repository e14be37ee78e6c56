//! Which databases have a maintenance worker, should have one, or must be left alone for a while.
//!
//! ```
//! use sharding::maintenance::seats::{Seats, Seat};
//! let memory: Vec<Seat> = (0..4).map(|_| Seat::default()).collect();
//! let seats = Seats(&memory);
//! let everybody_lives = |_| true;
//! // A backend has found nodes in database 5; the launcher starts a worker, process 70.
//! let seat = seats.find_or_make(5, everybody_lives).unwrap();
//! seat.note();
//! assert!(seat.wants_worker(everybody_lives));
//! assert!(seat.take(70, 0xbeef, everybody_lives));
//! // Process 80 is about to drop the database: the worker leaves, and none is started.
//! seat.hold(80);
//! assert!(seat.is_held(everybody_lives));
//! seat.vacate(70);
//! assert!(!seat.wants_worker(everybody_lives));
//! // It did not work out.
//! seat.release(80);
//! assert!(seat.wants_worker(everybody_lives));
//! ```
//!
//! What is marked "under the lock" is called by one process at a time; everything else at any time.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// A database and its worker.
#[derive(Debug, Default)]
pub struct Seat {
    /// The OID; 0: the seat is free.
    database: AtomicU32,
    /// The worker's process; 0: none.
    worker: AtomicU32,
    latch: AtomicUsize,
    /// The worker has found that there is something to do in this database.
    settled: AtomicBool,
    /// How often somebody has said that there is; 0: nobody has.
    noted: AtomicU64,
    /// How often backends have reported trouble.
    troubles: AtomicU64,
    /// How often a backend has begun to wait for long.
    waits: AtomicU64,
    /// The process that wants the database for itself; 0: none.
    holder: AtomicU32,
}

/// All seats.
#[derive(Clone, Copy, Debug)]
pub struct Seats<'a>(pub &'a [Seat]);

impl<'a> Seats<'a> {
    /// The seat of a database.
    pub fn find(&self, database: u32) -> Option<&'a Seat> {
        self.0.iter().find(|seat| seat.database() == database && database != 0)
    }

    /// The same, made if there is none; `None` if all are taken. Under the lock.
    pub fn find_or_make(&self, database: u32, alive: impl Fn(u32) -> bool) -> Option<&'a Seat> {
        if let Some(seat) = self.find(database) {
            return Some(seat);
        }
        let free = self.0.iter().find(|seat| seat.database() == 0);
        let unused =
            || self.0.iter().find(|seat| seat.noted() == 0 && !seat.has_worker(&alive) && !seat.is_held(&alive));
        let seat = free.or_else(unused)?;
        seat.clear();
        seat.database.store(database, Ordering::Release);
        Some(seat)
    }

    /// The databases that should have a worker and have none.
    pub fn unserved(&self, alive: impl Fn(u32) -> bool) -> Vec<u32> {
        self.0.iter().filter(|seat| seat.wants_worker(&alive)).map(Seat::database).collect()
    }
}

impl Seat {
    pub fn database(&self) -> u32 {
        self.database.load(Ordering::Acquire)
    }

    fn clear(&self) {
        self.database.store(0, Ordering::Release);
        self.worker.store(0, Ordering::Relaxed);
        self.latch.store(0, Ordering::Relaxed);
        self.settled.store(false, Ordering::Relaxed);
        self.noted.store(0, Ordering::Relaxed);
        self.troubles.store(0, Ordering::Relaxed);
        self.waits.store(0, Ordering::Relaxed);
        self.holder.store(0, Ordering::Relaxed);
    }

    /// There is something to do in the database.
    pub fn note(&self) {
        self.noted.fetch_add(1, Ordering::SeqCst);
    }

    /// How often that was said.
    pub fn noted(&self) -> u64 {
        self.noted.load(Ordering::SeqCst)
    }

    /// A backend has left something that is to be finished.
    pub fn report_trouble(&self) {
        self.troubles.fetch_add(1, Ordering::SeqCst);
    }

    /// How often that was said.
    pub fn troubles(&self) -> u64 {
        self.troubles.load(Ordering::SeqCst)
    }

    /// A backend has begun to wait for long.
    pub fn report_wait(&self) {
        self.waits.fetch_add(1, Ordering::SeqCst);
    }

    /// How often that was said.
    pub fn waits(&self) -> u64 {
        self.waits.load(Ordering::SeqCst)
    }

    /// Whether a worker should be started.
    pub fn wants_worker(&self, alive: impl Fn(u32) -> bool) -> bool {
        self.database() != 0 && self.noted() > 0 && !self.has_worker(&alive) && !self.is_held(&alive)
    }

    fn has_worker(&self, alive: impl Fn(u32) -> bool) -> bool {
        let worker = self.worker();
        worker != 0 && alive(worker)
    }

    /// The worker's process; 0: none.
    pub fn worker(&self) -> u32 {
        self.worker.load(Ordering::Acquire)
    }

    /// How to wake the worker; 0: there is none.
    pub fn latch(&self) -> usize {
        self.latch.load(Ordering::Acquire)
    }

    /// Process `me` becomes the worker; `false` if there is one, or must be none. Under the lock.
    pub fn take(&self, me: u32, latch: usize, alive: impl Fn(u32) -> bool) -> bool {
        if self.has_worker(&alive) || self.is_held(&alive) {
            return false;
        }
        self.settled.store(false, Ordering::Relaxed);
        self.latch.store(latch, Ordering::Release);
        self.worker.store(me, Ordering::Release);
        true
    }

    /// The worker has found something to do.
    pub fn settle(&self) {
        self.settled.store(true, Ordering::Release);
    }

    pub fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    /// The worker has gone.
    pub fn vacate(&self, me: u32) {
        if self.worker() == me {
            self.latch.store(0, Ordering::Release);
            self.worker.store(0, Ordering::Release);
        }
    }

    /// Nothing is to be done here, as was found out after [`Seat::noted`] had said `seen`. Whether nobody has said
    /// otherwise since. Under the lock.
    pub fn give_up(&self, seen: u64) -> bool {
        let unchanged = self.noted() == seen;
        if unchanged {
            self.noted.store(0, Ordering::SeqCst);
        }
        unchanged
    }

    /// The database is gone. Under the lock.
    pub fn forget(&self) {
        self.clear();
    }

    /// Process `me` wants the database for itself.
    pub fn hold(&self, me: u32) {
        self.holder.store(me, Ordering::SeqCst);
    }

    /// It does not any more.
    pub fn release(&self, me: u32) {
        let _ = self.holder.compare_exchange(me, 0, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Whether no worker may be in the database.
    pub fn is_held(&self, alive: impl Fn(u32) -> bool) -> bool {
        let holder = self.holder.load(Ordering::SeqCst);
        holder != 0 && alive(holder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats(count: usize) -> Vec<Seat> {
        (0..count).map(|_| Seat::default()).collect()
    }

    #[test]
    fn one_worker_per_database() {
        let memory = seats(2);
        let all = Seats(&memory);
        let seat = all.find_or_make(5, |_| true).unwrap();
        seat.note();
        assert!(seat.take(70, 1, |_| true));
        assert!(!seat.take(71, 1, |_| true), "70 is there");
        assert!(seat.take(72, 1, |process| process != 70), "70 has died without a word");
        seat.vacate(70);
        assert_eq!(seat.worker(), 72, "what a dead one says later does not count");
        assert!(all.unserved(|_| true).is_empty());
        seat.vacate(72);
        assert_eq!(all.unserved(|_| true), [5]);
    }

    #[test]
    fn what_was_said_while_a_worker_looked_is_not_lost() {
        let memory = seats(1);
        let seat = Seats(&memory).find_or_make(5, |_| true).unwrap();
        seat.note();
        let seen = seat.noted();
        seat.note();
        assert!(!seat.give_up(seen));
        assert!(seat.wants_worker(|_| true));
        assert!(seat.give_up(seat.noted()));
        assert!(!seat.wants_worker(|_| true));
    }

    #[test]
    fn a_dead_holder_holds_nothing() {
        let memory = seats(1);
        let seat = Seats(&memory).find_or_make(5, |_| true).unwrap();
        seat.note();
        seat.hold(80);
        assert!(!seat.wants_worker(|_| true));
        assert!(seat.wants_worker(|process| process != 80));
        seat.release(81);
        assert!(seat.is_held(|_| true), "81 does not hold it");
    }

    #[test]
    fn seats_without_anything_to_do_make_room() {
        let memory = seats(2);
        let all = Seats(&memory);
        for database in [1, 2] {
            let seat = all.find_or_make(database, |_| true).unwrap();
            seat.note();
            assert!(seat.take(70 + database, 1, |_| true));
        }
        assert!(all.find_or_make(3, |_| true).is_none());
        let second = all.find(2).unwrap();
        second.vacate(72);
        assert!(all.find_or_make(3, |_| true).is_none(), "there will be another worker");
        assert!(second.give_up(second.noted()));
        let seat = all.find_or_make(3, |_| true).unwrap();
        assert_eq!((seat.database(), seat.noted()), (3, 0));
        assert!(all.find(2).is_none() && all.find(0).is_none());
    }
}
