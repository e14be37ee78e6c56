//! What the nodes must hear of a utility statement, as text and values: no Postgres here.
//!
//! Most DDL goes to the nodes in the words in which it was written. This module cuts those words out
//! of the client's string, fills in what Postgres chose by itself ([`text`]), and holds the rules:
//! which foreign keys can be kept ([`foreign_key`]), how the nodes' column statistics become one
//! ([`statistics`]).

pub mod foreign_key;
pub mod statistics;
pub mod text;
