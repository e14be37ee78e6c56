//! The two-phase commits that live backends are carrying out.
//!
//! ```
//! use sharding::maintenance::under_way::{UnderWay, Commit};
//! let memory: Vec<Commit> = (0..4).map(|_| Commit::default()).collect();
//! let commits = UnderWay(&memory);
//! let place = commits.begin(70, 1001).unwrap();
//! assert!(commits.contains(1001, |_| true) && !commits.contains(1002, |_| true));
//! assert!(!commits.contains(1001, |_| false), "its backend has died");
//! commits.end(place);
//! assert!(!commits.contains(1001, |_| true));
//! ```
//!
//! A transaction is not in progress any more once it is decided, while its backend still tells the nodes. Until that
//! has ended, nobody else shall: a commit becomes visible on all nodes at a moment that its backend chooses.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A place for one commit.
#[derive(Debug, Default)]
pub struct Commit {
    /// The backend's process; 0: nobody's.
    backend: AtomicU32,
    /// The transaction's number, with its epoch.
    xid: AtomicU64,
}

/// All places; one for each backend that there can be.
#[derive(Clone, Copy, Debug)]
pub struct UnderWay<'a>(pub &'a [Commit]);

impl UnderWay<'_> {
    /// Before the first node prepares. A backend has one commit at a time; what it left behind in a place counts for
    /// nothing. `None`: there are no places.
    pub fn begin(&self, me: u32, xid: u64) -> Option<usize> {
        let count = self.0.len();
        // Where it finds one at once, as a rule.
        let first = me as usize % count.max(1);
        let place = (0..count).map(|i| (first + i) % count).find(|place| {
            let backend = &self.0[*place].backend;
            backend.load(Ordering::Relaxed) == me
                || backend.compare_exchange(0, me, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        })?;
        self.0[place].xid.store(xid, Ordering::SeqCst);
        Some(place)
    }

    /// After the last node has answered, or could not be reached.
    pub fn end(&self, place: usize) {
        self.0[place].xid.store(0, Ordering::SeqCst);
        self.0[place].backend.store(0, Ordering::SeqCst);
    }

    /// Whether a live backend is carrying out the transaction's commit.
    pub fn contains(&self, xid: u64, alive: impl Fn(u32) -> bool) -> bool {
        self.0.iter().any(|commit| {
            commit.xid.load(Ordering::SeqCst) == xid && {
                let backend = commit.backend.load(Ordering::SeqCst);
                backend != 0 && alive(backend)
            }
        })
    }

    /// Frees the places of the dead.
    pub fn bury(&self, alive: impl Fn(u32) -> bool) {
        for commit in self.0 {
            let backend = commit.backend.load(Ordering::SeqCst);
            if backend != 0 && !alive(backend) {
                let _ = commit.backend.compare_exchange(backend, 0, Ordering::SeqCst, Ordering::SeqCst);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_place_for_each() {
        let memory: Vec<Commit> = (0..3).map(|_| Commit::default()).collect();
        let commits = UnderWay(&memory);
        let places: Vec<usize> =
            [3, 6, 9].map(|backend| commits.begin(backend, 100 + u64::from(backend)).unwrap()).into();
        assert_eq!(places, [0, 1, 2]);
        assert!([103, 106, 109].iter().all(|xid| commits.contains(*xid, |_| true)));
        assert_eq!(commits.begin(4, 104), None);
        commits.bury(|backend| backend != 6);
        assert_eq!(commits.begin(4, 104), Some(1));
        assert!(!commits.contains(106, |_| true) && commits.contains(104, |_| true));
        assert_eq!(commits.begin(4, 114), Some(1), "its own place, left behind");
        assert_eq!(UnderWay(&[]).begin(4, 1), None);
    }
}
