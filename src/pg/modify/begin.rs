//! Sets up a write of rows: slots, projections, conditions and codecs; see `run` for the rows.
//!
//! `UPDATE t SET a = s.a FROM s WHERE t.id = s.id` gets a slot for the old row and one for the new, the projection that
//! fills the new one from a row of the join, the list of columns to send (`a`), and where in that row the
//! identity of the target's row is.

use crate::catalog::{TableId, quote_identifier};
use crate::error::{Error, Result, sqlstate};
use crate::pg::codec::Codec;
use crate::pg::guard::boundary;
use crate::pg::hash::KeyHasher;
use crate::pg::modify::compat;
use crate::pg::modify::returning::Returning;
use crate::pg::modify::run::{Action, Assignment, Modify};
use crate::pg::modify::{self, CONFLICT_COLUMN};
use crate::pg::tree::{self, items};
use crate::pg::{catalog_cache, finish, tuple};
use crate::plan::touched::Touched;
use crate::plan::write::TargetColumn;
use pgrx::pg_sys;
use std::ffi::CStr;
use std::ptr;

unsafe fn junk_column(plan: *mut pg_sys::Plan, name: &CStr) -> usize {
    // SAFETY: reads a target list.
    unsafe {
        items::<pg_sys::TargetEntry>((*plan).targetlist)
            .into_iter()
            .find(|t| (**t).resjunk && !(**t).resname.is_null() && CStr::from_ptr((**t).resname) == name)
            .map_or(0, |t| (*t).resno as usize)
    }
}

impl Modify {
    pub unsafe fn begin(
        node: *mut pg_sys::CustomScanState,
        estate: *mut pg_sys::EState,
        eflags: i32,
    ) -> Result<Modify> {
        // SAFETY: everything is made in the query's memory and lives as long as the node.
        unsafe {
            let scan = (*node).ss.ps.plan.cast::<pg_sys::CustomScan>();
            let (plan, clauses) = modify::parts(scan)?;
            let subplan = (*scan).scan.plan.lefttree;
            let child = boundary(|| pg_sys::ExecInitNode(subplan, estate, eflags));
            (*node).ss.ps.lefttree = child;
            if !(*plan).canSetTag {
                (*estate).es_auxmodifytables = pg_sys::lcons(node.cast(), (*estate).es_auxmodifytables);
            }
            let rti = tree::ints((*plan).resultRelations)[0] as u32;
            let result = tree::make::<pg_sys::ResultRelInfo>(pg_sys::NodeTag::T_ResultRelInfo);
            boundary(|| pg_sys::ExecInitResultRelation(estate, result, rti));
            let relation = (*result).ri_RelationDesc;
            let table = TableId((*relation).rd_id.to_u32());
            let map = catalog_cache::cluster()
                .ok_or_else(|| Error::new(sqlstate::UNDEFINED_OBJECT, "extension \"sharding\" is gone"))?;
            let Some((_, key)) = map.distribution(table) else {
                return Err(Error::new(sqlstate::WRONG_OBJECT_TYPE, "table is not distributed any more"));
            };
            let ps = &raw mut (*node).ss.ps;
            let desc = (*relation).rd_att;
            let extra = |ops| pg_sys::ExecInitExtraTupleSlot(estate, desc, ops);
            let old_slot = extra(&raw const pg_sys::TTSOpsVirtual);
            let new_slot = extra(&raw const pg_sys::TTSOpsVirtual);
            let source_desc = (*child).ps_ResultTupleDesc;
            let source_slot =
                pg_sys::ExecInitExtraTupleSlot(estate, source_desc, &raw const pg_sys::TTSOpsMinimalTuple);

            let returned_desc = (*(*node).ss.ss_ScanTupleSlot).tts_tupleDescriptor;
            let returned_slot =
                pg_sys::ExecInitExtraTupleSlot(estate, returned_desc, &raw const pg_sys::TTSOpsMinimalTuple);

            let out = (*node).ss.ss_ScanTupleSlot;
            let returning = items::<pg_sys::List>((*plan).returningLists)
                .first()
                .map(|list| Returning::begin(ps, *list, desc, out));
            let mut checks = false;
            if let Some(list) = items::<pg_sys::List>((*plan).withCheckOptionLists).first() {
                let mut exprs = ptr::null_mut();
                for option in items::<pg_sys::WithCheckOption>(*list) {
                    let qual = (*option).qual.cast();
                    exprs = pg_sys::lappend(exprs, boundary(|| pg_sys::ExecInitQual(qual, ps)).cast());
                }
                (*result).ri_WithCheckOptions = *list;
                (*result).ri_WithCheckOptionExprs = exprs;
                checks = !exprs.is_null();
            }

            let columns = tuple::columns((*relation).rd_id);
            let targets = columns
                .iter()
                .map(|c| TargetColumn { name: quote_identifier(&c.name), type_name: tuple::type_name(c.type_oid) })
                .collect();
            let codecs = columns.iter().map(|c| Codec::new(c.type_oid, c.typmod)).collect();
            let mut modify = Modify {
                node,
                estate,
                plan,
                hasher: KeyHasher::new(table)?,
                key,
                table,
                columns,
                targets,
                codecs,
                result,
                returning,
                checks,
                old_slot,
                new_slot,
                source_slot,
                returned_slot,
                ctid_column: junk_column(subplan, c"ctid"),
                row_column: junk_column(subplan, finish::ROW_COLUMN),
                update: ptr::null_mut(),
                assignments: Vec::new(),
                actions: Vec::new(),
                source_present: ptr::null_mut(),
                clause: None,
                clauses,
                conflict_column: junk_column(subplan, CONFLICT_COLUMN),
                clause_params: Vec::new(),
                clause_states: Vec::new(),
                changes: Vec::new(),
                bytes: 0,
                touched: Touched::default(),
                rows: pg_sys::AllocSetContextCreateExtended(
                    (*estate).es_query_cxt,
                    c"sharding changes".as_ptr(),
                    0,
                    8 * 1024,
                    8 * 1024 * 1024,
                ),
                store: ptr::null_mut(),
                done: false,
                refuses_moves: tuple::move_obstacle(relation),
                map: map.clone(),
            };
            modify.begin_operation(scan, subplan, desc)?;
            Ok(modify)
        }
    }

    unsafe fn begin_operation(
        &mut self,
        scan: *mut pg_sys::CustomScan,
        subplan: *mut pg_sys::Plan,
        desc: pg_sys::TupleDesc,
    ) -> Result<()> {
        // SAFETY: as `begin`.
        unsafe {
            let ps = &raw mut (*self.node).ss.ps;
            let econtext = (*ps).ps_ExprContext;
            match (*self.plan).operation {
                pg_sys::CmdType::CMD_UPDATE => {
                    let colnos = items::<pg_sys::List>((*self.plan).updateColnosLists)[0];
                    let (tlist, out) = ((*subplan).targetlist, self.new_slot);
                    self.update =
                        boundary(|| pg_sys::ExecBuildUpdateProjection(tlist, false, colnos, desc, econtext, out, ps));
                    self.add_assignment(&tree::ints(colnos));
                }
                pg_sys::CmdType::CMD_MERGE => {
                    let qual = compat::merge_join_condition(self.plan);
                    self.source_present = boundary(|| pg_sys::ExecInitQual(qual, ps));
                    for action in items::<pg_sys::MergeAction>(items::<pg_sys::List>((*self.plan).mergeActionLists)[0])
                    {
                        let (tlist, out) = ((*action).targetList, self.new_slot);
                        let mut assignment = 0;
                        let projection = match (*action).commandType {
                            pg_sys::CmdType::CMD_INSERT => {
                                boundary(|| pg_sys::ExecBuildProjectionInfo(tlist, econtext, out, ps, desc))
                            }
                            pg_sys::CmdType::CMD_UPDATE => {
                                let colnos = (*action).updateColnos;
                                assignment = self.add_assignment(&tree::ints(colnos));
                                boundary(|| {
                                    pg_sys::ExecBuildUpdateProjection(tlist, true, colnos, desc, econtext, out, ps)
                                })
                            }
                            _ => ptr::null_mut(),
                        };
                        let qual = (*action).qual.cast();
                        self.actions.push(Action {
                            when: compat::match_kind(action),
                            command: (*action).commandType,
                            condition: boundary(|| pg_sys::ExecInitQual(qual, ps)),
                            projection,
                            assignment,
                        });
                    }
                }
                _ => {}
            }
            if self.conflict_column > 0 {
                let exprs = (*scan).custom_exprs;
                let states = items::<pg_sys::ExprState>(boundary(|| pg_sys::ExecInitExprList(exprs, ps)));
                self.clause_states = items::<pg_sys::Node>(exprs)
                    .into_iter()
                    .zip(states)
                    .map(|(e, s)| (s, Codec::new(pg_sys::exprType(e), -1)))
                    .collect();
            }
            Ok(())
        }
    }

    fn add_assignment(&mut self, attnos: &[i32]) -> usize {
        let columns: Vec<usize> = attnos
            .iter()
            .filter_map(|a| self.columns.iter().position(|c| i32::from(c.attno) == *a && !c.generated))
            .collect();
        let sets_key = attnos.contains(&i32::from(self.key));
        self.assignments.push(Assignment { columns, sets_key });
        self.assignments.len() - 1
    }
}
