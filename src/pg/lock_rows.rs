//! Row locks above a plan: `SELECT ... ORDER BY x LIMIT 1 FOR UPDATE SKIP LOCKED` over many nodes.
//!
//! A scan that locks what it reads locks exactly the right rows only if nothing above it drops some.
//! With LIMIT, joins, NOWAIT or SKIP LOCKED this node does it instead, row by row, below Postgres's
//! `LockRows` (which keeps the local tables): the row is found by ctid in its shard, told by its key,
//! both junk columns. A row that another transaction has changed since it was read is an error
//! 40001, or is skipped with SKIP LOCKED.

use crate::catalog::TableId;
use crate::error::{Error, Result, sqlstate};
use crate::pg::guard::{boundary, guarded};
use crate::pg::hash::KeyHasher;
use crate::pg::modify::run;
use crate::pg::session::{Access, Fetch, Param, Statement, Stream};
use crate::pg::tree::{self, Node, items, list_of};
use crate::pg::{catalog_cache, compat, slot, tuple};
use pgrx::pg_sys;
use serde::{Deserialize, Serialize};

/// Name of the junk column that carries the shard key of the n-th locked table of a query.
pub fn key_column(n: usize) -> String {
    format!("sharding_key_{n}")
}

/// A table whose rows are locked.
#[derive(Serialize, Deserialize)]
struct Lock {
    table: TableId,
    ctid_column: usize,
    key_column: usize,
    clause: String,
    skips: bool,
}

struct PlanMethods(pg_sys::CustomScanMethods);
struct ExecMethods(pg_sys::CustomExecMethods);
// SAFETY: immutable, and a backend has one thread.
unsafe impl Sync for PlanMethods {}
unsafe impl Sync for ExecMethods {}

static METHODS: PlanMethods = PlanMethods(pg_sys::CustomScanMethods {
    CustomName: c"Sharding Lock Rows".as_ptr(),
    CreateCustomScanState: Some(create_state),
});

static EXEC_METHODS: ExecMethods = ExecMethods(pg_sys::CustomExecMethods {
    CustomName: c"Sharding Lock Rows".as_ptr(),
    BeginCustomScan: Some(begin),
    ExecCustomScan: Some(execute),
    EndCustomScan: Some(end),
    ReScanCustomScan: Some(rescan),
    MarkPosCustomScan: None,
    RestrPosCustomScan: None,
    EstimateDSMCustomScan: None,
    InitializeDSMCustomScan: None,
    ReInitializeDSMCustomScan: None,
    InitializeWorkerCustomScan: None,
    ShutdownCustomScan: None,
    ExplainCustomScan: None,
});

/// Called once from `_PG_init`.
pub fn install() {
    // SAFETY: the methods are static.
    unsafe { pg_sys::RegisterCustomScanMethods(&METHODS.0) }
}

/// Puts our node below a `LockRows` some of whose tables (`is_ours`) are distributed.
pub unsafe fn insert_below(
    lock: *mut pg_sys::LockRows,
    stmt: *mut pg_sys::PlannedStmt,
    is_ours: impl Fn(TableId) -> bool,
) -> Result<()> {
    // SAFETY: the plan was just made.
    unsafe {
        let child = (*lock).plan.lefttree;
        let column = |name: &str| {
            items::<pg_sys::TargetEntry>((*child).targetlist)
                .into_iter()
                .find(|t| {
                    (**t).resjunk
                        && !(**t).resname.is_null()
                        && std::ffi::CStr::from_ptr((**t).resname).to_bytes() == name.as_bytes()
                })
                .map(|t| (*t).resno as usize)
        };
        let mut locks = Vec::new();
        for mark in items::<pg_sys::PlanRowMark>((*lock).rowMarks) {
            let rte = tree::entry((*stmt).rtable, (*mark).rti);
            let table = TableId((*rte).relid.to_u32());
            if (*mark).isParent || (*mark).strength == pg_sys::LockClauseStrength::LCS_NONE || !is_ours(table) {
                continue;
            }
            let (Some(ctid_column), Some(key_column)) =
                (column(&format!("ctid{}", (*mark).rowmarkId)), column(&key_column(locks.len())))
            else {
                return Err(Error::new(sqlstate::INTERNAL, "a row lock has lost the identity of its rows"));
            };
            let strength = match (*mark).strength {
                pg_sys::LockClauseStrength::LCS_FORKEYSHARE => "FOR KEY SHARE",
                pg_sys::LockClauseStrength::LCS_FORSHARE => "FOR SHARE",
                pg_sys::LockClauseStrength::LCS_FORNOKEYUPDATE => "FOR NO KEY UPDATE",
                _ => "FOR UPDATE",
            };
            let skips = (*mark).waitPolicy == pg_sys::LockWaitPolicy::LockWaitSkip;
            let policy = match (*mark).waitPolicy {
                pg_sys::LockWaitPolicy::LockWaitSkip => " SKIP LOCKED",
                pg_sys::LockWaitPolicy::LockWaitError => " NOWAIT",
                _ => "",
            };
            locks.push(Lock { table, ctid_column, key_column, clause: format!("{strength}{policy}"), skips });
        }
        if locks.is_empty() {
            return Ok(());
        }
        let scan = tree::make::<pg_sys::CustomScan>(pg_sys::NodeTag::T_CustomScan);
        (*scan).scan.plan = (*lock).plan;
        (*scan).scan.plan.type_ = pg_sys::NodeTag::T_CustomScan;
        (*scan).scan.plan.initPlan = std::ptr::null_mut();
        (*scan).methods = &METHODS.0;
        (*scan).custom_scan_tlist = tree::copy((*lock).plan.targetlist);
        (*scan).scan.plan.targetlist = index_vars((*lock).plan.targetlist);
        let bytes = postcard::to_stdvec(&locks)
            .map_err(|e| Error::new(sqlstate::INTERNAL, format!("cannot encode a plan: {e}")))?;
        (*scan).custom_private = list_of([tree::bytes_const(&bytes)]);
        (*lock).plan.lefttree = scan.cast();
        Ok(())
    }
}

/// A target list that hands on a custom scan's tuple column by column.
pub unsafe fn index_vars(tlist: *mut pg_sys::List) -> *mut pg_sys::List {
    // SAFETY: expressions of a finished plan.
    unsafe {
        list_of(items::<pg_sys::TargetEntry>(tlist).into_iter().enumerate().map(|(i, t)| {
            let expr = (*t).expr.cast::<Node>();
            let var = pg_sys::makeVar(
                pg_sys::INDEX_VAR,
                i as i16 + 1,
                pg_sys::exprType(expr),
                pg_sys::exprTypmod(expr),
                pg_sys::exprCollation(expr),
                0,
            );
            let tle = pg_sys::makeTargetEntry(var.cast(), i as i16 + 1, (*t).resname, (*t).resjunk);
            (*tle).resorigtbl = (*t).resorigtbl;
            (*tle).resorigcol = (*t).resorigcol;
            tle
        }))
    }
}

#[repr(C)]
struct State {
    base: pg_sys::CustomScanState,
    locks: *mut Vec<Lock>,
}

unsafe extern "C-unwind" fn create_state(_scan: *mut pg_sys::CustomScan) -> *mut pg_sys::Node {
    guarded(|| {
        // SAFETY: zeroed memory is a valid State.
        unsafe {
            let state = tree::make::<State>(pg_sys::NodeTag::T_CustomScanState);
            (*state).base.methods = &EXEC_METHODS.0;
            compat::virtual_slots(&raw mut (*state).base);
            Ok(state.cast())
        }
    })
}

unsafe extern "C-unwind" fn begin(node: *mut pg_sys::CustomScanState, estate: *mut pg_sys::EState, eflags: i32) {
    guarded(|| {
        // SAFETY: the plan was made by `insert_below`.
        unsafe {
            let scan = (*node).ss.ps.plan.cast::<pg_sys::CustomScan>();
            let subplan = (*scan).scan.plan.lefttree;
            (*node).ss.ps.lefttree = boundary(|| pg_sys::ExecInitNode(subplan, estate, eflags));
            let bytes = tree::const_bytes(items::<pg_sys::Const>((*scan).custom_private)[0]);
            let locks: Vec<Lock> = postcard::from_bytes(bytes)
                .map_err(|e| Error::new(sqlstate::INTERNAL, format!("cannot decode a plan: {e}")))?;
            (*node.cast::<State>()).locks =
                pgrx::PgMemoryContexts::For((*estate).es_query_cxt).leak_and_drop_on_delete(locks);
        }
        Ok(())
    });
}

unsafe extern "C-unwind" fn execute(node: *mut pg_sys::CustomScanState) -> *mut pg_sys::TupleTableSlot {
    // SAFETY: set by `begin`.
    guarded(|| unsafe { next(node) })
}

unsafe fn next(node: *mut pg_sys::CustomScanState) -> Result<*mut pg_sys::TupleTableSlot> {
    // SAFETY: as `execute`.
    unsafe {
        let out = (*node).ss.ss_ScanTupleSlot;
        let locks = &*(*node.cast::<State>()).locks;
        'rows: loop {
            slot::clear(out);
            let source = run::exec_proc_node((*node).ss.ps.lefttree);
            if source.is_null() || slot::is_empty(source) {
                return Ok(out);
            }
            for lock in locks {
                if !locked(lock, source)? {
                    continue 'rows;
                }
            }
            slot::copy(out, source);
            return Ok(out);
        }
    }
}

/// Locks the row; `false` if it is to be skipped.
unsafe fn locked(lock: &Lock, source: *mut pg_sys::TupleTableSlot) -> Result<bool> {
    // SAFETY: the junk columns are within the row.
    unsafe {
        let Some(ctid) = slot::attribute(source, lock.ctid_column) else { return Ok(true) };
        let ctid = tuple::ctid_bytes(ctid);
        let key = slot::attribute(source, lock.key_column);
        let map = catalog_cache::cluster()
            .ok_or_else(|| Error::new(sqlstate::UNDEFINED_OBJECT, "extension \"sharding\" is gone"))?;
        let Some((group, _)) = map.distribution(lock.table) else {
            return Err(Error::new(sqlstate::WRONG_OBJECT_TYPE, "table is not distributed any more"));
        };
        let shard = KeyHasher::new(lock.table)?.shard(group, key);
        let name = map.shard_name(lock.table, shard).unwrap_or_default();
        let sql = format!("SELECT FROM {name} WHERE ctid = $1 {}", lock.clause);
        let params = [Param { oid: pg_sys::TIDOID.to_u32(), binary: true, value: Some(ctid.to_vec()) }];
        let statement = Statement { sql: &sql, params: &params, result_binary: &[], keep: None, report_bound: false };
        let mut stream = Stream::open(group.node_of(shard), &statement, Access::Hold, Fetch::All)?;
        let mut found = false;
        while stream.next()?.is_some() {
            found = true;
        }
        if !found && !lock.skips {
            return Err(Error::new(
                sqlstate::SERIALIZATION_FAILURE,
                "could not serialize access due to concurrent update",
            )
            .hint("Repeat the transaction."));
        }
        Ok(found)
    }
}

unsafe extern "C-unwind" fn end(node: *mut pg_sys::CustomScanState) {
    guarded(|| {
        // SAFETY: the child was initialized by `begin`.
        unsafe {
            let child = (*node).ss.ps.lefttree;
            boundary(|| pg_sys::ExecEndNode(child));
        }
        Ok(())
    });
}

unsafe extern "C-unwind" fn rescan(node: *mut pg_sys::CustomScanState) {
    guarded(|| {
        // SAFETY: as `end`.
        unsafe {
            let child = (*node).ss.ps.lefttree;
            if (*child).chgParam.is_null() {
                boundary(|| pg_sys::ExecReScan(child));
            }
        }
        Ok(())
    });
}
