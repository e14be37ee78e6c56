//! The foreign-data wrapper's planning and execution callbacks.

use pgrx::pg_sys;

/// Fills in the callbacks of the wrapper `sharding`.
pub fn fill_routine(_routine: &mut pg_sys::FdwRoutine) {}
