//! Descriptors and credentials over Unix sockets.

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Room for one descriptor as ancillary data, aligned for `cmsghdr`.
#[repr(align(8))]
struct Ancillary([u8; 64]);

/// Sends bytes, and with them a duplicate of `passed`. As much as fits without waiting.
pub fn send(socket: &impl AsRawFd, bytes: &[u8], passed: Option<RawFd>) -> io::Result<usize> {
    let mut ancillary = Ancillary([0; 64]);
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: the message points to locals that outlive the call; CMSG_* compute within `ancillary`,
    // which has room for one descriptor.
    let sent = unsafe {
        let mut message: libc::msghdr = zeroed();
        message.msg_iov = &mut part;
        message.msg_iovlen = 1;
        if let Some(fd) = passed {
            message.msg_control = ancillary.0.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(size_of::<RawFd>() as u32) as _;
            let header = libc::CMSG_FIRSTHDR(&message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(size_of::<RawFd>() as u32) as _;
            libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(fd);
        }
        libc::sendmsg(socket.as_raw_fd(), &message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Receives what is here and a descriptor that came with it; `None` if nothing is here, 0 bytes at
/// the end.
pub fn receive(socket: &impl AsRawFd, buffer: &mut [u8]) -> io::Result<Option<(usize, Option<OwnedFd>)>> {
    let mut ancillary = Ancillary([0; 64]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: as above; a descriptor that is received belongs to nobody else.
    unsafe {
        let mut message: libc::msghdr = zeroed();
        message.msg_iov = &mut part;
        message.msg_iovlen = 1;
        message.msg_control = ancillary.0.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(size_of::<RawFd>() as u32) as _;
        let received = libc::recvmsg(socket.as_raw_fd(), &mut message, libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC);
        let Ok(received) = usize::try_from(received) else {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error),
            };
        };
        let header = libc::CMSG_FIRSTHDR(&message);
        let passed =
            !header.is_null() && (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS;
        let fd = passed.then(|| OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<RawFd>().read_unaligned()));
        Ok(Some((received, fd)))
    }
}

/// The process on the other side, if it runs as the same user as this one.
pub fn trusted_peer(socket: &impl AsRawFd) -> Option<u32> {
    // SAFETY: the kernel fills a struct of the size it is told.
    unsafe {
        let mut peer: libc::ucred = zeroed();
        let mut length = size_of::<libc::ucred>() as libc::socklen_t;
        let got = libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &mut length,
        );
        (got == 0 && peer.uid == libc::geteuid()).then_some(peer.pid as u32)
    }
}

/// Lets this process open as many descriptors as it is allowed to.
pub fn raise_limit() {
    // SAFETY: reads and writes a struct of this function.
    unsafe {
        let mut limit: libc::rlimit = zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_descriptor_arrives_as_another_one_of_the_same_socket() {
        let (mut here, there) = UnixStream::pair().unwrap();
        let (a, b) = UnixStream::pair().unwrap();
        assert!(receive(&b, &mut [0; 8]).unwrap().is_none());
        assert_eq!(send(&a, b"take", Some(there.as_raw_fd())).unwrap(), 4);
        assert_eq!(send(&a, b"none", None).unwrap(), 4);
        let mut buffer = [0; 4];
        let (count, fd) = receive(&b, &mut buffer).unwrap().unwrap();
        assert_eq!(&buffer[..count], b"take");
        let mut copy = UnixStream::from(fd.unwrap());
        drop(there);
        here.write_all(b"x").unwrap();
        let mut one = [0];
        copy.read_exact(&mut one).unwrap();
        assert_eq!(&one, b"x");
        assert!(receive(&b, &mut buffer).unwrap().unwrap().1.is_none());
        drop(a);
        assert_eq!(receive(&b, &mut buffer).unwrap().unwrap().0, 0);
    }

    #[test]
    fn the_other_side_is_known() {
        let (a, _b) = UnixStream::pair().unwrap();
        assert_eq!(trusted_peer(&a), Some(std::process::id()));
    }
}
