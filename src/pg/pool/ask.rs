//! What a backend asks of a pool worker.
//!
//! The private socket is in the data directory, for the server's user only. Its folder holds what
//! is void after a restart, so backup programs leave it out.

use crate::error::{Error, Result, sqlstate};
use crate::pg::pool::descriptor;
use crate::pg::socket::Socket;
use crate::pg::wait::{Event, Patience, Source, Woken, wait_as};
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

/// Asks and waits for the answer, with the descriptor that came with it; `None` if the worker ended
/// meanwhile.
pub fn ask(worker: usize, request: &Request, deadline: Instant) -> Result<Option<(Answer, Option<OwnedFd>)>> {
    let socket = connect(worker, deadline)?;
    let bytes = encode(request)?;
    let mut sent = 0;
    let mut received = Vec::new();
    let mut passed = None;
    let mut buffer = [0; 4096];
    loop {
        while sent < bytes.len() {
            match socket.send(&bytes[sent..]) {
                Ok(0) => break,
                Ok(count) => sent += count,
                Err(_) => return Ok(None),
            }
        }
        let Ok(arrived) = descriptor::receive(&socket, &mut buffer) else { return Ok(None) };
        if let Some((count, fd)) = arrived {
            if count == 0 {
                return Ok(None);
            }
            passed = fd.or(passed);
            received.extend_from_slice(&buffer[..count]);
            match decode(&received)? {
                Some((answer, _)) => return Ok(Some((answer, passed))),
                None => continue,
            }
        }
        let source = Source { fd: socket.fd(), write: sent < bytes.len() };
        if wait_as(Event::PoolWorker, &[source], Patience::until(deadline)) == Woken::TimedOut {
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
                wait_as(Event::PoolWorker, &[], Patience::until(give_up.min(Instant::now() + RETRY)));
            }
        }
    }
}

/// The error for who was left without an answer time and again.
pub fn ended() -> Error {
    Error::new(sqlstate::CONNECTION_FAILURE, "the connection pool's worker ended while it was asked")
        .hint("The server's log says why it ended.")
}

fn not_running(error: &io::Error) -> Error {
    Error::new(sqlstate::CANNOT_CONNECT_NOW, "the connection pool is not running")
        .detail(format!("Its worker cannot be reached: {error}."))
        .hint("See the server's log; max_worker_processes must leave room for sharding.pool_workers.")
}
