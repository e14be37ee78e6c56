//! When which node is asked for transactions that are left in doubt.
//!
//! ```
//! use sharding::catalog::NodeId;
//! use sharding::maintenance::agenda::Agenda;
//! use std::time::{Duration, Instant};
//! let seconds = Duration::from_secs;
//! let (start, interval) = (Instant::now(), seconds(5));
//! let mut agenda = Agenda::default();
//! agenda.set_nodes(&[NodeId(1), NodeId(2)]);
//! assert_eq!(agenda.due(start, interval), [NodeId(1), NodeId(2)], "at the start, all of them");
//! agenda.clean(NodeId(1), start);
//! agenda.failed(NodeId(2), start, start + seconds(1));
//! assert_eq!(agenda.due(start + seconds(7), interval), [NodeId(2)], "one that did not answer, every interval");
//! agenda.clean(NodeId(2), start + seconds(7));
//! assert!(agenda.due(start + seconds(30), interval).is_empty(), "nothing can be in doubt");
//! agenda.trouble();
//! assert_eq!(agenda.due(start + seconds(30), interval).len(), 2, "a backend could not finish a commit");
//! ```
//!
//! A node where nothing was left is asked again only once a minute: backends say so themselves when they
//! leave something behind, and a server that crashed begins anew. Nodes that answer come first.

use crate::catalog::NodeId;
use std::time::{Duration, Instant};

/// How often a node is asked where nothing is known to be in doubt.
pub const CALM: Duration = Duration::from_secs(60);
/// A node that lets us wait for an error gets this many times as long a pause.
const PAUSE: u32 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// To be asked at once.
    Unknown,
    /// Asked then, and something was left; or it did not answer, after so long a wait.
    Open { asked: Instant, waited: Duration },
    /// Asked then, and nothing was left.
    Clean { asked: Instant },
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    node: NodeId,
    state: State,
    /// Failed attempts in a row.
    failures: u32,
}

/// The nodes and what is known of them.
#[derive(Debug, Default)]
pub struct Agenda {
    entries: Vec<Entry>,
}

impl Agenda {
    /// The nodes that there are now; a new one is asked at once.
    pub fn set_nodes(&mut self, nodes: &[NodeId]) {
        self.entries.retain(|entry| nodes.contains(&entry.node));
        for node in nodes {
            if !self.entries.iter().any(|entry| entry.node == *node) {
                self.entries.push(Entry { node: *node, state: State::Unknown, failures: 0 });
            }
        }
    }

    /// A backend has left something behind, somewhere. A node that does not answer keeps its pause.
    pub fn trouble(&mut self) {
        for entry in self.entries.iter_mut().filter(|entry| entry.failures == 0) {
            entry.state = State::Unknown;
        }
    }

    /// The node was asked and has nothing left.
    pub fn clean(&mut self, node: NodeId, asked: Instant) {
        self.set(node, State::Clean { asked }, false);
    }

    /// The node was asked; something could not be finished.
    pub fn open(&mut self, node: NodeId, asked: Instant) {
        self.set(node, State::Open { asked, waited: Duration::ZERO }, false);
    }

    /// The node was asked and did not answer until `now`.
    pub fn failed(&mut self, node: NodeId, asked: Instant, now: Instant) {
        self.set(node, State::Open { asked: now, waited: now - asked }, true);
    }

    fn set(&mut self, node: NodeId, state: State, failed: bool) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.node == node) {
            entry.state = state;
            entry.failures = if failed { entry.failures.saturating_add(1) } else { 0 };
        }
    }

    /// How often in a row a node has not answered.
    pub fn failures(&self, node: NodeId) -> u32 {
        self.entries.iter().find(|entry| entry.node == node).map_or(0, |entry| entry.failures)
    }

    /// The nodes to ask now, where something may be in doubt every `interval`; those that did not answer last.
    pub fn due(&self, now: Instant, interval: Duration) -> Vec<NodeId> {
        let mut due: Vec<&Entry> =
            self.entries.iter().filter(|entry| entry.due(interval).is_none_or(|at| at <= now)).collect();
        due.sort_by_key(|entry| entry.failures);
        due.into_iter().map(|entry| entry.node).collect()
    }

    /// When a node is to be asked next; `None`: now, or there is none.
    pub fn next_due(&self, interval: Duration) -> Option<Instant> {
        self.entries.iter().map(|entry| entry.due(interval)).min()?
    }
}

impl Entry {
    fn due(&self, interval: Duration) -> Option<Instant> {
        match self.state {
            State::Unknown => None,
            State::Open { asked, waited } => Some(asked + interval.max(waited * PAUSE)),
            State::Clean { asked } => Some(asked + interval.max(CALM)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(5);

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_node_that_swallows_connections_takes_little_of_the_time() {
        let start = Instant::now();
        let mut agenda = Agenda::default();
        agenda.set_nodes(&[NodeId(1)]);
        agenda.failed(NodeId(1), start, after(start, 4));
        assert!(agenda.due(after(start, 11), INTERVAL).is_empty());
        assert_eq!(agenda.due(after(start, 12), INTERVAL), [NodeId(1)]);
        agenda.trouble();
        assert!(agenda.due(after(start, 6), INTERVAL).is_empty(), "trouble does not bring it back");
    }

    #[test]
    fn the_dead_come_last() {
        let start = Instant::now();
        let mut agenda = Agenda::default();
        agenda.set_nodes(&[NodeId(1), NodeId(2)]);
        agenda.failed(NodeId(1), start, start);
        agenda.open(NodeId(2), start);
        assert_eq!(agenda.due(after(start, 5), INTERVAL), [NodeId(2), NodeId(1)]);
        assert_eq!(agenda.failures(NodeId(1)), 1);
        agenda.open(NodeId(1), after(start, 5));
        assert_eq!(agenda.failures(NodeId(1)), 0);
    }

    #[test]
    fn nodes_come_and_go() {
        let start = Instant::now();
        let mut agenda = Agenda::default();
        assert_eq!(agenda.next_due(INTERVAL), None);
        agenda.set_nodes(&[NodeId(1)]);
        agenda.clean(NodeId(1), start);
        assert_eq!(agenda.next_due(INTERVAL), Some(start + CALM));
        agenda.set_nodes(&[NodeId(1), NodeId(2)]);
        assert_eq!(agenda.due(start, INTERVAL), [NodeId(2)]);
        agenda.set_nodes(&[NodeId(1)]);
        assert!(agenda.due(start, INTERVAL).is_empty());
    }
}
