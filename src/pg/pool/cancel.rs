//! Requests to cancel that the pool worker sends: on connections that are about to be closed, and over TLS for
//! backends. The node signals the session before it closes this second connection.

use crate::pg::pool::dial::{Dial, Seal};
use crate::pg::pool::link::Link;
use crate::pg::pool::poll::Interest;
use crate::pool::keepalive::Keepalive;
use crate::pool::message::Address;
use crate::pool::slot::Word;
use crate::wire::startup::CancelKey;
use bytes::{Buf, BytesMut};
use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

/// How long a node may take to hear it.
const BOUND: Duration = Duration::from_secs(5);

/// What for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The connection in this slot is then closed if the slot is still as it was.
    Close { slot: usize, seen: Word },
    /// A backend waits for it.
    Asked { client: u64 },
}

pub struct Cancel {
    stage: Stage,
    output: BytesMut,
    pub deadline: Instant,
    pub purpose: Purpose,
}

enum Stage {
    Dialling(Dial),
    Sending(Link),
}

impl Cancel {
    /// Begins to connect, encrypted like the connection that is meant.
    pub fn new(address: &Address, seal: Option<Seal>, key: CancelKey, purpose: Purpose) -> io::Result<Cancel> {
        let dial = Dial::new(address, &Keepalive::default(), seal)?;
        let deadline = Instant::now() + BOUND;
        Ok(Cancel { stage: Stage::Dialling(dial), output: key.request(), deadline, purpose })
    }

    /// What it waits for.
    pub fn source(&self) -> Option<(RawFd, Interest)> {
        match &self.stage {
            Stage::Dialling(dial) => dial.source(),
            Stage::Sending(link) => Some((link.fd(), link.interest(!self.output.is_empty()))),
        }
    }

    /// Goes on as far as it can. `Some(true)` when the node has heard it, `Some(false)` when it cannot or takes too
    /// long.
    pub fn step(&mut self) -> Option<bool> {
        match self.go_on() {
            None if Instant::now() >= self.deadline => Some(false),
            outcome => outcome,
        }
    }

    fn go_on(&mut self) -> Option<bool> {
        if let Stage::Dialling(dial) = &mut self.stage {
            match dial.step() {
                Ok(None) => return None,
                Ok(Some(link)) => self.stage = Stage::Sending(link),
                Err(_) => return Some(false),
            }
        }
        let Stage::Sending(link) = &mut self.stage else { return None };
        while !self.output.is_empty() {
            match link.send(&self.output) {
                Ok(0) => return None,
                Ok(count) => self.output.advance(count),
                Err(_) => return Some(false),
            }
        }
        match link.receive(&mut [0]) {
            Ok(None) => None,
            Ok(Some(_)) | Err(_) => Some(true),
        }
    }
}
