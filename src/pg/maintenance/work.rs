//! A piece of a background process's work, in a transaction of its own.

use crate::error::Result;
use crate::pg::{guard, report};
use pgrx::pg_sys;

/// Runs `body` in a transaction; if it fails, the transaction is rolled back and the process goes on.
pub fn transaction<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    let result = guard::caught(|| {
        // SAFETY: the process is connected and in no transaction.
        unsafe {
            pg_sys::SetCurrentStatementStartTimestamp();
            pg_sys::StartTransactionCommand();
        }
        let value = body()?;
        // SAFETY: ends what was started above.
        unsafe {
            pg_sys::CommitTransactionCommand();
            pg_sys::pgstat_report_stat(false);
        }
        Ok(value)
    });
    if result.is_err() {
        // SAFETY: releases what the transaction held, in whatever state it is.
        let aborted = guard::caught(|| {
            unsafe { pg_sys::AbortCurrentTransaction() };
            Ok(())
        });
        if let Err(error) = aborted {
            report::log(&error);
        }
    }
    result
}
