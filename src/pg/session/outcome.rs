//! A statement that commits on its node by itself: once the node has answered, the outcome is known, and
//! nothing may turn a success into an error.
//!
//! In `UPDATE t SET v = 1 WHERE id = 7`, sent alone, the node's answer is the commit. A cancel that comes
//! after it would tell the client of a rollback that never happened; so cancels are held off for the
//! few instructions until the local transaction, which has nothing to do, has ended too.

use pgrx::pg_sys;
use std::cell::Cell;

thread_local! {
    static HELD: Cell<bool> = const { Cell::new(false) };
}

/// Registers the callback; called once from `_PG_init`.
pub fn install() {
    // SAFETY: the callback lives as long as the library, which is never unloaded.
    unsafe { pg_sys::RegisterXactCallback(Some(transaction_ends), std::ptr::null_mut()) }
}

/// The node has committed: no cancel until the transaction ends.
pub fn hold_cancels() {
    if !HELD.replace(true) {
        // SAFETY: a counter of this backend, taken back in `transaction_ends`; an ERROR resets it.
        unsafe { pg_sys::QueryCancelHoldoffCount += 1 }
    }
}

unsafe extern "C-unwind" fn transaction_ends(event: pg_sys::XactEvent::Type, _arg: *mut std::ffi::c_void) {
    if matches!(event, pg_sys::XactEvent::XACT_EVENT_COMMIT | pg_sys::XactEvent::XACT_EVENT_ABORT)
        && HELD.replace(false)
    {
        // SAFETY: as above; after an ERROR it is 0 already.
        unsafe { pg_sys::QueryCancelHoldoffCount = pg_sys::QueryCancelHoldoffCount.saturating_sub(1) }
    }
}
