//! From the names in a statement to the cluster's tables.

use crate::catalog::{ClusterMap, DistributedTable, TableId, quote_identifier};
use crate::pg::guard::boundary;
use crate::pg::utility::{raw, tree};
use pgrx::pg_sys::{self, Oid};
use std::ffi::CStr;

/// OIDs of system catalogs that the bindings do not name (`pg_constraint.h`, `pg_trigger.h`, ...).
pub const CONSTRAINT_CLASS: Oid = Oid::from_u32(2606);
pub const STATISTICS_CLASS: Oid = Oid::from_u32(3381);

/// The relation that a name stands for, or 0; takes no lock.
///
/// # Safety
/// `name` is NULL or points to a RangeVar.
pub unsafe fn resolve(name: *const pg_sys::RangeVar) -> Oid {
    if name.is_null() {
        return pg_sys::InvalidOid;
    }
    let missing_ok = pg_sys::RVROption::RVR_MISSING_OK;
    // SAFETY: a look-up without a callback.
    unsafe {
        boundary(|| raw::RangeVarGetRelidExtended(name, pg_sys::NoLock as _, missing_ok, None, std::ptr::null_mut()))
    }
}

/// The table that an index belongs to; any other relation itself.
pub fn table_behind(relation: Oid) -> Oid {
    // SAFETY: syscache look-ups.
    unsafe {
        if relation == pg_sys::InvalidOid {
            return relation;
        }
        match pg_sys::get_rel_relkind(relation) as u8 {
            pg_sys::RELKIND_INDEX | pg_sys::RELKIND_PARTITIONED_INDEX => pg_sys::IndexGetRelation(relation, true),
            _ => relation,
        }
    }
}

/// The cluster's table behind a relation.
pub fn sharded(map: &ClusterMap, relation: Oid) -> Option<&DistributedTable> {
    map.table(TableId(table_behind(relation).to_u32()))
}

/// The cluster's table that a name stands for, itself or by one of its indexes.
///
/// # Safety
/// As [`resolve`].
pub unsafe fn named(map: &ClusterMap, name: *const pg_sys::RangeVar) -> Option<&DistributedTable> {
    // SAFETY: as the caller promises.
    sharded(map, unsafe { resolve(name) })
}

/// A relation's name with its schema, quoted.
pub fn qualified(relation: Oid) -> String {
    // SAFETY: syscache look-ups; the texts are palloc'd.
    unsafe {
        let schema = tree::text(pg_sys::get_namespace_name(pg_sys::get_rel_namespace(relation)));
        format!("{}.{}", quote_identifier(&schema), quote_identifier(&bare_name(relation)))
    }
}

/// A table's name with its schema, quoted.
pub fn table_name(table: TableId) -> String {
    qualified(Oid::from(table.0))
}

/// A relation's name alone, as it is.
pub fn bare_name(relation: Oid) -> String {
    // SAFETY: a syscache look-up.
    unsafe { tree::text(pg_sys::get_rel_name(relation)) }
}

/// The tables that a foreign key leads from and to; `None` for other constraints.
pub fn foreign_key(constraint: Oid) -> Option<(TableId, TableId)> {
    // SAFETY: the tuple is released after the OIDs are copied out.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::CONSTROID as _;
        let tuple = pg_sys::SearchSysCache1(cache, pg_sys::Datum::from(constraint));
        if tuple.is_null() {
            return None;
        }
        // The column numbers of pg_constraint differ between versions.
        let table = |column: &CStr| {
            let mut null = false;
            let attno = pg_sys::get_attnum(CONSTRAINT_CLASS, column.as_ptr());
            TableId(pg_sys::SysCacheGetAttr(cache, tuple, attno, &mut null).value() as u32)
        };
        let (from, to) = (table(c"conrelid"), table(c"confrelid"));
        pg_sys::ReleaseSysCache(tuple);
        (to.0 != 0).then_some((from, to))
    }
}

/// The table that an object of COMMENT, DROP and their kin belongs to, and the object; errors
/// about missing objects are Postgres's own.
///
/// # Safety
/// `object` is of the shape that the grammar gives objects of this kind.
pub unsafe fn object(
    kind: pg_sys::ObjectType::Type,
    object: *mut pg_sys::Node,
    missing_ok: bool,
) -> (Oid, pg_sys::ObjectAddress) {
    // SAFETY: the relation is closed at once; its lock stays, as the statement would take it.
    unsafe {
        // RENAME, SET SCHEMA and OWNER name a type by a list; get_object_address wants a TypeName.
        let kind = match kind {
            pg_sys::ObjectType::OBJECT_DOMCONSTRAINT
                if crate::pg::tree::items::<pg_sys::Node>(object.cast())
                    .first()
                    .is_some_and(|n| (**n).type_ != pg_sys::NodeTag::T_TypeName) =>
            {
                pg_sys::ObjectType::OBJECT_DOMAIN
            }
            kind => kind,
        };
        let by_list = matches!(kind, pg_sys::ObjectType::OBJECT_TYPE | pg_sys::ObjectType::OBJECT_DOMAIN)
            && (*object).type_ == pg_sys::NodeTag::T_List;
        let object = if by_list { pg_sys::makeTypeNameFromNameList(object.cast()).cast() } else { object };
        let mut relation: pg_sys::Relation = std::ptr::null_mut();
        let lock = pg_sys::AccessShareLock as _;
        let relation_out = &raw mut relation;
        let address = boundary(|| raw::get_object_address(kind, object, relation_out, lock, missing_ok));
        let mut owner = pg_sys::InvalidOid;
        if !relation.is_null() {
            owner = table_behind((*relation).rd_id);
            pg_sys::relation_close(relation, pg_sys::NoLock as _);
        }
        (owner, address)
    }
}
