//! The SQL functions, by noun.

pub mod table;
