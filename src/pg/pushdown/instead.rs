//! What runs in the place of a statement that ships, if there prove to be far more rows to send than the planner thought.
//!
//! ```text
//! pushed     SELECT count(*) FROM lineitem, unnest($1) part(p_partkey) WHERE l_partkey = p_partkey
//! instead    SELECT count(*) FROM lineitem, part WHERE l_partkey = p_partkey AND p_size > 3      here
//! ```
//!
//! The same query once more, with nothing marked as shipped: Postgres joins here what it reads of the tables one by one, in
//! memory that `work_mem` bounds. It is a CTE of the stand-in that nobody names; the scan runs it if it has to, and nothing
//! of it is sent before. What it costs does not count.

use super::order::Order;
use super::ship::{mark, send};
use super::{Rewriter, Shipping, sort};
use crate::pg::tree::{self, items};
use pgrx::pg_sys;

impl Rewriter<'_> {
    /// The CTE for the nodes' half of a query, whose rows come in this order.
    pub(super) unsafe fn instead(
        &mut self,
        inner: *mut pg_sys::Query,
        order: Option<&Order>,
    ) -> *mut pg_sys::CommonTableExpr {
        // SAFETY: a copy is changed.
        unsafe {
            let query = tree::copy(inner);
            mark::clear(query.cast());
            if let Some(order) = order {
                sort(query, order);
            }
            let shipping = std::mem::replace(&mut self.shipping, Shipping::Forbidden);
            self.parts(query);
            self.shipping = shipping;
            mark::set_instead(query);
            let columns: Vec<*mut pg_sys::TargetEntry> =
                items::<pg_sys::TargetEntry>((*query).targetList).into_iter().filter(|t| !(**t).resjunk).collect();
            send::cte(c"joined here", query, &columns)
        }
    }
}
