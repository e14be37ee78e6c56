//! Nodes that may not yet show all that is committed: a commit of several nodes is decided, and one of them
//! has not confirmed it. Who reads that node together with others waits until recovery has finished it.
//!
//! ```
//! use sharding::transaction::doubt::{Doubts, Mark};
//! let mut doubts = Doubts::default();
//! let mark = Mark { database: 5, node: 1 };
//! doubts.add(mark);
//! let seen = doubts.number(mark);           // before the node is asked
//! doubts.add(mark);                         // meanwhile another commit fails
//! assert!(!doubts.clear(mark, seen), "the node was asked too early to know");
//! assert!(doubts.contains(mark));
//! ```

/// A node of a database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Mark {
    /// 0: the entry is free.
    pub database: u32,
    /// 0: every node.
    pub node: u32,
}

/// Marks kept apart; beyond that, all nodes of a database are marked as one.
const CAPACITY: usize = 256;

/// All marks, in shared memory. All zeroes is no mark.
#[repr(C)]
#[derive(Debug)]
pub struct Doubts {
    entries: [Entry; CAPACITY],
    /// Counts all marks.
    last: u64,
}

#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct Entry {
    mark: Mark,
    /// The number of its newest mark.
    number: u64,
}

impl Default for Doubts {
    fn default() -> Doubts {
        Doubts { entries: [Entry::default(); CAPACITY], last: 0 }
    }
}

impl Doubts {
    fn find(&self, mark: Mark) -> Option<usize> {
        self.entries.iter().position(|entry| entry.mark == mark)
    }

    /// Marks a node; `false` if there is no room, which takes as many databases as there are entries.
    pub fn add(&mut self, mark: Mark) -> bool {
        self.last += 1;
        let free = self.find(mark).or_else(|| self.find(Mark::default())).or_else(|| {
            self.merge();
            self.find(Mark::default())
        });
        let Some(index) = free else { return false };
        self.entries[index] = Entry { mark, number: self.last };
        true
    }

    /// Makes room: the marks of some database become one for all its nodes.
    fn merge(&mut self) {
        let count = |database: u32| self.entries.iter().filter(|entry| entry.mark.database == database).count();
        let Some(database) = self.entries.iter().map(|entry| entry.mark.database).find(|d| count(*d) > 1) else {
            return;
        };
        let mut number = 0;
        for entry in self.entries.iter_mut().filter(|entry| entry.mark.database == database) {
            number = number.max(entry.number);
            *entry = Entry::default();
        }
        if let Some(index) = self.find(Mark::default()) {
            self.entries[index] = Entry { mark: Mark { database, node: 0 }, number };
        }
    }

    /// Whether readers have to wait for the node.
    pub fn contains(&self, mark: Mark) -> bool {
        let all = Mark { node: 0, ..mark };
        self.entries.iter().any(|entry| entry.mark == mark || entry.mark == all)
    }

    /// The number of a node's newest mark: to be kept while the node is asked what it has in doubt.
    pub fn number(&self, mark: Mark) -> u64 {
        self.find(mark).map_or(0, |index| self.entries[index].number)
    }

    /// The node had nothing in doubt when this was its number; whether its mark is gone. For node 0, every node.
    pub fn clear(&mut self, mark: Mark, number: u64) -> bool {
        let Some(index) = self.find(mark).filter(|index| self.entries[*index].number == number) else {
            return false;
        };
        self.entries[index] = Entry::default();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_marks_of_a_database_become_one() {
        let mut doubts = Doubts::default();
        let other = Mark { database: 9, node: 1 };
        assert!(doubts.add(other));
        for node in 1..=CAPACITY as u32 {
            assert!(doubts.add(Mark { database: 5, node }));
        }
        assert!(doubts.contains(Mark { database: 5, node: 1 }));
        assert!(doubts.contains(Mark { database: 5, node: 99_999 }), "nobody knows any more which");
        assert!(doubts.contains(other) && !doubts.contains(Mark { database: 9, node: 2 }));
        let all = Mark { database: 5, node: 0 };
        assert!(doubts.clear(all, doubts.number(all)));
        assert!(!doubts.contains(Mark { database: 5, node: 1 }));
    }

    #[test]
    fn as_many_databases_as_entries_is_the_end() {
        let mut doubts = Doubts::default();
        assert!((1..=CAPACITY as u32).all(|database| doubts.add(Mark { database, node: 1 })));
        assert!(!doubts.add(Mark { database: 10_000, node: 1 }));
        assert!(doubts.contains(Mark { database: 7, node: 1 }));
    }
}
