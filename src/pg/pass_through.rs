//! Rows from the nodes to the client as they are: what a node sent as `DataRow` goes into the client's
//! socket undecoded.
//!
//! `SELECT * FROM orders WHERE id = 7`, or without the condition: where the scan is the whole plan and the
//! client asked for columns in forms that the node can send, nothing is left to do here. The scan then
//! sends the rows itself and tells the executor of their number only. Everything else of the execution is as
//! usual: the row description, counts, limits of a portal, hooks of other extensions, errors and cancel.
//!
//! Rows that arrived together leave together ([`Run`](crate::wire::run::Run)). For COPY TO the client the nodes' text becomes
//! lines on the way ([`Lines`]).

use crate::error::{Error, Result, sqlstate};
use crate::pg::client;
use crate::pg::codec::{Codec, travels_in_binary};
use crate::pg::scan::Scan;
use crate::pg::tuple;
use crate::pg::utility::copy_to::Lines;
use crate::plan::remote::Source;
use pgrx::pg_sys;
use std::cell::Cell;
use std::rc::Rc;

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
///
/// # Safety
/// The descriptor is the executor's.
pub unsafe fn enter(desc: *mut pg_sys::QueryDesc, count: u64) -> Option<Run> {
    SERIAL.set(SERIAL.get() + 1);
    // SAFETY: as the caller promises.
    unsafe { Lines::run_begins(desc) };
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

/// In which form the client gets rows.
enum Form {
    /// As rows, whose columns have these formats.
    Rows(*const i16),
    /// As lines of COPY.
    Lines(Rc<Lines>),
}

impl Form {
    /// # Safety
    /// There is such a column.
    unsafe fn is_binary(&self, column: usize) -> bool {
        match self {
            // SAFETY: as the caller promises.
            Form::Rows(formats) => unsafe { *formats.add(column) == 1 },
            Form::Lines(_) => false,
        }
    }
}

/// The serial of COPY's only run.
const OF_COPY: u64 = u64::MAX;

/// Lines that wait to be sent together, at most about so many bytes.
const TOGETHER: usize = 64 * 1024;

/// The current run, if its rows go straight from the root `node` to the client, and in which form.
unsafe fn run_to_client(node: *mut pg_sys::ForeignScanState) -> Option<(Run, Form)> {
    // SAFETY: the run's descriptor lives while it runs; the portal while it is active; that of COPY while it is under way.
    unsafe {
        if let Some(lines) = Lines::of_root(node.cast()) {
            return Some((Run { serial: OF_COPY, desc: std::ptr::null_mut(), count: 0 }, Form::Lines(lines)));
        }
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
        matches!(destination, pg_sys::CommandDest::DestRemote | pg_sys::CommandDest::DestRemoteExecute)
            .then(|| (run, Form::Rows((*portal).formats)))
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
            let Some((_, form)) = is_plain.then(|| run_to_client(self.node)).flatten() else { return };
            let desc = (*(*self.node).ss.ss_ScanTupleSlot).tts_tupleDescriptor;
            if (*desc).natts as usize != self.columns.len() {
                return;
            }
            let mut columns = Vec::with_capacity(self.columns.len());
            for (i, codec) in self.columns.iter().enumerate() {
                let attribute = tuple::attribute(desc, i);
                let in_binary = form.is_binary(i);
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
            let (Some(passing), Some((run, form))) = (&mut self.passing, run_to_client(self.node)) else {
                return Ok(false);
            };
            if passing.serial != run.serial {
                *passing = Passing { serial: run.serial, sent: 0 };
            }
            let mut sent = passing.sent;
            let mut lines = Vec::new();
            while run.count == 0 || sent < run.count {
                let most = if run.count == 0 { usize::MAX } else { (run.count - sent) as usize };
                let Some(rows) = self.pass_some(&form, most, &mut lines)? else { break };
                sent += rows;
                (*self.estate()).es_processed += rows;
            }
            if let Form::Lines(counter) = &form {
                client::send(&lines);
                counter.sent(0, lines.len() as u64);
            }
            if let Some(passing) = &mut self.passing {
                passing.sent = sent;
            }
            Ok(true)
        }
    }

    /// Sends rows as they come, at most so many; their number. Of `lines` the last may be left to be sent.
    unsafe fn pass_some(&mut self, form: &Form, most: usize, lines: &mut Vec<u8>) -> Result<Option<u64>> {
        // SAFETY: as above.
        unsafe {
            let in_order = !self.plan.merge.is_empty();
            let (single, run) = match in_order {
                true => (self.fetch()?, None),
                false => (None, self.fetch_run(most)?),
            };
            let rows = match (&single, &run) {
                (Some(_), _) => 1,
                (_, Some(run)) => run.rows() as u64,
                (None, None) => return Ok(None),
            };
            match form {
                Form::Rows(_) => {
                    single.iter().for_each(|row| client::send_one(b'D', row));
                    run.iter().for_each(|run| client::send(run.messages()));
                }
                Form::Lines(counter) => {
                    let bodies = single.iter().map(|row| &row[..]).chain(run.iter().flat_map(|run| run.bodies()));
                    for body in bodies {
                        counter.output.write_row(body, lines).map_err(|_| malformed())?;
                    }
                    if !in_order || lines.len() >= TOGETHER {
                        client::send(lines);
                        counter.sent(rows, lines.len() as u64);
                        lines.clear();
                    } else {
                        counter.sent(rows, 0);
                    }
                }
            }
            Ok(Some(rows))
        }
    }
}

fn malformed() -> Error {
    Error::new(sqlstate::PROTOCOL_VIOLATION, "node sent a row of another shape")
}
