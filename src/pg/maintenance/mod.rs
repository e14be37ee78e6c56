//! What goes on in the background: one process per database with nodes, and one that starts them.
//!
//! ```text
//! launcher   one per server. At its start it tries every database; later, backends tell it where there
//!            are nodes.
//! worker     one per database with nodes: finishes two-phase commits that were left in doubt, ends
//!            deadlocks that no single server can see, and refreshes the planner's statistics.
//! ```
//!
//! - [`shared`]: what the processes share; the rules are in [`crate::maintenance`]
//! - [`launcher`], [`worker`]: the processes
//! - [`work`]: a piece of work with a transaction of its own
//! - [`recover`]: a pass over transactions in doubt, also for `sharding.recover_transactions()`
//! - [`commit`]: a backend's commit that recovery must not touch
//! - [`long_wait`]: how a backend says that it waits, and hears that it must not
//! - [`wait_graph`], [`deadlock`]: who waits for whom, and who has to give way
//! - [`statistics`]: the planner's knowledge of tables, from what the nodes' autovacuum finds out
//! - [`roles`]: as whom a node is reached
//! - [`vacate`]: how a database gets rid of its worker, for DROP DATABASE
//!
//! Where no process is left for a worker, a line in the log says so, and nothing else stops.

pub mod commit;
pub mod deadlock;
pub mod launcher;
pub mod long_wait;
pub mod recover;
pub mod roles;
pub mod settings;
pub mod shared;
pub mod statistics;
pub mod vacate;
pub mod wait_graph;
pub mod work;
pub mod worker;

pub use shared::{note_nodes, wake};

/// Defines the settings, and where the library is loaded with the server, the shared memory and the
/// launcher; called once from `_PG_init`.
pub fn install() {
    settings::install();
    if crate::pg::preload::is_preloaded() {
        shared::install();
        launcher::install();
    }
}
