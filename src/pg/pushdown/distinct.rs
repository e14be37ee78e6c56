//! `count(DISTINCT x)`: duplicates are removed once more before the aggregate, not inside of it.
//!
//! ```text
//! SELECT count(DISTINCT name) FROM people;
//!
//! on each node   SELECT name FROM people GROUP BY name ORDER BY name
//! above          SELECT count(name) FROM (SELECT name FROM nodes GROUP BY name)
//! ```
//!
//! Inside of an aggregate Postgres sorts all values for DISTINCT. As a subquery of its own, it takes what is best:
//! neighbours in the nodes' merged order are compared, or a hash table is filled. Only where all aggregates are over
//! the same values: else there are several sets to be told apart.
//!
//! Where nearly all values are different anyway, nodes would sort them for nothing: then they send them as they are
//! (2 million values on 2 nodes: two thirds of the processor time).

use super::stand_in;
use crate::node_as;
use crate::pg::tree::{self, Node, Visit, items, list_of};
use crate::pg::tuple;
use pgrx::pg_sys;
use std::ptr;

/// Puts a subquery with the different rows below `outer`, whose aggregates lose their DISTINCT; returns it, its FROM
/// being open. `None`, and nothing is changed, where that would not do.
pub unsafe fn once(outer: *mut pg_sys::Query, inner: *mut pg_sys::Query) -> Option<*mut pg_sys::Query> {
    // SAFETY: both are private copies.
    unsafe {
        if !(*outer).groupingSets.is_null() || !sortable(inner) {
            return None;
        }
        let aggregates = own_aggregates(outer);
        let (first, rest) = aggregates.split_first()?;
        if aggregates.iter().any(|agg| !is_plain(*agg, inner))
            || rest.iter().any(|agg| argument(*agg) != argument(*first))
        {
            return None;
        }
        for agg in aggregates {
            (*agg).aggdistinct = ptr::null_mut();
            (*agg).aggorder = ptr::null_mut();
            for entry in items::<pg_sys::TargetEntry>((*agg).args) {
                (*entry).ressortgroupref = 0;
            }
        }
        let middle = tree::make::<pg_sys::Query>(pg_sys::NodeTag::T_Query);
        (*middle).commandType = pg_sys::CmdType::CMD_SELECT;
        (*middle).canSetTag = true;
        (*middle).stmt_location = -1;
        let entries = items::<pg_sys::TargetEntry>((*inner).targetList);
        (*middle).targetList = list_of(entries.into_iter().enumerate().map(|(at, entry)| {
            let var = super::columns::var_of((*entry).expr.cast(), at);
            let new = pg_sys::makeTargetEntry(var.cast(), at as i16 + 1, ptr::null_mut(), false);
            (*new).ressortgroupref = (*entry).ressortgroupref;
            new
        }));
        (*middle).groupClause = tree::copy((*inner).groupClause);
        stand_in::put_below(outer, middle);
        Some(middle)
    }
}

/// The share of a table's rows with different values, from which on it does not pay to remove duplicates on the nodes.
const NEARLY_ALL: f32 = 0.5;

/// Whether a query of one table removes duplicates from a column that has hardly any, and is not the shard key.
pub unsafe fn is_in_vain(query: *mut pg_sys::Query, is_key: impl Fn(*mut Node) -> bool) -> bool {
    // SAFETY: reads an analyzed query; its tables are locked.
    unsafe {
        own_aggregates(query).into_iter().filter(|agg| !(**agg).aggdistinct.is_null()).any(|agg| {
            items::<pg_sys::TargetEntry>((*agg).args).into_iter().any(|entry| {
                node_as!((*entry).expr, T_Var).is_some_and(|var| {
                    let var = var.cast::<pg_sys::Var>();
                    let rte = tree::entry((*query).rtable, (*var).varno as u32);
                    (*var).varlevelsup == 0
                        && !is_key(var.cast())
                        && (*rte).rtekind == pg_sys::RTEKind::RTE_RELATION
                        && different_share((*rte).relid, (*var).varattno) >= NEARLY_ALL
                })
            })
        })
    }
}

/// The share of a table's rows that have a value of their own in a column, as far as it grows with the table; 0 if
/// that is not known.
unsafe fn different_share(relid: pg_sys::Oid, column: i16) -> f32 {
    // SAFETY: as below.
    unsafe { (-stadistinct(relid, column).unwrap_or(0.0)).max(0.0) }
}

/// How many different values a column has, if that is known.
pub unsafe fn different_values(relid: pg_sys::Oid, column: i16) -> Option<f64> {
    // SAFETY: as below.
    unsafe {
        match f64::from(stadistinct(relid, column)?) {
            0.0 => None,
            share if share < 0.0 => Some(-share * tuple::estimated_rows(relid)),
            values => Some(values),
        }
    }
}

/// What ANALYZE says: different values, negative as a share of the rows.
unsafe fn stadistinct(relid: pg_sys::Oid, column: i16) -> Option<f32> {
    // SAFETY: the keys have the types of the cache's index; the tuple is released after it is read.
    unsafe {
        let tuple = pg_sys::SearchSysCache3(
            pg_sys::SysCacheIdentifier::STATRELATTINH as _,
            pg_sys::Datum::from(relid),
            pg_sys::Datum::from(column),
            pg_sys::Datum::from(true),
        );
        if tuple.is_null() {
            return None;
        }
        let distinct = (*pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_statistic>(tuple)).stadistinct;
        pg_sys::ReleaseSysCache(tuple);
        Some(distinct)
    }
}

unsafe fn own_aggregates(query: *mut pg_sys::Query) -> Vec<*mut pg_sys::Aggref> {
    let mut found = Vec::new();
    // SAFETY: a read-only walk; the aggregates of subqueries are not this query's.
    unsafe {
        for node in [(*query).targetList.cast::<Node>(), (*query).havingQual] {
            tree::walk(node, |n| {
                if let Some(agg) = node_as!(n, T_Aggref) {
                    found.push(agg.cast());
                }
                if (*n).type_ == pg_sys::NodeTag::T_Query { Visit::Skip } else { Visit::Deeper }
            });
        }
    }
    found
}

/// The nodes' column that an aggregate is over; 0 is none, or several.
unsafe fn argument(agg: *mut pg_sys::Aggref) -> i16 {
    // SAFETY: reads an analyzed aggregate.
    unsafe {
        match items::<pg_sys::TargetEntry>((*agg).args)[..] {
            [entry] => node_as!((*entry).expr, T_Var).map_or(0, |v| (*v.cast::<pg_sys::Var>()).varattno),
            _ => 0,
        }
    }
}

/// Whether the aggregate is over all different values of one column, told apart as the groups are. Strings and
/// arrays keep the order in which DISTINCT leaves them.
unsafe fn is_plain(agg: *mut pg_sys::Aggref, inner: *mut pg_sys::Query) -> bool {
    // SAFETY: as above.
    unsafe {
        let column = argument(agg);
        let Some(entry) = items::<pg_sys::TargetEntry>((*inner).targetList).into_iter().find(|t| (**t).resno == column)
        else {
            return false;
        };
        let groups = items::<pg_sys::SortGroupClause>((*inner).groupClause);
        let group = groups.into_iter().find(|g| (**g).tleSortGroupRef == (*entry).ressortgroupref);
        let distinct = items::<pg_sys::SortGroupClause>((*agg).aggdistinct);
        super::aggregate::splits_distinct(agg)
            && (*agg).aggfilter.is_null()
            && distinct.len() == 1
            && group.is_some_and(|g| (*g).eqop == (*distinct[0]).eqop)
    }
}

/// Whether all groups have an order: else there may be no way to find them.
unsafe fn sortable(inner: *mut pg_sys::Query) -> bool {
    // SAFETY: reads a query.
    unsafe {
        items::<pg_sys::SortGroupClause>((*inner).groupClause).into_iter().all(|g| (*g).sortop != pg_sys::InvalidOid)
    }
}
