//! INSERT ... SELECT that each node does with its own rows.
//!
//! ```text
//! INSERT INTO totals (tenant, n) SELECT tenant, count(*) FROM orders GROUP BY tenant;
//!   -> on every node, with totals colocated with orders:
//!      INSERT INTO totals (tenant, n, made) SELECT x.tenant, x.n, $1 FROM (SELECT ...) x
//! ```
//!
//! Sound if the SELECT's rows are split over the nodes by their key (`place`), and the new rows' key is that key as it
//! is. Defaults are part of the statement then: what has to be evaluated here becomes a parameter, and what draws from
//! a sequence or is volatile keeps the statement on the coordinator. A node refuses rows that are not its own.

use super::place::{Reading, Reason, Rows};
use super::{shape, unfit};
use crate::catalog::{ClusterMap, TableId};
use crate::node_as;
use crate::pg::gucs;
use crate::pg::planner::Tables;
use crate::pg::tree::{self, Node, items, list_of};
use crate::pg::tuple;
use pgrx::pg_sys;
use std::ptr;

/// Rows that each shard has at least where it gets a statement of its own: some 100 times what its plan costs.
const ROWS_PER_STATEMENT: f64 = 10_000.0;

/// The number of the SELECT in the range table of an INSERT ... SELECT.
pub unsafe fn source(query: *mut pg_sys::Query) -> Option<u32> {
    // SAFETY: reads an analyzed query.
    unsafe {
        let sources = items::<Node>((*(*query).jointree).fromlist);
        let [only] = sources.as_slice() else { return None };
        let index = (*node_as!(*only, T_RangeTblRef)?.cast::<pg_sys::RangeTblRef>()).rtindex as u32;
        let rte = tree::entry((*query).rtable, index);
        ((*rte).rtekind == pg_sys::RTEKind::RTE_SUBQUERY).then_some(index)
    }
}

/// Whether each node can run the statement for its own rows; else why not.
pub unsafe fn stays_on_nodes(query: *mut pg_sys::Query, map: &ClusterMap, tables: &Tables) -> Result<(), Reason> {
    // SAFETY: `query` is analyzed and rewritten.
    unsafe {
        let Some(index) = source(query) else { return Err("it inserts more than one row".into()) };
        if !gucs::PUSHDOWN.get() {
            return Err("sharding.enable_pushdown is off".into());
        }
        if !(*query).cteList.is_null() || (*query).hasSubLinks {
            return Err("it inserts the rows of a query with more around it".into());
        }
        let table = TableId((*tree::entry((*query).rtable, (*query).resultRelation as u32)).relid.to_u32());
        let Some((group, key)) = map.distribution(table) else { return Err("a reference table is written".into()) };
        if changes_key(query, key) {
            return Err("ON CONFLICT changes the shard key".into());
        }
        unfit(query)?;
        let select = (*tree::entry((*query).rtable, index)).subquery;
        unfit(select)?;
        if shape::has_statement_value(query, map) {
            return Err("a subquery is one value for all nodes".into());
        }
        let mut reading = Reading::new(map, &tables.distributed);
        let Rows::Split(outputs) = reading.query(select)? else {
            return Err("its SELECT reads no distributed table".into());
        };
        let read = reading.table.and_then(|table| map.distribution(table));
        if read.is_none_or(|(read, _)| read.id != group.id) {
            return Err("its SELECT reads tables that are not colocated with the target".into());
        }
        let entry = items::<pg_sys::TargetEntry>((*query).targetList).into_iter().find(|t| (**t).resno == key);
        let is_key = entry.and_then(|t| node_as!((*t).expr.cast::<Node>(), T_Var)).is_some_and(|var| {
            let var = var.cast::<pg_sys::Var>();
            (*var).varno as u32 == index && (*var).varlevelsup == 0 && outputs.has((*var).varattno)
        });
        if is_key { Ok(()) } else { Err("the new rows' shard key is not that of the rows of its SELECT".into()) }
    }
}

/// Whether it pays to send a node the statement once for each of its shards, and means the same. Then no row has to be
/// routed to its partition, which saves a node a tenth of its time; but it plans the statement for each shard. `query`
/// can run on all nodes.
pub unsafe fn is_worth_a_statement_per_shard(query: *mut pg_sys::Query, map: &ClusterMap, tables: &Tables) -> bool {
    // SAFETY: reads an analyzed query, whose relations are locked.
    unsafe {
        let target = (*tree::entry((*query).rtable, (*query).resultRelation as u32)).relid;
        let Some((group, _)) = map.distribution(TableId(target.to_u32())) else { return false };
        let read = tables.distributed.iter().map(|table| pg_sys::Oid::from(table.0)).filter(|table| *table != target);
        let largest = read.map(|table| tuple::known_rows(table).unwrap_or(0.0)).fold(0.0, f64::max);
        if !gucs::SHARD_WRITES.get()
            || largest < ROWS_PER_STATEMENT * group.shards.len() as f64
            || !(*query).onConflict.is_null()
        {
            return false;
        }
        let relation = pg_sys::RelationIdGetRelation(target);
        // What looks at the new rows shall see those of all shards.
        let alone = !relation.is_null() && !tuple::is_watched(relation);
        if !relation.is_null() {
            pg_sys::RelationClose(relation);
        }
        alone
    }
}

unsafe fn changes_key(query: *mut pg_sys::Query, key: i16) -> bool {
    // SAFETY: reads an analyzed query.
    unsafe {
        let conflict = (*query).onConflict;
        !conflict.is_null()
            && items::<pg_sys::TargetEntry>((*conflict).onConflictSet)
                .into_iter()
                .any(|t| !(*t).resjunk && (*t).resno == key)
    }
}

/// Moves the values of the new rows into the SELECT: above it, a printed INSERT has none.
pub unsafe fn complete_select(query: *mut pg_sys::Query) {
    // SAFETY: the query is a private copy; all nodes are made in its memory context.
    unsafe {
        let Some(index) = source(query) else { return };
        let rte = tree::entry((*query).rtable, index);
        let inner = tree::copy(rte);
        (*inner).inFromCl = true;
        let select = tree::make::<pg_sys::Query>(pg_sys::NodeTag::T_Query);
        (*select).commandType = pg_sys::CmdType::CMD_SELECT;
        (*select).canSetTag = true;
        (*select).rtable = list_of([inner.cast::<Node>()]);
        let reference = tree::make::<pg_sys::RangeTblRef>(pg_sys::NodeTag::T_RangeTblRef);
        (*reference).rtindex = 1;
        (*select).jointree = pg_sys::makeFromExpr(list_of([reference.cast::<Node>()]), ptr::null_mut());
        let (mut outputs, mut names) = (ptr::null_mut(), ptr::null_mut());
        let entries = items::<pg_sys::TargetEntry>((*query).targetList).into_iter().filter(|t| !(**t).resjunk);
        for (number, entry) in (1i16..).zip(entries) {
            let expr = (*entry).expr.cast::<Node>();
            let moved = tree::copy(expr);
            pg_sys::ChangeVarNodes(moved, index as i32, 1, 0);
            let output = pg_sys::makeTargetEntry(moved.cast(), number, (*entry).resname, false);
            outputs = pg_sys::lappend(outputs, output.cast());
            names = pg_sys::lappend(names, pg_sys::makeString(pg_sys::pstrdup((*entry).resname)).cast());
            let (kind, typmod) = (pg_sys::exprType(expr), pg_sys::exprTypmod(expr));
            let var = pg_sys::makeVar(index as i32, number, kind, typmod, pg_sys::exprCollation(expr), 0);
            (*entry).expr = var.cast();
        }
        (*select).targetList = outputs;
        (*rte).subquery = select;
        (*rte).eref = pg_sys::makeAlias(c"rows".as_ptr(), names);
    }
}
