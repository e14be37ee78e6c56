//! DROP, and whatever a statement drops by cascade.
//!
//! `DROP TABLE orders, a_local_table CASCADE`, `DROP SCHEMA shop CASCADE`, `DROP OWNED BY bob`: the tables of the
//! cluster that went are known from `observe`; the nodes drop theirs, and the cluster's catalog
//! forgets them, with the colocation group that no table uses any more. Parts of tables (indexes,
//! triggers, policies, statistics) are resolved from the statement before it runs.

use crate::catalog::{ClusterMap, quote_literal};
use crate::ddl::text::commas;
use crate::error::{Error, Result};
use crate::pg::codec::TransmissionMode;
use crate::pg::ddl::catalog_rows;
use crate::pg::ddl::distribute::REPLICATE_TRIGGER;
use crate::pg::utility::observe::Seen;
use crate::pg::utility::{Call, Decision, index, nodes, objects, relation, tree};
use pgrx::pg_sys::{self, NodeTag, ObjectType};
use std::rc::Rc;

pub unsafe fn decide(call: &Call, map: &Rc<ClusterMap>, statement: *mut pg_sys::DropStmt) -> Decision {
    // SAFETY: the statement outlives the call.
    unsafe {
        let kind = (*statement).removeType;
        let cascade = if (*statement).behavior == pg_sys::DropBehavior::DROP_CASCADE { " CASCADE" } else { "" };
        let named = tree::items::<pg_sys::Node>((*statement).objects);
        match kind {
            ObjectType::OBJECT_INDEX => {
                let mut names = Vec::new();
                let mut distributed = false;
                for object in named {
                    let name = pg_sys::makeRangeVarFromNameList(object.cast());
                    let relid = relation::resolve(name);
                    if let Some(table) = relation::sharded(map, relid) {
                        distributed |= table.is_distributed();
                        names.push(relation::qualified(relid));
                    }
                }
                if names.is_empty() {
                    return Ok(None);
                }
                if (*statement).concurrent && !distributed {
                    return Err(Error::unsupported("cannot drop an index of a reference table concurrently")
                        .hint("Leave out CONCURRENTLY."));
                }
                Ok(nodes::say(map, vec![format!("DROP INDEX {}{cascade}", commas(names))]))
            }
            ObjectType::OBJECT_STATISTIC_EXT => {
                let mut names = Vec::new();
                for object in named {
                    let oid = pg_sys::get_statistics_object_oid(object.cast(), true);
                    if index::table_of_statistics(oid).and_then(|t| relation::sharded(map, t)).is_some() {
                        names.push(index::statistics_name(oid));
                    }
                }
                Ok(nodes::say(map, names.into_iter().map(|n| format!("DROP STATISTICS {n}")).collect()))
            }
            ObjectType::OBJECT_TRIGGER | ObjectType::OBJECT_POLICY | ObjectType::OBJECT_RULE => {
                let Some(object) = named.first() else { return Ok(None) };
                drop_part(call, map, kind, *object)
            }
            _ => objects::dropped(map, statement),
        }
    }
}

/// A trigger, policy or rule: the list is the table's name and then its own.
unsafe fn drop_part(call: &Call, map: &Rc<ClusterMap>, kind: ObjectType::Type, object: *mut pg_sys::Node) -> Decision {
    // SAFETY: the grammar gives a list of String nodes.
    unsafe {
        let Some(list) = tree::cast::<pg_sys::List>(object, NodeTag::T_List) else {
            return Ok(None);
        };
        let copy = pg_sys::copyObjectImpl(list.cast()).cast::<pg_sys::List>();
        let part = tree::strings(copy).pop().unwrap_or_default();
        let length = (*copy).length;
        let table_name = pg_sys::list_truncate(copy, length - 1);
        let Some(table) = relation::named(map, pg_sys::makeRangeVarFromNameList(table_name)) else {
            return Ok(None);
        };
        if kind == ObjectType::OBJECT_TRIGGER && !table.is_distributed() {
            if part == REPLICATE_TRIGGER {
                return Err(Error::unsupported("cannot drop the trigger that writes a reference table's copies")
                    .hint("Use sharding.undistribute_table()."));
            }
            return Ok(None);
        }
        Ok(Some(nodes::repeat(call, map)))
    }
}

/// Drops on the nodes what the statement dropped here, and forgets it.
pub fn propagate(call: &Call, map: &Rc<ClusterMap>, seen: &Seen) -> Result<()> {
    if !seen.tables.is_empty() {
        let names = commas(seen.tables.iter().map(|t| t.name.clone()));
        // What RESTRICT protects was checked here; several tables go at once for the sake of the
        // foreign keys between them.
        let restrict = is_restricted(call);
        nodes::tell(map, &format!("DROP TABLE {names}{}", if restrict { "" } else { " CASCADE" }))?;
        drop_types(map, seen)?;
        let _names = TransmissionMode::enter();
        catalog_rows::delete_tables(&seen.tables.iter().map(|t| t.table).collect::<Vec<_>>())?;
    }
    // SAFETY: the tag is read from the statement.
    if unsafe { tree::tag(call.node()) } == NodeTag::T_AlterTableStmt {
        return Ok(());
    }
    for column in &seen.columns {
        if seen.tables.iter().all(|t| t.table != column.table) {
            let name = crate::catalog::quote_identifier(&column.column);
            nodes::tell(map, &format!("ALTER TABLE {} DROP COLUMN IF EXISTS {name} CASCADE", column.of))?;
        }
    }
    Ok(())
}

/// Types that went together with tables (`DROP SCHEMA ... CASCADE`) go on the nodes, too, unless
/// something there still needs them.
fn drop_types(map: &ClusterMap, seen: &Seen) -> Result<()> {
    let gone =
        |name: &&String| !name.ends_with("[]") && seen.tables.iter().all(|t| unquoted(&t.name) != unquoted(name));
    let steps: String = seen
        .types
        .iter()
        .filter(gone)
        .map(|name| {
            format!(
                "BEGIN DROP TYPE IF EXISTS {name}; \
                 EXCEPTION WHEN dependent_objects_still_exist OR invalid_schema_name OR wrong_object_type THEN NULL; END; "
            )
        })
        .collect();
    if steps.is_empty() {
        return Ok(());
    }
    let body = format!("BEGIN {steps} END");
    nodes::tell(map, &format!("DO {}", quote_literal(&body)))
}

/// For comparing names that are quoted always with those quoted where needed.
fn unquoted(name: &str) -> String {
    name.replace('"', "")
}

fn is_restricted(call: &Call) -> bool {
    // SAFETY: checked by tag.
    unsafe {
        match tree::cast::<pg_sys::DropStmt>(call.node(), NodeTag::T_DropStmt) {
            Some(statement) => {
                (*statement).removeType == ObjectType::OBJECT_TABLE
                    && (*statement).behavior != pg_sys::DropBehavior::DROP_CASCADE
            }
            None => false,
        }
    }
}
