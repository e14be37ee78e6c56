//! A connection to a node as bytes in both directions, in clear text or over TLS.

use crate::error::{Error, Result, sqlstate};
use crate::pg::pool::poll::Interest;
use crate::pg::socket::Socket;
use crate::tls::end_point::end_point;
use crate::tls::verify::explain;
use rustls::ClientConnection;
use std::io::{self, Read, Write};
use std::os::fd::RawFd;

pub struct Link {
    pub socket: Socket,
    pub tls: Option<Box<ClientConnection>>,
}

impl Link {
    pub fn fd(&self) -> RawFd {
        self.socket.fd()
    }

    /// What SCRAM can be bound to.
    pub fn end_point(&self) -> Option<Vec<u8>> {
        self.tls.as_ref()?.peer_certificates()?.first().and_then(|certificate| end_point(certificate))
    }

    /// What to wait for; `output`: there are bytes to send.
    pub fn interest(&self, output: bool) -> Interest {
        let sending = self.tls.as_ref().is_some_and(|tls| tls.wants_write());
        if output || sending { Interest::ReadWrite } else { Interest::Read }
    }

    /// Sends what fits; 0 if nothing does.
    pub fn send(&mut self, bytes: &[u8]) -> Result<usize> {
        let Some(tls) = &mut self.tls else { return self.socket.send(bytes).map_err(broken) };
        if !flush(tls, &self.socket)? {
            return Ok(0);
        }
        let count = tls.writer().write(bytes).map_err(broken)?;
        flush(tls, &self.socket)?;
        Ok(count)
    }

    /// Receives what is here; `None` if nothing is, `Some(0)` at the end of the stream.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Result<Option<usize>> {
        let Some(tls) = &mut self.tls else { return self.socket.receive(buffer).map_err(broken) };
        loop {
            match tls.reader().read(buffer) {
                Ok(count) => return Ok(Some(count)),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Some(0)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(broken(error)),
            }
            if !receive_records(tls, &self.socket)? {
                return Ok(None);
            }
        }
    }

    /// Goes on with the handshake; `true` when it is done.
    pub fn shake_hands(&mut self) -> Result<bool> {
        let Some(tls) = &mut self.tls else { return Ok(true) };
        loop {
            if !flush(tls, &self.socket)? {
                return Ok(false);
            }
            if !tls.is_handshaking() {
                return Ok(true);
            }
            if !receive_records(tls, &self.socket)? {
                return Ok(false);
            }
        }
    }
}

/// Sends encrypted bytes; whether all are sent.
fn flush(tls: &mut ClientConnection, socket: &Socket) -> Result<bool> {
    while tls.wants_write() {
        match tls.write_tls(&mut socket.stream()) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(broken(error)),
        }
    }
    Ok(true)
}

/// Receives and decrypts; `false` if nothing is here. 08006 if the connection breaks off, 08001 if TLS fails.
fn receive_records(tls: &mut ClientConnection, socket: &Socket) -> Result<bool> {
    match tls.read_tls(&mut socket.stream()) {
        Ok(0) if tls.is_handshaking() => return Err(broken(io::ErrorKind::UnexpectedEof.into())),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
        Err(error) => return Err(broken(error)),
    }
    match tls.process_new_packets() {
        Ok(_) => Ok(true),
        Err(error) => {
            // The alert tells the node why; if it does not get through, the connection ends all the same.
            let _ = flush(tls, socket);
            let (message, hint) = explain(&error);
            let mut error = Error::new(sqlstate::CONNECTION_UNABLE, message);
            error.hint = hint;
            Err(error)
        }
    }
}

/// 08006: the connection is lost.
pub fn broken(error: io::Error) -> Error {
    Error::new(sqlstate::CONNECTION_FAILURE, error.to_string())
}
