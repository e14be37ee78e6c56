//! Around `standard_planner` for the fallback: what the query needs before it, and what its plan
//! needs after it.
//!
//! Before: the target of a write carries its whole row, a row that is locked above carries its key.
//! After: the nodes that would touch rows of a distributed table in this database, `ModifyTable`
//! and `LockRows`, give way to ours, and scans that are read again keep their rows.

use crate::catalog::{ClusterMap, TableId};
use crate::error::Result;
use crate::node_as;
use crate::pg::modify::{self, CONFLICT_COLUMN, ConflictClause};
use crate::pg::scan::FLAG_RESCANNED;
use crate::pg::tree::{self, Visit, items};
use crate::pg::{lock_rows, planner, tuple};
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::HashSet;
use std::ffi::{CStr, c_char};

/// The junk column that carries the row to be written.
pub const ROW_COLUMN: &CStr = c"sharding_row";

/// Whether a query's row locks are taken above its scans: [`prepare`] decided so.
pub unsafe fn locks_above(parse: &pg_sys::Query) -> bool {
    // SAFETY: reads a target list.
    unsafe {
        items::<pg_sys::TargetEntry>(parse.targetList).into_iter().any(|t| {
            (*t).resjunk
                && !(*t).resname.is_null()
                && CStr::from_ptr((*t).resname).to_bytes().starts_with(b"sharding_key_")
        })
    }
}

/// Whether a scan that locks what it reads would lock too much: something above it drops rows, or
/// somebody else's lock must not stop it.
unsafe fn scan_would_lock_too_much(query: &pg_sys::Query) -> bool {
    // SAFETY: reads an analyzed query.
    unsafe {
        let from = items::<tree::Node>((*query.jointree).fromlist);
        let alone = from.len() == 1 && (*from[0]).type_ == pg_sys::NodeTag::T_RangeTblRef;
        !query.limitCount.is_null()
            || !query.limitOffset.is_null()
            || !alone
            || query.hasSubLinks
            || items::<pg_sys::RowMarkClause>(query.rowMarks)
                .into_iter()
                .any(|m| (*m).waitPolicy != pg_sys::LockWaitPolicy::LockWaitBlock)
    }
}

/// The ON CONFLICT clauses of a statement and the expressions of their parameters.
#[derive(Default)]
pub struct Conflicts {
    clauses: Vec<ConflictClause>,
    expressions: Vec<*mut tree::Node>,
}

/// Prepares the query tree for the planner.
pub unsafe fn prepare(query: *mut pg_sys::Query, map: &ClusterMap) -> Result<Conflicts> {
    let mut conflicts = Conflicts::default();
    let mut error = None;
    // SAFETY: the planner hook may change the tree.
    unsafe {
        tree::walk(query.cast(), |n| {
            if let Some(q) = node_as!(n, T_Query)
                && let Err(e) = prepare_level(q.cast(), map, &mut conflicts)
            {
                error = Some(e);
                return Visit::Stop;
            }
            Visit::Deeper
        });
    }
    error.map_or(Ok(conflicts), Err)
}

unsafe fn prepare_level(query: *mut pg_sys::Query, map: &ClusterMap, conflicts: &mut Conflicts) -> Result<()> {
    // SAFETY: as above.
    unsafe {
        let distributed = |rte: *mut pg_sys::RangeTblEntry| {
            (*rte).rtekind == pg_sys::RTEKind::RTE_RELATION
                && (*rte).relkind as u8 == pg_sys::RELKIND_PARTITIONED_TABLE
                && map.distribution(TableId((*rte).relid.to_u32())).is_some()
        };
        for (i, rte) in items::<pg_sys::RangeTblEntry>((*query).rtable).into_iter().enumerate() {
            let is_insert_target =
                i + 1 == (*query).resultRelation as usize && (*query).commandType == pg_sys::CmdType::CMD_INSERT;
            if distributed(rte) && !(*rte).inh && !is_insert_target {
                planner::mark_only(rte);
            }
        }
        if !(*query).rowMarks.is_null() && scan_would_lock_too_much(&*query) {
            let mut locked = 0;
            for mark in items::<pg_sys::RowMarkClause>((*query).rowMarks) {
                let rte = tree::entry((*query).rtable, (*mark).rti);
                if !distributed(rte) {
                    continue;
                }
                let Some((_, key)) = map.distribution(TableId((*rte).relid.to_u32())) else { continue };
                let attr = tuple::columns((*rte).relid).into_iter().find(|c| c.attno == key);
                let Some(attr) = attr else { continue };
                let collation = pg_sys::get_typcollation(attr.type_oid);
                let var = pg_sys::makeVar((*mark).rti as i32, key, attr.type_oid, attr.typmod, collation, 0);
                let name = std::ffi::CString::new(lock_rows::key_column(locked)).unwrap_or_default();
                add_junk(query, var.cast(), pg_sys::pstrdup(name.as_ptr()));
                locked += 1;
            }
        }
        let target = (*query).resultRelation as u32;
        if target == 0 || !distributed(tree::entry((*query).rtable, target)) {
            return Ok(());
        }
        let rte = tree::entry((*query).rtable, target);
        if (*query).commandType != pg_sys::CmdType::CMD_INSERT {
            (*rte).inh = false;
            add_junk(query, pg_sys::makeWholeRowVar(rte, target as i32, 0, false).cast(), ROW_COLUMN.as_ptr());
        } else if !(*query).onConflict.is_null() {
            let number = conflicts.clauses.len();
            conflicts.clauses.push(modify::prepare_conflict(query, &mut conflicts.expressions)?);
            let datum = pg_sys::Datum::from(number as i32);
            let constant = pg_sys::makeConst(pg_sys::INT4OID, -1, pg_sys::InvalidOid, 4, datum, false, true);
            add_junk(query, constant.cast(), CONFLICT_COLUMN.as_ptr());
        }
        Ok(())
    }
}

/// Adds a column to what the source of a write computes.
unsafe fn add_junk(query: *mut pg_sys::Query, expr: *mut pg_sys::Expr, name: *const c_char) {
    // SAFETY: the planner renumbers the target list of a write.
    unsafe {
        let last = items::<pg_sys::TargetEntry>((*query).targetList).into_iter().map(|t| (*t).resno).max().unwrap_or(0);
        let tle = pg_sys::makeTargetEntry(expr, last + 1, name.cast_mut(), true);
        (*query).targetList = pg_sys::lappend((*query).targetList, tle.cast());
    }
}

/// Puts our nodes into a finished plan.
pub unsafe fn finish(stmt: *mut pg_sys::PlannedStmt, map: &ClusterMap, conflicts: &Conflicts) -> Result<()> {
    // SAFETY: the plan was just made and belongs to us.
    unsafe {
        let walker = Finisher { stmt, map, conflicts, read_once: RefCell::default() };
        (*stmt).planTree = walker.plan((*stmt).planTree, false)?;
        let subplans = (*stmt).subplans;
        if !subplans.is_null() {
            // A plan comes behind the subplans that it uses.
            for i in (0..(*subplans).length as usize).rev() {
                let cell = (*subplans).elements.add(i);
                let once = walker.read_once.borrow().contains(&(i as u32 + 1));
                (*cell).ptr_value = walker.plan((*cell).ptr_value.cast(), !once)?.cast();
            }
        }
        walker.quiet_marks((*stmt).rowMarks);
        Ok(())
    }
}

struct Finisher<'a> {
    stmt: *mut pg_sys::PlannedStmt,
    map: &'a ClusterMap,
    conflicts: &'a Conflicts,
    /// The numbers of subplans that a scan reads to send their rows, which it keeps itself.
    read_once: RefCell<HashSet<u32>>,
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
                || matches!(
                    node_tag,
                    pg_sys::NodeTag::T_NestLoop | pg_sys::NodeTag::T_RecursiveUnion | pg_sys::NodeTag::T_MergeJoin
                );
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
                pg_sys::NodeTag::T_LockRows => {
                    let lock = plan.cast::<pg_sys::LockRows>();
                    lock_rows::insert_below(lock, self.stmt, |t| self.map.distribution(t).is_some())?;
                    self.quiet_marks((*lock).rowMarks);
                }
                pg_sys::NodeTag::T_ModifyTable => {
                    let node = plan.cast::<pg_sys::ModifyTable>();
                    self.quiet_marks((*node).rowMarks);
                    let target = tree::ints((*node).resultRelations)[0];
                    let rte = tree::entry((*self.stmt).rtable, target as u32);
                    if self.map.distribution(TableId((*rte).relid.to_u32())).is_some() {
                        return modify::replace(node, &self.conflicts.clauses, &self.conflicts.expressions);
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
            if !crate::pg::scan::is_ours(scan) {
                return;
            }
            if let Ok((remote, _)) = crate::pg::scan::plan_of(scan) {
                let shipping = &remote.shipping;
                let subplans = shipping.shipments.iter().map(|s| s.subplan).chain(shipping.instead);
                self.read_once.borrow_mut().extend(subplans);
            }
            // System columns are part of the scan's tuple; there is no local relation to ask.
            (*scan).fsSystemCol = false;
            if again {
                let private = items::<pg_sys::Node>((*scan).fdw_private);
                (*private[1].cast::<pg_sys::Integer>()).ival |= FLAG_RESCANNED;
            }
        }
    }
}
