//! INSERT of many rows as COPY: where nothing has to come back of them.
//!
//! ```text
//! INSERT INTO others SELECT * FROM entries     with another shard key
//!   -> SELECT ... FROM entries                 on each node, rows as they come
//!   -> COPY others FROM STDIN                  on each node, one after the other, some 100,000 rows each
//! ```
//!
//! Rows that are a scan's rows as they are go from one node to the other without being decoded: the body of a `DataRow`
//! in binary is a record of binary COPY, byte by byte; only the key is looked at. Any other row is made by the plan
//! below, and encoded. A node reads and writes over the one connection of the transaction, in turn: what it has read is set
//! aside in the connection's buffers, one page of it at most.
//!
//! ON CONFLICT, RETURNING, check options and row security need INSERT ([`apply`](super::apply)).

use crate::copy::binary;
use crate::error::{Error, Result, sqlstate};
use crate::node_as;
use crate::pg::bulk::BulkLoader;
use crate::pg::foreign_scan::scan_of;
use crate::pg::modify::run::{Modify, exec_proc_node};
use crate::pg::scan::{Scan, is_ours};
use crate::pg::session::Row;
use crate::pg::tree::items;
use crate::pg::{slot, tuple};
use crate::plan::remote::Source;
use pgrx::pg_sys;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::slice;

/// Where a column of the new row comes from.
enum Field {
    /// A column of the scan's remote row.
    Remote(usize),
    /// The same value in each row, with its length.
    Constant(Vec<u8>),
}

impl Modify {
    /// Whether the statement's rows may go as COPY.
    pub(super) unsafe fn may_copy(&self) -> bool {
        // SAFETY: the plan and the relation live as long as the node.
        unsafe {
            (*self.plan).operation == pg_sys::CmdType::CMD_INSERT
                && (*self.plan).onConflictAction == pg_sys::OnConflictAction::ONCONFLICT_NONE
                && self.conflict_column == 0
                && self.returning.is_none()
                && !self.checks
                && !(*(*(*self.result).ri_RelationDesc).rd_rel).relrowsecurity
                && self.columns.iter().any(|column| !column.generated)
        }
    }

    /// Reads the source to its end and copies its rows to the nodes.
    pub(super) unsafe fn copy_rows(&mut self) -> Result<()> {
        // SAFETY: the child was initialized by `begin`; its rows have the target's columns first.
        unsafe {
            let columns: Vec<i16> = self.columns.iter().filter(|c| !c.generated).map(|c| c.attno).collect();
            let mut loader = BulkLoader::new(&self.map, self.table, &columns)?;
            let child = (*self.node).ss.ps.lefttree;
            if tuple::is_watched((*self.result).ri_RelationDesc) {
                loader.hold();
            }
            let copied = catch_unwind(AssertUnwindSafe(|| match self.straight(child, &loader) {
                Some((scan, fields)) => self.forward(scan, &fields, &mut loader),
                None => self.encode_rows(child, &mut loader),
            }));
            if !matches!(copied, Ok(Ok(())))
                && let Some(error) = loader.failure()
            {
                // The node that refuses a row refuses to send on what is read of it.
                return Err(self.without_line(error));
            }
            let copied = copied.unwrap_or_else(|payload| resume_unwind(payload));
            let rows = copied.and_then(|()| loader.finish()).map_err(|error| self.without_line(error))?;
            if (*self.plan).canSetTag {
                (*self.estate).es_processed += rows;
            }
            Ok(())
        }
    }

    unsafe fn encode_rows(&mut self, child: *mut pg_sys::PlanState, loader: &mut BulkLoader) -> Result<()> {
        // SAFETY: as above; values live until the next row is asked for.
        unsafe {
            let econtext = (*self.node).ss.ps.ps_ExprContext;
            loop {
                pg_sys::MemoryContextReset((*econtext).ecxt_per_tuple_memory);
                let source = exec_proc_node(child);
                if source.is_null() || slot::is_empty(source) {
                    return Ok(());
                }
                slot::deform(source);
                let natts = (*(*source).tts_tupleDescriptor).natts as usize;
                let values = slice::from_raw_parts((*source).tts_values, natts);
                let nulls = slice::from_raw_parts((*source).tts_isnull, natts);
                loader.push(values, nulls)?;
            }
        }
    }

    /// The scan below and the fields of its rows that the new rows consist of, if that is all there is to do.
    unsafe fn straight<'a>(
        &self,
        child: *mut pg_sys::PlanState,
        loader: &BulkLoader,
    ) -> Option<(&'a mut Scan, Vec<Field>)> {
        // SAFETY: the child's plan is a finished one; our scans have our state.
        unsafe {
            let plan = node_as!((*child).plan.cast(), T_ForeignScan)?.cast::<pg_sys::ForeignScan>();
            if !loader.is_binary()
                || !is_ours(plan)
                || !(*child).qual.is_null()
                || !(*child).instrument.is_null()
                || !(*child).chgParam.is_null()
            {
                return None;
            }
            let scan = scan_of(child.cast());
            if scan.keeps_rows() || !scan.is_closed() {
                return None;
            }
            let entries = items::<pg_sys::TargetEntry>((*plan).scan.plan.targetlist);
            let fields = self.columns.iter().filter(|column| !column.generated).map(|column| {
                let entry = *entries.get(column.attno as usize - 1)?;
                field(scan, (*entry).expr.cast(), column)
            });
            let fields: Option<Vec<Field>> = fields.collect();
            fields.map(|fields| (scan, fields))
        }
    }

    unsafe fn forward(&mut self, scan: &mut Scan, fields: &[Field], loader: &mut BulkLoader) -> Result<()> {
        // SAFETY: called by the executor while it runs the scan; the relation is open.
        unsafe {
            loader.takes_fields((*self.result).ri_RelationDesc)?;
            let key = self.columns.iter().filter(|c| !c.generated).position(|c| c.attno == self.key).unwrap_or(0);
            let count = fields.len() as i16;
            let same = scan.columns.len() == fields.len()
                && fields.iter().enumerate().all(|(i, field)| matches!(field, Field::Remote(c) if *c == i));
            let mut record = Vec::new();
            while let Some(body) = scan.fetch()? {
                let body: &[u8] = if same {
                    &body
                } else {
                    record.clear();
                    put_together(&Row::parse(body)?, fields, &mut record);
                    &record
                };
                match binary::next(body, true, count, key) {
                    Ok(binary::Step::Record { end, key }) if end == body.len() => {
                        loader.push_fields(body, key.map(|key| &body[key]))?;
                    }
                    _ => return Err(Error::new(sqlstate::PROTOCOL_VIOLATION, "node sent a row of another shape")),
                }
            }
            Ok(())
        }
    }

    /// An INSERT knows no lines of COPY.
    fn without_line(&self, mut error: Error) -> Error {
        // SAFETY: reads the name of an open relation.
        let name = unsafe {
            crate::pg::utility::tree::text((*(*(*self.result).ri_RelationDesc).rd_rel).relname.data.as_ptr())
        };
        let prefix = format!("COPY {name}, line ");
        error.context = error
            .context
            .map(|context| context.lines().filter(|line| !line.starts_with(&prefix)).collect::<Vec<_>>().join("\n"));
        error
    }
}

/// What an output of a scan is, if it is of the column's type and in binary.
unsafe fn field(scan: &Scan, expr: *mut pg_sys::Node, column: &tuple::Column) -> Option<Field> {
    // SAFETY: expressions of a finished plan: its Vars are columns of the scan.
    unsafe {
        if let Some(var) = node_as!(expr, T_Var) {
            let var = var.cast::<pg_sys::Var>();
            if (*var).varno != pg_sys::INDEX_VAR || (*var).varattno < 1 || (*var).vartype != column.type_oid {
                return None;
            }
            let Source::Remote(remote) = scan.plan.columns.get((*var).varattno as usize - 1)? else { return None };
            return scan.columns[*remote].binary.then_some(Field::Remote(*remote));
        }
        let value = node_as!(expr, T_Const)?.cast::<pg_sys::Const>();
        if (*value).constisnull {
            return Some(Field::Constant((-1i32).to_be_bytes().to_vec()));
        }
        let mut codec = crate::pg::codec::Codec::new(column.type_oid, column.typmod);
        if (*value).consttype != column.type_oid || !codec.binary {
            return None;
        }
        let bytes = codec.encode((*value).constvalue);
        let mut field = (bytes.len() as i32).to_be_bytes().to_vec();
        field.extend(bytes);
        Some(Field::Constant(field))
    }
}

fn put_together(row: &Row, fields: &[Field], out: &mut Vec<u8>) {
    out.extend_from_slice(&(fields.len() as i16).to_be_bytes());
    for field in fields {
        match field {
            Field::Constant(bytes) => out.extend_from_slice(bytes),
            Field::Remote(column) => match row.get(*column) {
                Some(bytes) => {
                    out.extend_from_slice(&(bytes.len() as i32).to_be_bytes());
                    out.extend_from_slice(bytes);
                }
                None => out.extend_from_slice(&(-1i32).to_be_bytes()),
            },
        }
    }
}
