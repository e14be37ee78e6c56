//! SQL in this database, from inside a function: text in, text out, errors whole.

use crate::pg::guard::boundary;
use pgrx::pg_sys;
use std::ffi::{CStr, CString, c_char, c_int, c_long};

unsafe extern "C-unwind" {
    fn SPI_connect() -> c_int;
    fn SPI_execute(source: *const c_char, read_only: bool, count: c_long) -> c_int;
    fn SPI_finish() -> c_int;
    fn SPI_getvalue(tuple: pg_sys::HeapTuple, description: pg_sys::TupleDesc, column: c_int) -> *mut c_char;
}

/// Runs one or more statements; the rows of the last as text, NULL as `None`.
pub fn run(sql: &str) -> Vec<Vec<Option<String>>> {
    execute(sql, false)
}

/// What a query finds that changes nothing, as of now, also where the transaction keeps its first
/// snapshot. Possible in the middle of a statement.
pub fn read_now(sql: &str) -> Vec<Vec<Option<String>>> {
    // SAFETY: pushed and popped in pairs; after an ERROR the end of the (sub)transaction pops it.
    unsafe {
        pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
        let rows = execute(sql, true);
        pg_sys::PopActiveSnapshot();
        rows
    }
}

fn execute(sql: &str, read_only: bool) -> Vec<Vec<Option<String>>> {
    let sql = CString::new(sql).unwrap_or_default();
    let source = sql.as_ptr();
    // SAFETY: the text outlives the call; an ERROR leaves as a panic, and the end of the
    // (sub)transaction then ends the SPI connection.
    unsafe {
        boundary(|| {
            SPI_connect();
            SPI_execute(source, read_only, 0)
        });
        let rows = read_result();
        boundary(|| SPI_finish());
        rows
    }
}

unsafe fn read_result() -> Vec<Vec<Option<String>>> {
    // SAFETY: the tuple table belongs to the SPI connection that is still open.
    unsafe {
        let table = pg_sys::SPI_tuptable;
        if table.is_null() {
            return Vec::new();
        }
        let description = (*table).tupdesc;
        let columns = (*description).natts;
        (0..pg_sys::SPI_processed as usize)
            .map(|i| {
                let tuple = *(*table).vals.add(i);
                (1..=columns)
                    .map(|column| {
                        let value = boundary(|| SPI_getvalue(tuple, description, column));
                        (!value.is_null()).then(|| CStr::from_ptr(value).to_string_lossy().into_owned())
                    })
                    .collect()
            })
            .collect()
    }
}

/// The first column of the first row.
pub fn value(sql: &str) -> Option<String> {
    run(sql).into_iter().next()?.into_iter().next()?
}
