//! Tier 3: a query, or a subquery of it, goes once to each node; what is left is planned by Postgres.
//!
//! ```text
//! SELECT city, count(*) FROM people p JOIN visits v USING (id) GROUP BY city;
//!
//! HashAggregate  (city, sum of counts)                    Postgres, here
//!   -> Foreign Scan                                       Tier: pushdown
//!        SELECT city, count(*) FROM people p JOIN visits v USING (id) GROUP BY city    on each node
//! ```
//!
//! - `place`: is each row of the answer on one node? (the rules: [`crate::plan::pushdown`]) `complete`: and each group?
//! - `split`: the nodes' query and the one above; `columns`, `aggregate` (`statistics`, `collect`, `distinct`, `build`)
//! - `early`, `early_join`: what the nodes group before they count or join it
//! - `index`: is there an index that has all it needs?
//! - `order`: what the nodes sort by, for the coordinator to merge; `target`: which nodes these are
//! - `decorrelate`: what is evaluated for each row is evaluated once and joined
//! - `ship`: rows that are sent to the nodes, for a join that is not on the shard key; `instead`: if they are too many
//! - `insert_select`, `write`: INSERT ... SELECT, UPDATE, DELETE and MERGE as a whole
//! - `stand_in`: how the planner sees the former
//!
//! Where the whole query cannot be split, its subqueries may be: those that group, aggregate or cut off
//! rows, and look at nothing outside. Plain ones are left to the planner, which joins them better
//! with what is around them. A query that is not pushed down at all says why (EXPLAIN VERBOSE).

mod aggregate;
mod build;
mod collect;
mod columns;
mod compat;
mod complete;
mod decorrelate;
mod distinct;
mod early;
mod early_join;
mod index;
pub mod insert_select;
mod instead;
mod order;
mod parts;
mod place;
mod shape;
mod ship;
mod split;
mod stand_in;
mod statistics;
mod target;
pub mod write;

pub use ship::mark::{self, is_instead};
pub use stand_in::{is_marked, plan, replace_paths};

use crate::catalog::{ClusterMap, TableId};
use crate::node_as;
use crate::pg::gucs;
use crate::pg::many_keys;
use crate::pg::params::{Parameters, Volatile};
use crate::pg::planner::Tables;
use crate::pg::print;
use crate::pg::query_tree::is_simple;
use crate::pg::shippable::{self, Vocabulary};
use crate::pg::task_text;
use crate::pg::tree::{self, Node, Visit, items, list_of};
use crate::plan::pushdown::Place;
use crate::plan::remote::{Effect, MergeKey, RemotePlan, Shipment, Shipping as Sending, Target, Tier};
use crate::plan::tasks::{Cut, Size};
use crate::plan::tuning::Tuning;
use order::Order;
use pgrx::pg_sys;
use place::{Block, Reading, Reason, Rows};
use split::Halves;
use std::rc::Rc;

/// A statement for the nodes.
pub struct Pushed {
    plan: RemotePlan,
    /// The values of its parameters.
    expressions: Vec<*mut Node>,
    /// What of them is computed here: `PARAM_EXEC` -1 - i stands for number i.
    values: Vec<Value>,
    /// Rows of several nodes may be merged above: an estimate of rows is per node.
    partial: bool,
    /// How many rows a node sends at most.
    limit: Option<f64>,
    /// The estimated cost of reading the tables, all nodes together.
    work: f64,
    /// The statement with an order by which the rows can be merged.
    sorted: Option<Sorted>,
    /// Whether the planner sees other conditions than the nodes.
    replaced: bool,
}

/// What a parameter is whose value no expression gives.
pub enum Value {
    /// The value of a subquery.
    Subquery(*mut pg_sys::SubLink),
    /// All values of a column of a shipment.
    Column { shipment: usize, column: usize },
}

/// A statement whose rows come sorted.
pub struct Sorted {
    sql: String,
    /// The same, addressed to any subset of the shards.
    cut: Option<Cut>,
    keys: Vec<MergeKey>,
    /// There is no other: LIMIT needs the order, or duplicates are removed above, of which the planner cannot tell
    /// how many there are and would guess that few rows are left.
    only: bool,
}

/// A query with parts of it pushed down.
pub struct Rewritten {
    pub query: *mut pg_sys::Query,
    /// Why not the whole query.
    pub reason: Option<Reason>,
    /// Another way than the plain one, which may cost more: rows are sent to the nodes, subqueries are joined.
    pub is_choice: bool,
    _run: stand_in::Run,
}

/// Whether rows may be sent to the nodes to be joined there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shipping {
    Allowed,
    Forbidden,
}

/// Pushes down what can be. The query itself is not changed.
pub unsafe fn rewrite(query: *mut pg_sys::Query, map: &ClusterMap, tables: &Tables, shipping: Shipping) -> Rewritten {
    // SAFETY: `query` is analyzed, rewritten and locked.
    unsafe {
        let unchanged = |reason: Option<Reason>| {
            let _run = stand_in::Run::enter(vec![]);
            Rewritten { query, reason, is_choice: false, _run }
        };
        if !gucs::PUSHDOWN.get() {
            return unchanged(Some("sharding.enable_pushdown is off".into()));
        }
        let source = inserted(query);
        if let Some(reason) = refuses(query, tables, source.is_some()) {
            return unchanged(Some(reason));
        }
        let copy = tree::copy(query);
        shape::flatten_groups(copy);
        let mut rewriter =
            Rewriter { map, tables, shipping, ships: false, vocabulary: Vocabulary::default(), pushed: Vec::new() };
        for t in tables.distributed.iter().chain(&tables.reference) {
            rewriter.vocabulary.add_table(pg_sys::Oid::from(t.0));
        }
        if let Some(index) = source {
            let rte = tree::entry((*copy).rtable, index);
            let (select, reason) = match rewriter.block((*rte).subquery, Level::Top) {
                Ok(outer) => (outer, None),
                Err(reason) => (rewriter.part((*rte).subquery), Some(reason)),
            };
            (*rte).subquery = select;
            if rewriter.pushed.is_empty() {
                return unchanged(reason);
            }
            let _run = stand_in::Run::enter(rewriter.pushed);
            return Rewritten { query: copy, reason, is_choice: rewriter.ships, _run };
        }
        let may_reshape = shipping == Shipping::Allowed && gucs::AGGREGATE_PUSHDOWN.get();
        let is_joined = may_reshape && rewriter.read(copy).is_err() && decorrelate::all(copy, map);
        match rewriter.block(copy, Level::Top) {
            Ok(outer) => {
                let _run = stand_in::Run::enter(rewriter.pushed);
                Rewritten { query: outer, reason: None, is_choice: rewriter.ships || is_joined, _run }
            }
            Err(reason) => {
                rewriter.parts(copy);
                if rewriter.pushed.is_empty() {
                    return unchanged(Some(reason));
                }
                let _run = stand_in::Run::enter(rewriter.pushed);
                Rewritten { query: copy, reason: Some(reason), is_choice: rewriter.ships || is_joined, _run }
            }
        }
    }
}

/// The number of the SELECT of an INSERT that does nothing else, unless it reads a single table as it is.
unsafe fn inserted(query: *mut pg_sys::Query) -> Option<u32> {
    // SAFETY: reads an analyzed query.
    unsafe {
        if (*query).commandType != pg_sys::CmdType::CMD_INSERT || (*query).hasModifyingCTE {
            return None;
        }
        let index = insert_select::source(query)?;
        let select = (*tree::entry((*query).rtable, index)).subquery;
        let plain = is_simple(select) && items::<pg_sys::RangeTblEntry>((*select).rtable).len() == 1;
        (!plain && (*query).cteList.is_null()).then_some(index)
    }
}

fn refuses(query: *mut pg_sys::Query, tables: &Tables, inserts: bool) -> Option<Reason> {
    // SAFETY: reads an analyzed query.
    let command = unsafe { (*query).commandType };
    if !inserts && (command != pg_sys::CmdType::CMD_SELECT || tables.modifies) {
        return Some("it modifies data".into());
    }
    if tables.locks {
        return Some("it locks rows".into());
    }
    if tables.secured {
        return Some("row security or a security barrier applies".into());
    }
    tables.only.then(|| "a distributed table is named with ONLY".into())
}

struct Rewriter<'a> {
    map: &'a ClusterMap,
    tables: &'a Tables,
    shipping: Shipping,
    ships: bool,
    vocabulary: Vocabulary,
    pushed: Vec<Rc<Pushed>>,
}

/// Where a query stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Top,
    /// Conditions of a query around it may move into it.
    Below,
}

impl<'a> Rewriter<'a> {
    /// What stands for the query if it is pushed down.
    unsafe fn block(&mut self, query: *mut pg_sys::Query, level: Level) -> Result<*mut pg_sys::Query, Reason> {
        // SAFETY: a private copy of an analyzed query that looks at nothing outside.
        unsafe {
            if !(*query).setOperations.is_null() {
                return self.set_operation(query, &mut Reading::new(self.map, &self.tables.distributed));
            }
            let reason = match self.read(query) {
                Ok((reading, block)) => return self.divide(query, &reading, &block, level),
                Err(reason) => reason,
            };
            let forbidden = self.shipping == Shipping::Forbidden || !gucs::JOIN_PUSHDOWN.get();
            if forbidden || !shape::reads_distributed(query.cast(), self.map) {
                return Err(reason);
            }
            let Some(shipped) = ship::choose(query, self.map, || self.read(query).is_ok()) else { return Err(reason) };
            let (reading, block) = self.read(query)?;
            let divided = self.divide(query, &reading, &block, level);
            match divided {
                Ok(_) => self.ships = true,
                Err(_) => shipped.take_back(),
            }
            divided
        }
    }

    /// Reads where the rows of a query are; an error unless they are split over the nodes.
    unsafe fn read(&self, query: *mut pg_sys::Query) -> Result<(Reading<'a>, Block), Reason> {
        let mut reading = Reading::new(self.map, &self.tables.distributed);
        // SAFETY: as above.
        let block = unsafe { reading.block(query)? };
        if block.place == Place::Everywhere {
            return Err("it reads no distributed table".into());
        }
        // SAFETY: as above.
        unsafe { ship::has_keys_of(query, reading.table.ok_or("it reads no distributed table")?)? };
        Ok((reading, block))
    }

    /// Divides a query that was read between the nodes and what is above.
    unsafe fn divide(
        &mut self,
        query: *mut pg_sys::Query,
        reading: &Reading,
        block: &Block,
        level: Level,
    ) -> Result<*mut pg_sys::Query, Reason> {
        // SAFETY: as above.
        unsafe {
            let joins = reading.relations > 1;
            if joins && !gucs::JOIN_PUSHDOWN.get() {
                return Err("sharding.enable_join_pushdown is off".into());
            }
            let distinct = !(*query).distinctClause.is_null();
            let groups = shape::groups(query);
            let mut why = None;
            let is_sorted_below = shape::reads_one_that_sorts(query);
            if is_sorted_below && !groups && !distinct && (*query).sortClause.is_null() && !(*query).hasWindowFuncs {
                return Err("its subquery sorts".into());
            }
            if (groups || distinct) && !gucs::AGGREGATE_PUSHDOWN.get() {
                why = Some("sharding.enable_aggregate_pushdown is off".to_string());
            } else if (!groups || reading.completes_groups(query, block)) && reading.completes_windows(query, block) {
                let repeats = distinct && !reading.completes_distinct(query, block);
                let halves = split::whole(query, repeats, gucs::SORT_PUSHDOWN.get());
                match self.push(halves, reading, Some(block), false) {
                    Ok(outer) => return Ok(outer),
                    Err(reason) => why = Some(reason),
                }
            } else if groups && !joins && distinct::is_in_vain(query, |e| reading.is_distinct_key(block, e)) {
                why = Some("nearly all values of a DISTINCT aggregate are different".into());
            } else if groups {
                let halves = split::aggregated(query, |e| reading.is_distinct_key(block, e));
                match halves.and_then(|h| self.push(h, reading, Some(block), true)) {
                    Ok(outer) => return Ok(outer),
                    Err(reason) => why = Some(reason),
                }
            }
            if groups && is_sorted_below {
                // What collects values does it in their order.
                return Err(why.unwrap_or_else(|| "its subquery sorts".into()));
            }
            let why = why.unwrap_or_else(|| "a window is not partitioned by the shard key".into());
            let halves = split::rows(query)?;
            // Rows of one table are read as well by a plain scan, which the conditions of a query around it may
            // narrow; unless they are of use sorted.
            let is_worth_it = joins || level == Level::Top && gucs::SORT_PUSHDOWN.get() && order::of(&halves).is_some();
            if !is_worth_it {
                return Err(why);
            }
            let outer = self.push(halves, reading, Some(block), false)?;
            if let Some(pushed) = self.pushed.last_mut().and_then(Rc::get_mut) {
                pushed.plan.not_pushed = Some(why);
            }
            Ok(outer)
        }
    }

    unsafe fn set_operation(
        &mut self,
        query: *mut pg_sys::Query,
        reading: &mut Reading,
    ) -> Result<*mut pg_sys::Query, Reason> {
        // SAFETY: as above.
        unsafe {
            let unlimited = tree::copy(query);
            (*unlimited).limitCount = std::ptr::null_mut();
            (*unlimited).limitOffset = std::ptr::null_mut();
            let Rows::Split(_) = reading.query(unlimited)? else {
                return Err("it reads no distributed table".into());
            };
            if !gucs::JOIN_PUSHDOWN.get() || !gucs::AGGREGATE_PUSHDOWN.get() {
                return Err("sharding.enable_join_pushdown or sharding.enable_aggregate_pushdown is off".into());
            }
            self.push(split::whole(query, false, gucs::SORT_PUSHDOWN.get()), reading, None, false)
        }
    }

    /// Registers the nodes' half and puts its stand-in below the other.
    unsafe fn push(
        &mut self,
        halves: Halves,
        reading: &Reading,
        block: Option<&Block>,
        partial: bool,
    ) -> Result<*mut pg_sys::Query, Reason> {
        // SAFETY: both halves are private copies.
        unsafe {
            let before = self.pushed.len();
            let whole = halves.inner;
            let (inner, mut values) = self.take_values(whole);
            let halves = Halves { inner, ..halves };
            for link in shape::own_sublinks(halves.outer) {
                mark::clear((*link).subselect);
                (*link).subselect = self.part((*link).subselect.cast()).cast();
            }
            let table = reading.table.ok_or("it reads no distributed table")?;
            let ship::send::Sent { query: nodes_query, mut ctes, mut shipments } =
                ship::send::send(inner, &mut values, |q| self.source(q));
            let fit = unfit(nodes_query).and_then(|()| self.has_only_sharded_tables(nodes_query));
            if let Err(reason) = fit {
                self.pushed.truncate(before);
                return Err(reason);
            }
            let mut parameters = Parameters::default();
            let sent = parameters
                .extract(tree::copy(nodes_query).cast(), &self.vocabulary, Volatile::PerRow)
                .cast::<pg_sys::Query>();
            if let Some(reason) = shippable::why_not(sent.cast(), &self.vocabulary) {
                self.pushed.truncate(before);
                return Err(reason);
            }
            let count = parameters.expressions.len();
            name_parameters(&mut shipments, &values, &parameters.expressions);
            let target = match block {
                Some(block) => self.target(sent, table, reading, block, &mut parameters),
                None => Target::All { table },
            };
            let sent = if matches!(target, Target::All { .. }) { early::rewritten(sent, self.map) } else { sent };
            let order = if gucs::SORT_PUSHDOWN.get() { order::of(&halves) } else { None };
            let sorted = order.as_ref().and_then(|o| sorted(sent, o, &self.vocabulary, halves.bottom != halves.outer));
            if !shipments.is_empty() {
                ctes.push(self.instead(whole, order.as_ref().filter(|_| sorted.is_some())));
            }
            let many_sql = match target {
                Target::Keys { parameter, .. } => many_keys::joined(sent, parameter),
                _ => None,
            };
            let mut reads = shape::reads(nodes_query, self.map);
            let tuning = match (&target, gucs::NODE_SETTINGS.get()) {
                (Target::All { .. }, true) => {
                    reads.aggregates = (*inner).hasAggs;
                    reads.grouped_by_index = index::has_groups(sent);
                    Tuning::of(&reads)
                }
                _ => Tuning::default(),
            };
            // How much there is to divide is known once it is planned.
            let cut = match target {
                Target::All { .. } => task_text::of(sent, Size::default()),
                _ => None,
            };
            let limit = node_as!((*inner).limitCount, T_Const).map(|c| {
                let c = c.cast::<pg_sys::Const>();
                if (*c).constisnull { f64::MAX } else { (*c).constvalue.value() as i64 as f64 }
            });
            let plan = RemotePlan {
                tier: Tier::Pushdown,
                sql: print::query_text(tree::copy(sent)),
                shard_sql: None,
                many_sql,
                // Planned with its values each time: what it takes to run is more.
                keep: None,
                sent: count,
                target,
                effect: Effect::Read { alone: false, snapshot: false },
                columns: Vec::new(),
                merge: Vec::new(),
                relation: table,
                tuning,
                shipping: Sending { shipments, ..Sending::default() },
                cut,
                few_rows: (*inner).hasAggs || !(*inner).groupClause.is_null() || limit.is_some(),
                sets_tag: false,
                reason: None,
                not_pushed: None,
            };
            let clauses = order.filter(|_| sorted.is_some()).map(|o| o.clauses);
            let stand_in = stand_in::subquery(inner, self.pushed.len(), clauses);
            let replaced = !values.is_empty() || !ctes.is_empty() || stand_in::has_sublinks(inner);
            mark::clear((*stand_in).rtable.cast());
            (*stand_in).cteList = pg_sys::list_concat((*stand_in).cteList, list_of(ctes));
            stand_in::put_below(halves.bottom, stand_in);
            let work = reads.rows * pg_sys::cpu_tuple_cost;
            let expressions = parameters.expressions;
            self.pushed.push(Rc::new(Pushed { plan, expressions, values, partial, limit, work, sorted, replaced }));
            Ok(halves.outer)
        }
    }

    /// Subqueries that are one value for the statement become parameters; they are planned, and pushed down
    /// themselves, on the coordinator.
    unsafe fn take_values(&mut self, inner: *mut pg_sys::Query) -> (*mut pg_sys::Query, Vec<Value>) {
        let mut values = Vec::new();
        let map = self.map;
        // SAFETY: a private copy is changed.
        unsafe {
            let inner = tree::mutate(inner.cast(), |n| match node_as!(n, T_SubLink) {
                _ if mark::is_shipped_query(n) => tree::Change::Replace(n),
                Some(link) if shape::is_statement_value(link.cast(), map) => {
                    let param = tree::make::<pg_sys::Param>(pg_sys::NodeTag::T_Param);
                    (*param).paramkind = pg_sys::ParamKind::PARAM_EXEC;
                    (*param).paramid = -1 - values.len() as i32;
                    (*param).paramtype = pg_sys::exprType(n);
                    (*param).paramtypmod = pg_sys::exprTypmod(n);
                    (*param).paramcollid = pg_sys::exprCollation(n);
                    (*param).location = -1;
                    values.push(tree::copy(link.cast::<pg_sys::SubLink>()));
                    tree::Change::Replace(param.cast())
                }
                _ => tree::Change::Deeper,
            });
            for link in &values {
                (**link).subselect = self.part((**link).subselect.cast()).cast();
            }
            (inner.cast(), values.into_iter().map(Value::Subquery).collect())
        }
    }

    /// A CTE that nobody names is sent too, with its tables.
    unsafe fn has_only_sharded_tables(&self, inner: *mut pg_sys::Query) -> Result<(), Reason> {
        // SAFETY: a read-only walk.
        unsafe {
            let local = tree::walk(inner.cast(), |n| {
                let local = node_as!(n, T_RangeTblEntry).is_some_and(|rte| {
                    let rte = rte.cast::<pg_sys::RangeTblEntry>();
                    (*rte).rtekind == pg_sys::RTEKind::RTE_RELATION
                        && !shape::is_view(rte)
                        && self.map.table(TableId((*rte).relid.to_u32())).is_none()
                });
                if local { Visit::Stop } else { Visit::Deeper }
            });
            if local { Err("it names a table that is only on the coordinator".into()) } else { Ok(()) }
        }
    }
}

/// The statement with its order; none if a node may not know an operator.
unsafe fn sorted(
    sent: *mut pg_sys::Query,
    order: &Order,
    vocabulary: &Vocabulary,
    removes_duplicates: bool,
) -> Option<Sorted> {
    // SAFETY: a copy is changed.
    unsafe {
        if shippable::why_not(order.clauses.cast(), vocabulary).is_some() {
            return None;
        }
        let is_fixed = !(*sent).sortClause.is_null();
        let query = tree::copy(sent);
        sort(query, order);
        let only = is_fixed || removes_duplicates;
        let cut = task_text::of(query, Size::default());
        Some(Sorted { sql: print::query_text(query), cut, keys: order.keys.clone(), only })
    }
}

/// Sorts a query, unless it is.
unsafe fn sort(query: *mut pg_sys::Query, order: &Order) {
    // SAFETY: a private copy with the columns that the order names.
    unsafe {
        if !(*query).sortClause.is_null() {
            return;
        }
        (*query).sortClause = tree::copy(order.clauses);
        let mut entries = items::<pg_sys::TargetEntry>((*query).targetList);
        for (clause, key) in items::<pg_sys::SortGroupClause>((*query).sortClause).into_iter().zip(&order.keys) {
            (*entries[key.column]).ressortgroupref = (*clause).tleSortGroupRef;
        }
    }
}

/// Tells shipments which parameters their columns are.
fn name_parameters(shipments: &mut [Shipment], values: &[Value], expressions: &[*mut Node]) {
    for (i, value) in values.iter().enumerate() {
        let Value::Column { shipment, column } = value else { continue };
        // SAFETY: the tags say what the expressions are.
        let is_it = |e: &*mut Node| unsafe {
            node_as!(*e, T_Param).is_some_and(|p| {
                let p = p.cast::<pg_sys::Param>();
                (*p).paramkind == pg_sys::ParamKind::PARAM_EXEC && (*p).paramid == -1 - i as i32
            })
        };
        if let Some(parameter) = expressions.iter().position(is_it) {
            shipments[*shipment].columns.push((*column, parameter));
        }
    }
}

/// What no node may compute, or could not send.
unsafe fn unfit(inner: *mut pg_sys::Query) -> Result<(), Reason> {
    // SAFETY: reads an analyzed query.
    unsafe {
        if pg_sys::contain_volatile_functions(inner.cast()) {
            return Err("it uses a volatile function".into());
        }
        for entry in items::<pg_sys::TargetEntry>((*inner).targetList) {
            let kind = pg_sys::exprType((*entry).expr.cast());
            if matches!(kind, pg_sys::RECORDOID | pg_sys::RECORDARRAYOID) {
                return Err("it returns an anonymous row".into());
            }
        }
        let system = tree::walk(inner.cast(), |n| {
            let found = node_as!(n, T_Var).is_some_and(|v| (*v.cast::<pg_sys::Var>()).varattno < 0);
            if found { Visit::Stop } else { Visit::Deeper }
        });
        if system { Err("it uses a system column".into()) } else { Ok(()) }
    }
}
