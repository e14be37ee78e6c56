//! Which queries of a tree are shipped, and where to: a mark in `queryId`, a field that no part of planning reads.
//!
//! In `FROM lineitem, (SELECT p_partkey FROM part WHERE p_size = 1) part` with the mark on the subquery, its rows
//! are taken to be on every node, since they will be sent there; with the mark `By(1)`, each on the node that holds the
//! shard of the value of its first column.

use crate::pg::compat;
use crate::pg::tree::{self, Node, Visit};
use pgrx::pg_sys;

const SHIPPED: u64 = 0x5AAD_1A95_51B0_0000;
/// The lower bits of a mark: a column.
const COLUMN: u64 = 0xFFFF;
/// A query that is run in the place of one that ships.
const INSTEAD: u64 = 0x5AAD_1A95_1257_0000;

/// Where shipped rows go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    AllNodes,
    /// Each to the node of the key in this column of the query.
    By(i16),
}

/// Where a query's rows are sent, if they are.
pub unsafe fn shipped_to(query: *const pg_sys::Query) -> Option<To> {
    // SAFETY: reads an analyzed query.
    let id = unsafe { compat::query_id(query) };
    match id & COLUMN {
        _ if id & !COLUMN != SHIPPED => None,
        0 => Some(To::AllNodes),
        column => Some(To::By(column as i16)),
    }
}

/// Whether a query's rows are sent to the nodes.
pub unsafe fn is_shipped(query: *const pg_sys::Query) -> bool {
    // SAFETY: as above.
    unsafe { shipped_to(query).is_some() }
}

/// Whether a node is such a query.
pub unsafe fn is_shipped_query(node: *mut Node) -> bool {
    // SAFETY: the tag says what it is.
    unsafe { crate::node_as!(node, T_Query).is_some_and(|q| is_shipped(q.cast())) }
}

/// The queries below whose rows are sent to the nodes of their keys, and by which column.
pub unsafe fn shipped_by_key(node: *mut Node) -> Vec<(*mut pg_sys::Query, i16)> {
    let mut found = Vec::new();
    // SAFETY: a read-only walk.
    unsafe {
        tree::walk(node, |n| {
            let Some(query) = crate::node_as!(n, T_Query) else { return Visit::Deeper };
            match shipped_to(query.cast()) {
                Some(to) => {
                    if let To::By(column) = to {
                        found.push((query.cast(), column));
                    }
                    Visit::Skip
                }
                None => Visit::Deeper,
            }
        });
    }
    found
}

/// Marks a query, or takes the mark away.
pub unsafe fn set_shipped(query: *mut pg_sys::Query, to: Option<To>) {
    let id = match to {
        None => 0,
        Some(To::AllNodes) => SHIPPED,
        Some(To::By(column)) => SHIPPED | column as u64 & COLUMN,
    };
    // SAFETY: the query is a private copy.
    unsafe { (*query).queryId = id as _ }
}

/// Takes away all marks in a tree.
pub unsafe fn clear(node: *mut Node) {
    // SAFETY: the tree is a private copy.
    unsafe {
        tree::walk(node, |n| {
            if is_shipped_query(n) {
                set_shipped(n.cast(), None);
            }
            Visit::Deeper
        });
    }
}

/// Marks a query that is run in the place of one that ships.
pub unsafe fn set_instead(query: *mut pg_sys::Query) {
    // SAFETY: the query is a private copy.
    unsafe { (*query).queryId = INSTEAD as _ }
}

/// Whether what is being planned is such a query, or a part of it.
pub unsafe fn is_instead(root: *const pg_sys::PlannerInfo) -> bool {
    let mut root = root;
    // SAFETY: the planner's own structures, from the inner to the outer.
    unsafe {
        while let Some(info) = root.as_ref() {
            if compat::query_id(info.parse) == INSTEAD {
                return true;
            }
            root = info.parent_root;
        }
    }
    false
}
