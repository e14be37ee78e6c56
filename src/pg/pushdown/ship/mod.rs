//! Joins that are not on the shard key: the smaller side's rows are sent to the nodes, and the join is pushed down.
//!
//! ```text
//! SELECT sum(l_extendedprice) FROM lineitem, part WHERE l_partkey = p_partkey AND p_brand = 'Brand#12';
//!
//! here       $1 = ARRAY(SELECT p_partkey FROM part WHERE p_brand = 'Brand#12')
//! nodes      SELECT sum(l_extendedprice) FROM lineitem, (SELECT c1 FROM unnest($1) s(c1)) part(p_partkey) WHERE ...
//! here       sum of the sums
//! ```
//!
//! What may be shipped is a table with its filters (also one that only the coordinator has) or a subquery
//! ([`candidate`]). Its rows are then on every node, as those of a reference table, so the rules of
//! [`place`](super::place) say what is sound: inner joins, semi and anti joins, the nullable side of outer joins.
//! Of what is enough the least is sent, by the planner's estimates and never more than
//! `sharding.max_shipped_size`; whether that is cheaper than to join here, the costs of both plans say
//! ([`planner`](crate::pg::planner)).
//!
//! - [`mark`]: which queries are shipped
//! - [`wrap`], [`conditions`]: a table as a subquery with its filters
//! - [`send`]: rows as parameters

pub mod candidate;
mod conditions;
pub mod mark;
pub mod send;
mod wrap;

use crate::catalog::ClusterMap;
use crate::pg::gucs;
use candidate::Candidate;
use pgrx::pg_sys;

/// What of a query is shipped; it can be taken back.
pub struct Shipped {
    candidates: Vec<Candidate>,
    chosen: Vec<usize>,
}

impl Shipped {
    /// Makes the query as it was.
    pub unsafe fn take_back(self) {
        for i in self.chosen {
            // SAFETY: the query is still there.
            unsafe { self.candidates[i].set(false) };
        }
    }
}

/// Chooses what to ship so that `fits` is true of the query, which is changed in place; `None` if nothing helps.
pub unsafe fn choose(query: *mut pg_sys::Query, map: &ClusterMap, fits: impl Fn() -> bool) -> Option<Shipped> {
    let limit = gucs::max_shipped_bytes();
    // SAFETY: a private copy of an analyzed query.
    unsafe {
        let candidates = candidate::all(query, map);
        let mut order: Vec<usize> = (0..candidates.len()).filter(|i| candidates[*i].bytes <= limit).collect();
        order.sort_by(|a, b| candidates[*a].bytes.total_cmp(&candidates[*b].bytes));
        let mut shipped = Shipped { candidates, chosen: Vec::new() };
        let mut enough = false;
        for i in order {
            if shipped.candidates[i].is_within(&shipped.chosen) {
                continue;
            }
            shipped.candidates[i].set(true);
            shipped.chosen.push(i);
            enough = fits();
            if enough {
                break;
            }
        }
        if !enough {
            shipped.take_back();
            return None;
        }
        // What was chosen early may not be needed.
        for at in (0..shipped.chosen.len() - 1).rev() {
            let candidate = &shipped.candidates[shipped.chosen[at]];
            candidate.set(false);
            if fits() {
                shipped.chosen.remove(at);
            } else {
                candidate.set(true);
            }
        }
        let all: f64 = shipped.chosen.iter().map(|i| shipped.candidates[*i].bytes).sum();
        if all > limit {
            shipped.take_back();
            return None;
        }
        Some(shipped)
    }
}
