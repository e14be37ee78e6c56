//! Hands bytes between clients and a server, for `benches/cluster/points.sh`: `relay 9700 9600` listens on port 9700 of
//! 127.0.0.1 and relays to 9600 there.
//!
//! It does the least that something between a client and a server can do: a thread per client that waits for one
//! of the two at a time, without a look at what it carries but for the end of an answer. What a statement costs more through
//! it than without it is what a hop costs on this machine. It knows servers that trust their clients.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;

/// A client asks so whether the server speaks TLS.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// `ReadyForQuery`, but for the transaction's state: the end of an answer.
const READY: [u8; 5] = [b'Z', 0, 0, 0, 5];

fn relay(mut client: TcpStream, mut server: TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let mut buffer = vec![0; 1 << 16];
    let mut answer = Vec::new();
    loop {
        let read = client.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        if buffer[..read] == SSL_REQUEST {
            client.write_all(b"N")?;
            continue;
        }
        server.write_all(&buffer[..read])?;
        answer.clear();
        while answer.iter().rev().skip(1).take(READY.len()).ne(READY.iter().rev()) {
            let read = server.read(&mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            client.write_all(&buffer[..read])?;
            answer.extend_from_slice(&buffer[..read]);
        }
    }
}

fn main() -> io::Result<()> {
    let ports: Vec<u16> = std::env::args().skip(1).filter_map(|port| port.parse().ok()).collect();
    let &[port, target] = &ports[..] else {
        return Err(io::Error::other("usage: relay PORT TARGET_PORT"));
    };
    for client in TcpListener::bind((Ipv4Addr::LOCALHOST, port))?.incoming() {
        let (client, server) = (client?, TcpStream::connect((Ipv4Addr::LOCALHOST, target))?);
        thread::spawn(move || {
            if let Err(error) = relay(client, server) {
                eprintln!("relay: {error}");
            }
        });
    }
    Ok(())
}
