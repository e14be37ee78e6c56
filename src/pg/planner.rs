//! `planner_hook`: which tier serves a query, cheapest first.
//!
//! 1. No sharded table: the next planner, after a look at the range table.
//! 2. The router ([`route`]): the whole statement on one node (or, for a plain UPDATE or DELETE, the
//!    same statement on every node of the table).
//! 3. Pushdown ([`pushdown`]): what can be split over the nodes is a subquery that they run; Postgres plans
//!    what is above.
//! 4. The fallback: Postgres plans, distributed tables being foreign tables to it
//!    ([`relation_info`]); then [`finish`] puts our nodes in place of those that touch rows.

use crate::catalog::{ClusterMap, TableId};
use crate::error::Result;
use crate::pg::guard::{boundary, guarded};
use crate::pg::gucs::{self, When};
use crate::pg::pushdown::Shipping;
use crate::pg::tree::{self, Visit, each, items};
use crate::pg::{catalog_cache, compat, finish, hooks, pushdown, route, scan};
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::ffi::{c_char, c_int};

/// What callbacks need to know of the statement being planned.
struct Planning {
    written: Vec<TableId>,
    reads_only: bool,
    reason: Option<String>,
    not_pushed: Option<String>,
}

thread_local! {
    /// Innermost last: constant folding may plan other statements meanwhile.
    static PLANNING: RefCell<Vec<Planning>> = const { RefCell::new(Vec::new()) };
}

thread_local! {
    /// Whether the planner has met a distributed table since this was last lowered.
    static SEEN: Cell<bool> = const { Cell::new(false) };
}

/// Marks a range table entry that named its table with ONLY: there is nothing in it.
const RELKIND_ONLY: c_char = b'O' as c_char;

/// Whether the statement being planned writes to this table.
pub fn writes(table: TableId) -> bool {
    PLANNING.with(|p| p.borrow().last().is_some_and(|p| p.written.contains(&table)))
}

/// Whether the statement being planned does nothing but read.
pub fn reads_only() -> bool {
    PLANNING.with(|p| p.borrow().last().is_some_and(|p| p.reads_only))
}

/// Why the router did not serve the statement being planned.
pub fn fallback_reason() -> Option<String> {
    PLANNING.with(|p| p.borrow().last().and_then(|p| p.reason.clone()))
}

/// Why not all of the statement being planned runs on the nodes.
pub fn not_pushed_reason() -> Option<String> {
    PLANNING.with(|p| p.borrow().last().and_then(|p| p.not_pushed.clone()))
}

/// What the walk over a query found.
#[derive(Default)]
pub struct Tables {
    /// Occurrences of tables split over nodes.
    pub distributed: Vec<TableId>,
    /// Occurrences of reference tables.
    pub reference: Vec<TableId>,
    /// A relation that only this server has.
    pub local: Option<pg_sys::Oid>,
    /// Distributed tables that the statement, or a part of it, writes.
    pub written: Vec<TableId>,
    pub modifies: bool,
    pub locks: bool,
    /// Row security or a security barrier stands between the user and some table.
    pub secured: bool,
    pub only: bool,
}

/// Reads all range tables of a query.
pub unsafe fn tables(query: *mut pg_sys::Query, map: &ClusterMap) -> Tables {
    let mut found = Tables::default();
    // SAFETY: a read-only walk over an analyzed query.
    unsafe {
        tree::walk(query.cast(), |n| {
            match (*n).type_ {
                pg_sys::NodeTag::T_Query => {
                    let q = n.cast::<pg_sys::Query>();
                    if (*q).commandType != pg_sys::CmdType::CMD_SELECT {
                        found.modifies = true;
                        if (*q).resultRelation > 0 {
                            let rte = tree::entry((*q).rtable, (*q).resultRelation as u32);
                            let table = TableId((*rte).relid.to_u32());
                            if map.distribution(table).is_some() {
                                found.written.push(table);
                            }
                        }
                    }
                    found.locks |= !(*q).rowMarks.is_null();
                    found.secured |= !(*q).withCheckOptions.is_null();
                }
                pg_sys::NodeTag::T_RangeTblEntry => {
                    let rte = n.cast::<pg_sys::RangeTblEntry>();
                    found.secured |= !(*rte).securityQuals.is_null() || (*rte).security_barrier;
                    if (*rte).rtekind == pg_sys::RTEKind::RTE_RELATION
                        && (*rte).relkind as u8 != b'c'
                        && (*rte).relkind as u8 != b'v'
                    {
                        let table = TableId((*rte).relid.to_u32());
                        match map.table(table) {
                            Some(t) if t.is_distributed() => {
                                found.only |= !(*rte).inh && !found.written.contains(&table);
                                found.distributed.push(table);
                            }
                            Some(_) => found.reference.push(table),
                            None => found.local = Some((*rte).relid),
                        }
                    }
                    if (*rte).rtekind == pg_sys::RTEKind::RTE_NAMEDTUPLESTORE {
                        found.local = Some((*rte).relid);
                    }
                }
                _ => {}
            }
            Visit::Deeper
        });
    }
    found
}

/// What a look at a query's range tables says.
enum Look {
    Concerned,
    Unconcerned,
    /// There are subqueries in expressions: only a walk can tell.
    Unclear,
}

/// Whether a sharded table is in the query. Raises no ERROR: a walk, which a deep expression ends, is for others.
unsafe fn look(query: *mut pg_sys::Query, map: &ClusterMap) -> Look {
    // SAFETY: reads an analyzed query.
    unsafe {
        let entries = each::<pg_sys::RangeTblEntry>((*query).rtable).map(|rte| match (*rte).rtekind {
            pg_sys::RTEKind::RTE_RELATION if map.distribution(TableId((*rte).relid.to_u32())).is_some() => {
                Look::Concerned
            }
            pg_sys::RTEKind::RTE_SUBQUERY => look((*rte).subquery, map),
            _ => Look::Unconcerned,
        });
        let ctes = each::<pg_sys::CommonTableExpr>((*query).cteList).map(|cte| {
            crate::node_as!((*cte).ctequery, T_Query).map_or(Look::Unconcerned, |query| look(query.cast(), map))
        });
        let mut unclear = (*query).hasSubLinks;
        for part in entries.chain(ctes) {
            match part {
                Look::Concerned => return Look::Concerned,
                Look::Unclear => unclear = true,
                Look::Unconcerned => {}
            }
        }
        if unclear { Look::Unclear } else { Look::Unconcerned }
    }
}

/// The hook.
pub unsafe extern "C-unwind" fn planner(
    query: *mut pg_sys::Query,
    text: *const c_char,
    options: c_int,
    params: pg_sys::ParamListInfo,
) -> *mut pg_sys::PlannedStmt {
    // SAFETY: called by Postgres with an analyzed and rewritten query.
    unsafe {
        // Whoever uses no sharded table pays for this look and nothing else.
        let quick =
            catalog_cache::with_loaded(|map| if map.tables.is_empty() { Look::Unconcerned } else { look(query, map) });
        let concerned = match quick {
            Some(Look::Concerned) => true,
            Some(Look::Unconcerned) => false,
            Some(Look::Unclear) | None => guarded(|| {
                Ok(catalog_cache::cluster()
                    .is_some_and(|map| !map.tables.is_empty() && !tables(query, &map).distributed.is_empty()))
            }),
        };
        if !concerned {
            // A function that Postgres inlines may still bring a distributed table with it.
            let outer = SEEN.replace(false);
            let planned = hooks::next_planner(query, text, options, params);
            if SEEN.replace(outer) {
                guarded(|| match catalog_cache::cluster() {
                    Some(map) => finish::finish(planned, &map, &finish::Conflicts::default()),
                    None => Ok(()),
                });
            }
            return planned;
        }
        guarded(|| match catalog_cache::cluster() {
            Some(map) => plan(query, text, options, params, &map),
            None => Ok(boundary(|| hooks::next_planner(query, text, options, params))),
        })
    }
}

fn begin(planning: Planning) -> Planned {
    PLANNING.with(|p| p.borrow_mut().push(planning));
    Planned
}

struct Planned;

impl Drop for Planned {
    fn drop(&mut self) {
        PLANNING.with(|p| p.borrow_mut().pop());
    }
}

unsafe fn plan(
    query: *mut pg_sys::Query,
    text: *const c_char,
    options: c_int,
    params: pg_sys::ParamListInfo,
    map: &ClusterMap,
) -> Result<*mut pg_sys::PlannedStmt> {
    // SAFETY: as above.
    unsafe {
        let tables = tables(query, map);
        let reason = match route::plan(query, map, &tables)? {
            Ok(planned) => {
                if options & pg_sys::CURSOR_OPT_SCROLL as c_int != 0 {
                    // The scan cannot run backwards.
                    (*planned).planTree = pg_sys::materialize_finished_plan((*planned).planTree);
                }
                return Ok(planned);
            }
            Err(reason) => reason,
        };
        let statement = Statement { query, text, options, params, map, tables: &tables, reason: &reason };
        let ship = gucs::ship_joins();
        if ship == When::Off {
            return Ok(statement.plan(Shipping::Forbidden)?.planned);
        }
        let shipped = statement.plan(Shipping::Allowed)?;
        if ship == When::Always || !shipped.is_choice {
            return Ok(shipped.planned);
        }
        let joined_here = statement.plan(Shipping::Forbidden)?;
        Ok(if joined_here.cost() < shipped.cost() { joined_here } else { shipped }.planned)
    }
}

/// A statement that the router leaves to the other tiers.
struct Statement<'a> {
    query: *mut pg_sys::Query,
    text: *const c_char,
    options: c_int,
    params: pg_sys::ParamListInfo,
    map: &'a ClusterMap,
    tables: &'a Tables,
    /// Why it is not routed.
    reason: &'a str,
}

/// One plan of a statement.
struct Candidate {
    planned: *mut pg_sys::PlannedStmt,
    is_choice: bool,
}

impl Candidate {
    unsafe fn cost(&self) -> f64 {
        // SAFETY: a finished plan.
        unsafe { (*(*self.planned).planTree).total_cost }
    }
}

impl Statement<'_> {
    unsafe fn plan(&self, shipping: Shipping) -> Result<Candidate> {
        // SAFETY: as `plan`. What ships is a copy, so that the statement can be planned once more.
        unsafe {
            let tables = self.tables;
            let rewritten = pushdown::rewrite(self.query, self.map, tables, shipping);
            let query = rewritten.query;
            let _planned = begin(Planning {
                written: tables.written.clone(),
                reads_only: !tables.modifies
                    && !tables.locks
                    && !pg_sys::contain_volatile_functions_not_nextval(query.cast()),
                reason: Some(self.reason.to_string()),
                not_pushed: rewritten.reason.clone(),
            });
            let conflicts = finish::prepare(query, self.map)?;
            let planned = boundary(|| hooks::next_planner(query, self.text, self.options, self.params));
            finish::finish(planned, self.map, &conflicts)?;
            if self.options as u32 & pg_sys::CURSOR_OPT_FAST_PLAN != 0
                && self.options as u32 & pg_sys::CURSOR_OPT_NO_SCROLL == 0
                && merges_at_the_end((*planned).planTree)
            {
                // A cursor over a Sort may move backward without being told so.
                (*planned).planTree = pg_sys::materialize_finished_plan((*planned).planTree);
            }
            Ok(Candidate { planned, is_choice: rewritten.is_choice })
        }
    }
}

/// How much a query returns, as Postgres's planner estimates it.
pub struct Estimate {
    pub bytes: f64,
}

/// Plans a query, which it may change, for the sake of the estimate.
pub unsafe fn estimate(query: *mut pg_sys::Query) -> Estimate {
    let _planned = begin(Planning { written: Vec::new(), reads_only: true, reason: None, not_pushed: None });
    // SAFETY: `query` is analyzed, rewritten and locked.
    unsafe {
        let planned = boundary(|| pg_sys::standard_planner(query, c"".as_ptr(), 0, std::ptr::null_mut()));
        let plan = (*planned).planTree;
        Estimate { bytes: (*plan).plan_rows * f64::from((*plan).plan_width.max(4)) }
    }
}

/// Whether a plan's rows are those of a merge, maybe fewer of them.
unsafe fn merges_at_the_end(plan: *mut pg_sys::Plan) -> bool {
    // SAFETY: reads a finished plan.
    unsafe {
        let plan = plan.cast::<tree::Node>();
        match tree::tag(plan) {
            Some(pg_sys::NodeTag::T_Limit) => merges_at_the_end((*plan.cast::<pg_sys::Plan>()).lefttree),
            Some(pg_sys::NodeTag::T_SubqueryScan) => merges_at_the_end((*plan.cast::<pg_sys::SubqueryScan>()).subplan),
            Some(pg_sys::NodeTag::T_ForeignScan) => {
                let scan = plan.cast::<pg_sys::ForeignScan>();
                scan::is_ours(scan) && scan::plan_of(scan).is_ok_and(|(remote, _)| !remote.merge.is_empty())
            }
            _ => false,
        }
    }
}

/// The row lock that a scan of `rti` should take itself. It does so when it is alone in its query,
/// without LIMIT and wait policy: then exactly the rows that match its filters are locked.
pub unsafe fn scan_lock(
    root: *mut pg_sys::PlannerInfo,
    rti: u32,
) -> Option<(pg_sys::LockClauseStrength::Type, pg_sys::LockWaitPolicy::Type)> {
    // SAFETY: reads the planner's structures; marks belong to this planner run.
    unsafe {
        let mark = items::<pg_sys::PlanRowMark>((*root).rowMarks).into_iter().find(|m| (**m).rti == rti)?;
        if (*mark).strength == pg_sys::LockClauseStrength::LCS_NONE {
            return None;
        }
        if finish::locks_above(&*(*root).parse) {
            return None;
        }
        // The executor leaves "parent" marks alone: the rows are locked already.
        (*mark).isParent = true;
        Some(((*mark).strength, (*mark).waitPolicy))
    }
}

/// `get_relation_info_hook`: a distributed table is a foreign table to the planner.
pub unsafe extern "C-unwind" fn relation_info(
    root: *mut pg_sys::PlannerInfo,
    relid: pg_sys::Oid,
    inhparent: bool,
    rel: *mut pg_sys::RelOptInfo,
) {
    // SAFETY: called by the planner while it builds the relation; nothing is owned here.
    unsafe {
        hooks::next_relation_info(root, relid, inhparent, rel);
        if catalog_cache::with_loaded(|map| map.distribution(TableId(relid.to_u32())).is_none()) == Some(true) {
            return;
        }
    }
    guarded(|| {
        // SAFETY: as above.
        unsafe {
            let Some(map) = catalog_cache::cluster() else { return Ok(()) };
            let Some((group, _)) = map.distribution(TableId(relid.to_u32())) else { return Ok(()) };
            let rte = compat::planner_rte(root, (*rel).relid);
            if (*rte).relkind == RELKIND_ONLY {
                (*rte).relkind = pg_sys::RELKIND_PARTITIONED_TABLE as c_char;
                return Ok(());
            }
            SEEN.set(true);
            (*rte).relkind = pg_sys::RELKIND_FOREIGN_TABLE as c_char;
            (*rte).inh = false;
            (*rel).serverid = pg_sys::Oid::from(group.shards[0].0);
            (*rel).fdwroutine = boundary(|| pg_sys::GetFdwRoutineByServerId((*rel).serverid));
            (*rel).indexlist = std::ptr::null_mut();
            (*rel).part_scheme = std::ptr::null_mut();
            (*rel).boundinfo = std::ptr::null_mut();
            (*rel).partexprs = std::ptr::null_mut();
            (*rel).nullable_partexprs = std::ptr::null_mut();
            (*rel).nparts = -1;
        }
        Ok(())
    });
}

/// Marks the entries that a user named with ONLY.
pub unsafe fn mark_only(rte: *mut pg_sys::RangeTblEntry) {
    // SAFETY: the query tree is ours to change.
    unsafe { (*rte).relkind = RELKIND_ONLY }
}

/// `create_upper_paths_hook`: a MERGE whose target is proven empty never asks our scan for a plan, which
/// is where the wrapper of its target is taken away ([`foreign_scan`](crate::pg::foreign_scan)).
pub unsafe extern "C-unwind" fn upper_paths(
    root: *mut pg_sys::PlannerInfo,
    stage: pg_sys::UpperRelationKind::Type,
    input: *mut pg_sys::RelOptInfo,
    output: *mut pg_sys::RelOptInfo,
    extra: *mut std::ffi::c_void,
) {
    // SAFETY: called by the planner when all paths of the join tree are made; nothing is owned here.
    let is_merge = unsafe {
        hooks::next_upper_paths(root, stage, input, output, extra);
        let is_merge = (*(*root).parse).commandType == pg_sys::CmdType::CMD_MERGE;
        if stage != pg_sys::UpperRelationKind::UPPERREL_FINAL || !is_merge && !pushdown::is_marked((*root).parse) {
            return;
        }
        is_merge
    };
    guarded(|| {
        // SAFETY: as above.
        unsafe {
            pushdown::replace_paths(root, output);
            if !is_merge {
                return Ok(());
            }
            let target = (*(*root).parse).resultRelation as usize;
            if target >= (*root).simple_rel_array_size as usize {
                return Ok(());
            }
            let rel = *(*root).simple_rel_array.add(target);
            if !rel.is_null() && (is_dummy(rel) || is_dummy(input)) {
                (*rel).fdwroutine = std::ptr::null_mut();
            }
        }
        Ok(())
    });
}

/// `IS_DUMMY_REL`: proven to be empty.
unsafe fn is_dummy(rel: *mut pg_sys::RelOptInfo) -> bool {
    // SAFETY: reads the relation's paths.
    unsafe {
        let Some(mut path) = items::<pg_sys::Path>((*rel).pathlist).first().copied() else { return false };
        while (*path).type_ == pg_sys::NodeTag::T_ProjectionPath || (*path).type_ == pg_sys::NodeTag::T_ProjectSetPath {
            path = (*path.cast::<pg_sys::ProjectionPath>()).subpath;
        }
        (*path).type_ == pg_sys::NodeTag::T_AppendPath && (*path.cast::<pg_sys::AppendPath>()).subpaths.is_null()
    }
}
