//! What comes back of a write: check options and RETURNING; the last part of
//! [`run`](super::run).
//!
//! A node returns all columns of each row that it wrote; the list itself is computed here. `old` (18) is
//! the row that the source had read, or, after ON CONFLICT DO UPDATE, the one that the node says it
//! changed. `merge_action()` (17) is a constant of each operation's own copy of the list.

use crate::error::Result;
use crate::pg::guard::boundary;
use crate::pg::modify::compat;
use crate::pg::modify::run::{Change, Modify, Operation};
use crate::pg::session::Row;
use crate::pg::{slot, tree};
use crate::plan::write::OldRow;
use pgrx::pg_sys;
use std::ptr;

/// The RETURNING list, with `merge_action()` being what each operation says it is.
#[derive(Clone, Copy)]
pub(super) struct Returning {
    pub(super) insert: *mut pg_sys::ProjectionInfo,
    update: *mut pg_sys::ProjectionInfo,
    delete: *mut pg_sys::ProjectionInfo,
    /// Stands for `old` or `new` where there is no such row.
    nulls: *mut pg_sys::TupleTableSlot,
}

impl Returning {
    pub(super) unsafe fn begin(
        ps: *mut pg_sys::PlanState,
        list: *mut pg_sys::List,
        desc: pg_sys::TupleDesc,
        out: *mut pg_sys::TupleTableSlot,
    ) -> Returning {
        // SAFETY: everything is made in the query's memory.
        unsafe {
            let econtext = (*ps).ps_ExprContext;
            let build = |list| boundary(|| pg_sys::ExecBuildProjectionInfo(list, econtext, out, ps, desc));
            let nulls = pg_sys::ExecInitExtraTupleSlot((*ps).state, desc, &raw const pg_sys::TTSOpsVirtual);
            boundary(|| pg_sys::ExecStoreAllNullTuple(nulls));
            let names_action = tree::walk(list.cast(), |n| {
                if compat::is_merge_action(n) { tree::Visit::Stop } else { tree::Visit::Deeper }
            });
            if !names_action {
                let all = build(list);
                return Returning { insert: all, update: all, delete: all, nulls };
            }
            let with_action = |action: &str| {
                let named = tree::mutate(list.cast(), |n| match compat::is_merge_action(n) {
                    true => tree::Change::Replace(tree::text_const(action).cast()),
                    false => tree::Change::Deeper,
                });
                build(named.cast())
            };
            Returning {
                insert: with_action("INSERT"),
                update: with_action("UPDATE"),
                delete: with_action("DELETE"),
                nulls,
            }
        }
    }
}

impl Modify {
    /// A row that a node wrote: check options, then RETURNING.
    pub(super) unsafe fn returned(
        &mut self,
        operation: Operation,
        row: &Row,
        chunk: &[Change],
        index: usize,
    ) -> Result<()> {
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
    pub(super) unsafe fn returns_old(&self) -> OldRow {
        // SAFETY: reads the RETURNING list.
        let named = unsafe { self.returning.is_some_and(|r| compat::returns_old(r.insert)) };
        match &self.clause {
            Some(clause) if clause.updates && named => OldRow::Return,
            _ => OldRow::Leave,
        }
    }
}
