//! Rows from the nodes to the client as they are: what a node sent as `DataRow` goes into the client's
//! socket undecoded.
//!
//! `SELECT * FROM orders WHERE id = 7`, or without the condition: where the scan is the whole plan and the
//! client asked for columns in forms that the node can send, nothing is left to do here. The scan then
//! sends the rows itself and tells the executor of their number only. Everything else of the execution is as
//! usual: the row description, counts, limits of a portal, hooks of other extensions, errors and cancel.

use crate::error::Result;
use crate::pg::codec::{Codec, travels_in_binary};
use crate::pg::scan::Scan;
use crate::pg::tuple;
use crate::plan::remote::Source;
use bytes::Bytes;
use pgrx::pg_sys;
use std::cell::Cell;

/// A call of `ExecutorRun`.
#[derive(Clone, Copy)]
pub struct Run {
    /// Tells it from any other.
    serial: u64,
    desc: *mut pg_sys::QueryDesc,
    /// The rows asked for; 0 is all.
    count: u64,
}

thread_local! {
    static CURRENT: Cell<Option<Run>> = const { Cell::new(None) };
    static SERIAL: Cell<u64> = const { Cell::new(0) };
}

/// A run begins; returns the one around it, to be given to [`leave`]. After an ERROR the run stays known,
/// which does no harm: nobody asks for it.
pub fn enter(desc: *mut pg_sys::QueryDesc, count: u64) -> Option<Run> {
    SERIAL.set(SERIAL.get() + 1);
    CURRENT.replace(Some(Run { serial: SERIAL.get(), desc, count }))
}

/// The run is over.
pub fn leave(around: Option<Run>) {
    CURRENT.set(around);
}

/// How far a scan that sends its rows itself has come.
#[derive(Default)]
pub struct Passing {
    serial: u64,
    sent: u64,
}

/// The current run, if its rows go straight from the root `node` to the client.
unsafe fn run_to_client(node: *mut pg_sys::ForeignScanState) -> Option<Run> {
    // SAFETY: the run's descriptor lives while it runs; the portal while it is active.
    unsafe {
        let run = CURRENT.get()?;
        let portal = pg_sys::ActivePortal;
        if portal.is_null()
            || (*portal).queryDesc != run.desc
            || (*portal).strategy != pg_sys::PortalStrategy::PORTAL_ONE_SELECT
            || (*portal).formats.is_null()
            || (*run.desc).planstate != node.cast()
        {
            return None;
        }
        let destination = (*(*run.desc).dest).mydest;
        matches!(destination, pg_sys::CommandDest::DestRemote | pg_sys::CommandDest::DestRemoteExecute).then_some(run)
    }
}

impl Scan {
    /// Decides, before the statement is sent, whether its rows are passed through; the columns are then asked for
    /// in the client's forms.
    pub(super) unsafe fn choose_passing(&mut self) {
        // SAFETY: called by the executor while it runs the scan.
        unsafe {
            let plan_state = &(*self.node).ss.ps;
            let is_plain = plan_state.qual.is_null()
                && plan_state.ps_ProjInfo.is_null()
                && plan_state.instrument.is_null()
                && (*self.estate()).es_junkFilter.is_null()
                && !self.keeps_rows()
                && self.merge_keys_survive_text()
                && pg_sys::pg_get_client_encoding() == pg_sys::GetDatabaseEncoding()
                && self.plan.columns.iter().enumerate().all(|(i, source)| *source == Source::Remote(i));
            if !is_plain || run_to_client(self.node).is_none() {
                return;
            }
            let desc = (*(*self.node).ss.ss_ScanTupleSlot).tts_tupleDescriptor;
            if (*desc).natts as usize != self.columns.len() {
                return;
            }
            let mut columns = Vec::with_capacity(self.columns.len());
            for (i, codec) in self.columns.iter().enumerate() {
                let attribute = tuple::attribute(desc, i);
                let in_binary = *(*pg_sys::ActivePortal).formats.add(i) == 1;
                let base = codec.wire_type;
                // What else is text on the node may be another text here: names of objects, above all.
                let same = travels_in_binary(base) || !in_binary && pg_sys::type_is_enum(base);
                if !same {
                    return;
                }
                columns.push(if in_binary {
                    Codec::new((*attribute).atttypid, (*attribute).atttypmod)
                } else {
                    Codec::textual((*attribute).atttypid, (*attribute).atttypmod)
                });
            }
            self.columns = columns;
            self.passing = Some(Passing::default());
        }
    }

    /// Sends rows to the client until there are no more or the run has as many as it wants. `false` if the rows
    /// of this run go elsewhere.
    pub(super) unsafe fn pass_rows(&mut self) -> Result<bool> {
        // SAFETY: as above.
        unsafe {
            let (Some(passing), Some(run)) = (&mut self.passing, run_to_client(self.node)) else { return Ok(false) };
            if passing.serial != run.serial {
                *passing = Passing { serial: run.serial, sent: 0 };
            }
            let mut sent = passing.sent;
            while run.count == 0 || sent < run.count {
                let Some(row) = self.fetch()? else { break };
                send_to_client(&row);
                sent += 1;
                (*self.estate()).es_processed += 1;
            }
            if let Some(passing) = &mut self.passing {
                passing.sent = sent;
            }
            Ok(true)
        }
    }
}

/// Puts a `DataRow` into the client's output buffer, waiting if it is full. A client that is gone is noticed at
/// the next interrupt.
unsafe fn send_to_client(row: &Bytes) {
    // SAFETY: the buffer is only read; `cursor` carries the message's type.
    unsafe {
        let mut message = pg_sys::StringInfoData {
            data: row.as_ptr().cast_mut().cast(),
            len: row.len() as i32,
            maxlen: row.len() as i32,
            cursor: i32::from(b'D'),
        };
        pg_sys::pq_endmessage_reuse(&mut message);
    }
}
