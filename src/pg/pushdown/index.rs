//! Whether an index has all that a query asks for, its groups one behind the other.
//!
//! ```text
//! PRIMARY KEY (tenant, id)     SELECT tenant, count(*) FROM entries GROUP BY tenant          yes
//!                              SELECT tenant, sum(amount) FROM entries GROUP BY tenant       no: rows are read
//! ```
//!
//! The shards' indexes are those of the table here: no index of a shard alone counts.

use crate::node_as;
use crate::pg::tree::{self, Visit, items};
use pgrx::pg_sys;
use std::collections::BTreeSet;

const BTREE: u32 = 403;

/// Whether a query, or the subquery that is all it reads, groups one table so.
pub unsafe fn has_groups(query: *mut pg_sys::Query) -> bool {
    // SAFETY: reads an analyzed query, whose tables are locked.
    unsafe {
        let mut entries = items::<pg_sys::RangeTblEntry>((*query).rtable);
        entries.retain(|rte| (**rte).rtekind != pg_sys::RTEKind::RTE_RESULT);
        let [rte] = entries[..] else { return false };
        if (*rte).rtekind == pg_sys::RTEKind::RTE_SUBQUERY {
            return has_groups((*rte).subquery);
        }
        if (*rte).rtekind != pg_sys::RTEKind::RTE_RELATION || !(*query).groupingSets.is_null() {
            return false;
        }
        let Some(groups) = grouping_columns(query) else { return false };
        let used = used_columns(query);
        !groups.is_empty()
            && used.iter().all(|column| *column > 0)
            && indexes((*rte).relid).into_iter().any(|index| {
                let first: Option<BTreeSet<i16>> =
                    index.columns.get(..groups.len()).map(|c| c.iter().copied().collect());
                groups.len() <= index.keys
                    && first.is_some_and(|first| first == groups)
                    && used.iter().all(|column| index.columns.contains(column))
            })
    }
}

/// The columns that are grouped by; `None` if an expression is.
unsafe fn grouping_columns(query: *mut pg_sys::Query) -> Option<BTreeSet<i16>> {
    // SAFETY: reads an analyzed query.
    unsafe {
        items::<pg_sys::SortGroupClause>((*query).groupClause)
            .into_iter()
            .map(|clause| {
                let entry = super::shape::entry_of(query, (*clause).tleSortGroupRef)?;
                node_as!((*entry).expr, T_Var).map(|var| (*var.cast::<pg_sys::Var>()).varattno)
            })
            .collect()
    }
}

unsafe fn used_columns(query: *mut pg_sys::Query) -> BTreeSet<i16> {
    let mut used = BTreeSet::new();
    // SAFETY: a read-only walk.
    unsafe {
        tree::walk(query.cast(), |n| {
            if let Some(var) = node_as!(n, T_Var) {
                used.insert((*var.cast::<pg_sys::Var>()).varattno);
            }
            Visit::Deeper
        });
    }
    used
}

struct Index {
    /// How many columns it is sorted by; the others are only in it.
    keys: usize,
    /// 0 is an expression.
    columns: Vec<i16>,
}

/// The B-trees of a table that have all its rows.
unsafe fn indexes(relid: pg_sys::Oid) -> Vec<Index> {
    // SAFETY: the relation is locked by the query that names it, and so are its indexes by their table.
    unsafe {
        let relation = pg_sys::RelationIdGetRelation(relid);
        if relation.is_null() {
            return Vec::new();
        }
        let mut found = Vec::new();
        for oid in tree::oids(pg_sys::RelationGetIndexList(relation)) {
            let index = pg_sys::RelationIdGetRelation(oid);
            if index.is_null() {
                continue;
            }
            let form = (*index).rd_index;
            if (*(*index).rd_rel).relam.to_u32() == BTREE
                && (*form).indisvalid
                && pg_sys::RelationGetIndexPredicate(index).is_null()
            {
                let columns = (*form).indkey.values.as_slice((*form).indnatts as usize).to_vec();
                found.push(Index { keys: (*form).indnkeyatts as usize, columns });
            }
            pg_sys::RelationClose(index);
        }
        pg_sys::RelationClose(relation);
        found
    }
}
