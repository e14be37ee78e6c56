//! SQL functions about tables: distribute, replicate, bring back, and where a key's row lives.

use crate::catalog::{SHARD_SCHEMA, TableId};
use crate::error::{Error, Result, sqlstate};
use crate::pg::catalog_cache;
use crate::pg::ddl::{distribute, undistribute};
use crate::pg::function::{Answer, Call};
use crate::pg::hash::KeyHasher;
use crate::pg::session::{self, Access};
use crate::sql_function;
use pgrx::pg_sys;

pub use crate::pg::ddl::distribute::drop_on_nodes;

sql_function!(sharding_distribute_table, pg_finfo_sharding_distribute_table, distribute_table);
sql_function!(sharding_replicate_table, pg_finfo_sharding_replicate_table, replicate_table);
sql_function!(sharding_undistribute_table, pg_finfo_sharding_undistribute_table, undistribute_table);
sql_function!(sharding_shard_of, pg_finfo_sharding_shard_of, shard_of);
sql_function!(sharding_shard_statistics, pg_finfo_sharding_shard_statistics, shard_statistics);

fn given<T>(value: Option<T>, name: &str) -> Result<T> {
    let null = || format!("argument \"{name}\" must not be null");
    value.ok_or_else(|| Error::new(sqlstate::INVALID_PARAMETER_VALUE, null()))
}

/// The `regclass` argument `table`.
fn table(call: &Call) -> Result<TableId> {
    given(call.datum(0), "table").map(|d| TableId(d.value() as u32))
}

/// `distribute_table(table regclass, shard_key name, shard_count int, colocate_with regclass)`
fn distribute_table(call: &Call) -> Result<Answer> {
    let key = given(call.name(1), "shard_key")?;
    let request = distribute::Request {
        table: table(call)?,
        shard_key: &key,
        shard_count: given(call.int(2), "shard_count")?,
        colocate_with: call.datum(3).map(|d| TableId(d.value() as u32)),
    };
    Ok(distribute::distribute(&request)?.into())
}

/// `replicate_table(table regclass)`
fn replicate_table(call: &Call) -> Result<Answer> {
    Ok(distribute::replicate(table(call)?)?.into())
}

/// `undistribute_table(table regclass)`
fn undistribute_table(call: &Call) -> Result<Answer> {
    Ok(undistribute::undistribute(table(call)?)?.into())
}

/// `shard_of(table regclass, key "any")`
fn shard_of(call: &Call) -> Result<Answer> {
    let table = table(call)?;
    let map = catalog_cache::cluster();
    let Some((group, key_attno)) = map.as_deref().and_then(|m| m.distribution(table)) else {
        return Err(Error::new(
            sqlstate::WRONG_OBJECT_TYPE,
            format!("relation with OID {} is not a distributed table", table.0),
        ));
    };
    // SAFETY: the argument has the type that the call says.
    let key = call.datum(1).map(|d| unsafe { as_key(d, call.argument_type(1), table, key_attno) });
    let shard = KeyHasher::new(table)?.shard(group, key);
    Ok(Answer::Datum(pg_sys::Datum::from(shard.0)))
}

/// A value of any type as the shard key's type, by way of its text.
unsafe fn as_key(value: pg_sys::Datum, given: pg_sys::Oid, table: TableId, key_attno: i16) -> pg_sys::Datum {
    // SAFETY: the datum is of type `given`; results live in the function's memory context.
    unsafe {
        let (mut wanted, mut typmod, mut collation) = (pg_sys::InvalidOid, -1, pg_sys::InvalidOid);
        let relation = pg_sys::Oid::from(table.0);
        pg_sys::get_atttypetypmodcoll(relation, key_attno, &mut wanted, &mut typmod, &mut collation);
        if given == wanted {
            return value;
        }
        let text = if given == pg_sys::UNKNOWNOID {
            value.cast_mut_ptr()
        } else {
            let (mut output, mut varlena) = (pg_sys::InvalidOid, false);
            pg_sys::getTypeOutputInfo(given, &mut output, &mut varlena);
            pg_sys::OidOutputFunctionCall(output, value)
        };
        let (mut input, mut parameter) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
        pg_sys::getTypeInputInfo(wanted, &mut input, &mut parameter);
        pg_sys::OidInputFunctionCall(input, text, parameter, typmod)
    }
}

/// `shard_statistics()`: node, shard relation, row estimate, bytes of all shards, asked of the nodes.
fn shard_statistics(call: &Call) -> Result<Answer> {
    let Some(map) = catalog_cache::cluster() else { return call.return_rows(&[]) };
    let sql = format!(
        "SELECT c.relname, c.reltuples, pg_catalog.pg_total_relation_size(c.oid) FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = '{SHARD_SCHEMA}' AND c.relkind = 'r'"
    );
    let mut found = Vec::new();
    for (node, rows) in session::query_on(&map.node_ids(), &sql, Access::Read)? {
        let name = map.node_name(node);
        found.extend(rows.into_iter().map(|row| [vec![Some(name.to_owned())], row].concat()));
    }
    call.return_rows(&found)
}
