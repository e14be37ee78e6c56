//! What differs between the versions of Postgres for utility statements.

use crate::copy::Marker;
use crate::error::Result;
#[cfg(feature = "pg18")]
use crate::error::{Error, SqlState};
use crate::pg::utility::raw;
use pgrx::pg_sys;
#[cfg(any(feature = "pg17", feature = "pg18"))]
use std::ffi::{c_char, c_int, c_void};

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

/// The beginning of `CopyFromStateData` (commands/copyfrom_internal.h).
#[cfg(any(feature = "pg17", feature = "pg18"))]
#[repr(C)]
struct CopyFromStart {
    #[cfg(feature = "pg18")]
    routine: *const c_void,
    copy_src: c_int,
    copy_file: *mut c_void,
    fe_msgbuf: *mut c_void,
    eol_type: c_int,
    file_encoding: c_int,
    need_transcoding: bool,
    conversion_proc: pg_sys::Oid,
    rel: pg_sys::Relation,
    attnumlist: *mut pg_sys::List,
    filename: *const c_char,
    is_program: bool,
    data_source_cb: *const c_void,
    opts: pg_sys::CopyFormatOptions,
    convert_select_flags: *mut bool,
    where_clause: *mut pg_sys::Node,
    cur_relname: *const c_char,
    cur_lineno: u64,
    cur_attname: *const c_char,
    cur_attval: *const c_char,
    relname_only: bool,
    copycontext: pg_sys::MemoryContext,
    num_defaults: pg_sys::AttrNumber,
    in_functions: *mut pg_sys::FmgrInfo,
    typioparams: *mut pg_sys::Oid,
    escontext: *mut pg_sys::ErrorSaveContext,
    num_errors: u64,
}

/// Whether the row that `NextCopyFrom` has just read is one to be skipped: `ON_ERROR ignore` (17 on).
///
/// # Safety
/// `state` is of `BeginCopyFrom`.
pub unsafe fn is_skipped(state: pg_sys::CopyFromState) -> Result<bool> {
    #[cfg(any(feature = "pg15", feature = "pg16"))]
    {
        let _ = state;
        Ok(false)
    }
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    unsafe {
        let start = state.cast::<CopyFromStart>();
        let errors = (*start).escontext;
        if (*start).opts.on_error == pg_sys::CopyOnErrorChoice::COPY_ON_ERROR_STOP || errors.is_null() {
            return Ok(false);
        }
        let skipped = std::mem::replace(&mut (*errors).error_occurred, false);
        #[cfg(feature = "pg18")]
        {
            let limit = (*start).opts.reject_limit;
            if skipped && limit > 0 && (*start).num_errors > limit as u64 {
                return Err(Error::new(
                    SqlState::new("22P02"),
                    format!("skipped more than REJECT_LIMIT ({limit}) rows due to data type incompatibility"),
                ));
            }
        }
        Ok(skipped)
    }
}

/// How many rows were skipped, if the user is to be told.
///
/// # Safety
/// As [`is_skipped`].
pub unsafe fn skipped_rows(state: pg_sys::CopyFromState) -> u64 {
    #[cfg(any(feature = "pg15", feature = "pg16"))]
    {
        let _ = state;
        0
    }
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    unsafe {
        let start = state.cast::<CopyFromStart>();
        let stops = (*start).opts.on_error == pg_sys::CopyOnErrorChoice::COPY_ON_ERROR_STOP;
        // Only 18 has a verbosity below this one.
        let quiet = (*start).opts.log_verbosity < pg_sys::CopyLogVerbosityChoice::COPY_LOG_VERBOSITY_DEFAULT;
        if stops || quiet { 0 } else { (*start).num_errors }
    }
}

/// What `\.` means to COPY here.
pub const COPY_MARKER: Marker =
    Marker { ends_csv: cfg!(not(feature = "pg18")), may_follow_data: cfg!(not(feature = "pg18")) };
