//! The backend's copy of the [`ClusterMap`]: read once, dropped when the catalog changes.
//!
//! Statement triggers on the catalog tables (`sharding.invalidate_cluster_map()`) send a relcache
//! invalidation for `sharding.distributed_table`; the callback registered here forgets the map in
//! every backend. Servers are watched through the syscache. A change also has to throw away cached
//! plans: whoever changes a table's row calls [`invalidate_table`].

use crate::catalog::{ClusterMap, ColocationGroup, DistributedTable, GroupId, Node, NodeId, Spread, TableId};
use crate::pg::maintenance;
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::rc::Rc;

thread_local! {
    static MAP: RefCell<Option<Rc<ClusterMap>>> = const { RefCell::new(None) };
    /// OID of `sharding.distributed_table` as of the last load.
    static ANCHOR: Cell<pg_sys::Oid> = const { Cell::new(pg_sys::InvalidOid) };
    static LOADING: Cell<bool> = const { Cell::new(false) };
    /// Raised whenever a server or a user mapping changes: connections compare it.
    static SERVERS_GENERATION: Cell<u64> = const { Cell::new(0) };
}

/// Registers the invalidation callbacks; called once from `_PG_init`.
pub fn install() {
    // SAFETY: the callbacks live as long as the backend.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), pg_sys::Datum::from(0));
        for cache in [pg_sys::SysCacheIdentifier::FOREIGNSERVEROID, pg_sys::SysCacheIdentifier::USERMAPPINGOID] {
            pg_sys::CacheRegisterSyscacheCallback(cache as _, Some(server_changed), pg_sys::Datum::from(0));
        }
    }
}

unsafe extern "C-unwind" fn relation_changed(_arg: pg_sys::Datum, relid: pg_sys::Oid) {
    if relid == pg_sys::InvalidOid || relid == ANCHOR.get() {
        MAP.with(|m| m.replace(None));
    }
}

unsafe extern "C-unwind" fn server_changed(_arg: pg_sys::Datum, _cache: i32, _hash: u32) {
    SERVERS_GENERATION.set(SERVERS_GENERATION.get() + 1);
    MAP.with(|m| m.replace(None));
}

/// Counts the changes of servers and user mappings that this backend has heard of.
pub fn servers_generation() -> u64 {
    SERVERS_GENERATION.get()
}

/// The cluster, or `None` where the extension is not created in this database.
pub fn cluster() -> Option<Rc<ClusterMap>> {
    if let Some(map) = MAP.with(|m| m.borrow().clone()) {
        return Some(map);
    }
    if LOADING.get() {
        return None;
    }
    let anchor = catalog_oid(c"distributed_table");
    if anchor == pg_sys::InvalidOid {
        return None;
    }
    LOADING.set(true);
    let _reset = ResetLoading;
    ANCHOR.set(anchor);
    // SAFETY: called inside a transaction; relations are opened and closed within.
    let map = Rc::new(unsafe { load(anchor) });
    MAP.with(|m| m.replace(Some(map.clone())));
    if !map.nodes.is_empty() {
        maintenance::note_nodes();
    }
    Some(map)
}

/// What `f` says of the cluster if it is in memory; raises no ERROR.
pub fn with_loaded<T>(f: impl FnOnce(&ClusterMap) -> T) -> Option<T> {
    MAP.with_borrow(|map| map.as_deref().map(f))
}

struct ResetLoading;

impl Drop for ResetLoading {
    fn drop(&mut self) {
        LOADING.set(false);
    }
}

/// Tells all backends that the cluster's catalog changed.
pub fn invalidate_cluster() {
    let anchor = catalog_oid(c"distributed_table");
    if anchor != pg_sys::InvalidOid {
        // SAFETY: the relation exists.
        unsafe { pg_sys::CacheInvalidateRelcacheByRelid(anchor) }
    }
}

/// Tells all backends that how a table is spread has changed, which also drops its cached plans.
pub fn invalidate_table(table: TableId) {
    // SAFETY: the caller holds a lock on the table.
    unsafe { pg_sys::CacheInvalidateRelcacheByRelid(pg_sys::Oid::from(table.0)) }
}

/// OID of a table of schema `sharding`, or 0.
pub fn catalog_oid(name: &CStr) -> pg_sys::Oid {
    // SAFETY: syscache look-ups of NUL-terminated names.
    unsafe {
        let schema = pg_sys::get_namespace_oid(c"sharding".as_ptr(), true);
        if schema == pg_sys::InvalidOid { schema } else { pg_sys::get_relname_relid(name.as_ptr(), schema) }
    }
}

/// Calls `row` with the values of each row of a catalog table, under a catalog snapshot.
pub unsafe fn scan_catalog(relid: pg_sys::Oid, row: impl FnMut(&[Option<pg_sys::Datum>])) {
    // SAFETY: as the caller says.
    unsafe { scan_where(relid, pg_sys::InvalidOid, &mut [], row) }
}

/// As [`scan_catalog`] for the rows that have an OID in a column, the first one of an index.
pub unsafe fn scan_index(
    relid: pg_sys::Oid,
    index: pg_sys::Oid,
    column: i16,
    value: pg_sys::Oid,
    row: impl FnMut(&[Option<pg_sys::Datum>]),
) {
    // SAFETY: as the caller says; a key is filled in by Postgres.
    unsafe {
        let mut key: pg_sys::ScanKeyData = std::mem::zeroed();
        let equal = pg_sys::BTEqualStrategyNumber as pg_sys::StrategyNumber;
        let function = pg_sys::Oid::from(pg_sys::F_OIDEQ);
        pg_sys::ScanKeyInit(&mut key, column, equal, function, pg_sys::Datum::from(value));
        scan_where(relid, index, &mut [key], row);
    }
}

unsafe fn scan_where(
    relid: pg_sys::Oid,
    index: pg_sys::Oid,
    keys: &mut [pg_sys::ScanKeyData],
    mut row: impl FnMut(&[Option<pg_sys::Datum>]),
) {
    // SAFETY: the arrays have natts elements; values are read before the next row is fetched.
    unsafe {
        let rel = pg_sys::table_open(relid, pg_sys::AccessShareLock as _);
        let natts = (*(*rel).rd_att).natts as usize;
        let mut values = vec![pg_sys::Datum::from(0); natts];
        let mut nulls = vec![false; natts];
        let uses_index = index != pg_sys::InvalidOid;
        let (count, keys) = (keys.len() as i32, keys.as_mut_ptr());
        let scan = pg_sys::systable_beginscan(rel, index, uses_index, std::ptr::null_mut(), count, keys);
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            pg_sys::heap_deform_tuple(tuple, (*rel).rd_att, values.as_mut_ptr(), nulls.as_mut_ptr());
            let columns: Vec<Option<pg_sys::Datum>> =
                values.iter().zip(&nulls).map(|(v, null)| (!null).then_some(*v)).collect();
            row(&columns);
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(rel, pg_sys::AccessShareLock as _);
    }
}

unsafe fn name_text(datum: pg_sys::Datum) -> String {
    // SAFETY: the datum is a `name`, NUL-padded.
    unsafe { CStr::from_ptr(datum.cast_mut_ptr::<std::ffi::c_char>()).to_string_lossy().into_owned() }
}

unsafe fn load(anchor: pg_sys::Oid) -> ClusterMap {
    // SAFETY: column numbers are those of sql/catalog.sql and of pg_foreign_server.
    unsafe {
        let mut map = ClusterMap::default();
        let wrapper = pg_sys::get_foreign_data_wrapper_oid(c"sharding".as_ptr(), true);
        scan_catalog(pg_sys::ForeignServerRelationId, |c| {
            if let (Some(oid), Some(name), Some(fdw)) = (c[0], c[1], c[3])
                && pg_sys::Oid::from(fdw.value() as u32) == wrapper
            {
                map.nodes.push(Node { id: NodeId(oid.value() as u32), name: name_text(name) });
            }
        });
        map.nodes.sort_by_key(|n| n.id);
        scan_catalog(catalog_oid(c"colocation_group"), |c| {
            if let (Some(id), Some(key_type)) = (c[0], c[1]) {
                let id = GroupId(id.value() as i32);
                map.groups.insert(id, ColocationGroup { id, key_type: key_type.value() as u32, shards: Vec::new() });
            }
        });
        let mut shards: BTreeMap<(i32, i32), String> = BTreeMap::new();
        scan_catalog(catalog_oid(c"shard"), |c| {
            if let (Some(group), Some(remainder), Some(node)) = (c[0], c[1], c[2]) {
                shards.insert((group.value() as i32, remainder.value() as i32), name_text(node));
            }
        });
        for ((group, _), node) in shards {
            let node = CString::new(node).unwrap_or_default();
            let server = pg_sys::get_foreign_server_oid(node.as_ptr(), true);
            if let Some(group) = map.groups.get_mut(&GroupId(group)) {
                group.shards.push(NodeId(server.to_u32()));
            }
        }
        map.groups.retain(|_, g| !g.shards.is_empty());
        scan_catalog(anchor, |c| {
            let Some(relation) = c[0] else { return };
            let id = TableId(relation.value() as u32);
            let spread = match (c[1], c[2]) {
                (Some(group), Some(prefix)) => Spread::Distributed {
                    group: GroupId(group.value() as i32),
                    key_attno: 0,
                    shard_prefix: name_text(prefix),
                },
                _ => Spread::Reference,
            };
            map.tables.insert(id, DistributedTable { id, spread });
        });
        for table in map.tables.values_mut() {
            if let Spread::Distributed { key_attno, .. } = &mut table.spread {
                *key_attno = partition_key(table.id).unwrap_or(0);
            }
        }
        // A table whose parent is gone or not partitioned (a half-restored dump) is not ours.
        map.tables.retain(|_, t| !matches!(t.spread, Spread::Distributed { key_attno: 0, .. }));
        map
    }
}

/// The column number of a table's only partition key column.
unsafe fn partition_key(table: TableId) -> Option<i16> {
    // SAFETY: the tuple is released after the attribute number is copied out.
    unsafe {
        let tuple = pg_sys::SearchSysCache1(
            pg_sys::SysCacheIdentifier::PARTRELID as _,
            pg_sys::Datum::from(pg_sys::Oid::from(table.0)),
        );
        if tuple.is_null() {
            return None;
        }
        let mut null = false;
        let cache = pg_sys::SysCacheIdentifier::PARTRELID as _;
        // pg_partitioned_table.partattrs
        let attrs = pg_sys::SysCacheGetAttr(cache, tuple, 5, &mut null);
        let vector = attrs.cast_mut_ptr::<pg_sys::int2vector>();
        let attno = if (*vector).dim1 == 1 { *(*vector).values.as_ptr() } else { 0 };
        pg_sys::ReleaseSysCache(tuple);
        (attno > 0).then_some(attno)
    }
}
