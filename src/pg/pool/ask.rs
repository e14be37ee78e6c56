//! What a backend asks of a pool worker.
//!
//! The private socket is in the data directory, for the server's user only. Its folder holds what
//! is void after a restart, so backup programs leave it out.

use crate::error::{Error, Result, sqlstate};
use crate::pg::pool::descriptor;
use crate::pg::socket::Socket;
use crate::pg::wait::{Patience, Source, Woken, wait};
use crate::pool::message::{Answer, Request, decode, encode};
use socket2::SockAddr;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// How long a worker may take to come back; the postmaster starts it again after a second.
const RESTART_BOUND: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(20);

/// The path of a worker's socket, relative to the data directory, in which all processes are.
pub fn socket_path(worker: usize) -> String {
    format!("pg_stat_tmp/sharding_pool.{worker}")
}

/// Asks and waits for the answer, with the descriptor that came with it.
pub fn ask(worker: usize, request: &Request, deadline: Instant) -> Result<(Answer, Option<OwnedFd>)> {
    let socket = connect(worker, deadline)?;
    let bytes = encode(request)?;
    let mut sent = 0;
    let mut received = Vec::new();
    let mut passed = None;
    let mut buffer = [0; 4096];
    loop {
        while sent < bytes.len() {
            match socket.send(&bytes[sent..]).map_err(|_| ended())? {
                0 => break,
                count => sent += count,
            }
        }
        if let Some((count, fd)) = descriptor::receive(&socket, &mut buffer).map_err(|_| ended())? {
            if count == 0 {
                return Err(ended());
            }
            passed = fd.or(passed);
            received.extend_from_slice(&buffer[..count]);
            match decode(&received)? {
                Some((answer, _)) => return Ok((answer, passed)),
                None => continue,
            }
        }
        let source = Source { fd: socket.fd(), write: sent < bytes.len() };
        if wait(&[source], Patience::until(deadline)) == Woken::TimedOut {
            return Err(Error::new(sqlstate::CONNECTION_FAILURE, "the connection pool did not answer in time"));
        }
    }
}

/// Connects to a worker; waits for one that is just being started again.
fn connect(worker: usize, deadline: Instant) -> Result<Socket> {
    let give_up = deadline.min(Instant::now() + RESTART_BOUND);
    let address = SockAddr::unix(socket_path(worker)).map_err(|error| not_running(&error))?;
    loop {
        match Socket::connect(&address)? {
            Ok(socket) => return Ok(socket),
            Err(error) if Instant::now() >= give_up => return Err(not_running(&error)),
            Err(_) => {
                wait(&[], Patience::until(give_up.min(Instant::now() + RETRY)));
            }
        }
    }
}

fn ended() -> Error {
    Error::new(sqlstate::CONNECTION_FAILURE, "the connection pool's worker ended while it was asked")
        .hint("Repeat the statement; the server's log says why the worker ended.")
}

fn not_running(error: &io::Error) -> Error {
    Error::new(sqlstate::CANNOT_CONNECT_NOW, "the connection pool is not running")
        .detail(format!("Its worker cannot be reached: {error}."))
        .hint("See the server's log; max_worker_processes must leave room for sharding.pool_workers.")
}
