//! Joins that are not on the shard key: the smaller side's rows are sent to the nodes, and the join is pushed down.
//!
//! ```text
//! SELECT sum(l_extendedprice) FROM lineitem, part WHERE l_partkey = p_partkey AND p_brand = 'Brand#12';
//!
//! here       shipped 1 = SELECT p_partkey FROM part WHERE p_brand = 'Brand#12', as an array: $1
//! nodes      SELECT sum(l_extendedprice) FROM lineitem, (SELECT c1 FROM unnest($1) s(c1)) part(p_partkey) WHERE ...
//! here       sum of the sums
//! ```
//!
//! What may be shipped is a table with its filters (also one that only the coordinator has) or a subquery
//! ([`candidate`]). Its rows are then on every node, as those of a reference table, so the rules of
//! [`place`](super::place) say what is sound: inner joins, semi and anti joins, the nullable side of outer joins. Or each
//! is on one node, the one of its value in a column that is compared with a shard key ([`cut`]): then it is split like a
//! table, and the rules for those hold, which allow outer joins that keep its rows, too.
//!
//! Of what is enough the least is sent, by the planner's estimates and never more than
//! `sharding.max_shipped_size`; whether that is cheaper than to join here, the costs of both plans say
//! ([`planner`](crate::pg::planner)).
//!
//! - [`mark`]: which queries are shipped, and where to
//! - [`wrap`], [`conditions`]: a table as a subquery with its filters
//! - [`reduce`]: only rows that will be joined
//! - [`cut`]: by which column
//! - [`send`]: rows as parameters

pub mod candidate;
pub mod conditions;
mod cut;
pub mod mark;
mod reduce;
pub mod send;
mod wrap;

use crate::catalog::{ClusterMap, TableId};
use crate::pg::pushdown::place::Reason;
use crate::pg::pushdown::shape;
use crate::pg::{gucs, hash};
use candidate::Candidate;
use conditions::LeftOut;
use mark::To;
use pgrx::pg_sys;

/// How many others are tried to be left on the nodes.
const ATTEMPTS: usize = 6;

/// What of a query is shipped; it can be taken back.
pub struct Shipped {
    candidates: Vec<Candidate>,
    chosen: Vec<usize>,
    /// Conditions that shipped rows have passed.
    passed: Vec<LeftOut>,
    nodes: f64,
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
            unsafe { self.candidates[i].set(None) };
        }
    }

    /// Whether one candidate is the other or a part of it.
    fn is_part(&self, one: usize, other: usize) -> bool {
        one == other || self.candidates[one].is_within(&[other])
    }
}

/// Whether rows are sent by a key where there is one, or to all nodes first of all.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Preference {
    AllNodes,
    ByKey,
}

/// Chooses what to ship so that `fits` is true of the query, which is changed in place; `None` if nothing helps.
pub unsafe fn choose(query: *mut pg_sys::Query, map: &ClusterMap, fits: impl Fn() -> bool) -> Option<Shipped> {
    // SAFETY: a private copy of an analyzed query.
    unsafe {
        let keys = cut::keys(query, map);
        let candidates = candidate::all(query, map, &keys);
        let can_be_cut = candidates.iter().any(|c| !c.cuts.is_empty());
        let nodes = keys.nodes as f64;
        let mut shipped = Shipped { candidates, chosen: Vec::new(), passed: Vec::new(), nodes };
        let is_left = || shape::reads_distributed(query.cast(), map);
        let mut best = shipped.search(Preference::AllNodes, &fits, is_left);
        if can_be_cut {
            let by_key = shipped.search(Preference::ByKey, &fits, is_left);
            let is_less = |one: &Choice, other: &Option<Choice>| other.as_ref().is_none_or(|o| one.bytes < o.bytes);
            best = by_key.filter(|choice| is_less(choice, &best)).or(best);
        }
        for (i, to) in best?.chosen {
            shipped.candidates[i].set(Some(to));
            shipped.chosen.push(i);
        }
        shipped.reduce(map);
        shipped.leave_out();
        Some(shipped)
    }
}

/// Whether the rows of a query that are sent by a key can be sent by the keys of this table.
pub unsafe fn has_keys_of(query: *mut pg_sys::Query, table: TableId) -> Result<(), Reason> {
    // SAFETY: reads an analyzed query.
    unsafe {
        let shipped = mark::shipped_by_key(query.cast());
        if shipped.is_empty() {
            return Ok(());
        }
        let class = hash::key_class(table).map_err(|_| "a shard key cannot be hashed")?;
        let fits = |(sub, column): &(*mut pg_sys::Query, i16)| {
            cut::column_type(*sub, *column).is_some_and(|kind| class.hashes_alike(kind))
        };
        if shipped.iter().all(fits) { Ok(()) } else { Err("rows cannot be sent by a value of that type".into()) }
    }
}

/// What might be shipped, and how much that is: what all nodes get, by estimate.
struct Choice {
    chosen: Vec<(usize, To)>,
    bytes: f64,
}

impl Shipped {
    /// Looks for what is enough; nothing is shipped afterwards.
    unsafe fn search(
        &mut self,
        preference: Preference,
        fits: &impl Fn() -> bool,
        is_left: impl Fn() -> bool,
    ) -> Option<Choice> {
        let limit = gucs::max_shipped_bytes();
        let to = |candidate: &Candidate| match (preference, candidate.cuts.first()) {
            (Preference::ByKey, Some(column)) => To::By(*column),
            _ => To::AllNodes,
        };
        let sizes: Vec<(f64, To)> = self.candidates.iter().map(|c| (self.of_node(c, to(c)), to(c))).collect();
        let mut order: Vec<usize> = (0..sizes.len()).filter(|i| sizes[*i].0 <= limit).collect();
        order.sort_by(|a, b| sizes[*a].0.total_cmp(&sizes[*b].0));
        let ordered = |of: &[usize]| of.iter().map(|i| (*i, sizes[*i].1)).collect::<Vec<_>>();
        // SAFETY: as `choose`.
        unsafe {
            let mut enough = self.add_until(&ordered(&order), fits, &is_left);
            // The smallest ones of all may be the wrong ones: then another one stays, the largest ones first.
            for stays in order.iter().rev().take(ATTEMPTS) {
                if enough {
                    break;
                }
                self.clear();
                let others: Vec<usize> = order.iter().copied().filter(|i| !self.is_part(*stays, *i)).collect();
                enough = self.add_until(&ordered(&others), fits, &is_left);
            }
            let mut choice = None;
            if enough {
                self.without_needless(fits);
                self.cut(fits);
                let to = |i: &usize| self.candidates[*i].shipped_to().unwrap_or(To::AllNodes);
                let chosen: Vec<(usize, To)> = self.chosen.iter().map(|i| (*i, to(i))).collect();
                let bytes: f64 = chosen.iter().map(|(i, to)| self.of_node(&self.candidates[*i], *to)).sum();
                choice = (bytes <= limit).then_some(Choice { chosen, bytes: bytes * self.nodes });
            }
            self.clear();
            choice
        }
    }

    /// What one node gets of a candidate's rows.
    fn of_node(&self, candidate: &Candidate, to: To) -> f64 {
        match to {
            To::AllNodes => candidate.bytes,
            To::By(_) => candidate.bytes / self.nodes,
        }
    }

    /// Ships one after the other until that is enough; whether it is. What leaves nothing to the nodes is left out.
    unsafe fn add_until(
        &mut self,
        order: &[(usize, To)],
        fits: &impl Fn() -> bool,
        is_left: &impl Fn() -> bool,
    ) -> bool {
        for (i, to) in order.iter().copied() {
            if self.candidates[i].is_within(&self.chosen) {
                continue;
            }
            // SAFETY: as `choose`.
            unsafe { self.candidates[i].set(Some(to)) };
            if !is_left() {
                // SAFETY: as `choose`.
                unsafe { self.candidates[i].set(None) };
                continue;
            }
            self.chosen.push(i);
            if fits() {
                return true;
            }
        }
        false
    }

    /// Sends rows by a key where that is enough.
    unsafe fn cut(&mut self, fits: &impl Fn() -> bool) {
        for i in &self.chosen {
            let candidate = &self.candidates[*i];
            // SAFETY: as `choose`.
            unsafe {
                if candidate.shipped_to() != Some(To::AllNodes) {
                    continue;
                }
                for column in &candidate.cuts {
                    candidate.set(Some(To::By(*column)));
                    if fits() {
                        break;
                    }
                    candidate.set(Some(To::AllNodes));
                }
            }
        }
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

    /// Keeps what was chosen early and turns out not to be needed.
    unsafe fn without_needless(&mut self, fits: &impl Fn() -> bool) {
        for at in (0..self.chosen.len() - 1).rev() {
            let candidate = &self.candidates[self.chosen[at]];
            // SAFETY: as `choose`.
            unsafe {
                let to = candidate.shipped_to();
                candidate.set(None);
                if fits() {
                    self.chosen.remove(at);
                } else {
                    candidate.set(to);
                }
            }
        }
    }
}
