//! Decisions of the distributed commit, as values: no node, no clock, no Postgres.
//!
//! [`levels`] mirrors the local transaction's savepoints on a node, [`commit`] chooses between one
//! and two phases, [`gid`] names a prepared transaction, [`recovery`] says what becomes of one that
//! a crash left behind, [`overview`] what is under way. `pg::transaction` carries them out.

pub mod commit;
pub mod gid;
pub mod levels;
pub mod overview;
pub mod recovery;
