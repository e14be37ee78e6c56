//! Functions of Postgres without pgrx's wrapper, for calls whose errors users read.
//!
//! The wrappers of `pg_sys` catch an ERROR themselves and lose its cursor position and names on
//! the way. Called through `guard::boundary`, these lose nothing.

use pgrx::pg_sys::{self, Oid};
use std::ffi::{c_char, c_int, c_void};

unsafe extern "C-unwind" {
    pub fn standard_ProcessUtility(
        pstmt: *mut pg_sys::PlannedStmt,
        query: *const c_char,
        read_only: bool,
        context: pg_sys::ProcessUtilityContext::Type,
        params: pg_sys::ParamListInfo,
        environment: *mut pg_sys::QueryEnvironment,
        dest: *mut pg_sys::DestReceiver,
        completion: *mut pg_sys::QueryCompletion,
    );
    pub fn RangeVarGetRelidExtended(
        relation: *const pg_sys::RangeVar,
        lockmode: c_int,
        flags: u32,
        callback: pg_sys::RangeVarGetRelidCallback,
        argument: *mut c_void,
    ) -> Oid;
    pub fn get_object_address(
        kind: pg_sys::ObjectType::Type,
        object: *mut pg_sys::Node,
        relation: *mut pg_sys::Relation,
        lockmode: c_int,
        missing_ok: bool,
    ) -> pg_sys::ObjectAddress;
}
