//! Variances, deviations, covariances and regressions in two steps.
//!
//! **Exact numbers** (integers, `numeric`): each node sends N, sum(x) and sum(x*x), and what is done with their totals
//! here is what `numeric_stddev_internal` (numeric.c) does:
//!
//! ```text
//! var_samp  (N * sum(x*x) - sum(x)^2) / (N * (N - 1))     var_pop  ... / (N * N)
//! stddev    the root of it, to the same scale
//! ```
//!
//! The same products, differences and quotients of numerics, so the same digits. `sqrt(numeric)` chooses a scale of its
//! own; asked for more than twice the digits, and rounded, it is the root that numeric.c has: a root of a number of `s`
//! decimals is either a number of `s` decimals or no nearer than 10^-(2s+2) / 2x to the middle between two of them.
//!
//! **Floats**: each node sends N, the sums, and the sums of squared differences (`regr_sxx` and its kin are just
//! these). They are put together as the workers' are in a parallel query, by `float8_combine` and `float8_regr_combine`
//! (float.c), in the aggregates `sharding.total_deviation` and `sharding.total_regression`; Postgres's final functions do
//! the rest. As there, the last digits depend on which rows were added up together.

use super::build::{aggregate, call, case, cast, int4, int8, null, numeric, operator, own_aggregate, partial, total};
use super::columns::Columns;
use crate::pg::tree::{self, Node, list_of};
use pgrx::pg_sys;

const COUNT_ANY: u32 = 2147;
const SUM_INT2: u32 = 2109;
const SUM_INT4: u32 = 2108;
const SUM_INT8: u32 = 2107;
const SUM_FLOAT8: u32 = 2111;
const SUM_NUMERIC: u32 = 2114;
const REGR_COUNT: u32 = 2818;
const REGR_SXX: u32 = 2819;
const REGR_SYY: u32 = 2820;
const REGR_SXY: u32 = 2821;
const INT8_OF_INT2: u32 = 754;
const INT8_OF_INT4: u32 = 481;
const NUMERIC_OF_INT8: u32 = 1781;
const FLOAT8_OF_FLOAT4: u32 = 311;
const FLOAT8_OF_INT8: u32 = 482;
const TIMES_INT8: u32 = 686;
const TIMES: u32 = 1760;
const MINUS: u32 = 1759;
const DIVIDED_BY: u32 = 1761;
const EQUALS: u32 = 1752;
const AT_MOST: u32 = 1755;
const ABOVE: u32 = 1756;
const ABOVE_INT8: u32 = 413;
const TIMES_INT4: u32 = 514;
const PLUS_INT4: u32 = 551;
const ROUND: u32 = 1707;
const SQRT: u32 = 1730;
const SCALE: u32 = 3281;

/// What of a set of numbers is asked for.
#[derive(Clone, Copy)]
struct Deviation {
    is_sample: bool,
    is_root: bool,
    /// The final function for floats.
    last: u32,
}

impl Deviation {
    fn named(name: &str) -> Option<Deviation> {
        let (is_sample, is_root, last) = match name {
            "var_pop" => (false, false, 2512),
            "var_samp" | "variance" => (true, false, 1831),
            "stddev_pop" => (false, true, 2513),
            "stddev_samp" | "stddev" => (true, true, 1832),
            _ => return None,
        };
        Some(Deviation { is_sample, is_root, last })
    }
}

/// The final function of an aggregate of pairs.
fn regression(name: &str) -> Option<u32> {
    Some(match name {
        "regr_sxx" => 2807,
        "regr_syy" => 2808,
        "regr_sxy" => 2809,
        "regr_avgx" => 2810,
        "regr_avgy" => 2811,
        "regr_r2" => 2812,
        "regr_slope" => 2813,
        "regr_intercept" => 2814,
        "covar_pop" => 2815,
        "covar_samp" => 2816,
        "corr" => 2817,
        _ => return None,
    })
}

/// What replaces one of these aggregates above the nodes; `None` if it is another, or over other types.
pub unsafe fn split(
    agg: *mut pg_sys::Aggref,
    name: &str,
    arguments: &[*mut Node],
    columns: &mut Columns,
) -> Option<*mut Node> {
    // SAFETY: an analyzed aggregate of the query itself; all nodes are made in the planner's context.
    unsafe {
        if let (Some(last), [y, x]) = (regression(name), arguments) {
            return pairs(agg, last, *y, *x, columns);
        }
        let (Some(deviation), [argument]) = (Deviation::named(name), arguments) else { return None };
        let x = *argument;
        match tree::oids((*agg).aggargtypes).first().copied()? {
            pg_sys::INT2OID => {
                Some(exact(agg, deviation, columns, (SUM_INT2, x, SUM_INT8), square_of_int(INT8_OF_INT2, x)))
            }
            pg_sys::INT4OID => {
                Some(exact(agg, deviation, columns, (SUM_INT4, x, SUM_INT8), square_of_int(INT8_OF_INT4, x)))
            }
            pg_sys::INT8OID => {
                let wide = cast(NUMERIC_OF_INT8, pg_sys::NUMERICOID, x);
                let square = operator(TIMES, pg_sys::NUMERICOID, wide, wide);
                Some(exact(agg, deviation, columns, (SUM_INT8, x, SUM_NUMERIC), (SUM_NUMERIC, square)))
            }
            pg_sys::NUMERICOID => {
                let square = operator(TIMES, pg_sys::NUMERICOID, x, x);
                Some(exact(agg, deviation, columns, (SUM_NUMERIC, x, SUM_NUMERIC), (SUM_NUMERIC, square)))
            }
            pg_sys::FLOAT4OID => floats(agg, deviation, cast(FLOAT8_OF_FLOAT4, pg_sys::FLOAT8OID, x), columns),
            pg_sys::FLOAT8OID => floats(agg, deviation, x, columns),
            _ => None,
        }
    }
}

/// The sum of squares of a number of at most 32 bits: a square fits into a bigint.
unsafe fn square_of_int(to_int8: u32, x: *mut Node) -> (u32, *mut Node) {
    // SAFETY: as above.
    unsafe {
        let wide = cast(to_int8, pg_sys::INT8OID, x);
        (SUM_INT8, operator(TIMES_INT8, pg_sys::INT8OID, wide, wide))
    }
}

/// `sum`: the sum on a node, of what, and the sum of these sums; `squares`: that of x*x on a node.
unsafe fn exact(
    agg: *mut pg_sys::Aggref,
    deviation: Deviation,
    columns: &mut Columns,
    sum: (u32, *mut Node, u32),
    squares: (u32, *mut Node),
) -> *mut Node {
    // SAFETY: as above.
    unsafe {
        let (bool, numbers) = (pg_sys::BOOLOID, pg_sys::NUMERICOID);
        let n = total(SUM_INT8, partial(columns, agg, COUNT_ANY, &[sum.1]));
        let x = total(sum.2, partial(columns, agg, sum.0, &[sum.1]));
        let xx = total(SUM_NUMERIC, partial(columns, agg, squares.0, &[squares.1]));
        let times = |a, b| operator(TIMES, numbers, a, b);
        let numerator = operator(MINUS, numbers, times(n, xx), times(x, x));
        let others = if deviation.is_sample { operator(MINUS, numbers, n, numeric(1)) } else { n };
        let variance = operator(DIVIDED_BY, numbers, numerator, times(n, others));
        let result = if deviation.is_root { root(variance) } else { variance };
        let fewest = numeric(i64::from(deviation.is_sample));
        let rounded_away = operator(AT_MOST, bool, numerator, numeric(0));
        let is_number = operator(EQUALS, bool, operator(MINUS, numbers, numerator, numerator), numeric(0));
        // NaN or infinity among the numbers make the numerator NaN.
        let finite = case(&[(rounded_away, numeric(0)), (is_number, result)], numerator);
        case(&[(operator(ABOVE, bool, n, fewest), finite)], null(numbers))
    }
}

/// `round(sqrt(round(v, 2 * scale(v) + 40)), scale(v))`.
unsafe fn root(v: *mut Node) -> *mut Node {
    // SAFETY: as above.
    unsafe {
        let numbers = pg_sys::NUMERICOID;
        let scale = call(SCALE, pg_sys::INT4OID, &[v]);
        let twice = operator(TIMES_INT4, pg_sys::INT4OID, int4(2), scale);
        let ample = operator(PLUS_INT4, pg_sys::INT4OID, twice, int4(40));
        let root = call(SQRT, numbers, &[call(ROUND, numbers, &[v, ample])]);
        call(ROUND, numbers, &[root, scale])
    }
}

unsafe fn floats(
    agg: *mut pg_sys::Aggref,
    deviation: Deviation,
    x: *mut Node,
    columns: &mut Columns,
) -> Option<*mut Node> {
    // SAFETY: as above.
    unsafe {
        let together = own_aggregate("total_deviation", pg_sys::FLOAT8ARRAYOID)?;
        let n = partial(columns, agg, COUNT_ANY, &[x]);
        let sum = partial(columns, agg, SUM_FLOAT8, &[x]);
        let sxx = partial(columns, agg, REGR_SXX, &[x, x]);
        let state = aggregate(together, &[state(n, &[sum, sxx])]);
        Some(call(deviation.last, pg_sys::FLOAT8OID, &[state.cast()]))
    }
}

unsafe fn pairs(
    agg: *mut pg_sys::Aggref,
    last: u32,
    y: *mut Node,
    x: *mut Node,
    columns: &mut Columns,
) -> Option<*mut Node> {
    // SAFETY: as above.
    unsafe {
        let together = own_aggregate("total_regression", pg_sys::FLOAT8ARRAYOID)?;
        let both = |function: u32, columns: &mut Columns| partial(columns, agg, function, &[y, x]);
        // A pair counts if both are there.
        let sum = |of: *mut Node, beside: *mut Node, columns: &mut Columns| {
            let test = tree::make::<pg_sys::NullTest>(pg_sys::NodeTag::T_NullTest);
            (*test).arg = beside.cast();
            (*test).nulltesttype = pg_sys::NullTestType::IS_NOT_NULL;
            (*test).location = -1;
            let sum = aggregate(pg_sys::Oid::from(SUM_FLOAT8), &[of]);
            (*sum).aggfilter = if (*agg).aggfilter.is_null() {
                test.cast()
            } else {
                let conditions = list_of([(*agg).aggfilter.cast::<Node>(), test.cast()]);
                pg_sys::makeBoolExpr(pg_sys::BoolExprType::AND_EXPR, conditions, -1)
            };
            columns.partial(sum.cast())
        };
        let n = both(REGR_COUNT, columns);
        let (sx, sxx) = (sum(x, y, columns), both(REGR_SXX, columns));
        let (sy, syy) = (sum(y, x, columns), both(REGR_SYY, columns));
        let sxy = both(REGR_SXY, columns);
        let state = aggregate(together, &[state(n, &[sx, sxx, sy, syy, sxy])]);
        Some(call(last, pg_sys::FLOAT8OID, &[state.cast()]))
    }
}

/// What float.c's transition functions hold, of a node that had any number; else NULL, which is passed over.
unsafe fn state(n: *mut pg_sys::Var, rest: &[*mut pg_sys::Var]) -> *mut Node {
    // SAFETY: as above.
    unsafe {
        let array = tree::make::<pg_sys::ArrayExpr>(pg_sys::NodeTag::T_ArrayExpr);
        (*array).array_typeid = pg_sys::FLOAT8ARRAYOID;
        (*array).element_typeid = pg_sys::FLOAT8OID;
        (*array).location = -1;
        (*array).elements = list_of([cast(FLOAT8_OF_INT8, pg_sys::FLOAT8OID, n.cast())]);
        for value in rest {
            (*array).elements = pg_sys::lappend((*array).elements, value.cast());
        }
        let any = operator(ABOVE_INT8, pg_sys::BOOLOID, n.cast(), int8(0));
        case(&[(any, array.cast())], null(pg_sys::FLOAT8ARRAYOID))
    }
}
