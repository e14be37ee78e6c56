//! What differs between the versions of Postgres for utility statements.

use crate::pg::utility::raw;
use pgrx::pg_sys;

/// The message and detail for COPY with a program without the right to.
#[cfg(feature = "pg15")]
pub const COPY_PROGRAM_DENIED: (&str, &str) = (
    "must be superuser or have privileges of the pg_execute_server_program role to COPY to or from an external program",
    "",
);
#[cfg(not(feature = "pg15"))]
pub const COPY_PROGRAM_DENIED: (&str, &str) = (
    "permission denied to COPY to or from an external program",
    "Only roles with privileges of the \"pg_execute_server_program\" role may COPY to or from an external program.",
);

/// The same for a file on the server.
#[cfg(feature = "pg15")]
pub const COPY_FILE_DENIED: (&str, &str) =
    ("must be superuser or have privileges of the pg_read_server_files role to COPY from a file", "");
#[cfg(not(feature = "pg15"))]
pub const COPY_FILE_DENIED: (&str, &str) = (
    "permission denied to COPY from a file",
    "Only roles with privileges of the \"pg_read_server_files\" role may COPY from a file.",
);

/// A parse state's relation will be inserted into.
///
/// # Safety
/// `item` is of a live parse state.
pub unsafe fn require_insert(item: *mut pg_sys::ParseNamespaceItem) {
    #[cfg(feature = "pg15")]
    unsafe {
        (*(*item).p_rte).requiredPerms = pg_sys::ACL_INSERT as _;
    }
    #[cfg(not(feature = "pg15"))]
    unsafe {
        (*(*item).p_perminfo).requiredPerms = pg_sys::ACL_INSERT as _;
    }
}

/// This column gets values.
///
/// # Safety
/// As [`require_insert`].
pub unsafe fn inserts_column(item: *mut pg_sys::ParseNamespaceItem, attno: i32) {
    let member = attno - pg_sys::FirstLowInvalidHeapAttributeNumber;
    #[cfg(feature = "pg15")]
    unsafe {
        let rte = (*item).p_rte;
        (*rte).insertedCols = pg_sys::bms_add_member((*rte).insertedCols, member);
    }
    #[cfg(not(feature = "pg15"))]
    unsafe {
        let info = (*item).p_perminfo;
        (*info).insertedCols = pg_sys::bms_add_member((*info).insertedCols, member);
    }
}

/// Raises an ERROR if the user lacks a privilege noted in the parse state's only relation; jumps.
///
/// # Safety
/// As [`require_insert`]; call it through `guard::boundary`.
pub unsafe fn check_permissions(state: *mut pg_sys::ParseState, item: *mut pg_sys::ParseNamespaceItem) {
    #[cfg(feature = "pg15")]
    unsafe {
        let _ = item;
        raw::ExecCheckRTPerms((*state).p_rtable, true);
    }
    #[cfg(not(feature = "pg15"))]
    unsafe {
        let infos = pg_sys::lappend(std::ptr::null_mut(), (*item).p_perminfo.cast());
        raw::ExecCheckPermissions((*state).p_rtable, infos, true);
    }
}

/// Whether the current user may VACUUM and ANALYZE the relation (the database's owner may).
pub fn may_maintain(relation: pg_sys::Oid) -> bool {
    // SAFETY: look-ups.
    unsafe {
        let user = pg_sys::GetUserId();
        let database = pg_sys::MyDatabaseId;
        #[cfg(feature = "pg15")]
        return pg_sys::pg_class_ownercheck(relation, user) || pg_sys::pg_database_ownercheck(database, user);
        #[cfg(feature = "pg16")]
        return pg_sys::object_ownercheck(pg_sys::RelationRelationId, relation, user)
            || pg_sys::object_ownercheck(pg_sys::DatabaseRelationId, database, user);
        #[cfg(any(feature = "pg17", feature = "pg18"))]
        return pg_sys::object_ownercheck(pg_sys::DatabaseRelationId, database, user)
            || pg_sys::pg_class_aclcheck(relation, user, pg_sys::ACL_MAINTAIN as _) == pg_sys::AclResult::ACLCHECK_OK;
    }
}

/// Whether the current user owns the relation.
pub fn owns(relation: pg_sys::Oid) -> bool {
    // SAFETY: a look-up.
    unsafe {
        let user = pg_sys::GetUserId();
        #[cfg(feature = "pg15")]
        return pg_sys::pg_class_ownercheck(relation, user);
        #[cfg(not(feature = "pg15"))]
        return pg_sys::object_ownercheck(pg_sys::RelationRelationId, relation, user);
    }
}
