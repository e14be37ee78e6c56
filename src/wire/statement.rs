//! What is asked of a node: a statement, its parameters, how its rows are fetched.

use crate::error::{Error, Result};
use crate::wire::protocol_error;
use bytes::{BufMut, BytesMut};
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend::{self, BindError};

/// A value for `$n`.
#[derive(Clone, Debug, Default)]
pub struct Param {
    /// The type; 0 lets the node infer it.
    pub oid: u32,
    /// Whether `value` is in the type's binary format.
    pub binary: bool,
    /// The bytes; `None` is NULL.
    pub value: Option<Vec<u8>>,
}

/// One statement for the extended protocol.
#[derive(Clone, Copy, Debug)]
pub struct Statement<'a> {
    pub sql: &'a str,
    pub params: &'a [Param],
    /// Per column whether its values shall come in binary; empty: all as text.
    pub result_binary: &'a [bool],
    /// Whether the same text will be sent again: the connection keeps it prepared under this hash
    /// of the text and the types of the parameters and columns.
    pub keep: Option<u64>,
    /// Whether the node shall say at once that its snapshot is taken, not only with the first rows.
    pub report_bound: bool,
}

/// How the rows of a result are fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetch {
    /// At once. Rows that nobody takes stay in the socket, unless another statement needs the
    /// connection: then they are set aside in memory.
    All,
    /// Page by page of about a megabyte, the next one when asked for: several results may be open
    /// on one connection, and none takes more memory than a page.
    Pages,
}

/// Appends the Parse of a statement to be known as `name` (`""`: until the next one).
pub fn write_parse(statement: &Statement, name: &str, output: &mut BytesMut) -> Result<()> {
    let types = statement.params.iter().map(|p| p.oid);
    frontend::parse(name, statement.sql, types, output).map_err(protocol_error)
}

/// Appends the Bind of a statement known as `name` to a named or unnamed (`""`) portal.
pub fn write_bind(statement: &Statement, name: &str, portal: &str, output: &mut BytesMut) -> Result<()> {
    frontend::bind(
        portal,
        name,
        statement.params.iter().map(|p| i16::from(p.binary)),
        statement.params,
        |param, buffer| {
            Ok(match &param.value {
                None => IsNull::Yes,
                Some(value) => {
                    buffer.put_slice(value);
                    IsNull::No
                }
            })
        },
        statement.result_binary.iter().map(|b| i16::from(*b)),
        output,
    )
    .map_err(|error| match error {
        BindError::Serialization(error) => protocol_error(error),
        BindError::Conversion(error) => Error::new(crate::error::sqlstate::PROTOCOL_VIOLATION, error.to_string()),
    })
}
