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
    pub fn table_openrv(relation: *const pg_sys::RangeVar, lockmode: c_int) -> pg_sys::Relation;
    pub fn transformExpr(
        state: *mut pg_sys::ParseState,
        expression: *mut pg_sys::Node,
        kind: pg_sys::ParseExprKind::Type,
    ) -> *mut pg_sys::Node;
    pub fn coerce_to_boolean(
        state: *mut pg_sys::ParseState,
        node: *mut pg_sys::Node,
        construct: *const c_char,
    ) -> *mut pg_sys::Node;
    pub fn assign_expr_collations(state: *mut pg_sys::ParseState, node: *mut pg_sys::Node);
    pub fn eval_const_expressions(root: *mut pg_sys::PlannerInfo, node: *mut pg_sys::Node) -> *mut pg_sys::Node;
    pub fn canonicalize_qual(qual: *mut pg_sys::Node, is_check: bool) -> *mut pg_sys::Node;
    pub fn make_ands_implicit(clause: *mut pg_sys::Node) -> *mut pg_sys::List;
    pub fn CopyGetAttnums(
        descriptor: pg_sys::TupleDesc,
        rel: pg_sys::Relation,
        names: *mut pg_sys::List,
    ) -> *mut pg_sys::List;
    pub fn check_enable_rls(relid: Oid, as_user: Oid, no_error: bool) -> c_int;
    pub fn PreventCommandIfReadOnly(command: *const c_char);
    #[cfg(feature = "pg15")]
    pub fn ExecCheckRTPerms(range_table: *mut pg_sys::List, report: bool) -> bool;
    #[cfg(not(feature = "pg15"))]
    pub fn ExecCheckPermissions(range_table: *mut pg_sys::List, permissions: *mut pg_sys::List, report: bool) -> bool;
    pub fn BeginCopyFrom(
        state: *mut pg_sys::ParseState,
        rel: pg_sys::Relation,
        filter: *mut pg_sys::Node,
        file: *const c_char,
        is_program: bool,
        source: pg_sys::copy_data_source_cb,
        names: *mut pg_sys::List,
        options: *mut pg_sys::List,
    ) -> pg_sys::CopyFromState;
    pub fn NextCopyFrom(
        state: pg_sys::CopyFromState,
        context: *mut pg_sys::ExprContext,
        values: *mut pg_sys::Datum,
        nulls: *mut bool,
    ) -> bool;
    pub fn EndCopyFrom(state: pg_sys::CopyFromState);
    pub fn CopyFromErrorCallback(argument: *mut c_void);
    pub fn aclcheck_error(result: pg_sys::AclResult::Type, kind: pg_sys::ObjectType::Type, name: *const c_char);
    pub fn ProcessCopyOptions(
        state: *mut pg_sys::ParseState,
        options_out: *mut pg_sys::CopyFormatOptions,
        is_from: bool,
        options: *mut pg_sys::List,
    );
    pub fn build_column_default(rel: pg_sys::Relation, attno: c_int) -> *mut pg_sys::Node;
    pub fn InputFunctionCall(
        function: *mut pg_sys::FmgrInfo,
        text: *mut c_char,
        io_param: Oid,
        typmod: i32,
    ) -> pg_sys::Datum;
    pub fn ReceiveFunctionCall(
        function: *mut pg_sys::FmgrInfo,
        buffer: pg_sys::StringInfo,
        io_param: Oid,
        typmod: i32,
    ) -> pg_sys::Datum;
    pub fn OpenPipeStream(command: *const c_char, mode: *const c_char) -> *mut pg_sys::FILE;
    pub fn pq_startmsgread();
    pub fn pq_getbyte() -> c_int;
    pub fn pq_getmessage(message: pg_sys::StringInfo, most: c_int) -> c_int;
    pub fn pq_beginmessage(message: pg_sys::StringInfo, kind: c_char);
    pub fn pq_sendbytes(message: pg_sys::StringInfo, data: *const c_void, length: c_int);
    pub fn pq_endmessage(message: pg_sys::StringInfo);
    pub fn pq_endmessage_reuse(message: pg_sys::StringInfo);
    pub static PqCommMethods: *const ClientMethods;
}

/// The beginning of `PQcommMethods` (libpq/libpq.h).
#[repr(C)]
pub struct ClientMethods {
    comm_reset: unsafe extern "C-unwind" fn(),
    pub flush: unsafe extern "C-unwind" fn() -> c_int,
}
