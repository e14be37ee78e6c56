//! UPDATE, DELETE and MERGE that each node does with its own rows.
//!
//! ```text
//! UPDATE orders o SET state = p.state FROM payments p, states s
//!     WHERE p.tenant = o.tenant AND p.order_id = o.id AND s.code = p.state;
//!   -> the same statement on every node, with orders and payments colocated by tenant, states a reference table
//! ```
//!
//! Sound if each row of the join of target and sources is on one node (`place`). A MERGE that inserts what has no match
//! joins from the source outwards, so the source's rows have to be split too, and the key of a new row is the one that tells
//! where its source row is: the row belongs where it is made. One that has something to do with rows that have no source
//! joins from the target. A node refuses rows that are not its own.

use super::place::{Reading, Reason, apart};
use super::{compat, shape, unfit};
use crate::catalog::{ClusterMap, TableId};
use crate::node_as;
use crate::pg::gucs;
use crate::pg::modify::compat::{MatchKind, match_kind};
use crate::pg::planner::Tables;
use crate::pg::tree::{self, Node, Visit, items};
use crate::plan::pushdown::{Part, Place};
use pgrx::pg_sys;

/// Whether each node can run the statement for its own rows; else why not.
pub unsafe fn stays_on_nodes(query: *mut pg_sys::Query, map: &ClusterMap, tables: &Tables) -> Result<(), Reason> {
    // SAFETY: `query` is analyzed and rewritten.
    unsafe {
        if !gucs::PUSHDOWN.get() {
            return Err("sharding.enable_pushdown is off".into());
        }
        if !gucs::JOIN_PUSHDOWN.get() {
            return Err("sharding.enable_join_pushdown is off".into());
        }
        unfit(query)?;
        if !names_its_sources(query) {
            return Err("it comes of a rule".into());
        }
        if shape::has_statement_value(query, map) {
            return Err("a subquery is one value for all nodes".into());
        }
        let mut reading = Reading::new(map, &tables.distributed);
        let place = if (*query).commandType == pg_sys::CmdType::CMD_MERGE {
            let table = TableId((*tree::entry((*query).rtable, (*query).resultRelation as u32)).relid.to_u32());
            let Some((_, key)) = map.distribution(table) else { return Err("a reference table is written".into()) };
            reading.merge(query, key)?
        } else {
            reading.block(query)?.place
        };
        match place {
            Place::Split(_) => Ok(()),
            Place::Everywhere => Err("it reads no distributed table".into()),
        }
    }
}

impl Reading<'_> {
    /// Where the rows of a MERGE's join are.
    unsafe fn merge(&mut self, query: *mut pg_sys::Query, key: i16) -> Result<Place, Reason> {
        // SAFETY: as above.
        unsafe {
            if (*query).hasSubLinks || !(*query).returningList.is_null() {
                return Err("a MERGE has a subquery in an expression, or RETURNING".into());
            }
            let sources = items::<Node>((*(*query).jointree).fromlist);
            let ([source], Some(condition)) = (sources.as_slice(), compat::merge_condition(query)) else {
                return Err("it has an unusual join".into());
            };
            let frame = self.reader.enter(query, &mut self.frames);
            let source = self.joined(query, *source)?;
            let target = self.relation(query, (*query).resultRelation as u32)?;
            let on = self.reader.equalities(condition, &self.frames);
            let (mut inserts, mut keeps_target) = (false, false);
            for action in items::<pg_sys::MergeAction>((*query).mergeActionList) {
                match (*action).commandType {
                    pg_sys::CmdType::CMD_NOTHING => continue,
                    pg_sys::CmdType::CMD_INSERT => {
                        inserts = true;
                        let entry = entry_of(action, key).ok_or("a new row has no shard key")?;
                        if self.key(&source.place, frame, (*entry).expr.cast()) != Some(true) {
                            return Err("a new row's shard key is not that of its source row".into());
                        }
                    }
                    pg_sys::CmdType::CMD_UPDATE if entry_of(action, key).is_some() => {
                        return Err("it changes the shard key".into());
                    }
                    _ => {}
                }
                keeps_target |= matches!(match_kind(action), MatchKind::NotMatchedBySource);
            }
            self.frames.leave();
            let join = match (inserts, keeps_target) {
                (false, false) => Part::inner(vec![source, target], on),
                (true, false) => Part::left(source, target, on),
                (false, true) => Part::left(target, source, on),
                (true, true) => Part::full(source, target, on),
            };
            Ok(join.map_err(apart)?.place)
        }
    }
}

/// Whether all that it reads beside its target stands in a FROM list, to be printed: what a rule brings along does not.
unsafe fn names_its_sources(query: *mut pg_sys::Query) -> bool {
    // SAFETY: a read-only walk over a jointree.
    unsafe {
        !tree::walk((*query).jointree.cast(), |n| {
            let Some(reference) = node_as!(n, T_RangeTblRef) else {
                return if (*n).type_ == pg_sys::NodeTag::T_SubLink { Visit::Skip } else { Visit::Deeper };
            };
            let index = (*reference.cast::<pg_sys::RangeTblRef>()).rtindex;
            let named = index == (*query).resultRelation || (*tree::entry((*query).rtable, index as u32)).inFromCl;
            if named { Visit::Deeper } else { Visit::Stop }
        })
    }
}

/// What an action of MERGE assigns to a column.
unsafe fn entry_of(action: *mut pg_sys::MergeAction, attno: i16) -> Option<*mut pg_sys::TargetEntry> {
    // SAFETY: reads an analyzed action.
    unsafe { items::<pg_sys::TargetEntry>((*action).targetList).into_iter().find(|t| (**t).resno == attno) }
}
