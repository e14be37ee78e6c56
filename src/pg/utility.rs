//! Utility statements on the cluster's tables: `ProcessUtility_hook`.
//!
//! A statement runs here first, as Postgres runs it, and then on the nodes, in the one transaction:
//! `ALTER TABLE orders ADD note text` changes the coordinator's parent, then each node's. Each kind of
//! statement has a file that looks at it before it runs and returns what is left to do afterwards
//! ([`After`]); drops by cascade and foreign keys are seen by [`observe`], whatever the statement.
//! COPY and VACUUM of a distributed table are done here altogether ([`copy_from`], [`vacuum`]).
//!
//! A statement that cannot concern the cluster leaves by the first test: its tag.

pub mod add_column;
pub mod alter_table;
pub mod column_statistics;
pub mod compat;
pub mod constraint;
pub mod copy_forward;
pub mod copy_from;
pub mod copy_keys;
pub mod copy_remote;
pub mod copy_source;
pub mod copy_to;
pub mod create;
pub mod database;
pub mod drop;
pub mod grant;
pub mod index;
pub mod local_only;
pub mod names;
pub mod nodes;
pub mod objects;
pub mod observe;
pub mod owner_sql;
pub mod raw;
pub mod relation;
pub mod storage_parameters;
pub mod tree;
pub mod trigger;
pub mod truncate;
pub mod vacuum;

use crate::catalog::ClusterMap;
use crate::ddl::text::Words;
use crate::error::Result;
use crate::pg::guard::{boundary, guarded};
use crate::pg::{alone, catalog_cache, consistent, hooks};
use observe::Seen;
use pgrx::pg_sys::{self, NodeTag};
use std::ffi::c_char;
use std::rc::Rc;

/// What is left to do once a statement has run here.
pub type After = Box<dyn FnOnce(&Seen) -> Result<()>>;

/// A statement that does nothing more than Postgres's own part.
pub type Decision = Result<Option<After>>;

/// The arguments of one call of the hook.
#[derive(Clone, Copy)]
pub struct Call {
    pub statement: *mut pg_sys::PlannedStmt,
    pub query: *const c_char,
    read_only: bool,
    pub context: pg_sys::ProcessUtilityContext::Type,
    params: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    dest: *mut pg_sys::DestReceiver,
    pub completion: *mut pg_sys::QueryCompletion,
}

static mut PREV_PROCESS_UTILITY: pg_sys::ProcessUtility_hook_type = None;

/// Hooks in; called once from `_PG_init`.
pub fn install() {
    // SAFETY: one thread, at load.
    unsafe {
        PREV_PROCESS_UTILITY = pg_sys::ProcessUtility_hook;
        pg_sys::ProcessUtility_hook = Some(process_utility);
    }
}

unsafe extern "C-unwind" fn process_utility(
    statement: *mut pg_sys::PlannedStmt,
    query: *const c_char,
    read_only: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    params: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    dest: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    let call = Call { statement, query, read_only, context, params, environment, dest, completion };
    // SAFETY: Postgres passes valid pointers; nothing in this frame needs dropping.
    unsafe {
        let part_of_another = context == pg_sys::ProcessUtilityContext::PROCESS_UTILITY_SUBCOMMAND;
        let tag = tree::tag((*statement).utilityStmt);
        if context == pg_sys::ProcessUtilityContext::PROCESS_UTILITY_TOPLEVEL {
            alone::utility_begins((*statement).utilityStmt);
            if consistent::has_own_snapshot() {
                guarded(consistent::previous_is_over);
            }
        }
        if !matches!(tag, pg_sys::NodeTag::T_TransactionStmt | pg_sys::NodeTag::T_VariableSetStmt) {
            hooks::is_first_statement();
        }
        let ours = !part_of_another && may_concern(tag) && !local_only::active();
        let wants_a_database = database::may_concern(tag);
        if !ours && !wants_a_database {
            call.pass_on();
        } else {
            guarded(|| {
                let _vacant = if wants_a_database { database::vacated(&call) } else { None };
                if ours {
                    return handle(&call);
                }
                call.run();
                Ok(())
            })
        }
    }
}

impl Call {
    /// Postgres's own part, and that of any other extension; an ERROR jumps.
    ///
    /// # Safety
    /// The arguments are those of the hook, or a copy of them that lives as long.
    unsafe fn pass_on(&self) {
        // SAFETY: as the caller promises.
        unsafe {
            let next = PREV_PROCESS_UTILITY.unwrap_or(raw::standard_ProcessUtility);
            next(
                self.statement,
                self.query,
                self.read_only,
                self.context,
                self.params,
                self.environment,
                self.dest,
                self.completion,
            )
        }
    }

    /// `Call::pass_on` for callers with something to drop.
    pub fn run(&self) {
        // SAFETY: the closure owns nothing.
        unsafe { boundary(|| self.pass_on()) }
    }

    /// The same call for another statement in its place.
    pub fn instead(&self, utility: *mut pg_sys::Node) -> Call {
        // SAFETY: copies the planned statement; `utility` is a node in the current memory context.
        unsafe {
            let copy = pg_sys::copyObjectImpl(self.statement.cast()).cast::<pg_sys::PlannedStmt>();
            (*copy).utilityStmt = utility;
            Call { statement: copy, ..*self }
        }
    }

    pub fn node(&self) -> *mut pg_sys::Node {
        // SAFETY: the statement outlives the call.
        unsafe { (*self.statement).utilityStmt }
    }

    /// The statement in the words in which it was written.
    pub fn words(&self) -> Words {
        // SAFETY: the query string outlives the call.
        unsafe { Words::cut(&tree::text(self.query), (*self.statement).stmt_location, (*self.statement).stmt_len) }
    }

    /// Whether the client typed it (not a function or a block on the client's behalf).
    pub fn is_top_level(&self) -> bool {
        self.context == pg_sys::ProcessUtilityContext::PROCESS_UTILITY_TOPLEVEL
    }
}

/// Whether statements of this kind can concern the cluster's tables.
fn may_concern(tag: NodeTag) -> bool {
    use NodeTag::*;
    matches!(
        tag,
        T_AlterTableStmt
            | T_IndexStmt
            | T_DropStmt
            | T_RenameStmt
            | T_AlterObjectSchemaStmt
            | T_AlterOwnerStmt
            | T_CommentStmt
            | T_GrantStmt
            | T_CreateTrigStmt
            | T_CreatePolicyStmt
            | T_AlterPolicyStmt
            | T_RuleStmt
            | T_CreateStatsStmt
            | T_AlterStatsStmt
            | T_TruncateStmt
            | T_LockStmt
            | T_CopyStmt
            | T_VacuumStmt
            | T_ReindexStmt
            | T_ClusterStmt
            | T_CreateStmt
            | T_CreateSchemaStmt
            | T_DropOwnedStmt
            | T_ReassignOwnedStmt
            | T_AlterEnumStmt
            | T_AlterDomainStmt
            | T_AlterFunctionStmt
            | T_CreateFunctionStmt
            | T_ConstraintsSetStmt
    )
}

fn handle(call: &Call) -> Result<()> {
    let map = match catalog_cache::cluster() {
        Some(map) if !map.nodes.is_empty() || !map.tables.is_empty() => map,
        _ => {
            call.run();
            return Ok(());
        }
    };
    // SAFETY: the tag says what the node is.
    unsafe {
        match tree::tag(call.node()) {
            NodeTag::T_CopyStmt => {
                return if copy_from::run(call, &map)? { Ok(()) } else { copy_to::run(call, &map) };
            }
            NodeTag::T_AlterTableStmt if storage_parameters::run(call, &map)? => return Ok(()),
            NodeTag::T_VacuumStmt => return vacuum::run(call, &map),
            NodeTag::T_ReindexStmt => return vacuum::reindex(call, &map),
            NodeTag::T_ClusterStmt => return vacuum::cluster(call, &map),
            _ => {}
        }
    }
    let after = decide(call, &map)?;
    let seen = observe::during(&map, || call.run());
    if after.is_none() && seen.is_empty() {
        return Ok(());
    }
    // SAFETY: makes the statement's own catalog rows visible to the look-ups below.
    unsafe { pg_sys::CommandCounterIncrement() };
    constraint::check_foreign_keys(&map, &seen)?;
    if let Some(after) = after {
        after(&seen)?;
    }
    drop::propagate(call, &map, &seen)
}

fn decide(call: &Call, map: &Rc<ClusterMap>) -> Decision {
    use NodeTag::*;
    let node = call.node();
    // SAFETY: the tag says what the node is.
    unsafe {
        match tree::tag(node) {
            T_AlterTableStmt => alter_table::decide(call, map, node.cast()),
            T_IndexStmt => index::create(map, node.cast()),
            T_DropStmt => drop::decide(call, map, node.cast()),
            T_RenameStmt => names::rename(call, map, node.cast()),
            T_AlterObjectSchemaStmt => names::set_schema(call, map, node.cast()),
            T_AlterOwnerStmt => names::set_owner(call, map, node.cast()),
            T_ReassignOwnedStmt => names::reassign_owned(call, map, node.cast()),
            T_CommentStmt => names::comment(call, map, node.cast()),
            T_GrantStmt => grant::decide(map, node.cast()),
            T_CreateTrigStmt => trigger::create(call, map, node.cast()),
            T_CreatePolicyStmt => trigger::create_policy(call, map, node.cast()),
            T_AlterPolicyStmt => trigger::alter_policy(call, map, node.cast()),
            T_RuleStmt => trigger::rule(map, node.cast()),
            T_CreateStatsStmt => index::create_statistics(map, node.cast()),
            T_AlterStatsStmt => index::alter_statistics(call, map, node.cast()),
            T_TruncateStmt => truncate::truncate(map, node.cast()),
            T_LockStmt => truncate::lock(map, node.cast()),
            T_CreateStmt => create::table(map, node.cast()),
            T_AlterEnumStmt => objects::alter_enum(call, map, node.cast()),
            T_AlterDomainStmt => objects::alter_domain(call, map, node.cast()),
            T_AlterFunctionStmt => objects::alter_function(call, map, node.cast()),
            T_CreateFunctionStmt => objects::create_function(call, map, node.cast()),
            T_ConstraintsSetStmt => Ok(Some(nodes::set_constraints(call))),
            _ => Ok(None),
        }
    }
}
