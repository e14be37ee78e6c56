//! How a scan's statement is sent: made ready, with the values of its parameters, then sent to all its nodes at once.
//!
//! ```text
//! SELECT v FROM t WHERE id = 7           n1: SELECT v FROM t_3 WHERE id = $1         7
//! INSERT INTO u SELECT * FROM t          n1: INSERT INTO u_0 SELECT ..., INSERT INTO u_2 ...    n2: ...
//! SELECT ... FROM t JOIN <rows sent>     n1: ... unnest($1)     its part of the rows            n2: ...
//! ```

use crate::catalog::NodeId;
use crate::error::Result;
use crate::pg::alone::{is_whole_transaction, may_commit_alone};
use crate::pg::codec::TransmissionMode;
use crate::pg::kept_plan::Text;
use crate::pg::scan::Scan;
use crate::pg::scan_ship::Cut;
use crate::pg::session::{Access, Fetch, Param, Statement, Stream};
use crate::pg::{consistent, limits, slot};
use crate::plan::remote::Effect;
use std::rc::Rc;
use std::time::Instant;

/// The statements that each node shall run, one after the other, and the values of their parameters.
pub(super) struct Request {
    /// In the order of the nodes.
    texts: Vec<(NodeId, Rc<Text>)>,
    pub(super) params: Vec<Param>,
    /// Parameters that are rows sent along.
    cuts: Vec<Cut>,
}

impl Request {
    pub(super) fn nodes(&self) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = self.texts.iter().map(|(node, _)| *node).collect();
        nodes.dedup();
        nodes
    }

    /// Puts a node's values in the place of the parameters that are rows, or takes them back.
    pub(super) fn exchange(&mut self, node: usize) {
        for cut in &mut self.cuts {
            let own = if cut.values.len() == 1 { 0 } else { node };
            std::mem::swap(&mut self.params[cut.parameter], &mut cut.values[own]);
        }
    }
}

impl Scan {
    pub(super) unsafe fn make_request(&mut self) -> Result<Request> {
        // SAFETY: as above; the values live until they are written down.
        unsafe {
            let econtext = (*self.node).ss.ps.ps_ExprContext;
            let mut values = Vec::with_capacity(self.parameters.len());
            for (state, _, _) in &self.parameters {
                values.push(slot::evaluate(*state, econtext));
            }
            let shards = self.shards_for(&values)?;
            if shards.is_none() {
                limits::needs_all_shards(&self.map, self.plan.target.table())?;
            }
            let nodes = self.nodes_of(shards.as_deref())?;
            let texts: Vec<(NodeId, Rc<Text>)> = if self.plan.is_by_shard() {
                let of_node = |node: NodeId| self.texts_by_shard(node).into_iter().map(move |text| (node, text));
                nodes.iter().copied().flat_map(of_node).collect()
            } else {
                let text = match self.has_many_keys(&values) {
                    true => self.plan.text_of_many(&self.map),
                    false => self.text_for(shards.as_deref()),
                };
                nodes.iter().map(|node| (*node, text.clone())).collect()
            };
            let sent = self.plan.sent;
            let mut params: Vec<Param> = Vec::with_capacity(sent);
            let text_mode = self.parameters[..sent].iter().any(|(_, c, _)| !c.binary).then(TransmissionMode::enter);
            for ((_, codec, _), value) in self.parameters[..sent].iter_mut().zip(&values) {
                params.push(codec.param(*value));
            }
            drop(text_mode);
            let cuts = self.arrays(&nodes)?;
            Ok(Request { texts, params, cuts })
        }
    }

    /// Sends the statement that is made ready to its nodes. `report_bound`: they say at once that their
    /// snapshots are taken. `own_snapshot`: which hold for all scans of the statement.
    pub unsafe fn send(&mut self, report_bound: bool, own_snapshot: bool) -> Result<()> {
        self.opened = true;
        let Some(mut request) = self.request.take() else { return Ok(()) };
        let nodes = request.nodes();
        let binary: Vec<bool> = self.columns.iter().map(|c| c.binary).collect();
        // SAFETY: called while the executor state lives.
        let (mut access, fetch) = unsafe { self.access(request.texts.len()) };
        if own_snapshot {
            access = Access::ReadSnapshot;
        }
        // SAFETY: as above.
        if unsafe { self.begin_tasks(&nodes, access, fetch)? } {
            self.request = Some(request);
            return Ok(());
        }
        let tuning = self.tuning(&nodes, access)?;
        self.started = Some(Instant::now());
        for (i, node) in nodes.iter().enumerate() {
            let mut first = tuning.get(i).map_or("", String::as_str);
            request.exchange(i);
            for (_, text) in request.texts.iter().filter(|(of, _)| of == node) {
                let (sql, params, keep) = (&text.sql, &request.params, text.keep());
                let statement = Statement { sql, params, result_binary: &binary, keep, report_bound };
                self.streams.push(Stream::open_after(*node, first, &statement, access, fetch)?);
                first = "";
            }
            request.exchange(i);
            self.report_on(*node, 0);
        }
        if access == Access::WriteAlone {
            self.streams.iter_mut().try_for_each(Stream::wait_outcome)?;
        }
        if report_bound {
            self.request = Some(request);
        }
        Ok(())
    }

    unsafe fn access(&self, statements: usize) -> (Access, Fetch) {
        // SAFETY: reads executor state.
        unsafe {
            match self.plan.effect {
                Effect::Write { alone }
                    if alone && statements == 1 && consistent::commits_freely() && may_commit_alone(self.estate()) =>
                {
                    (Access::WriteAlone, Fetch::All)
                }
                Effect::Write { .. } if self.columns.is_empty() => (Access::Write, Fetch::All),
                Effect::Write { .. } => (Access::Write, Fetch::Pages),
                Effect::Lock => (Access::Hold, Fetch::Pages),
                Effect::Read { alone, snapshot } => {
                    let fetch = if self.plan.few_rows { Fetch::All } else { Fetch::Pages };
                    if (alone || snapshot) && is_whole_transaction(self.estate()) {
                        if alone && statements == 1 {
                            return (Access::ReadAlone, Fetch::All);
                        }
                        if snapshot {
                            return (Access::ReadSnapshot, fetch);
                        }
                    }
                    (Access::Read, fetch)
                }
            }
        }
    }
}
