//! The border between Postgres's errors (`longjmp`) and Rust's (`Result`, unwinding).
//!
//! Two doors. [`boundary`] is for calls *into* Postgres: an ERROR raised inside comes out as a
//! panic that carries the whole `ErrorData`. [`guarded`] is for calls *from* Postgres: every
//! callback and hook runs its body in it; a returned [`Error`], a caught
//! `ErrorData` or a panic leaves as an ERROR. Unlike pgrx's own pair nothing is lost on the way:
//! cursor position, constraint name and a user's own SQLSTATE stay what they were.

use crate::error::{Error, Result, sqlstate};
use crate::pg::report;
use pgrx::pg_sys;
use pgrx::pg_sys::panic::CaughtError;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};

/// An ERROR on its way through Rust frames; owned by the memory context it was copied to.
struct Thrown(*mut pg_sys::ErrorData);

// SAFETY: a backend has one thread; the payload never leaves it.
unsafe impl Send for Thrown {}

unsafe extern "C-unwind" {
    fn ReThrowError(edata: *mut pg_sys::ErrorData) -> !;
}

/// Calls into Postgres; an ERROR becomes a panic that [`guarded`] turns back into the same ERROR.
///
/// # Safety
/// `f` must hold nothing that needs dropping when Postgres jumps out of it.
pub unsafe fn boundary<T>(f: impl FnOnce() -> T) -> T {
    // SAFETY: as pgrx's own boundary: both stacks are restored on either way out, and the error is
    // copied out of ErrorContext before the error state is flushed.
    unsafe {
        let context = pg_sys::CurrentMemoryContext;
        let exception_stack = pg_sys::PG_exception_stack;
        let callback_stack = pg_sys::error_context_stack;
        let mut result = std::mem::MaybeUninit::uninit();
        let jumped = cee_scape::call_with_sigsetjmp(false, |buffer| {
            pg_sys::PG_exception_stack = buffer as *const cee_scape::SigJmpBufFields as *mut _;
            // pgrx's wrappers panic with what they catch, and no panic may cross sigsetjmp's frame.
            result.write(catch_unwind(AssertUnwindSafe(f)));
            0
        });
        pg_sys::PG_exception_stack = exception_stack;
        pg_sys::error_context_stack = callback_stack;
        if jumped == 0 {
            return result.assume_init().unwrap_or_else(|payload| resume_unwind(payload));
        }
        pg_sys::CurrentMemoryContext = context;
        let error = pg_sys::CopyErrorData();
        pg_sys::FlushErrorState();
        panic_any(Thrown(error))
    }
}

/// Runs the body of a callback that Postgres calls.
pub fn guarded<T>(body: impl FnOnce() -> Result<T>) -> T {
    match settled(body) {
        Settled::Value(value) => value,
        // SAFETY: no Rust frame between here and Postgres owns anything.
        Settled::Thrown(error) => unsafe { ReThrowError(error) },
        Settled::Report(report) => unsafe { report.throw() },
        Settled::Panic(payload) => unsafe { pg_sys::panic::pgrx_extern_c_guard(move || resume_unwind(payload)) },
    }
}

enum Settled<T> {
    Value(T),
    Thrown(*mut pg_sys::ErrorData),
    Report(report::Prepared),
    Panic(Box<dyn Any + Send>),
}

fn settled<T>(body: impl FnOnce() -> Result<T>) -> Settled<T> {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => Settled::Value(value),
        Ok(Err(error)) => Settled::Report(report::Prepared::new(&error)),
        Err(payload) => match payload.downcast::<Thrown>() {
            Ok(thrown) => Settled::Thrown(thrown.0),
            Err(payload) => match payload.downcast::<Error>() {
                Ok(error) => Settled::Report(report::Prepared::new(&error)),
                Err(payload) => Settled::Panic(payload),
            },
        },
    }
}

/// Runs a piece of work whose caller goes on if it fails: what a background worker does. The caller aborts the
/// transaction.
pub fn caught<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    let payload = match catch_unwind(AssertUnwindSafe(body)) {
        Ok(result) => return result,
        Err(payload) => payload,
    };
    let payload = match payload.downcast::<Thrown>() {
        // SAFETY: a copy that nobody else has.
        Ok(thrown) => return Err(unsafe { report::of_error_data(thrown.0) }),
        Err(payload) => payload,
    };
    let payload = match payload.downcast::<Error>() {
        Ok(error) => return Err(*error),
        Err(payload) => payload,
    };
    Err(match payload.downcast_ref::<CaughtError>() {
        Some(
            CaughtError::PostgresError(report)
            | CaughtError::ErrorReport(report)
            | CaughtError::RustPanic { ereport: report, .. },
        ) => report::of_report(report),
        None => {
            let text = payload.downcast_ref::<&str>().map(|text| text.to_string());
            let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
            Error::new(sqlstate::INTERNAL, text.unwrap_or_else(|| "an internal error".to_string()))
        }
    })
}

/// Leaves the Rust frames up to the next [`guarded`] with an error, where a `Result` has no way out
/// (a tree walker's callback).
pub fn throw(error: Error) -> ! {
    panic_any(error)
}
