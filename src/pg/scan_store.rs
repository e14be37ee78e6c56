//! Rows that a scan keeps: one that is read more than once, such as the inner side of a nested loop, sets its rows
//! aside when it is first read. The store spills to disk beyond `work_mem`.

use crate::error::Result;
use crate::pg::guard::boundary;
use crate::pg::scan::Scan;
use crate::pg::slot;
use pgrx::pg_sys;

impl Scan {
    /// The next row of those kept; the first call fetches all.
    pub(super) unsafe fn next_stored(&mut self, slot: *mut pg_sys::TupleTableSlot) -> Result<()> {
        // SAFETY: the store lives in the query's memory; the slot is minimal-tuple compatible.
        unsafe {
            if self.store.is_null() {
                let old = pg_sys::MemoryContextSwitchTo((*self.estate()).es_query_cxt);
                self.store = pg_sys::tuplestore_begin_heap(false, false, pg_sys::work_mem);
                pg_sys::tuplestore_set_eflags(self.store, pg_sys::EXEC_FLAG_REWIND as i32);
                let context = pg_sys::AllocSetContextCreateExtended(
                    (*self.estate()).es_query_cxt,
                    c"sharding rows".as_ptr(),
                    0,
                    8 * 1024,
                    1024 * 1024,
                );
                pg_sys::MemoryContextSwitchTo(context);
                while self.next_row(slot)? {
                    let store = self.store;
                    boundary(|| pg_sys::tuplestore_puttupleslot(store, slot));
                    slot::clear(slot);
                    pg_sys::MemoryContextReset(context);
                }
                pg_sys::MemoryContextSwitchTo(old);
                pg_sys::MemoryContextDelete(context);
            }
            let scratch = self.scratch_slot();
            let store = self.store;
            if boundary(|| pg_sys::tuplestore_gettupleslot(store, true, false, scratch)) {
                slot::copy(slot, scratch);
                // A row read from disk is in the caller's memory, which is reset before the next one.
                slot::clear(scratch);
            }
            Ok(())
        }
    }

    /// A minimal-tuple slot of the scan's row type, made when first needed.
    unsafe fn scratch_slot(&mut self) -> *mut pg_sys::TupleTableSlot {
        // SAFETY: the slot is in the executor's tuple table, which the executor frees.
        unsafe {
            if self.scratch.is_null() {
                let desc = (*(*self.node).ss.ss_ScanTupleSlot).tts_tupleDescriptor;
                let old = pg_sys::MemoryContextSwitchTo((*self.estate()).es_query_cxt);
                self.scratch =
                    pg_sys::ExecInitExtraTupleSlot(self.estate(), desc, &raw const pg_sys::TTSOpsMinimalTuple);
                pg_sys::MemoryContextSwitchTo(old);
            }
            self.scratch
        }
    }
}
