//! The world: a coordinator, its clients and nodes, and what is between them. One act at a time.

use super::backend::{Client, Local, Row, Transaction};
use super::flaw::Flaw;
use super::link::{Link, Name, Order};
use super::node::{Entry, Node};
use super::plan::{Fault, Plan};
use super::random::Random;
use super::recover::Recovery;
use crate::transaction::gid::{Coordinator, GlobalTransaction};
use crate::transaction::protocol::Answer;
use std::collections::BTreeSet;

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
    pub down_until: Option<usize>,
    pub next_xid: u64,
    pub durable_xid: u64,
    pub rows: Vec<Row>,
    pub nodes: Vec<Node>,
    pub links: Vec<Link>,
    /// Links that are not over.
    pub live: Vec<usize>,
    pub transactions: Vec<Transaction>,
    pub clients: Vec<Client>,
    pub recoveries: Vec<Recovery>,
    /// Recoveries that are in the midst of a look while others act.
    pub looking: usize,
    next_fault: usize,
    pub left: usize,
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

    pub fn fail(&mut self, why: impl FnOnce() -> String) {
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

    pub fn cut(&mut self, link: usize) {
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
