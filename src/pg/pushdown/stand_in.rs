//! The nodes' query as Postgres's planner sees it: a subquery with one way to run it, a `ForeignScan`.
//!
//! The subquery is a copy of what the nodes run, so that its columns, row estimates, locks, permission
//! checks and plan invalidation are Postgres's own business. `OFFSET 0` fences it off: no condition
//! moves in, no table out. When its planning ends (`UPPERREL_FINAL`), the paths that Postgres found for
//! reading the tables one by one give way to ours. The mark in `queryId`, a field that no part of
//! planning reads, tells which statement is meant.
//!
//! Its own subqueries in expressions would be planned for nothing: they are replaced by constants, and
//! their tables kept in the range table.

use super::{Pushed, Value, mark};
use crate::catalog::TableId;
use crate::error::Result;
use crate::node_as;
use crate::pg::guard::boundary;
use crate::pg::scan_paths::{ROW_COST, STATEMENT_COST};
use crate::pg::tree::{self, Change, Node, Visit, items, list_of};
use crate::pg::{catalog_cache, compat, planner, scan};
use crate::plan::remote::{Effect, Source, Target};
use crate::plan::tasks::Size;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::ptr;
use std::rc::Rc;

/// The upper bits of a mark; the lower 16 are an index.
const MARK: u64 = 0x5AAD_1A95_E7C3_0000;
const INDEX: u64 = 0xFFFF;

/// Up to so many rows are expected to be worth setting aside in memory, should another statement need the
/// connection.
const FEW_ROWS: f64 = 10_000.0;

/// What a group needs in a hash table beside its columns; HAVING may pass one of three.
const BYTES_OF_GROUP: f64 = 256.0;

thread_local! {
    /// The statements of the planner runs under way, innermost last.
    static PUSHED: RefCell<Vec<Vec<Rc<Pushed>>>> = const { RefCell::new(Vec::new()) };
}

/// While it lives, the planner finds the statements of this run.
pub struct Run(());

impl Run {
    pub fn enter(pushed: Vec<Rc<Pushed>>) -> Run {
        PUSHED.with(|p| p.borrow_mut().push(pushed));
        Run(())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        PUSHED.with(|p| p.borrow_mut().pop());
    }
}

fn pushed(index: usize) -> Option<Rc<Pushed>> {
    PUSHED.with(|p| p.borrow().last().and_then(|run| run.get(index).cloned()))
}

/// The subquery for statement `index`, which runs `inner`; `order`: what its rows can be sorted by.
pub unsafe fn subquery(
    inner: *mut pg_sys::Query,
    index: usize,
    order: Option<*mut pg_sys::List>,
) -> *mut pg_sys::Query {
    // SAFETY: a copy is changed.
    unsafe {
        let dropped = sublinks_below(inner);
        let query = tree::mutate(inner.cast(), |n| match node_as!(n, T_SubLink) {
            Some(link) => Change::Replace(constant_for(link.cast())),
            None if is_value(n) => Change::Replace(null_of(n)),
            None => Change::Deeper,
        })
        .cast::<pg_sys::Query>();
        // A CTE that only they named is not planned either.
        let ctes = if dropped.is_empty() { vec![] } else { cte_queries(inner) };
        for sub in dropped.into_iter().chain(ctes) {
            adopt_tables(sub, query);
        }
        (*query).sortClause = order.map_or(ptr::null_mut(), |clauses| tree::copy(clauses));
        (*query).limitCount = ptr::null_mut();
        (*query).limitOption = pg_sys::LimitOption::LIMIT_OPTION_COUNT;
        let zero = pg_sys::Datum::from(0i64);
        (*query).limitOffset = pg_sys::makeConst(pg_sys::INT8OID, -1, pg_sys::InvalidOid, 8, zero, false, true).cast();
        (*query).queryId = (MARK | index as u64) as _;
        query
    }
}

unsafe fn null_of(expr: *mut Node) -> *mut Node {
    // SAFETY: a new node of the expression's type.
    unsafe {
        let (typmod, collation) = (pg_sys::exprTypmod(expr), pg_sys::exprCollation(expr));
        pg_sys::makeNullConst(pg_sys::exprType(expr), typmod, collation).cast()
    }
}

/// A parameter that stands for a value computed here.
unsafe fn is_value(node: *mut Node) -> bool {
    // SAFETY: the tag says what it is.
    unsafe {
        node_as!(node, T_Param).is_some_and(|p| {
            let p = p.cast::<pg_sys::Param>();
            (*p).paramkind == pg_sys::ParamKind::PARAM_EXEC && (*p).paramid < 0
        })
    }
}

/// A parameter's expression; the subqueries in it become InitPlans of the stand-in.
unsafe fn planned(root: *mut pg_sys::PlannerInfo, expr: *mut Node, values: &[Value]) -> *mut Node {
    // SAFETY: expressions and subqueries are copied; `root` has not been finished yet.
    unsafe {
        let expr = tree::mutate(expr, |n| {
            if !is_value(n) {
                return Change::Deeper;
            }
            match values.get((-1 - (*n.cast::<pg_sys::Param>()).paramid) as usize) {
                Some(Value::Subquery(link)) => Change::Replace(tree::copy(*link).cast()),
                // The scan makes the array.
                Some(Value::Column { .. }) => Change::Replace(null_of(n)),
                None => Change::Deeper,
            }
        });
        let expr = if values.is_empty() { expr } else { boundary(|| SS_process_sublinks(root, expr, false)) };
        pg_sys::expression_planner(expr.cast()).cast()
    }
}

unsafe extern "C-unwind" {
    fn SS_process_sublinks(root: *mut pg_sys::PlannerInfo, expr: *mut Node, is_qual: bool) -> *mut Node;
}

unsafe fn sublinks_below(query: *mut pg_sys::Query) -> Vec<*mut pg_sys::Query> {
    let mut found = Vec::new();
    // SAFETY: a read-only walk.
    unsafe {
        tree::walk(query.cast(), |n| {
            if let Some(link) = node_as!(n, T_SubLink) {
                found.push((*link.cast::<pg_sys::SubLink>()).subselect.cast());
            }
            Visit::Deeper
        });
    }
    found
}

/// Whether constants stand for subqueries.
pub unsafe fn has_sublinks(inner: *mut pg_sys::Query) -> bool {
    // SAFETY: a read-only walk.
    unsafe { !sublinks_below(inner).is_empty() }
}

unsafe fn cte_queries(query: *mut pg_sys::Query) -> Vec<*mut pg_sys::Query> {
    // SAFETY: reads an analyzed query.
    unsafe { items::<pg_sys::CommonTableExpr>((*query).cteList).into_iter().map(|c| (*c).ctequery.cast()).collect() }
}

/// Keeps the tables that a dropped subquery reads, for locks, permissions and invalidation.
unsafe fn adopt_tables(from: *mut pg_sys::Query, to: *mut pg_sys::Query) {
    // SAFETY: `to` is a private copy.
    unsafe {
        let mut queries: Vec<*mut pg_sys::Query> = Vec::new();
        tree::walk(from.cast(), |n| {
            if let Some(q) = node_as!(n, T_Query) {
                queries.push(q.cast());
            }
            Visit::Deeper
        });
        for query in queries {
            for rte in items::<pg_sys::RangeTblEntry>((*query).rtable) {
                if (*rte).rtekind == pg_sys::RTEKind::RTE_RELATION || compat::is_checked_view(rte) {
                    compat::adopt_entry(rte, query, to);
                }
            }
        }
    }
}

/// A constant of the type of a subquery's result.
unsafe fn constant_for(link: *mut pg_sys::SubLink) -> *mut Node {
    // SAFETY: an analyzed SubLink.
    unsafe {
        let node = link.cast::<Node>();
        let result = pg_sys::exprType(node);
        if result == pg_sys::BOOLOID && (*link).subLinkType != pg_sys::SubLinkType::EXPR_SUBLINK {
            return pg_sys::makeBoolConst(true, false);
        }
        pg_sys::makeNullConst(result, pg_sys::exprTypmod(node), pg_sys::exprCollation(node)).cast()
    }
}

/// The range table entry and join tree of the query above.
pub unsafe fn put_below(outer: *mut pg_sys::Query, subquery: *mut pg_sys::Query) {
    // SAFETY: `outer` is a private copy.
    unsafe {
        let rte = tree::make::<pg_sys::RangeTblEntry>(pg_sys::NodeTag::T_RangeTblEntry);
        let names = list_of(items::<pg_sys::TargetEntry>((*subquery).targetList).into_iter().map(|t| {
            let name = if (*t).resname.is_null() { c"column".as_ptr().cast_mut() } else { (*t).resname };
            pg_sys::makeString(pg_sys::pstrdup(name))
        }));
        (*rte).rtekind = pg_sys::RTEKind::RTE_SUBQUERY;
        (*rte).subquery = subquery;
        (*rte).eref = pg_sys::makeAlias(c"nodes".as_ptr(), names);
        (*rte).alias = tree::copy((*rte).eref);
        (*rte).inFromCl = true;
        (*outer).rtable = list_of([rte]);
        let reference = tree::make::<pg_sys::RangeTblRef>(pg_sys::NodeTag::T_RangeTblRef);
        (*reference).rtindex = 1;
        let from = tree::make::<pg_sys::FromExpr>(pg_sys::NodeTag::T_FromExpr);
        (*from).fromlist = list_of([reference]);
        (*outer).jointree = from;
    }
}

/// Whether a query stands for what the nodes compute.
pub unsafe fn is_marked(query: *const pg_sys::Query) -> bool {
    // SAFETY: reads the planner's query.
    unsafe { compat::query_id(query) & !INDEX == MARK }
}

/// At the end of a subquery's planning: if it is one of ours, our path is the only one.
pub unsafe fn replace_paths(root: *mut pg_sys::PlannerInfo, output: *mut pg_sys::RelOptInfo) {
    // SAFETY: called by the planner with its own structures.
    unsafe {
        if !is_marked((*root).parse) {
            return;
        }
        let index = (compat::query_id((*root).parse) & INDEX) as usize;
        let Some(pushed) = pushed(index) else { return };
        let paths = items::<pg_sys::Path>((*output).pathlist);
        let Some(local) = paths.into_iter().min_by(|a, b| (**a).total_cost.total_cmp(&(**b).total_cost)) else {
            return;
        };
        let Some(map) = catalog_cache::cluster() else { return };
        let Some((group, _)) = map.distribution(pushed.table()) else { return };
        let nodes = if matches!(pushed.plan.target, Target::All { .. }) { group.nodes().len() as f64 } else { 1.0 };
        let mut rows = if pushed.partial { (*local).rows * nodes } else { (*local).rows };
        if let Some(limit) = pushed.limit {
            rows = rows.min(limit * nodes);
        }
        let rows = rows.max(1.0);
        (*output).serverid = pg_sys::Oid::from(group.shards[0].0);
        (*output).fdwroutine = boundary(|| pg_sys::GetFdwRoutineByServerId((*output).serverid));
        let exprs: *mut pg_sys::List = list_of(pushed.expressions.iter().map(|e| planned(root, *e, &pushed.values)));
        let own = own_subplans(root, &pushed);
        forget_cost_of_instead(root, &own);
        let sent = shipped_rows(root, &pushed, &own, nodes);
        let add = |sort: f64, pathkeys: *mut pg_sys::List| {
            let startup = STATEMENT_COST * nodes + sort;
            let total = startup + pushed.work + (rows + sent) * (pg_sys::cpu_tuple_cost + ROW_COST);
            let is_sorted = pg_sys::makeInteger(i32::from(!pathkeys.is_null())).cast::<Node>();
            let private = list_of([pg_sys::makeInteger(index as i32).cast::<Node>(), exprs.cast(), is_sorted]);
            let target = (*local).pathtarget;
            let path = compat::create_foreign_upper_path(root, output, target, rows, startup, total, private);
            (*path).path.parallel_safe = false;
            (*path).path.pathkeys = pathkeys;
            path
        };
        let pathkeys = pathkeys_of(root, &pushed);
        let is_only = !pathkeys.is_null() && pushed.sorted.as_ref().is_some_and(|s| s.only);
        let mut offered = Vec::new();
        if !is_only {
            offered.push(add(0.0, ptr::null_mut()));
        }
        if !pathkeys.is_null() {
            offered.push(add(if is_only { 0.0 } else { sort_cost(rows, nodes) }, pathkeys));
        }
        (*output).pathlist = list_of(offered);
        (*output).partial_pathlist = ptr::null_mut();
    }
}

/// What the planner may assume of the order of merged rows; null is nothing. Where it saw constants in the place of
/// subqueries, it may take columns for equal that are not: then only keys that are nothing but themselves count.
unsafe fn pathkeys_of(root: *mut pg_sys::PlannerInfo, pushed: &Pushed) -> *mut pg_sys::List {
    // SAFETY: reads the planner's structures.
    unsafe {
        let Some(sorted) = &pushed.sorted else { return ptr::null_mut() };
        let keys = items::<pg_sys::PathKey>((*root).sort_pathkeys);
        let is_plain = |key: &*mut pg_sys::PathKey| {
            let class = (**key).pk_eclass;
            !(*class).ec_has_const && items::<Node>((*class).ec_members).len() == 1
        };
        if pushed.replaced && (keys.len() != sorted.keys.len() || !keys.iter().all(is_plain)) {
            return ptr::null_mut();
        }
        (*root).sort_pathkeys
    }
}

/// Sorting on all nodes at once and merging here, in the planner's units (compare `cost_tuplesort`, costsize.c).
unsafe fn sort_cost(rows: f64, nodes: f64) -> f64 {
    // SAFETY: settings of the planner.
    let comparison = unsafe { 2.0 * pg_sys::cpu_operator_cost };
    let of_node = (rows / nodes).max(2.0);
    comparison * (of_node * of_node.log2() + rows * nodes.log2())
}

/// The numbers of the subplans that this statement reads: one for each shipment, then what runs instead.
unsafe fn own_subplans(root: *mut pg_sys::PlannerInfo, pushed: &Pushed) -> Vec<u32> {
    let shipments = pushed.plan.shipping.shipments.len();
    if shipments == 0 {
        return Vec::new();
    }
    // SAFETY: they are the stand-in's last CTEs.
    let plans = unsafe { tree::ints((*root).cte_plan_ids) };
    let first = plans.len().saturating_sub(shipments + 1);
    plans[first..].iter().filter_map(|id| u32::try_from(*id).ok()).collect()
}

/// How often rows that are computed here are sent, by the planner's estimates.
unsafe fn shipped_rows(root: *mut pg_sys::PlannerInfo, pushed: &Pushed, own: &[u32], nodes: f64) -> f64 {
    // SAFETY: the numbers of CTE subplans index the list of all subplans.
    unsafe {
        let subplans = items::<pg_sys::Plan>((*(*root).glob).subplans);
        let rows = |id: &u32| subplans.get(*id as usize - 1).map_or(0.0, |plan| (**plan).plan_rows);
        let shipments = pushed.plan.shipping.shipments.iter();
        shipments.zip(own).map(|(s, id)| rows(id) * if s.cut.is_some() { 1.0 } else { nodes }).sum()
    }
}

/// What runs only if the statement cannot costs nothing.
unsafe fn forget_cost_of_instead(root: *mut pg_sys::PlannerInfo, own: &[u32]) {
    // SAFETY: the planner adds up these costs after this.
    unsafe {
        for plan in items::<pg_sys::SubPlan>((*root).init_plans) {
            if own.last().is_some_and(|id| (*plan).plan_id == *id as i32) {
                ((*plan).startup_cost, (*plan).per_call_cost) = (0.0, 0.0);
            }
        }
    }
}

/// The plan of [`replace_paths`]'s path.
pub unsafe fn plan(root: *mut pg_sys::PlannerInfo, path: *mut pg_sys::ForeignPath) -> Result<*mut pg_sys::ForeignScan> {
    // SAFETY: called by the planner for an upper relation.
    unsafe {
        let private = items::<Node>((*path).fdw_private);
        let index = (*private[0].cast::<pg_sys::Integer>()).ival as usize;
        let Some(pushed) = pushed(index) else {
            return Err(crate::error::Error::new(crate::error::sqlstate::INTERNAL, "a pushed statement is lost"));
        };
        // INTERSECT and EXCEPT have a column of their own behind those asked for.
        let wanted = items::<Node>((*(*root).parse).targetList.cast()).len();
        let exprs = items::<Node>((*(*path).path.pathtarget).exprs);
        let mut sent: Vec<*mut Node> = Vec::new();
        for (i, expr) in exprs.into_iter().take(wanted).enumerate() {
            let twice = sent.iter().any(|s| pg_sys::equal((*s).cast(), expr.cast()));
            // Without columns it may also be a parameter's value, which is not to be looked up in the tuple.
            let alone = !pg_sys::contain_vars_of_level(expr, 0) && !pg_sys::contain_aggs_of_level(expr, 0);
            sent.push(if twice || alone { nameless(expr, i) } else { expr });
        }
        let list = |exprs: &[*mut Node]| {
            list_of(
                exprs
                    .iter()
                    .enumerate()
                    .map(|(i, e)| pg_sys::makeTargetEntry(tree::copy(*e).cast(), i as i16 + 1, ptr::null_mut(), false)),
            )
        };
        let mut remote = pushed.plan.clone();
        if (*private[2].cast::<pg_sys::Integer>()).ival != 0
            && let Some(sorted) = &pushed.sorted
        {
            remote.sql = sorted.sql.clone();
            remote.cut = remote.cut.and(sorted.cut.clone());
            remote.merge = sorted.keys.clone();
        }
        remote.columns = (0..sent.len()).map(Source::Remote).collect();
        remote.few_rows &= (*path).path.rows <= FEW_ROWS;
        if let Some(cut) = &mut remote.cut {
            cut.size = match remote.few_rows {
                true => Size::read(largest_input(root)),
                false => Size::sent((*path).path.rows, f64::from((*(*path).path.pathtarget).width)),
            };
        }
        // The groups of all shards are in memory at the same time. Those that are complete are no more than without.
        let bytes = (*path).path.rows * (f64::from((*(*path).path.pathtarget).width) + BYTES_OF_GROUP);
        let fit = !pushed.partial && bytes <= pg_sys::get_hash_memory_limit() as f64;
        remote.tuning.aggregates_shards &= fit || (*path).path.rows <= FEW_ROWS;
        remote.effect = Effect::Read { alone: false, snapshot: planner::reads_only() };
        let own = own_subplans(root, &pushed);
        for (shipment, id) in remote.shipping.shipments.iter_mut().zip(&own) {
            shipment.subplan = *id;
        }
        remote.shipping.instead = own.last().copied();
        remote.shipping.dormant = mark::is_instead(root);
        Ok(pg_sys::make_foreignscan(
            list(&sent),
            ptr::null_mut(),
            0,
            private[1].cast(),
            scan::private_list(&remote, 0)?,
            list(&sent),
            ptr::null_mut(),
            ptr::null_mut(),
        ))
    }
}

/// The rows of the largest relation that a query reads, by estimate, its conditions applied.
unsafe fn largest_input(root: *mut pg_sys::PlannerInfo) -> f64 {
    // SAFETY: the array has entries from 1 to its size, some of them null.
    unsafe {
        let relations = (1..(*root).simple_rel_array_size as usize).map(|i| *(*root).simple_rel_array.add(i));
        relations.filter(|rel| !rel.is_null()).map(|rel| (*rel).rows).fold(0.0, f64::max)
    }
}

/// An expression of the same type that is equal to no other and no constant: it is never evaluated, but
/// found in the scan's tuple.
unsafe fn nameless(expr: *mut Node, at: usize) -> *mut Node {
    // SAFETY: nodes are fresh.
    unsafe {
        let number = pg_sys::Datum::from(at as i32);
        let number = pg_sys::makeConst(pg_sys::INT4OID, -1, pg_sys::InvalidOid, 4, number, false, true);
        let (result, typmod) = (pg_sys::exprType(expr), pg_sys::exprTypmod(expr));
        let collation = pg_sys::exprCollation(expr);
        let form = pg_sys::CoercionForm::COERCE_EXPLICIT_CAST;
        pg_sys::makeRelabelType(number.cast(), result, typmod, collation, form).cast()
    }
}

impl Pushed {
    pub fn table(&self) -> TableId {
        self.plan.target.table()
    }
}
