//! What a node does early: it tells values apart before it counts them, and groups rows before it joins them. Postgres
//! itself sorts all values for `count(DISTINCT x)`, and aggregates what a join has left.
//!
//! ```text
//! SELECT count(DISTINCT tenant) FROM entries
//!     SELECT count(c1) FROM (SELECT tenant AS c1 FROM entries GROUP BY tenant) d
//! ```
//!
//! It says the same to any one server: where rows are does not matter. As a subquery of its own Postgres finds the values
//! with a hash table, or in an index; it pays where statistics say that a value has several rows. For the groups before
//! joins see [`early_join`].

use super::aggregate;
use super::columns::Columns;
use super::distinct::different_values;
use super::early_join;
use crate::catalog::ClusterMap;
use crate::node_as;
use crate::pg::gucs::{self, When};
use crate::pg::tree::{self, Change, Node, Visit, items, list_of};
use crate::pg::tuple;
use pgrx::pg_sys;
use std::ptr;

/// Fewer rows, all nodes together, are not worth it.
const MANY_ROWS: f64 = 20_000.0;
/// The rows that a value has to have for it to be told apart before it is counted.
const ROWS_OF_VALUE: f64 = 4.0;

/// The nodes' query, a private copy, with what pays done early.
pub unsafe fn rewritten(query: *mut pg_sys::Query, map: &ClusterMap) -> *mut pg_sys::Query {
    // SAFETY: an analyzed query that looks at nothing outside; its tables are locked.
    unsafe {
        if gucs::early_grouping() == When::Off || !is_plain(query) {
            return query;
        }
        told_apart(query).or_else(|| early_join::grouped(query, map)).unwrap_or(query)
    }
}

/// Whether a query does nothing but join, filter, group and sort, and has no column beside its groups for the sake of a
/// primary key, which a subquery has not.
unsafe fn is_plain(query: *const pg_sys::Query) -> bool {
    // SAFETY: reads an analyzed query.
    unsafe {
        let q = &*query;
        q.commandType == pg_sys::CmdType::CMD_SELECT
            && q.hasAggs
            && !(q.hasWindowFuncs || q.hasTargetSRFs || q.hasSubLinks || q.hasDistinctOn)
            && q.groupingSets.is_null()
            && q.havingQual.is_null()
            && q.distinctClause.is_null()
            && q.setOperations.is_null()
            && q.cteList.is_null()
            && q.rowMarks.is_null()
            && q.constraintDeps.is_null()
            && !q.jointree.is_null()
    }
}

/// Whether so many rows make so few groups that it pays.
pub fn pays(rows: f64, groups: f64, rows_of_group: f64) -> bool {
    gucs::early_grouping() == When::Always || rows >= MANY_ROWS && groups * rows_of_group <= rows
}

/// Aggregates over the different values of one column alone: a subquery finds these.
unsafe fn told_apart(query: *mut pg_sys::Query) -> Option<*mut pg_sys::Query> {
    // SAFETY: a private copy.
    unsafe {
        let aggregates = aggregates(query);
        let first = argument(*aggregates.first()?)?;
        let is_distinct = |agg: &*mut pg_sys::Aggref| {
            !(**agg).aggdistinct.is_null()
                && (**agg).aggfilter.is_null()
                && (**agg).aggorder.is_null()
                && aggregate::splits_distinct(*agg)
                && argument(*agg).is_some_and(|other| pg_sys::equal(other.cast(), first.cast()))
        };
        if !(*query).groupClause.is_null() || !aggregates.iter().all(is_distinct) {
            return None;
        }
        let var = node_as!(first, T_Var)?.cast::<pg_sys::Var>();
        let rte = tree::entry((*query).rtable, (*var).varno as u32);
        if (*rte).rtekind != pg_sys::RTEKind::RTE_RELATION
            || !pays(tuple::estimated_rows((*rte).relid), values(query, var), ROWS_OF_VALUE)
        {
            return None;
        }
        let mut columns = Columns::default();
        let value = columns.group(first)?;
        let below = tree::copy(query);
        put_columns(below, &columns);
        (*below).sortClause = ptr::null_mut();
        (*below).limitCount = ptr::null_mut();
        (*below).limitOffset = ptr::null_mut();
        (*below).hasAggs = false;
        (*query).targetList = tree::mutate((*query).targetList.cast(), |n| {
            let Some(agg) = node_as!(n, T_Aggref) else { return Change::Deeper };
            let new = tree::copy(agg.cast::<pg_sys::Aggref>());
            (*new).aggdistinct = ptr::null_mut();
            let entry = pg_sys::makeTargetEntry(tree::copy(value).cast(), 1, ptr::null_mut(), false);
            (*new).args = list_of([entry]);
            Change::Replace(new.cast())
        })
        .cast();
        (*query).rtable = list_of([subquery(below, c"d".as_ptr())]);
        (*query).jointree = tree::make::<pg_sys::FromExpr>(pg_sys::NodeTag::T_FromExpr);
        (*(*query).jointree).fromlist = list_of([reference(1)]);
        Some(query)
    }
}

unsafe fn aggregates(query: *mut pg_sys::Query) -> Vec<*mut pg_sys::Aggref> {
    // SAFETY: as below.
    unsafe { aggregates_in((*query).targetList.cast()) }
}

pub unsafe fn aggregates_in(node: *mut Node) -> Vec<*mut pg_sys::Aggref> {
    let mut found = Vec::new();
    // SAFETY: a read-only walk.
    unsafe {
        tree::walk(node, |n| match node_as!(n, T_Aggref) {
            Some(agg) => {
                found.push(agg.cast());
                Visit::Skip
            }
            None => Visit::Deeper,
        });
    }
    found
}

/// What an aggregate of one argument is over.
unsafe fn argument(agg: *mut pg_sys::Aggref) -> Option<*mut Node> {
    // SAFETY: reads an analyzed aggregate.
    unsafe {
        match items::<pg_sys::TargetEntry>((*agg).args)[..] {
            [entry] => Some((*entry).expr.cast()),
            _ => None,
        }
    }
}

/// How many different values a column has, by estimate; as many as there are rows if that is not known.
pub unsafe fn values(query: *mut pg_sys::Query, var: *mut pg_sys::Var) -> f64 {
    // SAFETY: a column of a table that is locked.
    unsafe {
        let relid = (*tree::entry((*query).rtable, (*var).varno as u32)).relid;
        different_values(relid, (*var).varattno).unwrap_or_else(|| tuple::estimated_rows(relid))
    }
}

/// Makes these the output columns and groups of a query, `c1`, `c2` ...
pub unsafe fn put_columns(query: *mut pg_sys::Query, columns: &Columns) {
    // SAFETY: a private query.
    unsafe {
        let (entries, groups) = columns.clauses();
        for entry in items::<pg_sys::TargetEntry>(entries) {
            (*entry).expr = tree::copy((*entry).expr);
            (*entry).resname = pg_sys::pstrdup(name_of((*entry).resno).as_ptr());
        }
        (*query).targetList = entries;
        (*query).groupClause = groups;
    }
}

fn name_of(column: i16) -> std::ffi::CString {
    std::ffi::CString::new(format!("c{column}")).unwrap_or_default()
}

/// A subquery's entry in a range table.
pub unsafe fn subquery(query: *mut pg_sys::Query, alias: *const std::ffi::c_char) -> *mut pg_sys::RangeTblEntry {
    // SAFETY: nodes are fresh; makeAlias copies the name.
    unsafe {
        let rte = tree::make::<pg_sys::RangeTblEntry>(pg_sys::NodeTag::T_RangeTblEntry);
        let entries = items::<pg_sys::TargetEntry>((*query).targetList);
        let names = list_of(entries.into_iter().map(|entry| pg_sys::makeString(pg_sys::pstrdup((*entry).resname))));
        (*rte).rtekind = pg_sys::RTEKind::RTE_SUBQUERY;
        (*rte).subquery = query;
        (*rte).alias = pg_sys::makeAlias(alias, ptr::null_mut());
        (*rte).eref = pg_sys::makeAlias(alias, names);
        (*rte).inFromCl = true;
        rte
    }
}

pub unsafe fn reference(index: u32) -> *mut pg_sys::RangeTblRef {
    // SAFETY: a node is made.
    unsafe {
        let reference = tree::make::<pg_sys::RangeTblRef>(pg_sys::NodeTag::T_RangeTblRef);
        (*reference).rtindex = index as _;
        reference
    }
}
