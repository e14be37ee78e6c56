//! `Query` to SQL text: Postgres prints it, under a pinned search path so that every name is qualified.

use crate::pg::compat;
use crate::pg::guard::boundary;
use pgrx::pg_sys;
use std::ffi::CStr;

/// The statement's text. `query` may be scribbled on.
pub unsafe fn query_text(query: *mut pg_sys::Query) -> String {
    // SAFETY: the text is palloc'd.
    unsafe {
        let text = compat::with_catalog_search_path(|| boundary(|| pg_sys::pg_get_querydef(query, false)));
        let sql = CStr::from_ptr(text).to_string_lossy().into_owned();
        pg_sys::pfree(text.cast());
        sql
    }
}
