//! Runs one [`RemotePlan`]: the executor side of the foreign scan.
//!
//! When the first row is asked for, the parameters are evaluated, the nodes chosen, and the
//! statement sent to all of them at once; rows come from whichever node has one. Each node's rows
//! arrive page by page through a portal, so memory stays flat and several scans share a
//! connection. A scan that is read more than once keeps its rows in a tuplestore.

use crate::catalog::{ClusterMap, NodeId};
use crate::error::{Error, Result, sqlstate};
use crate::pg::alone::is_whole_transaction;
use crate::pg::codec::Codec;
use crate::pg::foreign_scan::has_executor_param;
use crate::pg::guard::boundary;
use crate::pg::kept_plan::KeptPlan;
use crate::pg::limits::Allowance;
use crate::pg::merge::Merging;
use crate::pg::pass_through::Passing;
use crate::pg::scan_rows::{self, AtHand};
use crate::pg::scan_send::Request;
use crate::pg::scan_ship::Shipments;
use crate::pg::scan_tasks::Tasks;
use crate::pg::session::{Row, Stream, wait_any};
use crate::pg::{catalog_cache, consistent, readers, slot, tree, tuple};
use crate::plan::remote::{Effect, RemotePlan, Source};
use crate::wire::row::Room;
use crate::wire::run::Run;
use bytes::Bytes;
use pgrx::pg_sys;
use std::ptr;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Flag in `fdw_private`: the scan is read again from the start with the same parameters.
pub const FLAG_RESCANNED: i32 = 1;

/// What a node returned, each time that it was asked, for EXPLAIN ANALYZE.
pub struct TaskReport {
    pub node: NodeId,
    /// The number of its connection there, 0 for the transaction's own.
    pub beside: u8,
    pub rows: u64,
    pub elapsed: Duration,
}

/// A scan in execution.
pub struct Scan {
    pub plan: Rc<KeptPlan>,
    pub(super) map: Rc<ClusterMap>,
    pub(super) node: *mut pg_sys::ForeignScanState,
    /// One per remote column, in the order of the remote SELECT list.
    pub(super) columns: Vec<Codec>,
    whole_row: Vec<(usize, pg_sys::TupleDesc)>,
    pub(super) parameters: Vec<(*mut pg_sys::ExprState, Codec, pg_sys::Oid)>,
    reads_executor_params: bool,
    pub(super) request: Option<Request>,
    pub(super) shipments: Shipments,
    /// It does not run unless another statement cannot.
    dormant: bool,
    pub(super) tasks: Tasks,
    pub(super) streams: Vec<Stream>,
    pub(super) merging: Option<Merging>,
    /// The stream that the last row came from.
    current: usize,
    pub(super) room: Room,
    /// Whether rows are read in place, and those that are.
    is_plain: bool,
    pub(super) at_hand: AtHand,
    pub(super) passing: Option<Passing>,
    pub(super) allowance: Option<Allowance>,
    pub(super) opened: bool,
    pub(super) started: Option<Instant>,
    pub reports: Vec<TaskReport>,
    rescanned: bool,
    pub(super) store: *mut pg_sys::Tuplestorestate,
    pub(super) scratch: *mut pg_sys::TupleTableSlot,
}

impl Scan {
    /// Prepares a scan; nothing is sent yet.
    pub unsafe fn begin(node: *mut pg_sys::ForeignScanState) -> Result<Box<Scan>> {
        // SAFETY: the plan was made by `foreign_scan` or `route`; all memory is the query's.
        unsafe {
            let plan = (*node).ss.ps.plan.cast::<pg_sys::ForeignScan>();
            let (remote, flags) = plan_of(plan)?;
            let map = catalog_cache::cluster()
                .ok_or_else(|| Error::new(sqlstate::UNDEFINED_OBJECT, "extension \"sharding\" is gone"))?;
            let desc = (*(*node).ss.ss_ScanTupleSlot).tts_tupleDescriptor;
            let mut columns = Vec::new();
            let mut whole_row = Vec::new();
            for (i, source) in remote.columns.iter().enumerate() {
                let attr = tuple::attribute(desc, i);
                match source {
                    Source::Remote(_) => columns.push(Codec::new((*attr).atttypid, (*attr).atttypmod)),
                    Source::TableOid => {}
                    Source::WholeRow { .. } => {
                        for c in tuple::columns(pg_sys::Oid::from(remote.relation.0)) {
                            columns.push(Codec::new(c.type_oid, c.typmod));
                        }
                        let row_desc = boundary(|| pg_sys::lookup_rowtype_tupdesc_copy((*attr).atttypid, -1));
                        whole_row.push((i, row_desc));
                    }
                }
            }
            let exprs = (*plan).fdw_exprs;
            let states =
                tree::items::<pg_sys::ExprState>(boundary(|| pg_sys::ExecInitExprList(exprs, &mut (*node).ss.ps)));
            let parameters = tree::items::<pg_sys::Node>(exprs)
                .into_iter()
                .zip(states)
                .map(|(e, state)| {
                    let oid = pg_sys::exprType(e);
                    (state, Codec::new(oid, -1), oid)
                })
                .collect();
            let reads_executor_params = !(*plan).scan.plan.extParam.is_null()
                && tree::each::<pg_sys::Node>(exprs).any(|e| has_executor_param(e));
            let dormant = remote.shipping.dormant;
            let is_plain = scan_rows::are_plain(&remote);
            Ok(Box::new(Scan {
                plan: remote,
                map,
                node,
                columns,
                whole_row,
                parameters,
                reads_executor_params,
                request: None,
                shipments: Shipments::default(),
                dormant,
                tasks: Tasks::default(),
                streams: Vec::new(),
                merging: None,
                current: 0,
                room: Room::default(),
                is_plain,
                at_hand: AtHand::default(),
                passing: None,
                allowance: Allowance::of((*node).ss.ps.state),
                opened: false,
                started: None,
                reports: Vec::new(),
                rescanned: flags & FLAG_RESCANNED != 0,
                store: ptr::null_mut(),
                scratch: ptr::null_mut(),
            }))
        }
    }

    /// Whether the statement can be sent before anybody asks for a row.
    pub fn can_open_early(&self) -> bool {
        !self.opened && self.is_ready_early() && !matches!(self.plan.effect, Effect::Write { .. })
    }

    /// Sends the statement and waits until every node has taken its snapshot.
    pub unsafe fn open_early(&mut self) -> Result<()> {
        // SAFETY: called while the scan's executor state lives.
        unsafe { self.open()? };
        self.wait_bound(None).map(drop)
    }

    pub(super) unsafe fn estate(&self) -> *mut pg_sys::EState {
        // SAFETY: the scan lives within its executor state.
        unsafe { (*self.node).ss.ps.state }
    }

    /// The statement that it is part of.
    pub fn statement(&self) -> *mut pg_sys::PlannedStmt {
        // SAFETY: the scan lives within its executor state.
        unsafe { (*self.estate()).es_plannedstmt }
    }

    pub(super) unsafe fn open(&mut self) -> Result<()> {
        // SAFETY: called by the executor while it runs the scan.
        unsafe {
            let nodes = self.nodes()?;
            crate::pg::pending::flush()?;
            match self.plan.effect {
                Effect::Write { .. } => {
                    self.opened = true;
                    readers::bind_all()?;
                    self.send(false, false)
                }
                Effect::Read { .. } | Effect::Lock => consistent::open(self, &nodes),
            }
        }
    }

    /// The nodes that run the statement, which is made ready; evaluates its parameters.
    pub unsafe fn nodes(&mut self) -> Result<Vec<NodeId>> {
        if self.request.is_none() {
            // SAFETY: parameter expressions are evaluated in the scan's own expression context.
            self.request = Some(unsafe { self.make_request()? });
        }
        Ok(self.request.as_ref().map_or_else(Vec::new, Request::nodes))
    }

    /// The nodes that may run the statement, of which nothing is evaluated.
    pub fn possible_nodes(&self) -> Result<Vec<NodeId>> {
        self.nodes_of(None)
    }

    /// A task of this connection to a node begins, for the first time or again.
    pub(super) fn report_on(&mut self, node: NodeId, beside: u8) {
        if !self.reports.iter().any(|r| r.node == node && r.beside == beside) {
            self.reports.push(TaskReport { node, beside, rows: 0, elapsed: Duration::ZERO });
        }
    }

    /// Waits until every node has taken its snapshot, or time is up; whether they have.
    pub fn wait_bound(&mut self, deadline: Option<Instant>) -> Result<bool> {
        for stream in &mut self.streams {
            if !stream.wait_bound(deadline)? {
                return Ok(false);
            }
        }
        Ok(self.tasks.wait_bound(deadline))
    }

    /// Takes back what was sent with `report_bound`: it will be sent once more.
    pub fn take_back(&mut self) {
        self.streams.clear();
        self.tasks.take_back();
        self.reports.clear();
        self.opened = false;
    }

    /// Whether nothing was sent yet.
    pub fn is_closed(&self) -> bool {
        !self.opened
    }

    /// Whether the parameters are known before anybody asks for a row.
    pub fn is_ready_early(&self) -> bool {
        !self.reads_executor_params && !self.dormant && self.plan.shipping.shipments.is_empty()
    }

    /// The statement that could not run is one of this executor's: what stands in for it does.
    pub unsafe fn wake(&mut self, estate: *mut pg_sys::EState) {
        // SAFETY: reads executor state.
        self.dormant &= unsafe { self.estate() } != estate;
    }

    /// Whether the statement is the whole transaction, and all its scans on a node see one snapshot.
    pub unsafe fn has_own_snapshot(&self) -> bool {
        // SAFETY: reads executor state.
        self.only_reads() && unsafe { is_whole_transaction(self.estate()) }
    }

    /// Whether it is part of a statement that does nothing but read.
    pub fn only_reads(&self) -> bool {
        matches!(self.plan.effect, Effect::Read { snapshot: true, .. })
    }

    pub fn cluster(&self) -> &ClusterMap {
        &self.map
    }

    /// Fills the scan's slot with the next row, or leaves it empty at the end.
    pub unsafe fn next(&mut self) -> Result<*mut pg_sys::TupleTableSlot> {
        // SAFETY: the slot is the scan's own.
        unsafe {
            let slot = (*self.node).ss.ss_ScanTupleSlot;
            slot::clear(slot);
            if !self.opened && !self.joins_here() {
                if !self.plan.shipping.shipments.is_empty() {
                    self.nodes()?;
                }
                if !self.joins_here() {
                    self.choose_passing();
                }
            }
            if self.rescanned {
                self.next_stored(slot)?;
            } else if self.passing.is_none() || !self.pass_rows()? {
                self.next_row(slot)?;
            }
            Ok(slot)
        }
    }

    /// Stores the next row from any node; `false` at the end.
    pub(super) unsafe fn next_row(&mut self, slot: *mut pg_sys::TupleTableSlot) -> Result<bool> {
        // SAFETY: values are allocated in the current (per-tuple) memory context.
        unsafe {
            if self.joins_here() {
                return self.next_joined_here(slot);
            }
            if self.is_plain && self.passing.is_none() {
                return self.next_in_place(slot);
            }
            let Some(body) = self.fetch()? else { return Ok(false) };
            let row = Row::parse_into(body, &mut self.room)?;
            self.store_row(&row, slot)?;
            self.room = row.into_room();
            Ok(true)
        }
    }

    /// The next row from any node, as it came.
    pub(super) unsafe fn fetch(&mut self) -> Result<Option<Bytes>> {
        // SAFETY: called by the executor while it runs the scan.
        unsafe {
            if !self.opened {
                self.open()?;
            }
            self.open_tasks()?;
            if !self.plan.merge.is_empty() {
                return self.fetch_in_order();
            }
            while let Some(i) = self.ready_stream()? {
                if let Some(row) = self.next_of(i)? {
                    return Ok(Some(row));
                }
                self.streams.remove(i);
            }
            Ok(None)
        }
    }

    /// The next rows from any node, at most so many, where their order does not matter.
    pub(super) unsafe fn fetch_run(&mut self, most: usize) -> Result<Option<Run>> {
        // SAFETY: as above.
        unsafe {
            if !self.opened {
                self.open()?;
            }
            self.open_tasks()?;
            while let Some(i) = self.ready_stream()? {
                let run = self.streams[i].next_run(most)?;
                self.note(i, run.as_ref().map_or(0, Run::rows))?;
                if run.is_some() {
                    return Ok(run);
                }
                self.streams.remove(i);
            }
            Ok(None)
        }
    }

    /// The stream whose rows come next; waits for one that has any, or is at its end. `None` if all have ended.
    pub(super) fn ready_stream(&mut self) -> Result<Option<usize>> {
        // As long as one has rows, they come from there.
        if self.streams.len() > 1 && !self.streams.get(self.current).is_some_and(Stream::ready) {
            self.current = wait_any(&mut self.streams.iter_mut().collect::<Vec<_>>())?;
        }
        Ok((!self.streams.is_empty()).then(|| self.current.min(self.streams.len() - 1)))
    }

    /// Whether rows are set aside to be read again.
    pub(super) fn keeps_rows(&self) -> bool {
        self.rescanned
    }

    /// The next row of one node; at its end, what it did is noted.
    pub(super) unsafe fn next_of(&mut self, stream: usize) -> Result<Option<Bytes>> {
        let row = self.streams[stream].next_body()?;
        // SAFETY: as the caller promises.
        unsafe { self.note(stream, usize::from(row.is_some()))? };
        Ok(row)
    }

    /// Notes that so many rows came from a node; none: its end.
    pub(super) unsafe fn note(&mut self, stream: usize, rows: usize) -> Result<()> {
        let stream = &self.streams[stream];
        let of_stream = |r: &&mut TaskReport| r.node == stream.node() && r.beside == stream.beside();
        let report = self.reports.iter_mut().find(of_stream);
        let counts = matches!(self.plan.effect, Effect::Write { .. });
        if rows > 0 {
            if let Some(report) = report.filter(|_| !counts) {
                report.rows += rows as u64;
            }
            if let Some(allowance) = &self.allowance {
                allowance.take(rows as u64)?;
            }
            return Ok(());
        }
        if let Some(report) = report {
            // The last of its node's.
            if self.streams.iter().filter(|other| other.node() == stream.node()).count() == 1 {
                report.elapsed += self.started.map_or(Duration::ZERO, |s| s.elapsed());
            }
            if counts {
                report.rows += stream.rows_affected();
            }
        }
        if counts && self.plan.sets_tag {
            // SAFETY: the executor state lives while it runs the scan.
            unsafe { (*(*self.node).ss.ps.state).es_processed += stream.rows_affected() };
        }
        Ok(())
    }

    unsafe fn store_row(&mut self, row: &Row, slot: *mut pg_sys::TupleTableSlot) -> Result<()> {
        // SAFETY: the slot has one value per output column.
        unsafe {
            if row.len() != self.columns.len() {
                return Err(Error::new(sqlstate::PROTOCOL_VIOLATION, "node sent a row of another shape"));
            }
            let values = (*slot).tts_values;
            let nulls = (*slot).tts_isnull;
            for i in 0..self.plan.columns.len() {
                let value = match self.plan.columns[i] {
                    Source::Remote(c) => match row.get(c) {
                        Some(bytes) => Some(self.columns[c].decode(bytes)?),
                        None => None,
                    },
                    Source::TableOid => Some(pg_sys::Datum::from(pg_sys::Oid::from(self.plan.relation.0))),
                    Source::WholeRow { first } => {
                        let desc = self.whole_row.iter().find(|(at, _)| *at == i).map(|(_, d)| *d);
                        Some(self.whole_row(row, first, desc.unwrap_or(ptr::null_mut()))?)
                    }
                };
                *values.add(i) = value.unwrap_or(pg_sys::Datum::from(0));
                *nulls.add(i) = value.is_none();
            }
            slot::store_values(slot);
            Ok(())
        }
    }

    /// A composite value of the table's row type; dropped columns are NULL.
    unsafe fn whole_row(&mut self, row: &Row, first: usize, desc: pg_sys::TupleDesc) -> Result<pg_sys::Datum> {
        // SAFETY: `desc` is the row type's; remote columns from `first` on follow its live attributes.
        unsafe {
            let natts = (*desc).natts as usize;
            let mut values = vec![pg_sys::Datum::from(0); natts];
            let mut nulls = vec![true; natts];
            let mut column = first;
            for i in 0..natts {
                if (*tuple::attribute(desc, i)).attisdropped {
                    continue;
                }
                if let Some(bytes) = row.get(column) {
                    values[i] = self.columns[column].decode(bytes)?;
                    nulls[i] = false;
                }
                column += 1;
            }
            let formed = pg_sys::heap_form_tuple(desc, values.as_mut_ptr(), nulls.as_mut_ptr());
            Ok(pg_sys::heap_copy_tuple_as_datum(formed, desc))
        }
    }

    /// Starts over: from the store if nothing changed, else with new parameters.
    pub unsafe fn rescan(&mut self) {
        // SAFETY: called by the executor.
        unsafe {
            let params_changed = !(*self.node).ss.ps.chgParam.is_null();
            if self.rescanned && !(params_changed && self.reads_executor_params) {
                if !self.store.is_null() {
                    pg_sys::tuplestore_rescan(self.store);
                }
                return;
            }
            if !self.store.is_null() {
                pg_sys::tuplestore_end(self.store);
                self.store = ptr::null_mut();
            }
            self.rescan_joined_here();
            self.close();
            self.request = None;
            self.opened = false;
        }
    }

    fn close(&mut self) {
        self.merging = None;
        self.at_hand = AtHand::default();
        self.streams.clear();
        self.tasks.end();
    }

    /// Ends the scan: portals are closed, the store is freed.
    pub unsafe fn end(&mut self) {
        self.close();
        // SAFETY: called by the executor before it frees its memory.
        unsafe { self.forget_shipments() };
        if !self.store.is_null() {
            // SAFETY: the store was made by this scan.
            unsafe { pg_sys::tuplestore_end(self.store) };
            self.store = ptr::null_mut();
        }
    }
}

/// The plan and flags in a ForeignScan's `fdw_private`.
pub unsafe fn plan_of(plan: *mut pg_sys::ForeignScan) -> Result<(Rc<KeptPlan>, i32)> {
    // SAFETY: the list was made by `private_list`.
    unsafe {
        let private = tree::items::<pg_sys::Node>((*plan).fdw_private);
        let remote = KeptPlan::of(tree::const_bytes(private[0].cast()))?;
        let flags = private.get(1).map_or(0, |n| (*n.cast::<pg_sys::Integer>()).ival);
        Ok((remote, flags))
    }
}

/// `fdw_private` for a plan.
pub unsafe fn private_list(plan: &RemotePlan, flags: i32) -> Result<*mut pg_sys::List> {
    // SAFETY: nodes are made in the current memory context.
    unsafe {
        let bytes = tree::bytes_const(&plan.encode()?).cast::<pg_sys::Node>();
        let flags = pg_sys::makeInteger(flags).cast::<pg_sys::Node>();
        Ok(tree::list_of([bytes, flags]))
    }
}

/// Whether a foreign scan is one of this extension's.
pub unsafe fn is_ours(plan: *mut pg_sys::ForeignScan) -> bool {
    // SAFETY: reads the plan.
    unsafe {
        let private = tree::items::<pg_sys::Node>((*plan).fdw_private);
        catalog_cache::cluster().is_some_and(|m| m.nodes.iter().any(|n| n.id.0 == (*plan).fs_server.to_u32()))
            && private.len() == 2
            && (*private[0]).type_ == pg_sys::NodeTag::T_Const
    }
}
