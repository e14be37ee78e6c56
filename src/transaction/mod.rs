//! Decisions of the distributed commit, as values: no node, no clock, no Postgres.
//!
//! [`levels`] mirrors the local transaction's savepoints on a node, [`commit`] chooses between one
//! and two phases, [`protocol`] is the second of these, [`gid`] names a prepared transaction, [`recovery`] says what
//! becomes of one that a crash left behind, [`overview`] what is under way, [`deadlock`] who waits for whom; [`gate`] and
//! [`doubt`] keep readers from seeing half of a transaction. `pg::transaction` and `pg::two_phase` carry them out.

pub mod commit;
pub mod deadlock;
pub mod doubt;
pub mod failpoint;
pub mod gate;
pub mod gid;
pub mod levels;
pub mod lock_mode;
pub mod overview;
pub mod protocol;
pub mod recovery;
#[cfg(test)]
mod simulation;
