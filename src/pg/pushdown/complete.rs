//! What the place of a query's rows says of its groups: which of them are whole on their node.
//!
//! In `SELECT tenant, count(*) FROM orders GROUP BY tenant`, with `tenant` as the shard key, all rows of a group are on one
//! node; in `GROUP BY city` they are not. The same is asked of a window's partitions, and of duplicates.

use super::place::{Block, Reading};
use super::shape;
use crate::node_as;
use crate::pg::query_tree::{deterministic, strip_relabel};
use crate::pg::tree::{Node, items};
use crate::plan::pushdown::Place;
use pgrx::pg_sys;

impl Reading<'_> {
    /// Whether the rows of each group are on one node.
    pub unsafe fn completes_groups(&self, query: *mut pg_sys::Query, block: &Block) -> bool {
        // SAFETY: reads an analyzed query.
        unsafe { (*query).groupingSets.is_null() && self.has_key(query, (*query).groupClause, block) }
    }

    /// Whether the rows of each partition of each window are on one node.
    pub unsafe fn completes_windows(&self, query: *mut pg_sys::Query, block: &Block) -> bool {
        // SAFETY: as above.
        unsafe {
            !(*query).hasWindowFuncs
                || items::<pg_sys::WindowClause>((*query).windowClause)
                    .into_iter()
                    .all(|w| self.has_key(query, (*w).partitionClause, block))
        }
    }

    /// Whether rows that are duplicates of each other are on one node.
    pub unsafe fn completes_distinct(&self, query: *mut pg_sys::Query, block: &Block) -> bool {
        // SAFETY: as above.
        unsafe { self.has_key(query, (*query).distinctClause, block) }
    }

    unsafe fn has_key(&self, query: *mut pg_sys::Query, clauses: *mut pg_sys::List, block: &Block) -> bool {
        // SAFETY: each clause names a target entry.
        unsafe {
            items::<pg_sys::SortGroupClause>(clauses).into_iter().any(|clause| {
                self.compares_keys((*clause).eqop)
                    && shape::entry_of(query, (*clause).tleSortGroupRef)
                        .is_some_and(|t| self.key(&block.place, block.frame, (*t).expr.cast()) == Some(true))
            })
        }
    }

    /// Whether an operator is the equality by which keys are hashed: a cast that changes nothing of a value
    /// may still change what it is equal to (`text` to `citext`).
    pub(super) unsafe fn compares_keys(&self, operator: pg_sys::Oid) -> bool {
        // SAFETY: a syscache look-up.
        self.reader
            .families
            .iter()
            .any(|f| unsafe { pg_sys::get_op_opfamily_strategy(operator, pg_sys::Oid::from(*f)) == 1 })
    }

    /// Whether an expression of the block tells the node: `Some(true)` also if it is NULL.
    pub(super) unsafe fn key(&self, place: &Place, frame: usize, expr: *mut Node) -> Option<bool> {
        // SAFETY: an expression of that frame's query.
        unsafe {
            let Place::Split(keys) = place else { return None };
            let var = node_as!(strip_relabel(expr), T_Var)?.cast::<pg_sys::Var>();
            // A column of another table may equal a key by the letter, and other columns by its own collation.
            if (*var).varlevelsup != 0 || !deterministic(pg_sys::exprCollation(expr)) {
                return None;
            }
            self.reader
                .families
                .iter()
                .filter_map(|f| self.reader.resolve(frame, (*var).varno as u32, (*var).varattno, *f, &self.frames))
                .filter(|t| keys.contains(t))
                .map(|t| keys.strong.contains(&t))
                .max()
        }
    }

    /// Whether an expression of the block is a shard key of its row, or NULL.
    pub unsafe fn is_key(&self, block: &Block, expr: *mut Node) -> bool {
        // SAFETY: as above.
        unsafe { self.key(&block.place, block.frame, expr).is_some() }
    }

    /// The same for an expression that is compared by its type's own equality.
    pub unsafe fn is_distinct_key(&self, block: &Block, expr: *mut Node) -> bool {
        // SAFETY: as above; the cache entry lives as long as the backend.
        unsafe {
            let cache = pg_sys::lookup_type_cache(pg_sys::exprType(expr), pg_sys::TYPECACHE_EQ_OPR as i32);
            self.compares_keys((*cache).eq_opr) && self.is_key(block, expr)
        }
    }
}
