//! The row trigger of reference tables: `sharding.replicate_row()`.
//!
//! The coordinator's copy is an ordinary table, so every kind of write to it, with its volatile
//! functions, sequences and triggers, happens once, here. What comes out are rows: this trigger
//! turns each changed row into the statement that makes the same change in the nodes' copies. A row
//! is found there by its primary key, or, without one, by its image (`*=`, any one of equals).

use crate::catalog::quote_identifier;
use crate::error::{Error, Result, sqlstate};
use crate::pg::codec::{Codec, TransmissionMode};
use crate::pg::guard::guarded;
use crate::pg::pending::{self, Change};
use crate::pg::session::Param;
use crate::pg::tuple::{self, Column};
use pgrx::pg_sys;

/// The trigger function.
#[unsafe(no_mangle)]
pub unsafe extern "C-unwind" fn sharding_replicate_row(fcinfo: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: called by the trigger manager.
    guarded(|| unsafe { replicate(fcinfo) })
}

#[unsafe(no_mangle)]
pub extern "C-unwind" fn pg_finfo_sharding_replicate_row() -> &'static pg_sys::Pg_finfo_record {
    const V1: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
    &V1
}

unsafe fn replicate(fcinfo: pg_sys::FunctionCallInfo) -> Result<pg_sys::Datum> {
    // SAFETY: the context is a TriggerData (checked), tuples are of the trigger's relation.
    unsafe {
        let context = (*fcinfo).context;
        if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_TriggerData {
            return Err(Error::new(sqlstate::WRONG_OBJECT_TYPE, "sharding.replicate_row() is a trigger function"));
        }
        let data = context.cast::<pg_sys::TriggerData>();
        let relation = (*data).tg_relation;
        let row = Row::new(relation);
        let event = (*data).tg_event & pg_sys::TRIGGER_EVENT_OPMASK;
        let change = match event {
            pg_sys::TRIGGER_EVENT_INSERT => row.insert((*data).tg_trigtuple),
            pg_sys::TRIGGER_EVENT_DELETE => row.delete((*data).tg_trigtuple),
            _ => row.update((*data).tg_trigtuple, (*data).tg_newtuple),
        };
        pending::add(change)?;
        (*fcinfo).isnull = false;
        Ok(pg_sys::Datum::from((*data).tg_trigtuple))
    }
}

/// How rows of one table are written down.
struct Row {
    relation: pg_sys::Relation,
    table: String,
    columns: Vec<Column>,
    key: Vec<i16>,
    cascades: bool,
}

impl Row {
    unsafe fn new(relation: pg_sys::Relation) -> Row {
        // SAFETY: the relation is open.
        unsafe {
            Row {
                relation,
                table: tuple::qualified_name((*relation).rd_id),
                columns: tuple::columns((*relation).rd_id),
                key: tuple::primary_key(relation),
                cascades: tuple::references_others(relation),
            }
        }
    }

    unsafe fn params(&self, row: pg_sys::HeapTuple, wanted: impl Fn(&Column) -> bool) -> Vec<Param> {
        // SAFETY: the tuple is of the relation's type.
        unsafe {
            let desc = (*self.relation).rd_att;
            let natts = (*desc).natts as usize;
            let mut values = vec![pg_sys::Datum::from(0); natts];
            let mut nulls = vec![false; natts];
            pg_sys::heap_deform_tuple(row, desc, values.as_mut_ptr(), nulls.as_mut_ptr());
            let _text = TransmissionMode::enter();
            self.columns
                .iter()
                .filter(|c| wanted(c))
                .map(|c| {
                    let at = c.attno as usize - 1;
                    Codec::new(c.type_oid, c.typmod).param((!nulls[at]).then_some(values[at]))
                })
                .collect()
        }
    }

    unsafe fn change(&self, sql: String, params: Vec<Param>, must_match: bool) -> Change {
        Change { sql, params, must_match, table: self.table.replace('"', "") }
    }

    unsafe fn insert(&self, row: pg_sys::HeapTuple) -> Change {
        // SAFETY: as `params`.
        unsafe {
            let written: Vec<&Column> = self.columns.iter().filter(|c| !c.generated).collect();
            if written.is_empty() {
                return self.change(format!("INSERT INTO {} DEFAULT VALUES", self.table), vec![], true);
            }
            let names: Vec<String> = written.iter().map(|c| quote_identifier(&c.name)).collect();
            let values: Vec<String> = written.iter().enumerate().map(|(i, c)| placeholder(i + 1, c)).collect();
            let sql = format!("INSERT INTO {} ({}) VALUES ({})", self.table, names.join(", "), values.join(", "));
            self.change(sql, self.params(row, |c| !c.generated), false)
        }
    }

    /// The condition that finds a row, its parameters numbered from `first`.
    unsafe fn identity(&self, row: pg_sys::HeapTuple, first: usize) -> (String, Vec<Param>) {
        // SAFETY: as `params`.
        unsafe {
            if self.key.is_empty() {
                let values: Vec<String> =
                    self.columns.iter().enumerate().map(|(i, c)| placeholder(first + i, c)).collect();
                let condition = format!(
                    "ctid = (SELECT s.ctid FROM {0} AS s WHERE s.* OPERATOR(pg_catalog.*=) ROW({1})::{0} LIMIT 1)",
                    self.table,
                    values.join(", ")
                );
                return (condition, self.params(row, |_| true));
            }
            let key: Vec<&Column> = self.columns.iter().filter(|c| self.key.contains(&c.attno)).collect();
            let conditions: Vec<String> = key
                .iter()
                .enumerate()
                .map(|(i, c)| format!("{} = {}", quote_identifier(&c.name), placeholder(first + i, c)))
                .collect();
            (conditions.join(" AND "), self.params(row, |c| self.key.contains(&c.attno)))
        }
    }

    unsafe fn delete(&self, row: pg_sys::HeapTuple) -> Change {
        // SAFETY: as `params`.
        unsafe {
            let (condition, params) = self.identity(row, 1);
            self.change(format!("DELETE FROM {} WHERE {condition}", self.table), params, !self.cascades)
        }
    }

    unsafe fn update(&self, old: pg_sys::HeapTuple, new: pg_sys::HeapTuple) -> Change {
        // SAFETY: as `params`.
        unsafe {
            let written: Vec<&Column> = self.columns.iter().filter(|c| !c.generated).collect();
            let set: Vec<String> = written
                .iter()
                .enumerate()
                .map(|(i, c)| format!("{} = {}", quote_identifier(&c.name), placeholder(i + 1, c)))
                .collect();
            let mut params = self.params(new, |c| !c.generated);
            let (condition, identity) = self.identity(old, params.len() + 1);
            params.extend(identity);
            let sql = format!("UPDATE {} SET {} WHERE {condition}", self.table, set.join(", "));
            self.change(sql, params, !self.cascades)
        }
    }
}

fn placeholder(number: usize, column: &Column) -> String {
    // SAFETY: a catalog look-up.
    format!("${number}::{}", unsafe { tuple::type_name(column.type_oid) })
}
