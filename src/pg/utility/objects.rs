//! Types, domains and functions that tables of the cluster use.
//!
//! `orders.status` is of the enum `status`, so the nodes have that enum too, and
//! `ALTER TYPE status ADD VALUE 'lost'` must reach them. What a table uses is found in `pg_depend`, from the
//! tables on: types of columns, what these are made of, functions in defaults, checks, indexes,
//! triggers and policies. Objects that no table of the cluster uses are the coordinator's own affair.

use crate::catalog::{ClusterMap, TableId};
use crate::error::Result;
use crate::pg::codec::TransmissionMode;
use crate::pg::ddl::dependencies;
use crate::pg::ddl::describe::NodeCopy;
use crate::pg::ddl::nodes::with_ddl_settings;
use crate::pg::utility::{Call, Decision, nodes, owner_sql, relation, tree};
use pgrx::pg_sys::{self, ObjectType, Oid};
use std::collections::HashSet;
use std::rc::Rc;

/// Catalog and OID of each object that tables of the cluster use.
fn used(map: &ClusterMap) -> Result<HashSet<(u32, u32)>> {
    if map.tables.is_empty() {
        return Ok(HashSet::new());
    }
    let tables = map.tables.keys().map(|t| t.0.to_string()).collect::<Vec<_>>().join(",");
    // pg_class 1259, pg_type 1247, pg_proc 1255, pg_collation 3456, pg_operator 2617, pg_opclass
    // 2616, pg_extension 3079, pg_namespace 2615; parts of tables: pg_attrdef 2604, pg_constraint
    // 2606, pg_trigger 2620, pg_policy 3256, pg_statistic_ext 3381.
    let rows = owner_sql::rows(&format!(
        "WITH RECURSIVE used (class, object) AS (
             SELECT 1259::pg_catalog.oid, o FROM pg_catalog.unnest('{{{tables}}}'::pg_catalog.oid[]) o
             UNION
             SELECT n.class, n.object FROM used u, LATERAL (
                 SELECT d.refclassid AS class, d.refobjid AS object FROM pg_catalog.pg_depend d
                  WHERE d.classid OPERATOR(pg_catalog.=) u.class AND d.objid OPERATOR(pg_catalog.=) u.object
                    AND d.refclassid OPERATOR(pg_catalog.=) ANY ('{{1247,1255,3456,2617,2616}}'::pg_catalog.oid[])
                 UNION ALL
                 SELECT d.classid, d.objid FROM pg_catalog.pg_depend d
                  WHERE d.refclassid OPERATOR(pg_catalog.=) u.class AND d.refobjid OPERATOR(pg_catalog.=) u.object
                    AND u.class OPERATOR(pg_catalog.=) 1259::pg_catalog.oid
                    AND d.classid OPERATOR(pg_catalog.=) ANY ('{{2604,2606,2620,3256,3381}}'::pg_catalog.oid[])
                 UNION ALL
                 SELECT 1259::pg_catalog.oid, i.indexrelid FROM pg_catalog.pg_index i
                  WHERE u.class OPERATOR(pg_catalog.=) 1259::pg_catalog.oid
                    AND i.indrelid OPERATOR(pg_catalog.=) u.object
                 UNION ALL
                 SELECT 1259::pg_catalog.oid, t.typrelid FROM pg_catalog.pg_type t
                  WHERE u.class OPERATOR(pg_catalog.=) 1247::pg_catalog.oid
                    AND t.oid OPERATOR(pg_catalog.=) u.object
                    AND t.typtype OPERATOR(pg_catalog.=) 'c'::pg_catalog.char
                 UNION ALL
                 SELECT 1247::pg_catalog.oid, t.typelem FROM pg_catalog.pg_type t
                  WHERE u.class OPERATOR(pg_catalog.=) 1247::pg_catalog.oid
                    AND t.oid OPERATOR(pg_catalog.=) u.object
                    AND t.typelem OPERATOR(pg_catalog.<>) 0::pg_catalog.oid
             ) n)
         SELECT class::pg_catalog.text, object::pg_catalog.text FROM used"
    ))?;
    let number = |text: &String| text.parse::<u32>().unwrap_or(0);
    Ok(rows.iter().map(|r| (number(&r[0]), number(&r[1]))).collect())
}

/// Whether the nodes have the object because a table of the cluster uses it.
pub fn is_used(map: &ClusterMap, object: pg_sys::ObjectAddress) -> Result<bool> {
    if object.objectId == pg_sys::InvalidOid {
        return Ok(false);
    }
    Ok(used(map)?.contains(&(object.classId.to_u32(), object.objectId.to_u32())))
}

/// The kinds of objects that this file is about.
pub fn may_be_used(kind: ObjectType::Type) -> bool {
    matches!(
        kind,
        ObjectType::OBJECT_TYPE
            | ObjectType::OBJECT_DOMAIN
            | ObjectType::OBJECT_FUNCTION
            | ObjectType::OBJECT_PROCEDURE
            | ObjectType::OBJECT_ROUTINE
            | ObjectType::OBJECT_AGGREGATE
            | ObjectType::OBJECT_COLLATION
            | ObjectType::OBJECT_OPERATOR
            | ObjectType::OBJECT_OPCLASS
            | ObjectType::OBJECT_DOMCONSTRAINT
    )
}

/// Makes what a table uses on the nodes, before they are told of a change to it.
pub fn prepare_nodes(map: &ClusterMap, table: TableId) -> Result<()> {
    let nodes = map.node_ids();
    let copy = match map.distribution(table) {
        Some((_, key_attno)) => NodeCopy::Parent { key_attno },
        None => NodeCopy::Whole,
    };
    let _names = TransmissionMode::enter();
    let objects = dependencies::objects_for(map, table, copy)?;
    if nodes.is_empty() || objects.is_empty() {
        return Ok(());
    }
    with_ddl_settings(&nodes, || dependencies::create_on(&nodes, &objects))
}

fn address(class: Oid, object: Oid) -> pg_sys::ObjectAddress {
    pg_sys::ObjectAddress { classId: class, objectId: object, objectSubId: 0 }
}

fn repeat_if(used: bool, call: &Call, map: &Rc<ClusterMap>) -> Decision {
    Ok(used.then(|| nodes::repeat(call, map)))
}

/// The type that a list of names stands for, or 0.
unsafe fn type_named(names: *mut pg_sys::List) -> Oid {
    // SAFETY: looks up without side effects; the tuple is released.
    unsafe {
        let name = pg_sys::makeTypeNameFromNameList(names);
        let tuple = pg_sys::LookupTypeName(std::ptr::null_mut(), name, std::ptr::null_mut(), true);
        if tuple.is_null() {
            return pg_sys::InvalidOid;
        }
        let oid = pg_sys::typeTypeId(tuple);
        pg_sys::ReleaseSysCache(tuple);
        oid
    }
}

pub unsafe fn alter_enum(call: &Call, map: &Rc<ClusterMap>, statement: *mut pg_sys::AlterEnumStmt) -> Decision {
    // SAFETY: the statement outlives the call.
    let object = unsafe { type_named((*statement).typeName) };
    repeat_if(is_used(map, address(pg_sys::TypeRelationId, object))?, call, map)
}

pub unsafe fn alter_domain(call: &Call, map: &Rc<ClusterMap>, statement: *mut pg_sys::AlterDomainStmt) -> Decision {
    // SAFETY: the statement outlives the call.
    let object = unsafe { type_named((*statement).typeName) };
    repeat_if(is_used(map, address(pg_sys::TypeRelationId, object))?, call, map)
}

/// Whether a composite type's relation belongs to a type in use.
pub fn composite_used(map: &ClusterMap, relid: Oid) -> Result<bool> {
    // SAFETY: a syscache look-up.
    let object = unsafe { pg_sys::get_rel_type_id(relid) };
    is_used(map, address(pg_sys::TypeRelationId, object))
}

/// `ALTER TYPE ... ADD ATTRIBUTE` and its kin.
pub fn alter_composite(call: &Call, map: &Rc<ClusterMap>, relid: Oid) -> Decision {
    repeat_if(composite_used(map, relid)?, call, map)
}

pub unsafe fn alter_function(call: &Call, map: &Rc<ClusterMap>, statement: *mut pg_sys::AlterFunctionStmt) -> Decision {
    // SAFETY: the statement outlives the call.
    let (_, object) = unsafe { relation::object((*statement).objtype, (*statement).func.cast(), true) };
    repeat_if(is_used(map, object)?, call, map)
}

/// `CREATE OR REPLACE FUNCTION` of one in use. The new one has the old one's OID.
pub unsafe fn create_function(
    call: &Call,
    map: &Rc<ClusterMap>,
    statement: *mut pg_sys::CreateFunctionStmt,
) -> Decision {
    // SAFETY: the statement outlives the call.
    if unsafe { !(*statement).replace } {
        return Ok(None);
    }
    let (map, text) = (map.clone(), call.words().text);
    Ok(Some(Box::new(move |seen| {
        // A replaced function reports its creation, too.
        for object in seen.created_in(pg_sys::ProcedureRelationId) {
            if is_used(&map, address(pg_sys::ProcedureRelationId, object))? {
                return nodes::tell(&map, &text);
            }
        }
        Ok(())
    })))
}

/// DROP of types, functions and their kin.
pub unsafe fn dropped(map: &Rc<ClusterMap>, statement: *mut pg_sys::DropStmt) -> Decision {
    // SAFETY: the statement outlives the call; identities are palloc'd.
    unsafe {
        let kind = (*statement).removeType;
        if !may_be_used(kind) || map.tables.is_empty() {
            return Ok(None);
        }
        let used = used(map)?;
        let cascade = if (*statement).behavior == pg_sys::DropBehavior::DROP_CASCADE { " CASCADE" } else { "" };
        let noun = match kind {
            ObjectType::OBJECT_DOMAIN => "DOMAIN",
            ObjectType::OBJECT_TYPE => "TYPE",
            ObjectType::OBJECT_COLLATION => "COLLATION",
            ObjectType::OBJECT_AGGREGATE => "AGGREGATE",
            ObjectType::OBJECT_OPERATOR => "OPERATOR",
            ObjectType::OBJECT_OPCLASS => "OPERATOR CLASS",
            _ => "ROUTINE",
        };
        let mut statements = Vec::new();
        for object in tree::items::<pg_sys::Node>((*statement).objects) {
            let (_, address) = relation::object(kind, object, (*statement).missing_ok);
            if used.contains(&(address.classId.to_u32(), address.objectId.to_u32())) {
                let identity = tree::text(pg_sys::getObjectIdentity(&address, true));
                statements.push(format!("DROP {noun} IF EXISTS {identity}{cascade}"));
            }
        }
        Ok(nodes::say(map, statements))
    }
}
