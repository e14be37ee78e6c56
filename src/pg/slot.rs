//! The executor's inline functions, which exist only as C headers.

use crate::pg::guard::boundary;
use pgrx::pg_sys;
use std::ptr;

/// `ExecClearTuple`.
pub unsafe fn clear(slot: *mut pg_sys::TupleTableSlot) {
    // SAFETY: every slot has its callbacks.
    unsafe {
        if holds_values_only(slot) {
            (*slot).tts_nvalid = 0;
            (*slot).tts_flags |= pg_sys::TTS_FLAG_EMPTY as u16;
            return;
        }
        if let Some(clear) = (*(*slot).tts_ops).clear {
            boundary(|| clear(slot));
        }
    }
}

/// Whether a slot owns nothing and came to its values by [`store_values`], so that to clear it is to say so.
unsafe fn holds_values_only(slot: *mut pg_sys::TupleTableSlot) -> bool {
    // SAFETY: the callbacks say what kind of slot it is; a heap tuple's slot begins with the base of all.
    unsafe {
        u32::from((*slot).tts_flags) & pg_sys::TTS_FLAG_SHOULDFREE == 0
            && (*slot).tts_tid.ip_posid == 0
            && (ptr::eq((*slot).tts_ops, &raw const pg_sys::TTSOpsVirtual)
                || ptr::eq((*slot).tts_ops, &raw const pg_sys::TTSOpsHeapTuple)
                    && (*slot.cast::<pg_sys::HeapTupleTableSlot>()).tuple.is_null())
    }
}

/// `ExecStoreVirtualTuple`: the values that were written into the cleared slot are its row.
pub unsafe fn store_values(slot: *mut pg_sys::TupleTableSlot) {
    // SAFETY: every slot has a row type.
    unsafe {
        (*slot).tts_flags &= !(pg_sys::TTS_FLAG_EMPTY as u16);
        (*slot).tts_nvalid = (*(*slot).tts_tupleDescriptor).natts as _;
    }
}

/// `ExecCopySlot`.
pub unsafe fn copy(to: *mut pg_sys::TupleTableSlot, from: *mut pg_sys::TupleTableSlot) {
    // SAFETY: the slots have the same row type.
    unsafe {
        if let Some(copy) = (*(*to).tts_ops).copyslot {
            boundary(|| copy(to, from));
        }
    }
}

/// `slot_getallattrs`.
pub unsafe fn deform(slot: *mut pg_sys::TupleTableSlot) {
    // SAFETY: the slot is not empty.
    unsafe {
        let natts = (*(*slot).tts_tupleDescriptor).natts;
        if i32::from((*slot).tts_nvalid) < natts {
            boundary(|| pg_sys::slot_getsomeattrs_int(slot, natts));
        }
    }
}

/// The value of a column (1-based), or `None` for NULL.
pub unsafe fn attribute(slot: *mut pg_sys::TupleTableSlot, attno: usize) -> Option<pg_sys::Datum> {
    // SAFETY: the caller keeps attno within the row type.
    unsafe {
        if ((*slot).tts_nvalid as usize) < attno {
            boundary(|| pg_sys::slot_getsomeattrs_int(slot, attno as i32));
        }
        (!*(*slot).tts_isnull.add(attno - 1)).then(|| *(*slot).tts_values.add(attno - 1))
    }
}

/// `ExecEvalExprSwitchContext`: the value in the per-tuple memory of the context.
pub unsafe fn evaluate(state: *mut pg_sys::ExprState, econtext: *mut pg_sys::ExprContext) -> Option<pg_sys::Datum> {
    // SAFETY: the state was made by ExecInitExpr.
    unsafe {
        let evaluate = (*state).evalfunc?;
        let old = pg_sys::MemoryContextSwitchTo((*econtext).ecxt_per_tuple_memory);
        let mut null = false;
        let value = boundary(|| evaluate(state, econtext, &mut null));
        pg_sys::MemoryContextSwitchTo(old);
        (!null).then_some(value)
    }
}

/// `ExecQual`: no qualification is true, NULL is false.
pub unsafe fn qualifies(state: *mut pg_sys::ExprState, econtext: *mut pg_sys::ExprContext) -> bool {
    // SAFETY: the state was made by ExecInitQual, whose result is never NULL.
    unsafe { state.is_null() || evaluate(state, econtext).is_some_and(|v| v.value() != 0) }
}

/// `ExecProject`: the projection's result slot, filled.
pub unsafe fn project(projection: *mut pg_sys::ProjectionInfo) -> *mut pg_sys::TupleTableSlot {
    // SAFETY: the projection was made by ExecBuildProjectionInfo.
    unsafe {
        let slot = (*projection).pi_state.resultslot;
        clear(slot);
        evaluate(&mut (*projection).pi_state, (*projection).pi_exprContext);
        store_values(slot);
        slot
    }
}

/// `TupIsNull` for a slot that exists.
pub unsafe fn is_empty(slot: *mut pg_sys::TupleTableSlot) -> bool {
    // SAFETY: reads the flags.
    unsafe { u32::from((*slot).tts_flags) & pg_sys::TTS_FLAG_EMPTY != 0 }
}

/// `ExecCopySlotMinimalTuple`.
pub unsafe fn copy_minimal(slot: *mut pg_sys::TupleTableSlot) -> pg_sys::MinimalTuple {
    // SAFETY: the slot is not empty; the copy is in the current memory context.
    unsafe {
        match (*(*slot).tts_ops).copy_minimal_tuple {
            Some(copy) => crate::pg::compat::copy_minimal(copy, slot),
            None => std::ptr::null_mut(),
        }
    }
}
