//! A node's part of a scan in several tasks, each over some of the node's shards and a connection of its own.
//!
//! ```
//! use sharding::catalog::{ShardIndex, TableId};
//! use sharding::plan::remote::ShardSql;
//! use sharding::plan::tasks::{Cut, Size, parts};
//! let orders = TableId(7);
//! let sql = ShardSql { pieces: vec!["SELECT o.id FROM ".into(), " o".into()], tables: vec![orders] };
//! let cut = Cut { sql, columns: vec!["id, v".into()], size: Size { bytes: 64 << 20, is_read: false } };
//! let shards = [0, 2, 4, 6].map(ShardIndex);
//! assert_eq!(cut.size.tasks(4, 8, 3, 8 << 20), 3);
//! let parts = parts(&shards, 3);
//! assert_eq!(parts, [vec![ShardIndex(0), ShardIndex(2)], vec![ShardIndex(4)], vec![ShardIndex(6)]]);
//! assert_eq!(
//!     cut.text(&parts[0], |_, shard| format!("s.orders_{}", shard.0)),
//!     "SELECT o.id FROM (SELECT id, v FROM s.orders_0 UNION ALL SELECT id, v FROM s.orders_2) o"
//! );
//! assert_eq!(cut.text(&parts[1], |_, shard| format!("s.orders_{}", shard.0)), "SELECT o.id FROM s.orders_4 o");
//! ```
//!
//! What is right for the shards of two nodes is right for two parts of a node's shards: the statement says the same of each,
//! and nothing else depends on where shards are. Postgres takes such a `UNION ALL` for what it is, a list of tables: conditions
//! and columns go into each.
//!
//! The coordinator does not know how a node will execute the statement, but a result that is fetched in pages is never
//! produced in parallel there. Each task costs a connection, and a round trip for the snapshot: by default there is one.

use crate::catalog::{ShardIndex, TableId};
use crate::plan::remote::ShardSql;
use serde::{Deserialize, Serialize};

/// What a row that is aggregated on a node takes there, in terms of bytes of rows that are sent.
pub const AGGREGATED_ROW: f64 = 64.0;

/// How much there is to divide, by estimate, all nodes together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    pub bytes: u64,
    /// Few rows are made of it on the node, which may use parallel workers for that.
    pub is_read: bool,
}

impl Size {
    /// Of rows that are sent.
    pub fn sent(rows: f64, width: f64) -> Size {
        Size { bytes: (rows * width.max(1.0)) as u64, is_read: false }
    }

    /// Of rows that are aggregated.
    pub fn read(rows: f64) -> Size {
        Size { bytes: (rows * AGGREGATED_ROW) as u64, is_read: true }
    }

    /// Into how many tasks a node's part is divided that has `shards` of `all`: at most `most`, each of at least `least` bytes.
    pub fn tasks(&self, shards: usize, all: usize, most: usize, least: u64) -> usize {
        let of_node = u128::from(self.bytes) * shards as u128 / all.max(1) as u128;
        let worth = of_node.checked_div(u128::from(least)).unwrap_or(u128::MAX);
        usize::try_from(worth).unwrap_or(usize::MAX).min(most).min(shards).max(1)
    }
}

/// A statement that may address any subset of the shards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    pub sql: ShardSql,
    /// The columns of each table of `sql`, in the order of its gaps.
    pub columns: Vec<String>,
    pub size: Size,
}

impl Cut {
    /// The statement for these shards.
    pub fn text(&self, shards: &[ShardIndex], name: impl Fn(TableId, ShardIndex) -> String) -> String {
        self.sql.text(|table| {
            if let [shard] = shards {
                return name(table, *shard);
            }
            let place = self.sql.tables.iter().position(|of| *of == table);
            let columns = place.and_then(|place| self.columns.get(place)).map_or("*", String::as_str);
            let selects: Vec<String> =
                shards.iter().map(|shard| format!("SELECT {columns} FROM {}", name(table, *shard))).collect();
            format!("({})", selects.join(" UNION ALL "))
        })
    }
}

/// The shards in so many parts of about the same number; none is empty.
pub fn parts(shards: &[ShardIndex], tasks: usize) -> Vec<Vec<ShardIndex>> {
    let tasks = tasks.clamp(1, shards.len().max(1));
    let (each, more) = (shards.len() / tasks, shards.len() % tasks);
    let mut rest = shards;
    (0..tasks)
        .map(|task| {
            let (part, others) = rest.split_at(each + usize::from(task < more));
            rest = others;
            part.to_vec()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_task_is_worth_its_connection() {
        let size = Size::sent(1000.0, 100.0);
        assert_eq!(size.tasks(4, 8, 8, 25_000), 2);
        assert_eq!(size.tasks(4, 8, 8, 50_001), 1, "less than one task's worth");
        assert_eq!(size.tasks(4, 8, 8, 0), 4, "no more than there are shards");
        assert_eq!(size.tasks(4, 8, 3, 0), 3);
        assert_eq!(Size::read(f64::INFINITY).tasks(4, 8, 3, u64::MAX), 1);
        assert_eq!(Size::sent(0.0, 0.0).tasks(0, 0, 3, 0), 1);
    }

    proptest! {
        #[test]
        fn each_shard_is_in_one_part(count in 0_u32..100, tasks in 0_usize..20) {
            let shards: Vec<ShardIndex> = (0..count).map(ShardIndex).collect();
            let parts = parts(&shards, tasks);
            prop_assert_eq!(parts.concat(), shards.clone());
            prop_assert!(parts.len() <= tasks.max(1));
            let (least, most) = (parts.iter().map(Vec::len).min(), parts.iter().map(Vec::len).max());
            prop_assert!(most.unwrap_or(0) - least.unwrap_or(0) <= 1);
            prop_assert!(count == 0 || parts.iter().all(|part| !part.is_empty()));
        }
    }
}
