//! An attempt to connect to a node and to authenticate there, which never waits.
//!
//! [`Attempt::step`] goes as far as it can; its worker calls it again when [`Attempt::source`] is ready.
//! Of several addresses the first one that answers decides, also with a no.

use crate::error::{Error, Result, sqlstate};
use crate::pg::pool::poll::Interest;
use crate::pg::socket::Socket;
use crate::pool::message::{Address, Opening};
use crate::wire::startup::{CancelKey, Startup};
use bytes::Buf;
use socket2::SockAddr;
use std::io;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

pub struct Attempt {
    opening: Opening,
    /// The address that is tried.
    current: usize,
    stage: Stage,
    /// Why the address before did not do.
    reason: String,
    not_before: Instant,
    deadline: Instant,
}

enum Stage {
    Waiting,
    Connecting(Socket),
    Authenticating(Socket, Box<Startup>),
}

pub enum Progress {
    Pending,
    Connected { socket: Socket, address: Address, cancel_key: CancelKey },
    Failed { reason: String, hint: Option<String> },
}

impl Attempt {
    /// To be begun after a pause. Its time runs from then.
    pub fn new(opening: Opening, pause: Duration) -> Attempt {
        let not_before = Instant::now() + pause;
        let deadline = not_before + Duration::from_millis(opening.timeout_ms);
        let reason = format!("{}: no address.", opening.place);
        Attempt { opening, current: 0, stage: Stage::Waiting, reason, not_before, deadline }
    }

    /// When to call [`Attempt::step`] even if nothing has happened.
    pub fn due(&self) -> Instant {
        if matches!(self.stage, Stage::Waiting) { self.not_before } else { self.deadline }
    }

    /// What it waits for.
    pub fn source(&mut self) -> Option<(RawFd, Interest)> {
        match &mut self.stage {
            Stage::Waiting => None,
            Stage::Connecting(socket) => Some((socket.fd(), Interest::ReadWrite)),
            Stage::Authenticating(socket, startup) => {
                let interest = if startup.output().is_empty() { Interest::Read } else { Interest::ReadWrite };
                Some((socket.fd(), interest))
            }
        }
    }

    /// Goes on as far as it can.
    pub fn step(&mut self) -> Progress {
        let now = Instant::now();
        if matches!(self.stage, Stage::Waiting) && now < self.not_before {
            return Progress::Pending;
        }
        if now >= self.deadline {
            let seconds = self.opening.timeout_ms / 1000;
            return self.failed(format!("{}: no answer within {seconds} s.", self.opening.place), None);
        }
        loop {
            match std::mem::replace(&mut self.stage, Stage::Waiting) {
                Stage::Waiting => {
                    let Some(address) = self.opening.addresses.get(self.current) else {
                        return self.failed(self.reason.clone(), None);
                    };
                    match socket_address(address)
                        .and_then(|address| Socket::connect_uncounted(&address, &self.opening.keepalive))
                    {
                        Ok(socket) => {
                            self.stage = Stage::Connecting(socket);
                            return Progress::Pending;
                        }
                        Err(error) => self.unreachable(error),
                    }
                }
                Stage::Connecting(socket) => match socket.connected() {
                    Err(error) => self.unreachable(error),
                    Ok(false) => {
                        self.stage = Stage::Connecting(socket);
                        return Progress::Pending;
                    }
                    Ok(true) => match self.startup() {
                        Ok(startup) => self.stage = Stage::Authenticating(socket, Box::new(startup)),
                        Err(error) => return self.refused(error),
                    },
                },
                Stage::Authenticating(socket, mut startup) => match exchange(&socket, &mut startup) {
                    Ok(true) => {
                        let address = self.opening.addresses[self.current].clone();
                        return Progress::Connected { socket, address, cancel_key: startup.cancel_key() };
                    }
                    Ok(false) => {
                        self.stage = Stage::Authenticating(socket, startup);
                        return Progress::Pending;
                    }
                    Err(error) => return self.refused(error),
                },
            }
        }
    }

    fn startup(&self) -> Result<Startup> {
        let Opening { parameters, user, password, confidential, .. } = &self.opening;
        let parameters: Vec<(&str, &str)> = parameters.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        Startup::new(&parameters, user, password.as_deref(), *confidential)
    }

    fn unreachable(&mut self, error: io::Error) {
        self.reason = format!("{}: {error}.", self.opening.place);
        self.current += 1;
    }

    fn refused(&self, error: Error) -> Progress {
        self.failed(format!("{}: {}.", self.opening.place, error.message), error.hint)
    }

    fn failed(&self, reason: String, hint: Option<String>) -> Progress {
        Progress::Failed { reason, hint }
    }
}

/// Sends and receives what it can; `true` when the node is ready for queries.
fn exchange(socket: &Socket, startup: &mut Startup) -> Result<bool> {
    let broken = |error: io::Error| Error::new(sqlstate::CONNECTION_FAILURE, error.to_string());
    let mut buffer = [0; 8192];
    loop {
        while !startup.output().is_empty() {
            match socket.send(startup.output()).map_err(broken)? {
                0 => break,
                count => startup.output().advance(count),
            }
        }
        match socket.receive(&mut buffer).map_err(broken)? {
            None => return Ok(false),
            Some(0) => return Err(broken(io::ErrorKind::UnexpectedEof.into())),
            Some(count) => {
                if startup.receive(&buffer[..count])? {
                    return Ok(true);
                }
            }
        }
    }
}

/// An address as the system calls take it.
pub fn socket_address(address: &Address) -> io::Result<SockAddr> {
    match address {
        Address::Inet(address) => Ok(SockAddr::from(*address)),
        Address::Unix(path) => SockAddr::unix(path),
    }
}
