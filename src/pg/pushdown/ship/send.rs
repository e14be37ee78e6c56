//! How shipped rows travel: as arrays, one for each column, that the nodes make rows of again.
//!
//! ```text
//! coordinator    WITH "shipped 1" AS MATERIALIZED (SELECT p_partkey FROM part WHERE p_size > 3)
//! nodes          FROM lineitem, (SELECT s.c1 AS p_partkey, NULL::integer AS p_name FROM unnest($1) s(c1)) part
//! ```
//!
//! The scan runs the CTE itself when its first row is asked for, under the statement's snapshot like any other, and makes
//! arrays of its rows: `$1` with all of them, or for each node with those that go there
//! ([`scan_ship`](crate::pg::scan_ship)).

use super::mark::{self, To};
use crate::node_as;
use crate::pg::pushdown::Value;
use crate::pg::query_tree::is_simple;
use crate::pg::tree::{self, Change, Node, items, list_of};
use crate::plan::remote::Shipment;
use pgrx::pg_sys;
use std::ffi::{CStr, CString};
use std::ptr;

/// `unnest(anyarray)` (pg_proc.dat).
const UNNEST: pg_sys::Oid = pg_sys::Oid::from_u32(2331);

/// The nodes' query with the shipped rows as parameters.
pub struct Sent {
    pub query: *mut pg_sys::Query,
    /// The queries that the coordinator runs for that, in the order of `shipments`.
    pub ctes: Vec<*mut pg_sys::CommonTableExpr>,
    /// Subplans and parameters are not known yet.
    pub shipments: Vec<Shipment>,
}

/// Puts parameters in the place of the shipped queries of `inner`. What they are is added to `values`: `PARAM_EXEC`
/// -1 - i stands for number i. `plan` rewrites a query that the coordinator will run.
pub unsafe fn send(
    inner: *mut pg_sys::Query,
    values: &mut Vec<Value>,
    mut plan: impl FnMut(*mut pg_sys::Query) -> *mut pg_sys::Query,
) -> Sent {
    let mut sender = Sender { values, ctes: Vec::new(), shipments: Vec::new() };
    // SAFETY: a private copy is made; new nodes are in the current memory context.
    unsafe {
        let query = tree::mutate(inner.cast(), |n| {
            let Some(query) = node_as!(n, T_Query) else { return Change::Deeper };
            match mark::shipped_to(query.cast()) {
                Some(to) => Change::Replace(sender.rows_of(query.cast(), to, &mut plan).cast()),
                None => Change::Deeper,
            }
        });
        Sent { query: query.cast(), ctes: sender.ctes, shipments: sender.shipments }
    }
}

struct Sender<'a> {
    values: &'a mut Vec<Value>,
    ctes: Vec<*mut pg_sys::CommonTableExpr>,
    shipments: Vec<Shipment>,
}

impl Sender<'_> {
    /// The query that makes rows of the arrays.
    unsafe fn rows_of(
        &mut self,
        shipped: *mut pg_sys::Query,
        to: To,
        plan: &mut impl FnMut(*mut pg_sys::Query) -> *mut pg_sys::Query,
    ) -> *mut pg_sys::Query {
        // SAFETY: nodes are copies or new.
        unsafe {
            let source = tree::copy(shipped);
            mark::clear(source.cast());
            let outputs: Vec<*mut pg_sys::TargetEntry> =
                items::<pg_sys::TargetEntry>((*shipped).targetList).into_iter().filter(|t| !(**t).resjunk).collect();
            let mut sent: Vec<*mut pg_sys::TargetEntry> =
                outputs.iter().copied().filter(|t| !is_const((**t).expr.cast())).collect();
            let only_removes_duplicates = !sent.is_empty() && is_distinct(source);
            let is_narrowed = (is_simple(source) || only_removes_duplicates) && (*source).sortClause.is_null();
            if is_narrowed {
                if sent.is_empty() {
                    let one = pg_sys::Datum::from(1);
                    let one = pg_sys::makeConst(pg_sys::INT4OID, -1, pg_sys::InvalidOid, 4, one, false, true);
                    sent.push(pg_sys::makeTargetEntry(one.cast(), 1, c"one".as_ptr().cast_mut(), false));
                }
                (*source).targetList = list_of(sent.iter().enumerate().map(|(i, t)| {
                    let entry = tree::copy(*t);
                    (*entry).resno = i as i16 + 1;
                    entry
                }));
                // Constants make no difference between rows.
                let is_kept = |clause: &*mut pg_sys::SortGroupClause| {
                    sent.iter().any(|t| (**t).ressortgroupref == (**clause).tleSortGroupRef)
                };
                let clauses = items::<pg_sys::SortGroupClause>((*source).distinctClause).into_iter();
                (*source).distinctClause = list_of(clauses.filter(is_kept));
            }
            let produced: Vec<*mut pg_sys::TargetEntry> =
                items::<pg_sys::TargetEntry>((*source).targetList).into_iter().filter(|t| !(**t).resjunk).collect();
            if sent.is_empty() {
                // Constants of a query that groups, say: it is their number that counts.
                sent.push(produced[0]);
            }
            // The columns as the source numbers them.
            let numbers: Vec<usize> =
                sent.iter().enumerate().map(|(i, t)| if is_narrowed { i + 1 } else { (**t).resno as usize }).collect();
            let cut = match to {
                To::AllNodes => None,
                To::By(column) => sent.iter().position(|t| (**t).resno == column).map(|i| numbers[i]),
            };
            let shipment = self.shipments.len();
            let mut arrays = Vec::new();
            for (entry, number) in sent.iter().zip(&numbers) {
                arrays.push(self.parameter(shipment, *number, (**entry).expr.cast()));
            }
            let name = CString::new(format!("shipped {}", shipment + 1)).unwrap_or_default();
            self.ctes.push(cte(&name, plan(source), &produced));
            self.shipments.push(Shipment { subplan: 0, cut, columns: Vec::new() });
            unnested(&outputs, &sent, &arrays)
        }
    }

    /// A parameter whose value is an array of a column's values.
    unsafe fn parameter(&mut self, shipment: usize, column: usize, expr: *mut Node) -> *mut pg_sys::Param {
        // SAFETY: new nodes.
        unsafe {
            let param = tree::make::<pg_sys::Param>(pg_sys::NodeTag::T_Param);
            (*param).paramkind = pg_sys::ParamKind::PARAM_EXEC;
            (*param).paramid = -1 - self.values.len() as i32;
            (*param).paramtype = pg_sys::get_promoted_array_type(pg_sys::exprType(expr));
            (*param).paramtypmod = -1;
            (*param).paramcollid = pg_sys::exprCollation(expr);
            (*param).location = -1;
            self.values.push(Value::Column { shipment, column });
            param
        }
    }
}

/// Whether a query joins, filters and removes duplicates, and no more.
unsafe fn is_distinct(query: *mut pg_sys::Query) -> bool {
    // SAFETY: the clause is put back.
    unsafe {
        let clause = std::mem::replace(&mut (*query).distinctClause, ptr::null_mut());
        let is_distinct = !clause.is_null() && !(*query).hasDistinctOn && is_simple(query);
        (*query).distinctClause = clause;
        is_distinct
    }
}

unsafe fn is_const(expr: *mut Node) -> bool {
    // SAFETY: the tag says what it is.
    unsafe { node_as!(expr, T_Const).is_some() }
}

/// `SELECT c1 AS a, NULL AS b FROM unnest($1) shipped(c1)`.
unsafe fn unnested(
    outputs: &[*mut pg_sys::TargetEntry],
    sent: &[*mut pg_sys::TargetEntry],
    arrays: &[*mut pg_sys::Param],
) -> *mut pg_sys::Query {
    // SAFETY: nodes are copies or new.
    unsafe {
        let rte = tree::make::<pg_sys::RangeTblEntry>(pg_sys::NodeTag::T_RangeTblEntry);
        (*rte).rtekind = pg_sys::RTEKind::RTE_FUNCTION;
        let mut names = Vec::new();
        let mut functions = Vec::new();
        for (i, (entry, array)) in sent.iter().zip(arrays).enumerate() {
            let expr = (**entry).expr.cast::<Node>();
            let kind = pg_sys::exprType(expr);
            let collation = pg_sys::get_typcollation(kind);
            let call = pg_sys::makeFuncExpr(
                UNNEST,
                kind,
                list_of([(*array).cast::<Node>()]),
                collation,
                collation,
                pg_sys::CoercionForm::COERCE_EXPLICIT_CALL,
            );
            (*call).funcretset = true;
            let function = tree::make::<pg_sys::RangeTblFunction>(pg_sys::NodeTag::T_RangeTblFunction);
            (*function).funcexpr = call.cast();
            (*function).funccolcount = 1;
            functions.push(function);
            let name = CString::new(format!("c{}", i + 1)).unwrap_or_default();
            names.push(pg_sys::makeString(pg_sys::pstrdup(name.as_ptr())));
        }
        (*rte).functions = list_of(functions);
        (*rte).eref = pg_sys::makeAlias(c"shipped".as_ptr(), list_of(names));
        (*rte).alias = tree::copy((*rte).eref);
        (*rte).inFromCl = true;
        let entries = outputs.iter().enumerate().map(|(i, output)| {
            let expr = (**output).expr.cast::<Node>();
            let value = match sent.iter().position(|s| s == output) {
                Some(at) => collated(expr, at),
                None => tree::copy(expr),
            };
            pg_sys::makeTargetEntry(value.cast(), i as i16 + 1, (**output).resname, false)
        });
        select(rte, list_of(entries))
    }
}

/// A column of the arrays, with the collation that the values had.
unsafe fn collated(expr: *mut Node, at: usize) -> *mut Node {
    // SAFETY: an analyzed expression.
    unsafe {
        let (kind, collation) = (pg_sys::exprType(expr), pg_sys::exprCollation(expr));
        let own = pg_sys::get_typcollation(kind);
        let var = pg_sys::makeVar(1, at as i16 + 1, kind, -1, own, 0).cast::<Node>();
        if collation == own || collation == pg_sys::InvalidOid {
            return var;
        }
        let collate = tree::make::<pg_sys::CollateExpr>(pg_sys::NodeTag::T_CollateExpr);
        (*collate).arg = var.cast();
        (*collate).collOid = collation;
        (*collate).location = -1;
        collate.cast()
    }
}

/// `SELECT ... FROM rte`.
unsafe fn select(rte: *mut pg_sys::RangeTblEntry, targets: *mut pg_sys::List) -> *mut pg_sys::Query {
    // SAFETY: new nodes.
    unsafe {
        let query = tree::make::<pg_sys::Query>(pg_sys::NodeTag::T_Query);
        (*query).commandType = pg_sys::CmdType::CMD_SELECT;
        (*query).stmt_location = -1;
        (*query).rtable = list_of([rte]);
        let reference = tree::make::<pg_sys::RangeTblRef>(pg_sys::NodeTag::T_RangeTblRef);
        (*reference).rtindex = 1;
        let from = tree::make::<pg_sys::FromExpr>(pg_sys::NodeTag::T_FromExpr);
        (*from).fromlist = list_of([reference]);
        (*query).jointree = from;
        (*query).targetList = targets;
        query
    }
}

/// The types, type modifiers and collations of columns.
unsafe fn column_types(
    columns: &[*mut pg_sys::TargetEntry],
) -> (*mut pg_sys::List, *mut pg_sys::List, *mut pg_sys::List) {
    let (mut types, mut typmods, mut collations) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
    // SAFETY: lists in the current memory context.
    unsafe {
        for column in columns {
            let expr = (**column).expr.cast::<Node>();
            types = pg_sys::lappend_oid(types, pg_sys::exprType(expr));
            typmods = pg_sys::lappend_int(typmods, pg_sys::exprTypmod(expr));
            collations = pg_sys::lappend_oid(collations, pg_sys::exprCollation(expr));
        }
    }
    (types, typmods, collations)
}

unsafe fn column_names(columns: &[*mut pg_sys::TargetEntry]) -> *mut pg_sys::List {
    // SAFETY: as above.
    unsafe {
        list_of(columns.iter().map(|c| {
            let name = if (**c).resname.is_null() { c"column".as_ptr().cast_mut() } else { (**c).resname };
            pg_sys::makeString(pg_sys::pstrdup(name))
        }))
    }
}

/// `name AS MATERIALIZED (query)`, of which the scan is the only reader.
pub unsafe fn cte(
    name: &CStr,
    query: *mut pg_sys::Query,
    columns: &[*mut pg_sys::TargetEntry],
) -> *mut pg_sys::CommonTableExpr {
    // SAFETY: new nodes.
    unsafe {
        let cte = tree::make::<pg_sys::CommonTableExpr>(pg_sys::NodeTag::T_CommonTableExpr);
        (*cte).ctename = pg_sys::pstrdup(name.as_ptr());
        (*cte).ctematerialized = pg_sys::CTEMaterialize::CTEMaterializeAlways;
        (*cte).ctequery = query.cast();
        (*cte).cterefcount = 1;
        (*cte).ctecolnames = column_names(columns);
        ((*cte).ctecoltypes, (*cte).ctecoltypmods, (*cte).ctecolcollations) = column_types(columns);
        (*cte).location = -1;
        cte
    }
}
