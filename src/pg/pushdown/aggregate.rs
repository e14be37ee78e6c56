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
//! | `variance(x)`, `corr(y, x)`, ... | [`super::statistics`] | |
//! | `string_agg(x, ',')`, `array_agg(x)`, ... | [`super::collect`] | |
//!
//! The answers are Postgres's own to the digit: `avg` of numbers is a division of numerics there too,
//! with the scale that `select_div_scale` (numeric.c) gives to the same operands; sums of floats are
//! added up in another order, as its parallel aggregation does. Aggregates that are not in the table (those with
//! an ORDER BY, `percentile_cont`, `json_agg`) are computed here, of the rows.

use super::build::{call, cast, or_zero, same, to_int8, total};
use super::collect;
use super::columns::Columns;
use super::shape;
use super::statistics;
use crate::pg::tree::{self, Node, items};
use pgrx::pg_sys;
use std::ptr;

/// Functions of Postgres's own (pg_proc.dat).
const SUM_INT8: u32 = 2107;
const SUM_FLOAT8: u32 = 2111;
const SUM_INTERVAL: u32 = 2113;
const SUM_NUMERIC: u32 = 2114;
const COUNT_ANY: u32 = 2147;
const FLOAT8_OF_NUMERIC: u32 = 1746;
const FLOAT8_OF_FLOAT4: u32 = 311;
const NUMERIC_DIV: u32 = 1727;
const FLOAT8_DIV: u32 = 217;
const INTERVAL_DIV: u32 = 1326;

/// What is known of the rows that are aggregated.
pub struct Rows<'a> {
    /// Whether an expression is the shard key of its row.
    pub is_key: &'a dyn Fn(*mut Node) -> bool,
    /// They come from a subquery that sorts.
    pub are_sorted: bool,
}

/// Aggregates whose partial results over disjoint sets add up to that of their union.
const ADDITIVE: [&str; 11] =
    ["count", "sum", "avg", "min", "max", "bool_and", "bool_or", "every", "bit_and", "bit_or", "bit_xor"];

/// Whether an aggregate with DISTINCT is computed on each node, where it is of the shard key.
pub unsafe fn splits_distinct(agg: *mut pg_sys::Aggref) -> bool {
    // SAFETY: a look-up.
    unsafe { shape::builtin_name((*agg).aggfnoid).is_some_and(|name| ADDITIVE.contains(&name.as_str())) }
}

/// What replaces an aggregate above the nodes, its partial ones being added to `columns`; `None` if
/// it cannot be split.
pub unsafe fn split(agg: *mut pg_sys::Aggref, columns: &mut Columns, rows: &Rows) -> Option<*mut Node> {
    // SAFETY: what is made has nodes in several places; the copy has not.
    unsafe { replacement(agg, columns, rows).map(|node| tree::copy(node)) }
}

unsafe fn replacement(agg: *mut pg_sys::Aggref, columns: &mut Columns, rows: &Rows) -> Option<*mut Node> {
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
        let of_the_key = arguments.len() == 1 && splits_distinct(agg) && (rows.is_key)(arguments[0]);
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
            "count" | "regr_count" => {
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
            _ => statistics::split(agg, &name, &arguments, columns)
                .or_else(|| collect::split(agg, &name, &arguments, rows.are_sorted, columns)),
        }
    }
}

/// The duplicates are removed on the nodes, by grouping, and again here.
unsafe fn distinct(agg: *mut pg_sys::Aggref, columns: &mut Columns) -> Option<*mut Node> {
    // SAFETY: as above.
    unsafe {
        let last = tree::copy(agg);
        let arguments = items::<pg_sys::TargetEntry>((*last).args);
        let is_constant =
            |entry: &*mut pg_sys::TargetEntry| (*(**entry).expr.cast::<Node>()).type_ == pg_sys::NodeTag::T_Const;
        // Of nothing but constants one is grouped by all the same: a node without rows must not send one.
        let constant = arguments.iter().all(is_constant).then(|| arguments.first().copied()).flatten();
        let varying = arguments.iter().copied().filter(|entry| !is_constant(entry));
        for entry in varying.chain(constant) {
            (*entry).expr = columns.group((*entry).expr.cast())?.cast();
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
                (*entry).expr = cast(FLOAT8_OF_FLOAT4, pg_sys::FLOAT8OID, (*entry).expr.cast()).cast();
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
