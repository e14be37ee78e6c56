//! The SQL functions, by noun.

pub mod monitor;
pub mod node;
pub mod node_check;
pub mod table;
pub mod transaction;
