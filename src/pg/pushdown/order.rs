//! In which order the nodes' rows are of use above: the nodes sort, the coordinator merges.
//!
//! | above | sorted by |
//! |---|---|
//! | `ORDER BY a, b` | `a, b` |
//! | `GROUP BY a, b ORDER BY b` | `b, a` |
//! | `rank() OVER (PARTITION BY a ORDER BY b)` | `a, b` |
//! | `SELECT DISTINCT a`, merged again | `a` |
//!
//! Only columns that the nodes send can be merged by: what is computed above ends the list. Postgres still
//! chooses: the statement with its order and the one without are two paths ([`super::stand_in`]).

use super::shape;
use super::split::Halves;
use crate::node_as;
use crate::pg::tree::{self, Node, Visit, items, list_of};
use crate::plan::remote::MergeKey;
use pgrx::pg_sys;

/// The nodes' order.
pub struct Order {
    /// Clauses over the nodes' SELECT list.
    pub clauses: *mut pg_sys::List,
    pub keys: Vec<MergeKey>,
}

/// The order that is of use above; that of the nodes' own query if it has one. The nodes' SELECT list is given
/// the references that the clauses need.
pub unsafe fn of(halves: &Halves) -> Option<Order> {
    // SAFETY: both queries are private copies.
    unsafe {
        let inner = halves.inner;
        let fixed = !(*inner).sortClause.is_null();
        let mut clauses = Vec::new();
        let mut keys: Vec<MergeKey> = Vec::new();
        let source = if fixed { inner } else { halves.bottom };
        for clause in if fixed { items((*inner).sortClause) } else { wanted(halves.bottom) } {
            let Some(column) = column_of(source, clause, fixed) else { break };
            if keys.iter().any(|k| k.column == column) {
                continue;
            }
            let entry = items::<pg_sys::TargetEntry>((*inner).targetList)[column];
            let expr = (*entry).expr.cast::<Node>();
            if (*clause).sortop == pg_sys::InvalidOid || !is_known(expr) {
                break;
            }
            let clause = tree::copy(clause);
            (*clause).tleSortGroupRef = reference(inner, entry);
            keys.push(MergeKey {
                column,
                operator: (*clause).sortop.to_u32(),
                collation: pg_sys::exprCollation(expr).to_u32(),
                nulls_first: (*clause).nulls_first,
            });
            clauses.push(clause);
        }
        (!keys.is_empty()).then(|| Order { clauses: list_of(clauses), keys })
    }
}

/// What the query right above sorts by, the most significant first.
unsafe fn wanted(query: *mut pg_sys::Query) -> Vec<*mut pg_sys::SortGroupClause> {
    // SAFETY: reads an analyzed query.
    unsafe {
        let q = &*query;
        let sorted = items::<pg_sys::SortGroupClause>(q.sortClause);
        if !q.groupClause.is_null() {
            return starting_like(sorted, items(q.groupClause));
        }
        if q.hasAggs {
            return Vec::new();
        }
        if let Some(window) = items::<pg_sys::WindowClause>(q.windowClause).first() {
            let mut all = items((**window).partitionClause);
            all.extend(items::<pg_sys::SortGroupClause>((**window).orderClause));
            return all;
        }
        if !q.distinctClause.is_null() && !q.hasDistinctOn {
            return starting_like(sorted, items(q.distinctClause));
        }
        sorted
    }
}

/// `columns`, which may be in any order, in the one of `sorted` as far as that goes.
unsafe fn starting_like(
    sorted: Vec<*mut pg_sys::SortGroupClause>,
    columns: Vec<*mut pg_sys::SortGroupClause>,
) -> Vec<*mut pg_sys::SortGroupClause> {
    // SAFETY: reads clauses.
    unsafe {
        let same = |a: *mut pg_sys::SortGroupClause, b: *mut pg_sys::SortGroupClause| {
            (*a).tleSortGroupRef == (*b).tleSortGroupRef
        };
        let mut all: Vec<_> = sorted.into_iter().take_while(|s| columns.iter().any(|c| same(*c, *s))).collect();
        for column in columns {
            if !all.iter().any(|a| same(*a, column)) {
                all.push(column);
            }
        }
        all
    }
}

/// The nodes' column (0-based) that a clause sorts by.
unsafe fn column_of(
    query: *mut pg_sys::Query,
    clause: *mut pg_sys::SortGroupClause,
    is_of_nodes: bool,
) -> Option<usize> {
    // SAFETY: reads an analyzed query; above, the nodes' rows are the only relation.
    unsafe {
        let entry = shape::entry_of(query, (*clause).tleSortGroupRef)?;
        if is_of_nodes {
            return Some((*entry).resno as usize - 1);
        }
        let var = node_as!((*entry).expr, T_Var)?.cast::<pg_sys::Var>();
        ((*var).varlevelsup == 0 && (*var).varattno > 0).then(|| (*var).varattno as usize - 1)
    }
}

/// Whether the planner of the stand-in sees the expression as the nodes do.
unsafe fn is_known(expr: *mut Node) -> bool {
    // SAFETY: a read-only walk.
    unsafe {
        !tree::walk(expr, |n| {
            let replaced = (*n).type_ == pg_sys::NodeTag::T_SubLink
                || node_as!(n, T_Param)
                    .is_some_and(|p| (*p.cast::<pg_sys::Param>()).paramkind == pg_sys::ParamKind::PARAM_EXEC);
            if replaced { Visit::Stop } else { Visit::Deeper }
        })
    }
}

/// The reference of a target entry, given now if it has none.
unsafe fn reference(query: *mut pg_sys::Query, entry: *mut pg_sys::TargetEntry) -> u32 {
    // SAFETY: the query is a private copy.
    unsafe {
        if (*entry).ressortgroupref == 0 {
            let all = items::<pg_sys::TargetEntry>((*query).targetList);
            (*entry).ressortgroupref = 1 + all.into_iter().map(|t| (*t).ressortgroupref).max().unwrap_or(0);
        }
        (*entry).ressortgroupref
    }
}
