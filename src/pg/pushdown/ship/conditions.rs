//! The conditions that the rows of one table have to pass, wherever else it is joined.
//!
//! ```text
//! FROM lineitem, part WHERE p_partkey = l_partkey AND p_size > 3 AND (p_brand = 'a' AND l_tax = 1 OR p_brand = 'b')
//! part:  p_size > 3 AND (p_brand = 'a' OR p_brand = 'b')
//! ```
//!
//! They are conjuncts of WHERE and of inner joins; on the nullable side of an outer join those of its ON, for rows
//! that fail it are never joined. Of a disjunction is taken what each of its arms says of the table. Where the table's
//! rows have passed them, those that are about nothing else are left out of the join ([`leave_out`]): a planner that
//! sees them again takes the few rows for still fewer.

use crate::node_as;
use crate::pg::compat;
use crate::pg::pushdown::shape;
use crate::pg::query_tree::strip_relabel;
use crate::pg::tree::{self, Node, Visit, items, list_of};
use pgrx::pg_sys;
use std::ptr;

/// What holds for a table below a node of the join tree.
struct Found {
    conjuncts: Vec<*mut Node>,
    /// Where they are.
    places: Vec<*mut *mut Node>,
    /// Whether conditions above hold for its rows, too: they are not on a nullable side.
    inner: bool,
}

/// The conditions on table `rti` alone, as conditions on table 1; `None` if the query does not join it.
pub unsafe fn of_table(query: *mut pg_sys::Query, rti: u32) -> Option<Vec<*mut Node>> {
    // SAFETY: reads an analyzed query; the conditions are copies.
    unsafe {
        let found = below((*query).jointree.cast(), rti)?;
        let mut conditions: Vec<*mut Node> = Vec::new();
        for conjunct in found.conjuncts {
            if let Some(condition) = part_about(conjunct, rti) {
                let condition = tree::copy(condition);
                compat::clear_nulling_relations(condition);
                tree::walk(condition, |n| {
                    if let Some(var) = node_as!(n, T_Var) {
                        let var = var.cast::<pg_sys::Var>();
                        (*var).varno = 1;
                        ((*var).varnosyn, (*var).varattnosyn) = (0, 0);
                    }
                    Visit::Deeper
                });
                conditions.push(condition);
            }
        }
        Some(conditions)
    }
}

/// Conditions that were taken out of a query, and where they belong.
pub struct LeftOut(Vec<(*mut *mut Node, *mut Node)>);

/// Takes the conditions on table `rti` alone out of a query, but for those that give a value to a column by which it is
/// joined, since that is the value of the other tables' columns, too.
pub unsafe fn leave_out(query: *mut pg_sys::Query, rti: u32) -> LeftOut {
    let mut before = Vec::new();
    // SAFETY: the join tree of a private copy; lists are made anew.
    unsafe {
        let mut joins = Vec::new();
        shape::inner_conditions((*query).jointree.cast(), &mut joins);
        joins.retain(|c| !is_about(*c, rti));
        let places = below((*query).jointree.cast(), rti).map_or_else(Vec::new, |found| found.places);
        for place in places {
            let mut conjuncts = Vec::new();
            tree::conjuncts(*place, &mut conjuncts);
            let all = conjuncts.len();
            conjuncts.retain(|c| !is_about(*c, rti) || gives_value_to_join(*c, rti, &joins));
            if conjuncts.len() < all {
                before.push((place, *place));
                *place = all_of(conjuncts);
            }
        }
    }
    LeftOut(before)
}

/// Whether a condition on table `rti` is `column = value`, and the table is joined by that column.
unsafe fn gives_value_to_join(condition: *mut Node, rti: u32, joins: &[*mut Node]) -> bool {
    // SAFETY: analyzed conditions.
    unsafe {
        let Some(op) = node_as!(condition, T_OpExpr) else { return false };
        let op = op.cast::<pg_sys::OpExpr>();
        if pg_sys::get_mergejoin_opfamilies((*op).opno).is_null() {
            return false;
        }
        items::<Node>((*op).args).into_iter().filter_map(|a| node_as!(strip_relabel(a), T_Var)).any(|var| {
            let attno = (*var.cast::<pg_sys::Var>()).varattno;
            joins.iter().any(|join| {
                tree::walk(*join, |n| {
                    let found = node_as!(n, T_Var).is_some_and(|v| {
                        let v = v.cast::<pg_sys::Var>();
                        (*v).varlevelsup == 0 && (*v).varno as u32 == rti && (*v).varattno == attno
                    });
                    if found { Visit::Stop } else { Visit::Deeper }
                })
            })
        })
    }
}

impl LeftOut {
    /// Puts them back. What was taken out of the query later has been put back before.
    pub unsafe fn put_back(self) {
        for (place, conditions) in self.0 {
            // SAFETY: the query is still there.
            unsafe { *place = conditions };
        }
    }
}

/// A condition that holds where all of these do.
pub unsafe fn all_of(conditions: Vec<*mut Node>) -> *mut Node {
    match conditions.len() {
        0 => ptr::null_mut(),
        1 => conditions[0],
        // SAFETY: a new node in the current memory context.
        _ => unsafe { pg_sys::makeBoolExpr(pg_sys::BoolExprType::AND_EXPR, list_of(conditions), -1).cast() },
    }
}

unsafe fn below(node: *mut Node, rti: u32) -> Option<Found> {
    // SAFETY: jointree nodes are RangeTblRef, JoinExpr and FromExpr.
    unsafe {
        if let Some(reference) = node_as!(node, T_RangeTblRef) {
            let here = (*reference.cast::<pg_sys::RangeTblRef>()).rtindex as u32 == rti;
            return here.then(|| Found { conjuncts: Vec::new(), places: Vec::new(), inner: true });
        }
        if let Some(from) = node_as!(node, T_FromExpr) {
            let from = from.cast::<pg_sys::FromExpr>();
            let mut found = items::<Node>((*from).fromlist).into_iter().find_map(|item| below(item, rti))?;
            if found.inner {
                tree::conjuncts((*from).quals, &mut found.conjuncts);
                found.places.push(&raw mut (*from).quals);
            }
            return Some(found);
        }
        let join = node_as!(node, T_JoinExpr)?.cast::<pg_sys::JoinExpr>();
        let (mut found, on_left) = match below((*join).larg, rti) {
            Some(found) => (found, true),
            None => (below((*join).rarg, rti)?, false),
        };
        let (on_holds, preserved) = match (*join).jointype {
            pg_sys::JoinType::JOIN_INNER => (true, true),
            pg_sys::JoinType::JOIN_LEFT => (!on_left, on_left),
            pg_sys::JoinType::JOIN_RIGHT => (on_left, !on_left),
            _ => (false, false),
        };
        if found.inner && on_holds {
            tree::conjuncts((*join).quals, &mut found.conjuncts);
            found.places.push(&raw mut (*join).quals);
        }
        found.inner &= preserved;
        Some(found)
    }
}

/// What a condition says of the table alone: itself, or what each arm of a disjunction does.
unsafe fn part_about(condition: *mut Node, rti: u32) -> Option<*mut Node> {
    // SAFETY: an analyzed condition; new nodes are made in the current memory context.
    unsafe {
        if is_about(condition, rti) {
            return Some(condition);
        }
        let disjunction = node_as!(condition, T_BoolExpr)?.cast::<pg_sys::BoolExpr>();
        if (*disjunction).boolop != pg_sys::BoolExprType::OR_EXPR {
            return None;
        }
        let mut arms = Vec::new();
        for arm in items::<Node>((*disjunction).args) {
            let mut conjuncts = Vec::new();
            tree::conjuncts(arm, &mut conjuncts);
            let parts: Vec<*mut Node> = conjuncts.into_iter().filter_map(|c| part_about(c, rti)).collect();
            arms.push(match parts.len() {
                0 => return None,
                1 => parts[0],
                _ => pg_sys::makeBoolExpr(pg_sys::BoolExprType::AND_EXPR, list_of(parts), -1).cast(),
            });
        }
        Some(pg_sys::makeBoolExpr(pg_sys::BoolExprType::OR_EXPR, list_of(arms), -1).cast())
    }
}

/// Whether a condition can be checked twice, and looks at nothing but columns of the table.
unsafe fn is_about(condition: *mut Node, rti: u32) -> bool {
    // SAFETY: a read-only walk.
    unsafe {
        let mut any = false;
        let other = tree::walk(condition, |n| match (*n).type_ {
            pg_sys::NodeTag::T_Var => {
                let var = n.cast::<pg_sys::Var>();
                any = true;
                let own = (*var).varlevelsup == 0 && (*var).varno as u32 == rti && (*var).varattno > 0;
                if own { Visit::Deeper } else { Visit::Stop }
            }
            pg_sys::NodeTag::T_SubLink | pg_sys::NodeTag::T_Aggref | pg_sys::NodeTag::T_GroupingFunc => Visit::Stop,
            _ => Visit::Deeper,
        });
        any && !other && !pg_sys::contain_volatile_functions(condition)
    }
}

/// Whether a condition of the query compares the table with a row of a query around it.
pub unsafe fn look_outside(query: *mut pg_sys::Query, rti: u32) -> bool {
    // SAFETY: a read-only walk.
    unsafe {
        let Some(found) = below((*query).jointree.cast(), rti) else { return false };
        found.conjuncts.into_iter().any(|conjunct| {
            let (mut own, mut outer) = (false, false);
            tree::walk(conjunct, |n| {
                if let Some(var) = node_as!(n, T_Var) {
                    let var = var.cast::<pg_sys::Var>();
                    own |= (*var).varlevelsup == 0 && (*var).varno as u32 == rti;
                    outer |= (*var).varlevelsup > 0;
                }
                Visit::Deeper
            });
            own && outer
        })
    }
}
