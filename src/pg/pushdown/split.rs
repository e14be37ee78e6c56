//! One query becomes two: the nodes' and the one above it, which Postgres plans over the nodes' rows.
//!
//! ```text
//! SELECT city, avg(age) FROM people GROUP BY city ORDER BY 2 LIMIT 3;
//!
//! on each node   SELECT city, sum(age), count(age) FROM people GROUP BY city
//! above          SELECT r.1, sum(r.2) / sum(r.3) FROM r GROUP BY r.1 ORDER BY 2 LIMIT 3
//! ```
//!
//! - [`whole`]: every group, window and set of duplicates is on one node; above, rows are put in
//!   order, cut off, and freed of duplicates again where that was not so.
//! - [`aggregated`]: partial aggregates on the nodes.
//! - [`rows`]: the nodes join and filter, everything else is above.

use super::aggregate;
use super::collect;
use super::columns::{Columns, var_of};
use super::distinct;
use super::place::Reason;
use super::shape;
use crate::node_as;
use crate::pg::compat;
use crate::pg::tree::{self, Change, Node, Visit, items, list_of};
use pgrx::pg_sys;
use std::ptr;

/// The nodes' query and the one above.
pub struct Halves {
    pub inner: *mut pg_sys::Query,
    pub outer: *mut pg_sys::Query,
    /// The query that reads the nodes' rows, the outer one or a subquery of it; it lacks its range table yet.
    pub bottom: *mut pg_sys::Query,
}

/// Far from overflow: LIMIT and OFFSET are added up.
const HALF_OF_ALL: i64 = i64::MAX / 2;

/// The whole query on each node.
pub unsafe fn whole(query: *mut pg_sys::Query, repeats_distinct: bool, sorts: bool) -> Halves {
    // SAFETY: `query` is analyzed; both halves are copies.
    unsafe {
        let inner = tree::copy(query);
        let entries = items::<pg_sys::TargetEntry>((*inner).targetList);
        let outer = above(query);
        (*outer).targetList = list_of(entries.iter().enumerate().map(|(i, entry)| {
            let new = tree::copy(*entry);
            (*new).expr = var_of((**entry).expr.cast(), i).cast();
            new
        }));
        if repeats_distinct {
            (*outer).distinctClause = tree::copy((*query).distinctClause);
            (*outer).hasDistinctOn = (*query).hasDistinctOn;
        }
        let limited = !(*query).limitCount.is_null();
        let orders_duplicates = (*query).hasDistinctOn;
        for entry in entries {
            (*entry).resjunk = false;
        }
        (*inner).limitOffset = ptr::null_mut();
        (*inner).limitCount = match limit_of_node(query) {
            Some(limit) if sorts => limit,
            _ => ptr::null_mut(),
        };
        if (*inner).limitCount.is_null() {
            (*inner).limitOption = pg_sys::LimitOption::LIMIT_OPTION_COUNT;
        }
        if (!limited || (*inner).limitCount.is_null()) && !orders_duplicates {
            (*inner).sortClause = ptr::null_mut();
        }
        Halves { inner, outer, bottom: outer }
    }
}

/// `least(LIMIT, half) + least(OFFSET, half)`: what a node has to send at most. A NULL is no limit.
unsafe fn limit_of_node(query: *mut pg_sys::Query) -> Option<*mut Node> {
    // SAFETY: the expressions are bigints of the query.
    unsafe {
        let (count, offset) = ((*query).limitCount, (*query).limitOffset);
        if count.is_null() || is_null(count) {
            return None;
        }
        if pg_sys::checkExprHasSubLink(count) || (!offset.is_null() && pg_sys::checkExprHasSubLink(offset)) {
            return None;
        }
        if offset.is_null() || is_null(offset) {
            return Some(tree::copy(count));
        }
        let bounded = |expr: *mut Node| {
            let least = tree::make::<pg_sys::MinMaxExpr>(pg_sys::NodeTag::T_MinMaxExpr);
            let half = pg_sys::Datum::from(HALF_OF_ALL);
            let half = pg_sys::makeConst(pg_sys::INT8OID, -1, pg_sys::InvalidOid, 8, half, false, true);
            (*least).minmaxtype = pg_sys::INT8OID;
            (*least).op = pg_sys::MinMaxOp::IS_LEAST;
            (*least).args = list_of([tree::copy(expr), half.cast()]);
            (*least).location = -1;
            least.cast::<Node>()
        };
        let sum = pg_sys::makeFuncExpr(
            pg_sys::Oid::from(463), // int8pl
            pg_sys::INT8OID,
            list_of([bounded(count), bounded(offset)]),
            pg_sys::InvalidOid,
            pg_sys::InvalidOid,
            pg_sys::CoercionForm::COERCE_EXPLICIT_CALL,
        );
        Some(pg_sys::eval_const_expressions(ptr::null_mut(), sum.cast()))
    }
}

unsafe fn is_null(expr: *mut Node) -> bool {
    // SAFETY: the tag says what it is.
    unsafe { node_as!(expr, T_Const).is_some_and(|c| (*c.cast::<pg_sys::Const>()).constisnull) }
}

/// A query over the nodes' rows that ends as `query` does: ORDER BY, LIMIT.
unsafe fn above(query: *mut pg_sys::Query) -> *mut pg_sys::Query {
    // SAFETY: as above.
    unsafe {
        let outer = tree::make::<pg_sys::Query>(pg_sys::NodeTag::T_Query);
        (*outer).commandType = pg_sys::CmdType::CMD_SELECT;
        (*outer).querySource = (*query).querySource;
        (*outer).queryId = (*query).queryId;
        (*outer).canSetTag = (*query).canSetTag;
        (*outer).hasSubLinks = (*query).hasSubLinks;
        (*outer).sortClause = tree::copy((*query).sortClause);
        (*outer).limitOffset = tree::copy((*query).limitOffset);
        (*outer).limitCount = tree::copy((*query).limitCount);
        (*outer).limitOption = (*query).limitOption;
        (*outer).stmt_location = (*query).stmt_location;
        (*outer).stmt_len = (*query).stmt_len;
        outer
    }
}

/// Partial aggregates on the nodes, final ones above.
pub unsafe fn aggregated(query: *mut pg_sys::Query, is_key: impl Fn(*mut Node) -> bool) -> Result<Halves, Reason> {
    // SAFETY: as above.
    unsafe {
        let mut columns = Columns::default();
        for clause in items::<pg_sys::SortGroupClause>((*query).groupClause) {
            let Some(entry) = shape::entry_of(query, (*clause).tleSortGroupRef) else { continue };
            let expr = (*entry).expr.cast::<Node>();
            if !(*query).groupingSets.is_null() && !pg_sys::contain_vars_of_level(expr, 0) {
                return Err("a grouping set has a constant".into());
            }
            columns.group_as(expr, clause);
        }
        let grouped = columns.len();
        // The distinct keys of a group are counted on the nodes only if its rows are not grouped more
        // finely there, for the sake of another DISTINCT.
        let distinct = distinct_aggregates(query);
        let finer = distinct.iter().any(|agg| {
            !aggregate::splits_distinct(*agg)
                || items::<pg_sys::TargetEntry>((**agg).args).into_iter().any(|t| !is_key((*t).expr.cast()))
        });
        let is_key = |e: *mut Node| !finer && is_key(e);
        let rows = aggregate::Rows { is_key: &is_key, are_sorted: collect::reads_sorted(query) };
        let mut reason = None;
        let mut replace = |node: *mut Node| -> Change {
            if let Some(var) = columns.grouped(node, grouped) {
                return Change::Replace(var.cast());
            }
            match (*node).type_ {
                pg_sys::NodeTag::T_Aggref => match aggregate::split(node.cast(), &mut columns, &rows) {
                    Some(last) => return Change::Replace(last),
                    None => {
                        let name = pg_sys::get_func_name((*node.cast::<pg_sys::Aggref>()).aggfnoid);
                        let name = std::ffi::CStr::from_ptr(name).to_string_lossy();
                        reason = Some(format!("aggregate \"{name}\" cannot be split over the nodes"));
                    }
                },
                pg_sys::NodeTag::T_Var if (*query).groupingSets.is_null() => {
                    // It depends on the grouping columns: one value per group.
                    match columns.group(node) {
                        Some(var) => return Change::Replace(var.cast()),
                        None => reason = Some("a column without equality stands beside a group".into()),
                    }
                }
                pg_sys::NodeTag::T_Var => reason = Some("a column stands beside a grouping set".into()),
                pg_sys::NodeTag::T_SubLink => match kept_sublink(node.cast()) {
                    Ok(copy) => return Change::Replace(copy),
                    Err(why) => reason = Some(why),
                },
                _ => return Change::Deeper,
            }
            Change::Replace(node)
        };
        let outer = tree::copy(query);
        (*outer).targetList = tree::mutate((*query).targetList.cast(), &mut replace).cast();
        (*outer).havingQual = tree::mutate((*query).havingQual, &mut replace);
        if let Some(reason) = reason {
            return Err(reason);
        }
        if columns.is_empty() {
            return Err("it has nothing to ask the nodes for".into());
        }
        finish_above(outer);
        let inner = below(query, &columns);
        let bottom = if columns.are_all_grouped() { distinct::once(outer, inner) } else { None };
        Ok(Halves { inner, outer, bottom: bottom.unwrap_or(outer) })
    }
}

/// The query's own aggregates that have DISTINCT.
unsafe fn distinct_aggregates(query: *mut pg_sys::Query) -> Vec<*mut pg_sys::Aggref> {
    let mut found = Vec::new();
    // SAFETY: a read-only walk; the aggregates of subqueries are not this query's.
    unsafe {
        for node in [(*query).targetList.cast::<Node>(), (*query).havingQual] {
            tree::walk(node, |n| {
                if let Some(agg) = node_as!(n, T_Aggref)
                    && !(*agg.cast::<pg_sys::Aggref>()).aggdistinct.is_null()
                {
                    found.push(agg.cast());
                }
                if (*n).type_ == pg_sys::NodeTag::T_Query { Visit::Skip } else { Visit::Deeper }
            });
        }
    }
    found
}

/// The nodes send rows; everything but FROM and WHERE is above.
pub unsafe fn rows(query: *mut pg_sys::Query) -> Result<Halves, Reason> {
    // SAFETY: as above.
    unsafe {
        let mut columns = Columns::default();
        let mut reason = None;
        let mut replace = |node: *mut Node| -> Change {
            match (*node).type_ {
                pg_sys::NodeTag::T_Var => Change::Replace(columns.partial(node).cast()),
                pg_sys::NodeTag::T_SubLink => match kept_sublink(node.cast()) {
                    Ok(copy) => Change::Replace(copy),
                    Err(why) => {
                        reason = Some(why);
                        Change::Replace(node)
                    }
                },
                _ => Change::Deeper,
            }
        };
        let outer = tree::copy(query);
        (*outer).targetList = tree::mutate((*query).targetList.cast(), &mut replace).cast();
        (*outer).havingQual = tree::mutate((*query).havingQual, &mut replace);
        if let Some(reason) = reason {
            return Err(reason);
        }
        if columns.is_empty() {
            let one =
                pg_sys::makeConst(pg_sys::INT4OID, -1, pg_sys::InvalidOid, 4, pg_sys::Datum::from(1), false, true);
            columns.partial(one.cast());
        }
        finish_above(outer);
        Ok(Halves { inner: below(query, &columns), outer, bottom: outer })
    }
}

/// A subquery of the SELECT list or of HAVING that stays above: it must not look at the rows.
unsafe fn kept_sublink(link: *mut pg_sys::SubLink) -> Result<*mut Node, Reason> {
    // SAFETY: reads an analyzed subquery.
    unsafe {
        if !(*link).testexpr.is_null() || shape::is_correlated((*link).subselect.cast()) {
            return Err("a subquery beside aggregates looks at the rows".into());
        }
        Ok(tree::copy(link).cast())
    }
}

unsafe fn finish_above(outer: *mut pg_sys::Query) {
    // SAFETY: a private copy.
    unsafe {
        (*outer).cteList = ptr::null_mut();
        (*outer).hasRecursive = false;
        (*outer).jointree = ptr::null_mut();
        (*outer).rtable = ptr::null_mut();
        compat::clear_permission_list(outer);
    }
}

/// The nodes' query: FROM and WHERE as they are, other columns and groups.
unsafe fn below(query: *mut pg_sys::Query, columns: &Columns) -> *mut pg_sys::Query {
    // SAFETY: as above.
    unsafe {
        let inner = tree::copy(query);
        let (entries, groups) = columns.clauses();
        (*inner).targetList = entries;
        (*inner).groupClause = groups;
        (*inner).groupDistinct = false;
        (*inner).groupingSets = ptr::null_mut();
        (*inner).havingQual = ptr::null_mut();
        (*inner).hasAggs = pg_sys::contain_aggs_of_level(entries.cast(), 0);
        (*inner).windowClause = ptr::null_mut();
        (*inner).hasWindowFuncs = false;
        (*inner).distinctClause = ptr::null_mut();
        (*inner).hasDistinctOn = false;
        (*inner).sortClause = ptr::null_mut();
        (*inner).limitOffset = ptr::null_mut();
        (*inner).limitCount = ptr::null_mut();
        (*inner).limitOption = pg_sys::LimitOption::LIMIT_OPTION_COUNT;
        inner
    }
}
