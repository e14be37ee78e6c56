//! What the integration tests run, apart from the servers themselves (those are in `harness`).
//!
//! ```text
//! cases/*.sql --script--> statements --suite--> session (plain)   --> answer \
//!                                           \-> session (cluster) --> answer  > compare
//! ```
//!
//! - [`script`]: the format of a case file: statements and directives.
//! - [`servers`]: which servers.
//! - [`session`]: a connection that gives everything a server answers, as text.
//! - [`compare`]: whether two answers mean the same.
//! - [`suite`]: runs a file on two servers and collects the differences.
//! - [`random`]: seeded random statements.
//! - [`tpch`]: the TPC-H tables, data and queries.

pub mod compare;
pub mod endpoint;
pub mod random;
pub mod report;
pub mod script;
pub mod servers;
pub mod session;
pub mod suite;
pub mod tpch;
