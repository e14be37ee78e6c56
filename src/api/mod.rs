//! The SQL functions, by noun.

pub mod table;
pub mod node;
pub mod node_check;
pub mod transaction;
