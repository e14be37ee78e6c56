//! One connection to a node: a socket, the conversation over it, and the pool's slot that it is in.
//!
//! [`lease`] makes them. Nothing here blocks except [`cancel`], which waits with
//! a deadline.

use crate::error::{Error, Result, sqlstate};
use crate::pg::pool::lease;
use crate::pg::socket::Socket;
use crate::pg::wait::{Patience, Source, Woken, wait};
use crate::pool::message::{Answer, decode};
use crate::pool::slot::Facts;
use crate::wire::conversation::Conversation;
use crate::wire::prepared::Prepared;
use bytes::{Buf, BytesMut};
use socket2::SockAddr;
use std::cell::{Cell, RefCell};
use std::io;
use std::time::Instant;

/// How much is read from a socket at once.
const BLOCK: usize = 64 * 1024;

thread_local! {
    static SERIAL: Cell<u64> = const { Cell::new(0) };
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; BLOCK].into_boxed_slice());
}

pub struct Connection {
    /// Tells this connection from those before it to the same node.
    pub serial: u64,
    pub talk: Conversation,
    /// Tasks begun, bytes sent and received: since the pool was told.
    pub statements: u64,
    bytes: u64,
    errors_told: u64,
    /// Up to which version the prepared statements are those that the slot names.
    prepared_version: u64,
    place: Place,
    /// Whether the pool's slot is this backend's now.
    leased: bool,
    socket: Socket,
    node: String,
    cancel_way: CancelWay,
}

/// How to cancel what runs on a connection: what to send where.
#[derive(Clone, Debug)]
pub struct CancelWay {
    /// Of the node, or of the pool worker that does it over TLS.
    pub address: SockAddr,
    pub request: BytesMut,
    /// Whether there is an answer when the node has heard it. A node just closes the connection.
    pub is_answered: bool,
}

/// Where in the pool a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub slot: usize,
    pub generation: u64,
}

fn next_serial() -> u64 {
    SERIAL.set(SERIAL.get() + 1);
    SERIAL.get()
}

impl Connection {
    /// A leased connection that is ready for queries.
    pub fn new(place: Place, socket: Socket, node: &str, cancel_way: CancelWay) -> Connection {
        Connection {
            serial: next_serial(),
            talk: Conversation::new(),
            statements: 0,
            bytes: 0,
            errors_told: 0,
            prepared_version: 0,
            place,
            leased: true,
            socket,
            node: node.to_string(),
            cancel_way,
        }
    }

    pub fn place(&self) -> Place {
        self.place
    }

    /// The slot has become this backend's again.
    pub fn leased_again(&mut self) {
        self.leased = true;
    }

    /// Takes note of the statements that others have prepared on the connection.
    pub fn learn(&mut self, facts: &Facts) {
        let version = facts.prepared_version();
        if version != self.prepared_version {
            self.talk.prepared = Prepared::from_hashes(&facts.prepared());
            self.prepared_version = version;
        }
    }

    /// The slot is not this backend's any more.
    pub fn given_back(&mut self) {
        self.leased = false;
    }

    /// Adds to the slot's counters what has happened since the last time.
    pub fn tell(&mut self, facts: &Facts) {
        Facts::add(&facts.leases, 1);
        Facts::add(&facts.statements, std::mem::take(&mut self.statements));
        Facts::add(&facts.bytes, std::mem::take(&mut self.bytes));
        if self.talk.prepared.take_changed() {
            self.prepared_version = facts.set_prepared(&self.talk.prepared.hashes());
        }
        let errors = self.talk.errors_seen();
        if errors != self.errors_told {
            Facts::add(&facts.errors, errors - self.errors_told);
            self.errors_told = errors;
        }
    }

    /// Ends the connection for all processes.
    pub fn shut_down(&self) {
        self.socket.shut_down();
    }
}

impl Drop for Connection {
    /// A connection that was not given back is in a state that nobody knows.
    fn drop(&mut self) {
        if self.leased {
            self.socket.shut_down();
            lease::break_off(self.place);
        }
    }
}

fn broken(error: io::Error) -> Error {
    Error::new(sqlstate::CONNECTION_FAILURE, error.to_string())
}

/// Sends what fits and takes it off.
fn send(socket: &Socket, output: &mut BytesMut) -> io::Result<()> {
    while !output.is_empty() {
        match socket.send(output)? {
            0 => break,
            count => output.advance(count),
        }
    }
    Ok(())
}

impl Connection {
    /// Sends and receives what is possible without waiting; whether anything came in. An error
    /// (08006, 08P01) means that the connection is lost.
    pub fn pump(&mut self) -> Result<bool> {
        self.exchange().map_err(|error| self.lost(error))
    }

    fn lost(&self, error: Error) -> Error {
        let mut lost =
            Error::new(sqlstate::CONNECTION_FAILURE, format!("connection to node \"{}\" was lost", self.node));
        lost.detail = Some(match self.talk.fatal() {
            Some(farewell) => format!("The node said: {}.", farewell.message),
            None => format!("{}.", error.message),
        });
        lost
    }

    /// Sends what is possible without waiting. A failure is left for [`Connection::pump`] to find: it hears first
    /// what the node has to say.
    pub fn send(&mut self) {
        let _ = send(&self.socket, self.talk.output());
    }

    /// As [`Connection::pump`]; where there is nothing to send, waits for a moment for what comes.
    pub fn pump_waiting(&mut self) -> Result<bool> {
        if self.talk.has_output() {
            return self.pump();
        }
        let received = self.take_in(Socket::receive_waiting);
        received.map_err(|error| self.lost(error))
    }

    fn exchange(&mut self) -> Result<bool> {
        // A node that says why it goes away is heard even if nothing can be sent to it any more.
        let waiting = self.talk.output().len();
        let sent = send(&self.socket, self.talk.output());
        self.bytes += (waiting - self.talk.output().len()) as u64;
        let received = self.take_in(Socket::receive)?;
        if !received {
            sent.map_err(broken)?;
        }
        Ok(received)
    }

    fn take_in(&mut self, receive: impl FnOnce(&Socket, &mut [u8]) -> io::Result<Option<usize>>) -> Result<bool> {
        BUFFER.with_borrow_mut(|buffer| match receive(&self.socket, buffer).map_err(broken)? {
            None => Ok(false),
            Some(0) => Err(Error::new(sqlstate::CONNECTION_FAILURE, "The node closed the connection")),
            Some(count) => {
                self.bytes += count as u64;
                self.talk.receive(&buffer[..count])?;
                Ok(true)
            }
        })
    }

    /// The socket as something to wait for.
    pub fn source(&self) -> Source {
        self.socket.source(self.talk.has_output())
    }
}

/// Asks the nodes to cancel what runs on these connections; returns when each has heard it, or when
/// time is up. The node signals the other session before it closes this second connection, so a
/// later statement on the first one is not hit.
pub fn cancel(ways: &[CancelWay], deadline: Instant) -> Vec<bool> {
    let mut requests: Vec<Option<(Socket, BytesMut)>> = ways
        .iter()
        .map(|way| match Socket::connect(&way.address) {
            Ok(Ok(socket)) => Some((socket, way.request.clone())),
            _ => None,
        })
        .collect();
    let mut heard = vec![false; ways.len()];
    loop {
        for ((request, heard), way) in requests.iter_mut().zip(&mut heard).zip(ways) {
            if let Some((socket, output)) = request
                && let Some(done) = request_progress(socket, output, way.is_answered)
            {
                *heard = done;
                *request = None;
            }
        }
        let sources: Vec<Source> =
            requests.iter().flatten().map(|(socket, output)| socket.source(!output.is_empty())).collect();
        if sources.is_empty() || wait(&sources, Patience::callback(deadline)) == Woken::TimedOut {
            return heard;
        }
    }
}

/// `Some(true)` when the node has heard a cancel request, `Some(false)` when it never will.
fn request_progress(socket: &Socket, output: &mut BytesMut, is_answered: bool) -> Option<bool> {
    if !output.is_empty() {
        match send(socket, output) {
            Ok(()) => {}
            // Not connected yet.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return None,
            Err(_) => return Some(false),
        }
        if !output.is_empty() {
            return None;
        }
    }
    let mut answer = [0; 64];
    match socket.receive(&mut answer) {
        Ok(None) => None,
        Ok(Some(count)) if is_answered => {
            Some(matches!(decode::<Answer>(&answer[..count]), Ok(Some((Answer::Cancelled, _)))))
        }
        Ok(Some(_)) => Some(true),
        Err(_) => Some(!is_answered),
    }
}

impl Connection {
    /// What [`cancel`] needs to know of this connection.
    pub fn cancel_way(&self) -> CancelWay {
        self.cancel_way.clone()
    }
}
