//! A way to run DDL on the coordinator alone, for those who tell the nodes themselves.
//!
//! `distribute_table` and its kin build the nodes' tables by their own statements; what they do to
//! the coordinator's table must not be repeated there.

use std::cell::Cell;

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// While it lives, utility statements of this backend concern the coordinator alone.
pub struct LocalOnly(());

impl LocalOnly {
    pub fn enter() -> LocalOnly {
        DEPTH.set(DEPTH.get() + 1);
        LocalOnly(())
    }
}

impl Drop for LocalOnly {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

/// Whether a [`LocalOnly`] lives.
pub fn active() -> bool {
    DEPTH.get() > 0
}
