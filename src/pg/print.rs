//! `Query` to SQL text: Postgres prints it, under a pinned search path so that every name is qualified.
//!
//! A column in ORDER BY is printed by its bare name where there is one table, and read as the output column of that
//! name if there is one: `SELECT a AS b, b AS a FROM t ORDER BY t.a` would come back as `ORDER BY a`. Where that may
//! happen, an entry of the range table that stands for nothing makes Postgres qualify all columns.

use crate::node_as;
use crate::pg::compat;
use crate::pg::guard::boundary;
use crate::pg::tree::{self, items};
use pgrx::pg_sys;
use std::ffi::CStr;

/// The statement's text. `query` may be scribbled on.
pub unsafe fn query_text(query: *mut pg_sys::Query) -> String {
    // SAFETY: the text is palloc'd.
    unsafe {
        if names_mix(query) {
            let nothing = tree::make::<pg_sys::RangeTblEntry>(pg_sys::NodeTag::T_RangeTblEntry);
            (*nothing).rtekind = pg_sys::RTEKind::RTE_RESULT;
            (*nothing).eref = pg_sys::makeAlias(c"nothing".as_ptr(), std::ptr::null_mut());
            (*query).rtable = pg_sys::lappend(pg_sys::list_copy((*query).rtable), nothing.cast());
        }
        let text = compat::with_catalog_search_path(|| boundary(|| pg_sys::pg_get_querydef(query, false)));
        let sql = CStr::from_ptr(text).to_string_lossy().into_owned();
        pg_sys::pfree(text.cast());
        sql
    }
}

/// Whether a column that is sorted by may have the name of another output column.
unsafe fn names_mix(query: *mut pg_sys::Query) -> bool {
    // SAFETY: reads an analyzed query.
    unsafe {
        let q = &*query;
        if q.sortClause.is_null() && !q.hasDistinctOn {
            return false;
        }
        let [rte] = items::<pg_sys::RangeTblEntry>(q.rtable)[..] else { return false };
        let columns = items::<pg_sys::String>((*(*rte).eref).colnames);
        let entries = items::<pg_sys::TargetEntry>(q.targetList);
        let name_of = |entry: *mut pg_sys::TargetEntry| {
            let var = node_as!((*entry).expr, T_Var)?.cast::<pg_sys::Var>();
            let name = columns.get(usize::try_from((*var).varattno).ok()?.checked_sub(1)?)?;
            Some(CStr::from_ptr((**name).sval))
        };
        let mut clauses = items::<pg_sys::SortGroupClause>(q.sortClause);
        clauses.extend(items::<pg_sys::SortGroupClause>(q.distinctClause));
        clauses.into_iter().any(|clause| {
            let Some(sorted) = entries.iter().find(|e| (***e).ressortgroupref == (*clause).tleSortGroupRef) else {
                return false;
            };
            let Some(name) = name_of(*sorted) else { return false };
            entries.iter().any(|other| {
                let (other, same) = (*other, pg_sys::equal((**other).expr.cast(), (**sorted).expr.cast()));
                // An expression without a name gets one of its own: a function's, mostly.
                let mixes = if (*other).resname.is_null() {
                    name_of(other).is_none()
                } else {
                    CStr::from_ptr((*other).resname) == name
                };
                !same && !(*other).resjunk && mixes
            })
        })
    }
}
