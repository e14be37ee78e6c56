//! The local transaction's nesting, mirrored lazily on one node.
//!
//! Level 1 is the transaction itself, level `n` its `n-1`th savepoint; a node gets `BEGIN` and the
//! savepoints when it is first used at that depth.
//!
//! ```
//! use sharding::transaction::levels::{Levels, Step};
//! let mut node = Levels::default();
//! assert_eq!(node.enter(3), [Step::Begin, Step::Savepoint(2), Step::Savepoint(3)]);
//! node.wrote(3);
//! assert!(node.rolled_back(3));          // ROLLBACK TO and RELEASE are due
//! assert!(!node.has_written());
//! assert_eq!(node.enter(2), []);
//! ```

/// What has to be sent to reach a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Begin,
    Savepoint(u32),
}

/// How deep a node is in the transaction, and where it was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    /// 0: the node is in no transaction.
    depth: u32,
    /// The level at which the node joined.
    joined: u32,
    /// The outermost level with a write that is not undone.
    written: Option<u32>,
}

impl Levels {
    /// Whether the node is in the transaction.
    pub fn is_inside(&self) -> bool {
        self.depth > 0
    }

    /// Whether a write on the node is part of the transaction.
    pub fn has_written(&self) -> bool {
        self.written.is_some()
    }

    /// What brings the node to `level`, which it then is at.
    pub fn enter(&mut self, level: u32) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.depth == 0 {
            steps.push(Step::Begin);
            self.depth = 1;
            self.joined = level;
        }
        self.joined = self.joined.min(level);
        while self.depth < level {
            self.depth += 1;
            steps.push(Step::Savepoint(self.depth));
        }
        steps
    }

    /// A write happens at `level`.
    pub fn wrote(&mut self, level: u32) {
        self.written = Some(self.written.map_or(level, |w| w.min(level)));
    }

    /// The local savepoint of `level` is released; `true` if the node has one to release.
    pub fn released(&mut self, level: u32) -> bool {
        self.joined = self.joined.min(level - 1);
        if self.written == Some(level) {
            self.written = Some(level - 1);
        }
        self.leave(level)
    }

    /// The local savepoint of `level` is rolled back; `true` if the node has one to roll back.
    pub fn rolled_back(&mut self, level: u32) -> bool {
        if self.written.is_some_and(|w| w >= level) {
            self.written = None;
        }
        self.leave(level)
    }

    /// Whether all that the node knows of the transaction happened at `level` or deeper, so that
    /// rolling that level back may as well forget the node.
    pub fn joined_within(&self, level: u32) -> bool {
        self.joined >= level
    }

    fn leave(&mut self, level: u32) -> bool {
        let was_there = level > 1 && self.depth >= level;
        if was_there {
            self.depth = level - 1;
        }
        was_there
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn savepoints_are_made_once_and_only_down_to_where_they_are_needed() {
        let mut node = Levels::default();
        assert!(!node.is_inside());
        assert_eq!(node.enter(1), [Step::Begin]);
        assert_eq!(node.enter(3), [Step::Savepoint(2), Step::Savepoint(3)]);
        assert!(node.released(3));
        assert!(!node.released(4), "never made there");
        assert_eq!(node.enter(3), [Step::Savepoint(3)]);
    }

    #[test]
    fn a_write_survives_release_and_not_rollback() {
        let mut node = Levels::default();
        node.enter(3);
        node.wrote(3);
        node.released(3);
        assert!(node.has_written());
        node.rolled_back(2);
        assert!(!node.has_written());

        node.enter(2);
        node.wrote(1);
        node.wrote(2);
        node.rolled_back(2);
        assert!(node.has_written(), "the outer write stays");
    }

    #[test]
    fn a_node_that_joined_inside_a_savepoint_is_forgotten_with_it() {
        let mut node = Levels::default();
        node.enter(2);
        assert!(node.joined_within(2));
        node.released(2);
        assert!(!node.joined_within(2));

        node.enter(2);
        node.rolled_back(2);
        assert!(!node.joined_within(2), "used at level 1, too");
    }
}
