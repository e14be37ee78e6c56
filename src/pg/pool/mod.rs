//! The connection pool: processes, sockets and shared memory around the rules in [`crate::pool`].
//!
//! ```text
//! backend                              shared memory            pool worker
//!   lease again: one CAS ------------> slot: Idle -> Leased
//!   first time:  "descriptor of 3" --------- socket ----------> SCM_RIGHTS
//!   none idle:   slot Free -> Opening,
//!                "connect to 10.0.0.1" ----- socket ----------> connects, authenticates,
//!                                      slot: Leased             SCM_RIGHTS
//!   speaks with the node over its own duplicate of the descriptor; with TLS over a socket pair,
//!   whose other end the worker relays
//!   give back:   one CAS ------------> slot: Idle               watches, retires
//! ```
//!
//! - [`shared`]: what the processes share, and the lock around it
//! - [`lease`]: how a backend gets a connection and gives it back
//! - [`queueing`]: how it waits for one
//! - [`ask`]: what a backend asks of a worker, over a private socket
//! - [`worker`], [`attempt`], [`dial`], [`link`]: opening, watching and closing connections
//! - [`upkeep`], [`warm`]: what is closed and opened without being asked
//! - [`master`]: a connection as its worker keeps it
//! - [`relayed`], [`files`]: TLS, which the worker speaks for the backends
//! - [`cancel`]: requests to cancel that the worker sends
//! - [`taint`]: what may have run in a node's session that the next user must not see
//! - [`descriptor`], [`poll`]: descriptors over sockets, and waiting for many of them
//! - [`overview`]: what the views show

pub mod ask;
pub mod attempt;
pub mod cancel;
pub mod descriptor;
pub mod dial;
pub mod files;
pub mod lease;
pub mod link;
pub mod master;
pub mod overview;
pub mod poll;
pub mod queueing;
pub mod relayed;
pub mod settings;
pub mod shared;
pub mod taint;
pub mod upkeep;
mod users_code;
pub mod warm;
pub mod worker;

/// Defines the settings, and where the library is loaded with the server, the shared memory and the
/// workers; called once from `_PG_init`.
pub fn install() {
    settings::install();
    if crate::pg::preload::is_preloaded() {
        shared::install();
        worker::install();
        taint::install();
    }
}
