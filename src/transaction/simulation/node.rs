//! A node: sessions with open transactions, which a crash ends, and prepared ones, which it does not.

use super::link::{Name, Order, Reply};
use super::world::{World, tell};

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

impl World<'_> {
    /// The node takes the next message of a connection, or notices its end.
    pub fn node_hears(&mut self, l: usize) -> bool {
        let link = &mut self.links[l];
        let node = link.node;
        if link.stalled_until > self.now || link.ended_there || link.at_work || !self.nodes[node].is_up() {
            return false;
        }
        let Some(order) = link.orders.pop_front() else {
            if link.broken {
                self.node_session_ends(l);
                return true;
            }
            return false;
        };
        tell!(self, "node {node} gets {order:?}");
        match order {
            Order::Prepare(name) => {
                let work = link.work.take();
                let refused = std::mem::take(&mut self.nodes[node].refuses) || self.nodes[node].find(&name).is_some();
                match work {
                    Some(t) if !refused => {
                        self.nodes[node].prepared.push(Entry { name, transaction: Some(t), locked: false });
                        self.links[l].reply(Reply::Prepared);
                    }
                    _ => {
                        self.links[l].reply(Reply::Refused);
                        self.undo(node, work);
                    }
                }
            }
            Order::Commit(name) => self.node_begins(l, name, true),
            Order::RollBack(name) => self.node_begins(l, name, false),
            Order::Undo => {
                let work = link.work.take();
                self.undo(node, work);
            }
            Order::List => {
                let names = self.nodes[node].prepared.iter().map(|entry| entry.name.clone()).collect();
                self.links[l].reply(Reply::Listed(names));
            }
        }
        true
    }

    fn node_begins(&mut self, link: usize, name: Name, commit: bool) {
        let node = self.links[link].node;
        if self.links[link].work.is_some() {
            return self.fail(|| "COMMIT PREPARED cannot run inside a transaction block".into());
        }
        match self.nodes[node].find(&name) {
            None => self.links[link].reply(Reply::Gone),
            Some(entry) if entry.locked => self.links[link].reply(Reply::Busy),
            Some(entry) => {
                entry.locked = true;
                self.links[link].at_work = true;
                self.nodes[node].work.push(Work { link, name, commit });
            }
        }
    }

    pub fn node_finishes(&mut self, node: usize) -> bool {
        let count = self.nodes[node].work.len();
        if count == 0 {
            return false;
        }
        let place = &mut self.nodes[node];
        let Work { link, name, commit } = place.work.swap_remove(self.random.below(count));
        let Some(index) = place.prepared.iter().position(|entry| entry.name == name) else { return false };
        let entry = place.prepared.swap_remove(index);
        tell!(self, "node {node} has {} {name}", if commit { "committed" } else { "rolled back" });
        self.links[link].at_work = false;
        self.links[link].reply(Reply::Done);
        match entry.transaction {
            None => self.fail(|| format!("{name} was not ours")),
            Some(t) => {
                match (self.transactions[t].decided, commit) {
                    (Some(true), true) | (Some(false), false) => {}
                    (decided, _) => self.fail(|| {
                        format!("node {node}: commit is {commit} for transaction {t}, but the decision is {decided:?}")
                    }),
                }
                self.ends_on(node, t, commit);
            }
        }
        true
    }

    pub fn node_session_ends(&mut self, link: usize) {
        let place = &mut self.links[link];
        place.ended_there = true;
        place.at_work = false;
        let (node, work) = (place.node, place.work.take());
        self.undo(node, work);
    }

    fn undo(&mut self, node: usize, work: Option<usize>) {
        if let Some(t) = work {
            self.ends_on(node, t, false);
        }
    }

    fn ends_on(&mut self, node: usize, t: usize, committed: bool) {
        let transaction = &mut self.transactions[t];
        let Some(i) = transaction.nodes.iter().position(|n| *n == node) else { return };
        if let Some(before) = transaction.outcomes[i].replace(committed) {
            self.fail(|| format!("transaction {t} has ended twice on node {node}: {before}, then {committed}"));
        }
    }
}
