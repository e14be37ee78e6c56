//! Which shards a scan reads, and so which nodes, and the statement's text for them.
//!
//! `WHERE id = $1` leads to the one shard of the parameter's value, `WHERE id = ANY ($1)` to those of its elements; anything
//! else to all. EXPLAIN asks without running: then only constants are known.

use crate::catalog::{NodeId, ShardIndex, TableId};
use crate::error::{Error, Result, sqlstate};
use crate::pg::kept_plan::Text;
use crate::pg::scan::Scan;
use crate::pg::{hash, many_keys, tree, tuple};
use crate::plan::remote::Target;
use pgrx::pg_sys;
use std::rc::Rc;

impl Scan {
    /// The nodes of these shards, of all shards if there are none.
    pub(super) fn nodes_of(&self, shards: Option<&[ShardIndex]>) -> Result<Vec<NodeId>> {
        let table = self.plan.target.table();
        let (group, _) = self.map.distribution(table).ok_or_else(|| gone(table))?;
        let Some(shards) = shards else { return Ok(group.nodes()) };
        let mut nodes: Vec<NodeId> = shards.iter().map(|s| group.node_of(*s)).collect();
        nodes.sort();
        nodes.dedup();
        Ok(nodes)
    }

    /// The statement's text: of one shard, or of the parents.
    pub fn text_for(&self, shards: Option<&[ShardIndex]>) -> Rc<Text> {
        self.plan.text(&self.map, shards)
    }

    /// The statement's texts for each of a node's shards.
    pub(super) fn texts_by_shard(&self, node: NodeId) -> Vec<Rc<Text>> {
        let Some((group, _)) = self.map.distribution(self.plan.target.table()) else { return Vec::new() };
        let shards = (0..group.shards.len() as u32).map(ShardIndex).filter(|shard| group.node_of(*shard) == node);
        shards.map(|shard| self.text_for(Some(&[shard]))).collect()
    }

    /// Whether the list of keys that chooses the nodes is a long one.
    pub(super) unsafe fn has_many_keys(&self, values: &[Option<pg_sys::Datum>]) -> bool {
        let (Target::Keys { parameter, .. }, Some(_)) = (&self.plan.target, &self.plan.many_sql) else { return false };
        // SAFETY: the value is an array.
        values[*parameter].is_some_and(|list| unsafe { tuple::array_length(list) } >= many_keys::MANY)
    }

    /// The shards that the parameters' values lead to; `None` is all of them. Never empty: where
    /// no row can match, an aggregate in the remote statement still owes its row.
    pub(super) unsafe fn shards_for(&self, values: &[Option<pg_sys::Datum>]) -> Result<Option<Vec<ShardIndex>>> {
        let table = self.plan.target.table();
        let (group, _) = self.map.distribution(table).ok_or_else(|| gone(table))?;
        // SAFETY: values have the types of the parameter expressions.
        unsafe {
            match &self.plan.target {
                Target::All { .. } => Ok(None),
                Target::Key { parameter, .. } => {
                    let value_type = self.parameters[*parameter].2;
                    Ok(Some(vec![hash::shard_of(&self.map, table, value_type, values[*parameter])?]))
                }
                Target::Keys { parameter, .. } => {
                    let element = pg_sys::get_element_type(pg_sys::getBaseType(self.parameters[*parameter].2));
                    let mut hasher = hash::KeyHasher::for_type(table, element)?;
                    let keys = values[*parameter].map_or_else(Vec::new, |a| tuple::array_elements(a, element));
                    // There may be a million keys, and a few shards.
                    let mut shards: Vec<ShardIndex> = Vec::new();
                    let mut seen = vec![false; group.shards.len()];
                    for key in keys.into_iter().flatten() {
                        let shard = hasher.shard(group, Some(key));
                        if !std::mem::replace(&mut seen[shard.0 as usize], true) {
                            shards.push(shard);
                            if shards.len() == seen.len() {
                                break;
                            }
                        }
                    }
                    shards.sort();
                    Ok(Some(if shards.is_empty() { vec![ShardIndex(0)] } else { shards }))
                }
            }
        }
    }

    /// The nodes for EXPLAIN without running: `None` if only execution can tell.
    pub unsafe fn nodes_for_explain(&self) -> Option<Vec<NodeId>> {
        if !self.reports.is_empty() {
            let mut nodes: Vec<NodeId> = self.reports.iter().map(|r| r.node).collect();
            nodes.sort();
            nodes.dedup();
            return Some(nodes);
        }
        // SAFETY: constants are readable without execution.
        unsafe { self.nodes_of(self.shards_for(&self.constants()?).ok()?.as_deref()).ok() }
    }

    /// The shards that the constants lead to, for EXPLAIN.
    pub unsafe fn shards_for_explain(&self) -> Option<Vec<ShardIndex>> {
        // SAFETY: as above.
        unsafe { self.shards_for(&self.constants()?).ok().flatten() }
    }

    /// The values of the parameter that chooses the nodes, if it is a constant.
    unsafe fn constants(&self) -> Option<Vec<Option<pg_sys::Datum>>> {
        // SAFETY: reads the plan.
        unsafe {
            let plan = (*self.node).ss.ps.plan.cast::<pg_sys::ForeignScan>();
            let exprs = tree::items::<pg_sys::Node>((*plan).fdw_exprs);
            let mut values = vec![None; exprs.len()];
            if let Target::Key { parameter, .. } | Target::Keys { parameter, .. } = &self.plan.target {
                let c = crate::node_as!(*exprs.get(*parameter)?, T_Const)?.cast::<pg_sys::Const>();
                values[*parameter] = (!(*c).constisnull).then_some((*c).constvalue);
            }
            Some(values)
        }
    }
}

fn gone(table: TableId) -> Error {
    Error::new(sqlstate::UNDEFINED_TABLE, format!("table with OID {} is not distributed any more", table.0))
}
