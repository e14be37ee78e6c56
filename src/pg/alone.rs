//! Whether a statement is alone: sent by the client by itself, the whole transaction, with nothing to follow. Much is
//! cheaper then: no BEGIN on the node, one snapshot for all scans, a commit in one round trip.

use crate::node_as;
use crate::pg::session::uses_nodes;
use crate::pg::{compat, raw};
use pgrx::pg_sys;
use std::cell::Cell;
use std::ptr;

unsafe extern "C-unwind" {
    fn pq_peekbyte() -> std::ffi::c_int;
}

/// The query within a statement that the client has sent: of a COPY TO, or of an EXPLAIN ANALYZE.
#[derive(Clone, Copy)]
enum Within {
    Nothing,
    /// It has not begun yet.
    Awaited,
    /// No more than a name: it may be gone.
    Query(*mut pg_sys::PlannedStmt),
}

thread_local! {
    static WITHIN: Cell<Within> = const { Cell::new(Within::Nothing) };
}

/// A utility statement that the client has sent is about to run.
pub unsafe fn utility_begins(statement: *mut pg_sys::Node) {
    // SAFETY: the tags say what the nodes are.
    let has_query = unsafe {
        // What EXECUTE runs, EXPLAIN or not, is not the client's own.
        let explained = node_as!(statement, T_ExplainStmt).map(|e| (*e.cast::<pg_sys::ExplainStmt>()).query);
        let query = explained.and_then(|query| node_as!(query, T_Query));
        node_as!(statement, T_CopyStmt).is_some()
            || query.is_some_and(|q| (*q.cast::<pg_sys::Query>()).commandType == pg_sys::CmdType::CMD_SELECT)
    };
    WITHIN.set(if has_query { Within::Awaited } else { Within::Nothing });
}

/// A query is about to be executed: it may be the one within the client's utility statement.
pub unsafe fn query_begins(desc: *mut pg_sys::QueryDesc) {
    if !matches!(WITHIN.get(), Within::Awaited) {
        return;
    }
    // SAFETY: the descriptor is the executor's.
    unsafe {
        let is_result = match (*(*desc).dest).mydest {
            pg_sys::CommandDest::DestCopyOut => true,
            pg_sys::CommandDest::DestNone => (*desc).instrument_options != 0,
            _ => false,
        };
        let statement = (*desc).plannedstmt;
        if is_result && (*desc).operation == pg_sys::CmdType::CMD_SELECT && !(*statement).hasModifyingCTE {
            WITHIN.set(Within::Query(statement));
        }
    }
}

/// Whether this statement is the whole transaction: sent by the client alone, outside any block.
pub unsafe fn is_whole_transaction(estate: *mut pg_sys::EState) -> bool {
    // SAFETY: reads backend state.
    unsafe { is_outside_blocks((*estate).es_plannedstmt) && !uses_nodes() }
}

/// Whether the client has sent this statement, alone, outside any block.
unsafe fn is_outside_blocks(statement: *mut pg_sys::PlannedStmt) -> bool {
    // SAFETY: reads backend state.
    unsafe { !raw::IsTransactionBlock() && raw::GetCurrentTransactionNestLevel() == 1 && is_sent_by_client(statement) }
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
        if stmts.is_null() || (*stmts).length != 1 {
            return false;
        }
        let sent = (*(*stmts).elements).ptr_value.cast::<pg_sys::PlannedStmt>();
        let is_within = || matches!(WITHIN.get(), Within::Query(query) if ptr::eq(query, statement));
        sent == statement || !(*sent).utilityStmt.is_null() && is_within()
    }
}

/// Whether the transaction ends with this statement: sent by the client alone, outside any block, and no other of the
/// client's can follow. In the extended protocol that is known once the client's Sync is here.
pub unsafe fn is_end_of_transaction(statement: *mut pg_sys::PlannedStmt) -> bool {
    // SAFETY: reads backend state.
    unsafe { is_outside_blocks(statement) && nothing_follows() }
}

/// Whether the client's message, or its Sync, says that no other statement belongs to the transaction.
unsafe fn nothing_follows() -> bool {
    // SAFETY: reads backend state; a byte of the client's is here, so peeking does not wait.
    unsafe {
        if pg_sys::MyXactFlags & pg_sys::XACT_FLAGS_PIPELINING as i32 != 0 {
            return false;
        }
        let is_simple_query = !(*pg_sys::ActivePortal).visible;
        is_simple_query || (compat::client_has_sent_more() && pq_peekbyte() == i32::from(b'S'))
    }
}

/// Whether a write that is the whole transaction may commit on its node by itself: nothing was written here,
/// and no other statement of the client's can follow in the same transaction. In the extended protocol that is
/// known once the client's Sync is here; one that comes later finds an ordinary transaction.
pub unsafe fn may_commit_alone(estate: *mut pg_sys::EState) -> bool {
    // SAFETY: reads backend state.
    unsafe {
        if !is_whole_transaction(estate) || raw::GetTopTransactionIdIfAny() != pg_sys::InvalidTransactionId {
            return false;
        }
        nothing_follows()
    }
}
