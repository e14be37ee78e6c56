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
//! - [`reduce`]: only rows that will be joined
//! - [`send`]: rows as parameters

pub mod candidate;
pub mod conditions;
pub mod mark;
mod reduce;
pub mod send;
mod wrap;

use crate::catalog::ClusterMap;
use crate::pg::gucs;
use crate::pg::pushdown::shape;
use candidate::Candidate;
use conditions::LeftOut;
use pgrx::pg_sys;

/// How many others are tried to be left on the nodes.
const ATTEMPTS: usize = 6;

/// What of a query is shipped; it can be taken back.
pub struct Shipped {
    candidates: Vec<Candidate>,
    chosen: Vec<usize>,
    /// Conditions that shipped rows have passed.
    passed: Vec<LeftOut>,
}

impl Shipped {
    /// Makes the query as it was.
    pub unsafe fn take_back(mut self) {
        // SAFETY: the query is still there.
        unsafe { self.clear() }
    }

    unsafe fn clear(&mut self) {
        for conditions in self.passed.drain(..).rev() {
            // SAFETY: as above; last out, first in.
            unsafe { conditions.put_back() };
        }
        for i in self.chosen.drain(..) {
            // SAFETY: as above.
            unsafe { self.candidates[i].set(false) };
        }
    }

    /// Whether one candidate is the other or a part of it.
    fn is_part(&self, one: usize, other: usize) -> bool {
        one == other || self.candidates[one].is_within(&[other])
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
        let mut shipped = Shipped { candidates, chosen: Vec::new(), passed: Vec::new() };
        let is_left = || shape::reads_distributed(query.cast(), map);
        let mut enough = shipped.add_until(&order, &fits, is_left);
        // The smallest ones of all may be the wrong ones: then another one stays, the largest ones first.
        for stays in order.iter().rev().take(ATTEMPTS) {
            if enough {
                break;
            }
            shipped.clear();
            let others: Vec<usize> = order.iter().copied().filter(|i| !shipped.is_part(*stays, *i)).collect();
            enough = shipped.add_until(&others, &fits, is_left);
        }
        if !enough || shipped.without_needless(&fits) > limit {
            shipped.clear();
            return None;
        }
        shipped.reduce(map);
        shipped.leave_out();
        Some(shipped)
    }
}

impl Shipped {
    /// Ships one after the other until that is enough; whether it is. What leaves nothing to the nodes is left out.
    unsafe fn add_until(&mut self, order: &[usize], fits: &impl Fn() -> bool, is_left: impl Fn() -> bool) -> bool {
        for i in order.iter().copied() {
            if self.candidates[i].is_within(&self.chosen) {
                continue;
            }
            // SAFETY: as `choose`.
            unsafe { self.candidates[i].set(true) };
            if !is_left() {
                // SAFETY: as `choose`.
                unsafe { self.candidates[i].set(false) };
                continue;
            }
            self.chosen.push(i);
            if fits() {
                return true;
            }
        }
        false
    }

    /// Leaves out rows that will not be joined.
    unsafe fn reduce(&self, map: &ClusterMap) {
        let tables: Vec<_> = self.chosen.iter().filter_map(|i| self.candidates[*i].table()).collect();
        let mut queries: Vec<_> = tables.iter().map(|(query, _)| *query).collect();
        queries.sort();
        queries.dedup();
        for query in queries {
            let of_query: Vec<_> = tables.iter().filter(|(q, _)| *q == query).map(|(_, table)| *table).collect();
            // SAFETY: as `choose`.
            unsafe { reduce::all(query, &of_query, map) };
        }
    }

    /// Takes out of the query what the shipped rows of its tables have passed.
    unsafe fn leave_out(&mut self) {
        for (query, (rti, _)) in self.chosen.iter().filter_map(|i| self.candidates[*i].table()) {
            // SAFETY: as `choose`.
            self.passed.push(unsafe { conditions::leave_out(query, rti) });
        }
    }

    /// Keeps what was chosen early and turns out not to be needed; the bytes that are left to be sent.
    unsafe fn without_needless(&mut self, fits: &impl Fn() -> bool) -> f64 {
        for at in (0..self.chosen.len() - 1).rev() {
            let candidate = &self.candidates[self.chosen[at]];
            // SAFETY: as `choose`.
            unsafe { candidate.set(false) };
            if fits() {
                self.chosen.remove(at);
            } else {
                // SAFETY: as `choose`.
                unsafe { candidate.set(true) };
            }
        }
        self.chosen.iter().map(|i| self.candidates[*i].bytes).sum()
    }
}
