//! Around `standard_planner` for the fallback: what the query needs before it, and what its plan
//! needs after it.
//!
//! Before: the target of a write carries its whole row, a row that is locked above carries its key.
//! After: the nodes that would touch rows of a distributed table in this database, `ModifyTable`
//! and `LockRows`, give way to ours, and scans that are read again keep their rows.

use crate::catalog::{ClusterMap, TableId};
use crate::error::Result;
use crate::node_as;
use crate::pg::planner;
use crate::pg::scan::FLAG_RESCANNED;
use crate::pg::tree::{self, Visit, items};
use pgrx::pg_sys;

/// The junk column that carries the row to be written.
pub const ROW_COLUMN: &std::ffi::CStr = c"sharding_row";

/// Whether a query's row locks are taken above its scans: where a scan would lock too much.
pub unsafe fn locks_above(_parse: &pg_sys::Query) -> bool {
    false
}

/// Prepares the query tree for the planner.
pub unsafe fn prepare(query: *mut pg_sys::Query, map: &ClusterMap) {
    // SAFETY: the planner hook may change the tree.
    unsafe {
        tree::walk(query.cast(), |n| {
            if let Some(q) = node_as!(n, T_Query) {
                prepare_level(q.cast(), map);
            }
            Visit::Deeper
        });
    }
}

unsafe fn prepare_level(query: *mut pg_sys::Query, map: &ClusterMap) {
    // SAFETY: as above.
    unsafe {
        let distributed = |rte: *mut pg_sys::RangeTblEntry| {
            (*rte).rtekind == pg_sys::RTEKind::RTE_RELATION
                && (*rte).relkind as u8 == pg_sys::RELKIND_PARTITIONED_TABLE
                && map.distribution(TableId((*rte).relid.to_u32())).is_some()
        };
        for (i, rte) in items::<pg_sys::RangeTblEntry>((*query).rtable).into_iter().enumerate() {
            let is_insert_target = i + 1 == (*query).resultRelation as usize
                && (*query).commandType == pg_sys::CmdType::CMD_INSERT;
            if distributed(rte) && !(*rte).inh && !is_insert_target {
                planner::mark_only(rte);
            }
        }
        let target = (*query).resultRelation as u32;
        if target == 0 || (*query).commandType == pg_sys::CmdType::CMD_INSERT {
            return;
        }
        let rte = tree::entry((*query).rtable, target);
        if distributed(rte) {
            (*rte).inh = false;
            let var = pg_sys::makeWholeRowVar(rte, target as i32, 0, false);
            let resno = if (*query).targetList.is_null() { 1 } else { (*(*query).targetList).length + 1 };
            let tle = pg_sys::makeTargetEntry(var.cast(), resno as i16, ROW_COLUMN.as_ptr().cast_mut(), true);
            (*query).targetList = pg_sys::lappend((*query).targetList, tle.cast());
        }
    }
}

/// Puts our nodes into a finished plan.
pub unsafe fn finish(stmt: *mut pg_sys::PlannedStmt, map: &ClusterMap) -> Result<()> {
    // SAFETY: the plan was just made and belongs to us.
    unsafe {
        let walker = Finisher { stmt, map };
        (*stmt).planTree = walker.plan((*stmt).planTree, false)?;
        let subplans = (*stmt).subplans;
        if !subplans.is_null() {
            for i in 0..(*subplans).length as usize {
                let cell = (*subplans).elements.add(i);
                (*cell).ptr_value = walker.plan((*cell).ptr_value.cast(), true)?.cast();
            }
        }
        walker.quiet_marks((*stmt).rowMarks);
        Ok(())
    }
}

struct Finisher<'a> {
    stmt: *mut pg_sys::PlannedStmt,
    map: &'a ClusterMap,
}

impl Finisher<'_> {
    /// Row marks of distributed tables: the executor must not look for their rows here.
    unsafe fn quiet_marks(&self, marks: *mut pg_sys::List) {
        // SAFETY: marks number entries of the flat range table.
        unsafe {
            for mark in items::<pg_sys::PlanRowMark>(marks) {
                let rte = tree::entry((*self.stmt).rtable, (*mark).rti);
                if self.map.distribution(TableId((*rte).relid.to_u32())).is_some() {
                    (*mark).isParent = true;
                }
            }
        }
    }

    /// The plan with our nodes in it. `again`: it may be read from the start more than once.
    unsafe fn plan(&self, plan: *mut pg_sys::Plan, again: bool) -> Result<*mut pg_sys::Plan> {
        // SAFETY: plan trees consist of the nodes of plannodes.h.
        unsafe {
            if plan.is_null() {
                return Ok(plan);
            }
            let node_tag = (*plan).type_;
            if node_tag == pg_sys::NodeTag::T_ForeignScan {
                self.foreign_scan(plan.cast(), again);
            }
            let inner_again = again
                || matches!(node_tag, pg_sys::NodeTag::T_NestLoop | pg_sys::NodeTag::T_RecursiveUnion | pg_sys::NodeTag::T_MergeJoin);
            // A Material, Sort or hash table keeps the rows itself, unless parameters change below it.
            (*plan).lefttree = self.plan((*plan).lefttree, again)?;
            (*plan).righttree = self.plan((*plan).righttree, inner_again)?;
            match node_tag {
                pg_sys::NodeTag::T_Append => self.list((*plan.cast::<pg_sys::Append>()).appendplans, again)?,
                pg_sys::NodeTag::T_MergeAppend => self.list((*plan.cast::<pg_sys::MergeAppend>()).mergeplans, again)?,
                pg_sys::NodeTag::T_SubqueryScan => {
                    let sub = plan.cast::<pg_sys::SubqueryScan>();
                    (*sub).subplan = self.plan((*sub).subplan, again)?;
                }
                pg_sys::NodeTag::T_CustomScan => self.list((*plan.cast::<pg_sys::CustomScan>()).custom_plans, again)?,
                pg_sys::NodeTag::T_LockRows => self.quiet_marks((*plan.cast::<pg_sys::LockRows>()).rowMarks),
                pg_sys::NodeTag::T_ModifyTable => {
                    let modify = plan.cast::<pg_sys::ModifyTable>();
                    self.quiet_marks((*modify).rowMarks);
                    let target = tree::ints((*modify).resultRelations)[0];
                    let rte = tree::entry((*self.stmt).rtable, target as u32);
                    if self.map.distribution(TableId((*rte).relid.to_u32())).is_some() {
                        return crate::pg::modify::replace(modify);
                    }
                }
                _ => {}
            }
            Ok(plan)
        }
    }

    unsafe fn list(&self, plans: *mut pg_sys::List, again: bool) -> Result<()> {
        // SAFETY: a list of plans.
        unsafe {
            if !plans.is_null() {
                for i in 0..(*plans).length as usize {
                    let cell = (*plans).elements.add(i);
                    (*cell).ptr_value = self.plan((*cell).ptr_value.cast(), again)?.cast();
                }
            }
            Ok(())
        }
    }

    unsafe fn foreign_scan(&self, scan: *mut pg_sys::ForeignScan, again: bool) {
        // SAFETY: only our own foreign scans have a bytea constant first.
        unsafe {
            if again && crate::pg::scan::is_ours(scan) {
                let private = items::<pg_sys::Node>((*scan).fdw_private);
                (*private[1].cast::<pg_sys::Integer>()).ival |= FLAG_RESCANNED;
            }
        }
    }
}
