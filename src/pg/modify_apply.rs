//! Applies a batch of changes to the nodes; the second half of [`modify_run`](crate::pg::modify_run).
//!
//! Deletes go first, then updates, then inserts, so that a row that moves does not meet itself. The
//! statements of one step are sent to all nodes before the first result is read. What comes back is
//! what check options and RETURNING see.

use crate::error::{Error, Result, sqlstate};
use crate::pg::guard::boundary;
use crate::pg::modify_run::{Change, Modify, Operation};
use crate::pg::session::{Access, Fetch, Param, Row, Statement, Stream};
use crate::pg::{compat, readers, slot, tuple};
use crate::plan::write::{self, Insert, OldRow, TargetColumn};
use pgrx::pg_sys;
use std::collections::BTreeMap;
use std::ptr;

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
                    let statement = Statement { sql: &sql, params: &params, result_binary: &binary };
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

    /// A row that a node wrote: check options, then RETURNING.
    unsafe fn returned(&mut self, operation: Operation, row: &Row, chunk: &[Change], index: usize) -> Result<()> {
        // SAFETY: slots are the node's own; values live in the per-tuple memory.
        unsafe {
            let econtext = (*self.node).ss.ps.ps_ExprContext;
            pg_sys::MemoryContextReset((*econtext).ecxt_per_tuple_memory);
            let old = pg_sys::MemoryContextSwitchTo((*econtext).ecxt_per_tuple_memory);
            let (first, number) = if operation == Operation::Insert {
                (0, index)
            } else {
                let bytes: [u8; 4] = row.get(0).and_then(|b| b.try_into().ok()).unwrap_or_default();
                (1, i32::from_be_bytes(bytes) as usize)
            };
            self.fill(self.new_slot, row, first)?;
            if self.checks && operation != Operation::Delete {
                let (result, new, estate) = (self.result, self.new_slot, self.estate);
                let own = match operation {
                    Operation::Insert => pg_sys::WCOKind::WCO_RLS_INSERT_CHECK,
                    _ => pg_sys::WCOKind::WCO_RLS_UPDATE_CHECK,
                };
                for kind in [own, pg_sys::WCOKind::WCO_VIEW_CHECK] {
                    boundary(|| pg_sys::ExecWithCheckOptions(kind, result, new, estate));
                }
            }
            if let Some(returning) = self.returning {
                (*econtext).ecxt_scantuple = self.new_slot;
                let source = chunk.get(number).map_or(ptr::null_mut(), |c| c.source);
                slot::clear(self.source_slot);
                if !source.is_null() {
                    pg_sys::ExecStoreMinimalTuple(source, self.source_slot, false);
                    // Expressions were compiled for the child's slot, which may need no deforming.
                    slot::deform(self.source_slot);
                }
                (*econtext).ecxt_outertuple = self.source_slot;
                let old_row = self.old_row(operation, row, source)?;
                // An INSERT with an old row is the second half of an UPDATE that moves it.
                let (projection, old_row, new_row) = match operation {
                    Operation::Delete => (returning.delete, self.new_slot, ptr::null_mut()),
                    Operation::Insert if old_row.is_null() => (returning.insert, old_row, self.new_slot),
                    _ => (returning.update, old_row, self.new_slot),
                };
                compat::set_returned_rows(projection, old_row, new_row, returning.nulls);
                let out = slot::project(projection);
                let store = self.store;
                boundary(|| pg_sys::tuplestore_puttupleslot(store, out));
            }
            pg_sys::MemoryContextSwitchTo(old);
            Ok(())
        }
    }

    /// Fills a slot of the target's row type with columns that a node returned, from `first` on.
    unsafe fn fill(&mut self, slot: *mut pg_sys::TupleTableSlot, row: &Row, first: usize) -> Result<()> {
        // SAFETY: the slot is the node's own; values live in the current memory context.
        unsafe {
            slot::clear(slot);
            let natts = (*(*slot).tts_tupleDescriptor).natts as usize;
            for i in 0..natts {
                *(*slot).tts_isnull.add(i) = true;
                *(*slot).tts_values.add(i) = pg_sys::Datum::from(0);
            }
            for i in 0..self.columns.len() {
                if let Some(bytes) = row.get(first + i) {
                    let at = self.columns[i].attno as usize - 1;
                    *(*slot).tts_values.add(at) = self.codecs[i].decode(bytes)?;
                    *(*slot).tts_isnull.add(at) = false;
                }
            }
            pg_sys::ExecStoreVirtualTuple(slot);
            (*slot).tts_tableOid = pg_sys::Oid::from(self.table.0);
            Ok(())
        }
    }

    /// The row as it was before the write, in `old_slot`; null if it is new.
    unsafe fn old_row(
        &mut self,
        operation: Operation,
        row: &Row,
        source: *mut pg_sys::MinimalTupleData,
    ) -> Result<*mut pg_sys::TupleTableSlot> {
        // SAFETY: as `fill`; the source row is in `source_slot`.
        unsafe {
            if operation == Operation::Insert && self.returns_old() == OldRow::Return {
                let columns = self.columns.len();
                if row.get(columns) != Some(&[1]) {
                    return Ok(ptr::null_mut());
                }
                self.fill(self.old_slot, row, columns + 1)?;
                return Ok(self.old_slot);
            }
            if source.is_null() || self.row_column == 0 {
                return Ok(ptr::null_mut());
            }
            let Some(old) = slot::attribute(self.source_slot, self.row_column) else { return Ok(ptr::null_mut()) };
            self.store_old(old);
            (*self.old_slot).tts_tableOid = pg_sys::Oid::from(self.table.0);
            Ok(self.old_slot)
        }
    }

    /// Whether INSERT statements return the row that their ON CONFLICT clause changed.
    unsafe fn returns_old(&self) -> OldRow {
        // SAFETY: reads the RETURNING list.
        let named = unsafe { self.returning.is_some_and(|r| compat::returns_old(r.insert)) };
        match &self.clause {
            Some(clause) if clause.updates && named => OldRow::Return,
            _ => OldRow::Leave,
        }
    }
}
