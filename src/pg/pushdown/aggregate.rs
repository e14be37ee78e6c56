//! Aggregates in two steps, both in SQL: partial ones on the nodes, final ones here.
//!
//! | asked for | on each node | here |
//! |---|---|---|
//! | `count(x)` | `count(x)` | `coalesce(sum(count), 0)::bigint` |
//! | `sum(int)` | `sum(x)` | `sum(sum)::bigint` |
//! | `avg(numeric)` | `sum(x)`, `count(x)` | `sum(sum) / sum(count)` |
//! | `min(x)`, `bool_and(x)`, ... | the same | the same |
//! | `any(DISTINCT x)` | `GROUP BY ..., x` | `any(DISTINCT x)` |
//! | `count(DISTINCT key)` | `count(DISTINCT key)` | as `count` |
//!
//! The answers are Postgres's own to the digit: `avg` of numbers is a division of numerics there too,
//! with the scale that `select_div_scale` (numeric.c) gives to the same operands; sums of floats are
//! added up in another order, as its parallel aggregation does. Aggregates that are not in the table
//! (`stddev`, whose square root takes its scale from inside; `string_agg`, whose order is that of the
//! rows) are computed here of the rows.

use super::columns::Columns;
use super::shape;
use crate::pg::tree::{self, Node, items, list_of};
use pgrx::pg_sys;
use std::ptr;

/// Functions of Postgres's own (pg_proc.dat).
const SUM_INT8: u32 = 2107;
const SUM_FLOAT8: u32 = 2111;
const SUM_INTERVAL: u32 = 2113;
const SUM_NUMERIC: u32 = 2114;
const COUNT_ANY: u32 = 2147;
const INT8_OF_NUMERIC: u32 = 1779;
const FLOAT8_OF_NUMERIC: u32 = 1746;
const FLOAT8_OF_FLOAT4: u32 = 311;
const NUMERIC_OF_INT8: u32 = 1781;
const NUMERIC_DIV: u32 = 1727;
const FLOAT8_DIV: u32 = 217;
const INTERVAL_DIV: u32 = 1326;

/// What replaces an aggregate above the nodes, its partial ones being added to `columns`; `None` if
/// it cannot be split. `is_key`: whether an expression is the shard key of its row.
pub unsafe fn split(
    agg: *mut pg_sys::Aggref,
    columns: &mut Columns,
    is_key: impl Fn(*mut Node) -> bool,
) -> Option<*mut Node> {
    // SAFETY: an analyzed aggregate of the query itself; all nodes are made in the planner's context.
    unsafe {
        if (*agg).aggkind as u8 != b'n' || !(*agg).aggdirectargs.is_null() {
            return None;
        }
        let arguments: Vec<*mut Node> = items::<pg_sys::TargetEntry>((*agg).args)
            .into_iter()
            .filter(|t| !(**t).resjunk)
            .map(|t| (*t).expr.cast())
            .collect();
        let of_the_key = arguments.len() == 1 && is_key(arguments[0]);
        if !(*agg).aggdistinct.is_null() && !of_the_key {
            return distinct(agg, columns);
        }
        let name = shape::builtin_name((*agg).aggfnoid)?;
        if !(*agg).aggorder.is_null() {
            return None;
        }
        let argument = arguments.first().map_or(pg_sys::InvalidOid, |a| pg_sys::exprType(*a));
        let declared = tree::oids((*agg).aggargtypes).first().copied().unwrap_or(pg_sys::InvalidOid);
        match name.as_str() {
            "count" => {
                let count = columns.partial(tree::copy(agg).cast());
                Some(to_int8(or_zero(total(SUM_INT8, count))))
            }
            "sum" => {
                let sum = columns.partial(tree::copy(agg).cast());
                match declared {
                    pg_sys::INT2OID | pg_sys::INT4OID => Some(to_int8(total(SUM_INT8, sum))),
                    pg_sys::INT8OID => Some(total(SUM_NUMERIC, sum)),
                    _ => Some(same(agg, sum)),
                }
            }
            "avg" => average(agg, declared, columns),
            "min" | "max" | "bool_and" | "bool_or" | "every" | "bit_and" | "bit_or" | "bit_xor" | "any_value"
                if arguments.len() == 1 && argument != pg_sys::RECORDOID =>
            {
                let partial = columns.partial(tree::copy(agg).cast());
                Some(same(agg, partial))
            }
            _ => None,
        }
    }
}

/// The duplicates are removed on the nodes, by grouping, and again here.
unsafe fn distinct(agg: *mut pg_sys::Aggref, columns: &mut Columns) -> Option<*mut Node> {
    // SAFETY: as above.
    unsafe {
        let last = tree::copy(agg);
        for entry in items::<pg_sys::TargetEntry>((*last).args) {
            if (*(*entry).expr.cast::<Node>()).type_ != pg_sys::NodeTag::T_Const {
                (*entry).expr = columns.group((*entry).expr.cast())?.cast();
            }
        }
        if !(*last).aggfilter.is_null() {
            (*last).aggfilter = columns.group((*last).aggfilter.cast())?.cast();
        }
        Some(last.cast())
    }
}

unsafe fn average(agg: *mut pg_sys::Aggref, declared: pg_sys::Oid, columns: &mut Columns) -> Option<*mut Node> {
    // SAFETY: as above.
    unsafe {
        let (sum_of, argument, total_of) = match declared {
            pg_sys::INT2OID => (2109, pg_sys::INT8OID, SUM_INT8),
            pg_sys::INT4OID => (2108, pg_sys::INT8OID, SUM_INT8),
            pg_sys::INT8OID => (SUM_INT8, pg_sys::NUMERICOID, SUM_NUMERIC),
            pg_sys::NUMERICOID => (SUM_NUMERIC, pg_sys::NUMERICOID, SUM_NUMERIC),
            pg_sys::FLOAT4OID | pg_sys::FLOAT8OID => (SUM_FLOAT8, pg_sys::FLOAT8OID, SUM_FLOAT8),
            pg_sys::INTERVALOID => (SUM_INTERVAL, pg_sys::INTERVALOID, SUM_INTERVAL),
            _ => return None,
        };
        let sum = tree::copy(agg);
        (*sum).aggfnoid = pg_sys::Oid::from(sum_of);
        (*sum).aggtype = argument;
        if declared == pg_sys::FLOAT4OID {
            (*sum).aggargtypes = pg_sys::lappend_oid(ptr::null_mut(), pg_sys::FLOAT8OID);
            for entry in items::<pg_sys::TargetEntry>((*sum).args) {
                (*entry).expr = call(FLOAT8_OF_FLOAT4, pg_sys::FLOAT8OID, &[(*entry).expr.cast()]).cast();
            }
            if !(*sum).aggdistinct.is_null() {
                return None;
            }
        }
        let count = tree::copy(agg);
        (*count).aggfnoid = pg_sys::Oid::from(COUNT_ANY);
        (*count).aggtype = pg_sys::INT8OID;
        let sum = total(total_of, columns.partial(sum.cast()));
        let count = total(SUM_INT8, columns.partial(count.cast()));
        Some(match argument {
            pg_sys::FLOAT8OID => {
                let count = call(FLOAT8_OF_NUMERIC, pg_sys::FLOAT8OID, &[count]);
                call(FLOAT8_DIV, pg_sys::FLOAT8OID, &[sum, count])
            }
            pg_sys::INTERVALOID => {
                let count = call(FLOAT8_OF_NUMERIC, pg_sys::FLOAT8OID, &[count]);
                call(INTERVAL_DIV, pg_sys::INTERVALOID, &[sum, count])
            }
            _ => call(NUMERIC_DIV, pg_sys::NUMERICOID, &[sum, count]),
        })
    }
}

/// The same aggregate over its partial results.
unsafe fn same(agg: *mut pg_sys::Aggref, partial: *mut pg_sys::Var) -> *mut Node {
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

/// One of the sums, over partial results.
unsafe fn total(function: u32, partial: *mut pg_sys::Var) -> *mut Node {
    // SAFETY: as above.
    unsafe {
        let agg = tree::make::<pg_sys::Aggref>(pg_sys::NodeTag::T_Aggref);
        (*agg).aggfnoid = pg_sys::Oid::from(function);
        (*agg).aggtype = pg_sys::get_func_rettype((*agg).aggfnoid);
        (*agg).aggargtypes = pg_sys::lappend_oid(ptr::null_mut(), (*partial).vartype);
        (*agg).args = list_of([pg_sys::makeTargetEntry(partial.cast(), 1, ptr::null_mut(), false)]);
        (*agg).aggkind = b'n' as _;
        (*agg).aggsplit = pg_sys::AggSplit::AGGSPLIT_SIMPLE;
        (*agg).aggno = -1;
        (*agg).aggtransno = -1;
        (*agg).location = -1;
        agg.cast()
    }
}

unsafe fn call(function: u32, result: pg_sys::Oid, arguments: &[*mut Node]) -> *mut Node {
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

unsafe fn to_int8(numeric: *mut Node) -> *mut Node {
    // SAFETY: as `call`.
    unsafe { call(INT8_OF_NUMERIC, pg_sys::INT8OID, &[numeric]) }
}

/// `coalesce(numeric, 0)`: the nodes may send no row at all.
unsafe fn or_zero(numeric: *mut Node) -> *mut Node {
    // SAFETY: as `call`.
    unsafe {
        let zero =
            pg_sys::makeConst(pg_sys::INT8OID, -1, pg_sys::InvalidOid, 8, pg_sys::Datum::from(0i64), false, true);
        let zero = call(NUMERIC_OF_INT8, pg_sys::NUMERICOID, &[zero.cast()]);
        let either = tree::make::<pg_sys::CoalesceExpr>(pg_sys::NodeTag::T_CoalesceExpr);
        (*either).coalescetype = pg_sys::NUMERICOID;
        (*either).args = list_of([numeric, zero]);
        (*either).location = -1;
        either.cast()
    }
}
