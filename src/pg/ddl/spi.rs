//! Catalog questions in SQL, answers as text: `rows("SELECT relname FROM pg_class ...")`.
//!
//! For DDL paths, where clarity beats the microseconds. Callers hold a
//! [`TransmissionMode`](crate::pg::codec::TransmissionMode), whose `search_path = pg_catalog` makes
//! Postgres print every other name qualified.

use crate::error::{Error, Result, sqlstate};
use pgrx::pg_sys;
use std::ffi::{CStr, CString};

/// One row: a column is `None` when NULL.
pub type TextRow = Vec<Option<String>>;

/// Runs a statement and returns its rows as text (none for a statement without a result).
pub fn rows(sql: &str) -> Result<Vec<TextRow>> {
    let sql = CString::new(sql).map_err(|_| Error::new(sqlstate::INTERNAL, "zero byte in a catalog query"))?;
    // SAFETY: SPI's memory is read before SPI_finish; an ERROR unwinds and the abort cleans SPI up.
    unsafe {
        if pg_sys::SPI_connect() != pg_sys::SPI_OK_CONNECT as i32 {
            return Err(Error::new(sqlstate::INTERNAL, "cannot connect to SPI"));
        }
        let code = pg_sys::SPI_execute(sql.as_ptr(), false, 0);
        if code < 0 {
            return Err(Error::new(sqlstate::INTERNAL, format!("SPI error {code}")));
        }
        let mut result = Vec::new();
        let table = pg_sys::SPI_tuptable;
        if !table.is_null() {
            let width = (*(*table).tupdesc).natts;
            for i in 0..(*table).numvals as usize {
                let tuple = *(*table).vals.add(i);
                let column = |c: i32| {
                    let text = pg_sys::SPI_getvalue(tuple, (*table).tupdesc, c);
                    (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
                };
                result.push((1..=width).map(column).collect());
            }
        }
        pg_sys::SPI_finish();
        Ok(result)
    }
}

/// The first row, if there is one.
pub fn row(sql: &str) -> Result<Option<TextRow>> {
    Ok(rows(sql)?.into_iter().next())
}

/// The first column of the first row; `None` for no row and for NULL.
pub fn value(sql: &str) -> Result<Option<String>> {
    Ok(row(sql)?.and_then(|r| r.into_iter().next().flatten()))
}

/// The first column of every row, NULLs left out.
pub fn column(sql: &str) -> Result<Vec<String>> {
    Ok(rows(sql)?.into_iter().filter_map(|r| r.into_iter().next().flatten()).collect())
}

/// A column of a row that the query never returns as NULL.
pub fn text(row: &TextRow, index: usize) -> &str {
    row.get(index).and_then(|c| c.as_deref()).unwrap_or("")
}

/// A boolean column.
pub fn flag(row: &TextRow, index: usize) -> bool {
    text(row, index) == "t"
}
