//! Building blocks of the expressions above the nodes: calls of Postgres's own functions, named by OID
//! (pg_proc.dat, pg_operator.dat), and aggregates over partial results.

use super::columns::Columns;
use crate::pg::tree::{self, Node, list_of};
use pgrx::pg_sys;
use std::ptr;

const INT8_OF_NUMERIC: u32 = 1779;
const NUMERIC_OF_INT8: u32 = 1781;

/// An aggregate over one or more arguments.
pub unsafe fn aggregate(function: pg_sys::Oid, arguments: &[*mut Node]) -> *mut pg_sys::Aggref {
    // SAFETY: nodes are made in the planner's context.
    unsafe {
        let agg = tree::make::<pg_sys::Aggref>(pg_sys::NodeTag::T_Aggref);
        (*agg).aggfnoid = function;
        (*agg).aggtype = pg_sys::get_func_rettype(function);
        for (number, argument) in (1i16..).zip(arguments) {
            (*agg).aggargtypes = pg_sys::lappend_oid((*agg).aggargtypes, pg_sys::exprType(*argument));
            let entry = pg_sys::makeTargetEntry((*argument).cast(), number, ptr::null_mut(), false);
            (*agg).args = pg_sys::lappend((*agg).args, entry.cast());
        }
        (*agg).aggkind = b'n' as _;
        (*agg).aggsplit = pg_sys::AggSplit::AGGSPLIT_SIMPLE;
        (*agg).aggno = -1;
        (*agg).aggtransno = -1;
        (*agg).location = -1;
        agg
    }
}

/// An aggregate on the nodes, of the rows that `like` takes in.
pub unsafe fn partial(
    columns: &mut Columns,
    like: *mut pg_sys::Aggref,
    function: u32,
    arguments: &[*mut Node],
) -> *mut pg_sys::Var {
    // SAFETY: as above.
    unsafe {
        let agg = aggregate(pg_sys::Oid::from(function), arguments);
        (*agg).aggfilter = tree::copy((*like).aggfilter);
        columns.partial(agg.cast())
    }
}

/// One of the sums, over partial results.
pub unsafe fn total(function: u32, partial: *mut pg_sys::Var) -> *mut Node {
    // SAFETY: as above.
    unsafe { aggregate(pg_sys::Oid::from(function), &[partial.cast()]).cast() }
}

/// The same aggregate over its partial results.
pub unsafe fn same(agg: *mut pg_sys::Aggref, partial: *mut pg_sys::Var) -> *mut Node {
    // SAFETY: as above.
    unsafe {
        let last = tree::copy(agg);
        (*last).args = list_of([pg_sys::makeTargetEntry(partial.cast(), 1, ptr::null_mut(), false)]);
        (*last).aggargtypes = pg_sys::lappend_oid(ptr::null_mut(), (*partial).vartype);
        (*last).aggfilter = ptr::null_mut();
        (*last).aggdistinct = ptr::null_mut();
        last.cast()
    }
}

pub unsafe fn call(function: u32, result: pg_sys::Oid, arguments: &[*mut Node]) -> *mut Node {
    // SAFETY: makeFuncExpr copies nothing; the list is fresh.
    unsafe {
        pg_sys::makeFuncExpr(
            pg_sys::Oid::from(function),
            result,
            list_of(arguments.iter().copied()),
            pg_sys::InvalidOid,
            pg_sys::InvalidOid,
            pg_sys::CoercionForm::COERCE_EXPLICIT_CALL,
        )
        .cast()
    }
}

/// A cast that a function does.
pub unsafe fn cast(function: u32, result: pg_sys::Oid, argument: *mut Node) -> *mut Node {
    // SAFETY: as `call`.
    unsafe {
        let cast = call(function, result, &[argument]);
        (*cast.cast::<pg_sys::FuncExpr>()).funcformat = pg_sys::CoercionForm::COERCE_EXPLICIT_CAST;
        cast
    }
}

/// A binary operator.
pub unsafe fn operator(number: u32, result: pg_sys::Oid, left: *mut Node, right: *mut Node) -> *mut Node {
    // SAFETY: as `call`.
    unsafe {
        let (none, number) = (pg_sys::InvalidOid, pg_sys::Oid::from(number));
        pg_sys::make_opclause(number, result, false, left.cast(), right.cast(), none, none).cast()
    }
}

/// `CASE WHEN condition THEN value ... ELSE otherwise END`.
pub unsafe fn case(whens: &[(*mut Node, *mut Node)], otherwise: *mut Node) -> *mut Node {
    // SAFETY: nodes are fresh.
    unsafe {
        let case = tree::make::<pg_sys::CaseExpr>(pg_sys::NodeTag::T_CaseExpr);
        (*case).casetype = pg_sys::exprType(otherwise);
        (*case).args = list_of(whens.iter().map(|(condition, value)| {
            let when = tree::make::<pg_sys::CaseWhen>(pg_sys::NodeTag::T_CaseWhen);
            (*when).expr = (*condition).cast();
            (*when).result = (*value).cast();
            (*when).location = -1;
            when
        }));
        (*case).defresult = otherwise.cast();
        (*case).location = -1;
        case.cast()
    }
}

/// NULL of a type.
pub unsafe fn null(kind: pg_sys::Oid) -> *mut Node {
    // SAFETY: a node is made.
    unsafe { pg_sys::makeNullConst(kind, -1, pg_sys::InvalidOid).cast() }
}

pub unsafe fn int4(value: i32) -> *mut Node {
    // SAFETY: as above.
    unsafe {
        let value = pg_sys::Datum::from(value);
        pg_sys::makeConst(pg_sys::INT4OID, -1, pg_sys::InvalidOid, 4, value, false, true).cast()
    }
}

pub unsafe fn int8(value: i64) -> *mut Node {
    // SAFETY: as above.
    unsafe {
        let value = pg_sys::Datum::from(value);
        pg_sys::makeConst(pg_sys::INT8OID, -1, pg_sys::InvalidOid, 8, value, false, true).cast()
    }
}

/// A numeric of scale 0.
pub unsafe fn numeric(value: i64) -> *mut Node {
    // SAFETY: as above.
    unsafe { call(NUMERIC_OF_INT8, pg_sys::NUMERICOID, &[int8(value)]) }
}

pub unsafe fn to_int8(numeric: *mut Node) -> *mut Node {
    // SAFETY: as `call`.
    unsafe { call(INT8_OF_NUMERIC, pg_sys::INT8OID, &[numeric]) }
}

/// `coalesce(numeric, 0)`: the nodes may send no row at all.
pub unsafe fn or_zero(value: *mut Node) -> *mut Node {
    // SAFETY: as `call`.
    unsafe {
        let either = tree::make::<pg_sys::CoalesceExpr>(pg_sys::NodeTag::T_CoalesceExpr);
        (*either).coalescetype = pg_sys::NUMERICOID;
        (*either).args = list_of([value, numeric(0)]);
        (*either).location = -1;
        either.cast()
    }
}

/// An aggregate of this extension; none where its SQL is older than its library.
pub unsafe fn own_aggregate(name: &str, argument: pg_sys::Oid) -> Option<pg_sys::Oid> {
    // SAFETY: a look-up; the names are copied.
    unsafe {
        let name = std::ffi::CString::new(name).ok()?;
        let parts = [c"sharding", name.as_c_str()];
        let names = list_of(parts.map(|part| pg_sys::makeString(pg_sys::pstrdup(part.as_ptr()))));
        let found = pg_sys::LookupFuncName(names, 1, &argument, true);
        (found != pg_sys::InvalidOid).then_some(found)
    }
}
