//! The foreign scan's callbacks: how Postgres plans one distributed table, and how it runs the plan.
//!
//! Planning (tier 4): the filters that mean the same on a node, the columns that anybody needs, and
//! the row lock become one statement, printed by Postgres. Filters on the shard key choose the
//! nodes. Everything else happens above, in the plan that Postgres makes.

use crate::catalog::TableId;
use crate::error::{Error, Result};
use crate::node_as;
use crate::pg::guard::guarded;
use crate::pg::params::{Parameters, Volatile, is_list_of_constants};
use crate::pg::query_tree::{deterministic, strip_relabel};
use crate::pg::scan::{self, Scan};
use crate::pg::shippable::{self, Vocabulary};
use crate::pg::tree::{self, Node, Visit, items, list_of};
use crate::pg::{
    catalog_cache, compat, explain, hash, many_keys, planner, print, pushdown, readers, scan_paths, task_text, tuple,
};
use crate::plan::remote::{Effect, RemotePlan, Shipping, Source, Target, Tier};
use crate::plan::tasks::Size;
use crate::plan::tuning::Tuning;
use pgrx::pg_sys;
use std::ptr;

/// Fills in the callbacks of the foreign-data wrapper.
pub fn fill_routine(routine: &mut pg_sys::FdwRoutine) {
    routine.GetForeignRelSize = Some(relation_size);
    routine.GetForeignPaths = Some(paths);
    routine.GetForeignPlan = Some(plan);
    routine.BeginForeignScan = Some(begin);
    routine.IterateForeignScan = Some(iterate);
    routine.ReScanForeignScan = Some(rescan);
    routine.EndForeignScan = Some(end);
    routine.ExplainForeignScan = Some(explain_scan);
    routine.RecheckForeignScan = Some(recheck);
}

unsafe extern "C-unwind" fn relation_size(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    relid: pg_sys::Oid,
) {
    guarded(|| {
        // SAFETY: called by the planner with its own structures.
        unsafe {
            if catalog_cache::cluster().and_then(|m| m.distribution(TableId(relid.to_u32())).map(|_| ())).is_none() {
                return Err(Error::unsupported("foreign tables of \"sharding\" cannot be read")
                    .hint("Use sharding.distribute_table() on an ordinary table."));
            }
            let relation = pg_sys::RelationIdGetRelation(relid);
            let pages = (*(*relation).rd_rel).relpages;
            pg_sys::RelationClose(relation);
            (*rel).tuples = tuple::estimated_rows(relid);
            (*rel).pages = pages.max(1) as _;
            pg_sys::set_baserel_size_estimates(root, rel);
        }
        Ok(())
    });
}

unsafe extern "C-unwind" fn paths(root: *mut pg_sys::PlannerInfo, rel: *mut pg_sys::RelOptInfo, relid: pg_sys::Oid) {
    guarded(|| {
        // SAFETY: as above.
        unsafe { scan_paths::add(root, rel, TableId(relid.to_u32())) };
        Ok(())
    });
}

unsafe extern "C-unwind" fn plan(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    relid: pg_sys::Oid,
    path: *mut pg_sys::ForeignPath,
    tlist: *mut pg_sys::List,
    clauses: *mut pg_sys::List,
    outer_plan: *mut pg_sys::Plan,
) -> *mut pg_sys::ForeignScan {
    // SAFETY: as above.
    guarded(|| unsafe {
        if relid == pg_sys::InvalidOid {
            return pushdown::plan(root, path);
        }
        make_plan(root, rel, relid, path, tlist, clauses, outer_plan)
    })
}

/// The filters that go to the node, those that stay, and the parameters of the former.
struct Filters {
    remote: Vec<*mut Node>,
    local: Vec<*mut Node>,
    parameters: Parameters,
}

unsafe fn split_filters(
    rel: *mut pg_sys::RelOptInfo,
    clauses: *mut pg_sys::List,
    vocabulary: &Vocabulary,
    executor_params: bool,
) -> Filters {
    // SAFETY: clauses are RestrictInfos of this relation.
    unsafe {
        let mut filters = Filters { remote: vec![], local: vec![], parameters: Parameters::of_scan((*rel).relid) };
        for info in items::<pg_sys::RestrictInfo>(clauses) {
            if (*info).pseudoconstant {
                continue;
            }
            let clause = (*info).clause.cast::<Node>();
            let before = filters.parameters.expressions.len();
            let ok = pg_sys::restriction_is_securely_promotable(info, rel)
                && !pg_sys::contain_subplans(clause)
                && !pg_sys::contain_volatile_functions(clause)
                && (executor_params || !has_executor_param(clause));
            if ok {
                let sent = filters.parameters.extract(clause, vocabulary, Volatile::PerRow);
                if shippable::why_not(sent, vocabulary).is_none() {
                    filters.remote.push(sent);
                    continue;
                }
            }
            filters.parameters.expressions.truncate(before);
            filters.local.push(clause);
        }
        filters
    }
}

/// Whether an expression has a parameter that the executor sets while it runs.
pub unsafe fn has_executor_param(node: *mut Node) -> bool {
    // SAFETY: a read-only walk.
    unsafe {
        tree::walk(node, |n| {
            let exec = (*n).type_ == pg_sys::NodeTag::T_Param
                && (*n.cast::<pg_sys::Param>()).paramkind == pg_sys::ParamKind::PARAM_EXEC;
            if exec { Visit::Stop } else { Visit::Deeper }
        })
    }
}

unsafe fn make_plan(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    relid: pg_sys::Oid,
    path: *mut pg_sys::ForeignPath,
    tlist: *mut pg_sys::List,
    clauses: *mut pg_sys::List,
    outer_plan: *mut pg_sys::Plan,
) -> Result<*mut pg_sys::ForeignScan> {
    // SAFETY: all nodes are the planner's or made here in its memory context.
    unsafe {
        let table = TableId(relid.to_u32());
        let rti = (*rel).relid;
        let mut vocabulary = Vocabulary::default();
        vocabulary.add_table(relid);
        let is_written = planner::writes(table);
        let mut filters = split_filters(rel, clauses, &vocabulary, !is_written);

        // What anybody above needs of this relation.
        let mut needed: Vec<*mut pg_sys::Var> = Vec::new();
        let mut sources: Vec<*mut Node> = items((*(*rel).reltarget).exprs);
        sources.extend(items::<Node>((*(*path).path.pathtarget).exprs));
        sources.extend(filters.local.iter().copied());
        for expr in sources {
            let flags =
                pg_sys::PVC_RECURSE_PLACEHOLDERS | pg_sys::PVC_RECURSE_AGGREGATES | pg_sys::PVC_RECURSE_WINDOWFUNCS;
            for var in items::<pg_sys::Var>(pg_sys::pull_var_clause(expr, flags as i32)) {
                if (*var).varno as u32 == rti && !needed.iter().any(|v| (**v).varattno == (*var).varattno) {
                    needed.push(var);
                }
            }
        }

        // The remote SELECT list, and where each needed column comes from.
        let mut select: Vec<*mut Node> = Vec::new();
        let mut columns = Vec::new();
        for var in &needed {
            let attno = (**var).varattno;
            if attno == pg_sys::TableOidAttributeNumber as i16 {
                columns.push(Source::TableOid);
            } else if attno == 0 {
                columns.push(Source::WholeRow { first: select.len() });
                for c in tuple::columns(relid) {
                    select.push(
                        pg_sys::makeVar(1, c.attno, c.type_oid, c.typmod, pg_sys::get_typcollation(c.type_oid), 0)
                            .cast(),
                    );
                }
            } else {
                columns.push(Source::Remote(select.len()));
                select.push(pg_sys::makeVar(1, attno, (**var).vartype, (**var).vartypmod, (**var).varcollid, 0).cast());
            }
        }

        let query = tree::make::<pg_sys::Query>(pg_sys::NodeTag::T_Query);
        (*query).commandType = pg_sys::CmdType::CMD_SELECT;
        (*query).canSetTag = true;
        (*query).stmt_location = -1;
        let rte = tree::copy(compat::planner_rte(root, rti));
        (*rte).relkind = pg_sys::RELKIND_PARTITIONED_TABLE as _;
        (*rte).inh = true;
        (*rte).securityQuals = ptr::null_mut();
        (*rte).inFromCl = true;
        compat::clear_permissions(rte);
        if !(*rte).tablesample.is_null() {
            let sample = filters.parameters.extract((*rte).tablesample.cast(), &vocabulary, Volatile::PerRow);
            if (*(*rte).tablesample).tsmhandler.to_u32() >= 10_000 || shippable::why_not(sample, &vocabulary).is_some()
            {
                return Err(Error::unsupported("this TABLESAMPLE clause cannot run on the nodes")
                    .hint("Use BERNOULLI or SYSTEM with constant arguments."));
            }
            (*rte).tablesample = sample.cast();
        }
        (*query).rtable = list_of([rte]);
        let reference = tree::make::<pg_sys::RangeTblRef>(pg_sys::NodeTag::T_RangeTblRef);
        (*reference).rtindex = 1;
        let from = tree::make::<pg_sys::FromExpr>(pg_sys::NodeTag::T_FromExpr);
        (*from).fromlist = list_of([reference]);
        let remote_filters: Vec<*mut Node> = filters.remote.iter().map(|f| tree::copy(*f)).collect();
        for filter in &remote_filters {
            compat::clear_nulling_relations(*filter);
            forget_syntax(*filter);
            pg_sys::ChangeVarNodes(*filter, rti as i32, 1, 0);
        }
        (*from).quals = match remote_filters.len() {
            0 => ptr::null_mut(),
            1 => remote_filters[0],
            _ => {
                pg_sys::makeBoolExpr(pg_sys::BoolExprType::AND_EXPR, list_of(remote_filters.iter().copied()), -1).cast()
            }
        };
        (*query).jointree = from;
        (*query).targetList = list_of(
            select
                .iter()
                .enumerate()
                .map(|(i, e)| pg_sys::makeTargetEntry((*e).cast(), i as i16 + 1, ptr::null_mut(), false)),
        );
        let effect = lock_rows(root, rti, query, is_written);

        let sent = filters.parameters.expressions.len();
        let target = choose_target(table, rti, &filters.remote, &mut filters.parameters)?;
        let many_sql = match target {
            Target::Keys { parameter, .. } => many_keys::joined(query, parameter),
            _ => None,
        };
        let width = f64::from((*(*rel).reltarget).width);
        let cut = match (&target, effect) {
            (Target::All { .. }, Effect::Read { .. }) => task_text::of(query, Size::sent((*path).path.rows, width)),
            _ => None,
        };
        let remote = RemotePlan {
            tier: Tier::Fallback,
            sql: print::query_text(query),
            shard_sql: None,
            many_sql,
            keep: kept_types(&filters.parameters, &select),
            sent,
            target,
            effect,
            columns,
            merge: Vec::new(),
            relation: table,
            few_rows: false,
            tuning: Tuning::default(),
            shipping: Shipping { dormant: pushdown::is_instead(root), ..Shipping::default() },
            cut,
            sets_tag: false,
            reason: planner::fallback_reason(),
            not_pushed: planner::not_pushed_reason(),
        };

        let scan_tlist = list_of(
            needed
                .iter()
                .enumerate()
                .map(|(i, v)| pg_sys::makeTargetEntry(tree::copy(*v).cast(), i as i16 + 1, ptr::null_mut(), false)),
        );
        let tlist = if covers(tlist, rti, &needed) {
            tlist
        } else {
            pg_sys::make_tlist_from_pathtarget((*path).path.pathtarget)
        };
        let node = pg_sys::make_foreignscan(
            tlist,
            list_of(filters.local.iter().copied()),
            0,
            list_of(filters.parameters.expressions.iter().copied()),
            scan::private_list(&remote, 0)?,
            scan_tlist,
            ptr::null_mut(),
            outer_plan,
        );
        if (*(*root).parse).commandType == pg_sys::CmdType::CMD_MERGE && (*(*root).parse).resultRelation as u32 == rti {
            // The planner refuses MERGE into a relation with a foreign-data wrapper; ours is
            // executed by `modify`, which replaces the ModifyTable node.
            (*rel).fdwroutine = ptr::null_mut();
        }
        Ok(node)
    }
}

/// A hash of what the node's plan for a statement depends on beside its text; `None` if the statement is not
/// likely to come again: a client's or executor's parameters say that it is.
pub unsafe fn kept_types(parameters: &Parameters, outputs: &[*mut Node]) -> Option<u64> {
    // SAFETY: analyzed expressions.
    unsafe {
        if parameters.expressions.is_empty() {
            return None;
        }
        let mut bytes = Vec::with_capacity(8 * (parameters.expressions.len() + outputs.len()));
        for expression in parameters.expressions.iter().chain(outputs) {
            bytes.extend(pg_sys::exprType(*expression).to_u32().to_le_bytes());
            bytes.extend(pg_sys::exprTypmod(*expression).to_le_bytes());
        }
        Some(xxhash_rust::xxh3::xxh3_64(&bytes))
    }
}

/// Forgets the join alias under which a user named a column: the printed query has no joins.
unsafe fn forget_syntax(node: *mut Node) {
    // SAFETY: the expression is a private copy; Vars are changed in place.
    unsafe {
        tree::walk(node, |n| {
            if (*n).type_ == pg_sys::NodeTag::T_Var {
                (*n.cast::<pg_sys::Var>()).varnosyn = 0;
                (*n.cast::<pg_sys::Var>()).varattnosyn = 0;
            }
            Visit::Deeper
        });
    }
}

/// Whether a target list uses only the needed columns (the planner may ask for all of a table's).
unsafe fn covers(tlist: *mut pg_sys::List, rti: u32, needed: &[*mut pg_sys::Var]) -> bool {
    // SAFETY: a read-only walk.
    unsafe {
        !tree::walk(tlist.cast(), |n| {
            let missing = (*n).type_ == pg_sys::NodeTag::T_Var && {
                let var = n.cast::<pg_sys::Var>();
                (*var).varno as u32 == rti && !needed.iter().any(|v| (**v).varattno == (*var).varattno)
            };
            if missing { Visit::Stop } else { Visit::Deeper }
        })
    }
}

/// Whether a write reads nothing but its target. With joins or subqueries a scan would lock rows that
/// are not written; then a row that changes between scan and write is an error instead.
unsafe fn target_is_alone(parse: &pg_sys::Query) -> bool {
    // SAFETY: reads the planner's query.
    unsafe {
        let from = items::<Node>((*parse.jointree).fromlist);
        !parse.hasSubLinks && from.len() == 1 && (*from[0]).type_ == pg_sys::NodeTag::T_RangeTblRef
    }
}

/// Adds the row lock that the statement asks for (FOR UPDATE, or a row about to be written).
unsafe fn lock_rows(root: *mut pg_sys::PlannerInfo, rti: u32, query: *mut pg_sys::Query, is_written: bool) -> Effect {
    // SAFETY: reads the planner's structures.
    unsafe {
        let parse = (*root).parse;
        let mut strength = pg_sys::LockClauseStrength::LCS_NONE;
        let mut policy = pg_sys::LockWaitPolicy::LockWaitBlock;
        if (*parse).resultRelation as u32 == rti && target_is_alone(&*parse) {
            strength = match (*parse).commandType {
                pg_sys::CmdType::CMD_UPDATE => pg_sys::LockClauseStrength::LCS_FORNOKEYUPDATE,
                _ => pg_sys::LockClauseStrength::LCS_FORUPDATE,
            };
        } else if let Some((s, p)) = planner::scan_lock(root, rti) {
            strength = s;
            policy = p;
        }
        if strength == pg_sys::LockClauseStrength::LCS_NONE {
            return Effect::Read { alone: false, snapshot: planner::reads_only() && !is_written };
        }
        let mark = tree::make::<pg_sys::RowMarkClause>(pg_sys::NodeTag::T_RowMarkClause);
        (*mark).rti = 1;
        (*mark).strength = strength;
        (*mark).waitPolicy = policy;
        (*query).rowMarks = list_of([mark]);
        (*query).hasForUpdate = true;
        Effect::Lock
    }
}

/// Which nodes can have matching rows: `key = value` or `key = ANY (array)` among the filters.
unsafe fn choose_target(
    table: TableId,
    rti: u32,
    filters: &[*mut Node],
    parameters: &mut Parameters,
) -> Result<Target> {
    // SAFETY: filters are expressions over this relation and parameters.
    unsafe {
        let Some(map) = catalog_cache::cluster() else { return Ok(Target::All { table }) };
        let Some((_, key)) = map.distribution(table) else { return Ok(Target::All { table }) };
        let family = hash::key_class(table)?.family;
        let is_key = |n: *mut Node| {
            node_as!(strip_relabel(n), T_Var).is_some_and(|v| {
                let v = v.cast::<pg_sys::Var>();
                (*v).varno as u32 == rti && (*v).varattno == key && (*v).varlevelsup == 0
            })
        };
        let mut lists = None;
        for filter in filters {
            if let Some(op) = node_as!(*filter, T_OpExpr) {
                let op = op.cast::<pg_sys::OpExpr>();
                let args = items::<Node>((*op).args);
                if args.len() != 2
                    || pg_sys::get_op_opfamily_strategy((*op).opno, family) != 1
                    || !deterministic((*op).inputcollid)
                {
                    continue;
                }
                let value = if is_key(args[0]) {
                    args[1]
                } else if is_key(args[1]) {
                    args[0]
                } else {
                    continue;
                };
                if let Some(parameter) = parameter_of(strip_relabel(value), parameters) {
                    return Ok(Target::Key { table, parameter });
                }
            } else if let Some(op) = node_as!(*filter, T_ScalarArrayOpExpr) {
                let op = op.cast::<pg_sys::ScalarArrayOpExpr>();
                let args = items::<Node>((*op).args);
                if (*op).useOr
                    && args.len() == 2
                    && is_key(args[0])
                    && pg_sys::get_op_opfamily_strategy((*op).opno, family) == 1
                    && deterministic((*op).inputcollid)
                    && lists.is_none()
                {
                    lists = parameter_of(args[1], parameters);
                }
            }
        }
        Ok(match lists {
            Some(parameter) => Target::Keys { table, parameter },
            None => Target::All { table },
        })
    }
}

/// The parameter that a value is, made now if it is a constant.
pub unsafe fn parameter_of(value: *mut Node, parameters: &mut Parameters) -> Option<usize> {
    // SAFETY: the tag says what it is.
    unsafe {
        if let Some(c) = node_as!(value, T_Const) {
            return (!(*c.cast::<pg_sys::Const>()).constisnull).then(|| parameters.add(tree::copy(c)));
        }
        if is_list_of_constants(value) {
            return Some(parameters.add(tree::copy(value)));
        }
        if let Some(cast) = node_as!(value, T_CoerceViaIO) {
            return parameter_of((*cast.cast::<pg_sys::CoerceViaIO>()).arg.cast(), parameters);
        }
        let param = node_as!(value, T_Param)?.cast::<pg_sys::Param>();
        ((*param).paramkind == pg_sys::ParamKind::PARAM_EXTERN).then_some((*param).paramid as usize - 1)
    }
}

unsafe extern "C-unwind" fn begin(node: *mut pg_sys::ForeignScanState, _eflags: i32) {
    guarded(|| {
        // SAFETY: the scan is dropped with the query's memory context, or at the end of the scan.
        unsafe {
            let scan = Box::into_raw(Scan::begin(node)?);
            readers::add(scan);
            let callback = pg_sys::MemoryContextAllocZero(
                (*(*node).ss.ps.state).es_query_cxt,
                std::mem::size_of::<pg_sys::MemoryContextCallback>(),
            )
            .cast::<pg_sys::MemoryContextCallback>();
            (*callback).func = Some(drop_scan);
            (*callback).arg = scan.cast();
            pg_sys::MemoryContextRegisterResetCallback((*(*node).ss.ps.state).es_query_cxt, callback);
            (*node).fdw_state = scan.cast();
        }
        Ok(())
    });
}

unsafe extern "C-unwind" fn drop_scan(scan: *mut std::ffi::c_void) {
    readers::remove(scan.cast());
    // SAFETY: made by `begin`; the callback runs once.
    drop(unsafe { Box::from_raw(scan.cast::<Scan>()) });
}

/// The scan that a plan node of ours runs.
pub(super) unsafe fn scan_of<'a>(node: *mut pg_sys::ForeignScanState) -> &'a mut Scan {
    // SAFETY: set by `begin`, alive until the query's context is reset.
    unsafe { &mut *(*node).fdw_state.cast::<Scan>() }
}

unsafe extern "C-unwind" fn iterate(node: *mut pg_sys::ForeignScanState) -> *mut pg_sys::TupleTableSlot {
    // SAFETY: called between begin and end.
    guarded(|| unsafe { scan_of(node).next() })
}

unsafe extern "C-unwind" fn rescan(node: *mut pg_sys::ForeignScanState) {
    guarded(|| {
        // SAFETY: as above.
        unsafe { scan_of(node).rescan() };
        Ok(())
    });
}

unsafe extern "C-unwind" fn end(node: *mut pg_sys::ForeignScanState) {
    guarded(|| {
        // SAFETY: as above; the struct itself goes with the memory context.
        unsafe {
            if !(*node).fdw_state.is_null() {
                readers::remove((*node).fdw_state.cast());
                scan_of(node).end();
            }
        }
        Ok(())
    });
}

unsafe extern "C-unwind" fn explain_scan(node: *mut pg_sys::ForeignScanState, es: *mut pg_sys::ExplainState) {
    guarded(|| {
        // SAFETY: EXPLAIN runs after begin and before end.
        unsafe { explain::scan(scan_of(node), es) };
        Ok(())
    });
}

/// A local row that this scan was joined with has been changed by somebody else meanwhile, and
/// Postgres wants the join checked again with our row as it was. It is not kept: the statement
/// has to be repeated.
unsafe extern "C-unwind" fn recheck(_node: *mut pg_sys::ForeignScanState, _slot: *mut pg_sys::TupleTableSlot) -> bool {
    guarded(|| {
        Err(Error::new(
            crate::error::sqlstate::SERIALIZATION_FAILURE,
            "could not serialize access due to concurrent update",
        )
        .detail("A row joined with a distributed table was changed by another transaction.")
        .hint("Repeat the transaction."))
    })
}
