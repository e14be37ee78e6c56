//! Writes that the router cannot serve.
use crate::error::{Error, Result};
use pgrx::pg_sys;

pub unsafe fn replace(_modify: *mut pg_sys::ModifyTable) -> Result<*mut pg_sys::Plan> {
    Err(Error::unsupported("not yet"))
}
