//! SQL functions in the C calling convention, with errors as values.
//!
//! `sql_function!(sharding_add_node, add_node)` exports the symbol that `CREATE FUNCTION ... AS
//! 'MODULE_PATHNAME', 'sharding_add_node'` names; the body is a Rust function from [`Call`] to
//! [`Answer`]. Unlike `#[pg_extern]` every field of an `Error` reaches the client.

use crate::error::Result;
use pgrx::{FromDatum, IntoDatum, pg_sys};
use std::ffi::CStr;

/// What a function returns.
pub enum Answer {
    Null,
    Datum(pg_sys::Datum),
}

impl From<()> for Answer {
    /// For `RETURNS void`.
    fn from((): ()) -> Answer {
        Answer::Datum(pg_sys::Datum::from(0))
    }
}

/// The arguments of a call.
pub struct Call(pg_sys::FunctionCallInfo);

impl Call {
    /// # Safety
    /// `fcinfo` must be what Postgres called the function with, and outlive this value.
    pub unsafe fn new(fcinfo: pg_sys::FunctionCallInfo) -> Call {
        Call(fcinfo)
    }

    /// The raw argument, `None` if it is NULL or not there.
    pub fn datum(&self, i: usize) -> Option<pg_sys::Datum> {
        // SAFETY: `args` has `nargs` elements.
        unsafe {
            let info = &*self.0;
            if i >= info.nargs as usize {
                return None;
            }
            let argument = &*info.args.as_ptr().add(i);
            (!argument.isnull).then_some(argument.value)
        }
    }

    /// A `text` argument.
    pub fn text(&self, i: usize) -> Option<String> {
        // SAFETY: the function is declared with this type.
        self.datum(i).and_then(|datum| unsafe { String::from_datum(datum, false) })
    }

    /// A `name` argument.
    pub fn name(&self, i: usize) -> Option<String> {
        // SAFETY: the function is declared with this type; a name is NUL-terminated.
        self.datum(i).map(|datum| unsafe {
            CStr::from_ptr(datum.cast_mut_ptr::<std::ffi::c_char>()).to_string_lossy().into_owned()
        })
    }

    /// An `int` argument.
    pub fn int(&self, i: usize) -> Option<i32> {
        self.datum(i).map(|datum| datum.value() as i32)
    }

    /// A `boolean` argument.
    pub fn boolean(&self, i: usize) -> Option<bool> {
        self.datum(i).map(|datum| datum.value() as u8 != 0)
    }

    /// The type that the caller passes for an argument declared `"any"`.
    pub fn argument_type(&self, i: usize) -> pg_sys::Oid {
        // SAFETY: the call is still on the stack.
        unsafe { pg_sys::get_fn_expr_argtype((*self.0).flinfo, i as i32) }
    }

    /// Returns rows of text columns from a function declared `RETURNS TABLE`, converted to the
    /// declared types by their input functions.
    pub fn return_rows(&self, rows: &[Vec<Option<String>>]) -> Result<Answer> {
        // SAFETY: InitMaterializedSRF checks that the caller takes a tuplestore and sets it up with
        // the declared row type; C strings live until the tuple is formed.
        unsafe {
            pg_sys::InitMaterializedSRF(self.0, 0);
            let info = (*self.0).resultinfo as *mut pg_sys::ReturnSetInfo;
            let attributes = pg_sys::TupleDescGetAttInMetadata((*info).setDesc);
            for row in rows {
                let mut values: Vec<*mut std::ffi::c_char> = row
                    .iter()
                    .map(|value| match value {
                        None => std::ptr::null_mut(),
                        Some(text) => pg_sys::pnstrdup(text.as_ptr().cast(), text.len() as _),
                    })
                    .collect();
                let tuple = pg_sys::BuildTupleFromCStrings(attributes, values.as_mut_ptr());
                pg_sys::tuplestore_puttuple((*info).setResult, tuple);
            }
        }
        Ok(Answer::Null)
    }

    /// Hands the answer to Postgres.
    pub fn finish(&self, answer: Answer) -> pg_sys::Datum {
        match answer {
            Answer::Datum(datum) => datum,
            Answer::Null => {
                // SAFETY: the call is still on the stack.
                unsafe { (*self.0).isnull = true };
                pg_sys::Datum::from(0)
            }
        }
    }
}

/// A `text` result.
pub fn text_answer(text: &str) -> Answer {
    text.into_datum().map_or(Answer::Null, Answer::Datum)
}

/// Exports `$symbol` as a version-1 SQL function with body `$body: fn(&Call) -> Result<Answer>`.
#[macro_export]
macro_rules! sql_function {
    ($symbol:ident, $info:ident, $body:path) => {
        #[unsafe(no_mangle)]
        pub extern "C-unwind" fn $info() -> *const pgrx::pg_sys::Pg_finfo_record {
            static RECORD: pgrx::pg_sys::Pg_finfo_record = pgrx::pg_sys::Pg_finfo_record { api_version: 1 };
            &RECORD
        }

        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $symbol(fcinfo: pgrx::pg_sys::FunctionCallInfo) -> pgrx::pg_sys::Datum {
            $crate::pg::guard::guarded(|| {
                // SAFETY: Postgres calls this with a valid fcinfo for the time of the call.
                let call = unsafe { $crate::pg::function::Call::new(fcinfo) };
                let answer = $body(&call)?;
                Ok(call.finish(answer))
            })
        }
    };
}
