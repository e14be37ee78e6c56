//! All hooks: installed once, the previous one always called.

use crate::pg::guard::boundary;
use crate::pg::planner;
use pgrx::pg_sys;
use std::ffi::{c_char, c_int};

static mut PREVIOUS_PLANNER: pg_sys::planner_hook_type = None;
static mut PREVIOUS_RELATION_INFO: pg_sys::get_relation_info_hook_type = None;

unsafe extern "C-unwind" {
    fn standard_planner(
        query: *mut pg_sys::Query,
        text: *const c_char,
        options: c_int,
        params: pg_sys::ParamListInfo,
    ) -> *mut pg_sys::PlannedStmt;
}

/// Called once from `_PG_init`.
pub fn install() {
    // SAFETY: the backend has one thread; hooks are set before any query runs.
    unsafe {
        PREVIOUS_PLANNER = pg_sys::planner_hook;
        pg_sys::planner_hook = Some(planner::planner);
        PREVIOUS_RELATION_INFO = pg_sys::get_relation_info_hook;
        pg_sys::get_relation_info_hook = Some(planner::relation_info);
    }
}

/// The planner that was there before us.
pub unsafe fn next_planner(
    query: *mut pg_sys::Query,
    text: *const c_char,
    options: c_int,
    params: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    // SAFETY: arguments are the hook's own.
    unsafe {
        match PREVIOUS_PLANNER {
            Some(previous) => boundary(|| previous(query, text, options, params)),
            None => boundary(|| standard_planner(query, text, options, params)),
        }
    }
}

pub unsafe fn next_relation_info(
    root: *mut pg_sys::PlannerInfo,
    relid: pg_sys::Oid,
    inhparent: bool,
    rel: *mut pg_sys::RelOptInfo,
) {
    // SAFETY: arguments are the hook's own.
    unsafe {
        if let Some(previous) = PREVIOUS_RELATION_INFO {
            boundary(|| previous(root, relid, inhparent, rel));
        }
    }
}
