//! One connection to a node: a socket, the conversation over it, and how both begin and end.
//!
//! Nothing here blocks except [`connect`] and [`cancel`], which wait with a deadline.

use crate::error::{Error, Result, sqlstate};
use crate::pg::endpoint::Endpoint;
use crate::pg::settings::{Settings, setting};
use crate::pg::socket::Socket;
use crate::pg::wait::{Patience, Source, Woken, wait};
use crate::wire::conversation::Conversation;
use crate::wire::startup::{CancelKey, Startup};
use bytes::{Buf, BytesMut};
use pgrx::pg_sys;
use socket2::SockAddr;
use std::cell::{Cell, RefCell};
use std::ffi::CStr;
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
    socket: Socket,
    node: String,
    address: SockAddr,
    cancel_key: CancelKey,
}

/// Connects and authenticates, within the endpoint's timeout. 08001 with the reason as detail.
pub fn connect(endpoint: &Endpoint, settings: &Settings) -> Result<Connection> {
    let deadline = Instant::now() + endpoint.timeout;
    let unable = |reason: String| {
        Error::new(sqlstate::CONNECTION_UNABLE, format!("could not connect to node \"{}\"", endpoint.name))
            .detail(reason)
    };
    let host = endpoint.hostaddr.as_ref().unwrap_or(&endpoint.host);
    let place = format!("{host} port {}", endpoint.port);
    let addresses = endpoint.addresses().map_err(|e| unable(format!("{place}: {e}.")))?;
    let mut reason = format!("{place}: no address.");
    for address in addresses {
        match connect_to(&address, endpoint, settings, deadline)? {
            Attempt::Connected(connection) => return Ok(*connection),
            Attempt::Unreachable(error) => reason = format!("{place}: {error}."),
            Attempt::TimedOut => {
                let seconds = endpoint.timeout.as_secs();
                return Err(unable(format!("{place}: no answer within {seconds} s.")));
            }
            Attempt::Refused(error) => {
                let mut unable = unable(format!("{place}: {}.", error.message));
                unable.hint = error.hint;
                return Err(unable);
            }
        }
    }
    Err(unable(reason))
}

enum Attempt {
    Connected(Box<Connection>),
    /// The next address may do.
    Unreachable(io::Error),
    TimedOut,
    /// The node answered, with a no.
    Refused(Error),
}

fn connect_to(address: &SockAddr, endpoint: &Endpoint, settings: &Settings, deadline: Instant) -> Result<Attempt> {
    let socket = match Socket::connect(address)? {
        Ok(socket) => socket,
        Err(error) => return Ok(Attempt::Unreachable(error)),
    };
    if wait_for(socket.source(true), deadline) == Woken::TimedOut {
        return Ok(Attempt::TimedOut);
    }
    if let Err(error) = socket.connected() {
        return Ok(Attempt::Unreachable(error));
    }
    match authenticate(&socket, endpoint, settings, deadline) {
        Ok(Some(startup)) => Ok(Attempt::Connected(Box::new(Connection {
            serial: next_serial(),
            socket,
            node: endpoint.name.clone(),
            address: address.clone(),
            cancel_key: startup.cancel_key(),
            talk: startup.into_conversation(),
        }))),
        Ok(None) => Ok(Attempt::TimedOut),
        Err(error) => Ok(Attempt::Refused(error)),
    }
}

fn wait_for(source: Source, deadline: Instant) -> Woken {
    wait(&[source], Patience::until(deadline))
}

fn next_serial() -> u64 {
    SERIAL.set(SERIAL.get() + 1);
    SERIAL.get()
}

/// The startup exchange; `None` when time is up.
fn authenticate(
    socket: &Socket,
    endpoint: &Endpoint,
    settings: &Settings,
    deadline: Instant,
) -> Result<Option<Startup>> {
    let encoding = database_encoding();
    let application = application_name();
    let mut parameters = vec![
        ("user", endpoint.user.as_str()),
        ("database", endpoint.dbname.as_str()),
        ("application_name", application.as_str()),
        ("client_encoding", encoding.as_str()),
        // What a plain BEGIN means must not depend on how the node is configured.
        ("default_transaction_isolation", "read committed"),
        ("default_transaction_read_only", "off"),
        ("default_transaction_deferrable", "off"),
    ];
    parameters.extend(settings.pairs());
    let mut startup = Startup::new(&parameters, &endpoint.user, endpoint.password.as_deref(), endpoint.is_local())?;
    loop {
        send(socket, startup.output()).map_err(broken)?;
        let received = BUFFER.with_borrow_mut(|buffer| -> Result<Option<bool>> {
            match socket.receive(buffer).map_err(broken)? {
                None => Ok(None),
                Some(0) => Err(broken(io::ErrorKind::UnexpectedEof.into())),
                Some(count) => startup.receive(&buffer[..count]).map(Some),
            }
        })?;
        match received {
            Some(true) => return Ok(Some(startup)),
            Some(false) => {}
            None => {
                let source = socket.source(!startup.output().is_empty());
                if wait_for(source, deadline) == Woken::TimedOut {
                    return Ok(None);
                }
            }
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

/// The encoding of this database, which nodes share.
fn database_encoding() -> String {
    // SAFETY: a static string.
    unsafe { CStr::from_ptr(pg_sys::GetDatabaseEncodingName()) }.to_string_lossy().into_owned()
}

/// What the node's administrator sees: that it is us, and for whom.
fn application_name() -> String {
    match setting("application_name").as_str() {
        "" => "sharding".to_string(),
        name => format!("sharding: {name}"),
    }
}

impl Connection {
    /// Sends and receives what is possible without waiting; whether anything came in. An error
    /// (08006, 08P01) means that the connection is lost.
    pub fn pump(&mut self) -> Result<bool> {
        self.exchange().map_err(|error| {
            let mut lost =
                Error::new(sqlstate::CONNECTION_FAILURE, format!("connection to node \"{}\" was lost", self.node));
            lost.detail = Some(match self.talk.fatal() {
                Some(farewell) => format!("The node said: {}.", farewell.message),
                None => format!("{}.", error.message),
            });
            lost
        })
    }

    /// Sends what is possible without waiting. A failure is left for [`Connection::pump`] to find: it hears first
    /// what the node has to say.
    pub fn send(&mut self) {
        let _ = send(&self.socket, self.talk.output());
    }

    fn exchange(&mut self) -> Result<bool> {
        // A node that says why it goes away is heard even if nothing can be sent to it any more.
        let sent = send(&self.socket, self.talk.output());
        let received = BUFFER.with_borrow_mut(|buffer| -> Result<bool> {
            match self.socket.receive(buffer).map_err(broken)? {
                None => Ok(false),
                Some(0) => Err(Error::new(sqlstate::CONNECTION_FAILURE, "The node closed the connection")),
                Some(count) => {
                    self.talk.receive(&buffer[..count])?;
                    Ok(true)
                }
            }
        })?;
        if !received {
            sent.map_err(broken)?;
        }
        Ok(received)
    }

    /// The socket as something to wait for.
    pub fn source(&self) -> Source {
        self.socket.source(self.talk.has_output())
    }
}

/// Asks the nodes to cancel what runs on these connections; returns when each has heard it, or when
/// time is up. The node signals the other session before it closes this second connection, so a
/// later statement on the first one is not hit.
pub fn cancel(connections: &[(SockAddr, CancelKey)], deadline: Instant) -> Vec<bool> {
    let mut requests: Vec<Option<(Socket, BytesMut)>> = connections
        .iter()
        .map(|(address, key)| match Socket::connect(address) {
            Ok(Ok(socket)) => Some((socket, key.request())),
            _ => None,
        })
        .collect();
    let mut heard = vec![false; connections.len()];
    loop {
        for (request, heard) in requests.iter_mut().zip(&mut heard) {
            if let Some((socket, output)) = request
                && let Some(done) = request_progress(socket, output)
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
fn request_progress(socket: &Socket, output: &mut BytesMut) -> Option<bool> {
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
    match socket.receive(&mut [0]) {
        Ok(None) => None,
        Ok(Some(_)) | Err(_) => Some(true),
    }
}

impl Connection {
    /// What [`cancel`] needs to know of this connection.
    pub fn cancel_target(&self) -> (SockAddr, CancelKey) {
        (self.address.clone(), self.cancel_key)
    }
}
