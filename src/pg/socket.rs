//! A non-blocking stream socket, over TCP or a Unix socket, counted among the backend's descriptors.

use crate::error::{Error, Result, sqlstate};
use crate::pg::wait::{self, Source};
use pgrx::pg_sys;
use socket2::{Domain, SockAddr, TcpKeepalive, Type};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::time::Duration;

unsafe extern "C-unwind" {
    fn ReleaseExternalFD();
}

/// Silence after which the kernel asks whether the other side is alive.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// Sent data that nobody acknowledges for so long breaks the connection.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

pub struct Socket {
    inner: socket2::Socket,
}

impl Socket {
    /// Starts to connect; done when the socket becomes writable, see [`Socket::connected`].
    pub fn connect(address: &SockAddr) -> Result<io::Result<Socket>> {
        // SAFETY: counts descriptors; released in `drop`.
        if !unsafe { pg_sys::AcquireExternalFD() } {
            return Err(Error::new(
                sqlstate::CONFIGURATION_LIMIT,
                "no file descriptor is left for a connection to a node",
            )
            .hint("Raise max_files_per_process."));
        }
        let socket = match socket2::Socket::new(address.domain(), Type::STREAM, None) {
            Ok(inner) => Socket { inner },
            Err(error) => {
                // SAFETY: takes back the one above.
                unsafe { ReleaseExternalFD() };
                return Ok(Err(error));
            }
        };
        Ok(socket.start(address).map(|()| socket))
    }

    fn start(&self, address: &SockAddr) -> io::Result<()> {
        self.inner.set_nonblocking(true)?;
        if address.domain() != Domain::UNIX {
            self.inner.set_tcp_nodelay(true)?;
            self.inner
                .set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL))?;
            #[cfg(target_os = "linux")]
            self.inner.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
        }
        match self.inner.connect(address) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
            _ => Ok(()),
        }
    }

    /// What became of the attempt to connect, once the socket is writable.
    pub fn connected(&self) -> io::Result<()> {
        match self.inner.take_error()? {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Sends what fits; 0 if nothing does.
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        without_waiting(|| (&self.inner).write(bytes)).map(Option::unwrap_or_default)
    }

    /// Receives what is here; `None` if nothing is, `Some(0)` at the end of the stream.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        without_waiting(|| (&self.inner).read(buffer))
    }

    /// The socket as something to wait for.
    pub fn source(&self, write: bool) -> Source {
        Source { fd: self.inner.as_raw_fd(), write }
    }
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
        // SAFETY: a counter; raises no ERROR, so it may happen while unwinding.
        unsafe { ReleaseExternalFD() }
    }
}
