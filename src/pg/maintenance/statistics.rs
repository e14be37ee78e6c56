//! Keeps the coordinator's statistics of distributed tables fresh: what the nodes' autovacuum finds out about the
//! shards comes here without anybody running ANALYZE.
//!
//! ```text
//! every sharding.statistics_interval   each node: rows of the shards, and how often autovacuum has analyzed them
//! where that number has grown          column statistics of all shards, merged, to pg_class and pg_statistic
//! ```
//!
//! Autovacuum analyzes a shard when enough of it has changed, so this takes over its judgement. A worker that has just
//! started knows no earlier number: it looks whether the rows are about as many as the coordinator believes. Asking is
//! cheap and no node is made to analyze anything. A table that somebody has locked waits for the next time.

use crate::catalog::{ClusterMap, NodeId, TableId, quote_literal};
use crate::error::{Error, Result};
use crate::pg::maintenance::recover::ask;
use crate::pg::maintenance::roles::{Roles, as_role};
use crate::pg::maintenance::{settings, work};
use crate::pg::tuple;
use crate::pg::utility::{column_statistics, relation};
use pgrx::pg_sys;
use std::collections::HashMap;
use std::time::Instant;

/// How far the number of rows may be from what is believed: as autovacuum_analyze_scale_factor.
const TOLERANCE: f64 = 0.1;
/// As autovacuum_analyze_threshold.
const FEW_ROWS: f64 = 50.0;

/// What the nodes said of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Count {
    rows: f64,
    /// How often its shards were analyzed by autovacuum.
    analyzed: f64,
}

/// What is remembered from one look to the next.
#[derive(Default)]
pub struct Statistics {
    next: Option<Instant>,
    /// How often a table's shards had been analyzed when it was refreshed.
    refreshed: HashMap<TableId, f64>,
}

impl Statistics {
    /// Refreshes what is due; when to look again (`None`: it is switched off), and what could not be asked.
    pub fn look(&mut self, map: &ClusterMap, is_wanted: impl Fn() -> bool) -> (Option<Instant>, Vec<(NodeId, Error)>) {
        let Some(interval) = settings::statistics_interval() else {
            self.next = None;
            return (None, Vec::new());
        };
        let now = Instant::now();
        match self.next {
            Some(next) if now < next => return (Some(next), Vec::new()),
            // It has just been started; others have more pressing things for it to do.
            None => {
                self.next = Some(now + interval);
                return (self.next, Vec::new());
            }
            Some(_) => {}
        }
        self.next = Some(now + interval);
        let mut failed = Vec::new();
        let counts = work::transaction(|| Ok(counts(map, &mut failed))).unwrap_or_default();
        self.refreshed.retain(|table, _| map.distribution(*table).is_some());
        for (table, count) in counts {
            if is_wanted() {
                break;
            }
            if !self.is_stale(table, count) {
                continue;
            }
            match work::transaction(|| refresh(map, table)) {
                Ok(true) => {
                    self.refreshed.insert(table, count.analyzed);
                }
                Ok(false) => {}
                Err(error) => failed.extend(map.distribution(table).map(|(group, _)| (group.shards[0], error))),
            }
        }
        (self.next, failed)
    }

    /// Whether the nodes know of a table what is not known here; notes its count if not.
    fn is_stale(&mut self, table: TableId, count: Count) -> bool {
        let believed = work::transaction(|| {
            // SAFETY: a look at the relation cache; the table may be gone.
            Ok(unsafe { tuple::known_rows(pg_sys::Oid::from(table.0)) })
        });
        let Ok(Some(believed)) = believed else { return false };
        let differs = (count.rows - believed.max(0.0)).abs() > FEW_ROWS + TOLERANCE * believed.max(0.0);
        let stale = match self.refreshed.get(&table) {
            Some(analyzed) => count.analyzed != *analyzed,
            None => differs || believed < 0.0 && count.rows > 0.0,
        };
        if !stale {
            self.refreshed.entry(table).or_insert(count.analyzed);
        }
        stale
    }
}

/// The counts of the tables of which all nodes have told; those that have not are added to `failed`.
fn counts(map: &ClusterMap, failed: &mut Vec<(NodeId, Error)>) -> Vec<(TableId, Count)> {
    let mut counts: HashMap<TableId, (usize, Count)> = HashMap::new();
    for node in map.node_ids() {
        let tables: Vec<TableId> = map
            .tables
            .values()
            .filter(|t| map.distribution(t.id).is_some_and(|(group, _)| group.nodes().contains(&node)))
            .map(|t| t.id)
            .collect();
        if tables.is_empty() {
            continue;
        }
        let names: Vec<String> = tables.iter().map(|t| quote_literal(&relation::table_name(*t))).collect();
        let sql = format!(
            "SELECT x.n, sum(greatest(c.reltuples, 0)), sum(pg_catalog.pg_stat_get_autoanalyze_count(c.oid))
               FROM unnest(ARRAY[{}]) WITH ORDINALITY x(name, n),
                    pg_catalog.pg_partition_tree(pg_catalog.to_regclass(x.name)) t
               JOIN pg_catalog.pg_class c ON c.oid = t.relid WHERE t.isleaf GROUP BY x.n",
            names.join(", ")
        );
        match as_role(Roles::Any.of(node)[0], || ask(node, &sql)) {
            Ok(rows) => {
                for row in rows {
                    let number = |i: usize| row.get(i)?.as_ref()?.parse::<f64>().ok();
                    let Some(table) = number(0).and_then(|n| tables.get(n as usize - 1)) else { continue };
                    let (nodes, count) = counts.entry(*table).or_default();
                    *nodes += 1;
                    count.rows += number(1).unwrap_or(0.0);
                    count.analyzed += number(2).unwrap_or(0.0);
                }
            }
            Err(error) => failed.push((node, error)),
        }
    }
    let complete =
        |table: &TableId, nodes: usize| map.distribution(*table).is_some_and(|(g, _)| g.nodes().len() == nodes);
    let mut counts: Vec<_> =
        counts.into_iter().filter(|(table, (nodes, _))| complete(table, *nodes)).map(|(t, (_, c))| (t, c)).collect();
    counts.sort_by_key(|(table, _)| table.0);
    counts
}

/// Whether it could be done: not while somebody has the table locked.
fn refresh(map: &ClusterMap, table: TableId) -> Result<bool> {
    // SAFETY: in a transaction, which releases the lock.
    let locked = unsafe {
        pg_sys::ConditionalLockRelationOid(pg_sys::Oid::from(table.0), pg_sys::ShareUpdateExclusiveLock as _)
    };
    if !locked {
        return Ok(false);
    }
    column_statistics::refresh_from_shards(map, table, |nodes, sql| {
        nodes.iter().map(|node| Ok((*node, as_role(Roles::Any.of(*node)[0], || ask(*node, sql))?))).collect()
    })?;
    Ok(true)
}
