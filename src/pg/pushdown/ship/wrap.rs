//! A table in a FROM list becomes a subquery of what is needed of it, which can be shipped.
//!
//! `FROM lineitem, part` becomes `FROM lineitem, (SELECT p_partkey, NULL AS p_name, ... FROM part WHERE p_size > 3) part`.
//! Columns keep their numbers, those that nobody asks for being NULL, so that nothing else in the query changes.

use super::conditions;
use crate::node_as;
use crate::pg::query_tree::{deterministic, is_simple};
use crate::pg::tree::{self, Node, Visit, items, list_of};
use crate::pg::{compat, tuple};
use pgrx::pg_sys;
use std::collections::BTreeSet;
use std::ffi::CString;
use std::ptr;

/// Whether how often a row comes makes a difference.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Repeats {
    Count,
    /// The query is asked only whether it has rows.
    DoNotCount,
}

/// The subquery for table `rti` of a query; `None` if it cannot be one.
pub unsafe fn subquery(query: *mut pg_sys::Query, rti: u32, repeats: Repeats) -> Option<*mut pg_sys::Query> {
    // SAFETY: the new query is made of copies.
    unsafe {
        let rte = tree::entry((*query).rtable, rti);
        let conditions = conditions::of_table(query, rti)?;
        // What its rows have passed is not asked again, so the columns of that are not needed.
        let passed = conditions::leave_out(query, rti);
        let needed = used_columns(query, rti);
        passed.put_back();
        let needed = needed?;
        let names = items::<Node>((*(*rte).eref).colnames);
        let columns = tuple::columns((*rte).relid);
        let sub = tree::make::<pg_sys::Query>(pg_sys::NodeTag::T_Query);
        (*sub).commandType = pg_sys::CmdType::CMD_SELECT;
        (*sub).querySource = (*query).querySource;
        (*sub).stmt_location = -1;
        compat::adopt_entry(rte, query, sub);
        let own = tree::entry((*sub).rtable, 1);
        (*own).inFromCl = true;
        (*own).lateral = false;
        let mut entries = Vec::new();
        for (i, name) in names.into_iter().enumerate() {
            let attno = i as i16 + 1;
            let column = columns.iter().find(|c| c.attno == attno).filter(|_| needed.contains(&attno));
            let expr: *mut Node = match column {
                Some(c) => {
                    let collation = column_collation((*rte).relid, attno);
                    pg_sys::makeVar(1, attno, c.type_oid, c.typmod, collation, 0).cast()
                }
                None => pg_sys::makeNullConst(pg_sys::INT4OID, -1, pg_sys::InvalidOid).cast(),
            };
            entries.push(pg_sys::makeTargetEntry(expr.cast(), attno, column_name(name, attno), false));
        }
        (*sub).targetList = list_of(entries.iter().copied());
        let reference = tree::make::<pg_sys::RangeTblRef>(pg_sys::NodeTag::T_RangeTblRef);
        (*reference).rtindex = 1;
        let from = tree::make::<pg_sys::FromExpr>(pg_sys::NodeTag::T_FromExpr);
        (*from).fromlist = list_of([reference]);
        (*from).quals = conditions::all_of(conditions);
        (*sub).jointree = from;
        if repeats == Repeats::DoNotCount && is_simple(query) {
            make_distinct(sub, &entries);
        }
        Some(sub)
    }
}

/// Turns a table's range table entry into one of a subquery.
pub unsafe fn turn_into(rte: *mut pg_sys::RangeTblEntry, sub: *mut pg_sys::Query) {
    // SAFETY: the entry belongs to a private copy.
    unsafe {
        let entries = items::<pg_sys::TargetEntry>((*sub).targetList);
        let names = list_of(entries.into_iter().map(|t| pg_sys::makeString(pg_sys::pstrdup((*t).resname))));
        let eref = pg_sys::makeAlias((*(*rte).eref).aliasname, names);
        let new = tree::make::<pg_sys::RangeTblEntry>(pg_sys::NodeTag::T_RangeTblEntry);
        (*new).rtekind = pg_sys::RTEKind::RTE_SUBQUERY;
        (*new).subquery = sub;
        (*new).eref = eref;
        (*new).alias = pg_sys::makeAlias((*eref).aliasname, ptr::null_mut());
        (*new).inFromCl = (*rte).inFromCl;
        *rte = *new;
    }
}

unsafe fn column_collation(relid: pg_sys::Oid, attno: i16) -> pg_sys::Oid {
    let (mut kind, mut typmod, mut collation) = (pg_sys::InvalidOid, -1, pg_sys::InvalidOid);
    // SAFETY: a syscache look-up with out parameters.
    unsafe { pg_sys::get_atttypetypmodcoll(relid, attno, &mut kind, &mut typmod, &mut collation) };
    collation
}

/// The name of a column; a dropped one has none.
unsafe fn column_name(name: *mut Node, attno: i16) -> *mut std::ffi::c_char {
    // SAFETY: `colnames` are strings.
    unsafe {
        let name = (*name.cast::<pg_sys::String>()).sval;
        if *name != 0 {
            return pg_sys::pstrdup(name);
        }
        let made = CString::new(format!("dropped {attno}")).unwrap_or_default();
        pg_sys::pstrdup(made.as_ptr())
    }
}

/// The columns of table `rti` that a query or those below it use; `None` if it uses the row as a whole, or a system
/// column.
unsafe fn used_columns(query: *mut pg_sys::Query, rti: u32) -> Option<BTreeSet<i16>> {
    let mut used = BTreeSet::new();
    // SAFETY: a read-only walk.
    unsafe { collect(query, query, 0, rti, &mut used).then_some(used) }
}

unsafe fn collect(
    top: *mut pg_sys::Query,
    query: *mut pg_sys::Query,
    depth: u32,
    rti: u32,
    used: &mut BTreeSet<i16>,
) -> bool {
    let flags = (pg_sys::QTW_IGNORE_JOINALIASES | pg_sys::QTW_EXAMINE_RTES_BEFORE) as i32;
    // SAFETY: a read-only walk; the columns of joins are followed where they are used.
    unsafe {
        !tree::walk_query(query, flags, |n| {
            let fine = if let Some(q) = node_as!(n, T_Query) {
                return if collect(top, q.cast(), depth + 1, rti, used) { Visit::Skip } else { Visit::Stop };
            } else if let Some(var) = node_as!(n, T_Var) {
                let var = var.cast::<pg_sys::Var>();
                (*var).varlevelsup != depth || note(top, (*var).varno as u32, (*var).varattno, rti, used)
            } else {
                true
            };
            if fine { Visit::Deeper } else { Visit::Stop }
        })
    }
}

/// Notes a column of an entry of `top`; `false` if it cannot be had.
unsafe fn note(top: *mut pg_sys::Query, varno: u32, attno: i16, rti: u32, used: &mut BTreeSet<i16>) -> bool {
    // SAFETY: the numbers are valid in `top`.
    unsafe {
        if varno == rti {
            if attno > 0 {
                used.insert(attno);
            }
            return attno > 0;
        }
        let rte = tree::entry((*top).rtable, varno);
        if (*rte).rtekind != pg_sys::RTEKind::RTE_JOIN {
            return true;
        }
        let columns = items::<Node>((*rte).joinaliasvars);
        let of_join: Vec<*mut Node> = match attno {
            0 => columns,
            _ => columns.get(attno as usize - 1).copied().into_iter().collect(),
        };
        !of_join.into_iter().any(|expr| {
            tree::walk(expr, |n| {
                let fine = node_as!(n, T_Var).is_none_or(|var| {
                    let var = var.cast::<pg_sys::Var>();
                    note(top, (*var).varno as u32, (*var).varattno, rti, used)
                });
                if fine { Visit::Deeper } else { Visit::Stop }
            })
        })
    }
}

/// Types whose equal values are the same in every respect.
const PLAIN: [pg_sys::Oid; 11] = [
    pg_sys::BOOLOID,
    pg_sys::INT2OID,
    pg_sys::INT4OID,
    pg_sys::INT8OID,
    pg_sys::OIDOID,
    pg_sys::TEXTOID,
    pg_sys::VARCHAROID,
    pg_sys::DATEOID,
    pg_sys::TIMESTAMPOID,
    pg_sys::TIMESTAMPTZOID,
    pg_sys::UUIDOID,
];

/// Makes a subquery DISTINCT, if its columns' types allow that without a difference.
unsafe fn make_distinct(sub: *mut pg_sys::Query, entries: &[*mut pg_sys::TargetEntry]) {
    // SAFETY: type cache entries live as long as the backend.
    unsafe {
        let mut clauses = Vec::new();
        for (i, entry) in entries.iter().enumerate() {
            let expr = (**entry).expr.cast::<Node>();
            let kind = pg_sys::exprType(expr);
            if !PLAIN.contains(&kind) || !deterministic(pg_sys::exprCollation(expr)) {
                return;
            }
            let flags = pg_sys::TYPECACHE_EQ_OPR | pg_sys::TYPECACHE_LT_OPR | pg_sys::TYPECACHE_HASH_PROC;
            let cache = pg_sys::lookup_type_cache(kind, flags as i32);
            let clause = tree::make::<pg_sys::SortGroupClause>(pg_sys::NodeTag::T_SortGroupClause);
            (*clause).tleSortGroupRef = i as u32 + 1;
            (*clause).eqop = (*cache).eq_opr;
            (*clause).sortop = (*cache).lt_opr;
            (*clause).hashable = (*cache).hash_proc != pg_sys::InvalidOid;
            clauses.push(clause);
        }
        for (i, entry) in entries.iter().enumerate() {
            (**entry).ressortgroupref = i as u32 + 1;
        }
        (*sub).distinctClause = list_of(clauses);
    }
}
