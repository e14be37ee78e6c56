//! The relay between a backend, which speaks plain text, and the TLS connection to its node.
//!
//! [`Relay::pump`] moves what can be moved without waiting and says what to wait for. A side that does not
//! take what is there stops the other one: at most one block in each direction is kept here
//! (and what rustls makes of it), however much is under way.
//!
//! ```text
//! backend --read--> block --encrypt--> records --write--> node      no new block before all is written
//! backend <-write-- one record's text <-decrypt-- block <--read-- node
//! ```
//!
//! When one side ends, what it has said is delivered first; then the relay is over.

use rustls::ClientConnection;
use std::io::{self, BufRead, ErrorKind, Read, Write};

/// The size of a block in bytes.
pub const BLOCK: usize = 32 * 1024;
/// How often both directions are served before others have their turn.
const ROUNDS: usize = 16;

pub struct Relay {
    tls: ClientConnection,
    /// What came from the node and is not decrypted yet; up to `begin` it is.
    received: Vec<u8>,
    begin: usize,
    node_ended: bool,
    backend_ended: bool,
}

/// What to wait for until [`Relay::pump`] has to be called again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wants {
    pub read_node: bool,
    pub write_node: bool,
    pub read_backend: bool,
    pub write_backend: bool,
}

impl Relay {
    /// For a connection whose handshake is done.
    pub fn new(tls: ClientConnection) -> Relay {
        Relay { tls, received: Vec::new(), begin: 0, node_ended: false, backend_ended: false }
    }

    /// Moves what can be moved; `None` when one side has ended, and nothing is left to be delivered. An error ends
    /// it too. `block` is room for [`BLOCK`] bytes that nobody else needs meanwhile.
    pub fn pump(
        &mut self,
        node: &mut (impl Read + Write),
        backend: &mut (impl Read + Write),
        block: &mut [u8],
    ) -> io::Result<Option<Wants>> {
        for _ in 0..ROUNDS {
            let mut moved = self.send(node)?;
            moved |= self.take(backend, block)?;
            moved |= self.send(node)?;
            moved |= self.deliver(backend)?;
            moved |= self.receive(node, block)?;
            if !moved {
                break;
            }
        }
        self.deliver(backend)?;
        let (pending, sending) = (self.has_text(), self.tls.wants_write());
        if self.backend_ended || (self.node_ended && !pending) {
            return Ok(None);
        }
        Ok(Some(Wants {
            read_node: !pending && !self.node_ended,
            write_node: sending,
            read_backend: !sending,
            write_backend: pending,
        }))
    }

    /// Encrypts a last message and the end of the connection, and sends what fits.
    pub fn end(&mut self, node: &mut impl Write, farewell: &[u8]) {
        // Politeness: who does not hear it notices the end of the connection.
        let _ = self.tls.writer().write_all(farewell);
        self.tls.send_close_notify();
        while self.tls.wants_write() && self.tls.write_tls(node).is_ok_and(|count| count > 0) {}
    }

    /// Encrypted bytes to the node.
    fn send(&mut self, node: &mut impl Write) -> io::Result<bool> {
        let mut moved = false;
        while self.tls.wants_write() {
            match ready(self.tls.write_tls(node))? {
                None => break,
                Some(0) => return Err(ErrorKind::WriteZero.into()),
                Some(_) => moved = true,
            }
        }
        Ok(moved)
    }

    /// A block from the backend, once the last one is on its way.
    fn take(&mut self, backend: &mut impl Read, block: &mut [u8]) -> io::Result<bool> {
        if self.backend_ended || self.tls.wants_write() {
            return Ok(false);
        }
        match ready(backend.read(block))? {
            None => Ok(false),
            Some(0) => {
                self.backend_ended = true;
                Ok(false)
            }
            Some(count) => {
                self.tls.writer().write_all(&block[..count])?;
                Ok(true)
            }
        }
    }

    /// Decrypted bytes to the backend.
    fn deliver(&mut self, backend: &mut impl Write) -> io::Result<bool> {
        let mut moved = false;
        loop {
            let mut reader = self.tls.reader();
            match reader.fill_buf() {
                Ok([]) => self.node_ended = true,
                Ok(text) => match ready(backend.write(text))? {
                    None => return Ok(moved),
                    Some(count) => {
                        reader.consume(count);
                        moved = true;
                        continue;
                    }
                },
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => self.node_ended = true,
                Err(error) => return Err(error),
            }
            if !self.decrypt()? {
                return Ok(moved);
            }
        }
    }

    /// Decrypts a piece of what was received, while the text before it is all delivered.
    fn decrypt(&mut self) -> io::Result<bool> {
        if self.begin == self.received.len() {
            self.received.clear();
            self.begin = 0;
            return Ok(false);
        }
        self.begin += self.tls.read_tls(&mut &self.received[self.begin..])?;
        self.tls.process_new_packets().map_err(io::Error::other)?;
        Ok(true)
    }

    /// A block from the node, once the last one is delivered.
    fn receive(&mut self, node: &mut impl Read, block: &mut [u8]) -> io::Result<bool> {
        if self.node_ended || self.has_text() || self.begin < self.received.len() {
            return Ok(false);
        }
        match ready(node.read(block))? {
            None => Ok(false),
            Some(0) => {
                self.tls.read_tls(&mut io::empty())?;
                self.node_ended = true;
                Ok(true)
            }
            Some(count) => {
                self.received.extend_from_slice(&block[..count]);
                Ok(true)
            }
        }
    }

    /// Whether decrypted bytes wait for the backend.
    fn has_text(&mut self) -> bool {
        self.tls.reader().fill_buf().is_ok_and(|text| !text.is_empty()) || self.begin < self.received.len()
    }
}

/// `None` if the call would have waited.
fn ready(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::verify::Verifier;
    use proptest::prelude::*;
    use rustls::crypto::ring::default_provider;
    use rustls::pki_types::{PrivateKeyDer, ServerName};
    use rustls::{ClientConfig, ServerConfig, ServerConnection};
    use std::cell::RefCell;
    use std::collections::VecDeque;
    use std::rc::Rc;
    use std::sync::Arc;

    /// One direction of a connection, with room for so many bytes.
    #[derive(Clone)]
    struct Pipe(Rc<RefCell<(VecDeque<u8>, usize, bool)>>);

    impl Pipe {
        fn new(room: usize) -> Pipe {
            Pipe(Rc::new(RefCell::new((VecDeque::new(), room, false))))
        }

        fn close(&self) {
            self.0.borrow_mut().2 = true;
        }
    }

    struct Side {
        from: Pipe,
        to: Pipe,
    }

    impl Read for Side {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let mut pipe = self.from.0.borrow_mut();
            match (pipe.0.is_empty(), pipe.2) {
                (true, true) => Ok(0),
                (true, false) => Err(ErrorKind::WouldBlock.into()),
                _ => pipe.0.read(buffer),
            }
        }
    }

    impl Write for Side {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut pipe = self.to.0.borrow_mut();
            let room = pipe.1 - pipe.0.len();
            match (pipe.2, room) {
                (true, _) => Err(ErrorKind::BrokenPipe.into()),
                (false, 0) => Err(ErrorKind::WouldBlock.into()),
                _ => {
                    let count = room.min(bytes.len());
                    pipe.0.extend(&bytes[..count]);
                    Ok(count)
                }
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn pair(room: usize) -> (Side, Side) {
        let (a, b) = (Pipe::new(room), Pipe::new(room));
        (Side { from: a.clone(), to: b.clone() }, Side { from: b, to: a })
    }

    fn handshaken() -> (ClientConnection, ServerConnection) {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["n1".into()]).unwrap().self_signed(&key).unwrap();
        let provider = Arc::new(default_provider());
        let server = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
            .unwrap();
        let verifier = Verifier { algorithms: provider.signature_verification_algorithms, trust: None };
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        let mut client = ClientConnection::new(Arc::new(client), ServerName::try_from("n1").unwrap()).unwrap();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        while client.is_handshaking() || server.is_handshaking() || server.wants_write() {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).unwrap();
            }
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                server.read_tls(&mut rest).unwrap();
                server.process_new_packets().unwrap();
            }
            let mut bytes = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                client.read_tls(&mut rest).unwrap();
                client.process_new_packets().unwrap();
            }
        }
        (client, server)
    }

    /// What a node does: takes what is there, sends what fits.
    fn serve(server: &mut ServerConnection, side: &mut Side, got: &mut Vec<u8>) {
        while server.read_tls(side).is_ok_and(|count| count > 0) {
            server.process_new_packets().unwrap();
            let mut block = [0; 4096];
            while let Ok(count @ 1..) = server.reader().read(&mut block) {
                got.extend(&block[..count]);
            }
        }
        while server.wants_write() && server.write_tls(side).is_ok() {}
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn all_bytes_arrive_in_order_through_narrow_pipes(
            there in 0usize..200_000, back in 0usize..200_000, node_room in 1usize..40_000, backend_room in 1usize..40_000,
            appetite in 1usize..50_000,
        ) {
            let (client, mut server) = handshaken();
            let mut relay = Relay::new(client);
            let (mut node, mut node_far) = pair(node_room);
            let (mut end, mut backend) = pair(backend_room);
            let bytes = |count: usize, seed: usize| (0..count).map(|i| (i * 31 / 7 + seed) as u8).collect::<Vec<u8>>();
            let (to_node, to_backend) = (bytes(there, 1), bytes(back, 2));
            let (mut at_node, mut at_backend): (Vec<u8>, Vec<u8>) = (Vec::new(), Vec::new());
            let (mut asked, mut answered) = (0, 0);
            let mut block = vec![0; BLOCK];
            let mut turns = 0;
            while at_node.len() < there || at_backend.len() < back {
                turns += 1;
                prop_assert!(turns < 2_000_000);
                asked += backend.write(&to_node[asked..]).unwrap_or(0);
                answered += server.writer().write(&to_backend[answered..]).unwrap();
                serve(&mut server, &mut node_far, &mut at_node);
                prop_assert!(relay.pump(&mut node, &mut end, &mut block).unwrap().is_some());
                prop_assert!(relay.received.len() <= BLOCK);
                let mut some = vec![0; appetite];
                if let Ok(count) = backend.read(&mut some) {
                    at_backend.extend(&some[..count]);
                }
            }
            prop_assert!(at_node == to_node && at_backend == to_backend);
        }
    }

    #[test]
    fn a_backend_that_does_not_read_stops_the_node() {
        let (client, mut server) = handshaken();
        let mut relay = Relay::new(client);
        let (mut node, mut node_far) = pair(1 << 20);
        let (mut end, mut backend) = pair(1000);
        server.set_buffer_limit(None);
        server.writer().write_all(&vec![7; 500_000]).unwrap();
        serve(&mut server, &mut node_far, &mut Vec::new());
        let mut block = vec![0; BLOCK];
        for _ in 0..100 {
            let wants = relay.pump(&mut node, &mut end, &mut block).unwrap().unwrap();
            assert!(wants.write_backend && !wants.read_node);
        }
        assert!(node.from.0.borrow().0.len() > 500_000 - 2 * BLOCK, "the rest stays with the node");
        let mut all = 0;
        let mut some = [0; 1000];
        while all < 500_000 {
            all += backend.read(&mut some).unwrap_or(0);
            relay.pump(&mut node, &mut end, &mut block).unwrap();
        }
        let wants = relay.pump(&mut node, &mut end, &mut block).unwrap().unwrap();
        assert!(wants.read_node && wants.read_backend && !wants.write_backend && !wants.write_node);
    }

    #[test]
    fn a_nodes_last_words_are_delivered_before_the_end() {
        for polite in [true, false] {
            let (client, mut server) = handshaken();
            let mut relay = Relay::new(client);
            let (mut node, mut node_far) = pair(100_000);
            let (mut end, mut backend) = pair(10);
            server.writer().write_all(b"terminating connection").unwrap();
            if polite {
                server.send_close_notify();
            }
            serve(&mut server, &mut node_far, &mut Vec::new());
            node_far.to.close();
            let mut block = vec![0; BLOCK];
            let mut heard: Vec<u8> = Vec::new();
            while relay.pump(&mut node, &mut end, &mut block).unwrap().is_some() {
                let mut some = [0; 4];
                let count = backend.read(&mut some).unwrap();
                heard.extend(&some[..count]);
                assert!(heard.len() < 23);
            }
            let mut one = [0];
            while backend.read(&mut one).is_ok() {
                heard.push(one[0]);
            }
            assert_eq!(heard, *b"terminating connection", "polite: {polite}");
        }
    }

    #[test]
    fn a_backend_that_goes_ends_it() {
        let (client, mut server) = handshaken();
        let mut relay = Relay::new(client);
        let (mut node, mut node_far) = pair(100_000);
        let (mut end, backend) = pair(1000);
        backend.to.close();
        assert_eq!(relay.pump(&mut node, &mut end, &mut vec![0; BLOCK]).unwrap(), None);
        relay.end(&mut node, b"X");
        let mut got = Vec::new();
        serve(&mut server, &mut node_far, &mut got);
        assert_eq!(got, b"X");
    }

    #[test]
    fn what_is_not_tls_is_an_error() {
        let (client, _) = handshaken();
        let mut relay = Relay::new(client);
        let (mut node, mut node_far) = pair(100_000);
        let (mut end, _backend) = pair(1000);
        node_far.write_all(&[b'E'; 100]).unwrap();
        assert!(relay.pump(&mut node, &mut end, &mut vec![0; BLOCK]).is_err());
    }
}
