//! From an address to a connection, encrypted if need be; never waits.
//!
//! ```text
//! connect -> [SSLRequest -> 'S' -> handshake] -> Link
//! ```
//!
//! Only one byte of the answer to the SSLRequest is read: whatever somebody puts behind it must pass as TLS.

use crate::error::{Error, Result, sqlstate};
use crate::pg::pool::link::{Link, broken};
use crate::pg::pool::poll::Interest;
use crate::pg::socket::Socket;
use crate::pool::keepalive::Keepalive;
use crate::pool::message::Address;
use bytes::{Buf, BytesMut};
use postgres_protocol::message::frontend;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use socket2::SockAddr;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

/// How to encrypt.
#[derive(Clone)]
pub struct Seal {
    pub config: Arc<ClientConfig>,
    pub name: ServerName<'static>,
    /// Whether there is no connection without.
    pub required: bool,
}

pub struct Dial {
    stage: Stage,
    seal: Option<Seal>,
}

enum Stage {
    Connecting(Socket),
    Asking(Socket, BytesMut),
    Greeting(Link),
    Over,
}

impl Dial {
    /// Begins to connect.
    pub fn new(address: &Address, keepalive: &Keepalive, seal: Option<Seal>) -> io::Result<Dial> {
        let address = socket_address(address)?;
        let socket = Socket::connect_uncounted(&address, keepalive)?;
        Ok(Dial { stage: Stage::Connecting(socket), seal })
    }

    /// What it waits for.
    pub fn source(&self) -> Option<(RawFd, Interest)> {
        match &self.stage {
            Stage::Connecting(socket) => Some((socket.fd(), Interest::ReadWrite)),
            Stage::Asking(socket, output) => {
                Some((socket.fd(), if output.is_empty() { Interest::Read } else { Interest::ReadWrite }))
            }
            Stage::Greeting(link) => Some((link.fd(), link.interest(false))),
            Stage::Over => None,
        }
    }

    /// Goes on as far as it can; the connection when it is there. 08006: there is no answer; 08001: TLS does not
    /// come about.
    pub fn step(&mut self) -> Result<Option<Link>> {
        loop {
            match std::mem::replace(&mut self.stage, Stage::Over) {
                Stage::Connecting(socket) => {
                    if !socket.connected().map_err(broken)? {
                        self.stage = Stage::Connecting(socket);
                        return Ok(None);
                    }
                    if self.seal.is_none() {
                        return Ok(Some(Link { socket, tls: None }));
                    }
                    let mut output = BytesMut::new();
                    frontend::ssl_request(&mut output);
                    self.stage = Stage::Asking(socket, output);
                }
                Stage::Asking(socket, mut output) => {
                    while !output.is_empty() {
                        match socket.send(&output).map_err(broken)? {
                            0 => break,
                            count => output.advance(count),
                        }
                    }
                    let mut answer = [0];
                    match socket.receive(&mut answer).map_err(broken)? {
                        None => {
                            self.stage = Stage::Asking(socket, output);
                            return Ok(None);
                        }
                        Some(0) => return Err(broken(io::ErrorKind::UnexpectedEof.into())),
                        Some(_) => match self.answered(socket, answer[0])? {
                            Link { tls: None, socket } => return Ok(Some(Link { socket, tls: None })),
                            link => self.stage = Stage::Greeting(link),
                        },
                    }
                }
                Stage::Greeting(mut link) => {
                    if link.shake_hands()? {
                        return Ok(Some(link));
                    }
                    self.stage = Stage::Greeting(link);
                    return Ok(None);
                }
                Stage::Over => return Err(broken(io::ErrorKind::NotConnected.into())),
            }
        }
    }

    /// The node has said whether it speaks TLS.
    fn answered(&self, socket: Socket, answer: u8) -> Result<Link> {
        match (answer, &self.seal) {
            (b'S', Some(seal)) => {
                let tls = ClientConnection::new(seal.config.clone(), seal.name.clone())
                    .map_err(|error| insecure(&format!("TLS cannot begin: {error}")))?;
                Ok(Link { socket, tls: Some(Box::new(tls)) })
            }
            (b'N', Some(seal)) if !seal.required => Ok(Link { socket, tls: None }),
            (b'N', _) => Err(insecure("the server does not support TLS").hint(
                "Set ssl = on with a certificate on the server, or use sslmode 'prefer' if everybody on the way may read along.",
            )),
            _ => Err(insecure("the server does not understand the request for TLS")),
        }
    }
}

/// 08001: TLS does not come about.
fn insecure(message: &str) -> Error {
    Error::new(sqlstate::CONNECTION_UNABLE, message)
}

/// An address as the system calls take it.
pub fn socket_address(address: &Address) -> io::Result<SockAddr> {
    match address {
        Address::Inet(address) => Ok(SockAddr::from(*address)),
        Address::Unix(path) => SockAddr::unix(path),
    }
}
