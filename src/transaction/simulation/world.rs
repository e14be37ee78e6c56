//! The world: a coordinator, its clients and nodes, and what is between them. One act at a time.

use super::flaw::Flaw;
use super::link::{Link, Name, Order, Reply};
use super::node::{Entry, Node, Work};
use super::plan::{Fault, Plan};
use super::random::Random;
use super::recover::Recovery;
use crate::transaction::gid::{Coordinator, GlobalTransaction};
use crate::transaction::protocol::{Action, Answer, Event, Protocol, Vote};
use crate::transaction::recovery::LogRow;
use std::collections::{BTreeSet, VecDeque};

/// Steps before everything is brought to rest.
const STEPS: usize = 200;
/// More than any world needs to come to rest.
const REST: usize = 20_000;

pub const OURS: Coordinator = Coordinator { system_identifier: 7, database: 5 };
const THEIRS: Coordinator = Coordinator { system_identifier: 7, database: 55 };

/// Adds a line to the story if it is told.
macro_rules! tell {
    ($world:expr, $($text:tt)*) => {
        if let Some(story) = &mut $world.story {
            story.push_str(&format!("{:4} ", $world.now));
            story.push_str(&format!($($text)*));
            story.push('\n');
        }
    };
}
pub(super) use tell;

/// How far the local transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Local {
    Open,
    /// About to write its commit record.
    Committing,
    /// The record is on disk, others still see it in progress.
    Flushed,
    Over,
}

#[derive(Debug)]
struct Transaction {
    client: usize,
    global: GlobalTransaction,
    nodes: Vec<usize>,
    links: Vec<usize>,
    protocol: Protocol,
    todo: VecDeque<Action>,
    /// Participants whose answer to the second phase is missing.
    told: Vec<usize>,
    local: Local,
    /// Whether a backend is at it.
    alive: bool,
    decided: Option<bool>,
    acknowledged: bool,
    outcomes: Vec<Option<bool>>,
}

#[derive(Debug)]
pub struct Row {
    pub log: LogRow,
    transaction: usize,
    pub deleted_by: Option<usize>,
}

#[derive(Debug, Default)]
struct Client {
    busy: bool,
    confirmed: Vec<String>,
}

/// What has happened in some run, to know that the seeds reach it.
#[derive(Debug, Default)]
pub struct Seen(BTreeSet<&'static str>);

const TO_BE_SEEN: [&str; 17] = [
    "committed",
    "rolled back",
    "reported",
    "forgotten",
    "vote lost",
    "answer lost",
    "gone",
    "busy",
    "xid given again",
    "recovery commits",
    "recovery rolls back",
    "recovery leaves what is in progress",
    "recovery deletes a row",
    "recovery fails to reach a node",
    "recovery dies",
    "a prepared transaction survives a crash",
    "dies between disk and eyes",
];

impl Seen {
    pub fn add(&mut self, other: &Seen) {
        self.0.extend(&other.0);
    }

    pub fn missing(&self) -> Vec<&'static str> {
        TO_BE_SEEN.into_iter().filter(|what| !self.0.contains(what)).collect()
    }
}

/// See the module.
pub struct World<'a> {
    pub plan: &'a Plan,
    pub flaw: Option<Flaw>,
    pub random: Random,
    pub now: usize,
    pub story: Option<String>,
    /// How often the coordinator's server has crashed.
    pub crashes: usize,
    down_until: Option<usize>,
    next_xid: u64,
    durable_xid: u64,
    pub rows: Vec<Row>,
    pub nodes: Vec<Node>,
    pub links: Vec<Link>,
    /// Links that are not over.
    live: Vec<usize>,
    transactions: Vec<Transaction>,
    clients: Vec<Client>,
    pub recoveries: Vec<Recovery>,
    /// Recoveries that are in the midst of a look while others act.
    pub looking: usize,
    next_fault: usize,
    left: usize,
    failure: Option<String>,
    seen: Option<Seen>,
}

impl<'a> World<'a> {
    /// Runs a plan to its end; the story if it is to be told, with what went wrong if something did.
    pub fn run(plan: &'a Plan, flaw: Option<Flaw>, tell: bool) -> Result<String, String> {
        let mut world = World::new(plan, flaw);
        world.story = tell.then(String::new);
        world.live_through();
        let story = world.story.unwrap_or_default();
        match world.failure {
            None => Ok(story),
            Some(failure) => Err(format!("{story}{failure}")),
        }
    }

    pub fn run_and_look(plan: &Plan) -> Seen {
        let mut world = World::new(plan, None);
        world.seen = Some(Seen::default());
        world.live_through();
        world.seen.unwrap_or_default()
    }

    fn new(plan: &'a Plan, flaw: Option<Flaw>) -> World<'a> {
        let not_ours = |node: usize| {
            let theirs = GlobalTransaction { coordinator: THEIRS, xid: 101, nonce: 0 };
            let names: [Name; 2] = ["application_1".into(), theirs.gid(node + 1).into()];
            names.into_iter().map(|name| Entry { name, transaction: None, locked: false }).collect()
        };
        World {
            plan,
            flaw,
            random: Random::new(plan.seed, 2),
            now: 0,
            story: None,
            crashes: 0,
            down_until: None,
            next_xid: 100,
            durable_xid: 99,
            rows: Vec::new(),
            nodes: (0..plan.nodes).map(|node| Node { prepared: not_ours(node), ..Node::default() }).collect(),
            links: Vec::new(),
            live: Vec::new(),
            transactions: Vec::new(),
            clients: (0..plan.clients).map(|_| Client::default()).collect(),
            recoveries: Vec::new(),
            looking: 0,
            next_fault: 0,
            left: plan.transactions,
            failure: None,
            seen: None,
        }
    }

    pub fn saw(&mut self, what: &'static str) {
        if let Some(seen) = &mut self.seen {
            seen.0.insert(what);
        }
    }

    fn fail(&mut self, why: impl FnOnce() -> String) {
        if self.failure.is_none() {
            let why = why();
            tell!(self, "WRONG: {why}");
            self.failure = Some(why);
        }
    }

    fn live_through(&mut self) {
        while self.now < STEPS && self.failure.is_none() && !self.is_idle() {
            self.pass();
        }
        // All is brought up, and what is under way comes to its end.
        self.now = self.now.max(STEPS);
        self.left = 0;
        self.next_fault = self.plan.faults.len();
        self.come_up(usize::MAX);
        self.links.iter_mut().for_each(|link| link.stalled_until = 0);
        self.rest();
        // What one finds in doubt, it resolves; two, in case something was on its way meanwhile.
        for _ in 0..2 {
            self.recoveries.push(Recovery::new(self.crashes));
            self.rest();
        }
        self.check_end();
    }

    /// Whether nothing will happen any more before everything is brought up.
    fn is_idle(&self) -> bool {
        self.left == 0
            && self.next_fault == self.plan.faults.len()
            && self.recoveries.is_empty()
            && !self.transactions.iter().any(|transaction| transaction.alive)
    }

    /// Until nobody has anything to do.
    fn rest(&mut self) {
        let mut acted = true;
        while acted && self.failure.is_none() {
            acted = (0..self.actors()).rev().fold(false, |acted, actor| self.act(actor) | acted);
            self.now += 1;
            if self.now > STEPS + REST {
                self.fail(|| "the world does not come to rest".into());
            }
        }
    }

    /// One step: what is due, then somebody acts.
    pub fn pass(&mut self) {
        self.now += 1;
        while let Some((at, fault)) = self.plan.faults.get(self.next_fault).copied()
            && at <= self.now
        {
            self.next_fault += 1;
            self.happens(fault);
        }
        self.come_up(self.now);
        // Most draws hit somebody who has nothing to do.
        let count = self.actors();
        let acted = (0..4).any(|_| {
            let actor = self.random.below(count);
            self.act(actor)
        });
        if !acted && !(0..count).any(|actor| self.act(actor)) {
            self.now = self.next_incident().max(self.now + 1) - 1;
        }
    }

    /// When something will happen by itself.
    fn next_incident(&self) -> usize {
        let fault = self.plan.faults.get(self.next_fault).map(|(at, _)| *at);
        let down = self.nodes.iter().map(|node| node.down_until).chain([self.down_until]).flatten();
        let stalled = self.live.iter().map(|link| self.links[*link].stalled_until).filter(|until| *until > self.now);
        down.chain(fault).chain(stalled).min().unwrap_or(STEPS)
    }

    fn actors(&self) -> usize {
        self.clients.len() + self.nodes.len() + self.recoveries.len() + self.transactions.len() + self.live.len()
    }

    /// Lets one act; whether it had something to do.
    fn act(&mut self, mut actor: usize) -> bool {
        if self.failure.is_some() {
            return false;
        }
        if actor < self.clients.len() {
            return self.client_begins(actor);
        }
        actor -= self.clients.len();
        if actor < self.nodes.len() {
            return self.node_finishes(actor);
        }
        actor -= self.nodes.len();
        if actor < self.recoveries.len() {
            return self.recovery_acts(actor);
        }
        actor -= self.recoveries.len();
        if actor < self.transactions.len() {
            return self.backend_acts(actor);
        }
        actor -= self.transactions.len();
        match self.live.get(actor).copied() {
            Some(link) if self.links[link].is_over() => {
                self.live.swap_remove(actor);
                true
            }
            Some(link) => self.node_hears(link),
            None => false,
        }
    }

    /// A connection to a node that is up.
    pub fn connect(&mut self, node: usize, work: Option<usize>) -> Option<usize> {
        if !self.nodes[node].is_up() {
            return None;
        }
        self.links.push(Link::new(node, work));
        self.live.push(self.links.len() - 1);
        Some(self.links.len() - 1)
    }

    /// The coordinator's side wants nothing more of it.
    pub fn hang_up(&mut self, link: usize) {
        self.links[link].broken = true;
        self.links[link].ended_here = true;
    }

    fn cut(&mut self, link: usize) {
        self.links[link].cut(&mut self.random);
    }

    // What goes wrong.

    fn happens(&mut self, fault: Fault) {
        tell!(self, "{fault:?}");
        let running = |world: &World| -> Vec<usize> {
            (0..world.transactions.len()).filter(|t| world.transactions[*t].alive).collect()
        };
        let pick = |among: Vec<usize>, n: usize| (!among.is_empty()).then(|| among[n % among.len()]);
        match fault {
            Fault::CoordinatorCrashes { steps } => self.coordinator_crashes(self.now + steps),
            Fault::NodeCrashes { node, steps } => self.node_crashes(node % self.nodes.len(), self.now + steps),
            Fault::Cut(n) => {
                if let Some(link) = pick(self.live.clone(), n) {
                    self.cut(link);
                }
            }
            Fault::Stall { link, steps } => {
                if let Some(link) = pick(self.live.clone(), link) {
                    self.links[link].stalled_until = self.now + steps;
                }
            }
            Fault::Repeat(n) => {
                if let Some(link) = pick(self.live.clone(), n) {
                    let link = &mut self.links[link];
                    if let Some(order @ (Order::Commit(_) | Order::RollBack(_))) = link.orders.front().cloned() {
                        link.orders.push_front(order);
                    } else if let Some(reply) = link.replies.front().cloned() {
                        link.replies.push_front(reply);
                    }
                }
            }
            Fault::Fails(n) => {
                if let Some(t) = pick(running(self), n)
                    && matches!(self.transactions[t].local, Local::Open | Local::Committing)
                {
                    self.roll_back(t);
                }
            }
            Fault::Dies(n) => {
                if let Some(t) = pick(running(self), n) {
                    self.backend_dies(t);
                }
            }
            Fault::GivesUp(n) => {
                if let Some(t) = pick(running(self), n) {
                    for i in self.transactions[t].told.clone() {
                        let link = self.transactions[t].links[i];
                        self.cut(link);
                        self.links[link].ended_here = true;
                        self.answered(t, i, Answer::Silent);
                    }
                }
            }
            Fault::Refuses(n) => {
                let node = n % self.nodes.len();
                self.nodes[node].refuses = true;
            }
            Fault::Recovery => {
                if self.down_until.is_none() && self.recoveries.len() < 3 {
                    self.recoveries.push(Recovery::new(self.crashes));
                }
            }
        }
    }

    fn come_up(&mut self, now: usize) {
        if self.down_until.is_some_and(|until| until <= now) {
            self.down_until = None;
            tell!(self, "the coordinator is up");
        }
        for node in 0..self.nodes.len() {
            if self.nodes[node].down_until.is_some_and(|until| until <= now) {
                self.nodes[node].down_until = None;
                tell!(self, "node {node} is up");
            }
        }
    }

    fn coordinator_crashes(&mut self, until: usize) {
        self.crashes += 1;
        self.down_until = Some(until);
        for t in 0..self.transactions.len() {
            if self.transactions[t].alive {
                self.backend_dies(t);
            }
        }
        self.rows.iter_mut().for_each(|row| row.deleted_by = None);
        let on_disk = self.durable_xid + 1;
        let next = on_disk + self.random.below((self.next_xid - on_disk) as usize + 1) as u64;
        if next < self.next_xid {
            self.saw("xid given again");
        }
        self.next_xid = next;
    }

    fn node_crashes(&mut self, node: usize, until: usize) {
        if self.nodes[node].prepared.iter().any(|entry| entry.transaction.is_some()) {
            self.saw("a prepared transaction survives a crash");
        }
        self.nodes[node].crash(until);
        for link in self.live.clone() {
            if self.links[link].node == node && !self.links[link].ended_there {
                self.cut(link);
                self.links[link].orders.clear();
                self.node_session_ends(link);
            }
        }
    }

    // The coordinator.

    fn client_begins(&mut self, client: usize) -> bool {
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

    fn backend_acts(&mut self, t: usize) -> bool {
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

    fn answered(&mut self, t: usize, i: usize, answer: Answer) {
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

    fn roll_back(&mut self, t: usize) {
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

    fn backend_dies(&mut self, t: usize) {
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

    // The nodes.

    /// The node takes the next message of a connection, or notices its end.
    fn node_hears(&mut self, l: usize) -> bool {
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

    fn node_finishes(&mut self, node: usize) -> bool {
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

    fn node_session_ends(&mut self, link: usize) {
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

    /// Everything is up, everything is delivered, recovery has run.
    fn check_end(&mut self) {
        for t in 0..self.transactions.len() {
            let transaction = &self.transactions[t];
            let (decided, outcomes) = (transaction.decided, transaction.outcomes.clone());
            if decided.is_none() || outcomes.iter().any(|outcome| *outcome != decided) {
                self.fail(|| format!("transaction {t} is decided as {decided:?}, and its nodes have {outcomes:?}"));
            }
            if self.transactions[t].acknowledged && decided != Some(true) {
                self.fail(|| format!("transaction {t} was acknowledged and is {decided:?}"));
            }
        }
        for node in 0..self.nodes.len() {
            let names: Vec<Name> = self.nodes[node].prepared.iter().map(|entry| entry.name.clone()).collect();
            let others = self.nodes[node].prepared.iter().filter(|entry| entry.transaction.is_none()).count();
            if (names.len(), others) != (2, 2) {
                self.fail(|| format!("node {node} has {names:?} prepared"));
            }
        }
        if !self.rows.is_empty() {
            let names: Vec<String> = self.rows.iter().map(|row| row.log.gid.clone()).collect();
            self.fail(|| format!("the log still has {names:?}"));
        }
    }
}
