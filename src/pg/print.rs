//! `Query` to SQL text: Postgres prints it, under a pinned search path so that every name is qualified.

use crate::pg::guard::boundary;
use pgrx::pg_sys;
use std::ffi::CStr;

/// The statement's text. `query` may be scribbled on.
pub unsafe fn query_text(query: *mut pg_sys::Query) -> String {
    // SAFETY: the GUC nest level is closed right after; an ERROR closes it with the transaction.
    unsafe {
        let level = pg_sys::NewGUCNestLevel();
        pg_sys::set_config_option(
            c"search_path".as_ptr(),
            c"pg_catalog".as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
        let text = boundary(|| pg_sys::pg_get_querydef(query, false));
        pg_sys::AtEOXact_GUC(true, level);
        let sql = CStr::from_ptr(text).to_string_lossy().into_owned();
        pg_sys::pfree(text.cast());
        sql
    }
}
