//! Waiting for many descriptors: an epoll set, itself a descriptor to wait for.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    Read,
    Write,
    ReadWrite,
    /// That the other side goes away. Data that arrives does not count: somebody else reads it.
    HangUp,
}

impl Interest {
    fn events(self) -> u32 {
        let events = match self {
            Interest::Read => libc::EPOLLIN,
            Interest::Write => libc::EPOLLOUT,
            Interest::ReadWrite => libc::EPOLLIN | libc::EPOLLOUT,
            Interest::HangUp => libc::EPOLLRDHUP | libc::EPOLLET,
        };
        events as u32
    }
}

pub struct Poll {
    epoll: OwnedFd,
}

impl Poll {
    pub fn new() -> io::Result<Poll> {
        // SAFETY: a new descriptor belongs to nobody else.
        unsafe {
            let fd = libc::epoll_create1(libc::EPOLL_CLOEXEC);
            if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(Poll { epoll: OwnedFd::from_raw_fd(fd) }) }
        }
    }

    /// The set as something to wait for: readable when one of its descriptors is ready.
    pub fn fd(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }

    pub fn add(&self, fd: RawFd, interest: Interest, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, interest, token)
    }

    pub fn modify(&self, fd: RawFd, interest: Interest, token: u64) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, interest, token)
    }

    /// Must be called before a descriptor is closed of which other processes have duplicates.
    pub fn remove(&self, fd: RawFd) {
        let _ = self.control(libc::EPOLL_CTL_DEL, fd, Interest::Read, 0);
    }

    fn control(&self, operation: i32, fd: RawFd, interest: Interest, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest.events(), u64: token };
        // SAFETY: the event is read during the call.
        match unsafe { libc::epoll_ctl(self.fd(), operation, fd, &mut event) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The tokens of what is ready now.
    pub fn ready(&self) -> Vec<u64> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
        // SAFETY: room for that many events.
        let count = unsafe { libc::epoll_wait(self.fd(), events.as_mut_ptr(), events.len() as i32, 0) };
        events[..usize::try_from(count).unwrap_or(0)].iter().map(|event| event.u64).collect()
    }
}

/// What a set knows of a descriptor whose interest changes.
#[derive(Debug, Default)]
pub struct Watch {
    known: Option<(RawFd, Interest)>,
}

impl Watch {
    /// Tells the set if it does not know; again at the next call if that fails.
    pub fn update(&mut self, poll: &Poll, fd: RawFd, interest: Interest, token: u64) {
        if self.known == Some((fd, interest)) {
            return;
        }
        let told = match self.known {
            Some((known, _)) if known == fd => poll.modify(fd, interest, token),
            _ => poll.add(fd, interest, token).or_else(|_| poll.modify(fd, interest, token)),
        };
        self.known = told.ok().map(|()| (fd, interest));
    }

    /// The descriptor is open, and nothing is to be heard of it: not even that the other side has gone, which
    /// a set tells unasked.
    pub fn stop(&mut self, poll: &Poll) {
        if let Some((fd, _)) = self.known.take() {
            poll.remove(fd);
        }
    }

    /// The descriptor was closed.
    pub fn forget(&mut self) {
        self.known = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    #[test]
    fn data_is_not_a_hang_up() {
        let poll = Poll::new().unwrap();
        let (a, mut b) = UnixStream::pair().unwrap();
        poll.add(a.as_raw_fd(), Interest::HangUp, 5).unwrap();
        b.write_all(b"x").unwrap();
        assert_eq!(poll.ready(), [0; 0]);
        drop(b);
        assert_eq!(poll.ready(), [5]);
        assert_eq!(poll.ready(), [0; 0], "said once");
        poll.modify(a.as_raw_fd(), Interest::Read, 6).unwrap();
        assert_eq!(poll.ready(), [6]);
        poll.remove(a.as_raw_fd());
        assert_eq!(poll.ready(), [0; 0]);
    }
}
