//! A distributed or reference table becomes an ordinary one again, with all its rows here.

use super::convert::PartitionKey;
use super::{catalog_rows, convert, describe, distribute, eligible, foreign_keys, nodes, rows, spi};
use crate::catalog::Spread;
use crate::catalog::{ClusterMap, NodeId, SHARD_SCHEMA, ShardIndex, TableId, quote_literal, shard_relation};
use crate::error::{Error, Result, sqlstate};
use crate::pg::codec::TransmissionMode;
use crate::pg::session::{self, Access};
use crate::pg::utility::local_only::LocalOnly;
use pgrx::pg_sys;

/// `sharding.undistribute_table`.
pub fn undistribute(table: TableId) -> Result<()> {
    let _local = LocalOnly::enter();
    let _names = TransmissionMode::enter();
    eligible::check_owner(table)?;
    // SAFETY: a heavyweight lock, released with the transaction; ownership is checked again after it.
    unsafe {
        pg_sys::LockRelationOid(pg_sys::Oid::from(table.0), pg_sys::AccessExclusiveLock as _);
    }
    eligible::check_owner(table)?;
    catalog_rows::lock()?;
    let map = catalog_rows::fresh_cluster()?;
    let name = describe::qualified_name(table)?;
    let Some(known) = map.table(table) else {
        return Err(Error::new(sqlstate::WRONG_OBJECT_TYPE, format!("table {name} is not distributed")));
    };
    // SAFETY: the table is locked exclusively.
    unsafe { convert::check_not_in_use(table) };
    foreign_keys::check_undistributed(&map, table)?;
    match &known.spread {
        Spread::Reference => {
            catalog_rows::delete_tables(&[table])?;
            spi::rows(&format!("DROP TRIGGER IF EXISTS {} ON {name}", distribute::REPLICATE_TRIGGER))?;
            nodes::drop_tables(&map.node_ids(), std::slice::from_ref(&name))?;
            crate::pg::catalog_cache::invalidate_table(table);
            Ok(())
        }
        Spread::Distributed { shard_prefix, .. } => {
            let holders = map.distribution(table).map(|(g, _)| g.nodes()).unwrap_or_default();
            let options = shard_options(&map, table, shard_prefix)?;
            let referenced = spi::column(&format!(
                "SELECT DISTINCT confrelid FROM pg_constraint WHERE contype = 'f' AND conrelid = {}",
                table.0
            ))?;
            catalog_rows::delete_tables(&[table])?;
            bring_back(table, &name, &holders, options.as_deref())?;
            nodes::drop_tables(&map.node_ids(), std::slice::from_ref(&name))?;
            let referenced: Vec<TableId> = referenced.iter().filter_map(|t| t.parse().ok()).map(TableId).collect();
            foreign_keys::refresh_guards(&*catalog_rows::fresh_cluster()?, &referenced)
        }
    }
}

fn bring_back(table: TableId, name: &str, holders: &[NodeId], options: Option<&str>) -> Result<()> {
    let sql = format!(
        "SELECT partattrs[0], partclass[0], partcollation[0] FROM pg_partitioned_table WHERE partrelid = {}",
        table.0
    );
    let row = spi::row(&sql)?.unwrap_or_default();
    let oid = |i| pg_sys::Oid::from(spi::text(&row, i).parse::<u32>().unwrap_or(0));
    let key =
        PartitionKey { attno: spi::text(&row, 0).parse().unwrap_or(0), operator_class: oid(1), collation: oid(2) };
    let columns = describe::columns(table)?;
    // SAFETY: locked exclusively and not in use.
    unsafe {
        convert::to_plain(table, key, options)?;
        rows::fetch(table, name, &columns, holders)?;
        convert::build_indexes(table)
    }
}

/// The storage parameters of a table's first shard, which had been the table's own.
fn shard_options(map: &ClusterMap, table: TableId, prefix: &str) -> Result<Option<String>> {
    let Some((group, _)) = map.distribution(table) else {
        return Ok(None);
    };
    let Some(node) = group.shards.first() else {
        return Ok(None);
    };
    let shard = format!("{SHARD_SCHEMA}.{}", crate::catalog::quote_identifier(&shard_relation(prefix, ShardIndex(0))));
    let sql = describe::storage_options_query(&format!("pg_catalog.to_regclass({})", quote_literal(&shard)));
    let rows = session::query(*node, &sql, Access::Write)?;
    Ok(rows.into_iter().next().and_then(|r| r.into_iter().next().flatten()))
}
