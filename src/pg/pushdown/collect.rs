//! Aggregates that collect values (strings, arrays, jsonb, ranges) in two steps: each node collects what it has, here
//! the collections are put together.
//!
//! | asked for | on each node | here |
//! |---|---|---|
//! | `string_agg(x, ', ')` | the same | the same |
//! | `array_agg(x)` | the same | `sharding.total_array`, which is `||` |
//! | `jsonb_agg(x)`, `jsonb_object_agg(k, v)` | the same | `sharding.total_jsonb`, which is `||` |
//! | `range_agg(x)` | the same | `range_agg` of multiranges |
//!
//! With no ORDER BY of their own any order is as good as another, except over a subquery that sorts: everybody
//! takes its order for granted, and one server keeps it. Then, and with an ORDER BY, the rows are collected here.

use super::build::{aggregate, own_aggregate, same};
use super::columns::Columns;
use crate::node_as;
use crate::pg::tree::{self, Node, Visit};
use pgrx::pg_sys;
use std::ptr;

const RANGE_AGG_OF_MULTIRANGES: u32 = 6227;

/// What replaces such an aggregate above the nodes; `None` if it is another, or cannot be split.
/// `is_sorted`: whether the rows come from a subquery that sorts.
pub unsafe fn split(
    agg: *mut pg_sys::Aggref,
    name: &str,
    arguments: &[*mut Node],
    is_sorted: bool,
    columns: &mut Columns,
) -> Option<*mut Node> {
    // SAFETY: an analyzed aggregate of the query itself; all nodes are made in the planner's context.
    unsafe {
        match name {
            "range_intersect_agg" => Some(same(agg, columns.partial(tree::copy(agg).cast()))),
            "range_agg" => {
                let partial = columns.partial(tree::copy(agg).cast());
                let last = aggregate(pg_sys::Oid::from(RANGE_AGG_OF_MULTIRANGES), &[partial.cast()]);
                (*last).aggtype = (*agg).aggtype;
                Some(last.cast())
            }
            _ if is_sorted => None,
            "string_agg" => {
                let separator = *arguments.get(1)?;
                if !is_constant(separator) {
                    return None;
                }
                let partial = columns.partial(tree::copy(agg).cast());
                let last = same(agg, partial).cast::<pg_sys::Aggref>();
                let entry = pg_sys::makeTargetEntry(tree::copy(separator).cast(), 2, ptr::null_mut(), false);
                (*last).args = pg_sys::lappend((*last).args, entry.cast());
                (*last).aggargtypes = pg_sys::lappend_oid((*last).aggargtypes, pg_sys::exprType(separator));
                Some(last.cast())
            }
            "array_agg" => together(agg, "total_array", columns),
            "jsonb_agg" | "jsonb_object_agg" => together(agg, "total_jsonb", columns),
            _ => None,
        }
    }
}

unsafe fn together(agg: *mut pg_sys::Aggref, name: &str, columns: &mut Columns) -> Option<*mut Node> {
    // SAFETY: as above.
    unsafe {
        let declared = if name == "total_array" { pg_sys::ANYCOMPATIBLEARRAYOID } else { pg_sys::JSONBOID };
        let function = own_aggregate(name, declared)?;
        let partial = columns.partial(tree::copy(agg).cast());
        let last = aggregate(function, &[partial.cast()]);
        (*last).aggtype = (*agg).aggtype;
        (*last).aggcollid = (*agg).aggcollid;
        (*last).inputcollid = (*agg).inputcollid;
        Some(last.cast())
    }
}

/// A constant, or a client's parameter.
unsafe fn is_constant(node: *mut Node) -> bool {
    // SAFETY: the tag says what it is.
    unsafe {
        (*node).type_ == pg_sys::NodeTag::T_Const
            || node_as!(node, T_Param)
                .is_some_and(|p| (*p.cast::<pg_sys::Param>()).paramkind == pg_sys::ParamKind::PARAM_EXTERN)
    }
}

/// Whether a query reads a subquery that sorts.
pub unsafe fn reads_sorted(query: *mut pg_sys::Query) -> bool {
    // SAFETY: a read-only walk.
    unsafe {
        let flags = pg_sys::QTW_EXAMINE_RTES_BEFORE as i32;
        tree::walk_query(query, flags, |n| match node_as!(n, T_Query) {
            Some(q) if !(*q.cast::<pg_sys::Query>()).sortClause.is_null() => Visit::Stop,
            _ => Visit::Deeper,
        })
    }
}
