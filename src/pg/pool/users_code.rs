//! Which tables of the cluster have code of users that runs with their statements, by the catalog.
//!
//! ```text
//! CREATE TABLE t (id int8, v text CHECK (fits(v)))        pg_depend: constraint t_v_check needs function fits
//! ```
//!
//! `pg_depend` is read backwards: from functions, operators, operator classes and types to what needs them. Built-in ones are
//! not in it, so there is little to read even where tables are many, and every new session has to read it. A query
//! for the same took 6 ms of processor time in a new session, most of it to plan; this takes a tenth (PostgreSQL 15).

use crate::catalog::{ClusterMap, TableId};
use crate::pg::catalog_cache::{scan_catalog, scan_index};
use pgrx::pg_sys::{self, Datum, Oid};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;

/// OIDs of tables.
pub type Tables = BTreeSet<u32>;

// Catalogs and their indexes, of the same numbers in all versions.
const PG_ATTRDEF: u32 = 2604;
const PG_CLASS: u32 = 1259;
const PG_CONSTRAINT: u32 = 2606;
const PG_DEPEND: u32 = 2608;
const PG_DEPEND_REFERENCE_INDEX: u32 = 2674;
const PG_OPCLASS: u32 = 2616;
const PG_OPERATOR: u32 = 2617;
const PG_POLICY: u32 = 3256;
const PG_PROC: u32 = 1255;
const PG_TRIGGER: u32 = 2620;
const PG_TYPE: u32 = 1247;
/// `FirstNormalObjectId`
const FIRST_OF_USERS: u32 = 16384;

type Columns<'a> = &'a [Option<Datum>];

fn oid(columns: Columns, attno: usize) -> u32 {
    columns.get(attno - 1).copied().flatten().map_or(0, |datum| datum.value() as u32)
}

fn letter(columns: Columns, attno: usize) -> u8 {
    columns.get(attno - 1).copied().flatten().map_or(0, |datum| datum.value() as u8)
}

/// The number of a column whose place differs between versions.
fn attno(catalog: u32, column: &CStr) -> usize {
    // SAFETY: a look-up by name; 0 if there is none.
    usize::try_from(unsafe { pg_sys::get_attnum(Oid::from(catalog), column.as_ptr()) }).unwrap_or(0).max(1)
}

fn scan(catalog: u32, row: impl FnMut(Columns)) {
    // SAFETY: the catalog exists; rows are read in a transaction.
    unsafe { scan_catalog(Oid::from(catalog), row) }
}

/// What needs an object of this catalog: catalog, object, number of its column, and the object that it needs.
fn dependents(on: u32, mut each: impl FnMut(u32, u32, u32, u32)) {
    const REFCLASSID: i16 = 4;
    // SAFETY: pg_depend's index of (refclassid, refobjid, refobjsubid).
    unsafe {
        scan_index(Oid::from(PG_DEPEND), Oid::from(PG_DEPEND_REFERENCE_INDEX), REFCLASSID, Oid::from(on), |c| {
            each(oid(c, 1), oid(c, 2), oid(c, 3), oid(c, 5));
        });
    }
}

/// The tables with policies, which run with what reads them too.
pub fn with_policies(map: &ClusterMap) -> Tables {
    let mut tables = Tables::new();
    const POLRELID: usize = 3;
    scan(PG_POLICY, |c| {
        tables.insert(oid(c, POLRELID));
    });
    tables.retain(|table| is_ours(map, *table));
    tables
}

/// The tables with code that runs with a write: their own, or that of tables whose rows are changed by cascade.
pub fn with_any(map: &ClusterMap) -> Tables {
    let mut tables = with_policies(map);
    const TGRELID: usize = 2;
    const TGISINTERNAL: usize = 8;
    scan(PG_TRIGGER, |c| {
        // Triggers of reference tables do not exist on nodes.
        let table = oid(c, TGRELID);
        if letter(c, TGISINTERNAL) == 0 && map.distribution(TableId(table)).is_some() {
            tables.insert(table);
        }
    });
    let (mut constraints, mut defaults, mut indexes) = (Tables::new(), Tables::new(), Tables::new());
    for catalog in [PG_PROC, PG_OPERATOR, PG_OPCLASS] {
        dependents(catalog, |class, object, _, _| {
            match class {
                PG_CONSTRAINT => constraints.insert(object),
                PG_ATTRDEF => defaults.insert(object),
                PG_CLASS => indexes.insert(object),
                _ => false,
            };
        });
    }
    let mut types: BTreeMap<u32, Tables> = BTreeMap::new();
    dependents(PG_TYPE, |class, object, column, needed| {
        if class == PG_CLASS && column > 0 && needed >= FIRST_OF_USERS && is_ours(map, object) {
            types.entry(needed).or_default().insert(object);
        }
    });
    // SAFETY: syscache look-ups, of what may be gone too.
    unsafe {
        types.retain(|needed, _| pg_sys::get_typtype(Oid::from(*needed)) as u8 != pg_sys::TYPTYPE_ENUM);
        tables.extend(indexes.iter().map(|index| pg_sys::IndexGetRelation(Oid::from(*index), true).to_u32()));
    }
    tables.extend(types.into_values().flatten());
    if !defaults.is_empty() {
        scan(PG_ATTRDEF, |c| {
            if defaults.contains(&oid(c, 1)) {
                tables.insert(oid(c, 2));
            }
        });
    }
    tables.retain(|table| is_ours(map, *table));
    if !(tables.is_empty() && constraints.is_empty()) {
        add_constrained(map, &constraints, &mut tables);
    }
    tables
}

/// Adds the tables of these constraints, and those that tables with code refer to.
fn add_constrained(map: &ClusterMap, constraints: &Tables, tables: &mut Tables) {
    let (table, referenced) = (attno(PG_CONSTRAINT, c"conrelid"), attno(PG_CONSTRAINT, c"confrelid"));
    let mut references = Vec::new();
    scan(PG_CONSTRAINT, |c| {
        let of = oid(c, table);
        if is_ours(map, of) {
            if constraints.contains(&oid(c, 1)) {
                tables.insert(of);
            }
            references.push((of, oid(c, referenced)));
        }
    });
    references.retain(|(_, to)| is_ours(map, *to));
    let mut more = true;
    while more {
        more = false;
        for (from, to) in &references {
            more |= tables.contains(from) && tables.insert(*to);
        }
    }
}

fn is_ours(map: &ClusterMap, table: u32) -> bool {
    map.tables.contains_key(&TableId(table))
}
