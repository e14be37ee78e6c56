//! A pass over the transactions that are in doubt: on each node, what an interrupted two-phase commit has left
//! prepared is committed or rolled back. [`crate::transaction::recovery`] explains the order of the steps.
//!
//! ```text
//! begin    reads the log
//! visit    asks one node, decides, finishes; again for each other node
//! end      deletes the rows of the log that no node can ask about any more
//! ```
//!
//! Each step runs in a transaction of its caller's: all in one for `sharding.recover_transactions()`, each in
//! its own for the worker, so that a node that fails holds up no other.

use crate::catalog::{ClusterMap, NodeId, quote_literal};
use crate::error::{Error, Result, sqlstate};
use crate::pg::gate;
use crate::pg::maintenance::roles::{Roles, as_role};
use crate::pg::maintenance::shared::{is_alive, under_way};
use crate::pg::session::command::TextRows;
use crate::pg::session::query_outside_each;
use crate::pg::transaction_log as log;
use crate::transaction::gid::GlobalTransaction;
use crate::transaction::recovery::{LogRow, Survey, Verdict, is_settled, verdict};
use pgrx::pg_sys;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long a node may take to answer: it does little for it, but may wait for its standby.
const ANSWER_BOUND: Duration = Duration::from_secs(10);

/// A transaction that is prepared on a node, by this coordinator.
pub struct Prepared {
    pub gid: String,
    pub transaction: GlobalTransaction,
    /// Since when, as the node wrote it.
    pub since: String,
}

/// What a pass has done.
pub struct Done {
    pub node: String,
    pub gid: String,
    /// `committed`, `rolled back`, or what went wrong.
    pub action: String,
}

/// How a node was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    /// Nothing of this coordinator is in doubt there; what is prepared belongs to live backends.
    Clean,
    /// Something could not be finished.
    Open,
}

/// See the module.
pub struct Pass {
    map: Rc<ClusterMap>,
    roles: Roles,
    log_before: Vec<LogRow>,
    survey: Survey,
    /// What readers wait for, as of the beginning: the marks of the nodes, and of all of them as one.
    doubts: Vec<(NodeId, u64)>,
    clean: usize,
    pub done: Vec<Done>,
}

impl Pass {
    pub fn begin(map: Rc<ClusterMap>, roles: Roles) -> Result<Pass> {
        let log_before = log::rows()?;
        let known = map.nodes.iter().map(|node| node.name.clone()).collect();
        let mut nodes = map.node_ids();
        nodes.push(gate::EVERY_NODE);
        let doubts = gate::numbers(&nodes)?;
        let survey = Survey { known, ..Survey::default() };
        Ok(Pass { map, roles, log_before, survey, doubts, clean: 0, done: Vec::new() })
    }

    /// The nodes that the log names: until all of a row's have been visited, the row stays.
    pub fn nodes_in_log(&self) -> Vec<NodeId> {
        let named = |name: &str| self.log_before.iter().any(|row| row.nodes.iter().any(|node| node == name));
        self.map.nodes.iter().filter(|node| named(&node.name)).map(|node| node.id).collect()
    }

    /// Finishes what is in doubt on a node; an error if it cannot be asked.
    pub fn visit(&mut self, node: NodeId) -> Result<Visit> {
        let roles = self.roles.of(node);
        let found = as_role(roles[0], || prepared_on(node))?;
        let name = self.map.node_name(node).to_string();
        self.survey.reached.insert(name.clone());
        let mut visit = Visit::Clean;
        for Prepared { gid, transaction, .. } in found {
            let in_progress = is_at_work(transaction);
            let log_name = transaction.log_name();
            let logged = || log::rows().map(|rows| rows.iter().any(|row| row.gid == log_name));
            let (command, action) = match verdict(in_progress, logged)? {
                Verdict::Leave => {
                    self.survey.unresolved.insert(log_name);
                    continue;
                }
                Verdict::Commit => ("COMMIT PREPARED", "committed"),
                Verdict::Rollback => ("ROLLBACK PREPARED", "rolled back"),
            };
            let action = match finish(node, &roles, &format!("{command} {}", quote_literal(&gid))) {
                Ok(_) => action.to_string(),
                // Its own backend, or another recovery, was faster.
                Err(error) if error.code == sqlstate::UNDEFINED_OBJECT => continue,
                Err(error) => {
                    self.survey.unresolved.insert(log_name);
                    visit = Visit::Open;
                    format!("failed: {}", error.message)
                }
            };
            self.done.push(Done { node: name.clone(), gid, action });
        }
        if visit == Visit::Clean {
            self.clean += 1;
            self.let_readers_pass(node);
        }
        Ok(visit)
    }

    /// Who waits for what a node had in doubt when the pass began may go on.
    fn let_readers_pass(&self, node: NodeId) {
        let known: Vec<_> = self.doubts.iter().copied().filter(|(doubtful, _)| *doubtful == node).collect();
        gate::clear(&known);
    }

    /// Tidies the log.
    pub fn end(&mut self) -> Result<()> {
        if self.clean == self.map.nodes.len() {
            self.let_readers_pass(gate::EVERY_NODE);
        }
        let survey = &self.survey;
        let settled: Vec<String> =
            self.log_before.iter().filter(|row| is_settled(row, survey)).map(|row| row.gid.clone()).collect();
        log::delete(&settled)
    }
}

/// Whether a backend is carrying out the transaction, on its way to the decision or after it.
pub fn is_at_work(transaction: GlobalTransaction) -> bool {
    // In this order: it is registered before it is prepared anywhere, and until after it has ended here.
    log::is_in_progress(transaction) || under_way().contains(transaction.xid, is_alive)
}

/// The prepared transactions of this coordinator on a node.
pub fn prepared_on(node: NodeId) -> Result<Vec<Prepared>> {
    let coordinator = log::coordinator();
    let rows = ask(
        node,
        "SELECT gid, prepared FROM pg_catalog.pg_prepared_xacts \
         WHERE database = pg_catalog.current_database() ORDER BY prepared",
    )?;
    Ok(rows
        .into_iter()
        .filter_map(|row| {
            let [Some(gid), since] = <[_; 2]>::try_from(row).ok()? else { return None };
            let transaction = GlobalTransaction::of_gid(&gid, coordinator)?;
            Some(Prepared { gid, transaction, since: since.unwrap_or_default() })
        })
        .collect())
}

/// Runs the command as the first role that may.
fn finish(node: NodeId, roles: &[pg_sys::Oid], command: &str) -> Result<TextRows> {
    let mut refused = None;
    for role in roles {
        match as_role(*role, || ask(node, command)) {
            // Only the one who prepared it may finish it, or a superuser of the node.
            Err(error) if error.code == sqlstate::INSUFFICIENT_PRIVILEGE => refused = refused.or(Some(error)),
            answer => return answer,
        }
    }
    Err(refused.unwrap_or_else(|| Error::new(sqlstate::INTERNAL, "there is no role to go to a node as")))
}

/// What a node answers, within a bound.
pub fn ask(node: NodeId, sql: &str) -> Result<TextRows> {
    let answers = query_outside_each(&[node], sql, Instant::now() + ANSWER_BOUND);
    answers.into_iter().next().map_or(Ok(TextRows::new()), |(_, answer)| answer)
}
