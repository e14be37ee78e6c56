//! What the versions of Postgres name differently in giving a relation its storage back.

use pgrx::pg_sys;

/// A file number that no relation of the tablespace uses.
pub unsafe fn new_file_number(tablespace: pg_sys::Oid) -> pg_sys::Oid {
    let persistence = pg_sys::RELPERSISTENCE_PERMANENT as std::ffi::c_char;
    // SAFETY: asks the catalog and the file system only.
    unsafe {
        #[cfg(feature = "pg15")]
        return pg_sys::GetNewRelFileNode(tablespace, std::ptr::null_mut(), persistence);
        #[cfg(not(feature = "pg15"))]
        return pg_sys::GetNewRelFileNumber(tablespace, std::ptr::null_mut(), persistence);
    }
}

/// Creates a relation's storage under a fresh file number, with fresh freeze limits.
pub unsafe fn new_storage(relation: pg_sys::Relation) {
    let persistence = pg_sys::RELPERSISTENCE_PERMANENT as std::ffi::c_char;
    // SAFETY: the caller holds AccessExclusiveLock and the relation open.
    unsafe {
        #[cfg(feature = "pg15")]
        pg_sys::RelationSetNewRelfilenode(relation, persistence);
        #[cfg(not(feature = "pg15"))]
        pg_sys::RelationSetNewRelfilenumber(relation, persistence);
    }
}

/// Builds an index anew.
pub unsafe fn reindex(index: pg_sys::Oid) {
    let persistence = pg_sys::RELPERSISTENCE_PERMANENT as std::ffi::c_char;
    let mut params = pg_sys::ReindexParams::default();
    // SAFETY: the caller holds AccessExclusiveLock on the table.
    unsafe {
        #[cfg(any(feature = "pg15", feature = "pg16"))]
        pg_sys::reindex_index(index, false, persistence, &mut params);
        #[cfg(not(any(feature = "pg15", feature = "pg16")))]
        pg_sys::reindex_index(std::ptr::null(), index, false, persistence, &raw mut params);
    }
}

/// Sets a `pg_class` row's file number.
pub unsafe fn set_file_number(class: pg_sys::Form_pg_class, number: pg_sys::Oid) {
    // SAFETY: the caller owns the tuple copy.
    unsafe { (*class).relfilenode = number }
}

/// The access method of a partitioned table: none.
pub const PARENT_ACCESS_METHOD: pg_sys::Oid = pg_sys::InvalidOid;
