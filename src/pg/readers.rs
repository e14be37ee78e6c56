//! The scans that are under way in this backend, so that a write can have them read first.
//!
//! All parts of a statement see the state before it. A node fixes a SELECT's snapshot when it binds
//! it; so before the first write goes to a node, every scan that has not started is sent and bound.

use crate::error::Result;
use crate::pg::scan::Scan;
use pgrx::pg_sys;
use std::cell::RefCell;

thread_local! {
    static READERS: RefCell<Vec<*mut Scan>> = const { RefCell::new(Vec::new()) };
}

/// Adds a scan; it must be removed before it is freed.
pub fn add(scan: *mut Scan) {
    READERS.with(|r| r.borrow_mut().push(scan));
}

pub fn remove(scan: *mut Scan) {
    let _ = READERS.try_with(|r| r.borrow_mut().retain(|s| *s != scan));
}

/// How many there are.
pub fn count() -> usize {
    READERS.with(|r| r.borrow().len())
}

/// Those that were added when there were `before` of them.
pub fn since(before: usize) -> Vec<*mut Scan> {
    READERS.with(|r| r.borrow().get(before..).map_or_else(Vec::new, <[_]>::to_vec))
}

/// Has the scans of an executor run that did not before.
pub unsafe fn wake(estate: *mut pg_sys::EState) {
    for scan in READERS.with(|r| r.borrow().clone()) {
        // SAFETY: registered scans are alive.
        unsafe { (*scan).wake(estate) };
    }
}

/// Sends and binds every scan that can be: called before a write.
pub fn bind_all() -> Result<()> {
    let scans: Vec<*mut Scan> = READERS.with(|r| r.borrow().clone());
    for scan in scans {
        // SAFETY: registered scans are alive; `open_early` runs no user code that ends them.
        unsafe {
            if (*scan).can_open_early() {
                (*scan).open_early()?;
            }
        }
    }
    Ok(())
}
