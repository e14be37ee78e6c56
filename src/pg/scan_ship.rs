//! Rows that a scan sends to its nodes: read from a subplan, kept, and made arrays of, whole or cut by a key.
//!
//! ```text
//! shipped 1: (1, 'a') (2, 'b') (7, 'c')     cut by column 1
//! n1: $1 = {1,7} $2 = {a,c}                  n2: $1 = {2} $2 = {b}
//! ```
//!
//! The rows wait in a tuplestore, which goes to a file beyond `work_mem`. The planner's estimate may prove wrong: once there
//! are more than `sharding.max_shipped_size` allows, twice for good measure, nothing is sent, and the subplan that joins
//! here ([`instead`](crate::pg::pushdown)) returns the statement's rows.

use crate::catalog::{ColocationGroup, NodeId};
use crate::error::{Error, Result, sqlstate};
use crate::pg::codec::{Codec, TransmissionMode, travels_in_binary};
use crate::pg::guard::boundary;
use crate::pg::modify::run::exec_proc_node;
use crate::pg::scan::Scan;
use crate::pg::session::Param;
use crate::pg::{gucs, hash, readers, slot, tree, tuple};
use crate::plan::remote::{Shipment, Source};
use crate::wire::array::Array;
use pgrx::pg_sys;
use std::rc::Rc;

/// What a scan has read of what it sends.
#[derive(Default)]
pub struct Shipments {
    rows: Vec<Rows>,
    is_read: bool,
    /// The subplan that runs because there is too much to send.
    instead: Option<*mut pg_sys::PlanState>,
}

/// The rows of one shipment.
struct Rows {
    store: *mut pg_sys::Tuplestorestate,
    slot: *mut pg_sys::TupleTableSlot,
    count: u64,
}

/// A parameter's value for each node, or one for all.
pub struct Cut {
    pub parameter: usize,
    pub values: Vec<Param>,
}

/// More than may be sent.
struct TooMuch;

impl Scan {
    /// Whether the rows come from the subplan that sends nothing.
    pub fn joins_here(&self) -> bool {
        self.shipments.instead.is_some()
    }

    /// How many rows each shipment had, for EXPLAIN ANALYZE.
    pub fn shipped_rows(&self) -> Vec<u64> {
        self.shipments.rows.iter().map(|rows| rows.count).collect()
    }

    /// Leaves the subplan that joins here out of what EXPLAIN shows below this scan.
    pub unsafe fn hide_instead(&mut self) {
        let Some(instead) = self.plan.shipping.instead else { return };
        // SAFETY: the list is the node's own; the executor ends subplans by its list of all.
        unsafe {
            let plan_state = &mut (*self.node).ss.ps;
            let others = tree::items::<pg_sys::SubPlanState>(plan_state.initPlan)
                .into_iter()
                .filter(|state| (*(**state).subplan).plan_id != instead as i32);
            plan_state.initPlan = tree::list_of(others.collect::<Vec<_>>());
        }
    }

    /// The arrays for these nodes. If there is too much, [`Scan::joins_here`] is true afterwards.
    pub(super) unsafe fn arrays(&mut self, nodes: &[NodeId]) -> Result<Vec<Cut>> {
        if self.plan.shipping.shipments.is_empty() || self.joins_here() {
            return Ok(Vec::new());
        }
        // SAFETY: called by the executor while it runs the scan; what is made lives as long as the query.
        unsafe {
            let old = pg_sys::MemoryContextSwitchTo((*self.estate()).es_query_cxt);
            let arrays = match self.arrays_within(nodes)? {
                Ok(arrays) => arrays,
                Err(TooMuch) => {
                    self.join_here()?;
                    Vec::new()
                }
            };
            pg_sys::MemoryContextSwitchTo(old);
            Ok(arrays)
        }
    }

    unsafe fn arrays_within(&mut self, nodes: &[NodeId]) -> Result<std::result::Result<Vec<Cut>, TooMuch>> {
        // SAFETY: as above.
        unsafe {
            let plan = Rc::clone(&self.plan);
            if !self.shipments.is_read {
                if let Err(too_much) = self.read(&plan.shipping.shipments, nodes.len())? {
                    return Ok(Err(too_much));
                }
                self.shipments.is_read = true;
            }
            let mut arrays = Vec::new();
            let mut sent = vec![0; nodes.len()];
            for (i, shipment) in plan.shipping.shipments.iter().enumerate() {
                match self.encode(i, shipment, nodes, &mut sent)? {
                    Ok(columns) => arrays.extend(columns),
                    Err(too_much) => return Ok(Err(too_much)),
                }
            }
            Ok(Ok(arrays))
        }
    }

    unsafe fn subplan(&self, number: u32) -> Result<*mut pg_sys::PlanState> {
        // SAFETY: the executor has prepared all subplans.
        unsafe {
            let states = tree::items::<pg_sys::PlanState>((*self.estate()).es_subplanstates);
            (number as usize)
                .checked_sub(1)
                .and_then(|at| states.get(at).copied())
                .ok_or_else(|| Error::new(sqlstate::INTERNAL, "a subplan of rows to be sent is lost"))
        }
    }

    /// Reads all rows that are to be sent.
    unsafe fn read(&mut self, shipments: &[Shipment], nodes: usize) -> Result<std::result::Result<(), TooMuch>> {
        // SAFETY: as above; stores and slots live in the query's memory.
        unsafe {
            let most = gucs::most_shipped_bytes();
            let mut bytes = 0;
            for shipment in shipments {
                let state = self.subplan(shipment.subplan)?;
                let store = pg_sys::tuplestore_begin_heap(false, false, pg_sys::work_mem);
                pg_sys::tuplestore_set_eflags(store, pg_sys::EXEC_FLAG_REWIND as i32);
                let desc = (*state).ps_ResultTupleDesc;
                let kept = pg_sys::ExecInitExtraTupleSlot(self.estate(), desc, &raw const pg_sys::TTSOpsMinimalTuple);
                self.shipments.rows.push(Rows { store, slot: kept, count: 0 });
                // Of rows that are cut a node gets its share.
                let parts = if shipment.cut.is_some() { nodes.max(1) } else { 1 };
                let mut of_shipment = 0;
                loop {
                    let row = exec_proc_node(state);
                    if row.is_null() || slot::is_empty(row) {
                        break;
                    }
                    slot::deform(row);
                    of_shipment += pg_sys::heap_compute_data_size(desc, (*row).tts_values, (*row).tts_isnull);
                    boundary(|| pg_sys::tuplestore_puttupleslot(store, row));
                    if let Some(rows) = self.shipments.rows.last_mut() {
                        rows.count += 1;
                    }
                    if bytes + of_shipment / parts > most {
                        return Ok(Err(TooMuch));
                    }
                }
                bytes += of_shipment / parts;
            }
            Ok(Ok(()))
        }
    }

    /// Makes arrays of a shipment's rows; `sent` counts the bytes for each node.
    unsafe fn encode(
        &mut self,
        number: usize,
        shipment: &Shipment,
        nodes: &[NodeId],
        sent: &mut [usize],
    ) -> Result<std::result::Result<Vec<Cut>, TooMuch>> {
        // SAFETY: as above.
        unsafe {
            let most = gucs::most_shipped_bytes();
            let Rows { store, slot, .. } = self.shipments.rows[number];
            let map = Rc::clone(&self.map);
            let table = self.plan.target.table();
            let (group, _) = map.distribution(table).ok_or_else(not_distributed)?;
            let parts = if shipment.cut.is_some() { nodes.len() } else { 1 };
            let desc = (*slot).tts_tupleDescriptor;
            let mut columns: Vec<Column> = Vec::new();
            for (attno, parameter) in &shipment.columns {
                let (_, codec, array) = &self.parameters[*parameter];
                let element = (*tuple::attribute(desc, attno - 1)).atttypid;
                columns.push(Column::new(*attno, *parameter, codec.wire_type, *array, element, codec.binary, parts));
            }
            let mut cutter = match shipment.cut {
                Some(attno) => {
                    let kind = (*tuple::attribute(desc, attno - 1)).atttypid;
                    Some(Cutter { attno, hasher: hash::KeyHasher::for_type(table, kind)?, group, nodes })
                }
                None => None,
            };
            let context = pg_sys::AllocSetContextCreateExtended(
                pg_sys::CurrentMemoryContext,
                c"sharding shipped row".as_ptr(),
                0,
                8 * 1024,
                1024 * 1024,
            );
            let text_mode = columns.iter().any(|c| !c.codec.binary).then(TransmissionMode::enter);
            boundary(|| pg_sys::tuplestore_rescan(store));
            let mut value = Vec::new();
            let mut fits = true;
            while fits && boundary(|| pg_sys::tuplestore_gettupleslot(store, true, false, slot)) {
                let old = pg_sys::MemoryContextSwitchTo(context);
                slot::deform(slot);
                let part = match &mut cutter {
                    Some(cutter) => cutter.part(slot),
                    None => Some(0),
                };
                if let Some(part) = part {
                    let before: usize = columns.iter().map(|c| c.parts[part].len()).sum();
                    for column in &mut columns {
                        column.push(part, slot::attribute(slot, column.attno), &mut value);
                    }
                    let more = columns.iter().map(|c| c.parts[part].len()).sum::<usize>() - before;
                    match cutter {
                        Some(_) => sent[part] += more,
                        None => sent.iter_mut().for_each(|bytes| *bytes += more),
                    }
                    fits = sent.get(part).is_none_or(|bytes| *bytes <= most);
                }
                pg_sys::MemoryContextSwitchTo(old);
                pg_sys::MemoryContextReset(context);
            }
            drop(text_mode);
            slot::clear(slot);
            pg_sys::MemoryContextDelete(context);
            Ok(if fits { Ok(columns.into_iter().map(Column::finish).collect()) } else { Err(TooMuch) })
        }
    }

    /// Gives up sending.
    unsafe fn join_here(&mut self) -> Result<()> {
        let plan = Rc::clone(&self.plan);
        let Some(instead) = plan.shipping.instead else {
            return Err(Error::new(
                sqlstate::PROGRAM_LIMIT_EXCEEDED,
                "there are more rows to send to the nodes than expected",
            )
            .hint("ANALYZE the tables, or SET sharding.ship_joins = off."));
        };
        // SAFETY: as above.
        unsafe {
            self.forget_shipments();
            for shipment in &plan.shipping.shipments {
                let state = self.subplan(shipment.subplan)?;
                boundary(|| pg_sys::ExecReScan(state));
            }
            self.shipments.instead = Some(self.subplan(instead)?);
            readers::wake(self.estate());
        }
        Ok(())
    }

    /// Stores the next row of the subplan that joins here; `false` at the end.
    pub(super) unsafe fn next_joined_here(&mut self, slot: *mut pg_sys::TupleTableSlot) -> Result<bool> {
        let Some(state) = self.shipments.instead else { return Ok(false) };
        // SAFETY: the row lives until the next one is asked for; the slot has one value per output column.
        unsafe {
            let old = pg_sys::MemoryContextSwitchTo((*self.estate()).es_query_cxt);
            let row = exec_proc_node(state);
            pg_sys::MemoryContextSwitchTo(old);
            if row.is_null() || slot::is_empty(row) {
                return Ok(false);
            }
            slot::deform(row);
            for (i, source) in self.plan.columns.iter().enumerate() {
                let Source::Remote(column) = source else {
                    return Err(Error::new(sqlstate::INTERNAL, "a joined row has an unknown column"));
                };
                *(*slot).tts_values.add(i) = *(*row).tts_values.add(*column);
                *(*slot).tts_isnull.add(i) = *(*row).tts_isnull.add(*column);
            }
            pg_sys::ExecStoreVirtualTuple(slot);
            Ok(true)
        }
    }

    /// The subplan that joins here starts over.
    pub(super) unsafe fn rescan_joined_here(&mut self) {
        if let Some(state) = self.shipments.instead {
            // SAFETY: called by the executor.
            unsafe { boundary(|| pg_sys::ExecReScan(state)) };
        }
    }

    /// Frees the rows that are kept.
    pub(super) unsafe fn forget_shipments(&mut self) {
        self.shipments.is_read = false;
        for rows in self.shipments.rows.drain(..) {
            // SAFETY: the store was made by this scan; the slot has nothing of it after that.
            unsafe {
                slot::clear(rows.slot);
                pg_sys::tuplestore_end(rows.store);
            }
        }
    }
}

fn not_distributed() -> Error {
    Error::new(sqlstate::WRONG_OBJECT_TYPE, "table is not distributed any more")
}

/// A column that becomes arrays.
struct Column {
    attno: usize,
    parameter: usize,
    /// Of the elements.
    codec: Codec,
    /// The type that goes with the arrays; 0 lets the node infer it.
    oid: u32,
    parts: Vec<Array>,
}

impl Column {
    fn new(
        attno: usize,
        parameter: usize,
        wire_type: pg_sys::Oid,
        array: pg_sys::Oid,
        element: pg_sys::Oid,
        in_binary: bool,
        parts: usize,
    ) -> Column {
        let in_binary = in_binary && travels_in_binary(array);
        let codec = if in_binary { Codec::new(element, -1) } else { Codec::textual(element, -1) };
        let array = || match in_binary {
            true => Array::binary(codec.wire_type.to_u32()),
            false => Array::textual(delimiter(element)),
        };
        let parts = (0..parts).map(|_| array()).collect();
        Column { attno, parameter, oid: if in_binary { wire_type.to_u32() } else { 0 }, codec, parts }
    }

    fn push(&mut self, part: usize, value: Option<pg_sys::Datum>, room: &mut Vec<u8>) {
        room.clear();
        if let Some(value) = value {
            self.codec.encode_into(value, room);
        }
        self.parts[part].push(value.is_some().then_some(room.as_slice()));
    }

    fn finish(self) -> Cut {
        let (oid, binary) = (self.oid, self.codec.binary);
        let param = |array: Array| Param { oid, binary, value: Some(array.finish()) };
        Cut { parameter: self.parameter, values: self.parts.into_iter().map(param).collect() }
    }
}

/// Tells to which node a row goes.
struct Cutter<'a> {
    attno: usize,
    hasher: hash::KeyHasher,
    group: &'a ColocationGroup,
    nodes: &'a [NodeId],
}

impl Cutter<'_> {
    /// The place of the node in the list; none if that is not asked.
    unsafe fn part(&mut self, row: *mut pg_sys::TupleTableSlot) -> Option<usize> {
        // SAFETY: the row has the column.
        let node = self.hasher.node(self.group, unsafe { slot::attribute(row, self.attno) });
        self.nodes.iter().position(|n| *n == node)
    }
}

/// What stands between the elements of an array of this type.
fn delimiter(element: pg_sys::Oid) -> u8 {
    let (mut len, mut by_value, mut align, mut delimiter) = (0, false, 0, 0);
    let (mut param, mut function) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
    // SAFETY: a syscache look-up with out parameters.
    unsafe {
        pg_sys::get_type_io_data(
            element,
            pg_sys::IOFuncSelector::IOFunc_output,
            &mut len,
            &mut by_value,
            &mut align,
            &mut delimiter,
            &mut param,
            &mut function,
        );
    }
    delimiter as u8
}
