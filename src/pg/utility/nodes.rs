//! Telling the nodes.

use crate::catalog::{ClusterMap, DistributedTable, NodeId, ShardIndex, quote_identifier, quote_literal};
use crate::error::Result;
use crate::pg::session::{self, Access};
use crate::pg::utility::{After, Call};
use std::rc::Rc;

/// Runs a statement on every node, in the transaction.
pub fn tell(map: &ClusterMap, sql: &str) -> Result<()> {
    let nodes = map.node_ids();
    if nodes.is_empty() {
        return Ok(());
    }
    session::execute_on(&nodes, sql, Access::Write).map(drop)
}

/// The statement as it was written, on every node.
pub fn repeat(call: &Call, map: &Rc<ClusterMap>) -> After {
    let (map, text) = (map.clone(), call.words().text);
    Box::new(move |_| tell(&map, &text))
}

/// These statements, on every node.
pub fn say(map: &Rc<ClusterMap>, statements: Vec<String>) -> Option<After> {
    if statements.is_empty() {
        return None;
    }
    let map = map.clone();
    Some(Box::new(move |_| statements.iter().try_for_each(|sql| tell(&map, sql))))
}

/// A statement that makes a role if the node has none of this name; it cannot log in.
pub fn role_exists(name: &str) -> String {
    let body = format!(
        "BEGIN IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {}) THEN CREATE ROLE {} NOLOGIN; END IF; END",
        quote_literal(name),
        quote_identifier(name)
    );
    format!("DO {}", quote_literal(&body))
}

/// A statement that makes a schema if the node has none of this name.
pub fn schema_exists(name: &str) -> String {
    format!("CREATE SCHEMA IF NOT EXISTS {}", quote_identifier(name))
}

/// SET CONSTRAINTS holds on every node of the transaction, also those that join later.
pub fn set_constraints(call: &Call) -> After {
    let text = call.words().text;
    Box::new(move |_| session::set_constraints(&text))
}

/// Runs a statement for each shard of a table, on its node; none for a reference table.
pub fn tell_shards(map: &ClusterMap, table: &DistributedTable, statement: impl Fn(&str) -> String) -> Result<()> {
    let mut work = Vec::new();
    for node in map.node_ids() {
        work.extend(shards_on(map, table, node).iter().map(|shard| (node, statement(shard))));
    }
    session::execute_each(&work, Access::Write).map(drop)
}

/// The names on a node of a table's shards there, qualified and quoted.
pub fn shards_on(map: &ClusterMap, table: &DistributedTable, node: NodeId) -> Vec<String> {
    let Some((group, _)) = map.distribution(table.id) else { return Vec::new() };
    (0u32..)
        .zip(&group.shards)
        .filter(|(_, n)| **n == node)
        .filter_map(|(i, _)| map.shard_name(table.id, ShardIndex(i)))
        .collect()
}
