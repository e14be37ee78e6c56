//! Rows from the wire into the executor's slot, at the least cost for each: where the columns are those that the nodes
//! send, in their order, and the rows are not merged, all rows that came together are at hand, and each one's values
//! are made where its bytes lie.
//!
//! ```text
//! Run   D length 1 | 8 x'0000000000000007' | D length 1 | 8 x'00...'     -> slot: 7, ...
//! ```
//!
//! For `count(DISTINCT x)` of 2 million values this took half of the coordinator's processor time, its sort included,
//! of what it takes to cut off, note and take apart one row after the other.

use crate::error::{Error, Result, sqlstate};
use crate::pg::scan::{Scan, TaskReport};
use crate::pg::slot;
use crate::plan::remote::{Effect, RemotePlan, Source};
use crate::wire::row::Columns;
use crate::wire::run::Cursor;
use pgrx::pg_sys;

/// Rows of one node that are at hand.
#[derive(Default)]
pub(super) struct AtHand {
    cursor: Cursor,
    /// Whose they are, among the scan's reports.
    report: usize,
}

/// Whether rows of a plan can be read in place.
pub(super) fn are_plain(plan: &RemotePlan) -> bool {
    let in_order = |(at, source): (usize, &Source)| matches!(source, Source::Remote(column) if *column == at);
    plan.merge.is_empty() && plan.columns.iter().enumerate().all(in_order)
}

impl Scan {
    /// Stores the next row; `false` at the end.
    pub(super) unsafe fn next_in_place(&mut self, slot: *mut pg_sys::TupleTableSlot) -> Result<bool> {
        loop {
            if let Some(body) = self.at_hand.cursor.next_body() {
                let mut columns = Columns::of(body)?;
                if columns.left() != self.columns.len() {
                    return Err(Error::new(sqlstate::PROTOCOL_VIOLATION, "node sent a row of another shape"));
                }
                // SAFETY: the slot has one value per column; they are allocated in the current (per-tuple) memory.
                unsafe {
                    for (i, codec) in self.columns.iter_mut().enumerate() {
                        let value = columns.read()?.map(|bytes| codec.decode(bytes)).transpose()?;
                        *(*slot).tts_isnull.add(i) = value.is_none();
                        *(*slot).tts_values.add(i) = value.unwrap_or(pg_sys::Datum::from(0));
                    }
                    columns.end()?;
                    slot::store_values(slot);
                }
                if let Some(report) = self.reports.get_mut(self.at_hand.report) {
                    report.rows += 1;
                }
                if let Some(allowance) = &self.allowance {
                    allowance.take(1)?;
                }
                return Ok(true);
            }
            // SAFETY: called by the executor while it runs the scan.
            if !unsafe { self.reach()? } {
                return Ok(false);
            }
        }
    }

    /// Waits for rows of any node; `false` if all have ended.
    unsafe fn reach(&mut self) -> Result<bool> {
        // SAFETY: as above.
        unsafe {
            if !self.opened {
                self.open()?;
            }
            self.open_tasks()?;
            while let Some(i) = self.ready_stream()? {
                if let Some(run) = self.streams[i].next_run(usize::MAX)? {
                    let (node, beside) = (self.streams[i].node(), self.streams[i].beside());
                    // What a write returns is counted at its end.
                    let counts = !matches!(self.plan.effect, Effect::Write { .. });
                    let of_stream = |r: &TaskReport| counts && r.node == node && r.beside == beside;
                    let report = self.reports.iter().position(of_stream).unwrap_or(usize::MAX);
                    self.at_hand = AtHand { cursor: Cursor::new(run), report };
                    return Ok(true);
                }
                self.note(i, 0)?;
                self.streams.remove(i);
            }
            Ok(false)
        }
    }
}
