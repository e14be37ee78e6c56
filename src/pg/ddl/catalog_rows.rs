//! Writing the extension's own catalog: groups, shards, tables.
//!
//! The tables belong to the extension's owner and the caller is the owner of some table, so writes
//! run as the extension's owner. One transaction at a time changes them: [`lock`].

use super::spi;
use crate::catalog::{ClusterMap, GroupId, NodeId, TableId, quote_literal};
use crate::error::{Error, Result, sqlstate};
use crate::pg::catalog_cache;
use pgrx::pg_sys;

/// Waits for others who change how tables are spread, and keeps them waiting until the transaction ends.
pub fn lock() -> Result<()> {
    let oid = spi::value("SELECT to_regclass('sharding.distributed_table')::oid")?;
    let oid = oid.and_then(|o| o.parse::<u32>().ok()).ok_or_else(|| {
        Error::new(sqlstate::UNDEFINED_OBJECT, "extension \"sharding\" is not created in this database")
            .hint("Use CREATE EXTENSION sharding.")
    })?;
    // SAFETY: a heavyweight lock, released with the transaction.
    unsafe { pg_sys::LockRelationOid(pg_sys::Oid::from(oid), pg_sys::ShareRowExclusiveLock as _) }
    Ok(())
}

/// The cluster as it is now, whatever this backend had cached.
pub fn fresh_cluster() -> Result<std::rc::Rc<ClusterMap>> {
    // SAFETY: makes the transaction's own changes and others' invalidations visible.
    unsafe {
        pg_sys::CommandCounterIncrement();
        pg_sys::AcceptInvalidationMessages();
    }
    catalog_cache::cluster()
        .ok_or_else(|| Error::new(sqlstate::UNDEFINED_OBJECT, "extension \"sharding\" is not created in this database"))
}

/// Runs a statement as the extension's owner.
fn write(sql: &str) -> Result<Vec<spi::TextRow>> {
    let owner = spi::value("SELECT extowner FROM pg_extension WHERE extname = 'sharding'")?
        .and_then(|o| o.parse::<u32>().ok())
        .unwrap_or(0);
    let (mut user, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: an ERROR in between aborts the transaction, which restores the user as well.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
        pg_sys::SetUserIdAndSecContext(pg_sys::Oid::from(owner), context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32);
    }
    let result = spi::rows(sql);
    // SAFETY: as above.
    unsafe { pg_sys::SetUserIdAndSecContext(user, context) }
    result
}

/// A key type by which tables are grouped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyType {
    pub oid: pg_sys::Oid,
    /// `InvalidOid` for types without one.
    pub collation: pg_sys::Oid,
}

/// The oldest group with these properties.
pub fn find_group(key: KeyType, shard_count: i32) -> Result<Option<GroupId>> {
    let sql = format!(
        "SELECT min(group_id) FROM sharding.colocation_group WHERE key_type = {} AND shard_count = {shard_count} \
         AND coalesce(key_collation::oid, 0) = {}",
        key.oid.to_u32(),
        key.collation.to_u32()
    );
    Ok(spi::value(&sql)?.and_then(|g| g.parse().ok()).map(GroupId))
}

/// A new group whose shards go round robin over the nodes in the order of their names.
pub fn create_group(map: &ClusterMap, key: KeyType, shard_count: i32) -> Result<GroupId> {
    let mut names: Vec<&str> = map.nodes.iter().map(|n| n.name.as_str()).collect();
    names.sort_unstable();
    let collation = match key.collation.to_u32() {
        0 => "NULL".to_owned(),
        oid => oid.to_string(),
    };
    let sql = format!(
        "INSERT INTO sharding.colocation_group (key_type, key_collation, shard_count) \
         VALUES ({}, {collation}, {shard_count}) RETURNING group_id",
        key.oid.to_u32()
    );
    let id = write(&sql)?.first().and_then(|r| spi::text(r, 0).parse::<i32>().ok()).unwrap_or(0);
    let names: Vec<String> = names.iter().map(|n| quote_literal(n)).collect();
    write(&format!(
        "INSERT INTO sharding.shard (group_id, remainder, node) \
         SELECT {id}, i, (ARRAY[{}])[1 + i % {}] FROM generate_series(0, {}) i",
        names.join(", "),
        names.len(),
        shard_count - 1
    ))?;
    catalog_cache::invalidate_cluster();
    Ok(GroupId(id))
}

/// Records a distributed table (with its group and prefix) or a reference table.
pub fn insert_table(table: TableId, group: Option<(GroupId, &str)>) -> Result<()> {
    let (group, prefix) = match group {
        Some((group, prefix)) => (group.0.to_string(), quote_literal(prefix)),
        None => ("NULL".to_owned(), "NULL".to_owned()),
    };
    write(&format!("INSERT INTO sharding.distributed_table VALUES ({}, {group}, {prefix})", table.0))?;
    changed(table)
}

/// Forgets tables, and groups that have none left.
pub fn delete_tables(tables: &[TableId]) -> Result<()> {
    for table in tables {
        write(&format!("DELETE FROM sharding.distributed_table WHERE relation = {}", table.0))?;
    }
    write(
        "DELETE FROM sharding.colocation_group g WHERE NOT EXISTS \
         (SELECT FROM sharding.distributed_table d WHERE d.group_id = g.group_id)",
    )?;
    catalog_cache::invalidate_cluster();
    // SAFETY: makes the change visible to this transaction.
    unsafe { pg_sys::CommandCounterIncrement() };
    Ok(())
}

fn changed(table: TableId) -> Result<()> {
    catalog_cache::invalidate_cluster();
    catalog_cache::invalidate_table(table);
    // SAFETY: makes the change visible to this transaction.
    unsafe { pg_sys::CommandCounterIncrement() };
    Ok(())
}

/// Longest identifier that Postgres keeps (`NAMEDATALEN - 1`).
const IDENTIFIER_BYTES: usize = 63;

/// A prefix for a table's shards that no other table has: its name, then with the schema, then with
/// a number; cut so that `<prefix>_<remainder>` fits an identifier.
pub fn shard_prefix(table: TableId, shard_count: i32) -> Result<String> {
    let sql = format!(
        "SELECT c.relname, n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = {}",
        table.0
    );
    let row = spi::row(&sql)?.unwrap_or_default();
    let (name, schema) = (spi::text(&row, 0), spi::text(&row, 1));
    let room = IDENTIFIER_BYTES - 1 - (shard_count - 1).to_string().len();
    let cut = |text: &str, room: usize| text[..text.floor_char_boundary(room)].to_owned();
    let numbered = (2..).map(|n: u32| {
        let suffix = format!("_{n}");
        format!("{}{suffix}", cut(name, room - suffix.len()))
    });
    let taken = spi::column("SELECT shard_prefix FROM sharding.distributed_table WHERE shard_prefix IS NOT NULL")?;
    let mut candidates = [cut(name, room), cut(&format!("{schema}_{name}"), room)].into_iter().chain(numbered);
    candidates.find(|c| !taken.contains(c)).ok_or_else(|| Error::new(sqlstate::INTERNAL, "no free name for the shards"))
}

/// The nodes that a table needs to exist on: all of the cluster.
pub fn all_nodes(map: &ClusterMap) -> Result<Vec<NodeId>> {
    if map.nodes.is_empty() {
        return Err(Error::new(sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE, "the cluster has no nodes")
            .hint("Use sharding.add_node('node1', 'host', 5432, 'dbname') first."));
    }
    Ok(map.node_ids())
}
