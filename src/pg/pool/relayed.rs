//! A TLS connection to a node in the pool worker, and the socket pair over which backends use it.

use crate::pg::pool::link::Link;
use crate::pg::pool::poll::{Interest, Poll, Watch};
use crate::pg::socket::{Socket, TERMINATE};
use crate::tls::relay::{Relay, Wants};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

pub struct Relayed {
    relay: Relay,
    node: Socket,
    /// The other end of what backends have.
    backend: UnixStream,
    node_watch: Watch,
    backend_watch: Watch,
}

/// By which an event in a poll set names the two sides.
#[derive(Clone, Copy, Debug)]
pub struct Tokens {
    pub node: u64,
    pub backend: u64,
}

impl Relayed {
    /// The relay of an encrypted link, and what backends get; a link in clear text is for them as it is.
    pub fn new(link: Link) -> io::Result<(Option<Relayed>, Socket)> {
        let Some(tls) = link.tls else { return Ok((None, link.socket)) };
        let (here, there) = UnixStream::pair()?;
        here.set_nonblocking(true)?;
        there.set_nonblocking(true)?;
        let relayed = Relayed {
            relay: Relay::new(*tls),
            node: link.socket,
            backend: here,
            node_watch: Watch::default(),
            backend_watch: Watch::default(),
        };
        Ok((Some(relayed), Socket::uncounted(there.into())))
    }

    /// Moves what can be moved; `false` when the connection is over. An error says why it is.
    pub fn pump(&mut self, poll: &Poll, tokens: Tokens, block: &mut [u8]) -> io::Result<bool> {
        let Some(wants) = self.relay.pump(&mut self.node.stream(), &mut &self.backend, block)? else {
            return Ok(false);
        };
        let Wants { read_node, write_node, read_backend, write_backend } = wants;
        watch(&mut self.node_watch, poll, self.node.fd(), interest(read_node, write_node), tokens.node);
        let fd = self.backend.as_raw_fd();
        watch(&mut self.backend_watch, poll, fd, interest(read_backend, write_backend), tokens.backend);
        Ok(true)
    }

    /// Ends it on both sides; what a backend has not read yet stays readable.
    pub fn end(&mut self, poll: &Poll) {
        self.node_watch.stop(poll);
        self.backend_watch.stop(poll);
        self.relay.end(&mut self.node.stream(), &TERMINATE);
        self.node.shut_down();
        // Who has ended already does not hear it.
        let _ = self.backend.shutdown(std::net::Shutdown::Both);
    }
}

fn interest(read: bool, write: bool) -> Option<Interest> {
    match (read, write) {
        (true, true) => Some(Interest::ReadWrite),
        (true, false) => Some(Interest::Read),
        (false, true) => Some(Interest::Write),
        (false, false) => None,
    }
}

fn watch(watch: &mut Watch, poll: &Poll, fd: i32, interest: Option<Interest>, token: u64) {
    match interest {
        Some(interest) => watch.update(poll, fd, interest, token),
        None => watch.stop(poll),
    }
}
