//! Whether the library was loaded with the server, as it must be: a backend that loads it later has
//! planned without it.

use crate::error::{Error, Result, sqlstate};
use pgrx::pg_sys;
use std::sync::atomic::{AtomicBool, Ordering};

static PRELOADED: AtomicBool = AtomicBool::new(false);

/// Takes note of when the library is loaded; called once from `_PG_init`.
pub fn install() {
    // SAFETY: a variable of the postmaster.
    PRELOADED.store(unsafe { pg_sys::process_shared_preload_libraries_in_progress }, Ordering::Relaxed);
}

/// Whether the library was loaded with the server.
pub fn is_preloaded() -> bool {
    PRELOADED.load(Ordering::Relaxed)
}

/// 55000 if the library was not loaded with the server.
pub fn require() -> Result<()> {
    if is_preloaded() {
        return Ok(());
    }
    Err(missing())
}

/// The error of [`require`].
pub fn missing() -> Error {
    Error::new(sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE, "extension \"sharding\" must be loaded with the server")
        .hint("Add shared_preload_libraries = 'sharding' to postgresql.conf and restart the server.")
}
