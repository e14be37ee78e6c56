//! Running a table's DDL on the nodes: create, finish, drop.

use super::dependencies::{self, NodeObject};
use super::describe::TableDdl;
use crate::catalog::{ColocationGroup, NodeId, SHARD_SCHEMA, ShardIndex, quote_identifier, shard_relation};
use crate::error::Result;
use crate::pg::session::{self, Access};
use std::collections::BTreeMap;

/// Runs statements in order on all nodes, in one round trip.
pub fn run(nodes: &[NodeId], statements: &[String]) -> Result<()> {
    if !statements.is_empty() {
        // A statement may end in a comment: the semicolon stands on a line of its own.
        session::execute_on(nodes, &statements.join("\n;\n"), Access::Write)?;
    }
    Ok(())
}

/// Runs statements that differ by node: a node's own in order and in one round trip.
fn run_each(statements: &[(NodeId, String)]) -> Result<()> {
    let mut by_node: BTreeMap<NodeId, Vec<&str>> = BTreeMap::new();
    for (node, statement) in statements {
        by_node.entry(*node).or_default().push(statement);
    }
    let work: Vec<(NodeId, String)> = by_node.into_iter().map(|(node, all)| (node, all.join("\n;\n"))).collect();
    session::execute_each(&work, Access::Write)?;
    Ok(())
}

/// Runs DDL on nodes under `search_path = pg_catalog` and without checking function bodies, and puts
/// both back. When the work fails the transaction does that.
pub fn with_ddl_settings<T>(nodes: &[NodeId], work: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = "SELECT pg_catalog.set_config('sharding_ddl.search_path', pg_catalog.current_setting('search_path'), true); \
                  SET LOCAL search_path = pg_catalog; SET LOCAL check_function_bodies = off";
    let after = "SELECT pg_catalog.set_config('search_path', pg_catalog.current_setting('sharding_ddl.search_path'), true); \
                 SET LOCAL check_function_bodies = DEFAULT";
    session::execute_on(nodes, before, Access::Write)?;
    let result = work()?;
    session::execute_on(nodes, after, Access::Write)?;
    Ok(result)
}

/// The shards of one table: names, nodes and bounds.
pub struct Shards<'a> {
    pub group: &'a ColocationGroup,
    pub prefix: &'a str,
}

impl Shards<'_> {
    /// `sharding_shards.orders_7`
    pub fn name(&self, shard: ShardIndex) -> String {
        format!("{SHARD_SCHEMA}.{}", quote_identifier(&shard_relation(self.prefix, shard)))
    }

    fn all(&self) -> impl Iterator<Item = (ShardIndex, NodeId)> + '_ {
        self.group.shards.iter().enumerate().map(|(i, node)| (ShardIndex(i as u32), *node))
    }
}

/// Creates a table with what it needs, and its shards, ready for rows.
pub fn create(nodes: &[NodeId], objects: &[NodeObject], ddl: &TableDdl, shards: Option<&Shards>) -> Result<()> {
    dependencies::create_on(nodes, objects)?;
    run(nodes, &ddl.create)?;
    let Some(shards) = shards else { return Ok(()) };
    run(
        nodes,
        &[
            format!("CREATE SCHEMA IF NOT EXISTS {SHARD_SCHEMA}"),
            format!("GRANT USAGE ON SCHEMA {SHARD_SCHEMA} TO PUBLIC"),
        ],
    )?;
    let modulus = shards.group.shards.len();
    let partitions: Vec<(NodeId, String)> = shards
        .all()
        .filter(|(_, node)| nodes.contains(node))
        .map(|(shard, node)| {
            let sql = format!(
                "CREATE TABLE {} PARTITION OF {} FOR VALUES WITH (MODULUS {modulus}, REMAINDER {}){}",
                shards.name(shard),
                ddl.name,
                shard.0,
                ddl.storage_parameters
            );
            (node, sql)
        })
        .collect();
    run_each(&partitions)
}

/// What comes after the rows and after other tables' keys: foreign keys and the rest.
pub fn finish(nodes: &[NodeId], ddl: &TableDdl, shards: Option<&Shards>, row_security: bool) -> Result<()> {
    run(nodes, &ddl.foreign_keys)?;
    run(nodes, &ddl.finish)?;
    let Some(shards) = shards else { return Ok(()) };
    // Policies stand on the parent: who may read only some rows must not reach a shard around it.
    let owner_only = 1.min(ddl.access.len());
    let access = if row_security { &ddl.access[..owner_only] } else { &ddl.access[..] };
    let statements: Vec<(NodeId, String)> = shards
        .all()
        .filter(|(_, node)| nodes.contains(node))
        .flat_map(|(shard, node)| {
            let name = shards.name(shard);
            access.iter().map(move |s| (node, s.replace("{}", &name)))
        })
        .collect();
    run_each(&statements)
}

/// Drops tables, by qualified and quoted name, with their shards.
pub fn drop_tables(nodes: &[NodeId], names: &[String]) -> Result<()> {
    if names.is_empty() || nodes.is_empty() {
        return Ok(());
    }
    session::execute_on(nodes, &format!("DROP TABLE IF EXISTS {} CASCADE", names.join(", ")), Access::Write)?;
    Ok(())
}
