//! The coordinator's side: clients, their transactions, and the backends that drive the protocol.

use super::flaw::Flaw;
use super::link::{Name, Order, Reply};
use super::world::{OURS, World, tell};
use crate::transaction::gid::GlobalTransaction;
use crate::transaction::protocol::{Action, Answer, Event, Protocol, Vote};
use crate::transaction::recovery::LogRow;
use std::collections::VecDeque;

/// How far the local transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Local {
    Open,
    /// About to write its commit record.
    Committing,
    /// The record is on disk, others still see it in progress.
    Flushed,
    Over,
}

#[derive(Debug)]
pub struct Transaction {
    pub client: usize,
    pub global: GlobalTransaction,
    pub nodes: Vec<usize>,
    pub links: Vec<usize>,
    pub protocol: Protocol,
    pub todo: VecDeque<Action>,
    /// Participants whose answer to the second phase is missing.
    pub told: Vec<usize>,
    pub local: Local,
    /// Whether a backend is at it.
    pub alive: bool,
    pub decided: Option<bool>,
    pub acknowledged: bool,
    pub outcomes: Vec<Option<bool>>,
}

#[derive(Debug)]
pub struct Row {
    pub log: LogRow,
    pub transaction: usize,
    pub deleted_by: Option<usize>,
}

#[derive(Debug, Default)]
pub struct Client {
    pub busy: bool,
    pub confirmed: Vec<String>,
}

impl World<'_> {
    pub fn client_begins(&mut self, client: usize) -> bool {
        if self.left == 0 || self.clients[client].busy || self.down_until.is_some() {
            return false;
        }
        let mut nodes: Vec<usize> = (0..self.nodes.len()).collect();
        for i in (1..nodes.len()).rev() {
            nodes.swap(i, self.random.below(i + 1));
        }
        // One node and the coordinator itself are two, too.
        nodes.truncate(if self.random.once_in(5) { 1 } else { 2 + self.random.below(nodes.len() - 1) });
        if nodes.iter().any(|node| !self.nodes[*node].is_up()) {
            return false;
        }
        self.left -= 1;
        self.clients[client].busy = true;
        let nonce = if self.flaw == Some(Flaw::NoNonce) { 0 } else { self.random.next() };
        let t = self.transactions.len();
        let links = nodes.iter().filter_map(|node| self.connect(*node, Some(t))).collect();
        let mut protocol = Protocol::new(nodes.len());
        let todo = protocol.step(Event::Start).into();
        tell!(self, "transaction {t} (xid {}) of client {client} on nodes {nodes:?}", self.next_xid);
        self.transactions.push(Transaction {
            client,
            global: GlobalTransaction { coordinator: OURS, xid: self.next_xid, nonce },
            outcomes: vec![None; nodes.len()],
            nodes,
            links,
            protocol,
            todo,
            told: Vec::new(),
            local: Local::Open,
            alive: true,
            decided: None,
            acknowledged: false,
        });
        self.next_xid += 1;
        true
    }

    /// As `TransactionIdIsInProgress` and what is around it.
    pub fn is_in_progress(&self, global: GlobalTransaction) -> bool {
        self.transactions.iter().any(|t| t.alive && t.local != Local::Over && t.global.xid == global.xid)
    }

    /// The committed rows.
    pub fn visible_rows(&self) -> Vec<LogRow> {
        let visible = |row: &&Row| {
            let transaction = &self.transactions[row.transaction];
            transaction.decided == Some(true) && transaction.local == Local::Over
        };
        self.rows.iter().filter(visible).map(|row| row.log.clone()).collect()
    }

    pub fn backend_acts(&mut self, t: usize) -> bool {
        if !self.transactions[t].alive {
            return false;
        }
        if let Some(action) = self.transactions[t].todo.pop_front() {
            self.perform(t, action);
            return true;
        }
        match self.transactions[t].local {
            Local::Committing => self.flush(t),
            Local::Flushed => {
                self.transactions[t].local = Local::Over;
                self.feed(t, Event::Committed);
            }
            Local::Open | Local::Over => {
                let count = self.transactions[t].links.len();
                let first = self.random.below(count);
                if !(0..count).any(|i| self.backend_hears(t, (first + i) % count)) {
                    return self.transactions[t].local == Local::Over && self.backend_ends(t);
                }
            }
        }
        true
    }

    fn feed(&mut self, t: usize, event: Event) {
        tell!(self, "transaction {t}: {event:?}");
        let actions = self.transactions[t].protocol.step(event);
        self.transactions[t].todo.extend(actions);
    }

    fn perform(&mut self, t: usize, action: Action) {
        let transaction = &self.transactions[t];
        let gid = |i: usize| -> Name { transaction.global.gid(i + 1).into() };
        match action {
            Action::Prepare(i) => {
                let (link, order) = (transaction.links[i], Order::Prepare(gid(i)));
                if self.links[link].ended_here {
                    // The connection is known to be lost: nothing is sent, the statement fails.
                    return self.roll_back(t);
                }
                self.feed(t, Event::Asked(i));
                self.links[link].send(order);
                if self.flaw == Some(Flaw::DecideBeforeLastVote) && i + 1 == self.transactions[t].links.len() {
                    self.feed(t, Event::Voted(i, Vote::Yes));
                }
            }
            Action::WriteRow => {
                let nodes = transaction.nodes.iter().map(|node| format!("n{node}")).collect();
                let log = LogRow { gid: transaction.global.log_name(), nodes };
                let confirmed = std::mem::take(&mut self.clients[transaction.client].confirmed);
                for row in self.rows.iter_mut().filter(|row| confirmed.contains(&row.log.gid)) {
                    row.deleted_by.get_or_insert(t);
                }
                self.rows.push(Row { log, transaction: t, deleted_by: None });
                self.feed(t, Event::RowWritten);
            }
            Action::Decide => {
                let (links, orders): (Vec<usize>, Vec<Order>) =
                    (transaction.links.clone(), (0..transaction.links.len()).map(|i| Order::Commit(gid(i))).collect());
                let transaction = &mut self.transactions[t];
                transaction.local = Local::Committing;
                transaction.acknowledged |= self.flaw == Some(Flaw::AcknowledgeBeforeFlush);
                if self.flaw == Some(Flaw::TellBeforeFlush) {
                    links.into_iter().zip(orders).for_each(|(link, order)| self.links[link].send(order));
                }
            }
            Action::Fail(_) => self.roll_back(t),
            Action::CommitPrepared(i) => {
                let order = Order::Commit(gid(i));
                self.second_phase(t, i, order);
            }
            Action::RollbackPrepared(i) => {
                let order = Order::RollBack(gid(i));
                self.second_phase(t, i, order);
            }
            Action::Rollback(i) => {
                let link = transaction.links[i];
                self.links[link].send(Order::Undo);
            }
            Action::ForgetRow => {
                let (client, name) = (transaction.client, transaction.global.log_name());
                self.clients[client].confirmed.push(name);
                self.saw("forgotten");
            }
            Action::Report => self.saw("reported"),
        }
    }

    fn second_phase(&mut self, t: usize, i: usize, order: Order) {
        let link = self.transactions[t].links[i];
        if self.links[link].ended_here {
            return self.answered(t, i, Answer::Silent);
        }
        self.transactions[t].told.push(i);
        self.links[link].send(order);
    }

    pub fn answered(&mut self, t: usize, i: usize, answer: Answer) {
        self.transactions[t].told.retain(|told| *told != i);
        let committed = self.transactions[t].decided == Some(true);
        if answer == Answer::Silent {
            self.saw("answer lost");
        }
        match self.flaw {
            Some(Flaw::SilenceIsConsent) => return self.feed(t, Event::Answered(i, Answer::Done)),
            Some(Flaw::ForgetAtFirstAnswer) if committed && answer != Answer::Silent => {
                let name = self.transactions[t].global.log_name();
                self.rows.retain(|row| row.log.gid != name);
            }
            Some(Flaw::RollBackAfterDecision) if committed && answer == Answer::Silent => {
                for (n, link) in self.transactions[t].links.clone().into_iter().enumerate() {
                    let gid = self.transactions[t].global.gid(n + 1);
                    self.links[link].send(Order::RollBack(gid.into()));
                }
            }
            _ => {}
        }
        self.feed(t, Event::Answered(i, answer));
    }

    /// Takes what has come from a node, or notes that nothing will.
    fn backend_hears(&mut self, t: usize, i: usize) -> bool {
        let link = self.transactions[t].links[i];
        let place = &mut self.links[link];
        if place.stalled_until > self.now || place.ended_here {
            return false;
        }
        match place.replies.pop_front() {
            Some(Reply::Prepared) => self.feed(t, Event::Voted(i, Vote::Yes)),
            Some(Reply::Refused) => self.feed(t, Event::Voted(i, Vote::No)),
            Some(Reply::Done) => self.answered(t, i, Answer::Done),
            Some(Reply::Gone) => {
                self.saw("gone");
                self.answered(t, i, Answer::Gone);
            }
            Some(Reply::Busy) => {
                self.saw("busy");
                self.answered(t, i, Answer::Busy);
            }
            Some(Reply::Listed(_)) => self.fail(|| "a backend has asked for a list".into()),
            None if place.broken => {
                place.ended_here = true;
                let vote = if self.flaw == Some(Flaw::LostVoteIsYes) { Vote::Yes } else { Vote::Unknown };
                self.feed(t, Event::Voted(i, vote));
                if self.transactions[t].todo.contains(&Action::Fail(i)) {
                    self.saw("vote lost");
                }
                if self.transactions[t].told.contains(&i) {
                    self.answered(t, i, Answer::Silent);
                }
            }
            None => return false,
        }
        true
    }

    /// The commit record reaches the disk: this is the decision.
    fn flush(&mut self, t: usize) {
        let transaction = &mut self.transactions[t];
        transaction.local = Local::Flushed;
        transaction.decided = Some(true);
        self.durable_xid = self.durable_xid.max(transaction.global.xid);
        self.rows.retain(|row| row.deleted_by != Some(t));
        self.saw("committed");
        tell!(self, "transaction {t} is committed");
    }

    pub fn roll_back(&mut self, t: usize) {
        self.ends_undecided(t);
        self.saw("rolled back");
        self.transactions[t].todo.clear();
        self.feed(t, Event::RolledBack);
    }

    fn ends_undecided(&mut self, t: usize) {
        self.transactions[t].decided = Some(false);
        self.transactions[t].local = Local::Over;
        self.rows.retain(|row| row.transaction != t);
        self.rows.iter_mut().filter(|row| row.deleted_by == Some(t)).for_each(|row| row.deleted_by = None);
        tell!(self, "transaction {t} is rolled back");
    }

    pub fn backend_dies(&mut self, t: usize) {
        match self.transactions[t].local {
            Local::Open | Local::Committing => self.ends_undecided(t),
            Local::Flushed => {
                self.transactions[t].local = Local::Over;
                self.saw("dies between disk and eyes");
            }
            Local::Over => {}
        }
        self.let_go(t);
        let client = self.transactions[t].client;
        self.clients[client].confirmed.clear();
        for link in self.transactions[t].links.clone() {
            self.cut(link);
        }
    }

    fn let_go(&mut self, t: usize) {
        let transaction = &mut self.transactions[t];
        transaction.alive = false;
        transaction.todo.clear();
        self.clients[transaction.client].busy = false;
        for link in &transaction.links {
            self.links[*link].ended_here = true;
        }
    }

    /// The client hears how it ended, if all is said.
    fn backend_ends(&mut self, t: usize) -> bool {
        if !self.transactions[t].told.is_empty() {
            return false;
        }
        let transaction = &mut self.transactions[t];
        transaction.acknowledged |= transaction.decided == Some(true);
        tell!(self, "client {} hears of transaction {t}", self.transactions[t].client);
        self.let_go(t);
        for link in self.transactions[t].links.clone() {
            self.hang_up(link);
        }
        true
    }
}
