//! Which queries of a tree are shipped: a mark in `queryId`, a field that no part of planning reads.
//!
//! In `FROM lineitem, (SELECT p_partkey FROM part WHERE p_size = 1) part` with the mark on the subquery, its rows
//! are taken to be on every node, since they will be sent there.

use crate::pg::compat;
use crate::pg::tree::{self, Node, Visit};
use pgrx::pg_sys;

const SHIPPED: u64 = 0x5AAD_1A95_51B0_0000;

/// Whether a query's rows are sent to the nodes.
pub unsafe fn is_shipped(query: *const pg_sys::Query) -> bool {
    // SAFETY: reads an analyzed query.
    unsafe { compat::query_id(query) == SHIPPED }
}

/// Whether a node is such a query.
pub unsafe fn is_shipped_query(node: *mut Node) -> bool {
    // SAFETY: the tag says what it is.
    unsafe { crate::node_as!(node, T_Query).is_some_and(|q| is_shipped(q.cast())) }
}

/// Marks a query, or takes the mark away.
pub unsafe fn set_shipped(query: *mut pg_sys::Query, shipped: bool) {
    // SAFETY: the query is a private copy.
    unsafe { (*query).queryId = if shipped { SHIPPED as _ } else { 0 } }
}

/// Takes away all marks in a tree.
pub unsafe fn clear(node: *mut Node) {
    // SAFETY: the tree is a private copy.
    unsafe {
        tree::walk(node, |n| {
            if is_shipped_query(n) {
                set_shipped(n.cast(), false);
            }
            Visit::Deeper
        });
    }
}
