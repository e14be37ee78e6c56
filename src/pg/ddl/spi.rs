//! Catalog questions in SQL, answers as text: `rows("SELECT relname FROM pg_class ...")`.
//!
//! For DDL paths, where clarity beats the microseconds. Callers hold a
//! [`TransmissionMode`](crate::pg::codec::TransmissionMode), whose `search_path = pg_catalog` makes
//! Postgres print every other name qualified.

use crate::error::Result;

/// One row: a column is `None` when NULL.
pub type TextRow = Vec<Option<String>>;

/// Runs a statement and returns its rows as text (none for a statement without a result).
pub fn rows(sql: &str) -> Result<Vec<TextRow>> {
    Ok(crate::pg::spi::run(sql))
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
