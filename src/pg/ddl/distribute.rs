//! A table becomes distributed or a reference table, on all nodes and here, or not at all.

use super::describe::{self, NodeCopy};
use super::eligible::{self, Candidate, ShardKey, Wish};
use super::nodes::Shards;
use super::{catalog_rows, convert, dependencies, foreign_keys, nodes, rows, spi};
use crate::catalog::{ClusterMap, ColocationGroup, GroupId, NodeId, Spread, TableId, quote_literal};
use crate::error::{Error, Result, sqlstate};
use crate::pg::bulk::{BulkLoader, Route};
use crate::pg::codec::TransmissionMode;
use crate::pg::hash::KeyHasher;
use crate::pg::session::{self, Access};
use crate::pg::utility::local_only::LocalOnly;
use pgrx::pg_sys;
use std::rc::Rc;

/// What `distribute_table` is asked for.
pub struct Request<'a> {
    pub table: TableId,
    pub shard_key: &'a str,
    pub shard_count: i32,
    pub colocate_with: Option<TableId>,
}

/// The most shards that a table may have: partitions of one parent on a node that holds all.
const MAX_SHARDS: i32 = 4096;
/// The SQL function's default, which gives way to the group that a table is colocated with.
pub const DEFAULT_SHARDS: i32 = 32;

/// Locks the table and the catalog, and checks what does not depend on the key.
fn begin(table: TableId, wish: Wish) -> Result<(Rc<ClusterMap>, Vec<NodeId>, Candidate)> {
    eligible::check_owner(table)?;
    // SAFETY: a heavyweight lock, released with the transaction; ownership is checked again after it.
    unsafe {
        pg_sys::LockRelationOid(pg_sys::Oid::from(table.0), pg_sys::AccessExclusiveLock as _);
    }
    eligible::check_owner(table)?;
    catalog_rows::lock()?;
    let map = catalog_rows::fresh_cluster()?;
    let candidate = eligible::check_table(table, wish)?;
    if let Some(known) = map.table(table) {
        let kind = if known.is_distributed() { "distributed" } else { "a reference table" };
        return Err(Error::new(
            sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE,
            format!("table \"{}\" is already {kind}", candidate.name),
        )
        .hint("Use sharding.undistribute_table first to change how it is spread."));
    }
    let nodes = catalog_rows::all_nodes(&map)?;
    // SAFETY: the table is locked exclusively.
    unsafe { convert::check_not_in_use(table) };
    Ok((map, nodes, candidate))
}

/// `sharding.distribute_table`.
pub fn distribute(request: &Request) -> Result<()> {
    let _local = LocalOnly::enter();
    let _names = TransmissionMode::enter();
    let table = request.table;
    if !(1..=MAX_SHARDS).contains(&request.shard_count) {
        return Err(Error::new(
            sqlstate::INVALID_PARAMETER_VALUE,
            format!("shard_count must be between 1 and {MAX_SHARDS}"),
        ));
    }
    let (map, nodes, candidate) = begin(table, Wish::Distribute)?;
    let key = eligible::check_key(&candidate, request.shard_key)?;
    let existing = choose_group(&map, request, &candidate, &key)?;
    foreign_keys::check_distributed(&map, table, key.partition.attno, existing)?;
    let id = match existing {
        Some(id) => id,
        None => catalog_rows::create_group(&map, key.group_by, request.shard_count)?,
    };
    let map = catalog_rows::fresh_cluster()?;
    let group = map
        .groups
        .get(&id)
        .ok_or_else(|| Error::new(sqlstate::INTERNAL, "new colocation group is not in the catalog"))?;
    let prefix = catalog_rows::shard_prefix(table, group.shards.len() as i32)?;
    let copy = NodeCopy::Parent { key_attno: key.partition.attno };
    let objects = dependencies::objects_for(&map, table, copy)?;
    let ddl = describe::describe(table, copy)?;
    let shards = Shards { group, prefix: &prefix };

    nodes::with_ddl_settings(&nodes, || nodes::create(&nodes, &objects, &ddl, Some(&shards)))?;
    send_rows(&candidate, &key, group, &ddl.columns)?;
    nodes::with_ddl_settings(&nodes, || {
        nodes::run(&nodes, &ddl.constrain)?;
        nodes::finish(&nodes, &ddl, Some(&shards), candidate.row_security)
    })?;

    if candidate.partitioned {
        drop_partitions(table)?;
    } else {
        // SAFETY: locked exclusively, not in use, and the rows are on the nodes.
        unsafe { convert::to_parent(table, key.partition)? };
    }
    catalog_rows::insert_table(table, Some((id, &prefix)))?;
    let map = catalog_rows::fresh_cluster()?;
    let referenced = spi::column(&format!(
        "SELECT DISTINCT confrelid FROM pg_constraint WHERE contype = 'f' AND {0} IN (conrelid, confrelid)",
        table.0
    ))?;
    let referenced: Vec<TableId> = referenced.iter().filter_map(|t| t.parse().ok()).map(TableId).collect();
    foreign_keys::refresh_guards(&map, &referenced)
}

/// The group that was asked for, that a foreign key suggests, or that fits; `None` for a new one.
fn choose_group(map: &ClusterMap, request: &Request, candidate: &Candidate, key: &ShardKey) -> Result<Option<GroupId>> {
    let count = request.shard_count;
    let Some(with) = request.colocate_with else {
        if let Some(id) = foreign_keys::natural_group(map, request.table, key.partition.attno)?
            && let Some(group) = map.groups.get(&id)
            && group.key_type == key.group_by.oid.to_u32()
            && (count == DEFAULT_SHARDS || count as usize == group.shards.len())
        {
            return Ok(Some(id));
        }
        return catalog_rows::find_group(key.group_by, count);
    };
    let with_name = describe::qualified_name(with)?;
    let Some((group, their_key)) = map.distribution(with) else {
        return Err(Error::new(
            sqlstate::WRONG_OBJECT_TYPE,
            format!("cannot colocate table \"{}\" with {with_name}", candidate.name),
        )
        .detail(format!("{with_name} is not distributed.")));
    };
    let theirs = spi::row(&format!(
        "SELECT format_type(atttypid, NULL), attcollation, format_type({}, NULL) FROM pg_attribute \
         WHERE attrelid = {} AND attnum = {their_key}",
        key.group_by.oid.to_u32(),
        with.0
    ))?
    .unwrap_or_default();
    let refuse = |detail: String| {
        Error::new(
            sqlstate::INVALID_PARAMETER_VALUE,
            format!("cannot colocate table \"{}\" with {with_name}", candidate.name),
        )
        .detail(detail)
    };
    if group.key_type != key.group_by.oid.to_u32() {
        return Err(refuse(format!(
            "Their shard keys have the types {} and {}.",
            spi::text(&theirs, 2),
            spi::text(&theirs, 0)
        ))
        .hint("Give both shard keys the same type."));
    }
    if spi::text(&theirs, 1) != key.group_by.collation.to_u32().to_string() {
        return Err(refuse("Their shard keys have different collations.".into()));
    }
    if count != DEFAULT_SHARDS && count as usize != group.shards.len() {
        return Err(refuse(format!("{with_name} has {} shards, not {count}.", group.shards.len()))
            .hint("Leave shard_count out."));
    }
    Ok(Some(group.id))
}

fn send_rows(
    candidate: &Candidate,
    key: &ShardKey,
    group: &ColocationGroup,
    columns: &[describe::Column],
) -> Result<()> {
    let (route, nodes) = Route::hash(KeyHasher::of_class(&key.class())?, group, key.partition.attno);
    send(candidate.table, route, &nodes, columns)
}

fn send(table: TableId, route: Route, nodes: &[NodeId], columns: &[describe::Column]) -> Result<()> {
    let attnos: Vec<i16> = columns.iter().filter(|c| !c.generated).map(|c| c.attno).collect();
    let mut loader = BulkLoader::with_route(route, nodes, table, &attnos)?;
    // SAFETY: the table is locked exclusively.
    unsafe { rows::send(table, &mut loader)? };
    loader.finish()?;
    Ok(())
}

/// Drops the local partitions of a table whose rows are on the nodes.
fn drop_partitions(table: TableId) -> Result<()> {
    let partitions = spi::column(&format!("SELECT inhrelid FROM pg_inherits WHERE inhparent = {}", table.0))?;
    for partition in partitions {
        let object = pg_sys::ObjectAddress {
            classId: pg_sys::RelationRelationId,
            objectId: pg_sys::Oid::from(partition.parse::<u32>().unwrap_or(0)),
            objectSubId: 0,
        };
        // SAFETY: locked exclusively when the rows were read; RESTRICT reports what else needs it.
        unsafe {
            pg_sys::performDeletion(&object, pg_sys::DropBehavior::DROP_RESTRICT, 0);
            pg_sys::CommandCounterIncrement();
        }
    }
    Ok(())
}

/// `sharding.replicate_table`.
pub fn replicate(table: TableId) -> Result<()> {
    let _local = LocalOnly::enter();
    let _names = TransmissionMode::enter();
    let (map, nodes, candidate) = begin(table, Wish::Replicate)?;
    foreign_keys::check_reference(&map, table)?;
    let objects = dependencies::objects_for(&map, table, NodeCopy::Whole)?;
    let ddl = describe::describe(table, NodeCopy::Whole)?;
    nodes::with_ddl_settings(&nodes, || nodes::create(&nodes, &objects, &ddl, None))?;
    send(table, Route::Everywhere, &nodes, &ddl.columns)?;
    nodes::with_ddl_settings(&nodes, || {
        nodes::run(&nodes, &ddl.constrain)?;
        nodes::finish(&nodes, &ddl, None, candidate.row_security)
    })?;
    for sql in [
        format!(
            "CREATE TRIGGER {REPLICATE_TRIGGER} AFTER INSERT OR UPDATE OR DELETE ON {} FOR EACH ROW \
             EXECUTE FUNCTION sharding.replicate_row()",
            ddl.name
        ),
        format!("ALTER TABLE {} ENABLE ALWAYS TRIGGER {REPLICATE_TRIGGER}", ddl.name),
    ] {
        spi::rows(&sql)?;
    }
    catalog_rows::insert_table(table, None)
}

/// The trigger on the coordinator that carries a reference table's changes to the copies.
pub const REPLICATE_TRIGGER: &str = "00_sharding_replicate";

/// Gives a node what every node has and this one lacks: the parents of distributed tables and full
/// copies of the reference tables. For `add_node`.
pub fn copy_tables_to(node: NodeId) -> Result<()> {
    let _local = LocalOnly::enter();
    let _names = TransmissionMode::enter();
    catalog_rows::lock()?;
    let map = catalog_rows::fresh_cluster()?;
    let mut tables: Vec<_> = map.tables.values().collect();
    tables.sort_by_key(|t| t.id);
    let nodes = [node];
    let mut written = Vec::new();
    for table in tables {
        let name = describe::qualified_name(table.id)?;
        let there = format!("SELECT pg_catalog.to_regclass({}) IS NOT NULL", quote_literal(&name));
        let there = session::query(node, &there, Access::Write)?;
        if there.first().is_some_and(|row| spi::flag(row, 0)) {
            continue;
        }
        let copy = match &table.spread {
            Spread::Distributed { key_attno, .. } => NodeCopy::Parent { key_attno: *key_attno },
            Spread::Reference => NodeCopy::Whole,
        };
        // SAFETY: writers and DDL wait until the copy is complete; readers do not.
        unsafe {
            pg_sys::LockRelationOid(pg_sys::Oid::from(table.id.0), pg_sys::ShareRowExclusiveLock as _);
        }
        let objects = dependencies::objects_for(&map, table.id, copy)?;
        let ddl = describe::describe(table.id, copy)?;
        nodes::with_ddl_settings(&nodes, || nodes::create(&nodes, &objects, &ddl, None))?;
        if copy == NodeCopy::Whole {
            send(table.id, Route::Everywhere, &nodes, &ddl.columns)?;
        }
        written.push(ddl);
    }
    nodes::with_ddl_settings(&nodes, || {
        for ddl in &written {
            nodes::run(&nodes, &ddl.constrain)?;
        }
        written.iter().try_for_each(|ddl| nodes::finish(&nodes, ddl, None, false))
    })
}

/// Drops tables on all nodes; the names were taken before they were dropped here.
pub fn drop_on_nodes(tables: &[(String, String)]) -> Result<()> {
    let map = catalog_rows::fresh_cluster()?;
    let quote = crate::catalog::quote_identifier;
    let names: Vec<String> = tables.iter().map(|(schema, name)| format!("{}.{}", quote(schema), quote(name))).collect();
    nodes::drop_tables(&map.node_ids(), &names)
}
