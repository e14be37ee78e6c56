//! Runs a write row by row and batch by batch; see `modify`, and `begin` for what is set up before.
//!
//! The source is read to its end, changes being applied whenever a batch is full; the rows that
//! RETURNING asks for are set aside (spilling to disk) and handed out afterwards. That is the order
//! of events in Postgres too: a statement with RETURNING runs to completion first.

use crate::catalog::{ClusterMap, NodeId, ShardIndex, TableId};
use crate::error::{Error, Result, sqlstate};
use crate::pg::codec::{Codec, TransmissionMode};
use crate::pg::guard::boundary;
use crate::pg::hash::KeyHasher;
use crate::pg::modify::returning::Returning;
use crate::pg::modify::{self, ConflictClause};
use crate::pg::session::Param;

use crate::pg::modify::compat;
use crate::pg::{slot, tuple};
use crate::plan::touched::Touched;
use crate::plan::write::TargetColumn;
use pgrx::pg_sys;
use std::ptr;
use std::rc::Rc;

/// Rows and bytes after which a batch goes to the nodes.
const BATCH_ROWS: usize = 1000;
const BATCH_BYTES: usize = 4 << 20;

/// What happens to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    /// In this order, so that a moved row does not meet itself.
    Delete,
    /// With the columns of this assignment list; `true` if the key may change.
    Update(usize, bool),
    Insert,
}

pub(super) struct Change {
    pub(super) operation: Operation,
    pub(super) shard: ShardIndex,
    pub(super) ctid: [u8; 6],
    pub(super) values: Vec<Param>,
    /// The source row, where RETURNING may need it.
    pub(super) source: pg_sys::MinimalTuple,
    /// A delete that is half of a move returns nothing.
    pub(super) silent: bool,
}

/// A WHEN clause of MERGE.
pub(super) struct Action {
    pub(super) when: compat::MatchKind,
    pub(super) command: pg_sys::CmdType::Type,
    pub(super) condition: *mut pg_sys::ExprState,
    pub(super) projection: *mut pg_sys::ProjectionInfo,
    pub(super) assignment: usize,
}

/// A list of columns that an UPDATE sets.
pub(super) struct Assignment {
    pub(super) columns: Vec<usize>,
    pub(super) sets_key: bool,
}

pub struct Modify {
    pub(super) node: *mut pg_sys::CustomScanState,
    pub(super) estate: *mut pg_sys::EState,
    pub(super) plan: *mut pg_sys::ModifyTable,
    pub(super) map: Rc<ClusterMap>,
    pub(super) table: TableId,
    pub(super) key: i16,
    pub(super) columns: Vec<tuple::Column>,
    pub(super) targets: Vec<TargetColumn>,
    pub(super) codecs: Vec<Codec>,
    pub(super) hasher: KeyHasher,
    pub(super) result: *mut pg_sys::ResultRelInfo,
    pub(super) returning: Option<Returning>,
    pub(super) checks: bool,
    pub(super) old_slot: *mut pg_sys::TupleTableSlot,
    pub(super) new_slot: *mut pg_sys::TupleTableSlot,
    pub(super) source_slot: *mut pg_sys::TupleTableSlot,
    /// Reads rows of RETURNING back from the store.
    pub(super) returned_slot: *mut pg_sys::TupleTableSlot,
    pub(super) ctid_column: usize,
    pub(super) row_column: usize,
    pub(super) update: *mut pg_sys::ProjectionInfo,
    pub(super) assignments: Vec<Assignment>,
    pub(super) actions: Vec<Action>,
    /// Tells MATCHED from NOT MATCHED BY SOURCE; null where each match has a source.
    pub(super) source_present: *mut pg_sys::ExprState,
    pub(super) clause: Option<ConflictClause>,
    pub(super) clauses: Vec<ConflictClause>,
    pub(super) conflict_column: usize,
    pub(super) clause_params: Vec<Param>,
    pub(super) clause_states: Vec<(*mut pg_sys::ExprState, Codec)>,
    pub(super) changes: Vec<Change>,
    pub(super) bytes: usize,
    pub(super) touched: Touched,
    pub(super) rows: pg_sys::MemoryContext,
    pub(super) store: *mut pg_sys::Tuplestorestate,
    pub(super) done: bool,
    pub(super) refuses_moves: Option<&'static str>,
}

impl Modify {
    /// The next row of RETURNING; the first call does all the work.
    pub unsafe fn next(&mut self) -> Result<*mut pg_sys::TupleTableSlot> {
        // SAFETY: the slot is the node's own.
        unsafe {
            let out = (*self.node).ss.ss_ScanTupleSlot;
            if !self.done {
                self.run()?;
                self.done = true;
            }
            slot::clear(out);
            if !self.store.is_null() {
                let store = self.store;
                let row = self.returned_slot;
                if boundary(|| pg_sys::tuplestore_gettupleslot(store, true, false, row)) {
                    slot::copy(out, row);
                    // A row read from disk is in the caller's memory.
                    slot::clear(row);
                }
            }
            Ok(out)
        }
    }

    unsafe fn run(&mut self) -> Result<()> {
        // SAFETY: the child was initialized by `begin`.
        unsafe {
            let econtext = (*self.node).ss.ps.ps_ExprContext;
            let child = (*self.node).ss.ps.lefttree;
            if self.may_copy() {
                return self.copy_rows();
            }
            if self.returning.is_some() {
                let old = pg_sys::MemoryContextSwitchTo((*self.estate).es_query_cxt);
                self.store = pg_sys::tuplestore_begin_heap(false, false, pg_sys::work_mem);
                pg_sys::MemoryContextSwitchTo(old);
            }
            loop {
                pg_sys::MemoryContextReset((*econtext).ecxt_per_tuple_memory);
                let source = exec_proc_node(child);
                if source.is_null() || slot::is_empty(source) {
                    break;
                }
                self.row(source, econtext)?;
                if self.changes.len() >= BATCH_ROWS || self.bytes >= BATCH_BYTES {
                    self.flush()?;
                }
            }
            self.flush()
        }
    }

    /// Turns a source row into changes.
    unsafe fn row(&mut self, source: *mut pg_sys::TupleTableSlot, econtext: *mut pg_sys::ExprContext) -> Result<()> {
        // SAFETY: junk columns are within the source row.
        unsafe {
            match (*self.plan).operation {
                pg_sys::CmdType::CMD_INSERT => {
                    self.choose_clause(source, econtext)?;
                    slot::deform(source);
                    slot::clear(self.new_slot);
                    let natts = (*(*self.new_slot).tts_tupleDescriptor).natts as usize;
                    ptr::copy_nonoverlapping((*source).tts_values, (*self.new_slot).tts_values, natts);
                    ptr::copy_nonoverlapping((*source).tts_isnull, (*self.new_slot).tts_isnull, natts);
                    pg_sys::ExecStoreVirtualTuple(self.new_slot);
                    self.insert(ptr::null_mut())
                }
                pg_sys::CmdType::CMD_UPDATE => {
                    let Some((shard, ctid)) = self.identity(source)? else { return Ok(()) };
                    if !self.touched.insert(shard, ctid) {
                        return Ok(()); // several source rows match: the first one counts
                    }
                    (*econtext).ecxt_scantuple = self.old_slot;
                    (*econtext).ecxt_outertuple = source;
                    slot::project(self.update);
                    self.update(0, shard, ctid, source)
                }
                pg_sys::CmdType::CMD_DELETE => {
                    let Some((shard, ctid)) = self.identity(source)? else { return Ok(()) };
                    if self.touched.insert(shard, ctid) {
                        self.change(Operation::Delete, shard, ctid, Vec::new(), source, false);
                    }
                    Ok(())
                }
                _ => self.merge(source, econtext),
            }
        }
    }

    unsafe fn merge(&mut self, source: *mut pg_sys::TupleTableSlot, econtext: *mut pg_sys::ExprContext) -> Result<()> {
        // SAFETY: as `row`.
        unsafe {
            let identity = self.identity(source)?;
            (*econtext).ecxt_scantuple = if identity.is_some() { self.old_slot } else { ptr::null_mut() };
            (*econtext).ecxt_innertuple = source;
            (*econtext).ecxt_outertuple = source;
            let source_present = identity.is_none() || slot::qualifies(self.source_present, econtext);
            for i in 0..self.actions.len() {
                let action = &self.actions[i];
                if !action.when.applies(identity.is_some(), source_present)
                    || !slot::qualifies(action.condition, econtext)
                {
                    continue;
                }
                let (command, projection, assignment) = (action.command, action.projection, action.assignment);
                match (command, identity) {
                    (pg_sys::CmdType::CMD_INSERT, _) => {
                        slot::project(projection);
                        self.insert(source)?;
                    }
                    (pg_sys::CmdType::CMD_UPDATE | pg_sys::CmdType::CMD_DELETE, Some((shard, ctid))) => {
                        if self.checks {
                            let (result, old, estate) = (self.result, self.old_slot, self.estate);
                            let kind = compat::merge_check_kind(command);
                            boundary(|| pg_sys::ExecWithCheckOptions(kind, result, old, estate));
                        }
                        if !self.touched.insert(shard, ctid) {
                            return Err(Error::new(
                                sqlstate::CARDINALITY_VIOLATION,
                                "MERGE command cannot affect row a second time",
                            )
                            .hint("Ensure that not more than one source row matches any one target row."));
                        }
                        if command == pg_sys::CmdType::CMD_DELETE {
                            self.change(Operation::Delete, shard, ctid, Vec::new(), source, false);
                        } else {
                            slot::project(projection);
                            self.update(assignment, shard, ctid, source)?;
                        }
                    }
                    _ => {}
                }
                break;
            }
            Ok(())
        }
    }

    /// The shard and ctid of the row to be written, whose old values go to `old_slot`.
    unsafe fn identity(&mut self, source: *mut pg_sys::TupleTableSlot) -> Result<Option<(ShardIndex, [u8; 6])>> {
        // SAFETY: the junk columns were added before planning.
        unsafe {
            if self.ctid_column == 0 || self.row_column == 0 {
                return Err(Error::new(sqlstate::INTERNAL, "a write has lost the identity of its rows"));
            }
            let (Some(ctid), Some(row)) =
                (slot::attribute(source, self.ctid_column), slot::attribute(source, self.row_column))
            else {
                return Ok(None);
            };
            let ctid = tuple::ctid_bytes(ctid);
            self.store_old(row);
            let key = slot::attribute(self.old_slot, self.key as usize);
            let shard = self.shard(key)?;
            Ok(Some((shard, ctid)))
        }
    }

    /// Fills `old_slot` from a whole row.
    pub(super) unsafe fn store_old(&mut self, row: pg_sys::Datum) {
        // SAFETY: the value is of the target's row type and outlives the slot's use.
        unsafe {
            slot::clear(self.old_slot);
            let header = pg_sys::pg_detoast_datum(row.cast_mut_ptr()).cast::<pg_sys::HeapTupleHeaderData>();
            let mut heap: pg_sys::HeapTupleData = std::mem::zeroed();
            heap.t_len = (pgrx::varsize_4b(header.cast())) as u32;
            heap.t_data = header;
            let desc = (*self.old_slot).tts_tupleDescriptor;
            pg_sys::heap_deform_tuple(&mut heap, desc, (*self.old_slot).tts_values, (*self.old_slot).tts_isnull);
            pg_sys::ExecStoreVirtualTuple(self.old_slot);
        }
    }

    fn shard(&mut self, key: Option<pg_sys::Datum>) -> Result<ShardIndex> {
        let (group, _) = self
            .map
            .distribution(self.table)
            .ok_or_else(|| Error::new(sqlstate::WRONG_OBJECT_TYPE, "table is not distributed any more"))?;
        Ok(self.hasher.shard(group, key))
    }

    pub(super) fn node_of(&self, shard: ShardIndex) -> NodeId {
        self.map.distribution(self.table).map_or(NodeId(0), |(g, _)| g.node_of(shard))
    }

    /// The row in `new_slot` is new.
    unsafe fn insert(&mut self, source: *mut pg_sys::TupleTableSlot) -> Result<()> {
        // SAFETY: new_slot is filled.
        unsafe {
            let key = slot::attribute(self.new_slot, self.key as usize);
            let shard = self.shard(key)?;
            let columns: Vec<usize> = (0..self.columns.len()).filter(|i| !self.columns[*i].generated).collect();
            let values = self.encode(&columns);
            self.change(Operation::Insert, shard, [0; 6], values, source, false);
            Ok(())
        }
    }

    /// The row in `old_slot` becomes the one in `new_slot`.
    unsafe fn update(
        &mut self,
        assignment: usize,
        shard: ShardIndex,
        ctid: [u8; 6],
        source: *mut pg_sys::TupleTableSlot,
    ) -> Result<()> {
        // SAFETY: both slots are filled.
        unsafe {
            let sets_key = self.assignments[assignment].sets_key;
            let target = if sets_key {
                let key = slot::attribute(self.new_slot, self.key as usize);
                self.shard(key)?
            } else {
                shard
            };
            if self.node_of(target) != self.node_of(shard) {
                if let Some(obstacle) = self.refuses_moves {
                    return Err(Error::unsupported("cannot move a row to another node by changing its shard key")
                        .detail(format!(
                            "Table {} {obstacle}.",
                            tuple::qualified_name(pg_sys::Oid::from(self.table.0)).replace('"', "")
                        ))
                        .hint("Delete the row and insert it with the new key."));
                }
                self.change(Operation::Delete, shard, ctid, Vec::new(), ptr::null_mut(), true);
                return self.insert(source);
            }
            let columns = self.assignments[assignment].columns.clone();
            let values = self.encode(&columns);
            self.change(Operation::Update(assignment, target != shard), shard, ctid, values, source, false);
            Ok(())
        }
    }

    unsafe fn encode(&mut self, columns: &[usize]) -> Vec<Param> {
        // SAFETY: new_slot is filled.
        unsafe {
            let text = columns.iter().any(|c| !self.codecs[*c].binary).then(TransmissionMode::enter);
            let values = columns
                .iter()
                .map(|c| {
                    let value = slot::attribute(self.new_slot, self.columns[*c].attno as usize);
                    self.codecs[*c].param(value)
                })
                .collect();
            drop(text);
            values
        }
    }

    unsafe fn change(
        &mut self,
        operation: Operation,
        shard: ShardIndex,
        ctid: [u8; 6],
        values: Vec<Param>,
        source: *mut pg_sys::TupleTableSlot,
        silent: bool,
    ) {
        // SAFETY: the copy lives until the batch is flushed.
        unsafe {
            let copy = if source.is_null() || self.returning.is_none() {
                ptr::null_mut()
            } else {
                let old = pg_sys::MemoryContextSwitchTo(self.rows);
                let copy = slot::copy_minimal(source);
                pg_sys::MemoryContextSwitchTo(old);
                copy
            };
            self.bytes += 64 + values.iter().map(|v| v.value.as_ref().map_or(0, Vec::len)).sum::<usize>();
            self.changes.push(Change { operation, shard, ctid, values, source: copy, silent });
        }
    }

    /// Finds the statement's ON CONFLICT clause by the first row's junk column.
    unsafe fn choose_clause(
        &mut self,
        source: *mut pg_sys::TupleTableSlot,
        econtext: *mut pg_sys::ExprContext,
    ) -> Result<()> {
        // SAFETY: the junk column is an int4 constant.
        unsafe {
            if self.conflict_column == 0 || self.clause.is_some() {
                return Ok(());
            }
            let number = slot::attribute(source, self.conflict_column).map_or(0, |d| d.value());
            let clause = self
                .clauses
                .get(number)
                .cloned()
                .ok_or_else(|| Error::new(sqlstate::INTERNAL, "an INSERT has lost its ON CONFLICT clause"))?;
            if let Some(reason) = &clause.refused {
                return Err(Error::unsupported("this ON CONFLICT clause cannot run on the nodes")
                    .detail(format!("The clause is evaluated where the row is, but {reason}.")));
            }
            if clause.updates && self.checks {
                return Err(Error::unsupported(
                    "ON CONFLICT DO UPDATE with row security is not supported on a distributed table",
                )
                .hint("Use INSERT ... ON CONFLICT DO NOTHING and UPDATE."));
            }
            let text = TransmissionMode::enter();
            for (state, codec) in &mut self.clause_states[clause.first..clause.first + clause.parameters] {
                let value = slot::evaluate(*state, econtext);
                self.clause_params.push(codec.param(value));
            }
            drop(text);
            self.clause = Some(clause);
            Ok(())
        }
    }

    /// Ends the node: its child and its store.
    pub unsafe fn end(&mut self) {
        // SAFETY: made by `begin`.
        unsafe {
            let child = (*self.node).ss.ps.lefttree;
            boundary(|| pg_sys::ExecEndNode(child));
            if !self.store.is_null() {
                pg_sys::tuplestore_end(self.store);
                self.store = ptr::null_mut();
            }
        }
    }

    pub unsafe fn explain(&self, es: *mut pg_sys::ExplainState) {
        let operation = match unsafe { (*self.plan).operation } {
            pg_sys::CmdType::CMD_INSERT => "Insert",
            pg_sys::CmdType::CMD_UPDATE => "Update",
            pg_sys::CmdType::CMD_DELETE => "Delete",
            _ => "Merge",
        };
        // SAFETY: EXPLAIN's own state.
        unsafe { modify::explain_target(&self.map, self.table, operation, es) }
    }
}

/// `ExecProcNode`.
pub unsafe fn exec_proc_node(node: *mut pg_sys::PlanState) -> *mut pg_sys::TupleTableSlot {
    // SAFETY: the node was initialized.
    unsafe {
        if !(*node).chgParam.is_null() {
            boundary(|| pg_sys::ExecReScan(node));
        }
        match (*node).ExecProcNode {
            Some(next) => boundary(|| next(node)),
            None => ptr::null_mut(),
        }
    }
}
