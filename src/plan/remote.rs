//! What a plan node carries: one remote statement and where it goes. Plans hold bytes, never
//! pointers: this is what `postcard` puts into `fdw_private`.

use crate::catalog::TableId;
use crate::error::{Error, Result, sqlstate};
use crate::plan::tasks::Cut;
use crate::plan::tuning::Tuning;
use serde::{Deserialize, Serialize};

/// The tier that made a plan, for EXPLAIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tier {
    /// The whole query on the one node that has the key.
    Router,
    /// A query, or the whole statement, on every node that has a shard of the table.
    Pushdown,
    /// A scan of one table below a plan that Postgres made.
    Fallback,
}

/// Where a statement goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// The node of the shard that holds this key (a parameter index) of this table.
    Key { table: TableId, parameter: usize },
    /// The nodes of the shards that hold the keys in this array parameter.
    Keys { table: TableId, parameter: usize },
    /// Every node with a shard of the table.
    All { table: TableId },
}

impl Target {
    pub fn table(&self) -> TableId {
        match self {
            Target::Key { table, .. } | Target::Keys { table, .. } | Target::All { table } => *table,
        }
    }
}

/// Where an output column comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// Column `n` (0-based) of the remote result.
    Remote(usize),
    /// The table's OID on the coordinator.
    TableOid,
    /// The whole row, of the remote columns from this one on, one per attribute not dropped.
    WholeRow { first: usize },
}

/// A column by which the rows of each node are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergeKey {
    /// 0-based, of the remote result.
    pub column: usize,
    /// OIDs of the ordering operator and of the collation (0: none).
    pub operator: u32,
    pub collation: u32,
    pub nulls_first: bool,
}

/// How rows are locked on the node while they are read, and what the statement does there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// Reads only; `alone` if the whole statement is this one task and could run in autocommit,
    /// `snapshot` if the statement consists of reads only.
    Read { alone: bool, snapshot: bool },
    /// Reads and locks.
    Lock,
    /// Writes; its rows count for the command tag. `alone`: as for reads; what it returns is little.
    Write { alone: bool },
}

/// A statement that addresses shards instead of their parents: text with gaps for the shards' names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardSql {
    /// One more than there are gaps.
    pub pieces: Vec<String>,
    /// Whose shard goes into each gap.
    pub tables: Vec<TableId>,
}

impl ShardSql {
    /// The text, given a shard's name for each table.
    pub fn text(&self, name: impl Fn(TableId) -> String) -> String {
        let mut text = String::with_capacity(self.pieces.iter().map(|p| p.len() + 40).sum());
        for (i, piece) in self.pieces.iter().enumerate() {
            if i > 0 {
                text.push_str(&name(self.tables[i - 1]));
            }
            text.push_str(piece);
        }
        text
    }
}

/// Rows that are collected here when the statement starts and sent to its nodes as arrays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shipment {
    /// The subplan that returns them, counted from 1 as in `PlannedStmt.subplans`.
    pub subplan: u32,
    /// The column (1-based) by which they are cut: each goes to the node of the shard of that key. `None`: all go to
    /// all nodes.
    pub cut: Option<usize>,
    /// The columns (1-based) that are sent, and the parameters that they are.
    pub columns: Vec<(usize, usize)>,
}

/// What a statement sends with it, and what becomes of it if that proves to be too much.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shipping {
    pub shipments: Vec<Shipment>,
    /// The subplan that computes the statement's rows without sending anything, counted from 1.
    pub instead: Option<u32>,
    /// It belongs to such a subplan of another statement, and does not run unless that does.
    pub dormant: bool,
}

/// One remote statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemotePlan {
    pub tier: Tier,
    /// The statement, addressed to the parents.
    pub sql: String,
    /// The same, addressed to one shard of each table, where that is possible. If it goes to all nodes, each shard gets
    /// it.
    pub shard_sql: Option<ShardSql>,
    /// The same for a long list of keys, where it chooses the nodes by such.
    pub many_sql: Option<String>,
    /// A hash of the types of its parameters and columns if it is worth keeping prepared: it will come again.
    pub keep: Option<u64>,
    /// How many of the parameters the statement has; those after it only choose the nodes.
    pub sent: usize,
    pub target: Target,
    pub effect: Effect,
    pub columns: Vec<Source>,
    /// Each node sends its rows in this order, and so they are handed on; empty if in any.
    pub merge: Vec<MergeKey>,
    /// The relation whose row type a whole-row column has.
    pub relation: TableId,
    /// Few rows are expected: they are asked for at once, which lets a node use parallel workers.
    pub few_rows: bool,
    /// What it tells the nodes' planners where it has their transactions for itself.
    pub tuning: Tuning,
    pub shipping: Shipping,
    /// How a node's part may be cut into tasks, where that may be worth it.
    pub cut: Option<Cut>,
    /// The statement's rows count for the command tag (not a CTE's).
    pub sets_tag: bool,
    /// Why it was not routed.
    pub reason: Option<String>,
    /// Why not all of the statement was pushed down.
    pub not_pushed: Option<String>,
}

impl RemotePlan {
    /// Whether a node gets the statement once for each of its shards.
    pub fn is_by_shard(&self) -> bool {
        self.shard_sql.is_some() && matches!(self.target, Target::All { .. })
    }

    pub fn encode(&self) -> Result<Vec<u8>> {
        postcard::to_stdvec(self).map_err(|e| Error::new(sqlstate::INTERNAL, format!("cannot encode a plan: {e}")))
    }

    pub fn decode(bytes: &[u8]) -> Result<RemotePlan> {
        postcard::from_bytes(bytes).map_err(|e| Error::new(sqlstate::INTERNAL, format!("cannot decode a plan: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_survives_its_bytes() {
        let plan = RemotePlan {
            tier: Tier::Router,
            sql: "SELECT 1".into(),
            shard_sql: Some(ShardSql { pieces: vec!["SELECT ".into(), "".into()], tables: vec![TableId(7)] }),
            many_sql: None,
            keep: Some(1),
            sent: 1,
            target: Target::Key { table: TableId(7), parameter: 0 },
            effect: Effect::Read { alone: true, snapshot: true },
            columns: vec![Source::Remote(0), Source::TableOid],
            merge: vec![MergeKey { column: 0, operator: 97, collation: 0, nulls_first: false }],
            relation: TableId(7),
            few_rows: false,
            tuning: Tuning { joins_shards: true, ..Tuning::default() },
            shipping: Shipping {
                shipments: vec![Shipment { subplan: 1, cut: Some(2), columns: vec![(2, 0)] }],
                instead: Some(2),
                dormant: false,
            },
            cut: None,
            sets_tag: true,
            reason: None,
            not_pushed: None,
        };
        assert_eq!(RemotePlan::decode(&plan.encode().unwrap()).unwrap(), plan);
    }
}
