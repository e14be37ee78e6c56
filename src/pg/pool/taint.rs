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
use crate::pg::catalog_cache;
use crate::pg::pool::users_code;
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::ffi::CStr;
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
    /// Parts of names: of tables with code that runs with a write, and with a read. `None`: nobody has asked yet.
    on_write: Option<Vec<String>>,
    on_read: Option<Vec<String>>,
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
        let tables = map.tables.keys().map(|table| table.0).collect();
        KNOWN.set(Known { map: Some(map.clone()), tables, on_write: None, on_read: None });
    }
    let found = KNOWN.with_borrow(|known| {
        let pieces = if writes { &known.on_write } else { &known.on_read };
        pieces.as_ref().map(|pieces| contains_any(sql, pieces))
    });
    found.unwrap_or_else(|| {
        // Set first: what changes while the catalog is read makes it void again.
        VALID.set(true);
        let pieces = pieces(&map, if writes { users_code::with_any(&map) } else { users_code::with_policies(&map) });
        let found = contains_any(sql, &pieces);
        KNOWN.with_borrow_mut(|known| *(if writes { &mut known.on_write } else { &mut known.on_read }) = Some(pieces));
        found
    })
}

fn contains_any(sql: &str, pieces: &[String]) -> bool {
    pieces.iter().any(|piece| sql.contains(piece.as_str()))
}

/// What is looked for in the text of a statement that concerns one of these tables.
fn pieces(map: &ClusterMap, tables: users_code::Tables) -> Vec<String> {
    let mut pieces = Vec::new();
    for table in tables {
        if let Some(name) = relation_name(table) {
            pieces.push(longest_piece(&name));
        }
        if let Some(Spread::Distributed { shard_prefix, .. }) =
            map.tables.get(&TableId(table)).map(|table| &table.spread)
        {
            pieces.push(longest_piece(shard_prefix));
        }
    }
    pieces
}

fn relation_name(table: u32) -> Option<String> {
    // SAFETY: null for a relation that is gone, else a palloc'd string.
    unsafe {
        let name = pg_sys::get_rel_name(pg_sys::Oid::from(table));
        (!name.is_null()).then(|| CStr::from_ptr(name).to_string_lossy().into_owned())
    }
}

/// A part of a name that is in a statement however the name is quoted there.
fn longest_piece(name: &str) -> String {
    name.split('"').max_by_key(|piece| piece.len()).unwrap_or_default().to_string()
}
