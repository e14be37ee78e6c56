//! This backend's two-phase commit, as others see it: from before the first PREPARE until every node has answered or
//! could not be reached, recovery leaves it alone.

use crate::pg::maintenance::shared::{is_alive, under_way, wake};
use crate::pg::pool::shared::my_pid;
use std::cell::Cell;

thread_local! {
    static PLACE: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The transaction with this number, of 64 bits, is about to be prepared on nodes.
pub fn begin(xid: u64) {
    let commits = under_way();
    let place = commits.begin(my_pid(), xid).or_else(|| {
        commits.bury(is_alive);
        commits.begin(my_pid(), xid)
    });
    PLACE.set(place);
}

/// It is over for this backend. `unconfirmed`: a node may still have it prepared; recovery looks after it at once.
pub fn end(unconfirmed: bool) {
    if let Some(place) = PLACE.take() {
        under_way().end(place);
    }
    // In this order: recovery would leave alone what is registered.
    if unconfirmed {
        wake();
    }
}
