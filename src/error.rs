//! Errors as values: what went wrong, with its SQLSTATE, before anybody reports it.
//!
//! A stage that cannot serve a request returns an [`Error`]; `pg::report` turns it into an
//! `ereport` once, at the border. Texts follow Postgres's message style: `message` is lower case
//! without a full stop, `detail` and `hint` are sentences.
//!
//! ```
//! use sharding::error::{Error, sqlstate};
//! let e = Error::new(sqlstate::FEATURE_NOT_SUPPORTED, "cannot shard a temporary table")
//!     .hint("Create the table without TEMPORARY.");
//! assert_eq!(e.code.as_str(), "0A000");
//! ```

use std::fmt;

/// A five-character SQLSTATE.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState([u8; 5]);

impl SqlState {
    /// The state named by `code`; anything that is not five ASCII characters becomes `XX000`.
    pub const fn new(code: &str) -> SqlState {
        let b = code.as_bytes();
        if b.len() == 5 { SqlState([b[0], b[1], b[2], b[3], b[4]]) } else { SqlState(*b"XX000") }
    }

    /// The five characters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XX000")
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The states that this extension raises by itself.
pub mod sqlstate {
    use super::SqlState;
    pub const SUCCESS: SqlState = SqlState::new("00000");
    pub const WARNING: SqlState = SqlState::new("01000");
    pub const CONNECTION_FAILURE: SqlState = SqlState::new("08006");
    pub const CONNECTION_UNABLE: SqlState = SqlState::new("08001");
    pub const PROTOCOL_VIOLATION: SqlState = SqlState::new("08P01");
    pub const FEATURE_NOT_SUPPORTED: SqlState = SqlState::new("0A000");
    pub const CARDINALITY_VIOLATION: SqlState = SqlState::new("21000");
    pub const INVALID_PARAMETER_VALUE: SqlState = SqlState::new("22023");
    pub const READ_ONLY_TRANSACTION: SqlState = SqlState::new("25006");
    pub const TRANSACTION_RESOLUTION_UNKNOWN: SqlState = SqlState::new("08007");
    pub const SERIALIZATION_FAILURE: SqlState = SqlState::new("40001");
    pub const TRANSACTION_ROLLBACK: SqlState = SqlState::new("40000");
    pub const INVALID_AUTHORIZATION: SqlState = SqlState::new("28000");
    pub const NOT_NULL_VIOLATION: SqlState = SqlState::new("23502");
    pub const CHECK_VIOLATION: SqlState = SqlState::new("23514");
    pub const INSUFFICIENT_PRIVILEGE: SqlState = SqlState::new("42501");
    pub const UNDEFINED_OBJECT: SqlState = SqlState::new("42704");
    pub const UNDEFINED_TABLE: SqlState = SqlState::new("42P01");
    pub const UNDEFINED_COLUMN: SqlState = SqlState::new("42703");
    pub const WRONG_OBJECT_TYPE: SqlState = SqlState::new("42809");
    pub const INVALID_TABLE_DEFINITION: SqlState = SqlState::new("42P16");
    pub const DATA_CORRUPTED: SqlState = SqlState::new("XX001");
    pub const DEPENDENT_OBJECTS: SqlState = SqlState::new("2BP01");
    pub const OBJECT_NOT_IN_PREREQUISITE_STATE: SqlState = SqlState::new("55000");
    pub const QUERY_CANCELED: SqlState = SqlState::new("57014");
    pub const TOO_MANY_CONNECTIONS: SqlState = SqlState::new("53300");
    pub const CANNOT_CONNECT_NOW: SqlState = SqlState::new("57P03");
    pub const LOCK_NOT_AVAILABLE: SqlState = SqlState::new("55P03");
    pub const DEADLOCK_DETECTED: SqlState = SqlState::new("40P01");
    pub const PROGRAM_LIMIT_EXCEEDED: SqlState = SqlState::new("54000");
    pub const CONFIGURATION_LIMIT: SqlState = SqlState::new("53400");
    pub const FDW_ERROR: SqlState = SqlState::new("HV000");
    pub const INTERNAL: SqlState = SqlState::new("XX000");
}

/// What went wrong, in the words the user will read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub code: SqlState,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
    /// Where it happened, e.g. `node "n1"`; shown as CONTEXT.
    pub context: Option<String>,
    /// The names a remote server attached: constraint, table, column (boxed: rarely there).
    pub names: Option<Box<ObjectNames>>,
}

/// What an error is about, as in the protocol's fields `s`, `t`, `c`, `d`, `n`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectNames {
    pub schema: Option<String>,
    pub table: Option<String>,
    pub column: Option<String>,
    pub datatype: Option<String>,
    pub constraint: Option<String>,
}

/// The result of everything that can fail in the way a user should read about.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn new(code: SqlState, message: impl Into<String>) -> Error {
        Error { code, message: message.into(), detail: None, hint: None, context: None, names: None }
    }

    /// SQLSTATE 0A000.
    pub fn unsupported(message: impl Into<String>) -> Error {
        Error::new(sqlstate::FEATURE_NOT_SUPPORTED, message)
    }

    pub fn detail(mut self, detail: impl Into<String>) -> Error {
        self.detail = Some(detail.into());
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hint = Some(hint.into());
        self
    }

    pub fn context(mut self, context: impl Into<String>) -> Error {
        self.context = Some(context.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code.as_str())
    }
}

impl std::error::Error for Error {}
