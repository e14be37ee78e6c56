//! SQL functions about tables: distribute, replicate, bring back, and where a key's row lives.

use crate::catalog::{SHARD_SCHEMA, TableId};
use crate::error::{Error, Result, sqlstate};
use crate::pg::catalog_cache;
use crate::pg::ddl::{distribute, undistribute};
use crate::pg::guard::guarded;
use crate::pg::hash::KeyHasher;
use crate::pg::session::{self, Access};
use pgrx::iter::TableIterator;
use pgrx::{name, pg_extern, pg_sys};
use std::ffi::CStr;

pub use crate::pg::ddl::distribute::{copy_reference_tables_to, drop_on_nodes};

/// An argument, or the error for NULL.
unsafe fn argument(
    fcinfo: pg_sys::FunctionCallInfo,
    index: usize,
    name: &str,
) -> Result<pg_sys::Datum> {
    // SAFETY: the SQL declarations below have the arguments that are asked for.
    unsafe { pgrx::pg_getarg_datum(fcinfo, index) }.ok_or_else(|| {
        Error::new(
            sqlstate::INVALID_PARAMETER_VALUE,
            format!("argument \"{name}\" must not be null"),
        )
    })
}

fn table_of(datum: pg_sys::Datum) -> TableId {
    TableId(datum.value() as u32)
}

#[pg_extern(sql = "
CREATE FUNCTION sharding.distribute_table(\"table\" regclass, shard_key name, shard_count int DEFAULT 32,
    colocate_with regclass DEFAULT NULL) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
COMMENT ON FUNCTION sharding.distribute_table IS 'splits a table over the nodes by the hash of a column';
")]
fn distribute_table(fcinfo: pg_sys::FunctionCallInfo) {
    guarded(|| {
        // SAFETY: argument types as declared; the name is copied.
        let (table, key, count, with) = unsafe {
            let key = argument(fcinfo, 1, "shard_key")?.cast_mut_ptr::<std::ffi::c_char>();
            (
                table_of(argument(fcinfo, 0, "table")?),
                CStr::from_ptr(key).to_string_lossy().into_owned(),
                argument(fcinfo, 2, "shard_count")?.value() as i32,
                pgrx::pg_getarg_datum(fcinfo, 3).map(table_of),
            )
        };
        distribute::distribute(&distribute::Request {
            table,
            shard_key: &key,
            shard_count: count,
            colocate_with: with,
        })
    })
}

#[pg_extern(sql = "
CREATE FUNCTION sharding.replicate_table(\"table\" regclass) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
COMMENT ON FUNCTION sharding.replicate_table IS 'keeps a full copy of a table on every node';
")]
fn replicate_table(fcinfo: pg_sys::FunctionCallInfo) {
    // SAFETY: one argument, a regclass.
    guarded(|| distribute::replicate(table_of(unsafe { argument(fcinfo, 0, "table")? })))
}

#[pg_extern(sql = "
CREATE FUNCTION sharding.undistribute_table(\"table\" regclass) RETURNS void
LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
COMMENT ON FUNCTION sharding.undistribute_table IS 'makes a distributed or reference table an ordinary one again';
")]
fn undistribute_table(fcinfo: pg_sys::FunctionCallInfo) {
    // SAFETY: one argument, a regclass.
    guarded(|| undistribute::undistribute(table_of(unsafe { argument(fcinfo, 0, "table")? })))
}

#[pg_extern(sql = "
CREATE FUNCTION sharding.shard_of(\"table\" regclass, key \"any\") RETURNS int
STABLE LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
COMMENT ON FUNCTION sharding.shard_of IS 'the shard that holds the rows with a key';
")]
fn shard_of(fcinfo: pg_sys::FunctionCallInfo) -> i32 {
    guarded(|| {
        // SAFETY: the second argument is of the type that the call says.
        unsafe {
            let table = table_of(argument(fcinfo, 0, "table")?);
            let map = catalog_cache::cluster();
            let Some((group, key_attno)) = map.as_deref().and_then(|m| m.distribution(table))
            else {
                return Err(Error::new(
                    sqlstate::WRONG_OBJECT_TYPE,
                    format!("relation with OID {} is not a distributed table", table.0),
                ));
            };
            let given = pgrx::pg_getarg_datum(fcinfo, 1).map(|d| {
                as_key(
                    d,
                    pg_sys::get_fn_expr_argtype((*fcinfo).flinfo, 1),
                    table,
                    key_attno,
                )
            });
            Ok(KeyHasher::new(table)?.shard(group, given).0 as i32)
        }
    })
}

/// A value of any type as the shard key's type, by way of its text.
unsafe fn as_key(
    value: pg_sys::Datum,
    given: pg_sys::Oid,
    table: TableId,
    key_attno: i16,
) -> pg_sys::Datum {
    // SAFETY: the datum is of type `given`; results live in the function's memory context.
    unsafe {
        let (mut wanted, mut typmod, mut collation) = (pg_sys::InvalidOid, -1, pg_sys::InvalidOid);
        let relation = pg_sys::Oid::from(table.0);
        pg_sys::get_atttypetypmodcoll(
            relation,
            key_attno,
            &mut wanted,
            &mut typmod,
            &mut collation,
        );
        if given == wanted {
            return value;
        }
        let text = if given == pg_sys::Oid::from(pg_sys::UNKNOWNOID) {
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

/// Row estimates and sizes of all shards, asked of the nodes.
#[pg_extern(sql = "
CREATE FUNCTION sharding.shard_statistics(OUT node name, OUT shard_relation name, OUT row_estimate double precision,
    OUT size_bytes bigint) RETURNS SETOF record
STRICT LANGUAGE c AS 'MODULE_PATHNAME', '@FUNCTION_NAME@';
COMMENT ON FUNCTION sharding.shard_statistics IS 'row estimates and sizes of the shards, asked of the nodes';
")]
#[allow(clippy::type_complexity)]
fn shard_statistics() -> TableIterator<
    'static,
    (
        name!(node, String),
        name!(shard_relation, String),
        name!(row_estimate, f64),
        name!(size_bytes, i64),
    ),
> {
    TableIterator::new(guarded(fetch_statistics))
}

fn fetch_statistics() -> Result<Vec<(String, String, f64, i64)>> {
    let Some(map) = catalog_cache::cluster() else {
        return Ok(Vec::new());
    };
    let nodes = map.node_ids();
    if nodes.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT c.relname, c.reltuples, pg_catalog.pg_total_relation_size(c.oid) FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = '{SHARD_SCHEMA}' AND c.relkind = 'r'"
    );
    let mut found = Vec::new();
    for (node, rows) in session::query_on(&nodes, &sql, Access::Read)? {
        for row in rows {
            let text = |i: usize| row.get(i).and_then(|c| c.as_deref()).unwrap_or("");
            let tuples = text(1).parse().unwrap_or(-1.0);
            found.push((
                map.node_name(node).to_owned(),
                text(0).to_owned(),
                tuples,
                text(2).parse().unwrap_or(0),
            ));
        }
    }
    Ok(found)
}

pgrx::extension_sql_file!(
    "../../sql/table.sql",
    name = "table",
    requires = [shard_statistics]
);
