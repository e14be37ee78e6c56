//! The two-phase commits that are under way or in doubt, put together from the log and what the nodes say.
//!
//! ```
//! use sharding::transaction::overview::{Overview, Progress};
//! use sharding::transaction::recovery::LogRow;
//! let mut overview = Overview::default();
//! overview.logged(LogRow { gid: "g".into(), nodes: vec!["a".into(), "b".into()] }, "noon".into());
//! overview.reached("a");
//! let rows = overview.rows();
//! assert_eq!((rows[0].progress, &rows[0].unconfirmed[..]), (Progress::Committing, &["b".to_string()][..]));
//! overview.reached("b");
//! assert!(overview.rows().is_empty(), "both have nothing left of it: it is over");
//! ```

use crate::transaction::recovery::LogRow;
use std::collections::{BTreeMap, BTreeSet};

/// What becomes of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Its backend is at work.
    Running,
    /// Decided to commit.
    Committing,
    /// Never decided, so not committed.
    RollingBack,
}

/// A transaction that some node may have prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub gid: String,
    pub progress: Progress,
    /// Since when it is prepared or decided.
    pub since: Option<String>,
    /// The nodes that take part, as far as they are known.
    pub nodes: Vec<String>,
    /// Those that have it prepared, or could not be asked.
    pub unconfirmed: Vec<String>,
}

#[derive(Debug, Default)]
struct Prepared {
    nodes: BTreeSet<String>,
    since: String,
    running: bool,
}

/// See the module. The log is read first: what is prepared later than that is running, or has no row.
#[derive(Debug, Default)]
pub struct Overview {
    log: Vec<(LogRow, String)>,
    reached: BTreeSet<String>,
    prepared: BTreeMap<String, Prepared>,
}

impl Overview {
    /// A row of the log and when it was written.
    pub fn logged(&mut self, row: LogRow, decided: String) {
        self.log.push((row, decided));
    }

    /// The node has answered.
    pub fn reached(&mut self, node: &str) {
        self.reached.insert(node.to_string());
    }

    /// The node has this transaction prepared, since when; its backend is at work or not.
    pub fn prepared(&mut self, node: &str, gid: &str, since: String, running: bool) {
        let entry = self.prepared.entry(gid.to_string()).or_default();
        entry.nodes.insert(node.to_string());
        if entry.since.is_empty() || since < entry.since {
            entry.since = since;
        }
        entry.running |= running;
    }

    /// The transactions that are not over, by age.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for (row, decided) in &self.log {
            let prepared = self.prepared.get(&row.gid);
            let holds = |node: &&String| {
                !self.reached.contains(*node) || prepared.is_some_and(|prepared| prepared.nodes.contains(*node))
            };
            let unconfirmed: Vec<String> = row.nodes.iter().filter(holds).cloned().collect();
            if !unconfirmed.is_empty() {
                rows.push(Row {
                    gid: row.gid.clone(),
                    progress: Progress::Committing,
                    since: Some(decided.clone()),
                    nodes: row.nodes.clone(),
                    unconfirmed,
                });
            }
        }
        for (gid, prepared) in &self.prepared {
            if self.log.iter().any(|(row, _)| row.gid == *gid) {
                continue;
            }
            let nodes: Vec<String> = prepared.nodes.iter().cloned().collect();
            rows.push(Row {
                gid: gid.clone(),
                progress: if prepared.running { Progress::Running } else { Progress::RollingBack },
                since: Some(prepared.since.clone()).filter(|since| !since.is_empty()),
                unconfirmed: nodes.clone(),
                nodes,
            });
        }
        rows.sort_by(|a, b| a.since.cmp(&b.since));
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_row_is_running_or_rolled_back() {
        let mut overview = Overview::default();
        overview.reached("a");
        overview.prepared("a", "live", "2".into(), true);
        overview.prepared("a", "dead", "1".into(), false);
        overview.prepared("b", "dead", "0".into(), false);
        let rows = overview.rows();
        assert_eq!(
            rows.iter().map(|row| (row.gid.as_str(), row.progress)).collect::<Vec<_>>(),
            [("dead", Progress::RollingBack), ("live", Progress::Running)]
        );
        assert_eq!((rows[0].since.as_deref(), &rows[0].nodes[..]), (Some("0"), &["a".to_string(), "b".into()][..]));
    }

    #[test]
    fn a_decided_one_lacks_those_that_still_have_it() {
        let mut overview = Overview::default();
        let nodes: Vec<String> = vec!["a".into(), "b".into(), "c".into()];
        overview.logged(LogRow { gid: "g".into(), nodes: nodes.clone() }, "1".into());
        overview.reached("a");
        overview.reached("b");
        overview.prepared("b", "g", "0".into(), false);
        let rows = overview.rows();
        assert_eq!(rows.len(), 1);
        assert_eq!((&rows[0].nodes, &rows[0].unconfirmed[..]), (&nodes, &["b".to_string(), "c".into()][..]));
    }
}
