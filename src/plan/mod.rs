//! From the shape of a query to where it runs. Pure: no Postgres types, no IO.

pub mod pushdown;
pub mod remote;
pub mod router;
pub mod tasks;
pub mod touched;
pub mod tuning;
pub mod write;
