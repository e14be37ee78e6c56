//! The ways to read a distributed table, for the planner: all of it, or the rows that an equality
//! with another relation's column asks for.
//!
//! In `part JOIN partsupp ON ps_partkey = p_partkey`, with few parts left by their filters, a nested
//! loop over `part` asks for `ps_partkey = $1` each time: one statement to one node if the column is the
//! shard key, to each node if it leads an index. Postgres weighs that against reading the table once.
//!
//! Only a statement that does nothing but read is served so: each such scan sees what there is when
//! it starts, and writes would show in it.

use crate::catalog::TableId;
use crate::node_as;
use crate::pg::query_tree::strip_relabel;
use crate::pg::tree::{Node, items, list_of, oids};
use crate::pg::{catalog_cache, compat, planner};
use pgrx::pg_sys;
use std::ffi::c_void;

/// Cost of sending a statement to a node and of one row over the wire, in units of `seq_page_cost`: some ten times
/// that of looking at a row (postgres_fdw takes 0.2 from 17 on).
pub const STATEMENT_COST: f64 = 100.0;
pub const ROW_COST: f64 = 0.1;

/// Adds the paths of a base relation.
pub unsafe fn add(root: *mut pg_sys::PlannerInfo, rel: *mut pg_sys::RelOptInfo, table: TableId) {
    // SAFETY: called by the planner with its own structures.
    unsafe {
        let local = local_filters(root, rel, items((*rel).baserestrictinfo));
        let whole = STATEMENT_COST + (*rel).tuples * pg_sys::cpu_tuple_cost + local.cost((*rel).rows);
        let lateral = (*rel).lateral_relids;
        let path = compat::create_foreignscan_path(root, rel, (*rel).rows, STATEMENT_COST, whole, lateral);
        pg_sys::add_path(rel, path.cast());
        if !planner::reads_only() || ((*rel).joininfo.is_null() && !(*rel).has_eclass_joins) {
            return;
        }
        let Some(map) = catalog_cache::cluster() else { return };
        let Some((group, key)) = map.distribution(table) else { return };
        let nodes = group.nodes().len() as f64;
        let mut offered: Vec<pg_sys::Relids> = Vec::new();
        for column in looked_up_columns(table, key) {
            let startup = STATEMENT_COST * if column == key { 1.0 } else { nodes };
            for outer in outer_relations(root, rel, column) {
                // The key comes first: for the same outer relations it is the cheapest.
                if offered.iter().any(|o| pg_sys::bms_equal(*o, outer)) {
                    continue;
                }
                offered.push(outer);
                let info = pg_sys::get_baserel_parampathinfo(root, rel, outer);
                let rows = (*info).ppi_rows;
                let mut filters: Vec<*mut pg_sys::RestrictInfo> = items((*rel).baserestrictinfo);
                filters.extend(items::<pg_sys::RestrictInfo>((*info).ppi_clauses));
                let local = local_filters(root, rel, filters);
                let total = startup + rows * pg_sys::cpu_tuple_cost + local.cost(rows);
                let path = compat::create_foreignscan_path(root, rel, rows, startup, total, outer);
                pg_sys::add_path(rel, path.cast());
            }
        }
    }
}

/// The filters of a relation that are subqueries, evaluated here for each row that the nodes send.
struct LocalFilters {
    startup: f64,
    per_row: f64,
    selectivity: f64,
}

impl LocalFilters {
    /// The cost of sending rows of which so many are left, and of filtering them.
    fn cost(&self, rows: f64) -> f64 {
        self.startup + rows / self.selectivity * (ROW_COST + self.per_row)
    }
}

unsafe fn local_filters(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    filters: Vec<*mut pg_sys::RestrictInfo>,
) -> LocalFilters {
    // SAFETY: reads the planner's structures; the list is new.
    unsafe {
        let filters = list_of(filters.into_iter().filter(|info| pg_sys::contain_subplans((**info).clause.cast())));
        if filters.is_null() {
            return LocalFilters { startup: 0.0, per_row: 0.0, selectivity: 1.0 };
        }
        let mut cost = pg_sys::QualCost { startup: 0.0, per_tuple: 0.0 };
        pg_sys::cost_qual_eval(&mut cost, filters, root);
        let inner = pg_sys::JoinType::JOIN_INNER;
        let selectivity =
            pg_sys::clauselist_selectivity(root, filters, (*rel).relid as i32, inner, std::ptr::null_mut());
        LocalFilters { startup: cost.startup, per_row: cost.per_tuple, selectivity: selectivity.max(1e-4) }
    }
}

/// The columns by which a node finds few rows quickly: the shard key, and those that lead an index.
unsafe fn looked_up_columns(table: TableId, key: i16) -> Vec<i16> {
    let mut columns = vec![key];
    // SAFETY: the relation is locked by the query; its indexes are closed again.
    unsafe {
        let relation = pg_sys::RelationIdGetRelation(pg_sys::Oid::from(table.0));
        if relation.is_null() {
            return columns;
        }
        for index in oids(pg_sys::RelationGetIndexList(relation)) {
            let index = pg_sys::index_open(index, pg_sys::AccessShareLock as i32);
            let leading = *(*(*index).rd_index).indkey.values.as_ptr();
            let partial = !pg_sys::RelationGetIndexPredicate(index).is_null();
            if leading != 0 && !partial && !columns.contains(&leading) {
                columns.push(leading);
            }
            pg_sys::index_close(index, pg_sys::AccessShareLock as i32);
        }
        pg_sys::RelationClose(relation);
    }
    columns
}

/// The sets of relations whose rows give the column a value by an equality, without those that a
/// lateral reference forbids.
unsafe fn outer_relations(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    column: i16,
) -> Vec<pg_sys::Relids> {
    // SAFETY: reads the planner's structures.
    unsafe {
        let wanted = Column { rti: (*rel).relid, attno: column };
        let mut clauses: Vec<*mut pg_sys::RestrictInfo> = items::<pg_sys::RestrictInfo>((*rel).joininfo)
            .into_iter()
            .filter(|c| wanted.is_equated_by((**c).clause.cast()) && pg_sys::join_clause_is_movable_to(*c, rel))
            .collect();
        if (*rel).has_eclass_joins {
            clauses.extend(items::<pg_sys::RestrictInfo>(pg_sys::generate_implied_equalities_for_column(
                root,
                rel,
                Some(is_column),
                (&raw const wanted).cast_mut().cast(),
                (*rel).lateral_referencers,
            )));
        }
        let mut sets = Vec::new();
        for clause in clauses {
            let all = pg_sys::bms_union((*clause).clause_relids, (*rel).lateral_relids);
            let outer = pg_sys::bms_del_member(all, (*rel).relid as i32);
            if !outer.is_null() && pg_sys::bms_membership(outer) != pg_sys::BMS_Membership::BMS_EMPTY_SET {
                sets.push(outer);
            }
        }
        sets
    }
}

/// A column of the relation that is planned.
struct Column {
    rti: u32,
    attno: i16,
}

impl Column {
    unsafe fn is(&self, node: *mut Node) -> bool {
        // SAFETY: the tag says what it is.
        unsafe {
            node_as!(strip_relabel(node), T_Var).is_some_and(|v| {
                let v = v.cast::<pg_sys::Var>();
                (*v).varno as u32 == self.rti && (*v).varattno == self.attno && (*v).varlevelsup == 0
            })
        }
    }

    /// Whether a clause is `column = something`, with an operator that an index of Postgres's own can use.
    unsafe fn is_equated_by(&self, clause: *mut Node) -> bool {
        // SAFETY: as above.
        unsafe {
            let Some(op) = node_as!(clause, T_OpExpr) else { return false };
            let op = op.cast::<pg_sys::OpExpr>();
            let args = items::<Node>((*op).args);
            args.len() == 2
                && (self.is(args[0]) || self.is(args[1]))
                && !pg_sys::get_mergejoin_opfamilies((*op).opno).is_null()
        }
    }
}

/// Whether a member of an equivalence class is the column.
unsafe extern "C-unwind" fn is_column(
    _root: *mut pg_sys::PlannerInfo,
    _rel: *mut pg_sys::RelOptInfo,
    _class: *mut pg_sys::EquivalenceClass,
    member: *mut pg_sys::EquivalenceMember,
    wanted: *mut c_void,
) -> bool {
    // SAFETY: `wanted` is the `Column` of `outer_relations`.
    unsafe { (*wanted.cast::<Column>()).is((*member).em_expr.cast()) }
}
