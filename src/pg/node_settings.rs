//! The settings that a scan's statement takes along to the planner of each node ([`crate::plan::tuning`]).
//!
//! ```text
//! nodes n1, n2 on this machine, n3 on another; max_parallel_workers_per_gather = 2 here
//! n1, n2   SET LOCAL enable_partitionwise_join = on;SET LOCAL max_parallel_workers_per_gather = 0;
//! n3       SET LOCAL enable_partitionwise_join = on;
//! ```

use crate::catalog::NodeId;
use crate::error::Result;
use crate::pg::endpoint::nodes_on_machines;
use crate::pg::scan::Scan;
use crate::pg::session::Access;
use crate::plan::tuning::{Tuning, share};
use pgrx::pg_sys;

impl Scan {
    /// What each node is told first. Where the statement does not have the node's transaction for itself, it would
    /// hold for others, too.
    pub(super) fn tuning(&self, nodes: &[NodeId], access: Access) -> Result<Vec<String>> {
        if access == Access::ReadSnapshot { self.settings_for(nodes) } else { Ok(Vec::new()) }
    }

    /// Whether a node that makes few rows of many may use parallel workers for it.
    pub(super) fn has_parallel_nodes(&self, nodes: &[NodeId]) -> Result<bool> {
        // SAFETY: a setting of this backend.
        let workers = unsafe { pg_sys::max_parallel_workers_per_gather }.max(0) as u32;
        if !self.plan.tuning.shares_machine {
            return Ok(workers > 0);
        }
        Ok(nodes_on_machines(nodes)?.into_iter().any(|together| share(workers, together) > 0))
    }

    /// The settings that travel to each of these nodes; empty if none do.
    pub fn settings_for(&self, nodes: &[NodeId]) -> Result<Vec<String>> {
        if self.plan.tuning == Tuning::default() {
            return Ok(Vec::new());
        }
        // SAFETY: a setting of this backend.
        let workers = unsafe { pg_sys::max_parallel_workers_per_gather }.max(0) as u32;
        let told = |together| self.plan.tuning.sql((together > 1).then(|| share(workers, together)));
        Ok(nodes_on_machines(nodes)?.into_iter().map(told).collect())
    }
}
