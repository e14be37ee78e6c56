//! Which statements may leave traces in a node's session, because users' code runs with them.
//!
//! What this extension sends changes nothing in a session but the settings that it keeps track of, and
//! functions that could do more are never shipped. Code of users is another matter: triggers,
//! policies, functions in constraints, defaults and indexes may set settings, make temporary tables,
//! take advisory locks, listen. A connection on which such code may have run is reset before
//! somebody else gets it.
//!
//! A statement concerns a table only if it names it (or a shard of it). So the question is whether
//! the text holds the name of a table with such code, or of one whose rows cascade to it. Where that
//! is so by chance, a connection is reset for nothing.

use crate::catalog::{ClusterMap, Spread, TableId};
use crate::pg::{catalog_cache, spi};
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;

/// What is sent to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work<'a> {
    /// A statement about distributed tables that this extension has made.
    Statement(&'a str),
    /// DDL, a user's own text, or anything else.
    Command,
}

#[derive(Default)]
struct Known {
    map: Option<Rc<ClusterMap>>,
    /// Tables whose change makes this void.
    tables: HashSet<u32>,
    /// Parts of names: of tables with code that runs with a write, and with a read.
    on_write: Vec<String>,
    on_read: Vec<String>,
}

thread_local! {
    static KNOWN: RefCell<Known> = RefCell::default();
    static VALID: Cell<bool> = const { Cell::new(false) };
}

/// Watches for changes of tables; called once from `_PG_init`.
pub fn install() {
    // SAFETY: the callback lives as long as the backend.
    unsafe { pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), pg_sys::Datum::from(0)) }
}

unsafe extern "C-unwind" fn relation_changed(_arg: pg_sys::Datum, relation: pg_sys::Oid) {
    let concerns = relation == pg_sys::InvalidOid
        || KNOWN
            .try_with(|known| known.try_borrow().map_or(true, |k| k.tables.contains(&relation.to_u32())))
            .unwrap_or(false);
    if concerns {
        VALID.set(false);
    }
}

/// Whether the work may leave traces in the session.
pub fn taints(work: Work, writes: bool) -> bool {
    let Work::Statement(sql) = work else { return true };
    let Some(map) = catalog_cache::cluster() else { return true };
    let current = VALID.get() && KNOWN.with_borrow(|known| known.map.as_ref().is_some_and(|m| Rc::ptr_eq(m, &map)));
    if !current {
        // Set first: what changes while the catalog is read makes it void again.
        VALID.set(true);
        KNOWN.with_borrow_mut(|known| known.tables = map.tables.keys().map(|table| table.0).collect());
        let (on_write, on_read) = tables_with_code(&map);
        KNOWN.with_borrow_mut(|known| {
            known.map = Some(map);
            known.on_write = on_write;
            known.on_read = on_read;
        });
    }
    KNOWN.with_borrow(|known| {
        let names = if writes { &known.on_write } else { &known.on_read };
        names.iter().any(|name| sql.contains(name.as_str()))
    })
}

/// The names of the tables with code that runs with a write, and with a read.
fn tables_with_code(map: &ClusterMap) -> (Vec<String>, Vec<String>) {
    let list = |tables: Vec<&TableId>| {
        let oids: Vec<String> = tables.into_iter().map(|table| table.0.to_string()).collect();
        format!("'{{{}}}'::pg_catalog.oid[]", oids.join(","))
    };
    if map.tables.is_empty() {
        return (Vec::new(), Vec::new());
    }
    let all = list(map.tables.keys().collect());
    // Triggers of reference tables do not exist on nodes.
    let distributed = list(map.tables.keys().filter(|table| map.distribution(**table).is_some()).collect());
    let depends = |class: &str, object: &str| {
        format!(
            "EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.{class}'::pg_catalog.regclass \
             AND d.objid = {object} AND d.refclassid IN ('pg_catalog.pg_proc'::pg_catalog.regclass, \
             'pg_catalog.pg_operator'::pg_catalog.regclass, 'pg_catalog.pg_opclass'::pg_catalog.regclass))"
        )
    };
    // Built-in functions are not in pg_depend; types of users below FirstNormalObjectId do not exist.
    let sql = format!(
        "WITH RECURSIVE code(oid) AS (
           SELECT tgrelid FROM pg_catalog.pg_trigger WHERE NOT tgisinternal AND tgrelid = ANY ({distributed})
           UNION SELECT polrelid FROM pg_catalog.pg_policy WHERE polrelid = ANY ({all})
           UNION SELECT c.conrelid FROM pg_catalog.pg_constraint c
             WHERE c.conrelid = ANY ({all}) AND {}
           UNION SELECT a.adrelid FROM pg_catalog.pg_attrdef a
             WHERE a.adrelid = ANY ({all}) AND {}
           UNION SELECT i.indrelid FROM pg_catalog.pg_index i
             WHERE i.indrelid = ANY ({all}) AND {}
           UNION SELECT a.attrelid FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
             WHERE a.attrelid = ANY ({all}) AND a.attnum > 0 AND t.oid >= 16384 AND t.typtype <> 'e'
           UNION SELECT c.confrelid FROM code JOIN pg_catalog.pg_constraint c
             ON c.conrelid = code.oid AND c.contype = 'f'
         )
         SELECT code.oid, r.relname,
                CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = code.oid) THEN 'read' END
         FROM code JOIN pg_catalog.pg_class r ON r.oid = code.oid WHERE code.oid = ANY ({all})",
        depends("pg_constraint", "c.oid"),
        depends("pg_attrdef", "a.oid"),
        depends("pg_class", "i.indexrelid"),
    );
    let (mut on_write, mut on_read) = (Vec::new(), Vec::new());
    for row in spi::read_now(&sql) {
        let [Some(oid), Some(name), reads] = &row[..] else { continue };
        let mut names = vec![longest_piece(name)];
        let table = oid.parse().ok().and_then(|oid| map.tables.get(&TableId(oid)));
        if let Some(Spread::Distributed { shard_prefix, .. }) = table.map(|table| &table.spread) {
            names.push(longest_piece(shard_prefix));
        }
        if reads.is_some() {
            on_read.extend(names.iter().cloned());
        }
        on_write.extend(names);
    }
    (on_write, on_read)
}

/// A part of a name that is in a statement however the name is quoted there.
fn longest_piece(name: &str) -> String {
    name.split('"').max_by_key(|piece| piece.len()).unwrap_or_default().to_string()
}
