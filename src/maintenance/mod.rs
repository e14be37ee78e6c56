//! Looking after a cluster in the background, as values and rules: no server, no clock.
//!
//! [`seats`]: which database has a worker, who wants one, who wants none to be there. [`agenda`]: when a
//! worker asks which node. [`waits`]: who waits for long and may have to give way. [`under_way`]: which commits have a live backend. `pg::maintenance` has the processes.
#![forbid(unsafe_code)]

pub mod agenda;
pub mod seats;
pub mod under_way;
pub mod waits;
