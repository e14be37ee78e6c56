//! A node: sessions with open transactions, which a crash ends, and prepared ones, which it does not.

use super::link::Name;

/// A prepared transaction.
#[derive(Clone, Debug)]
pub struct Entry {
    pub name: Name,
    /// Whose it is; `None` for one that has nothing to do with us.
    pub transaction: Option<usize>,
    /// A session is about to commit it or to roll it back.
    pub locked: bool,
}

/// COMMIT PREPARED or ROLLBACK PREPARED under way in a session.
#[derive(Clone, Debug)]
pub struct Work {
    pub link: usize,
    pub name: Name,
    pub commit: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Node {
    /// The step at which it is up again, while it is down.
    pub down_until: Option<usize>,
    pub prepared: Vec<Entry>,
    pub work: Vec<Work>,
    /// The next PREPARE fails.
    pub refuses: bool,
}

impl Node {
    pub fn is_up(&self) -> bool {
        self.down_until.is_none()
    }

    pub fn find(&mut self, name: &str) -> Option<&mut Entry> {
        self.prepared.iter_mut().find(|entry| &*entry.name == name)
    }

    /// What does not survive a crash.
    pub fn crash(&mut self, until: usize) {
        self.down_until = Some(until);
        self.work.clear();
        self.prepared.iter_mut().for_each(|entry| entry.locked = false);
    }
}
