//! Deadlocks that no single server can see: found when a backend has waited for long, ended by one that gives way.
//! [`crate::transaction::deadlock`] has the rules.

use crate::catalog::{ClusterMap, NodeId};
use crate::error::{Error, Result, sqlstate};
use crate::pg::maintenance::shared::{long_waits, my_database};
use crate::pg::maintenance::{long_wait, wait_graph, work};
use crate::pg::pool::shared::wake;
use crate::pg::report;
use crate::transaction::deadlock::Process;
use std::collections::HashMap;
use std::time::Instant;

/// What is remembered from one look to the next.
#[derive(Default)]
pub struct Deadlocks {
    /// Those who should give way and could not yet be told, since when.
    untold: HashMap<u32, Instant>,
}

impl Deadlocks {
    /// Looks for circles and resolves them; the nodes that could not be asked.
    pub fn look(&mut self, map: &ClusterMap) -> Result<Vec<(NodeId, Error)>> {
        if !wait_graph::is_possible() {
            return Ok(Vec::new());
        }
        let first = work::transaction(|| wait_graph::take(map))?;
        if first.graph.victims(|process| first.start_of(process)).is_empty() {
            self.untold.clear();
            return Ok(first.failed);
        }
        let second = work::transaction(|| wait_graph::take(map))?;
        let graph = first.graph.in_both(&second.graph);
        let waiting = long_waits().of_database(my_database());
        let now = Instant::now();
        // One whose wait is not long yet will be told then; one that cannot be told at all is spared.
        let start_of = |process: &Process| match process {
            Process::Backend(pid) if self.is_hopeless(*pid, now) && !waiting.contains(pid) => None,
            _ => second.start_of(process),
        };
        let victims = graph.victims(start_of);
        let before = std::mem::take(&mut self.untold);
        for victim in victims {
            let Process::Backend(pid) = victim.process else { continue };
            let story = victim.story(|node| map.node_name(node).to_string());
            match long_waits().tell(pid, &story) {
                Some(latch) => {
                    wake(latch);
                    report::log(
                        &Error::new(sqlstate::DEADLOCK_DETECTED, format!("deadlock: process {pid} has to give way"))
                            .detail(story),
                    );
                }
                None => {
                    self.untold.insert(pid, before.get(&pid).copied().unwrap_or(now));
                }
            }
        }
        Ok(second.failed)
    }

    fn is_hopeless(&self, pid: u32, now: Instant) -> bool {
        self.untold.get(&pid).is_some_and(|since| now - *since > long_wait::limit())
    }
}
