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
use crate::pg::pending::{self, Change, Kind, Target};
use crate::pg::session::Param;
use crate::pg::tuple::{self, Column};
use crate::plan::write::TargetColumn;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::rc::Rc;

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
        let event = (*data).tg_event & pg_sys::TRIGGER_EVENT_OPMASK;
        let table = Table::of(relation);
        let row = Row { table: &table, desc: (*relation).rd_att };
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
struct Table {
    oid: pg_sys::Oid,
    name: String,
    columns: Vec<Column>,
    key: Vec<i16>,
    cascades: bool,
    target: Rc<Target>,
}

thread_local! {
    /// The last table, kept while changes wait: they are sent before a table can be altered.
    static LAST: RefCell<Option<Rc<Table>>> = const { RefCell::new(None) };
}

impl Table {
    unsafe fn of(relation: pg_sys::Relation) -> Rc<Table> {
        // SAFETY: the relation is open.
        let oid = unsafe { (*relation).rd_id };
        if !pending::is_empty()
            && let Some(table) = LAST.with_borrow(|last| last.clone().filter(|t| t.oid == oid))
        {
            return table;
        }
        // SAFETY: as above.
        let table = Rc::new(unsafe { Table::new(relation) });
        LAST.set(Some(table.clone()));
        table
    }

    unsafe fn new(relation: pg_sys::Relation) -> Table {
        // SAFETY: the relation is open.
        unsafe {
            let oid = (*relation).rd_id;
            let (name, columns) = (tuple::qualified_name(oid), tuple::columns(oid));
            let written: Vec<TargetColumn> = columns
                .iter()
                .filter(|c| !c.generated)
                .map(|c| TargetColumn { name: quote_identifier(&c.name), type_name: tuple::type_name(c.type_oid) })
                .collect();
            let names: Vec<&str> = written.iter().map(|c| c.name.as_str()).collect();
            let head = format!("INSERT INTO {name} ({})", names.join(", "));
            let target = Rc::new(Target { head, columns: written });
            let (key, cascades) = (tuple::primary_key(relation), tuple::references_others(relation));
            Table { oid, name, columns, key, cascades, target }
        }
    }

    /// Of a statement that has to find its row: the table's name, unless a cascade may have been first.
    fn must_match(&self) -> Option<String> {
        (!self.cascades).then(|| self.name.replace('"', ""))
    }
}

/// Writes down rows of an open relation.
struct Row<'a> {
    table: &'a Table,
    desc: pg_sys::TupleDesc,
}

impl Row<'_> {
    unsafe fn params(&self, row: pg_sys::HeapTuple, wanted: impl Fn(&Column) -> bool) -> Vec<Param> {
        // SAFETY: the tuple is of the relation's type.
        unsafe {
            let natts = (*self.desc).natts as usize;
            let mut values = vec![pg_sys::Datum::from(0); natts];
            let mut nulls = vec![false; natts];
            pg_sys::heap_deform_tuple(row, self.desc, values.as_mut_ptr(), nulls.as_mut_ptr());
            let _text = TransmissionMode::enter();
            self.table
                .columns
                .iter()
                .filter(|c| wanted(c))
                .map(|c| {
                    let at = c.attno as usize - 1;
                    Codec::new(c.type_oid, c.typmod).param((!nulls[at]).then_some(values[at]))
                })
                .collect()
        }
    }

    unsafe fn insert(&self, row: pg_sys::HeapTuple) -> Change {
        if self.table.target.columns.is_empty() {
            let sql = format!("INSERT INTO {} DEFAULT VALUES", self.table.name);
            return Change { kind: Kind::Statement { sql, must_match: None }, params: vec![] };
        }
        // SAFETY: as `params`.
        let params = unsafe { self.params(row, |c| !c.generated) };
        Change { kind: Kind::Insert(self.table.target.clone()), params }
    }

    /// The condition that finds a row, its parameters numbered from `first`.
    unsafe fn identity(&self, row: pg_sys::HeapTuple, first: usize) -> (String, Vec<Param>) {
        // SAFETY: as `params`.
        unsafe {
            if self.table.key.is_empty() {
                let values: Vec<String> =
                    self.table.columns.iter().enumerate().map(|(i, c)| placeholder(first + i, c)).collect();
                let condition = format!(
                    "ctid = (SELECT s.ctid FROM {0} AS s WHERE s.* OPERATOR(pg_catalog.*=) ROW({1})::{0} LIMIT 1)",
                    self.table.name,
                    values.join(", ")
                );
                return (condition, self.params(row, |_| true));
            }
            let key: Vec<&Column> = self.table.columns.iter().filter(|c| self.table.key.contains(&c.attno)).collect();
            let conditions: Vec<String> = key
                .iter()
                .enumerate()
                .map(|(i, c)| format!("{} = {}", quote_identifier(&c.name), placeholder(first + i, c)))
                .collect();
            (conditions.join(" AND "), self.params(row, |c| self.table.key.contains(&c.attno)))
        }
    }

    unsafe fn delete(&self, row: pg_sys::HeapTuple) -> Change {
        // SAFETY: as `params`.
        unsafe {
            let (condition, params) = self.identity(row, 1);
            let sql = format!("DELETE FROM {} WHERE {condition}", self.table.name);
            Change { kind: Kind::Statement { sql, must_match: self.table.must_match() }, params }
        }
    }

    unsafe fn update(&self, old: pg_sys::HeapTuple, new: pg_sys::HeapTuple) -> Change {
        // SAFETY: as `params`.
        unsafe {
            let written: Vec<&Column> = self.table.columns.iter().filter(|c| !c.generated).collect();
            let set: Vec<String> = written
                .iter()
                .enumerate()
                .map(|(i, c)| format!("{} = {}", quote_identifier(&c.name), placeholder(i + 1, c)))
                .collect();
            let mut params = self.params(new, |c| !c.generated);
            let (condition, identity) = self.identity(old, params.len() + 1);
            params.extend(identity);
            let sql = format!("UPDATE {} SET {} WHERE {condition}", self.table.name, set.join(", "));
            Change { kind: Kind::Statement { sql, must_match: self.table.must_match() }, params }
        }
    }
}

fn placeholder(number: usize, column: &Column) -> String {
    // SAFETY: a catalog look-up.
    format!("${number}::{}", unsafe { tuple::type_name(column.type_oid) })
}
