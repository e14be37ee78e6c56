//! COPY FROM without parsing: raw input is cut into records, the shard key is found in each, and the bytes go on as
//! they are.
//!
//! ```text
//! 7\tseven\n8\teight\n   [`lines`] -> "7\tseven\n", "8\teight\n"
//!                        [`field`] -> "7", "8"            (hashed: [`key_hash`], or Postgres)
//!                        node 1 gets "7\tseven\n", node 2 "8\teight\n"
//! ```
//!
//! Whatever is wrong with a record (fields missing, quotes not closed, a newline of another style) is left to the node
//! that gets it: its own COPY finds the same fault, and [`line_map`] puts the input's line number into its words.
//!
//! - [`lines`]: text and CSV into records
//! - [`field`]: a record's key
//! - [`binary`]: the same two for the binary format
//! - [`encode`]: a record of text or CSV in binary, with [`binary_form`] for each value
//! - [`key_hash`]: the hash of the commonest keys
//! - [`line_map`]: which line of the input a node's line was
//! - [`recent`]: the text of records that went in binary, for errors
//! - [`lanes`]: which records go to which node
//!
//! The other way, rows that nodes send become lines for the client: [`output`].

pub mod binary;
pub mod binary_form;
pub mod encode;
pub mod field;
pub mod key_hash;
pub mod lanes;
pub mod line_map;
pub mod lines;
pub mod output;
pub mod recent;
#[cfg(test)]
mod reference;

/// How text and CSV are written; all marks are single bytes of the database's encoding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Style {
    pub delimiter: u8,
    pub null: Vec<u8>,
    /// `None` is the text format.
    pub csv: Option<Csv>,
}

/// What CSV has beyond text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Csv {
    pub quote: u8,
    pub escape: u8,
    /// The key is never NULL, whatever it looks like.
    pub key_force_not_null: bool,
    /// The key is NULL also if its null marker is quoted.
    pub key_force_null: bool,
}

/// What `\.` means; it changed from version to version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// A line `\.` ends a CSV input (before 18).
    pub ends_csv: bool,
    /// In text, `a\.` at the end of a line is a last row `a` (before 18), else an error.
    pub may_follow_data: bool,
}

/// What a record says of the shard key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Null,
    /// The value is at the end of the buffer that the caller gave.
    Value,
    /// The record is malformed: the node will say how.
    Malformed,
}
