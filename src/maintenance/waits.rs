//! The backends that have waited for long, and the word to one of them that it has to give way.
//!
//! ```
//! use sharding::maintenance::waits::{LongWait, LongWaits};
//! let memory: Vec<LongWait> = (0..2).map(|_| LongWait::default()).collect();
//! let waits = LongWaits(&memory);
//! // Process 12 waits in database 5; its latch is 0xbeef.
//! let place = waits.enter(12, 5, 0xbeef, |_| true).unwrap();
//! assert_eq!(waits.of_database(5), [12]);
//! assert_eq!(waits.tell(12, "Process 12 waits for process 11."), Some(0xbeef), "the latch to set");
//! assert_eq!(waits.verdict(place).as_deref(), Some("Process 12 waits for process 11."));
//! waits.leave(place);
//! assert_eq!(waits.tell(12, "too late"), None);
//! ```
//!
//! A word that comes when the wait is over reaches nobody. A place is taken for one wait only, and by who has waited
//! for `deadlock_timeout` already.

use crate::pool::text::SharedText;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Longer stories are cut.
const STORY: usize = 800;

/// A place for one who waits.
#[derive(Debug, Default)]
pub struct LongWait {
    word: AtomicU64,
    database: AtomicU32,
    latch: AtomicUsize,
    story: SharedText<STORY>,
}

/// All places.
#[derive(Clone, Copy, Debug)]
pub struct LongWaits<'a>(pub &'a [LongWait]);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    /// Taken, not yet filled in; or somebody writes to it.
    Busy(u32),
    Waiting(u32),
    /// It has to give way.
    Chosen(u32),
}

impl State {
    fn pack(self) -> u64 {
        let (state, process) = match self {
            State::Free => (0, 0),
            State::Busy(process) => (1, process),
            State::Waiting(process) => (2, process),
            State::Chosen(process) => (3, process),
        };
        state << 32 | u64::from(process)
    }

    fn unpack(bits: u64) -> State {
        let process = bits as u32;
        match bits >> 32 {
            0 => State::Free,
            1 => State::Busy(process),
            2 => State::Waiting(process),
            _ => State::Chosen(process),
        }
    }

    fn process(self) -> Option<u32> {
        match self {
            State::Free => None,
            State::Busy(process) | State::Waiting(process) | State::Chosen(process) => Some(process),
        }
    }
}

impl LongWait {
    fn state(&self) -> State {
        State::unpack(self.word.load(Ordering::SeqCst))
    }

    fn change(&self, from: State, to: State) -> bool {
        self.word.compare_exchange(from.pack(), to.pack(), Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

impl LongWaits<'_> {
    /// Process `me` has waited for long; its place, `None` if all are taken. Places of the dead are free.
    pub fn enter(&self, me: u32, database: u32, latch: usize, alive: impl Fn(u32) -> bool) -> Option<usize> {
        let take = |wait: &LongWait| {
            let seen = wait.state();
            seen.process().is_none_or(|process| process == me || !alive(process)) && wait.change(seen, State::Busy(me))
        };
        let place = self.0.iter().position(take)?;
        let wait = &self.0[place];
        wait.database.store(database, Ordering::Relaxed);
        wait.latch.store(latch, Ordering::Relaxed);
        wait.word.store(State::Waiting(me).pack(), Ordering::SeqCst);
        Some(place)
    }

    /// The wait is over.
    pub fn leave(&self, place: usize) {
        self.0[place].word.store(State::Free.pack(), Ordering::SeqCst);
    }

    /// Why who waits here has to give way, if it has.
    pub fn verdict(&self, place: usize) -> Option<String> {
        let wait = &self.0[place];
        matches!(wait.state(), State::Chosen(_)).then(|| wait.story.get())
    }

    /// The processes that wait in a database.
    pub fn of_database(&self, database: u32) -> Vec<u32> {
        let waits = self.0.iter().filter(|wait| wait.database.load(Ordering::Relaxed) == database);
        waits
            .filter_map(|wait| match wait.state() {
                State::Waiting(process) => Some(process),
                _ => None,
            })
            .collect()
    }

    /// Tells a process that still waits to give way; the latch that wakes it.
    pub fn tell(&self, process: u32, story: &str) -> Option<usize> {
        let wait = self.0.iter().find(|wait| wait.change(State::Waiting(process), State::Busy(process)))?;
        wait.story.set(story);
        let latch = wait.latch.load(Ordering::Relaxed);
        wait.change(State::Busy(process), State::Chosen(process)).then_some(latch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dead_make_room() {
        let memory: Vec<LongWait> = (0..2).map(|_| LongWait::default()).collect();
        let waits = LongWaits(&memory);
        assert_eq!(waits.enter(1, 5, 0, |_| true), Some(0));
        assert_eq!(waits.enter(2, 5, 0, |_| true), Some(1));
        assert_eq!(waits.enter(3, 5, 0, |_| true), None);
        assert_eq!(waits.enter(3, 6, 0, |process| process != 2), Some(1));
        assert_eq!((waits.of_database(5), waits.of_database(6)), (vec![1], vec![3]));
        waits.leave(0);
        assert!(waits.of_database(5).is_empty());
    }

    #[test]
    fn who_was_told_is_told_once() {
        let memory: Vec<LongWait> = (0..2).map(|_| LongWait::default()).collect();
        let waits = LongWaits(&memory);
        let place = waits.enter(1, 5, 7, |_| true).unwrap();
        assert_eq!(waits.verdict(place), None);
        assert_eq!(waits.tell(1, "because"), Some(7));
        assert_eq!(waits.tell(1, "again"), None);
        assert!(waits.of_database(5).is_empty());
        assert_eq!(waits.verdict(place).as_deref(), Some("because"));
        waits.leave(place);
        let place = waits.enter(1, 5, 7, |_| true).unwrap();
        assert_eq!(waits.verdict(place), None, "a new wait");
    }
}
