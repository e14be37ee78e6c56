//! What differs between the versions of Postgres: every `cfg(feature = "pgNN")` is here.

use pgrx::pg_sys;

/// A wait set for `events` events that lives until it is freed.
pub fn create_wait_event_set(events: i32) -> *mut pg_sys::WaitEventSet {
    // SAFETY: TopMemoryContext lives as long as the backend; no resource owner frees the set early.
    #[cfg(any(feature = "pg15", feature = "pg16"))]
    unsafe {
        pg_sys::CreateWaitEventSet(pg_sys::TopMemoryContext, events)
    }
    // SAFETY: without a resource owner the set is allocated in TopMemoryContext.
    #[cfg(not(any(feature = "pg15", feature = "pg16")))]
    unsafe {
        pg_sys::CreateWaitEventSet(std::ptr::null_mut(), events)
    }
}
