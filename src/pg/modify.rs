//! Writes that the router cannot serve: our node in the place of `ModifyTable`.
//!
//! Postgres plans the statement as it would for any table: the source rows, the new values, the
//! RETURNING list, MERGE actions, check options. We take the finished `ModifyTable` apart and run it
//! ourselves ([`run`]): each source row becomes a change of one shard, changes
//! go to the nodes in batches, and what the nodes return is what RETURNING and check options see.
//!
//! An ON CONFLICT clause runs on the nodes, printed by Postgres. Its text is prepared before
//! planning ([`prepare_conflict`]) and found again by a junk column that numbers it.

pub mod apply;
pub mod begin;
pub mod compat;
pub mod copy;
pub mod returning;
pub mod run;

use crate::catalog::ClusterMap;
use crate::error::{Error, Result};
use crate::pg::guard::guarded;
use crate::pg::modify::run::Modify;
use crate::pg::params::{Parameters, Volatile};
use crate::pg::shippable::{self, Vocabulary};
use crate::pg::tree::{self, Node, items, list_of};
use crate::pg::{explain, lock_rows, print, tuple};
use pgrx::pg_sys;
use serde::{Deserialize, Serialize};
use std::ffi::CStr;
use std::ptr;

/// The junk column that numbers the ON CONFLICT clause of an INSERT.
pub const CONFLICT_COLUMN: &CStr = c"sharding_conflict";

/// An ON CONFLICT clause as the nodes will see it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConflictClause {
    /// `INSERT INTO table AS alias (columns)`, up to the values.
    pub head: String,
    /// `ON CONFLICT ...`; uses the parameters `$1..$n` of `parameters`.
    pub tail: String,
    /// The name that the target has in `tail`.
    pub alias: String,
    /// How many parameters `tail` has, and where they start among all clauses' expressions.
    pub parameters: usize,
    pub first: usize,
    pub updates: bool,
    /// Why the clause cannot run on a node.
    pub refused: Option<String>,
}

/// Prints the ON CONFLICT clause of an INSERT; its parameters are appended to `expressions`.
pub unsafe fn prepare_conflict(query: *mut pg_sys::Query, expressions: &mut Vec<*mut Node>) -> Result<ConflictClause> {
    // SAFETY: the query is analyzed; it is copied before anything changes.
    unsafe {
        let copy = tree::copy(query);
        let target = (*copy).resultRelation as u32;
        let rte = tree::entry((*copy).rtable, target);
        let relid = (*rte).relid;
        let mut vocabulary = Vocabulary::default();
        vocabulary.add_table(relid);
        let mut parameters = Parameters::default();
        (*copy).onConflict = parameters
            .extract((*copy).onConflict.cast(), &vocabulary, Volatile::PerRow)
            .cast::<pg_sys::OnConflictExpr>();
        let refused = shippable::why_not((*copy).onConflict.cast(), &vocabulary)
            .or_else(|| has_sublink((*copy).onConflict.cast()).then(|| "it has a subquery".to_string()));
        let updates = (*(*copy).onConflict).action == pg_sys::OnConflictAction::ONCONFLICT_UPDATE;
        let first = expressions.len();
        let own = parameters.expressions.len();
        expressions.extend(&parameters.expressions);
        let mut clause = ConflictClause {
            head: String::new(),
            tail: String::new(),
            alias: String::new(),
            parameters: own,
            first,
            updates,
            refused,
        };
        if clause.refused.is_some() {
            return Ok(clause);
        }
        // A template with one row of parameters: what stands before and after it is what we need.
        let columns: Vec<tuple::Column> = tuple::columns(relid).into_iter().filter(|c| !c.generated).collect();
        (*copy).targetList = list_of(columns.iter().map(|c| {
            let param = tree::make::<pg_sys::Param>(pg_sys::NodeTag::T_Param);
            (*param).paramkind = pg_sys::ParamKind::PARAM_EXTERN;
            (*param).paramid = TEMPLATE_PARAMETER;
            (*param).paramtype = c.type_oid;
            (*param).paramtypmod = c.typmod;
            (*param).location = -1;
            let name = std::ffi::CString::new(c.name.as_str()).unwrap_or_default();
            pg_sys::makeTargetEntry(param.cast(), c.attno, pg_sys::pstrdup(name.as_ptr()), false)
        }));
        for source in items::<pg_sys::RangeTblEntry>((*copy).rtable) {
            if (*source).rtekind != pg_sys::RTEKind::RTE_RELATION {
                (*source).rtekind = pg_sys::RTEKind::RTE_RESULT;
            }
        }
        (*(*copy).jointree).fromlist = ptr::null_mut();
        (*(*copy).jointree).quals = ptr::null_mut();
        (*copy).returningList = ptr::null_mut();
        (*copy).cteList = ptr::null_mut();
        (*copy).withCheckOptions = ptr::null_mut();
        (*copy).override_ = pg_sys::OverridingKind::OVERRIDING_NOT_SET;
        (*copy).hasSubLinks = false;
        if (*rte).alias.is_null() {
            (*rte).alias = pg_sys::makeAlias(c"sharding_target".as_ptr(), ptr::null_mut());
            (*(*rte).eref).aliasname = pg_sys::pstrdup(c"sharding_target".as_ptr());
        }
        clause.alias = crate::catalog::quote_identifier(&CStr::from_ptr((*(*rte).alias).aliasname).to_string_lossy());
        let text = print::query_text(copy);
        let row = format!("VALUES ({})", vec![format!("${TEMPLATE_PARAMETER}"); columns.len()].join(", "));
        let Some(at) = text.find(&row) else {
            return Err(Error::unsupported("this ON CONFLICT clause cannot be sent to the nodes").detail(text));
        };
        clause.head = text[..at].trim().to_string();
        clause.tail = text[at + row.len()..].trim().to_string();
        Ok(clause)
    }
}

/// A parameter number that no statement reaches.
const TEMPLATE_PARAMETER: i32 = 60_000;

unsafe fn has_sublink(node: *mut Node) -> bool {
    // SAFETY: a read-only walk.
    unsafe {
        tree::walk(
            node,
            |n| {
                if (*n).type_ == pg_sys::NodeTag::T_SubLink { tree::Visit::Stop } else { tree::Visit::Deeper }
            },
        )
    }
}

static METHODS: PlanMethods = PlanMethods(pg_sys::CustomScanMethods {
    CustomName: c"Sharding Modify".as_ptr(),
    CreateCustomScanState: Some(create_state),
});

static EXEC_METHODS: ExecMethods = ExecMethods(pg_sys::CustomExecMethods {
    CustomName: c"Sharding Modify".as_ptr(),
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
    ExplainCustomScan: Some(explain_modify),
});

struct PlanMethods(pg_sys::CustomScanMethods);
struct ExecMethods(pg_sys::CustomExecMethods);
// SAFETY: immutable, and a backend has one thread.
unsafe impl Sync for PlanMethods {}
unsafe impl Sync for ExecMethods {}

/// Called once from `_PG_init`.
pub fn install() {
    // SAFETY: the methods are static.
    unsafe { pg_sys::RegisterCustomScanMethods(&METHODS.0) }
}

/// Our node for a finished `ModifyTable` whose target is distributed.
pub unsafe fn replace(
    modify: *mut pg_sys::ModifyTable,
    clauses: &[ConflictClause],
    expressions: &[*mut Node],
) -> Result<*mut pg_sys::Plan> {
    // SAFETY: the plan was just made; the old node lives on in `custom_private`.
    unsafe {
        let scan = tree::make::<pg_sys::CustomScan>(pg_sys::NodeTag::T_CustomScan);
        (*scan).scan.plan = (*modify).plan;
        (*scan).scan.plan.type_ = pg_sys::NodeTag::T_CustomScan;
        (*scan).methods = &METHODS.0;
        let returning: *mut pg_sys::List =
            items::<pg_sys::List>((*modify).returningLists).first().copied().unwrap_or(ptr::null_mut());
        (*scan).custom_scan_tlist = returning;
        (*scan).scan.plan.targetlist = lock_rows::index_vars(returning);
        let kept = tree::make::<pg_sys::ModifyTable>(pg_sys::NodeTag::T_ModifyTable);
        *kept = *modify;
        (*kept).plan.lefttree = ptr::null_mut();
        (*kept).plan.initPlan = ptr::null_mut();
        let clauses = postcard::to_stdvec(clauses)
            .map_err(|e| Error::new(crate::error::sqlstate::INTERNAL, format!("cannot encode a plan: {e}")))?;
        (*scan).custom_private = list_of([kept.cast::<Node>(), tree::bytes_const(&clauses).cast()]);
        (*scan).custom_exprs =
            list_of(expressions.iter().map(|e| pg_sys::expression_planner((*e).cast()).cast::<Node>()));
        Ok(scan.cast())
    }
}

/// The `ModifyTable` that a node of ours stands for, and the ON CONFLICT clauses of its statement.
pub unsafe fn parts(scan: *mut pg_sys::CustomScan) -> Result<(*mut pg_sys::ModifyTable, Vec<ConflictClause>)> {
    // SAFETY: made by `replace`.
    unsafe {
        let private = items::<Node>((*scan).custom_private);
        let clauses = postcard::from_bytes(tree::const_bytes(private[1].cast()))
            .map_err(|e| Error::new(crate::error::sqlstate::INTERNAL, format!("cannot decode a plan: {e}")))?;
        Ok((private[0].cast(), clauses))
    }
}

/// The executor state: Postgres's part first.
#[repr(C)]
struct State {
    base: pg_sys::CustomScanState,
    modify: *mut Modify,
}

unsafe extern "C-unwind" fn create_state(_scan: *mut pg_sys::CustomScan) -> *mut pg_sys::Node {
    guarded(|| {
        // SAFETY: zeroed memory is a valid State.
        unsafe {
            let state = tree::make::<State>(pg_sys::NodeTag::T_CustomScanState);
            (*state).base.methods = &EXEC_METHODS.0;
            crate::pg::compat::virtual_slots(&raw mut (*state).base);
            Ok(state.cast())
        }
    })
}

unsafe extern "C-unwind" fn begin(node: *mut pg_sys::CustomScanState, estate: *mut pg_sys::EState, eflags: i32) {
    guarded(|| {
        // SAFETY: the state lives until the query's memory is freed, which drops it.
        unsafe {
            let modify = Modify::begin(node, estate, eflags)?;
            let modify = pgrx::PgMemoryContexts::For((*estate).es_query_cxt).leak_and_drop_on_delete(modify);
            (*node.cast::<State>()).modify = modify;
        }
        Ok(())
    });
}

unsafe extern "C-unwind" fn execute(node: *mut pg_sys::CustomScanState) -> *mut pg_sys::TupleTableSlot {
    // SAFETY: set by `begin`.
    guarded(|| unsafe { (*(*node.cast::<State>()).modify).next() })
}

unsafe extern "C-unwind" fn end(node: *mut pg_sys::CustomScanState) {
    guarded(|| {
        // SAFETY: set by `begin`, unless that failed.
        unsafe {
            if !(*node.cast::<State>()).modify.is_null() {
                (*(*node.cast::<State>()).modify).end();
            }
        }
        Ok(())
    });
}

unsafe extern "C-unwind" fn rescan(_node: *mut pg_sys::CustomScanState) {
    guarded(|| Err::<(), _>(Error::unsupported("a write cannot be run again within one statement")));
}

unsafe extern "C-unwind" fn explain_modify(
    node: *mut pg_sys::CustomScanState,
    _ancestors: *mut pg_sys::List,
    es: *mut pg_sys::ExplainState,
) {
    guarded(|| {
        // SAFETY: set by `begin`.
        unsafe { (*(*node.cast::<State>()).modify).explain(es) };
        Ok(())
    });
}

/// Names the nodes of a table, for EXPLAIN.
pub unsafe fn explain_target(
    map: &ClusterMap,
    table: crate::catalog::TableId,
    operation: &str,
    es: *mut pg_sys::ExplainState,
) {
    // SAFETY: EXPLAIN's own state.
    unsafe {
        explain::text(es, c"Operation", operation);
        explain::text(es, c"Distributed Table", &tuple::qualified_name(pg_sys::Oid::from(table.0)).replace('"', ""));
        if let Some((group, _)) = map.distribution(table) {
            let nodes: Vec<&str> = group.nodes().into_iter().map(|n| map.node_name(n)).collect();
            explain::text(es, c"Nodes", &nodes.join(", "));
        }
    }
}
