//! A connection from the coordinator to a node: two queues of messages that arrive in order, until it breaks.

use super::random::Random;
use std::collections::VecDeque;
use std::rc::Rc;

/// A gid.
pub type Name = Rc<str>;

/// What the coordinator sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    Prepare(Name),
    Commit(Name),
    RollBack(Name),
    /// ROLLBACK of the open transaction.
    Undo,
    /// The names of all prepared transactions.
    List,
}

/// What the node answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Prepared,
    Refused,
    Done,
    Gone,
    /// Another session is at it.
    Busy,
    Listed(Vec<Name>),
}

/// See the module.
#[derive(Debug)]
pub struct Link {
    pub node: usize,
    pub orders: VecDeque<Order>,
    pub replies: VecDeque<Reply>,
    /// Nothing more is sent; what was is delivered.
    pub broken: bool,
    /// The node has noticed the end, or crashed.
    pub ended_there: bool,
    /// The coordinator has noticed the end, or wants nothing more.
    pub ended_here: bool,
    /// The transaction that is open in the node's session.
    pub work: Option<usize>,
    /// The node's session is carrying out an order.
    pub at_work: bool,
    /// Nothing is delivered before this step.
    pub stalled_until: usize,
}

impl Link {
    pub fn new(node: usize, work: Option<usize>) -> Link {
        Link {
            node,
            orders: VecDeque::new(),
            replies: VecDeque::new(),
            broken: false,
            ended_there: false,
            ended_here: false,
            work,
            at_work: false,
            stalled_until: 0,
        }
    }

    /// Breaks it: of what is under way, the last messages are lost.
    pub fn cut(&mut self, random: &mut Random) {
        if !self.broken {
            self.broken = true;
            self.orders.truncate(random.below(self.orders.len() + 1));
            self.replies.truncate(random.below(self.replies.len() + 1));
        }
    }

    pub fn send(&mut self, order: Order) {
        if !self.broken {
            self.orders.push_back(order);
        }
    }

    pub fn reply(&mut self, reply: Reply) {
        if !self.broken {
            self.replies.push_back(reply);
        }
    }

    pub fn is_over(&self) -> bool {
        self.ended_here && self.ended_there
    }
}
