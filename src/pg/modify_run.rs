//! Runs a write row by row and batch by batch; see [`modify`](crate::pg::modify).
//!
//! The source is read to its end, changes being applied whenever a batch is full; the rows that
//! RETURNING asks for are set aside (spilling to disk) and handed out afterwards. That is the order
//! of events in Postgres too: a statement with RETURNING runs to completion first.

use crate::catalog::{ClusterMap, NodeId, ShardIndex, TableId, quote_identifier};
use crate::error::{Error, Result, sqlstate};
use crate::pg::codec::{Codec, TransmissionMode};
use crate::pg::guard::boundary;
use crate::pg::hash::KeyHasher;
use crate::pg::modify::{self, CONFLICT_COLUMN, ConflictClause};
use crate::pg::session::{Access, Fetch, Param, Row, Statement, Stream};
use crate::pg::tree::{self, items};
use crate::pg::{catalog_cache, compat, finish, readers, slot, tuple};
use crate::plan::write::{self, TargetColumn};
use pgrx::pg_sys;
use std::collections::{BTreeMap, HashSet};
use std::ffi::CStr;
use std::ptr;
use std::rc::Rc;

/// Rows and bytes after which a batch goes to the nodes.
const BATCH_ROWS: usize = 1000;
const BATCH_BYTES: usize = 4 << 20;

/// What happens to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Operation {
    /// In this order, so that a moved row does not meet itself.
    Delete,
    /// With the columns of this assignment list; `true` if the key may change.
    Update(usize, bool),
    Insert,
}

struct Change {
    operation: Operation,
    shard: ShardIndex,
    ctid: [u8; 6],
    values: Vec<Param>,
    /// The source row, where RETURNING may need it.
    source: pg_sys::MinimalTuple,
    /// A delete that is half of a move returns nothing.
    silent: bool,
}

/// A WHEN clause of MERGE.
struct Action {
    when: compat::MatchKind,
    command: pg_sys::CmdType::Type,
    condition: *mut pg_sys::ExprState,
    projection: *mut pg_sys::ProjectionInfo,
    assignment: usize,
}

/// A list of columns that an UPDATE sets.
struct Assignment {
    columns: Vec<usize>,
    sets_key: bool,
}

pub struct Modify {
    node: *mut pg_sys::CustomScanState,
    estate: *mut pg_sys::EState,
    plan: *mut pg_sys::ModifyTable,
    map: Rc<ClusterMap>,
    table: TableId,
    key: i16,
    columns: Vec<tuple::Column>,
    targets: Vec<TargetColumn>,
    codecs: Vec<Codec>,
    hasher: KeyHasher,
    result: *mut pg_sys::ResultRelInfo,
    returning: *mut pg_sys::ProjectionInfo,
    checks: bool,
    old_slot: *mut pg_sys::TupleTableSlot,
    new_slot: *mut pg_sys::TupleTableSlot,
    source_slot: *mut pg_sys::TupleTableSlot,
    /// Reads rows of RETURNING back from the store.
    returned_slot: *mut pg_sys::TupleTableSlot,
    ctid_column: usize,
    row_column: usize,
    update: *mut pg_sys::ProjectionInfo,
    assignments: Vec<Assignment>,
    actions: Vec<Action>,
    clause: Option<ConflictClause>,
    clauses: Vec<ConflictClause>,
    conflict_column: usize,
    clause_params: Vec<Param>,
    clause_states: Vec<(*mut pg_sys::ExprState, Codec)>,
    changes: Vec<Change>,
    bytes: usize,
    touched: HashSet<(ShardIndex, [u8; 6])>,
    rows: pg_sys::MemoryContext,
    store: *mut pg_sys::Tuplestorestate,
    done: bool,
    refuses_moves: Option<&'static str>,
}

unsafe fn junk_column(plan: *mut pg_sys::Plan, name: &CStr) -> usize {
    // SAFETY: reads a target list.
    unsafe {
        items::<pg_sys::TargetEntry>((*plan).targetlist)
            .into_iter()
            .find(|t| (**t).resjunk && !(**t).resname.is_null() && CStr::from_ptr((**t).resname) == name)
            .map_or(0, |t| (*t).resno as usize)
    }
}

impl Modify {
    pub unsafe fn begin(
        node: *mut pg_sys::CustomScanState,
        estate: *mut pg_sys::EState,
        eflags: i32,
    ) -> Result<Modify> {
        // SAFETY: everything is made in the query's memory and lives as long as the node.
        unsafe {
            let scan = (*node).ss.ps.plan.cast::<pg_sys::CustomScan>();
            let (plan, clauses) = modify::parts(scan)?;
            let subplan = (*scan).scan.plan.lefttree;
            let child = boundary(|| pg_sys::ExecInitNode(subplan, estate, eflags));
            (*node).ss.ps.lefttree = child;
            if !(*plan).canSetTag {
                (*estate).es_auxmodifytables = pg_sys::lcons(node.cast(), (*estate).es_auxmodifytables);
            }
            let rti = tree::ints((*plan).resultRelations)[0] as u32;
            let result = tree::make::<pg_sys::ResultRelInfo>(pg_sys::NodeTag::T_ResultRelInfo);
            boundary(|| pg_sys::ExecInitResultRelation(estate, result, rti));
            let relation = (*result).ri_RelationDesc;
            let table = TableId((*relation).rd_id.to_u32());
            let map = catalog_cache::cluster()
                .ok_or_else(|| Error::new(sqlstate::UNDEFINED_OBJECT, "extension \"sharding\" is gone"))?;
            let Some((_, key)) = map.distribution(table) else {
                return Err(Error::new(sqlstate::WRONG_OBJECT_TYPE, "table is not distributed any more"));
            };
            let ps = &raw mut (*node).ss.ps;
            let econtext = (*ps).ps_ExprContext;
            let desc = (*relation).rd_att;
            let extra = |ops| pg_sys::ExecInitExtraTupleSlot(estate, desc, ops);
            let old_slot = extra(&raw const pg_sys::TTSOpsVirtual);
            let new_slot = extra(&raw const pg_sys::TTSOpsVirtual);
            let source_desc = (*child).ps_ResultTupleDesc;
            let source_slot =
                pg_sys::ExecInitExtraTupleSlot(estate, source_desc, &raw const pg_sys::TTSOpsMinimalTuple);

            let returned_desc = (*(*node).ss.ss_ScanTupleSlot).tts_tupleDescriptor;
            let returned_slot =
                pg_sys::ExecInitExtraTupleSlot(estate, returned_desc, &raw const pg_sys::TTSOpsMinimalTuple);

            let returning = match items::<pg_sys::List>((*plan).returningLists).first() {
                Some(list) => {
                    let (list, out) = (*list, (*node).ss.ss_ScanTupleSlot);
                    boundary(|| pg_sys::ExecBuildProjectionInfo(list, econtext, out, ps, desc))
                }
                None => ptr::null_mut(),
            };
            let mut checks = false;
            if let Some(list) = items::<pg_sys::List>((*plan).withCheckOptionLists).first() {
                let mut exprs = ptr::null_mut();
                for option in items::<pg_sys::WithCheckOption>(*list) {
                    let qual = (*option).qual.cast();
                    exprs = pg_sys::lappend(exprs, boundary(|| pg_sys::ExecInitQual(qual, ps)).cast());
                }
                (*result).ri_WithCheckOptions = *list;
                (*result).ri_WithCheckOptionExprs = exprs;
                checks = !exprs.is_null();
            }

            let columns = tuple::columns((*relation).rd_id);
            let targets = columns
                .iter()
                .map(|c| TargetColumn { name: quote_identifier(&c.name), type_name: tuple::type_name(c.type_oid) })
                .collect();
            let codecs = columns.iter().map(|c| Codec::new(c.type_oid, c.typmod)).collect();
            let mut modify = Modify {
                node,
                estate,
                plan,
                hasher: KeyHasher::new(table)?,
                key,
                table,
                columns,
                targets,
                codecs,
                result,
                returning,
                checks,
                old_slot,
                new_slot,
                source_slot,
                returned_slot,
                ctid_column: junk_column(subplan, c"ctid"),
                row_column: junk_column(subplan, finish::ROW_COLUMN),
                update: ptr::null_mut(),
                assignments: Vec::new(),
                actions: Vec::new(),
                clause: None,
                clauses,
                conflict_column: junk_column(subplan, CONFLICT_COLUMN),
                clause_params: Vec::new(),
                clause_states: Vec::new(),
                changes: Vec::new(),
                bytes: 0,
                touched: HashSet::new(),
                rows: pg_sys::AllocSetContextCreateExtended(
                    (*estate).es_query_cxt,
                    c"sharding changes".as_ptr(),
                    0,
                    8 * 1024,
                    8 * 1024 * 1024,
                ),
                store: ptr::null_mut(),
                done: false,
                refuses_moves: tuple::move_obstacle(relation),
                map: map.clone(),
            };
            modify.begin_operation(scan, subplan, desc)?;
            Ok(modify)
        }
    }

    unsafe fn begin_operation(
        &mut self,
        scan: *mut pg_sys::CustomScan,
        subplan: *mut pg_sys::Plan,
        desc: pg_sys::TupleDesc,
    ) -> Result<()> {
        // SAFETY: as `begin`.
        unsafe {
            let ps = &raw mut (*self.node).ss.ps;
            let econtext = (*ps).ps_ExprContext;
            match (*self.plan).operation {
                pg_sys::CmdType::CMD_UPDATE => {
                    let colnos = items::<pg_sys::List>((*self.plan).updateColnosLists)[0];
                    let (tlist, out) = ((*subplan).targetlist, self.new_slot);
                    self.update =
                        boundary(|| pg_sys::ExecBuildUpdateProjection(tlist, false, colnos, desc, econtext, out, ps));
                    self.add_assignment(&tree::ints(colnos));
                }
                pg_sys::CmdType::CMD_MERGE => {
                    for action in items::<pg_sys::MergeAction>(items::<pg_sys::List>((*self.plan).mergeActionLists)[0])
                    {
                        let (tlist, out) = ((*action).targetList, self.new_slot);
                        let mut assignment = 0;
                        let projection = match (*action).commandType {
                            pg_sys::CmdType::CMD_INSERT => {
                                boundary(|| pg_sys::ExecBuildProjectionInfo(tlist, econtext, out, ps, desc))
                            }
                            pg_sys::CmdType::CMD_UPDATE => {
                                let colnos = (*action).updateColnos;
                                assignment = self.add_assignment(&tree::ints(colnos));
                                boundary(|| {
                                    pg_sys::ExecBuildUpdateProjection(tlist, true, colnos, desc, econtext, out, ps)
                                })
                            }
                            _ => ptr::null_mut(),
                        };
                        let qual = (*action).qual.cast();
                        self.actions.push(Action {
                            when: compat::match_kind(action),
                            command: (*action).commandType,
                            condition: boundary(|| pg_sys::ExecInitQual(qual, ps)),
                            projection,
                            assignment,
                        });
                    }
                }
                _ => {}
            }
            if self.conflict_column > 0 {
                let exprs = (*scan).custom_exprs;
                let states = items::<pg_sys::ExprState>(boundary(|| pg_sys::ExecInitExprList(exprs, ps)));
                self.clause_states = items::<pg_sys::Node>(exprs)
                    .into_iter()
                    .zip(states)
                    .map(|(e, s)| (s, Codec::new(pg_sys::exprType(e), -1)))
                    .collect();
            }
            Ok(())
        }
    }

    fn add_assignment(&mut self, attnos: &[i32]) -> usize {
        let columns: Vec<usize> = attnos
            .iter()
            .filter_map(|a| self.columns.iter().position(|c| i32::from(c.attno) == *a && !c.generated))
            .collect();
        let sets_key = attnos.contains(&i32::from(self.key));
        self.assignments.push(Assignment { columns, sets_key });
        self.assignments.len() - 1
    }

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
            if !self.returning.is_null() {
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
                    self.insert(ptr::null_mut(), false)
                }
                pg_sys::CmdType::CMD_UPDATE => {
                    let Some((shard, ctid)) = self.identity(source)? else { return Ok(()) };
                    if !self.touched.insert((shard, ctid)) {
                        return Ok(()); // several source rows match: the first one counts
                    }
                    (*econtext).ecxt_scantuple = self.old_slot;
                    (*econtext).ecxt_outertuple = source;
                    slot::project(self.update);
                    self.update(0, shard, ctid, source)
                }
                pg_sys::CmdType::CMD_DELETE => {
                    let Some((shard, ctid)) = self.identity(source)? else { return Ok(()) };
                    if self.touched.insert((shard, ctid)) {
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
            for i in 0..self.actions.len() {
                let action = &self.actions[i];
                if !action.when.applies(identity.is_some(), compat::source_present(source))
                    || !slot::qualifies(action.condition, econtext)
                {
                    continue;
                }
                let (command, projection, assignment) = (action.command, action.projection, action.assignment);
                match (command, identity) {
                    (pg_sys::CmdType::CMD_INSERT, _) => {
                        slot::project(projection);
                        self.insert(source, false)?;
                    }
                    (pg_sys::CmdType::CMD_UPDATE | pg_sys::CmdType::CMD_DELETE, Some((shard, ctid))) => {
                        if self.checks {
                            let (result, old, estate) = (self.result, self.old_slot, self.estate);
                            let kind = compat::merge_check_kind(command);
                            boundary(|| pg_sys::ExecWithCheckOptions(kind, result, old, estate));
                        }
                        if !self.touched.insert((shard, ctid)) {
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
            slot::clear(self.old_slot);
            let header = pg_sys::pg_detoast_datum(row.cast_mut_ptr()).cast::<pg_sys::HeapTupleHeaderData>();
            let mut heap: pg_sys::HeapTupleData = std::mem::zeroed();
            heap.t_len = (pgrx::varsize_4b(header.cast())) as u32;
            heap.t_data = header;
            let desc = (*self.old_slot).tts_tupleDescriptor;
            pg_sys::heap_deform_tuple(&mut heap, desc, (*self.old_slot).tts_values, (*self.old_slot).tts_isnull);
            pg_sys::ExecStoreVirtualTuple(self.old_slot);
            let key = slot::attribute(self.old_slot, self.key as usize);
            let shard = self.shard(key)?;
            Ok(Some((shard, ctid)))
        }
    }

    fn shard(&mut self, key: Option<pg_sys::Datum>) -> Result<ShardIndex> {
        let (group, _) = self
            .map
            .distribution(self.table)
            .ok_or_else(|| Error::new(sqlstate::WRONG_OBJECT_TYPE, "table is not distributed any more"))?;
        Ok(self.hasher.shard(group, key))
    }

    fn node_of(&self, shard: ShardIndex) -> NodeId {
        self.map.distribution(self.table).map_or(NodeId(0), |(g, _)| g.node_of(shard))
    }

    /// The row in `new_slot` is new.
    unsafe fn insert(&mut self, source: *mut pg_sys::TupleTableSlot, _moved: bool) -> Result<()> {
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
                return self.insert(source, true);
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
            let copy = if source.is_null() || self.returning.is_null() {
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

    /// Applies what is collected: deletes, then updates, then inserts; all nodes of a step at once.
    unsafe fn flush(&mut self) -> Result<()> {
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
            let needs_rows = self.checks || !self.returning.is_null();
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
                let sql = write::insert(&head, &columns, chunk.len(), self.clause_params.len(), &tail, &alias, wanted);
                Ok((sql, params))
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
            slot::clear(self.new_slot);
            let natts = (*(*self.new_slot).tts_tupleDescriptor).natts as usize;
            for i in 0..natts {
                *(*self.new_slot).tts_isnull.add(i) = true;
                *(*self.new_slot).tts_values.add(i) = pg_sys::Datum::from(0);
            }
            for i in 0..self.columns.len() {
                if let Some(bytes) = row.get(first + i) {
                    let at = self.columns[i].attno as usize - 1;
                    *(*self.new_slot).tts_values.add(at) = self.codecs[i].decode(bytes)?;
                    *(*self.new_slot).tts_isnull.add(at) = false;
                }
            }
            pg_sys::ExecStoreVirtualTuple(self.new_slot);
            (*self.new_slot).tts_tableOid = pg_sys::Oid::from(self.table.0);
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
            if !self.returning.is_null() {
                (*econtext).ecxt_scantuple = self.new_slot;
                let source = chunk.get(number).map_or(ptr::null_mut(), |c| c.source);
                slot::clear(self.source_slot);
                if !source.is_null() {
                    pg_sys::ExecStoreMinimalTuple(source, self.source_slot, false);
                    // Expressions were compiled for the child's slot, which may need no deforming.
                    slot::deform(self.source_slot);
                }
                (*econtext).ecxt_outertuple = self.source_slot;
                let out = slot::project(self.returning);
                let store = self.store;
                boundary(|| pg_sys::tuplestore_puttupleslot(store, out));
            }
            pg_sys::MemoryContextSwitchTo(old);
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
