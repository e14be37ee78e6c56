//! The sessions of this backend with the nodes: one per node and user mapping, each over a connection
//! that is leased from the pool for a transaction.
//!
//! This is the seam that the rest of the extension talks through.
//!
//! ```ignore
//! let statement = Statement { sql: "SELECT a FROM t", params: &[], result_binary: &[], keep: None, report_bound: false };
//! let mut rows = Stream::open(node, &statement, Access::Read, Fetch::Pages)?;
//! while let Some(row) = rows.next()? { row.get(0); }
//! session::execute_on(&nodes, "CREATE TABLE t (a int)", Access::Write)?;
//! ```
//!
//! - [`registry`]: which sessions there are, how a node joins the transaction
//! - [`leases`]: how a session gets its connection from the pool and gives it back
//! - [`command`]: whole commands, waited for on all nodes together
//! - [`copy`]: COPY with data that come piece by piece
//! - [`stream`]: statements whose rows come one by one
//! - [`beside`]: further connections, for parts of a scan
//! - [`aside`]: rows that arrive before they are wanted
//! - [`outcome`]: statements that commit by themselves
//! - [`settle`]: bringing connections to rest after a cancel, within a bound
//!
//! Commit and rollback are in `pg::transaction`.

pub mod aside;
pub mod beside;
pub mod command;
pub mod copy;
pub mod leases;
pub mod outcome;
pub mod registry;
pub mod settle;
pub mod stream;

pub use crate::wire::row::Row;
pub use crate::wire::statement::{Fetch, Param, Statement};
pub use command::{
    execute, execute_each, execute_on, execute_outside, query, query_on, query_outside, query_outside_each, run_on,
    set_constraints,
};
pub use registry::{Access, used_in_transaction, uses_nodes};
pub use stream::{Stream, wait_any};
