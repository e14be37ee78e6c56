//! COPY of a distributed table TO somewhere: `COPY (SELECT its columns FROM it) TO`.
//!
//! The options stay. Columns that are generated are left out, as COPY of a table does.

use crate::catalog::{ClusterMap, quote_identifier};
use crate::ddl::text::commas;
use crate::error::Result;
use crate::pg::guard::boundary;
use crate::pg::utility::{Call, raw, relation, tree};
use pgrx::pg_sys;
use std::ffi::CString;

/// Whether the statement was one of this file's.
pub fn run(call: &Call, map: &ClusterMap) -> Result<bool> {
    let statement = call.node().cast::<pg_sys::CopyStmt>();
    // SAFETY: the tag was read; the statement outlives the call.
    unsafe {
        if (*statement).is_from {
            return Ok(false);
        }
        if relation::named(map, (*statement).relation).is_none_or(|t| !t.is_distributed()) {
            return Ok(false);
        }
        let (range, names) = ((*statement).relation, (*statement).attlist);
        let rel = boundary(|| raw::table_openrv(range, pg_sys::AccessShareLock as i32));
        let relid = (*rel).rd_id;
        let chosen = boundary(|| raw::CopyGetAttnums((*rel).rd_att, rel, names));
        let columns = commas(
            tree::integers(chosen)
                .into_iter()
                .map(|n| quote_identifier(&tree::text(pg_sys::get_attname(relid, n as i16, false)))),
        );
        pg_sys::relation_close(rel, pg_sys::NoLock as _);
        let sql = CString::new(format!("SELECT {columns} FROM {}", relation::qualified(relid))).unwrap_or_default();
        let parsed = pg_sys::pg_parse_query(sql.as_ptr());
        let Some(query) = tree::items::<pg_sys::RawStmt>(parsed).first().copied() else { return Ok(false) };
        let copy = pg_sys::copyObjectImpl(statement.cast()).cast::<pg_sys::CopyStmt>();
        (*copy).relation = std::ptr::null_mut();
        (*copy).attlist = std::ptr::null_mut();
        (*copy).query = (*query).stmt;
        call.instead(copy.cast()).run();
    }
    Ok(true)
}
