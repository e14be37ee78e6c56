//! The statement of a scan, addressed to any subset of a node's shards ([`crate::plan::tasks`]).
//!
//! `SELECT id FROM public.orders` is printed once more as `SELECT id FROM "shard of 16402" orders`
//! ([`shard_text`]); for a task, the list of its shards takes the marker's place.
//!
//! Not where a table is more than the rows of its shards: what is refused there, columns that a primary key makes
//! part of a group (a `UNION ALL` has no key), and policies, which are the parent's. Nor where shards of several
//! colocation groups are named, as in a CTE that nobody reads: a part of the one's says nothing of the other's.

use crate::catalog::{TableId, quote_identifier};
use crate::ddl::text::commas;
use crate::node_as;
use crate::pg::tree::{self, Visit};
use crate::pg::{catalog_cache, gucs, shard_text, tuple};
use crate::plan::tasks::{Cut, Size};
use pgrx::pg_sys;

/// The statement for subsets; `None` if it cannot be cut, or is not to be.
pub unsafe fn of(query: *mut pg_sys::Query, size: Size) -> Option<Cut> {
    if gucs::max_tasks_per_node() < 2 {
        return None;
    }
    // SAFETY: `query` is a statement ready to be printed; its tables are locked.
    unsafe {
        if relies_on_key(query) {
            return None;
        }
        let map = catalog_cache::cluster()?;
        let sql = shard_text::shard_sql(query, &map)?;
        let group = |table: &TableId| map.distribution(*table).map(|(group, _)| group.id);
        let is_one_group = sql.tables.windows(2).all(|pair| group(&pair[0]) == group(&pair[1]));
        if !is_one_group || sql.tables.iter().any(|table| has_policies(*table)) {
            return None;
        }
        let columns = |table: &TableId| {
            commas(tuple::columns(pg_sys::Oid::from(table.0)).into_iter().map(|c| quote_identifier(&c.name)))
        };
        let columns = sql.tables.iter().map(columns).collect();
        Some(Cut { sql, columns, size })
    }
}

/// Whether a column may stand beside groups because a key determines it.
unsafe fn relies_on_key(query: *mut pg_sys::Query) -> bool {
    // SAFETY: a read-only walk; the walk begins below the query itself.
    unsafe {
        let relies = |query: *mut pg_sys::Query| !(*query).constraintDeps.is_null();
        relies(query)
            || tree::walk(query.cast(), |n| match node_as!(n, T_Query) {
                Some(below) if relies(below.cast()) => Visit::Stop,
                _ => Visit::Deeper,
            })
    }
}

unsafe fn has_policies(table: TableId) -> bool {
    // SAFETY: the relation is locked by the query that names it.
    unsafe {
        let relation = pg_sys::RelationIdGetRelation(pg_sys::Oid::from(table.0));
        if relation.is_null() {
            return true;
        }
        let has = (*(*relation).rd_rel).relrowsecurity;
        pg_sys::RelationClose(relation);
        has
    }
}
