//! All hooks: installed once, the previous one always called. The `next_` functions let an ERROR jump through.

use crate::pg::alone::{is_sent_by_client, query_begins};
use crate::pg::guard::guarded;
use crate::pg::{compat, consistent, pass_through, pending, planner, readers};
use pgrx::pg_sys;
use std::cell::Cell;
use std::ffi::{c_char, c_int};

static mut PREVIOUS_PLANNER: pg_sys::planner_hook_type = None;
static mut PREVIOUS_RELATION_INFO: pg_sys::get_relation_info_hook_type = None;

static mut PREVIOUS_UPPER_PATHS: pg_sys::create_upper_paths_hook_type = None;
static mut PREVIOUS_START: pg_sys::ExecutorStart_hook_type = None;
static mut PREVIOUS_RUN: pg_sys::ExecutorRun_hook_type = None;
static mut PREVIOUS_FINISH: pg_sys::ExecutorFinish_hook_type = None;

unsafe extern "C-unwind" {
    fn GetCurrentTransactionStartTimestamp() -> pg_sys::TimestampTz;
    fn standard_ExecutorStart(desc: *mut pg_sys::QueryDesc, eflags: c_int);
    fn standard_ExecutorFinish(desc: *mut pg_sys::QueryDesc);
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
        PREVIOUS_UPPER_PATHS = pg_sys::create_upper_paths_hook;
        pg_sys::create_upper_paths_hook = Some(planner::upper_paths);
        PREVIOUS_START = pg_sys::ExecutorStart_hook;
        pg_sys::ExecutorStart_hook = Some(executor_start);
        PREVIOUS_RUN = pg_sys::ExecutorRun_hook;
        pg_sys::ExecutorRun_hook = Some(compat::executor_run);
        PREVIOUS_FINISH = pg_sys::ExecutorFinish_hook;
        pg_sys::ExecutorFinish_hook = Some(executor_finish);
    }
}

thread_local! {
    /// When the transaction began in which something was done last.
    static USED: Cell<i64> = const { Cell::new(0) };
}

/// Whether nothing was executed in this transaction before; it is from now on.
pub fn is_first_statement() -> bool {
    // SAFETY: reads the backend's transaction state; raises no ERROR.
    let transaction = unsafe { GetCurrentTransactionStartTimestamp() };
    USED.replace(transaction) != transaction
}

/// A statement is prepared for execution: what it reads on several nodes is sent to all of them at once.
unsafe extern "C-unwind" fn executor_start(desc: *mut pg_sys::QueryDesc, eflags: c_int) {
    let before = readers::count();
    // SAFETY: the descriptor is the hook's own.
    unsafe { query_begins(desc) };
    if consistent::has_own_snapshot() {
        guarded(|| {
            // SAFETY: the descriptor is the hook's own.
            if unsafe { is_sent_by_client((*desc).plannedstmt) } { consistent::previous_is_over() } else { Ok(()) }
        });
    }
    // SAFETY: nothing is owned here, so an ERROR may jump through.
    unsafe { next_executor_start(desc, eflags) };
    let first = is_first_statement();
    if readers::count() > before && eflags & pg_sys::EXEC_FLAG_EXPLAIN_ONLY as c_int == 0 {
        // SAFETY: the statement is prepared now.
        guarded(|| unsafe { consistent::statement_starts(desc, before, eflags, first) });
    }
}

pub unsafe fn next_executor_start(desc: *mut pg_sys::QueryDesc, eflags: c_int) {
    // SAFETY: arguments are the hook's own.
    unsafe {
        match PREVIOUS_START {
            Some(previous) => previous(desc, eflags),
            None => standard_ExecutorStart(desc, eflags),
        }
    }
}

/// A statement is executed, or a part of it: who scans knows how many rows are wanted.
pub unsafe fn executor_run(desc: *mut pg_sys::QueryDesc, count: u64, run: impl FnOnce(pg_sys::ExecutorRun_hook_type)) {
    // SAFETY: the descriptor is the hook's own.
    let around = unsafe { pass_through::enter(desc, count) };
    // SAFETY: no Rust frame here owns anything, so an ERROR may jump through.
    run(unsafe { PREVIOUS_RUN });
    pass_through::leave(around);
}

/// A statement's row triggers have fired: what it changed in reference tables goes to the copies.
unsafe extern "C-unwind" fn executor_finish(desc: *mut pg_sys::QueryDesc) {
    // SAFETY: no Rust frame here owns anything, so an ERROR may jump through.
    unsafe {
        match PREVIOUS_FINISH {
            Some(previous) => previous(desc),
            None => standard_ExecutorFinish(desc),
        }
    }
    if !pending::is_empty() {
        guarded(pending::flush);
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
            Some(previous) => previous(query, text, options, params),
            None => standard_planner(query, text, options, params),
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
            previous(root, relid, inhparent, rel);
        }
    }
}

pub unsafe fn next_upper_paths(
    root: *mut pg_sys::PlannerInfo,
    stage: pg_sys::UpperRelationKind::Type,
    input: *mut pg_sys::RelOptInfo,
    output: *mut pg_sys::RelOptInfo,
    extra: *mut std::ffi::c_void,
) {
    // SAFETY: arguments are the hook's own.
    unsafe {
        if let Some(previous) = PREVIOUS_UPPER_PATHS {
            previous(root, stage, input, output, extra);
        }
    }
}
