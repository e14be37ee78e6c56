//! Statements on the cluster's catalog, with the rights of the extension's owner.
//!
//! Whoever may drop a table may not write `sharding.distributed_table`; the row goes all the same.
//! Callers qualify every name and operator: the caller's search path is in force.

use crate::error::{Error, Result, sqlstate};
use pgrx::pg_sys;

/// While it lives, the bootstrap superuser runs.
struct AsOwner(pg_sys::Oid, i32);

impl AsOwner {
    fn enter() -> AsOwner {
        // SAFETY: restored on drop, and by Postgres when the (sub)transaction aborts.
        unsafe {
            let mut user = pg_sys::InvalidOid;
            let mut context = 0;
            pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
            let restricted = context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32;
            pg_sys::SetUserIdAndSecContext(pg_sys::Oid::from(pg_sys::BOOTSTRAP_SUPERUSERID), restricted);
            AsOwner(user, context)
        }
    }
}

impl Drop for AsOwner {
    fn drop(&mut self) {
        // SAFETY: plain assignments.
        unsafe { pg_sys::SetUserIdAndSecContext(self.0, self.1) }
    }
}

fn internal(error: pgrx::spi::Error) -> Error {
    Error::new(sqlstate::INTERNAL, format!("the cluster's catalog could not be used: {error}"))
}

/// Runs a statement.
pub fn run(sql: &str) -> Result<()> {
    let _owner = AsOwner::enter();
    pgrx::Spi::run(sql).map_err(internal)
}

/// The rows of a query whose columns are all `text`; NULL is the empty string.
///
/// Run as a statement that may write: it sees what this transaction has done so far.
pub fn rows(sql: &str) -> Result<Vec<Vec<String>>> {
    let _owner = AsOwner::enter();
    pgrx::Spi::connect_mut(|client| {
        let mut out = Vec::new();
        for row in client.update(sql, None, &[])? {
            let mut values = Vec::new();
            for column in 1..=row.columns() {
                values.push(row.get::<String>(column)?.unwrap_or_default());
            }
            out.push(values);
        }
        Ok(out)
    })
    .map_err(internal)
}
