//! A connection to a node as its pool worker keeps it: what backends get duplicates of, and what belongs to it.

use crate::pg::pool::dial::Seal;
use crate::pg::pool::poll::Poll;
use crate::pg::pool::relayed::Relayed;
use crate::pg::socket::Socket;
use crate::pool::message::Address;
use std::time::Instant;

/// A connection that the worker has made.
pub struct Master {
    /// What backends get.
    pub socket: Socket,
    /// What stands between that and the node.
    pub relayed: Option<Relayed>,
    pub generation: u64,
    pub address: Address,
    pub seal: Option<Seal>,
    pub opened: Instant,
    /// The number of leases, and since when it is the same.
    pub leases: u64,
    pub idle_since: Instant,
}

impl Master {
    /// Takes leave of the node and ends the connection.
    pub fn leave(&mut self, poll: &Poll) {
        match &mut self.relayed {
            Some(relayed) => relayed.end(poll),
            None => self.socket.say_goodbye(),
        }
    }
}
