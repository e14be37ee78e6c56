//! Statements about whole databases that want nobody to be in them: our own worker makes way.
//!
//! `DROP DATABASE app`, `ALTER DATABASE app RENAME TO b`, `ALTER DATABASE app SET TABLESPACE t`,
//! `CREATE DATABASE b TEMPLATE app`: each waits until the maintenance worker of `app` has left.

use crate::pg::maintenance::vacate::{Vacant, vacate};
use crate::pg::utility::{Call, tree};
use pgrx::pg_sys::{self, NodeTag};
use std::ffi::{CString, c_char};

/// Whether a statement of this kind may want a database for itself.
pub fn may_concern(tag: NodeTag) -> bool {
    matches!(
        tag,
        NodeTag::T_DropdbStmt | NodeTag::T_RenameStmt | NodeTag::T_AlterDatabaseStmt | NodeTag::T_CreatedbStmt
    )
}

/// The database that the statement wants for itself has no worker as long as this is kept.
pub fn vacated(call: &Call) -> Option<Vacant> {
    // SAFETY: the tag says what the node is.
    let database = unsafe { wanted(call.node()) }?;
    vacate(database.to_u32())
}

/// The database that the statement wants for itself, if it exists.
unsafe fn wanted(node: *mut pg_sys::Node) -> Option<pg_sys::Oid> {
    // SAFETY: as the caller says; names are NUL-terminated.
    unsafe {
        let name: *const c_char = match tree::tag(node) {
            NodeTag::T_DropdbStmt => (*node.cast::<pg_sys::DropdbStmt>()).dbname,
            NodeTag::T_RenameStmt => {
                let rename = node.cast::<pg_sys::RenameStmt>();
                if (*rename).renameType != pg_sys::ObjectType::OBJECT_DATABASE {
                    return None;
                }
                (*rename).subname
            }
            NodeTag::T_AlterDatabaseStmt => {
                let alter = node.cast::<pg_sys::AlterDatabaseStmt>();
                option((*alter).options, "tablespace")?;
                (*alter).dbname
            }
            NodeTag::T_CreatedbStmt => {
                let create = node.cast::<pg_sys::CreatedbStmt>();
                match option((*create).options, "template") {
                    Some(template) => return database(CString::new(template).ok()?.as_ptr()),
                    None => c"template1".as_ptr(),
                }
            }
            _ => return None,
        };
        database(name)
    }
}

unsafe fn database(name: *const c_char) -> Option<pg_sys::Oid> {
    // SAFETY: a NUL-terminated name; with MISSING_OK an unknown one gives 0.
    let oid = unsafe { pg_sys::get_database_oid(name, true) };
    (oid != pg_sys::InvalidOid && unsafe { may_have(oid) }).then_some(oid)
}

/// Whether the current user may have a database for himself: the statements are for its owner, as a template it may be
/// for others. Whoever may not gets Postgres's error, and the worker stays.
unsafe fn may_have(database: pg_sys::Oid) -> bool {
    let cache = pg_sys::SysCacheIdentifier::DATABASEOID as _;
    // SAFETY: the row is released after two of its fields were read.
    unsafe {
        let row = pg_sys::SearchSysCache1(cache, pg_sys::Datum::from(database));
        if row.is_null() {
            return false;
        }
        let form = pg_sys::GETSTRUCT(row).cast::<pg_sys::FormData_pg_database>();
        let (owner, is_template) = ((*form).datdba, (*form).datistemplate);
        pg_sys::ReleaseSysCache(row);
        is_template || pg_sys::has_privs_of_role(pg_sys::GetUserId(), owner)
    }
}

/// The value of an option that is a string.
unsafe fn option(options: *mut pg_sys::List, wanted: &str) -> Option<String> {
    // SAFETY: a list of DefElem.
    unsafe {
        let all = crate::pg::tree::items::<pg_sys::DefElem>(options);
        let found = all.into_iter().find(|option| tree::text((**option).defname) == wanted)?;
        (!(*found).arg.is_null()).then(|| tree::text(pg_sys::defGetString(found)))
    }
}
