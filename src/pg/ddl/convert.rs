//! A plain table to the empty `PARTITION BY HASH (key)` parent and back, in place.
//!
//! The table keeps its OID, so views, foreign keys, triggers, policies, privileges, comments and
//! sequences stay what they are; only `pg_class`, `pg_partitioned_table` and the storage change.
//! Afterwards `pg_dump` prints what it prints for a table created `PARTITION BY HASH`. The rows are
//! somebody else's business ([`super::rows`]): before [`to_parent`] they have been sent away, after
//! [`to_plain`] the table is empty and its indexes are built by [`build_indexes`].

use super::{compat, spi};
use crate::catalog::TableId;
use crate::error::{Error, Result, sqlstate};
use crate::pg::guard::boundary;
use pgrx::pg_sys;
use std::ffi::CString;

/// `pg_constraint`'s OID.
const CONSTRAINT_CATALOG: u32 = 2606;
const ACCESS_EXCLUSIVE: pg_sys::LOCKMODE = pg_sys::AccessExclusiveLock as pg_sys::LOCKMODE;

unsafe extern "C-unwind" {
    fn NewRelationCreateToastTable(relation: pg_sys::Oid, reloptions: pg_sys::Datum);
}

/// The hash key of a table that is to become partitioned.
#[derive(Clone, Copy, Debug)]
pub struct PartitionKey {
    pub attno: i16,
    pub operator_class: pg_sys::Oid,
    pub collation: pg_sys::Oid,
}

fn oid(table: TableId) -> pg_sys::Oid {
    pg_sys::Oid::from(table.0)
}

fn kind(c: u8) -> Option<pg_sys::Datum> {
    Some(pg_sys::Datum::from(c as i8))
}

fn zero() -> Option<pg_sys::Datum> {
    Some(pg_sys::Datum::from(0))
}

/// Sets columns, by name, of the catalog row that a syscache finds under an OID; names that this
/// version of Postgres does not have are skipped.
unsafe fn update_row(
    catalog: pg_sys::Oid,
    cache: pg_sys::SysCacheIdentifier::Type,
    key: pg_sys::Oid,
    changes: &[(&str, Option<pg_sys::Datum>)],
) -> Result<()> {
    // SAFETY: the arrays have one element per column of the catalog.
    unsafe {
        let rel = pg_sys::table_open(catalog, pg_sys::RowExclusiveLock as _);
        let zero = pg_sys::Datum::from(0);
        let tuple = pg_sys::SearchSysCacheCopy(cache as _, pg_sys::Datum::from(key), zero, zero, zero);
        if tuple.is_null() {
            return Err(Error::new(sqlstate::INTERNAL, format!("cache lookup failed for object {}", key.to_u32())));
        }
        let desc = (*rel).rd_att;
        let natts = (*desc).natts as usize;
        let (mut values, mut nulls, mut replace) = (vec![zero; natts], vec![false; natts], vec![false; natts]);
        for (name, value) in changes {
            let name = CString::new(*name).unwrap_or_default();
            let attno = pg_sys::get_attnum(catalog, name.as_ptr());
            if attno > 0 {
                let i = attno as usize - 1;
                values[i] = value.unwrap_or(zero);
                nulls[i] = value.is_none();
                replace[i] = true;
            }
        }
        let new = pg_sys::heap_modify_tuple(tuple, desc, values.as_mut_ptr(), nulls.as_mut_ptr(), replace.as_mut_ptr());
        pg_sys::CatalogTupleUpdate(rel, &mut (*new).t_self, new);
        pg_sys::table_close(rel, pg_sys::RowExclusiveLock as _);
        Ok(())
    }
}

unsafe fn update_class(relation: pg_sys::Oid, changes: &[(&str, Option<pg_sys::Datum>)]) -> Result<()> {
    // SAFETY: see `update_row`.
    unsafe { update_row(pg_sys::RelationRelationId, pg_sys::SysCacheIdentifier::RELOID, relation, changes) }
}

/// A foreign key of a partitioned table is inheritable, that of a plain table is not.
unsafe fn mark_foreign_keys(table: TableId, inheritable: bool) -> Result<()> {
    let sql = format!("SELECT oid FROM pg_constraint WHERE contype = 'f' AND conrelid = {}", table.0);
    for key in spi::column(&sql)? {
        let key = pg_sys::Oid::from(key.parse::<u32>().unwrap_or(0));
        // SAFETY: see `update_row`.
        unsafe {
            update_row(
                pg_sys::Oid::from(CONSTRAINT_CATALOG),
                pg_sys::SysCacheIdentifier::CONSTROID,
                key,
                &[("connoinherit", Some(pg_sys::Datum::from(!inheritable)))],
            )?;
        }
    }
    Ok(())
}

/// OIDs of a table's indexes.
pub fn indexes_of(table: TableId) -> Result<Vec<pg_sys::Oid>> {
    let sql = format!("SELECT indexrelid FROM pg_index WHERE indrelid = {} ORDER BY indexrelid", table.0);
    Ok(spi::column(&sql)?.iter().filter_map(|t| t.parse::<u32>().ok()).map(pg_sys::Oid::from).collect())
}

/// Fails if a cursor, a running statement or a pending trigger uses the table.
pub unsafe fn check_not_in_use(table: TableId) {
    // SAFETY: the caller holds AccessExclusiveLock; only our own reference is open.
    unsafe {
        let rel = pg_sys::table_open(oid(table), pg_sys::NoLock as _);
        pg_sys::CheckTableNotInUse(rel, c"change the distribution of".as_ptr());
        pg_sys::table_close(rel, pg_sys::NoLock as _);
    }
}

/// Makes a plain table, whose rows are safe elsewhere, an empty partitioned one.
///
/// # Safety
/// The caller holds AccessExclusiveLock and nothing has the relation open.
pub unsafe fn to_parent(table: TableId, mut key: PartitionKey) -> Result<()> {
    // SAFETY: every relation opened is closed before its catalog row becomes visible.
    unsafe {
        for index in indexes_of(table)? {
            let rel = pg_sys::index_open(index, ACCESS_EXCLUSIVE);
            pg_sys::RelationDropStorage(rel);
            pg_sys::index_close(rel, pg_sys::NoLock as _);
            update_class(
                index,
                &[
                    ("relkind", kind(pg_sys::RELKIND_PARTITIONED_INDEX)),
                    ("relfilenode", zero()),
                    ("relpages", zero()),
                    ("reltuples", zero()),
                ],
            )?;
            update_row(
                pg_sys::IndexRelationId,
                pg_sys::SysCacheIdentifier::INDEXRELID,
                index,
                &[("indisclustered", Some(pg_sys::Datum::from(false)))],
            )?;
        }
        let rel = pg_sys::table_open(oid(table), pg_sys::NoLock as _);
        let toast = (*(*rel).rd_rel).reltoastrelid;
        pg_sys::RelationClearMissing(rel);
        pg_sys::RelationDropStorage(rel);
        pg_sys::table_close(rel, pg_sys::NoLock as _);
        pg_sys::CommandCounterIncrement();
        drop_toast(toast);
        update_class(
            oid(table),
            &[
                ("relkind", kind(pg_sys::RELKIND_PARTITIONED_TABLE)),
                ("relam", Some(pg_sys::Datum::from(compat::PARENT_ACCESS_METHOD))),
                ("relfilenode", zero()),
                ("relpages", zero()),
                ("relallvisible", zero()),
                ("relallfrozen", zero()),
                ("reltoastrelid", zero()),
                ("relfrozenxid", zero()),
                ("relminmxid", zero()),
                ("reloptions", None),
                ("relhassubclass", Some(pg_sys::Datum::from(false))),
            ],
        )?;
        mark_foreign_keys(table, true)?;
        pg_sys::CommandCounterIncrement();
        let rel = pg_sys::table_open(oid(table), pg_sys::NoLock as _);
        pg_sys::StorePartitionKey(
            rel,
            b'h' as _,
            1,
            &mut key.attno,
            std::ptr::null_mut(),
            &mut key.operator_class,
            &mut key.collation,
        );
        pg_sys::table_close(rel, pg_sys::NoLock as _);
        pg_sys::CommandCounterIncrement();
        pg_sys::CacheInvalidateRelcacheByRelid(oid(table));
        Ok(())
    }
}

unsafe fn drop_toast(toast: pg_sys::Oid) {
    if toast == pg_sys::InvalidOid {
        return;
    }
    // SAFETY: the toast table belongs to a table that is locked exclusively and loses its storage.
    unsafe {
        let class = pg_sys::RelationRelationId;
        pg_sys::deleteDependencyRecordsFor(class, toast, false);
        pg_sys::CommandCounterIncrement();
        let object = pg_sys::ObjectAddress { classId: class, objectId: toast, objectSubId: 0 };
        pg_sys::performDeletion(&object, pg_sys::DropBehavior::DROP_RESTRICT, pg_sys::PERFORM_DELETION_INTERNAL as i32);
        pg_sys::CommandCounterIncrement();
    }
}

/// Makes an empty partitioned table without partitions a plain one, with new storage; its indexes
/// have to be built by [`build_indexes`] once the rows are there.
///
/// # Safety
/// As [`to_parent`].
pub unsafe fn to_plain(table: TableId, key: PartitionKey, reloptions: Option<&str>) -> Result<()> {
    // SAFETY: see `to_parent`.
    unsafe {
        remove_partition_key(table, key)?;
        let rel = pg_sys::table_open(oid(table), pg_sys::NoLock as _);
        let tablespace = (*(*rel).rd_rel).reltablespace;
        pg_sys::table_close(rel, pg_sys::NoLock as _);
        let number = compat::new_file_number(tablespace);
        update_class(
            oid(table),
            &[
                ("relkind", kind(pg_sys::RELKIND_RELATION)),
                ("relam", Some(pg_sys::Datum::from(pg_sys::HEAP_TABLE_AM_OID))),
                ("relfilenode", Some(pg_sys::Datum::from(number))),
                ("relhassubclass", Some(pg_sys::Datum::from(false))),
            ],
        )?;
        mark_foreign_keys(table, false)?;
        let indexes = indexes_of(table)?;
        for index in &indexes {
            let number = compat::new_file_number(pg_sys::get_rel_tablespace(*index));
            update_class(
                *index,
                &[("relkind", kind(pg_sys::RELKIND_INDEX)), ("relfilenode", Some(pg_sys::Datum::from(number)))],
            )?;
        }
        pg_sys::CommandCounterIncrement();
        let rel = pg_sys::table_open(oid(table), pg_sys::NoLock as _);
        compat::new_storage(rel);
        pg_sys::table_close(rel, pg_sys::NoLock as _);
        pg_sys::CommandCounterIncrement();
        boundary(|| NewRelationCreateToastTable(oid(table), pg_sys::Datum::from(0)));
        pg_sys::CommandCounterIncrement();
        for index in indexes {
            compat::reindex(index);
            pg_sys::CommandCounterIncrement();
        }
        if let Some(options) = reloptions {
            let sql = "SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) FROM pg_class c \
                       JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ";
            let name = spi::value(&format!("{sql}{}", table.0))?.unwrap_or_default();
            spi::rows(&format!("ALTER TABLE {name} SET ({options})"))?;
        }
        pg_sys::CacheInvalidateRelcacheByRelid(oid(table));
        Ok(())
    }
}

/// Builds a table's indexes from its rows.
///
/// # Safety
/// As [`to_parent`].
pub unsafe fn build_indexes(table: TableId) -> Result<()> {
    for index in indexes_of(table)? {
        // SAFETY: the table is locked exclusively and nobody scans it.
        unsafe {
            compat::reindex(index);
            pg_sys::CommandCounterIncrement();
        }
    }
    Ok(())
}

/// Removes the `pg_partitioned_table` row and the dependencies that `StorePartitionKey` records.
unsafe fn remove_partition_key(table: TableId, key: PartitionKey) -> Result<()> {
    // SAFETY: catalog changes under AccessExclusiveLock.
    unsafe {
        let class = pg_sys::RelationRelationId;
        let (normal, internal) = (
            pg_sys::DependencyType::DEPENDENCY_NORMAL as std::ffi::c_char,
            pg_sys::DependencyType::DEPENDENCY_INTERNAL as std::ffi::c_char,
        );
        pg_sys::RemovePartitionKeyByRelId(oid(table));
        pg_sys::deleteDependencyRecordsForSpecific(class, oid(table), internal, class, oid(table));
        let operator_classes = pg_sys::OperatorClassRelationId;
        pg_sys::deleteDependencyRecordsForSpecific(class, oid(table), normal, operator_classes, key.operator_class);
        let collations = pg_sys::CollationRelationId;
        let forgotten =
            pg_sys::deleteDependencyRecordsForSpecific(class, oid(table), normal, collations, key.collation);
        if forgotten > 0 {
            // Columns with that collation depend on it in their own right, the key among them.
            let sql = format!(
                "SELECT attnum FROM pg_attribute WHERE attrelid = {} AND NOT attisdropped AND attcollation = {}",
                table.0,
                key.collation.to_u32()
            );
            for attno in spi::column(&sql)? {
                let column = attno.parse().unwrap_or(0);
                let me = pg_sys::ObjectAddress { classId: class, objectId: oid(table), objectSubId: column };
                let it = pg_sys::ObjectAddress { classId: collations, objectId: key.collation, objectSubId: 0 };
                pg_sys::recordDependencyOn(&me, &it, pg_sys::DependencyType::DEPENDENCY_NORMAL);
            }
        }
        pg_sys::CommandCounterIncrement();
        Ok(())
    }
}
