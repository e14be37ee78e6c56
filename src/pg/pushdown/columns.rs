//! The columns that the nodes send up: grouping expressions, partial aggregates, plain columns.
//!
//! Each expression is sent once; above, it is a column of the only range table entry there is.

use crate::pg::tree::{self, Node, list_of};
use pgrx::pg_sys;
use std::ptr;

#[derive(Default)]
pub struct Columns {
    entries: Vec<Column>,
}

struct Column {
    expr: *mut Node,
    /// How it is grouped.
    group: Option<*mut pg_sys::SortGroupClause>,
}

impl Columns {
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether the rows are all different from each other.
    pub fn are_all_grouped(&self) -> bool {
        self.entries.iter().all(|c| c.group.is_some())
    }

    /// A grouping expression of the query itself.
    pub unsafe fn group_as(&mut self, expr: *mut Node, clause: *mut pg_sys::SortGroupClause) {
        // SAFETY: nodes of the query are copied.
        unsafe {
            if self.find(expr, true).is_none() {
                self.entries.push(Column { expr: tree::copy(expr), group: Some(tree::copy(clause)) });
            }
        }
    }

    /// An expression to group by besides; `None` if its type has no equality.
    pub unsafe fn group(&mut self, expr: *mut Node) -> Option<*mut pg_sys::Var> {
        // SAFETY: as above.
        unsafe {
            if let Some(i) = self.find(expr, true) {
                return Some(self.var(i));
            }
            let flags = pg_sys::TYPECACHE_EQ_OPR | pg_sys::TYPECACHE_LT_OPR | pg_sys::TYPECACHE_HASH_PROC;
            let cache = pg_sys::lookup_type_cache(pg_sys::exprType(expr), flags as i32);
            if (*cache).eq_opr == pg_sys::InvalidOid {
                return None;
            }
            let clause = tree::make::<pg_sys::SortGroupClause>(pg_sys::NodeTag::T_SortGroupClause);
            (*clause).eqop = (*cache).eq_opr;
            (*clause).sortop = (*cache).lt_opr;
            (*clause).hashable = (*cache).hash_proc != pg_sys::InvalidOid;
            if (*clause).sortop == pg_sys::InvalidOid && !(*clause).hashable {
                return None;
            }
            self.entries.push(Column { expr: tree::copy(expr), group: Some(clause) });
            Some(self.var(self.entries.len() - 1))
        }
    }

    /// A partial aggregate, or a plain column.
    pub unsafe fn partial(&mut self, expr: *mut Node) -> *mut pg_sys::Var {
        // SAFETY: as above.
        unsafe {
            let at = self.find(expr, false).unwrap_or_else(|| {
                self.entries.push(Column { expr: tree::copy(expr), group: None });
                self.entries.len() - 1
            });
            self.var(at)
        }
    }

    /// The column that is this grouping expression, among the first `count`.
    pub unsafe fn grouped(&self, expr: *mut Node, count: usize) -> Option<*mut pg_sys::Var> {
        // SAFETY: `equal` compares node trees.
        unsafe { self.find(expr, true).filter(|i| *i < count).map(|i| self.var(i)) }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    unsafe fn find(&self, expr: *mut Node, grouped: bool) -> Option<usize> {
        // SAFETY: as above.
        unsafe {
            self.entries.iter().position(|c| c.group.is_some() == grouped && pg_sys::equal(c.expr.cast(), expr.cast()))
        }
    }

    /// Column `at` (0-based) as seen above.
    unsafe fn var(&self, at: usize) -> *mut pg_sys::Var {
        // SAFETY: the expression is analyzed.
        unsafe { var_of(self.entries[at].expr, at) }
    }

    /// The SELECT list and GROUP BY clause of the nodes' query.
    pub unsafe fn clauses(&self) -> (*mut pg_sys::List, *mut pg_sys::List) {
        // SAFETY: lists are fresh.
        unsafe {
            let mut groups = Vec::new();
            let entries = list_of(self.entries.iter().enumerate().map(|(i, c)| {
                let entry = pg_sys::makeTargetEntry(c.expr.cast(), i as i16 + 1, ptr::null_mut(), false);
                if let Some(clause) = c.group {
                    (*entry).ressortgroupref = i as u32 + 1;
                    (*clause).tleSortGroupRef = i as u32 + 1;
                    groups.push(clause);
                }
                entry
            }));
            (entries, list_of(groups))
        }
    }
}

/// The column above that has an expression's values.
pub unsafe fn var_of(expr: *mut Node, at: usize) -> *mut pg_sys::Var {
    // SAFETY: the expression is analyzed.
    unsafe {
        pg_sys::makeVar(
            1,
            at as i16 + 1,
            pg_sys::exprType(expr),
            pg_sys::exprTypmod(expr),
            pg_sys::exprCollation(expr),
            0,
        )
    }
}
