//! Names, owners and comments: RENAME, SET SCHEMA, OWNER TO, COMMENT.
//!
//! They go to the nodes as written if what they name is a table of the cluster or a part of one, or an
//! object that such a table uses ([`objects`]). A new owner or schema is made on the nodes
//! first. Renaming a schema follows if a table of the cluster is in it; renaming a node updates the
//! shards' placement.

use crate::catalog::{ClusterMap, quote_identifier, quote_literal};
use crate::ddl::text::commas;
use crate::error::Error;
use crate::pg::catalog_cache;
use crate::pg::ddl::distribute::REPLICATE_TRIGGER;
use crate::pg::utility::{Call, Decision, index, nodes, objects, owner_sql, relation, tree};
use pgrx::pg_sys::{self, ObjectType, Oid};
use std::ffi::CString;
use std::rc::Rc;

pub unsafe fn rename(call: &Call, map: &Rc<ClusterMap>, statement: *mut pg_sys::RenameStmt) -> Decision {
    // SAFETY: the statement outlives the call.
    unsafe {
        let kind = (*statement).renameType;
        let concerned = match kind {
            ObjectType::OBJECT_SCHEMA => {
                let name = tree::text((*statement).subname);
                schema_concerned(map, &name)
            }
            ObjectType::OBJECT_FOREIGN_SERVER => return rename_node(map, statement),
            _ if !(*statement).relation.is_null() => {
                let relid = relation::resolve((*statement).relation);
                match relation::sharded(map, relid) {
                    Some(table) if kind == ObjectType::OBJECT_TRIGGER && !table.is_distributed() => {
                        if tree::text((*statement).subname) == REPLICATE_TRIGGER {
                            return Err(Error::unsupported(
                                "cannot rename the trigger that writes a reference table's copies",
                            ));
                        }
                        false
                    }
                    Some(_) => true,
                    None => kind == ObjectType::OBJECT_ATTRIBUTE && objects::composite_used(map, relid)?,
                }
            }
            _ => object_concerned(map, kind, (*statement).object)?,
        };
        Ok(concerned.then(|| nodes::repeat(call, map)))
    }
}

/// `ALTER SERVER n1 RENAME TO n2` of a node.
unsafe fn rename_node(map: &Rc<ClusterMap>, statement: *mut pg_sys::RenameStmt) -> Decision {
    // SAFETY: a server's name is a String node.
    let (old, new) =
        unsafe { (tree::text((*(*statement).object.cast::<pg_sys::String>()).sval), tree::text((*statement).newname)) };
    if map.nodes.iter().all(|n| n.name != old) {
        return Ok(None);
    }
    Ok(Some(Box::new(move |_| {
        let (old, new) = (quote_literal(&old), quote_literal(&new));
        owner_sql::run(&format!(
            "UPDATE sharding.shard SET node = {new} WHERE node OPERATOR(pg_catalog.=) {old}::pg_catalog.name"
        ))?;
        owner_sql::run(&format!(
            "UPDATE sharding.transaction
                SET nodes = pg_catalog.array_replace(nodes, {old}::pg_catalog.name, {new}::pg_catalog.name)
              WHERE {old}::pg_catalog.name OPERATOR(pg_catalog.=) ANY (nodes)"
        ))?;
        catalog_cache::invalidate_cluster();
        Ok(())
    })))
}

pub unsafe fn set_schema(call: &Call, map: &Rc<ClusterMap>, statement: *mut pg_sys::AlterObjectSchemaStmt) -> Decision {
    // SAFETY: the statement outlives the call.
    unsafe {
        let concerned = match (*statement).relation.is_null() {
            false => relation::named(map, (*statement).relation).is_some(),
            true => object_concerned(map, (*statement).objectType, (*statement).object)?,
        };
        let schema = nodes::schema_exists(&tree::text((*statement).newschema));
        Ok(concerned.then(|| nodes::say(map, vec![schema, call.words().text])).flatten())
    }
}

pub unsafe fn set_owner(call: &Call, map: &Rc<ClusterMap>, statement: *mut pg_sys::AlterOwnerStmt) -> Decision {
    // SAFETY: the statement outlives the call.
    unsafe {
        let kind = (*statement).objectType;
        if (*statement).object.is_null() || !object_concerned(map, kind, (*statement).object)? {
            return Ok(None);
        }
        let mut roles = Vec::new();
        tree::role((*statement).newowner, &mut roles);
        let mut statements: Vec<String> = roles.iter().map(|r| nodes::role_exists(r)).collect();
        statements.push(call.words().text);
        Ok(nodes::say(map, statements))
    }
}

/// REASSIGN OWNED: each of the cluster's tables that changed hands is given to its owner.
pub unsafe fn reassign_owned(
    _call: &Call,
    map: &Rc<ClusterMap>,
    statement: *mut pg_sys::ReassignOwnedStmt,
) -> Decision {
    let mut roles = Vec::new();
    // SAFETY: the statement outlives the call.
    let owner = unsafe { tree::role((*statement).newrole, &mut roles) };
    let map = map.clone();
    Ok(Some(Box::new(move |_| {
        let oids = map.tables.keys().map(|t| t.0.to_string()).collect::<Vec<_>>().join(",");
        let names = owner_sql::rows(&format!(
            "SELECT c.oid::pg_catalog.text FROM pg_catalog.pg_class c
              WHERE c.oid OPERATOR(pg_catalog.=) ANY ('{{{oids}}}'::pg_catalog.oid[])
                AND pg_catalog.pg_get_userbyid(c.relowner) OPERATOR(pg_catalog.=) {}::pg_catalog.name",
            quote_literal(roles.first().map_or("", String::as_str))
        ))?;
        if names.is_empty() {
            return Ok(());
        }
        roles.iter().try_for_each(|r| nodes::tell(&map, &nodes::role_exists(r)))?;
        for row in names {
            let table = relation::qualified(Oid::from(row[0].parse::<u32>().unwrap_or(0)));
            nodes::tell(&map, &format!("ALTER TABLE {table} OWNER TO {owner}"))?;
        }
        Ok(())
    })))
}

pub unsafe fn comment(call: &Call, map: &Rc<ClusterMap>, statement: *mut pg_sys::CommentStmt) -> Decision {
    // SAFETY: the statement outlives the call.
    unsafe {
        let kind = (*statement).objtype;
        let part_of_table = matches!(
            kind,
            ObjectType::OBJECT_TABLE
                | ObjectType::OBJECT_COLUMN
                | ObjectType::OBJECT_INDEX
                | ObjectType::OBJECT_TABCONSTRAINT
                | ObjectType::OBJECT_TRIGGER
                | ObjectType::OBJECT_POLICY
                | ObjectType::OBJECT_STATISTIC_EXT
        );
        if !part_of_table {
            return Ok(None);
        }
        let (mut owner, address) = relation::object(kind, (*statement).object, false);
        if kind == ObjectType::OBJECT_STATISTIC_EXT {
            owner = index::table_of_statistics(address.objectId).unwrap_or(pg_sys::InvalidOid);
        }
        let concerned = match relation::sharded(map, owner) {
            Some(table) => table.is_distributed() || kind != ObjectType::OBJECT_TRIGGER,
            None => false,
        };
        Ok(concerned.then(|| nodes::repeat(call, map)))
    }
}

/// Whether an object that is not named by a RangeVar is used on the nodes.
unsafe fn object_concerned(
    map: &ClusterMap,
    kind: ObjectType::Type,
    object: *mut pg_sys::Node,
) -> crate::error::Result<bool> {
    // SAFETY: the statement's object is of the shape of its kind.
    unsafe {
        if kind == ObjectType::OBJECT_STATISTIC_EXT {
            let oid = pg_sys::get_statistics_object_oid(object.cast(), true);
            return Ok(index::table_of_statistics(oid).and_then(|t| relation::sharded(map, t)).is_some());
        }
        if kind == ObjectType::OBJECT_SCHEMA {
            return Ok(schema_concerned(map, &tree::text((*object.cast::<pg_sys::String>()).sval)));
        }
        if !objects::may_be_used(kind) {
            return Ok(false);
        }
        let (_, address) = relation::object(kind, object, true);
        objects::is_used(map, address)
    }
}

/// Whether a table of the cluster is in a schema.
pub fn schema_concerned(map: &ClusterMap, schema: &str) -> bool {
    let name = CString::new(schema).unwrap_or_default();
    // SAFETY: syscache look-ups.
    unsafe {
        let schema = pg_sys::get_namespace_oid(name.as_ptr(), true);
        schema != pg_sys::InvalidOid && map.tables.keys().any(|t| pg_sys::get_rel_namespace(Oid::from(t.0)) == schema)
    }
}

/// `name` quoted, for lists of several.
pub fn quoted_list(names: &[String]) -> String {
    commas(names.iter().map(|n| quote_identifier(n)))
}
