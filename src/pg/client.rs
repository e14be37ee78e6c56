//! Whole messages to the client, past Postgres's own buffer.
//!
//! That buffer takes 8 kB, and a message at a time: for a large result, three copies per row and a system call every
//! 8 kB. What is large already goes out as it is, behind what the buffer still has; what is small is left to the buffer,
//! to leave with the end of the answer in one packet.

use crate::pg::guard::boundary;
use crate::pg::utility::raw;
use pgrx::pg_sys;
use std::ffi::{c_int, c_void};
use std::io;

/// Less than this goes through the buffer.
pub const LARGE: usize = 8 * 1024;

unsafe extern "C-unwind" {
    fn secure_write(port: *mut pg_sys::Port, data: *const c_void, length: usize) -> isize;
}

/// Sends messages, each with tag and length; waits if the client does not read. A client that is gone is noticed at the
/// next interrupt, as with Postgres's own functions.
pub fn send(messages: &[u8]) {
    // SAFETY: the client's port lives as long as the backend; closures own nothing.
    unsafe {
        let port = pg_sys::MyProcPort;
        if messages.len() < LARGE || port.is_null() {
            return send_one_by_one(messages);
        }
        // Also sets the socket to wait.
        if boundary(|| ((*raw::PqCommMethods).flush)()) != 0 {
            return;
        }
        let mut rest = messages;
        while !rest.is_empty() {
            let (data, length) = (rest.as_ptr().cast(), rest.len());
            let sent = boundary(|| secure_write(port, data, length));
            if sent > 0 {
                rest = &rest[sent as usize..];
            } else if io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
                pg_sys::ClientConnectionLost = 1;
                pg_sys::InterruptPending = 1;
                return;
            }
        }
    }
}

fn send_one_by_one(messages: &[u8]) {
    let mut rest = messages;
    while let Some((kind, [a, b, c, d, behind @ ..])) = rest.split_first() {
        let length = (u32::from_be_bytes([*a, *b, *c, *d]) as usize).saturating_sub(4).min(behind.len());
        let (body, next) = behind.split_at(length);
        send_one(*kind, body);
        rest = next;
    }
}

/// Puts a message into the buffer, which is sent when it is full.
pub fn send_one(kind: u8, body: &[u8]) {
    let length = body.len() as c_int;
    // SAFETY: the body is only read; `cursor` carries the message's type. The closure owns nothing.
    unsafe {
        let mut message = pg_sys::StringInfoData {
            data: body.as_ptr().cast_mut().cast(),
            len: length,
            maxlen: length,
            cursor: c_int::from(kind),
        };
        let message = &raw mut message;
        boundary(|| raw::pq_endmessage_reuse(message));
    }
}
