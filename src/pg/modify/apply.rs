//! Applies a batch of changes to the nodes; the second half of [`run`](super::run).
//!
//! Deletes go first, then updates, then inserts, so that a row that moves does not meet itself. The
//! statements of one step are sent to all nodes before the first result is read. What comes back is
//! what check options and RETURNING see.

use crate::error::{Error, Result, sqlstate};
use crate::pg::modify::run::{Change, Modify, Operation};
use crate::pg::session::{Access, Fetch, Param, Statement, Stream};
use crate::pg::{readers, tuple};
use crate::plan::write::{self, Insert, OldRow, TargetColumn};
use pgrx::pg_sys;
use std::collections::BTreeMap;

impl Modify {
    /// Applies what is collected: deletes, then updates, then inserts; all nodes of a step at once.
    pub(super) unsafe fn flush(&mut self) -> Result<()> {
        // SAFETY: the session seam does the waiting; slots are the node's own.
        unsafe {
            if self.changes.is_empty() {
                return Ok(());
            }
            crate::pg::pending::flush()?;
            readers::bind_all()?;
            let changes = std::mem::take(&mut self.changes);
            self.bytes = 0;
            let mut steps: BTreeMap<(Operation, u64), Vec<Change>> = BTreeMap::new();
            for change in changes {
                let place = match change.operation {
                    Operation::Insert => u64::from(self.node_of(change.shard).0),
                    _ => u64::from(change.shard.0),
                };
                // Moved halves are deleted apart: they return nothing and do not count.
                let place = place << 1 | u64::from(change.silent);
                steps.entry((change.operation, place)).or_default().push(change);
            }
            let mut kinds: Vec<Operation> = steps.keys().map(|(o, _)| *o).collect();
            kinds.dedup();
            for kind in kinds {
                let work: Vec<Vec<Change>> = steps
                    .iter_mut()
                    .filter(|((o, _), _)| *o == kind)
                    .map(|(_, changes)| std::mem::take(changes))
                    .collect();
                self.apply(kind, work)?;
            }
            pg_sys::MemoryContextReset(self.rows);
            Ok(())
        }
    }

    /// Sends statements of one kind, then reads their results.
    unsafe fn apply(&mut self, operation: Operation, work: Vec<Vec<Change>>) -> Result<()> {
        // SAFETY: as `flush`.
        unsafe {
            let needs_rows = self.checks || self.returning.is_some();
            let mut sent: Vec<(Stream, Vec<Change>)> = Vec::new();
            for changes in work {
                let per_statement = match operation {
                    Operation::Delete => changes.len(),
                    Operation::Insert => write::rows_per_statement(self.columns.len(), self.clause_params.len()),
                    Operation::Update(a, _) => write::rows_per_statement(self.assignments[a].columns.len() + 2, 0),
                };
                let mut rest = changes;
                while !rest.is_empty() {
                    let tail = rest.split_off(per_statement.min(rest.len()));
                    let chunk = std::mem::replace(&mut rest, tail);
                    let silent = chunk[0].silent;
                    let wanted: Vec<String> = if needs_rows && !silent {
                        self.targets.iter().map(|t| t.name.clone()).collect()
                    } else {
                        Vec::new()
                    };
                    let (sql, params) = self.statement(operation, &chunk, &wanted)?;
                    let numbered = !wanted.is_empty() && operation != Operation::Insert;
                    let mut binary: Vec<bool> = if numbered { vec![true] } else { vec![] };
                    if !wanted.is_empty() {
                        binary.extend(self.codecs.iter().map(|c| c.binary));
                        if operation == Operation::Insert && self.returns_old() == OldRow::Return {
                            binary.push(true);
                            binary.extend(self.codecs.iter().map(|c| c.binary));
                        }
                    }
                    let node = self.node_of(chunk[0].shard);
                    let statement = Statement {
                        sql: &sql,
                        params: &params,
                        result_binary: &binary,
                        keep: None,
                        report_bound: false,
                    };
                    sent.push((Stream::open(node, &statement, Access::Write, Fetch::All)?, chunk));
                }
            }
            for (mut stream, chunk) in sent {
                let silent = chunk[0].silent;
                let mut returned = 0;
                while let Some(row) = stream.next()? {
                    self.returned(operation, &row, &chunk, returned)?;
                    returned += 1;
                }
                let affected = stream.rows_affected();
                if (affected as usize) < chunk.len() && self.must_find(operation) {
                    return Err(Error::new(
                        sqlstate::SERIALIZATION_FAILURE,
                        "could not serialize access due to concurrent update",
                    )
                    .detail("A row was changed by another transaction after this statement had read it.")
                    .hint("Repeat the transaction."));
                }
                if !silent && (*self.plan).canSetTag {
                    (*self.estate).es_processed += affected;
                }
            }
            Ok(())
        }
    }

    /// Whether every row of a batch has to be there: unless a trigger may have suppressed the change.
    unsafe fn must_find(&self, operation: Operation) -> bool {
        // SAFETY: the relation is open while the node lives.
        unsafe {
            let triggers = (*(*self.result).ri_RelationDesc).trigdesc;
            match operation {
                Operation::Insert => false,
                Operation::Update(..) => triggers.is_null() || !(*triggers).trig_update_before_row,
                Operation::Delete => triggers.is_null() || !(*triggers).trig_delete_before_row,
            }
        }
    }

    fn statement(&self, operation: Operation, chunk: &[Change], wanted: &[String]) -> Result<(String, Vec<Param>)> {
        // SAFETY: catalog look-ups.
        let parent = unsafe { tuple::qualified_name(pg_sys::Oid::from(self.table.0)) };
        let shard = self
            .map
            .shard_name(self.table, chunk[0].shard)
            .ok_or_else(|| Error::new(sqlstate::WRONG_OBJECT_TYPE, "table is not distributed any more"))?;
        match operation {
            Operation::Delete => {
                let ctids: Vec<String> = chunk.iter().map(|c| format!("\"{}\"", tuple::ctid_text(&c.ctid))).collect();
                let array = format!("{{{}}}", ctids.join(","));
                let param = Param { oid: pg_sys::TIDARRAYOID.to_u32(), binary: false, value: Some(array.into_bytes()) };
                Ok((write::delete(&shard, wanted), vec![param]))
            }
            Operation::Update(assignment, changes_shard) => {
                let columns: Vec<TargetColumn> =
                    self.assignments[assignment].columns.iter().map(|c| self.targets[*c].clone()).collect();
                let (table, only_in) = if changes_shard { (&parent, Some(shard.as_str())) } else { (&shard, None) };
                let mut params = Vec::new();
                for (n, change) in chunk.iter().enumerate() {
                    params.push(Param {
                        oid: pg_sys::TIDOID.to_u32(),
                        binary: true,
                        value: Some(change.ctid.to_vec()),
                    });
                    params.push(Param { oid: 23, binary: true, value: Some((n as i32).to_be_bytes().to_vec()) });
                    params.extend(change.values.iter().cloned());
                }
                Ok((write::update(table, &columns, chunk.len(), only_in, wanted), params))
            }
            Operation::Insert => {
                let columns: Vec<TargetColumn> = self
                    .targets
                    .iter()
                    .zip(&self.columns)
                    .filter(|(_, c)| !c.generated)
                    .map(|(t, _)| t.clone())
                    .collect();
                let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
                let head = format!("INSERT INTO {parent} AS t ({})", names.join(", "));
                let (head, tail, alias) = match &self.clause {
                    Some(c) => (c.head.clone(), c.tail.clone(), c.alias.clone()),
                    None => (head, String::new(), "t".to_string()),
                };
                let mut params = self.clause_params.clone();
                params.extend(chunk.iter().flat_map(|c| c.values.iter().cloned()));
                let insert = Insert {
                    head: &head,
                    columns: &columns,
                    tail: &tail,
                    reserved: self.clause_params.len(),
                    alias: &alias,
                    wanted,
                    // SAFETY: reads the RETURNING list.
                    old: unsafe { self.returns_old() },
                };
                Ok((write::insert(&insert, chunk.len()), params))
            }
        }
    }
}
