//! The pool of connections as values and rules: who may use which connection when.
//!
//! What is shared between processes is an array of [`slot::Slot`]s (one per connection), of
//! [`pools::Pool`]s (one per node, user and credentials) and of [`pools::Waiter`]s, all of atomics.
//! [`table::Table`] holds the rules. Sockets, processes and locks are in `pg::pool`.
//!
//! ```text
//!              claim             opened              lease
//!   Free ---------------> Opening ------> Leased <---------- Idle
//!    ^                       |               |  --------------^
//!    |                       | gone          |  give back
//!    |       retire          v               | dirty, or its owner died
//!    +-------------------- Broken <----------+
//! ```
#![forbid(unsafe_code)]

pub mod backoff;
pub mod hosts;
pub mod keepalive;
pub mod message;
pub mod pools;
pub mod queue;
pub mod route;
pub mod safe;
#[cfg(test)]
mod simulation;
pub mod slot;
pub mod stuck;
pub mod table;
pub mod target;
pub mod text;
pub mod turn;
