//! The conversation with a node over the wire protocol, without any IO.
//!
//! [`startup::Startup`] authenticates, [`conversation::Conversation`] pipelines requests and hands
//! each reply to the task that asked for it. Both eat bytes (`receive`) and leave bytes to be sent
//! (`output`); who moves them, and how long to wait, is the caller's business (`pg::connection`).
//!
//! ```
//! use sharding::wire::conversation::Conversation;
//! let mut talk = Conversation::new();
//! let task = talk.query("BEGIN", "SELECT 1").unwrap();
//! assert!(!talk.output().is_empty());
//! // CommandComplete "BEGIN", ReadyForQuery, then those of the SELECT
//! talk.receive(b"C\0\0\0\x0aBEGIN\0Z\0\0\0\x05T").unwrap();
//! talk.receive(b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05T").unwrap();
//! assert_eq!(talk.take(task).unwrap().affected, 1);
//! ```

pub mod array;
pub mod conversation;
pub mod prepared;
pub mod report;
pub mod row;
pub mod run;
pub mod startup;
pub mod statement;
pub mod tag;

use crate::error::{Error, sqlstate};
use std::io;

/// What a malformed message, from the node or to it, is reported as.
fn protocol_error(error: io::Error) -> Error {
    Error::new(sqlstate::PROTOCOL_VIOLATION, format!("malformed message: {error}"))
}
