//! What of a query could be shipped: its tables, each with its filters, and subqueries that look at nothing outside.
//!
//! In `FROM lineitem, part, (SELECT ... GROUP BY l_suppkey) r WHERE ... NOT IN (SELECT s_suppkey FROM supplier)` these
//! are `lineitem`, `part`, `r`, the `lineitem` within `r`, the subquery of NOT IN, and `supplier`. Whether it is
//! sound to have their rows on every node is not asked here: [`place`](super::super::place) does.

use super::cut::{self, Keys};
use super::mark::{self, To};
use super::wrap::{self, Repeats};
use super::{conditions, reduce};
use crate::catalog::{ClusterMap, TableId};
use crate::node_as;
use crate::pg::pushdown::shape;
use crate::pg::query_tree::is_simple;
use crate::pg::tree::{self, Node, Visit, items};
use crate::pg::{gucs, planner};
use pgrx::pg_sys;
use std::ptr;

/// A query whose rows could be sent.
pub struct Candidate {
    query: *mut pg_sys::Query,
    /// A table's entry as it was, and as a subquery.
    entry: Option<Entry>,
    /// Candidates that this one is a part of.
    around: Vec<usize>,
    /// An estimate.
    pub bytes: f64,
    /// The columns by which its rows may be cut, the best one first.
    pub cuts: Vec<i16>,
}

struct Entry {
    /// The query that joins the table, and its number there.
    of: *mut pg_sys::Query,
    rti: u32,
    at: *mut pg_sys::RangeTblEntry,
    table: pg_sys::RangeTblEntry,
    subquery: pg_sys::RangeTblEntry,
}

impl Candidate {
    /// Ships it, or not.
    pub unsafe fn set(&self, to: Option<To>) {
        // SAFETY: the query is a private copy that lives as long as the candidates.
        unsafe {
            mark::set_shipped(self.query, to);
            if let Some(entry) = &self.entry {
                *entry.at = if to.is_some() { entry.subquery } else { entry.table };
            }
        }
    }

    /// Where its rows are sent.
    pub unsafe fn shipped_to(&self) -> Option<To> {
        // SAFETY: as above.
        unsafe { mark::shipped_to(self.query) }
    }

    /// The query that joins it, its number there, and its subquery, if it is a table.
    pub fn table(&self) -> Option<(*mut pg_sys::Query, reduce::Table)> {
        self.entry.as_ref().map(|entry| (entry.of, (entry.rti, self.query)))
    }

    /// Whether it is a part of one of these.
    pub fn is_within(&self, others: &[usize]) -> bool {
        self.around.iter().any(|a| others.contains(a))
    }
}

/// How a query is used by the one around it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// FROM, WITH, the statement itself.
    Rows,
    /// EXISTS, IN: Postgres joins it.
    Test,
    /// Evaluated for each row.
    Value,
}

/// All candidates of a query, with estimates of their size.
pub unsafe fn all(query: *mut pg_sys::Query, map: &ClusterMap, keys: &Keys) -> Vec<Candidate> {
    let mut search = Search { map, keys, found: Vec::new() };
    // SAFETY: a private copy of an analyzed query.
    unsafe { search.within(query, Use::Rows, &[]) };
    search.found
}

struct Search<'a> {
    map: &'a ClusterMap,
    keys: &'a Keys,
    found: Vec<Candidate>,
}

impl Search<'_> {
    unsafe fn within(&mut self, query: *mut pg_sys::Query, usage: Use, around: &[usize]) {
        // SAFETY: only candidates' entries will be changed, in a private copy.
        unsafe {
            for (i, rte) in items::<pg_sys::RangeTblEntry>((*query).rtable).into_iter().enumerate() {
                match (*rte).rtekind {
                    pg_sys::RTEKind::RTE_RELATION => self.table(query, i as u32 + 1, usage, around),
                    pg_sys::RTEKind::RTE_SUBQUERY => {
                        let cuts = self.cuts(query, i as u32 + 1, (*rte).subquery);
                        self.subquery((*rte).subquery, usage.within_from(), around, cuts);
                    }
                    _ => {}
                }
            }
            for cte in items::<pg_sys::CommonTableExpr>((*query).cteList) {
                if let Some(q) = node_as!((*cte).ctequery, T_Query)
                    && !(*cte).cterecursive
                    && (*cte).cterefcount > 0
                {
                    self.subquery(q.cast(), Use::Rows, around, Vec::new());
                }
            }
            for link in shape::own_sublinks(query) {
                let sub = (*link).subselect.cast::<pg_sys::Query>();
                if shape::is_statement_value(link, self.map) {
                    continue;
                }
                let usage = match (*link).subLinkType {
                    pg_sys::SubLinkType::EXISTS_SUBLINK | pg_sys::SubLinkType::ANY_SUBLINK => Use::Test,
                    _ => Use::Value,
                };
                let exists = (*link).subLinkType == pg_sys::SubLinkType::EXISTS_SUBLINK;
                if exists {
                    forget_columns(sub);
                }
                if exists && self.reads_elsewhere(sub) && !shape::is_correlated(sub) {
                    limit_to_one(sub);
                }
                let is_test = (*link).subLinkType == pg_sys::SubLinkType::ANY_SUBLINK && gucs::SHIP_BY_KEY.get();
                let cuts = if is_test && cut::can_be_hashed(sub, 1, self.keys) { vec![1] } else { vec![] };
                self.subquery(sub, usage, around, cuts);
            }
        }
    }

    unsafe fn cuts(&self, query: *mut pg_sys::Query, rti: u32, columns: *mut pg_sys::Query) -> Vec<i16> {
        if !gucs::SHIP_BY_KEY.get() {
            return Vec::new();
        }
        // SAFETY: as above.
        unsafe { cut::columns(query, rti, columns, self.keys, self.map) }
    }

    unsafe fn subquery(&mut self, sub: *mut pg_sys::Query, usage: Use, around: &[usize], cuts: Vec<i16>) {
        // SAFETY: as above.
        unsafe {
            if (*sub).commandType != pg_sys::CmdType::CMD_SELECT || !self.reads_elsewhere(sub) {
                return;
            }
            let mut around = around.to_vec();
            if !shape::is_correlated(sub) && has_arrays(sub) {
                self.add(sub, None, &around, cuts);
                around.push(self.found.len() - 1);
            }
            self.within(sub, usage, &around);
        }
    }

    unsafe fn table(&mut self, query: *mut pg_sys::Query, rti: u32, usage: Use, around: &[usize]) {
        // SAFETY: as above.
        unsafe {
            let rte = tree::entry((*query).rtable, rti);
            let reference = self.map.table(TableId((*rte).relid.to_u32())).is_some_and(|t| !t.is_distributed());
            // Grouping by a primary key stands for its table's other columns, as long as it is a table.
            let depends_on_key = !(*query).constraintDeps.is_null();
            if shape::is_view(rte) || reference || depends_on_key || !(*rte).tablesample.is_null() {
                return;
            }
            // What is looked up for each row needs its index.
            if usage == Use::Value && conditions::look_outside(query, rti) {
                return;
            }
            let repeats = if usage == Use::Test { Repeats::DoNotCount } else { Repeats::Count };
            let Some(sub) = wrap::subquery(query, rti, repeats) else { return };
            if !has_arrays(sub) {
                return;
            }
            let table = *rte;
            wrap::turn_into(rte, sub);
            let entry = Entry { of: query, rti, at: rte, table, subquery: *rte };
            *rte = table;
            let cuts = self.cuts(query, rti, sub);
            self.add(sub, Some(entry), around, cuts);
        }
    }

    unsafe fn add(&mut self, query: *mut pg_sys::Query, entry: Option<Entry>, around: &[usize], cuts: Vec<i16>) {
        // SAFETY: the planner gets a copy.
        let bytes = unsafe { planner::estimate(tree::copy(query)).bytes };
        self.found.push(Candidate { query, entry, around: around.to_vec(), bytes, cuts });
    }

    /// Whether it reads tables that are not on every node.
    unsafe fn reads_elsewhere(&self, query: *mut pg_sys::Query) -> bool {
        // SAFETY: a read-only walk.
        unsafe {
            tree::walk(query.cast(), |n| {
                let elsewhere = node_as!(n, T_RangeTblEntry).is_some_and(|rte| {
                    let rte = rte.cast::<pg_sys::RangeTblEntry>();
                    (*rte).rtekind == pg_sys::RTEKind::RTE_RELATION
                        && !shape::is_view(rte)
                        && self.map.table(TableId((*rte).relid.to_u32())).is_none_or(|t| t.is_distributed())
                });
                if elsewhere { Visit::Stop } else { Visit::Deeper }
            })
        }
    }
}

impl Use {
    fn within_from(self) -> Use {
        if self == Use::Value { Use::Value } else { Use::Rows }
    }
}

/// EXISTS asks for no column: of `SELECT *` nothing is to be sent.
unsafe fn forget_columns(sub: *mut pg_sys::Query) {
    // SAFETY: a private copy.
    unsafe {
        if is_simple(sub) && (*sub).sortClause.is_null() {
            let one = pg_sys::Datum::from(1);
            let one = pg_sys::makeConst(pg_sys::INT4OID, -1, pg_sys::InvalidOid, 4, one, false, true);
            (*sub).targetList =
                tree::list_of([pg_sys::makeTargetEntry(one.cast(), 1, c"one".as_ptr().cast_mut(), false)]);
        }
    }
}

/// EXISTS asks for one row.
unsafe fn limit_to_one(sub: *mut pg_sys::Query) {
    // SAFETY: a private copy.
    unsafe {
        if is_simple(sub) {
            let one = pg_sys::Datum::from(1i64);
            (*sub).limitCount =
                pg_sys::makeConst(pg_sys::INT8OID, -1, pg_sys::InvalidOid, 8, one, false, true).cast::<Node>();
            (*sub).sortClause = ptr::null_mut();
        }
    }
}

/// Whether there are arrays of each column's type, with the column's values as their elements.
unsafe fn has_arrays(query: *mut pg_sys::Query) -> bool {
    // SAFETY: syscache look-ups.
    unsafe {
        items::<pg_sys::TargetEntry>((*query).targetList).into_iter().filter(|t| !(**t).resjunk).all(|t| {
            let kind = pg_sys::exprType((*t).expr.cast());
            let base = pg_sys::getBaseType(kind);
            pg_sys::get_array_type(kind) != pg_sys::InvalidOid
                && pg_sys::get_element_type(base) == pg_sys::InvalidOid
                && pg_sys::get_typtype(base) as u8 != b'c'
                && !matches!(base, pg_sys::RECORDOID | pg_sys::UNKNOWNOID | pg_sys::CSTRINGOID)
        })
    }
}
