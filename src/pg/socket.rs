//! A stream socket, over TCP or a Unix socket, counted among the backend's descriptors. Nothing waits but
//! [`Socket::receive_waiting`].

use crate::error::{Error, Result, sqlstate};
use crate::pg::wait::{self, Source};
use crate::pool::keepalive::Keepalive;
use pgrx::pg_sys;
use socket2::{Domain, SockAddr, TcpKeepalive, Type};
use std::io;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

unsafe extern "C-unwind" {
    fn ReleaseExternalFD();
}

pub struct Socket {
    inner: socket2::Socket,
    /// Whether it counts among the backend's descriptors.
    counted: bool,
}

/// How long [`Socket::receive_waiting`] waits: as long may go unnoticed that somebody has set the latch.
pub const LONGEST_WAIT: Duration = Duration::from_millis(10);

/// The message with which a client leaves.
pub const TERMINATE: [u8; 5] = [b'X', 0, 0, 0, 4];

impl Socket {
    /// Starts to connect; done when the socket becomes writable, see [`Socket::connected`].
    pub fn connect(address: &SockAddr) -> Result<io::Result<Socket>> {
        count()?;
        let socket = match socket2::Socket::new(address.domain(), Type::STREAM, None) {
            Ok(inner) => Socket { inner, counted: true },
            Err(error) => {
                // SAFETY: takes back the one above.
                unsafe { ReleaseExternalFD() };
                return Ok(Err(error));
            }
        };
        Ok(socket.start(address, &Keepalive::default()).map(|()| socket))
    }

    /// The same in a process that is there for its sockets and opens nothing else.
    pub fn connect_uncounted(address: &SockAddr, keepalive: &Keepalive) -> io::Result<Socket> {
        let socket = Socket { inner: socket2::Socket::new(address.domain(), Type::STREAM, None)?, counted: false };
        socket.start(address, keepalive).map(|()| socket)
    }

    /// Whether this process may have one more.
    pub fn has_room() -> bool {
        // SAFETY: counts one more and takes it back.
        unsafe {
            let room = pg_sys::AcquireExternalFD();
            if room {
                ReleaseExternalFD();
            }
            room
        }
    }

    /// Takes over a descriptor that another process has set up with [`Socket::connect_uncounted`].
    pub fn adopt(fd: OwnedFd) -> Result<Socket> {
        count()?;
        let socket = Socket { inner: socket2::Socket::from(fd), counted: true };
        // For whoever has the descriptor; everybody else asks not to wait with each call.
        let waits =
            socket.inner.set_nonblocking(false).and_then(|()| socket.inner.set_read_timeout(Some(LONGEST_WAIT)));
        waits.map_err(|error| Error::new(sqlstate::CONNECTION_FAILURE, format!("cannot set up a socket: {error}")))?;
        Ok(socket)
    }

    /// An end of a socket pair, in a process that is there for its sockets.
    pub fn uncounted(fd: OwnedFd) -> Socket {
        Socket { inner: socket2::Socket::from(fd), counted: false }
    }

    fn start(&self, address: &SockAddr, keepalive: &Keepalive) -> io::Result<()> {
        self.inner.set_nonblocking(true)?;
        if address.domain() != Domain::UNIX {
            self.inner.set_tcp_nodelay(true)?;
            self.keep_alive(keepalive)?;
        }
        match self.inner.connect(address) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            _ => Ok(()),
        }
    }

    fn keep_alive(&self, keepalive: &Keepalive) -> io::Result<()> {
        if keepalive.enabled {
            let seconds = |value: u32| Duration::from_secs(u64::from(value));
            let mut asked = TcpKeepalive::new();
            if keepalive.idle > 0 {
                asked = asked.with_time(seconds(keepalive.idle));
            }
            if keepalive.interval > 0 {
                asked = asked.with_interval(seconds(keepalive.interval));
            }
            if keepalive.count > 0 {
                asked = asked.with_retries(keepalive.count);
            }
            self.inner.set_tcp_keepalive(&asked)?;
        }
        #[cfg(target_os = "linux")]
        if keepalive.user_timeout > 0 {
            self.inner.set_tcp_user_timeout(Some(Duration::from_millis(u64::from(keepalive.user_timeout))))?;
        }
        Ok(())
    }

    /// What became of the attempt to connect; `false` if that is not known yet.
    pub fn connected(&self) -> io::Result<bool> {
        match (self.inner.take_error()?, self.inner.peer_addr()) {
            (Some(error), _) => Err(error),
            (None, Ok(_)) => Ok(true),
            (None, Err(error)) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            (None, Err(error)) => Err(error),
        }
    }

    pub fn fd(&self) -> RawFd {
        self.inner.as_raw_fd()
    }

    /// Ends the connection, also for duplicates of the descriptor in other processes.
    pub fn shut_down(&self) {
        let _ = self.inner.shutdown(Shutdown::Both);
    }

    /// The same, politely: the node's log has nothing to say about it.
    pub fn say_goodbye(&self) {
        let _ = self.send(&TERMINATE);
        self.shut_down();
    }

    /// Sends what fits; 0 if nothing does.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        without_waiting(|| self.inner.send_with_flags(bytes, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL))
            .map(Option::unwrap_or_default)
    }

    /// Receives what is here; `None` if nothing is, `Some(0)` at the end of the stream.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        without_waiting(|| receive(&self.inner, buffer, libc::MSG_DONTWAIT))
    }

    /// Waits for a moment ([`LONGEST_WAIT`]) and receives what comes; `None` if nothing does, or a signal ends the wait.
    pub fn receive_waiting(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match receive(&self.inner, buffer, 0) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
            result => result.map(Some),
        }
    }

    /// The socket as a stream, whose calls fail rather than wait.
    pub fn stream(&self) -> &socket2::Socket {
        &self.inner
    }

    /// The socket as something to wait for.
    pub fn source(&self, write: bool) -> Source {
        Source { fd: self.inner.as_raw_fd(), write }
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd()
    }
}

fn receive(socket: &socket2::Socket, buffer: &mut [u8], flags: i32) -> io::Result<usize> {
    // SAFETY: initialized bytes are fit to be written to, and stay initialized.
    let buffer = unsafe { &mut *(ptr::from_mut(buffer) as *mut [MaybeUninit<u8>]) };
    socket.recv_with_flags(buffer, flags)
}

/// Counts one more descriptor; released when the socket is dropped.
fn count() -> Result<()> {
    // SAFETY: a counter.
    if unsafe { pg_sys::AcquireExternalFD() } {
        return Ok(());
    }
    Err(Error::new(sqlstate::CONFIGURATION_LIMIT, "no file descriptor is left for a connection to a node")
        .hint("Raise max_files_per_process."))
}

/// `None` if the call would have waited.
fn without_waiting(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<Option<usize>> {
    loop {
        match call() {
            Ok(count) => return Ok(Some(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        wait::forget(self.inner.as_raw_fd());
        if self.counted {
            // SAFETY: a counter; raises no ERROR, so it may happen while unwinding.
            unsafe { ReleaseExternalFD() }
        }
    }
}
