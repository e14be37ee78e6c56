//! Bytes set aside in a temporary file, and read back from the start.
//!
//! ```ignore
//! let mut spill = Spill::create();
//! spill.write(b"row");
//! spill.rewind();
//! let count = spill.read(&mut buffer);
//! ```
//!
//! The file counts for `temp_file_limit` and `log_temp_files`, and goes with the transaction at the latest.

use crate::pg::guard::boundary;
use pgrx::pg_sys;
use std::panic::{catch_unwind, resume_unwind};

/// A file that its maker writes to its end, then reads.
#[derive(Debug)]
pub struct Spill(*mut pg_sys::BufFile);

impl Spill {
    /// Lives in the current memory context.
    pub fn create() -> Spill {
        // SAFETY: the closure owns nothing.
        Spill(unsafe { boundary(|| pg_sys::BufFileCreateTemp(false)) })
    }

    /// Lives until the transaction ends, whatever ends before; it has to be closed if it commits.
    pub fn create_for_transaction() -> Spill {
        // SAFETY: the owner is there as long as the transaction; both variables are put back, by an ERROR's way too.
        unsafe {
            let owner = pg_sys::CurrentResourceOwner;
            let memory = pg_sys::MemoryContextSwitchTo(pg_sys::TopTransactionContext);
            pg_sys::CurrentResourceOwner = pg_sys::TopTransactionResourceOwner;
            let created = catch_unwind(Spill::create);
            pg_sys::CurrentResourceOwner = owner;
            pg_sys::MemoryContextSwitchTo(memory);
            created.unwrap_or_else(|payload| resume_unwind(payload))
        }
    }

    pub fn write(&mut self, bytes: &[u8]) {
        let file = self.0;
        // SAFETY: the file is open; the bytes are only read.
        unsafe { boundary(|| pg_sys::BufFileWrite(file, bytes.as_ptr().cast_mut().cast(), bytes.len())) }
    }

    /// What is read next is what was written first.
    pub fn rewind(&mut self) {
        let file = self.0;
        // SAFETY: the file is open; its start is there.
        unsafe { boundary(|| pg_sys::BufFileSeek(file, 0, 0, libc::SEEK_SET)) };
    }

    /// Fills the buffer as far as there is something; how far.
    pub fn read(&mut self, buffer: &mut [u8]) -> usize {
        let file = self.0;
        let (start, length) = (buffer.as_mut_ptr().cast(), buffer.len());
        // SAFETY: the file is open; the buffer is as long as it says.
        unsafe { boundary(|| pg_sys::BufFileRead(file, start, length)) }
    }

    pub fn close(self) {
        let file = self.0;
        // SAFETY: opened by `create`.
        unsafe { boundary(|| pg_sys::BufFileClose(file)) }
    }
}
