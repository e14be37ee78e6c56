//! The bytes that a COPY FROM reads: of a file, of a program's output, of the client.
//!
//! ```ignore
//! let mut source = Source::open(statement, columns, binary)?;
//! while source.read(&mut bytes)? { ... }   // false: that was all
//! source.close(true)?;
//! ```

use crate::error::{Error, Result, SqlState, sqlstate};
use crate::pg::guard::boundary;
use crate::pg::utility::{raw, tree};
use pgrx::pg_sys;
use std::ffi::{OsStr, c_char, c_int};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;

/// What is read at once from a file or program, and about as much from a client.
const PIECE: usize = 256 * 1024;
const CLIENT_PIECE: usize = 64 * 1024;
/// The most that a message with data, or without, may have (libpq/libpq.h).
const LARGE_MESSAGE: c_int = 0x3fff_fffe;
const SMALL_MESSAGE: c_int = 10_000;

/// Where the input comes from.
pub enum Source {
    File(File),
    Program { stream: *mut pg_sys::FILE, command: String },
    Client { message: pg_sys::StringInfo, ended: bool },
}

impl Source {
    /// Opens what the statement names; tells a client to begin. `None` if it cannot be opened: Postgres knows the words
    /// for it.
    ///
    /// # Safety
    /// The statement lives.
    pub unsafe fn open(statement: *mut pg_sys::CopyStmt, columns: i16, binary: bool) -> Result<Option<Source>> {
        // SAFETY: the name is NUL-terminated; closures own nothing.
        unsafe {
            let name = (*statement).filename;
            if name.is_null() {
                if pg_sys::whereToSendOutput != pg_sys::CommandDest::DestRemote {
                    return Ok(None);
                }
                return ask_client(columns, binary).map(Some);
            }
            let text = tree::text(name);
            if (*statement).is_program {
                let stream = boundary(|| raw::OpenPipeStream(name, c"r".as_ptr()));
                return Ok((!stream.is_null()).then_some(Source::Program { stream, command: text }));
            }
            let path = OsStr::from_bytes(std::ffi::CStr::from_ptr(name).to_bytes());
            let file = File::open(path).ok().filter(|file| file.metadata().is_ok_and(|found| !found.is_dir()));
            Ok(file.map(Source::File))
        }
    }

    /// The kind, for `pg_stat_progress_copy`.
    pub fn progress_type(&self) -> u32 {
        match self {
            Source::File(_) => pg_sys::PROGRESS_COPY_TYPE_FILE,
            Source::Program { .. } => pg_sys::PROGRESS_COPY_TYPE_PROGRAM,
            Source::Client { .. } => pg_sys::PROGRESS_COPY_TYPE_PIPE,
        }
    }

    /// The size of a file.
    pub fn size(&self) -> u64 {
        match self {
            Source::File(file) => file.metadata().map_or(0, |found| found.len()),
            _ => 0,
        }
    }

    /// Appends what comes next; whether there may be more.
    pub fn read(&mut self, into: &mut Vec<u8>) -> Result<bool> {
        match self {
            Source::File(file) => read_some(into, |space| file.read(space)),
            Source::Program { stream, .. } => {
                // SAFETY: the stream is open until `close`; nothing else reads from its descriptor.
                let fd = unsafe { libc::fileno(stream.cast()) };
                read_some(into, |space| match unsafe { libc::read(fd, space.as_mut_ptr().cast(), space.len()) } {
                    count if count >= 0 => Ok(count as usize),
                    _ => Err(io::Error::last_os_error()),
                })
            }
            Source::Client { message, ended } => {
                let enough = into.len() + CLIENT_PIECE;
                while !*ended && into.len() < enough {
                    *ended = !read_message(*message, into)?;
                }
                Ok(!*ended)
            }
        }
    }

    /// Ends the reading; `exhausted` unless an end marker came first.
    pub fn close(&mut self, exhausted: bool) -> Result<()> {
        if let Source::Client { .. } = self {
            // What a client sends behind an end marker belongs to this COPY still.
            let mut ignored = Vec::new();
            while self.read(&mut ignored)? {
                ignored.clear();
            }
        }
        let Source::Program { stream, command } = self else { return Ok(()) };
        let stream = *stream;
        // SAFETY: opened by `open`.
        unsafe {
            let status = pg_sys::ClosePipeStream(stream);
            if status == 0 || (!exhausted && pg_sys::wait_result_is_signal(status, libc::SIGPIPE)) {
                return Ok(());
            }
            if status == -1 {
                let error = io::Error::last_os_error();
                return Err(unreadable("could not close pipe to external command", &error));
            }
            let text = boundary(|| pg_sys::wait_result_to_str(status));
            Err(Error::new(SqlState::new("38000"), format!("program \"{command}\" failed")).detail(tree::text(text)))
        }
    }
}

fn read_some(into: &mut Vec<u8>, mut read: impl FnMut(&mut [u8]) -> io::Result<usize>) -> Result<bool> {
    let known = into.len();
    into.resize(known + PIECE, 0);
    loop {
        crate::pg::wait::check_interrupts();
        match read(&mut into[known..]) {
            Ok(count) => {
                into.truncate(known + count);
                return Ok(count > 0);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable("could not read from COPY file", &error)),
        }
    }
}

/// `message` with the system's reason.
fn unreadable(message: &str, error: &io::Error) -> Error {
    let code = match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM | libc::EROFS) => sqlstate::INSUFFICIENT_PRIVILEGE,
        Some(libc::EISDIR | libc::ENOTDIR) => sqlstate::WRONG_OBJECT_TYPE,
        Some(libc::EIO) => SqlState::new("58030"),
        _ => sqlstate::INTERNAL,
    };
    let reason = error.to_string();
    // Rust adds the number, Postgres does not.
    let reason = reason.split(" (os error").next().unwrap_or_default();
    Error::new(code, format!("{message}: {reason}"))
}

/// CopyInResponse: the client may send.
unsafe fn ask_client(columns: i16, binary: bool) -> Result<Source> {
    let format = i16::from(binary);
    let mut body = vec![format as u8];
    body.extend_from_slice(&columns.to_be_bytes());
    for _ in 0..columns {
        body.extend_from_slice(&format.to_be_bytes());
    }
    let (data, length) = (body.as_ptr(), body.len() as c_int);
    // SAFETY: the buffers are palloc'd in the statement's context; the closure owns nothing.
    unsafe {
        let message = boundary(|| {
            let message = pg_sys::makeStringInfo();
            raw::pq_beginmessage(message, b'G' as c_char);
            raw::pq_sendbytes(message, data.cast(), length);
            raw::pq_endmessage(message);
            ((*raw::PqCommMethods).flush)();
            pg_sys::makeStringInfo()
        });
        Ok(Source::Client { message, ended: false })
    }
}

/// Takes one message of the client; `false` at the end of the data.
fn read_message(message: pg_sys::StringInfo, into: &mut Vec<u8>) -> Result<bool> {
    const LOST: c_int = -1;
    // SAFETY: as copyfromparse.c: a cancel must not come between the parts of a message. The closure owns nothing.
    let (kind, complete) = unsafe {
        boundary(|| {
            pg_sys::QueryCancelHoldoffCount += 1;
            raw::pq_startmsgread();
            let kind = raw::pq_getbyte();
            let most = match kind as u8 {
                b'd' => LARGE_MESSAGE,
                b'c' | b'f' | b'H' | b'S' => SMALL_MESSAGE,
                _ => return (kind, true),
            };
            let complete = kind != LOST && raw::pq_getmessage(message, most) == 0;
            pg_sys::QueryCancelHoldoffCount -= 1;
            (kind, complete)
        })
    };
    if kind == LOST || !complete {
        let text = "unexpected EOF on client connection with an open transaction";
        return Err(Error::new(sqlstate::CONNECTION_FAILURE, text));
    }
    // SAFETY: the message is complete.
    let body = unsafe { std::slice::from_raw_parts((*message).data.cast::<u8>(), (*message).len as usize) };
    match kind as u8 {
        b'd' => into.extend_from_slice(body),
        b'c' => return Ok(false),
        b'f' => {
            let reason = String::from_utf8_lossy(body.strip_suffix(b"\0").unwrap_or(body));
            return Err(Error::new(SqlState::new("57014"), format!("COPY from stdin failed: {reason}")));
        }
        b'H' | b'S' => {}
        _ => {
            let text = format!("unexpected message type 0x{kind:02X} during COPY from stdin");
            return Err(Error::new(sqlstate::PROTOCOL_VIOLATION, text));
        }
    }
    Ok(true)
}
