//! The parts of a query that is not pushed down as a whole: subqueries, CTEs and what stands in expressions.
//!
//! `SELECT ... FROM (SELECT a, sum(b) FROM orders GROUP BY a) s JOIN local_table USING (a)` is joined here, but `s` runs on
//! the nodes, inside of a plan that Postgres makes for the rest.

use super::{Level, Rewriter, shape};
use crate::node_as;
use crate::pg::query_tree::is_simple;
use crate::pg::tree::items;
use pgrx::pg_sys;

impl Rewriter<'_> {
    /// Pushes down subqueries that make few rows of many.
    pub(super) unsafe fn parts(&mut self, query: *mut pg_sys::Query) {
        // SAFETY: the private copy is changed in place.
        unsafe {
            for rte in items::<pg_sys::RangeTblEntry>((*query).rtable) {
                if (*rte).rtekind == pg_sys::RTEKind::RTE_SUBQUERY {
                    let sub = (*rte).subquery;
                    let is_filtered = (*query).jointree.is_null() || !(*(*query).jointree).quals.is_null();
                    (*rte).subquery = if is_simple(sub) && !(*sub).sortClause.is_null() && !is_filtered {
                        self.whole(sub)
                    } else {
                        self.part(sub)
                    };
                }
            }
            for cte in items::<pg_sys::CommonTableExpr>((*query).cteList) {
                if let Some(q) = node_as!((*cte).ctequery, T_Query)
                    && !(*cte).cterecursive
                {
                    (*cte).ctequery = self.part(q.cast()).cast();
                }
            }
            for link in shape::own_sublinks(query) {
                (*link).subselect = self.part((*link).subselect.cast()).cast();
            }
        }
    }

    /// A query whose rows are sent to the nodes.
    pub(super) unsafe fn source(&mut self, query: *mut pg_sys::Query) -> *mut pg_sys::Query {
        // SAFETY: as above.
        unsafe {
            if (*query).hasSubLinks
                && shape::reads_distributed(query.cast(), self.map)
                && let Ok(outer) = self.block(query, Level::Below)
            {
                return outer;
            }
            self.part(query)
        }
    }

    pub(super) unsafe fn part(&mut self, query: *mut pg_sys::Query) -> *mut pg_sys::Query {
        // SAFETY: as above.
        unsafe {
            if is_simple(query) {
                self.parts(query);
                return query;
            }
            self.whole(query)
        }
    }

    /// What stands for a subquery that is pushed down if it can be, else its parts.
    unsafe fn whole(&mut self, query: *mut pg_sys::Query) -> *mut pg_sys::Query {
        // SAFETY: as above.
        unsafe {
            if shape::reads_distributed(query.cast(), self.map)
                && !shape::is_correlated(query)
                && let Ok(outer) = self.block(query, Level::Below)
            {
                (*outer).canSetTag = (*query).canSetTag;
                return outer;
            }
            self.parts(query);
            query
        }
    }
}
