//! By which column shipped rows may be cut, so that each goes to one node only: one that is compared with a shard key.
//!
//! ```text
//! FROM orders LEFT JOIN customers ON c_id = o_customer        -- customers by c_id, orders by o_id
//! orders: o_customer, since c_id is the shard key of customers
//! ```
//!
//! The node that has the shard of the value has all rows that the row can be joined with. What the query says of the
//! column elsewhere decides whether that is sound ([`place`](super::super::place)); here are the columns worth a try.

use crate::catalog::{ClusterMap, TableId};
use crate::node_as;
use crate::pg::hash::{self, KeyClass};
use crate::pg::pushdown::shape;
use crate::pg::query_tree::{deterministic, strip_relabel};
use crate::pg::tree::{self, Node, Visit, items};
use pgrx::pg_sys;

/// The shard keys of the tables that a query reads: their classes, and the most nodes that one of them has.
pub struct Keys {
    pub classes: Vec<KeyClass>,
    pub nodes: usize,
}

pub unsafe fn keys(query: *mut pg_sys::Query, map: &ClusterMap) -> Keys {
    let mut tables = Vec::new();
    // SAFETY: a read-only walk.
    unsafe {
        tree::walk(query.cast(), |n| {
            if let Some(rte) = node_as!(n, T_RangeTblEntry) {
                let rte = rte.cast::<pg_sys::RangeTblEntry>();
                let table = TableId((*rte).relid.to_u32());
                if (*rte).rtekind == pg_sys::RTEKind::RTE_RELATION && !tables.contains(&table) {
                    tables.push(table);
                }
            }
            Visit::Deeper
        });
    }
    let mut keys = Keys { classes: Vec::new(), nodes: 1 };
    for table in tables {
        let Some((group, _)) = map.distribution(table) else { continue };
        keys.nodes = keys.nodes.max(group.nodes().len());
        if let Ok(class) = hash::key_class(table)
            && !keys.classes.iter().any(|c| c.family == class.family && c.input_type == class.input_type)
        {
            keys.classes.push(class);
        }
    }
    keys
}

/// The columns of entry `rti` of a query that are compared with other columns and can be hashed like a key, those that
/// are compared with a table's key first. `columns`: the subquery that the entry is, or would be.
pub unsafe fn columns(
    query: *mut pg_sys::Query,
    rti: u32,
    columns: *mut pg_sys::Query,
    keys: &Keys,
    map: &ClusterMap,
) -> Vec<i16> {
    let (mut first, mut others) = (Vec::new(), Vec::new());
    // SAFETY: a read-only walk over an analyzed query.
    unsafe {
        shape::any_below(query, 0, &mut |n, depth| {
            let Some(op) = node_as!(n, T_OpExpr) else { return false };
            let op = op.cast::<pg_sys::OpExpr>();
            let args = items::<Node>((*op).args);
            let is_equality = |class: &KeyClass| pg_sys::get_op_opfamily_strategy((*op).opno, class.family) == 1;
            let [a, b] = args[..] else { return false };
            if !keys.classes.iter().any(is_equality) {
                return false;
            }
            let (Some(a), Some(b)) = (column(a), column(b)) else { return false };
            for (mine, other) in [(a, b), (b, a)] {
                if (*mine).varlevelsup == depth && (*mine).varno as u32 == rti {
                    let is_key = (*other).varlevelsup == depth && is_key(query, other, map);
                    if is_key { &mut first } else { &mut others }.push((*mine).varattno);
                }
            }
            false
        });
        first.extend(others);
        let mut found: Vec<i16> = Vec::new();
        for attno in first {
            if !found.contains(&attno) && can_be_hashed(columns, attno, keys) {
                found.push(attno);
            }
        }
        found
    }
}

/// Whether a column of a subquery is a value that is hashed like a key.
pub unsafe fn can_be_hashed(query: *mut pg_sys::Query, attno: i16, keys: &Keys) -> bool {
    // SAFETY: reads an analyzed query.
    unsafe { column_type(query, attno).is_some_and(|kind| keys.classes.iter().any(|class| class.hashes_alike(kind))) }
}

/// The type of a column of a subquery, unless it is a constant or compared by another equality than that of its bytes.
pub unsafe fn column_type(query: *mut pg_sys::Query, attno: i16) -> Option<pg_sys::Oid> {
    // SAFETY: as above.
    unsafe {
        let entry = items::<pg_sys::TargetEntry>((*query).targetList)
            .into_iter()
            .find(|t| (**t).resno == attno && !(**t).resjunk)?;
        let expr = (*entry).expr.cast::<Node>();
        let varies = node_as!(expr, T_Const).is_none() && deterministic(pg_sys::exprCollation(expr));
        varies.then(|| pg_sys::exprType(expr))
    }
}

unsafe fn column(node: *mut Node) -> Option<*mut pg_sys::Var> {
    // SAFETY: the tag says what it is.
    unsafe {
        let var = node_as!(strip_relabel(node), T_Var)?.cast::<pg_sys::Var>();
        ((*var).varattno > 0).then_some(var)
    }
}

/// Whether a column is the shard key of a table of the query.
unsafe fn is_key(query: *mut pg_sys::Query, var: *mut pg_sys::Var, map: &ClusterMap) -> bool {
    // SAFETY: the column is one of that query.
    unsafe {
        let rte = tree::entry((*query).rtable, (*var).varno as u32);
        (*rte).rtekind == pg_sys::RTEKind::RTE_RELATION
            && map.distribution(TableId((*rte).relid.to_u32())).is_some_and(|(_, key)| key == (*var).varattno)
    }
}
