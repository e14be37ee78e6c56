//! The nodes' statistics as the coordinator's planner's: `pg_class` and `pg_statistic`.
//!
//! The nodes' ANALYZE of a parent leaves rows in `pg_stats` that cover its shards there; autovacuum's leaves such of
//! each shard. They are merged
//! by `ddl::statistics` and stored here for the parent: twice, since the planner asks for the
//! inherited ones when it sees a partitioned table and for the plain ones when it sees a
//! foreign one. Values travel as text and are read by the column's type. Kinds of statistics
//! on elements of arrays, ranges and extended statistics stay on the nodes.

use crate::catalog::{ClusterMap, NodeId, TableId, quote_literal};
use crate::ddl::statistics::{
    ColumnStatistics, Values, array_elements, array_text, bucket_weight, merged, merged_histogram,
};
use crate::error::Result;
use crate::pg::session::command::TextRows;
use crate::pg::session::{self, Access};
use crate::pg::utility::relation;
use pgrx::{IntoDatum, pg_sys};
use std::cmp::Ordering;
use std::collections::HashMap;
use std::ffi::CString;

/// Rows and pages of a table, and its columns' statistics, on all nodes.
#[derive(Default)]
struct Found {
    rows: f64,
    pages: f64,
    columns: HashMap<String, Vec<ColumnStatistics>>,
}

/// Fetches what the nodes' ANALYZE of the table has found out, and stores it.
pub fn refresh(map: &ClusterMap, table: TableId, access: Access) -> Result<()> {
    let found = fetch(map, table, Parts::Nodes, |nodes, sql| session::query_on(nodes, sql, access))?;
    // SAFETY: runs in a transaction.
    unsafe { pg_sys::LockRelationOid(pg_sys::Oid::from(table.0), pg_sys::ShareUpdateExclusiveLock as _) };
    store(map, table, &found)
}

/// The same with what is known of the shards, one by one. The table is locked.
pub fn refresh_from_shards(
    map: &ClusterMap,
    table: TableId,
    ask: impl Fn(&[NodeId], &str) -> Result<Vec<(NodeId, TextRows)>>,
) -> Result<()> {
    let found = fetch(map, table, Parts::Shards, ask)?;
    store(map, table, &found)
}

fn store(map: &ClusterMap, table: TableId, found: &Found) -> Result<()> {
    // SAFETY: runs in a transaction; the snapshot is popped again, by the abort if need be.
    unsafe {
        let relid = pg_sys::Oid::from(table.0);
        if pg_sys::get_rel_name(relid).is_null() {
            return Ok(());
        }
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        store_size(relid, found.rows, found.pages);
        let key = map.distribution(table).map_or(0, |(_, key)| key);
        for (name, parts) in &found.columns {
            let name = CString::new(name.as_str()).unwrap_or_default();
            let attno = pg_sys::get_attnum(relid, name.as_ptr());
            if attno <= 0 {
                continue;
            }
            let values = if attno == key { Values::OnOneNode } else { Values::Anywhere };
            if let Some(all) = merged(parts, values) {
                store_column(relid, attno, &all, parts);
            }
        }
        pg_sys::PopActiveSnapshot();
        pg_sys::CommandCounterIncrement();
    }
    Ok(())
}

/// What statistics are of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Parts {
    /// All shards of a node together.
    Nodes,
    /// Each shard.
    Shards,
}

fn fetch(
    map: &ClusterMap,
    table: TableId,
    parts: Parts,
    ask: impl Fn(&[NodeId], &str) -> Result<Vec<(NodeId, TextRows)>>,
) -> Result<Found> {
    let name = quote_literal(&relation::table_name(table));
    // One line for each part: its OID, rows and pages.
    let of_parts = match parts {
        Parts::Nodes => format!(
            "SELECT c.oid, true AS inherited, greatest(c.reltuples, 0) AS rows,
                    (SELECT sum(p.relpages) FROM pg_catalog.pg_partition_tree(c.oid) t
                       JOIN pg_catalog.pg_class p ON p.oid = t.relid WHERE t.isleaf) AS pages
               FROM pg_catalog.pg_class c WHERE c.oid = {name}::regclass"
        ),
        Parts::Shards => format!(
            "SELECT c.oid, false AS inherited, greatest(c.reltuples, 0) AS rows, c.relpages AS pages
               FROM pg_catalog.pg_partition_tree({name}::regclass) t
               JOIN pg_catalog.pg_class c ON c.oid = t.relid WHERE t.isleaf"
        ),
    };
    let sizes = format!("SELECT coalesce(sum(rows), 0), coalesce(sum(pages), 0) FROM ({of_parts}) x");
    let columns = format!(
        "SELECT s.attname, s.null_frac, s.avg_width, s.n_distinct, s.most_common_vals::text,
                s.most_common_freqs::text, s.histogram_bounds::text, s.correlation, x.rows
           FROM ({of_parts}) x JOIN pg_catalog.pg_class c ON c.oid = x.oid
           JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
           JOIN pg_catalog.pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname
                AND s.inherited = x.inherited"
    );
    let nodes = map.distribution(table).map_or_else(|| map.node_ids(), |(group, _)| group.nodes());
    let mut found = Found::default();
    for (_, rows) in ask(&nodes, &sizes)? {
        let Some(row) = rows.first() else { continue };
        let number = |i: usize| row.get(i).cloned().flatten().and_then(|v| v.parse::<f64>().ok()).unwrap_or(0.0);
        found.rows += number(0);
        found.pages += number(1);
    }
    for (_, rows) in ask(&nodes, &columns)? {
        for row in rows {
            let text = |i: usize| row.get(i).cloned().flatten();
            let number = |i: usize| text(i).and_then(|v| v.parse::<f64>().ok());
            let list = |i: usize| text(i).and_then(|v| array_elements(&v)).unwrap_or_default();
            let frequencies = list(5).into_iter().filter_map(|f| f.parse::<f64>().ok());
            let part = ColumnStatistics {
                rows: number(8).unwrap_or(0.0),
                null_fraction: number(1).unwrap_or(0.0),
                width: number(2).unwrap_or(0.0),
                distinct: number(3).unwrap_or(0.0),
                common: list(4).into_iter().zip(frequencies).collect(),
                histogram: list(6),
                correlation: number(7),
            };
            found.columns.entry(text(0).unwrap_or_default()).or_default().push(part);
        }
    }
    Ok(found)
}

unsafe fn store_size(relid: pg_sys::Oid, rows: f64, pages: f64) {
    // SAFETY: the tuple is a copy.
    unsafe {
        let rel = pg_sys::table_open(pg_sys::RelationRelationId, pg_sys::RowExclusiveLock as _);
        let cache = pg_sys::SysCacheIdentifier::RELOID as _;
        let none = pg_sys::Datum::from(0);
        let tuple = pg_sys::SearchSysCacheCopy(cache, pg_sys::Datum::from(relid), none, none, none);
        if !tuple.is_null() {
            let form = pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_class>(tuple);
            (*form).reltuples = rows as f32;
            (*form).relpages = pages.min(f64::from(i32::MAX)) as i32;
            pg_sys::CatalogTupleUpdate(rel, &mut (*tuple).t_self, tuple);
            pg_sys::heap_freetuple(tuple);
        }
        pg_sys::table_close(rel, pg_sys::RowExclusiveLock as _);
    }
}

/// What a column's type needs for its statistics to be read and compared.
struct ColumnType {
    type_oid: pg_sys::Oid,
    typmod: i32,
    collation: pg_sys::Oid,
    cache: *mut pg_sys::TypeCacheEntry,
}

impl ColumnType {
    unsafe fn of(relid: pg_sys::Oid, attno: i16) -> ColumnType {
        // SAFETY: syscache look-ups; type cache entries live as long as the backend.
        unsafe {
            let (mut type_oid, mut typmod, mut collation) = (pg_sys::InvalidOid, -1, pg_sys::InvalidOid);
            pg_sys::get_atttypetypmodcoll(relid, attno, &mut type_oid, &mut typmod, &mut collation);
            let flags = pg_sys::TYPECACHE_EQ_OPR | pg_sys::TYPECACHE_LT_OPR | pg_sys::TYPECACHE_CMP_PROC_FINFO;
            let cache = pg_sys::lookup_type_cache(type_oid, flags as _);
            ColumnType { type_oid, typmod, collation, cache }
        }
    }

    /// Whether array elements of this type are separated by commas, as [`array_elements`] expects.
    unsafe fn has_lists(&self) -> bool {
        // SAFETY: a syscache look-up with out parameters.
        unsafe {
            let (mut length, mut by_value, mut align, mut delimiter) = (0i16, false, 0, 0);
            let (mut parameter, mut function) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
            pg_sys::get_type_io_data(
                self.type_oid,
                pg_sys::IOFuncSelector::IOFunc_input,
                &mut length,
                &mut by_value,
                &mut align,
                &mut delimiter,
                &mut parameter,
                &mut function,
            );
            delimiter as u8 == b','
        }
    }

    unsafe fn array(&self, elements: &[&str]) -> pg_sys::Datum {
        // SAFETY: array_in parses the text with the element type's input function.
        unsafe {
            let text = CString::new(array_text(elements)).unwrap_or_default();
            pg_sys::OidInputFunctionCall(ARRAY_IN, text.as_ptr().cast_mut(), self.type_oid, self.typmod)
        }
    }

    unsafe fn value(&self, text: &str) -> pg_sys::Datum {
        // SAFETY: the type's input function copies the text.
        unsafe {
            let (mut function, mut parameter) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
            pg_sys::getTypeInputInfo(self.type_oid, &mut function, &mut parameter);
            let text = CString::new(text).unwrap_or_default();
            pg_sys::OidInputFunctionCall(function, text.as_ptr().cast_mut(), parameter, self.typmod)
        }
    }

    unsafe fn compare(&self, a: pg_sys::Datum, b: pg_sys::Datum) -> Ordering {
        // SAFETY: both are of this type, which has a comparison function.
        let order = unsafe { pg_sys::FunctionCall2Coll(&mut (*self.cache).cmp_proc_finfo, self.collation, a, b) };
        (order.value() as i32).cmp(&0)
    }
}

/// `array_in` (pg_proc.dat).
const ARRAY_IN: pg_sys::Oid = pg_sys::Oid::from_u32(750);

/// One of the five slots of `pg_statistic`.
struct Slot {
    kind: u32,
    operator: pg_sys::Oid,
    numbers: Option<Vec<f32>>,
    values: Option<pg_sys::Datum>,
}

unsafe fn store_column(relid: pg_sys::Oid, attno: i16, all: &ColumnStatistics, parts: &[ColumnStatistics]) {
    // SAFETY: as `refresh`.
    unsafe {
        let column = ColumnType::of(relid, attno);
        let (equal, less) = ((*column.cache).eq_opr, (*column.cache).lt_opr);
        let mut slots = Vec::new();
        let lists = column.has_lists();
        if lists && equal != pg_sys::InvalidOid && !all.common.is_empty() {
            let texts: Vec<&str> = all.common.iter().map(|(v, _)| v.as_str()).collect();
            slots.push(Slot {
                kind: pg_sys::STATISTIC_KIND_MCV,
                operator: equal,
                numbers: Some(all.common.iter().map(|(_, f)| *f as f32).collect()),
                values: Some(column.array(&texts)),
            });
        }
        let ordered = less != pg_sys::InvalidOid && (*column.cache).cmp_proc_finfo.fn_oid != pg_sys::InvalidOid;
        if lists && ordered {
            let read = |p: &ColumnStatistics| {
                let bounds = p.histogram.iter().map(|b| (b.clone(), column.value(b))).collect::<Vec<_>>();
                (bucket_weight(p), bounds)
            };
            let read: Vec<_> = parts.iter().map(read).collect();
            let bounds = merged_histogram(&read, |a, b| column.compare(a.1, b.1));
            if bounds.len() >= 2 {
                let texts: Vec<&str> = bounds.iter().map(|(t, _)| t.as_str()).collect();
                slots.push(Slot {
                    kind: pg_sys::STATISTIC_KIND_HISTOGRAM,
                    operator: less,
                    numbers: None,
                    values: Some(column.array(&texts)),
                });
            }
        }
        if let Some(correlation) = all.correlation.filter(|_| ordered) {
            slots.push(Slot {
                kind: pg_sys::STATISTIC_KIND_CORRELATION,
                operator: less,
                numbers: Some(vec![correlation as f32]),
                values: None,
            });
        }
        for inherited in [false, true] {
            store_row(relid, attno, inherited, all, &slots, column.collation);
        }
    }
}

unsafe fn store_row(
    relid: pg_sys::Oid,
    attno: i16,
    inherited: bool,
    all: &ColumnStatistics,
    slots: &[Slot],
    collation: pg_sys::Oid,
) {
    const COLUMNS: usize = pg_sys::Anum_pg_statistic_stavalues5 as usize;
    let datum = |value: Option<pg_sys::Datum>| value.unwrap_or(pg_sys::Datum::from(0));
    let mut values = [pg_sys::Datum::from(0); COLUMNS];
    let mut nulls = [false; COLUMNS];
    let mut set = |attribute: u32, value: Option<pg_sys::Datum>| {
        values[attribute as usize - 1] = datum(value);
        nulls[attribute as usize - 1] = value.is_none();
    };
    set(pg_sys::Anum_pg_statistic_starelid, relid.into_datum());
    set(pg_sys::Anum_pg_statistic_staattnum, attno.into_datum());
    set(pg_sys::Anum_pg_statistic_stainherit, inherited.into_datum());
    set(pg_sys::Anum_pg_statistic_stanullfrac, (all.null_fraction as f32).into_datum());
    set(pg_sys::Anum_pg_statistic_stawidth, (all.width.round() as i32).into_datum());
    set(pg_sys::Anum_pg_statistic_stadistinct, (all.distinct as f32).into_datum());
    for n in 0..pg_sys::STATISTIC_NUM_SLOTS {
        let slot = slots.get(n as usize);
        let collation = if slot.is_some() { collation } else { pg_sys::InvalidOid };
        set(pg_sys::Anum_pg_statistic_stakind1 + n, slot.map_or(0i16, |s| s.kind as i16).into_datum());
        set(pg_sys::Anum_pg_statistic_staop1 + n, slot.map_or(pg_sys::InvalidOid, |s| s.operator).into_datum());
        set(pg_sys::Anum_pg_statistic_stacoll1 + n, collation.into_datum());
        let numbers = slot.and_then(|s| s.numbers.clone()).and_then(IntoDatum::into_datum);
        set(pg_sys::Anum_pg_statistic_stanumbers1 + n, numbers);
        set(pg_sys::Anum_pg_statistic_stavalues1 + n, slot.and_then(|s| s.values));
    }
    // SAFETY: the arrays have a value for each column of pg_statistic.
    unsafe {
        let rel = pg_sys::table_open(pg_sys::StatisticRelationId, pg_sys::RowExclusiveLock as _);
        let cache = pg_sys::SysCacheIdentifier::STATRELATTINH as _;
        let keys = [pg_sys::Datum::from(relid), pg_sys::Datum::from(attno), pg_sys::Datum::from(inherited)];
        let old = pg_sys::SearchSysCache3(cache, keys[0], keys[1], keys[2]);
        let tuple = pg_sys::heap_form_tuple((*rel).rd_att, values.as_mut_ptr(), nulls.as_mut_ptr());
        if old.is_null() {
            pg_sys::CatalogTupleInsert(rel, tuple);
        } else {
            let mut place = (*old).t_self;
            pg_sys::ReleaseSysCache(old);
            pg_sys::CatalogTupleUpdate(rel, &mut place, tuple);
        }
        pg_sys::heap_freetuple(tuple);
        pg_sys::table_close(rel, pg_sys::RowExclusiveLock as _);
    }
}
