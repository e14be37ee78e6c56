//! [`Error`] to `ereport(ERROR)`, with every field a client may look at, and back.

use crate::error::{Error, SqlState};
use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReportWithLevel;
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;

unsafe extern "C-unwind" {
    fn errstart(elevel: c_int, domain: *const c_char) -> bool;
    fn errfinish(filename: *const c_char, lineno: c_int, funcname: *const c_char);
    fn errcode(sqlerrcode: c_int) -> c_int;
    fn errmsg_internal(fmt: *const c_char, ...) -> c_int;
    fn errdetail_internal(fmt: *const c_char, ...) -> c_int;
    fn errhint(fmt: *const c_char, ...) -> c_int;
    fn errcontext_msg(fmt: *const c_char, ...) -> c_int;
    fn err_generic_string(field: c_int, text: *const c_char) -> c_int;
}

/// An error whose texts already live in Postgres's memory, so that raising it leaks nothing.
pub struct Prepared {
    code: c_int,
    message: *const c_char,
    detail: *const c_char,
    hint: *const c_char,
    context: *const c_char,
    names: [(u8, *const c_char); 5],
}

/// The packed form of a SQLSTATE (`MAKE_SQLSTATE`).
fn packed(code: &str) -> c_int {
    code.bytes().enumerate().map(|(i, b)| c_int::from(b.wrapping_sub(b'0') & 0x3f) << (6 * i)).sum()
}

fn palloc_text(text: Option<&str>) -> *const c_char {
    let Some(text) = text else { return ptr::null() };
    let text = CString::new(text.replace('\0', "")).unwrap_or_default();
    // SAFETY: copies into the current memory context, which outlives the report.
    unsafe { pg_sys::pstrdup(text.as_ptr()) }
}

impl Prepared {
    pub fn new(error: &Error) -> Prepared {
        let names = error.names.as_deref().cloned().unwrap_or_default();
        Prepared {
            code: packed(error.code.as_str()),
            message: palloc_text(Some(&error.message)),
            detail: palloc_text(error.detail.as_deref()),
            hint: palloc_text(error.hint.as_deref()),
            context: palloc_text(error.context.as_deref()),
            names: [
                (b's', palloc_text(names.schema.as_deref())),
                (b't', palloc_text(names.table.as_deref())),
                (b'c', palloc_text(names.column.as_deref())),
                (b'd', palloc_text(names.datatype.as_deref())),
                (b'n', palloc_text(names.constraint.as_deref())),
            ],
        }
    }

    /// Raises the ERROR.
    ///
    /// # Safety
    /// Jumps: no frame up to Postgres's may own anything.
    pub unsafe fn throw(&self) -> ! {
        // SAFETY: the texts are NUL-terminated and palloc'd; the formats take one string each.
        unsafe {
            self.emit(pgrx::PgLogLevel::ERROR as c_int);
        }
        unreachable!("ERROR returns to Postgres")
    }

    unsafe fn emit(&self, level: c_int) {
        // SAFETY: see `throw`.
        unsafe {
            if errstart(level, ptr::null()) {
                errcode(self.code);
                errmsg_internal(c"%s".as_ptr(), self.message);
                if !self.detail.is_null() {
                    errdetail_internal(c"%s".as_ptr(), self.detail);
                }
                if !self.hint.is_null() {
                    errhint(c"%s".as_ptr(), self.hint);
                }
                if !self.context.is_null() {
                    errcontext_msg(c"%s".as_ptr(), self.context);
                }
                for (field, text) in self.names {
                    if !text.is_null() {
                        err_generic_string(c_int::from(field), text);
                    }
                }
                errfinish(c"sharding".as_ptr(), 0, ptr::null());
            }
        }
    }
}

/// A NOTICE, as a node gave it.
pub fn notice(error: &Error) {
    let prepared = Prepared::new(error);
    // SAFETY: a level below ERROR returns.
    unsafe { prepared.emit(pgrx::PgLogLevel::NOTICE as c_int) }
}

/// A WARNING: for callbacks after commit, where an ERROR would be too late.
pub fn warning(error: &Error) {
    let prepared = Prepared::new(error);
    // SAFETY: a level below ERROR returns.
    unsafe { prepared.emit(pgrx::PgLogLevel::WARNING as c_int) }
}

/// A line in the server's log, where no client is concerned.
pub fn log(error: &Error) {
    let prepared = Prepared::new(error);
    // SAFETY: a level below ERROR returns.
    unsafe { prepared.emit(pgrx::PgLogLevel::LOG as c_int) }
}

/// What the packed form of a SQLSTATE stands for.
fn unpacked(code: c_int) -> SqlState {
    let text: String = (0..5).map(|i| char::from(b'0' + ((code >> (6 * i)) & 0x3f) as u8)).collect();
    SqlState::new(&text)
}

/// An ERROR of Postgres as a value.
///
/// # Safety
/// `data` was copied by `CopyErrorData`.
pub unsafe fn of_error_data(data: *const pg_sys::ErrorData) -> Error {
    // SAFETY: its texts are NUL-terminated or null.
    unsafe {
        let text = |text: *const c_char| (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned());
        let mut error = Error::new(unpacked((*data).sqlerrcode), text((*data).message).unwrap_or_default());
        error.detail = text((*data).detail);
        error.hint = text((*data).hint);
        error.context = text((*data).context);
        error
    }
}

/// The same for one that pgrx has caught.
pub fn of_report(report: &ErrorReportWithLevel) -> Error {
    let mut error = Error::new(unpacked(report.sql_error_code() as c_int), report.message());
    error.detail = report.detail().map(str::to_string);
    error.hint = report.hint().map(str::to_string);
    error
}
