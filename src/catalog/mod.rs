//! The cluster as values: nodes, colocation groups with their shards, distributed tables.
//!
//! `pg::catalog_cache` fills a [`ClusterMap`] from the catalog tables of schema `sharding` and
//! keeps it until somebody changes them; planning only reads it. No Postgres types here: an OID is
//! a `u32` in a newtype.

use crate::cheap_hash::CheapMap;
use std::collections::BTreeSet;

/// A node: the OID of its SQL/MED server on this coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct NodeId(pub u32);

/// A table: the OID of the parent on this coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct TableId(pub u32);

/// A colocation group, as in `sharding.colocation_group.group_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct GroupId(pub i32);

/// The remainder that names a shard within its group: `0..shard_count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct ShardIndex(pub u32);

/// A server of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub id: NodeId,
    pub name: String,
}

/// Tables that share key type, shard bounds and placement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColocationGroup {
    pub id: GroupId,
    /// OID of the shard key's type.
    pub key_type: u32,
    /// The node of each shard; the index is the remainder, the length the modulus.
    pub shards: Vec<NodeId>,
}

impl ColocationGroup {
    /// The shard of a row whose key has this partition hash (`compute_partition_hash_value`).
    pub fn shard_of_hash(&self, hash: u64) -> ShardIndex {
        ShardIndex((hash % self.shards.len() as u64) as u32)
    }

    /// The node that holds a shard of this group.
    pub fn node_of(&self, shard: ShardIndex) -> NodeId {
        self.shards[shard.0 as usize]
    }

    /// The nodes that hold at least one shard, in a fixed order.
    pub fn nodes(&self) -> Vec<NodeId> {
        self.shards.iter().copied().collect::<BTreeSet<_>>().into_iter().collect()
    }
}

/// How a table is spread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Split over the shards of a group by the key column `key_attno` (1-based).
    Distributed { group: GroupId, key_attno: i16, shard_prefix: String },
    /// A full copy on every node and on the coordinator.
    Reference,
}

/// A table that the cluster knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DistributedTable {
    pub id: TableId,
    pub spread: Spread,
}

impl DistributedTable {
    /// Whether its rows are split over nodes.
    pub fn is_distributed(&self) -> bool {
        matches!(self.spread, Spread::Distributed { .. })
    }
}

/// Everything a planner asks of the cluster.
#[derive(Clone, Debug, Default)]
pub struct ClusterMap {
    pub nodes: Vec<Node>,
    pub groups: CheapMap<GroupId, ColocationGroup>,
    pub tables: CheapMap<TableId, DistributedTable>,
}

impl ClusterMap {
    /// The table, if the cluster knows it.
    pub fn table(&self, id: TableId) -> Option<&DistributedTable> {
        self.tables.get(&id)
    }

    /// The group and key column of a table that is split over nodes.
    pub fn distribution(&self, id: TableId) -> Option<(&ColocationGroup, i16)> {
        match &self.tables.get(&id)?.spread {
            Spread::Distributed { group, key_attno, .. } => Some((self.groups.get(group)?, *key_attno)),
            Spread::Reference => None,
        }
    }

    /// The qualified, quoted name of a shard on its node: `sharding_shards.orders_7`.
    pub fn shard_name(&self, id: TableId, shard: ShardIndex) -> Option<String> {
        match &self.tables.get(&id)?.spread {
            Spread::Distributed { shard_prefix, .. } => {
                Some(format!("{SHARD_SCHEMA}.{}", quote_identifier(&shard_relation(shard_prefix, shard))))
            }
            Spread::Reference => None,
        }
    }

    /// The node's name, for messages.
    pub fn node_name(&self, id: NodeId) -> &str {
        self.nodes.iter().find(|n| n.id == id).map_or("?", |n| n.name.as_str())
    }

    /// All nodes, in the order of their OIDs.
    pub fn node_ids(&self) -> Vec<NodeId> {
        self.nodes.iter().map(|n| n.id).collect()
    }
}

/// The schema on each node that holds the shards.
pub const SHARD_SCHEMA: &str = "sharding_shards";

/// The relation name of a shard, without its schema.
pub fn shard_relation(prefix: &str, shard: ShardIndex) -> String {
    format!("{prefix}_{}", shard.0)
}

/// An identifier in double quotes, whether it needs them or not: the text is for a node's parser.
pub fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string literal that means the same whatever `standard_conforming_strings` says.
pub fn quote_literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!(" E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_named_after_prefix_and_remainder() {
        assert_eq!(shard_relation("orders", ShardIndex(7)), "orders_7");
        assert_eq!(quote_identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(quote_literal("it's\\"), " E'it''s\\\\'");
    }

    #[test]
    fn a_hash_falls_in_the_shard_of_its_remainder() {
        let g = ColocationGroup { id: GroupId(1), key_type: 23, shards: vec![NodeId(5), NodeId(6), NodeId(5)] };
        assert_eq!(g.shard_of_hash(7), ShardIndex(1));
        assert_eq!(g.nodes(), vec![NodeId(5), NodeId(6)]);
    }
}
