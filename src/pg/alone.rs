//! Whether a statement is alone: sent by the client by itself, the whole transaction, with nothing to follow. Much is
//! cheaper then: no BEGIN on the node, one snapshot for all scans, a commit in one round trip.

use crate::pg::session::uses_nodes;
use crate::pg::{compat, raw};
use pgrx::pg_sys;

unsafe extern "C-unwind" {
    fn pq_peekbyte() -> std::ffi::c_int;
}

/// Whether this statement is the whole transaction: sent by the client alone, outside any block.
pub unsafe fn is_whole_transaction(estate: *mut pg_sys::EState) -> bool {
    // SAFETY: reads backend state.
    unsafe {
        !raw::IsTransactionBlock()
            && raw::GetCurrentTransactionNestLevel() == 1
            && is_sent_by_client((*estate).es_plannedstmt)
            && !uses_nodes()
    }
}

/// Whether the client has sent this statement, alone, and will not go on reading it beside another one.
pub unsafe fn is_sent_by_client(statement: *mut pg_sys::PlannedStmt) -> bool {
    // SAFETY: reads backend state.
    unsafe {
        let portal = pg_sys::ActivePortal;
        if portal.is_null() || *(*portal).name != 0 {
            return false;
        }
        let stmts = (*portal).stmts;
        !stmts.is_null() && (*stmts).length == 1 && (*(*stmts).elements).ptr_value == statement.cast()
    }
}

/// Whether a write that is the whole transaction may commit on its node by itself: nothing was written here,
/// and no other statement of the client's can follow in the same transaction. In the extended protocol that is
/// known once the client's Sync is here; one that comes later finds an ordinary transaction.
pub unsafe fn may_commit_alone(estate: *mut pg_sys::EState) -> bool {
    // SAFETY: reads backend state; a byte of the client's is here, so peeking does not wait.
    unsafe {
        if !is_whole_transaction(estate)
            || raw::GetTopTransactionIdIfAny() != pg_sys::InvalidTransactionId
            || pg_sys::MyXactFlags & pg_sys::XACT_FLAGS_PIPELINING as i32 != 0
        {
            return false;
        }
        let is_simple_query = !(*pg_sys::ActivePortal).visible;
        is_simple_query || (compat::client_has_sent_more() && pq_peekbyte() == i32::from(b'S'))
    }
}
