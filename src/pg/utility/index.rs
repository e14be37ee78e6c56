//! Indexes and statistics objects.
//!
//! `CREATE INDEX ON orders (note)` gets its name here; the nodes are sent the definition as Postgres
//! prints it, name included, and make the index on each of their shards.

use crate::catalog::ClusterMap;
use crate::pg::session;
use crate::pg::utility::{Call, Decision, nodes, objects, relation, tree};
use pgrx::pg_sys::{self, Oid};
use std::rc::Rc;

pub unsafe fn create(map: &Rc<ClusterMap>, statement: *mut pg_sys::IndexStmt) -> Decision {
    // SAFETY: the statement outlives the call.
    let (table, concurrently) = unsafe {
        let Some(table) = relation::named(map, (*statement).relation) else { return Ok(None) };
        (table.id, (*statement).concurrent)
    };
    let map = map.clone();
    Ok(Some(Box::new(move |seen| {
        objects::prepare_nodes(&map, table)?;
        for index in seen.created_in(pg_sys::RelationRelationId) {
            if !is_index(index) || relation::table_behind(index).to_u32() != table.0 {
                continue;
            }
            // SAFETY: the index exists; the text is palloc'd.
            let sql = unsafe { tree::text(pg_sys::pg_get_indexdef_string(index)) };
            if concurrently {
                // Postgres has committed here several times already; so do the nodes.
                let sql = sql.replacen(" INDEX ", " INDEX CONCURRENTLY ", 1);
                session::execute_outside(&map.node_ids(), &sql)?;
            } else {
                nodes::tell(&map, &sql)?;
            }
        }
        Ok(())
    })))
}

fn is_index(relation: Oid) -> bool {
    // SAFETY: a syscache look-up.
    let kind = unsafe { pg_sys::get_rel_relkind(relation) } as u8;
    kind == pg_sys::RELKIND_INDEX || kind == pg_sys::RELKIND_PARTITIONED_INDEX
}

pub unsafe fn create_statistics(map: &Rc<ClusterMap>, statement: *mut pg_sys::CreateStatsStmt) -> Decision {
    // SAFETY: the statement outlives the call.
    let concerned = unsafe {
        tree::items::<pg_sys::Node>((*statement).relations)
            .into_iter()
            .filter_map(|n| tree::cast::<pg_sys::RangeVar>(n, pg_sys::NodeTag::T_RangeVar))
            .any(|r| relation::named(map, r).is_some())
    };
    if !concerned {
        return Ok(None);
    }
    let map = map.clone();
    Ok(Some(Box::new(move |seen| {
        for object in seen.created_in(pg_sys::StatisticExtRelationId) {
            // SAFETY: the object exists; the text is palloc'd.
            let sql = unsafe { tree::text(pg_sys::pg_get_statisticsobjdef_string(object)) };
            nodes::tell(&map, &sql)?;
        }
        Ok(())
    })))
}

pub unsafe fn alter_statistics(call: &Call, map: &Rc<ClusterMap>, statement: *mut pg_sys::AlterStatsStmt) -> Decision {
    // SAFETY: the list holds the name's parts.
    let object = unsafe { pg_sys::get_statistics_object_oid((*statement).defnames, true) };
    Ok(table_of_statistics(object).and_then(|t| relation::sharded(map, t)).map(|_| nodes::repeat(call, map)))
}

/// The table that a statistics object is about.
pub fn table_of_statistics(object: Oid) -> Option<Oid> {
    // SAFETY: the tuple is released after the OID is copied out.
    unsafe {
        let cache = pg_sys::SysCacheIdentifier::STATEXTOID as _;
        let tuple = pg_sys::SearchSysCache1(cache, pg_sys::Datum::from(object));
        if tuple.is_null() {
            return None;
        }
        let mut null = false;
        let relid = pg_sys::SysCacheGetAttr(cache, tuple, pg_sys::Anum_pg_statistic_ext_stxrelid as _, &mut null);
        pg_sys::ReleaseSysCache(tuple);
        Some(Oid::from(relid.value() as u32))
    }
}

/// A statistics object's name with its schema, quoted.
pub fn statistics_name(object: Oid) -> String {
    let address = pg_sys::ObjectAddress { classId: pg_sys::StatisticExtRelationId, objectId: object, objectSubId: 0 };
    // SAFETY: the object exists; the text is palloc'd.
    unsafe { tree::text(pg_sys::getObjectIdentity(&address, true)) }
}
