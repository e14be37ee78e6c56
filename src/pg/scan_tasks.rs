//! A scan whose part on each node is cut into several tasks, over further connections ([`crate::plan::tasks`] has the rules).
//!
//! ```text
//! SELECT * FROM orders, two nodes with four shards each, sharding.max_tasks_per_node = 2
//!
//! n1  own connection       snapshot exported  SELECT ... FROM (orders_0 UNION ALL orders_2)
//!     one beside it        snapshot imported  SELECT ... FROM (orders_4 UNION ALL orders_6)
//! n2  ...
//! ```
//!
//! The snapshots are exported when the scan would be sent, so that they are as consistent as those of any other; what takes
//! more time, the further connections and the statements, comes after that. Whatever stands in the way of a cut
//! (own writes, locks, a transaction that may still write, no connection to spare) leaves the node with one task.

use crate::catalog::{NodeId, ShardIndex};
use crate::error::Result;
use crate::pg::alone::{is_end_of_transaction, is_sent_by_client};
use crate::pg::scan::Scan;
use crate::pg::session::beside::{self, Exports};
use crate::pg::session::registry::{Key, is_repeatable_read};
use crate::pg::session::{Access, Fetch, Statement, Stream};
use crate::pg::wait::Patience;
use crate::pg::{consistent, gucs};
use crate::plan::tasks::{Cut, parts};
use pgrx::pg_sys;
use std::time::Instant;

/// Whether the nodes' transactions end before the client's next statement runs: those of a statement that it has sent,
/// with a snapshot of its own, do, or the whole transaction ends.
unsafe fn ends_with(statement: *mut pg_sys::PlannedStmt) -> bool {
    // SAFETY: reads backend state.
    unsafe { is_sent_by_client(statement) && (!is_repeatable_read() || is_end_of_transaction(statement)) }
}

/// What a cut scan has beside its streams.
#[derive(Default)]
pub struct Tasks {
    /// The snapshots are asked for, the statements not sent yet.
    exports: Option<(Exports, Access, Fetch)>,
    /// Further connections.
    keys: Vec<Key>,
}

impl Tasks {
    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.exports.is_none()
    }

    /// Waits until the snapshots are taken, or time is up; whether they are.
    pub fn wait_bound(&self, deadline: Option<Instant>) -> bool {
        self.exports.as_ref().is_none_or(|(exports, ..)| exports.wait(Patience { deadline, interruptible: true }))
    }

    /// Forgets the snapshots.
    pub fn take_back(&mut self) {
        self.exports = None;
    }

    /// Gives further connections back; their streams are gone.
    pub fn end(&mut self) {
        self.exports = None;
        beside::end(&std::mem::take(&mut self.keys));
    }
}

impl Scan {
    /// Asks for the snapshots of the nodes if the scan is to be cut; whether it is. What it sends follows when its
    /// first row is wanted.
    pub(super) unsafe fn begin_tasks(&mut self, nodes: &[NodeId], access: Access, fetch: Fetch) -> Result<bool> {
        // SAFETY: called while the executor state lives.
        let writes_no_more = unsafe { pg_sys::XactReadOnly || ends_with(self.statement()) };
        let is_cut = self.wants_tasks(nodes)? && writes_no_more && beside::may_share(nodes, access);
        if is_cut {
            consistent::has_taken_snapshot();
            self.tasks.exports = Some((Exports::ask(nodes, access)?, access, fetch));
        }
        Ok(is_cut)
    }

    /// Whether it is worth it to cut the part of any of these nodes, if that can be done.
    pub fn wants_tasks(&self, nodes: &[NodeId]) -> Result<bool> {
        let counts = if self.only_reads() { self.planned_tasks(nodes)? } else { None };
        Ok(counts.is_some_and(|counts| counts.iter().any(|count| *count > 1)))
    }

    /// Into how many tasks the part of each of these nodes is to be cut; `None` if the statement cannot be.
    pub fn planned_tasks(&self, nodes: &[NodeId]) -> Result<Option<Vec<usize>>> {
        let most = gucs::max_tasks_per_node();
        let Some(cut) = self.plan.cut.as_ref().filter(|_| most > 1) else { return Ok(None) };
        if self.plan.shipping.shipments.iter().any(|shipment| shipment.cut.is_some()) {
            // Each of the rows sent by key would be on its node several times.
            return Ok(None);
        }
        if cut.size.is_read && self.has_parallel_nodes(nodes)? {
            return Ok(None);
        }
        let Some((group, _)) = self.map.distribution(self.plan.target.table()) else { return Ok(None) };
        let least = gucs::min_task_bytes();
        let count = |node: &NodeId| cut.size.tasks(self.shards_on(*node).len(), group.shards.len(), most, least);
        Ok(Some(nodes.iter().map(count).collect()))
    }

    fn shards_on(&self, node: NodeId) -> Vec<ShardIndex> {
        let Some((group, _)) = self.map.distribution(self.plan.target.table()) else { return Vec::new() };
        (0..).zip(&group.shards).filter(|(_, of)| **of == node).map(|(shard, _)| ShardIndex(shard)).collect()
    }

    /// Sends the statements of all tasks, if they are due.
    pub(super) fn open_tasks(&mut self) -> Result<()> {
        if self.tasks.is_idle() {
            return Ok(());
        }
        let Some((exports, access, fetch)) = self.tasks.exports.take() else { return Ok(()) };
        let snapshots = exports.collect()?;
        let Some(mut request) = self.request.take() else { return Ok(()) };
        let nodes = request.nodes();
        let plan = self.plan.clone();
        let (Some(cut), Some(counts)) = (&plan.cut, self.planned_tasks(&nodes)?) else { return Ok(()) };
        let binary: Vec<bool> = self.columns.iter().map(|c| c.binary).collect();
        let tuning = self.tuning(&nodes, Access::ReadSnapshot)?;
        self.started = Some(Instant::now());
        for (i, node) in nodes.iter().enumerate() {
            let mut keys = Vec::new();
            for _ in 1..counts[i] {
                let Some(key) = beside::take(*node)? else { break };
                // Known before anything can go wrong.
                self.tasks.keys.push(key);
                keys.push(key);
            }
            let first = tuning.get(i).map_or("", String::as_str);
            let parts = parts(&self.shards_on(*node), keys.len() + 1);
            request.exchange(i);
            for (part, key) in parts.iter().zip(std::iter::once(None).chain(keys.into_iter().map(Some))) {
                let sql = self.text_of_part(cut, part);
                let params = &request.params;
                let statement =
                    Statement { sql: &sql, params, result_binary: &binary, keep: None, report_bound: false };
                let stream = match key {
                    None => {
                        let first = if access == Access::ReadSnapshot { first } else { "" };
                        Stream::open_after(*node, first, &statement, access, fetch)?
                    }
                    Some(key) => beside::open(key, &snapshots[i], first, &statement, fetch)?,
                };
                self.report_on(*node, stream.beside());
                self.streams.push(stream);
            }
            request.exchange(i);
        }
        Ok(())
    }

    fn text_of_part(&self, cut: &Cut, part: &[ShardIndex]) -> String {
        cut.text(part, |table, shard| self.map.shard_name(table, shard).unwrap_or_default())
    }
}
