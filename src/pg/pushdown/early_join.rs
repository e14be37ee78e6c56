//! Rows are grouped before they are joined, where few groups are left to be joined.
//!
//! ```text
//! SELECT p.name, count(*) FROM entries e JOIN places p USING (place) GROUP BY p.name
//!     SELECT p.name, sum(e.c2) FROM (SELECT place AS c1, count(*) AS c2 FROM entries GROUP BY place) e, places p
//!     WHERE e.c1 = p.place GROUP BY p.name
//! ```
//!
//! For inner joins of one distributed table with reference tables on equal columns:
//!
//! - what is joined by, or stands beside the aggregates, is grouped by; only types whose equal values are the same to the
//!   last byte (no `numeric`: 1.0 = 1.00);
//! - rows that find no partner are aggregated too, so nothing that may fail for them is: columns, and sums and products
//!   of `numeric`;
//! - a condition on a reference table alone would have left fewer rows to be aggregated: then the join comes first.

use super::aggregate::{self, Rows};
use super::columns::Columns;
use super::early::{aggregates_in, pays, put_columns, reference, subquery, values};
use super::shape;
use crate::catalog::{ClusterMap, TableId};
use crate::node_as;
use crate::pg::query_tree::{deterministic, strip_relabel};
use crate::pg::tree::{self, Change, Node, Visit, items, list_of};
use crate::pg::tuple;
use pgrx::pg_sys;
use std::ptr;

/// The rows of a group, from which on to group them before a join pays.
const ROWS_OF_GROUP: f64 = 10.0;

/// One distributed table is grouped by what it is joined with the others by.
pub unsafe fn grouped(query: *mut pg_sys::Query, map: &ClusterMap) -> Option<*mut pg_sys::Query> {
    // SAFETY: a private copy; it is changed when all is known to fit.
    unsafe {
        let (mut relations, mut conditions) = (Vec::new(), Vec::new());
        inner_joined((*query).jointree.cast(), &mut relations, &mut conditions)?;
        let large = largest(query, &relations, map)?;
        let entries = without_aliases(query, (*query).targetList.cast())?;
        let (mut below, mut joining) = (Vec::new(), Vec::new());
        for condition in conditions {
            let condition = without_aliases(query, condition)?;
            match &relations_of(condition)[..] {
                [one] if *one == large => below.push(condition),
                [_, _] if is_equality(condition) => joining.push(condition),
                _ => return None,
            }
        }
        let above: Vec<*mut Node> = joining.iter().copied().chain([entries]).collect();
        let aggregates = aggregates_in(entries);
        if !aggregates.iter().all(|agg| can_be_early(*agg, large)) {
            return None;
        }
        let mut columns = Columns::default();
        let mut groups = 1.0;
        for var in above.iter().flat_map(|part| vars_beside_aggregates(*part, large)) {
            if !equal_is_same(var) {
                return None;
            }
            let known = columns.len();
            columns.group(var.cast())?;
            if columns.len() > known {
                groups *= values(query, var);
            }
        }
        let rte = tree::entry((*query).rtable, large);
        if columns.is_empty() || !pays(tuple::estimated_rows((*rte).relid), groups, ROWS_OF_GROUP) {
            return None;
        }
        let rows = Rows { is_key: &|_| false, are_sorted: false };
        let mut failed = false;
        let mut above = |part: *mut Node| {
            tree::mutate(part, |n| {
                let replaced = match (*n).type_ {
                    pg_sys::NodeTag::T_Aggref => aggregate::split(n.cast(), &mut columns, &rows),
                    pg_sys::NodeTag::T_Var if is_var_of(n, large) => columns.group(n).map(|var| var.cast()),
                    _ => return Change::Deeper,
                };
                match replaced {
                    Some(new) => renumber(new, large),
                    None => failed = true,
                }
                Change::Replace(replaced.unwrap_or(n))
            })
        };
        let entries = above(entries);
        let joining: Vec<*mut Node> = joining.into_iter().map(&mut above).collect();
        if failed {
            return None;
        }
        let sub = tree::make::<pg_sys::Query>(pg_sys::NodeTag::T_Query);
        (*sub).commandType = pg_sys::CmdType::CMD_SELECT;
        (*sub).canSetTag = true;
        (*sub).hasAggs = true;
        (*sub).rtable = list_of([tree::copy(rte)]);
        (*sub).jointree = tree::make::<pg_sys::FromExpr>(pg_sys::NodeTag::T_FromExpr);
        (*(*sub).jointree).fromlist = list_of([reference(1)]);
        (*(*sub).jointree).quals = all_of(below);
        put_columns(sub, &columns);
        renumber((*sub).targetList.cast(), 1);
        renumber((*(*sub).jointree).quals, 1);

        let alias = (*(*rte).eref).aliasname;
        (*(*(*query).rtable).elements.add(large as usize - 1)).ptr_value = subquery(sub, alias).cast();
        for rte in items::<pg_sys::RangeTblEntry>((*query).rtable) {
            if (*rte).rtekind == pg_sys::RTEKind::RTE_JOIN {
                (*rte).rtekind = pg_sys::RTEKind::RTE_RESULT;
                (*rte).joinaliasvars = ptr::null_mut();
            }
        }
        (*query).targetList = entries.cast();
        (*(*query).jointree).fromlist = list_of(relations.into_iter().map(|index| reference(index)));
        (*(*query).jointree).quals = all_of(joining);
        Some(query)
    }
}

/// The relations and conditions of inner joins; `None` if there is another join.
unsafe fn inner_joined(node: *mut Node, relations: &mut Vec<u32>, conditions: &mut Vec<*mut Node>) -> Option<()> {
    // SAFETY: jointree nodes.
    unsafe {
        if let Some(reference) = node_as!(node, T_RangeTblRef) {
            relations.push((*reference.cast::<pg_sys::RangeTblRef>()).rtindex as u32);
        } else if let Some(from) = node_as!(node, T_FromExpr) {
            let from = from.cast::<pg_sys::FromExpr>();
            for item in items::<Node>((*from).fromlist) {
                inner_joined(item, relations, conditions)?;
            }
            tree::conjuncts((*from).quals, conditions);
        } else {
            let join = node_as!(node, T_JoinExpr)?.cast::<pg_sys::JoinExpr>();
            if (*join).jointype != pg_sys::JoinType::JOIN_INNER {
                return None;
            }
            inner_joined((*join).larg, relations, conditions)?;
            inner_joined((*join).rarg, relations, conditions)?;
            tree::conjuncts((*join).quals, conditions);
        }
        Some(())
    }
}

/// The one distributed table among tables of which all others are reference tables.
unsafe fn largest(query: *mut pg_sys::Query, relations: &[u32], map: &ClusterMap) -> Option<u32> {
    // SAFETY: reads the range table.
    unsafe {
        let mut large = None;
        for index in relations {
            let rte = tree::entry((*query).rtable, *index);
            if (*rte).rtekind != pg_sys::RTEKind::RTE_RELATION || !(*rte).tablesample.is_null() {
                return None;
            }
            let table = TableId((*rte).relid.to_u32());
            map.table(table)?;
            if map.distribution(table).is_some() && large.replace(*index).is_some() {
                return None;
            }
        }
        large.filter(|_| relations.len() > 1)
    }
}

/// A copy in which columns of joins are those of the tables; `None` if a whole row or a system column is used.
unsafe fn without_aliases(query: *mut pg_sys::Query, node: *mut Node) -> Option<*mut Node> {
    // SAFETY: columns of the query itself.
    unsafe {
        let mut whole = false;
        let mut result = node;
        // A join's columns may be those of a join below it.
        loop {
            let mut found = false;
            result = tree::mutate(result, |n| {
                let Some(var) = node_as!(n, T_Var) else { return Change::Deeper };
                let var = var.cast::<pg_sys::Var>();
                whole |= (*var).varattno <= 0;
                let rte = tree::entry((*query).rtable, (*var).varno as u32);
                if (*rte).rtekind != pg_sys::RTEKind::RTE_JOIN || whole {
                    return Change::Deeper;
                }
                found = true;
                let aliased = items::<Node>((*rte).joinaliasvars)[(*var).varattno as usize - 1];
                Change::Replace(tree::copy(aliased))
            });
            if whole {
                return None;
            }
            if !found {
                return Some(result);
            }
        }
    }
}

/// The relations whose columns an expression uses.
unsafe fn relations_of(node: *mut Node) -> Vec<u32> {
    let mut found = Vec::new();
    // SAFETY: a read-only walk.
    unsafe {
        tree::walk(node, |n| {
            if let Some(var) = node_as!(n, T_Var) {
                found.push((*var.cast::<pg_sys::Var>()).varno as u32);
            }
            Visit::Deeper
        });
    }
    found.sort();
    found.dedup();
    found
}

/// Whether a condition is that two columns are equal.
unsafe fn is_equality(condition: *mut Node) -> bool {
    // SAFETY: reads an analyzed expression.
    unsafe {
        let Some(op) = node_as!(condition, T_OpExpr) else { return false };
        let op = op.cast::<pg_sys::OpExpr>();
        let arguments = items::<Node>((*op).args);
        arguments.len() == 2
            && arguments.iter().all(|a| node_as!(strip_relabel(*a), T_Var).is_some())
            && pg_sys::op_hashjoinable((*op).opno, pg_sys::exprType(arguments[0]))
    }
}

/// Whether an aggregate takes nothing but what rows of the large table have, and cannot fail for any of them.
unsafe fn can_be_early(agg: *mut pg_sys::Aggref, large: u32) -> bool {
    const ADDS_UP: [&str; 2] = ["sum", "avg"];
    const NUMBERS: [pg_sys::Oid; 4] = [pg_sys::INT2OID, pg_sys::INT4OID, pg_sys::INT8OID, pg_sys::NUMERICOID];
    // SAFETY: reads an analyzed aggregate.
    unsafe {
        let adds_up = shape::builtin_name((*agg).aggfnoid).is_some_and(|name| ADDS_UP.contains(&&*name));
        let is_harmless = |n: *mut Node| match (*n).type_ {
            pg_sys::NodeTag::T_Var => is_var_of(n, large),
            pg_sys::NodeTag::T_OpExpr => {
                let op = n.cast::<pg_sys::OpExpr>();
                never_fails(pg_sys::get_opcode((*op).opno))
            }
            pg_sys::NodeTag::T_FuncExpr => never_fails((*n.cast::<pg_sys::FuncExpr>()).funcid),
            pg_sys::NodeTag::T_List
            | pg_sys::NodeTag::T_TargetEntry
            | pg_sys::NodeTag::T_Const
            | pg_sys::NodeTag::T_Param
            | pg_sys::NodeTag::T_NullTest
            | pg_sys::NodeTag::T_BoolExpr
            | pg_sys::NodeTag::T_RelabelType => true,
            _ => false,
        };
        let mut harmless = true;
        for part in [(*agg).args.cast::<Node>(), (*agg).aggfilter.cast()] {
            tree::walk(part, |n| {
                harmless &= is_harmless(n);
                Visit::Deeper
            });
        }
        harmless
            && aggregate::splits_distinct(agg)
            && (*agg).aggdistinct.is_null()
            && (*agg).aggorder.is_null()
            && (!adds_up || tree::oids((*agg).aggargtypes).iter().all(|t| NUMBERS.contains(t)))
    }
}

/// Functions of Postgres's own that are defined for all values: sums, differences and products of numerics, integers
/// as numerics, comparisons of numbers and dates.
fn never_fails(function: pg_sys::Oid) -> bool {
    // SAFETY: a look-up in a catalog.
    let is_leakproof = || unsafe { pg_sys::get_func_leakproof(function) };
    matches!(function.to_u32(), 1724..=1726 | 1740 | 1781 | 1782) || function.to_u32() < 10_000 && is_leakproof()
}

unsafe fn is_var_of(node: *mut Node, relation: u32) -> bool {
    // SAFETY: the tag says what it is.
    unsafe { node_as!(node, T_Var).is_some_and(|v| (*v.cast::<pg_sys::Var>()).varno as u32 == relation) }
}

/// The columns of a relation that an expression uses outside of aggregates.
unsafe fn vars_beside_aggregates(node: *mut Node, relation: u32) -> Vec<*mut pg_sys::Var> {
    let mut found = Vec::new();
    // SAFETY: a read-only walk.
    unsafe {
        tree::walk(node, |n| {
            if (*n).type_ == pg_sys::NodeTag::T_Aggref {
                return Visit::Skip;
            }
            if is_var_of(n, relation) {
                found.push(n.cast());
            }
            Visit::Deeper
        });
    }
    found
}

/// Whether values of a column that are equal are the same in every respect.
unsafe fn equal_is_same(var: *mut pg_sys::Var) -> bool {
    // bool, bytea, "char", name, integers, text, oid, varchar, date, time, timestamps, uuid
    const TYPES: [u32; 15] = [16, 17, 18, 19, 20, 21, 23, 25, 26, 1043, 1082, 1083, 1114, 1184, 2950];
    // SAFETY: a look-up in a catalog.
    unsafe { TYPES.contains(&(*var).vartype.to_u32()) && deterministic((*var).varcollid) }
}

/// Columns of the one relation that an expression uses become those of number `relation`.
unsafe fn renumber(node: *mut Node, relation: u32) {
    // SAFETY: a private copy.
    unsafe {
        tree::walk(node, |n| {
            if let Some(var) = node_as!(n, T_Var) {
                let var = var.cast::<pg_sys::Var>();
                (*var).varno = relation as _;
                (*var).varnosyn = relation as _;
            }
            Visit::Deeper
        });
    }
}

/// The conditions as one.
unsafe fn all_of(conditions: Vec<*mut Node>) -> *mut Node {
    // SAFETY: a node is made.
    unsafe {
        match conditions[..] {
            [] => ptr::null_mut(),
            [one] => one,
            _ => pg_sys::makeBoolExpr(pg_sys::BoolExprType::AND_EXPR, list_of(conditions), -1).cast(),
        }
    }
}
