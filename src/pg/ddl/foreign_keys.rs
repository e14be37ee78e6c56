//! Which foreign keys can be kept when a table changes sides.
//!
//! A node enforces a key only over tables that it holds:
//!
//! | from \ to | distributed | reference | local |
//! |---|---|---|---|
//! | distributed | same group, shard keys paired | yes | no |
//! | reference | no | yes | no |
//! | local | guarded | yes | - |
//!
//! *Guarded*: a schema is distributed table by table, referenced ones first, so a local table has to
//! be able to refer to a distributed one for a while. Its own writes are checked by the coordinator;
//! on the nodes a trigger refuses to delete or change a referenced key until the referring table is
//! distributed too ([`refresh_guards`]).

use super::{nodes, spi};
use crate::catalog::{ClusterMap, GroupId, NodeId, SHARD_SCHEMA, Spread, TableId, quote_identifier, quote_literal};
use crate::error::{Error, Result};
use crate::pg::session::{self, Access};

/// One foreign key of or to a table.
#[derive(Clone, Debug)]
struct ForeignKey {
    name: String,
    from: TableId,
    from_name: String,
    to: TableId,
    to_name: String,
    /// Referring and referenced column numbers.
    pairs: Vec<(i16, i16)>,
}

fn keys_where(condition: &str) -> Result<Vec<ForeignKey>> {
    let sql = format!(
        "SELECT c.conname, c.conrelid, c.conrelid::regclass::text, c.confrelid, c.confrelid::regclass::text, \
           array_to_string(c.conkey, ' '), array_to_string(c.confkey, ' ') \
         FROM pg_constraint c JOIN pg_class r ON r.oid = c.conrelid WHERE c.contype = 'f' AND c.conparentid = 0 \
           AND ({condition}) ORDER BY c.conname"
    );
    let numbers = |t: &str| t.split(' ').filter_map(|n| n.parse::<i16>().ok()).collect::<Vec<_>>();
    let id = |t: &str| TableId(t.parse().unwrap_or(0));
    let key = |r: spi::TextRow| ForeignKey {
        name: spi::text(&r, 0).to_owned(),
        from: id(spi::text(&r, 1)),
        from_name: spi::text(&r, 2).to_owned(),
        to: id(spi::text(&r, 3)),
        to_name: spi::text(&r, 4).to_owned(),
        pairs: numbers(spi::text(&r, 5)).into_iter().zip(numbers(spi::text(&r, 6))).collect(),
    };
    Ok(spi::rows(&sql)?.into_iter().map(key).collect())
}

fn refuse(key: &ForeignKey, detail: String) -> Error {
    Error::unsupported(format!("cannot keep foreign key \"{}\"", key.name)).detail(detail)
}

/// The group of a distributed table that the table refers to by its shard key: the natural one to
/// colocate with.
pub fn natural_group(map: &ClusterMap, table: TableId, key_attno: i16) -> Result<Option<GroupId>> {
    for key in keys_where(&format!("c.conrelid = {}", table.0))? {
        if let Some((group, their_key)) = map.distribution(key.to)
            && key.pairs.contains(&(key_attno, their_key))
        {
            return Ok(Some(group.id));
        }
    }
    Ok(None)
}

/// Refuses foreign keys that a table split by `key_attno` into the shards of `group` cannot keep.
pub fn check_distributed(map: &ClusterMap, table: TableId, key_attno: i16, group: Option<GroupId>) -> Result<()> {
    for key in keys_where(&format!("c.conrelid = {0} OR c.confrelid = {0}", table.0))? {
        let key_of = |t: TableId| {
            if t == table { Some(key_attno) } else { map.distribution(t).map(|d| d.1) }
        };
        let other = if key.from == table { key.to } else { key.from };
        let other_group = map.distribution(other).map(|(g, _)| g.id);
        match (key.from == table, map.table(other).map(|t| &t.spread)) {
            _ if other == table => paired(&key, key_of(key.from), key_of(key.to))?,
            (_, Some(Spread::Distributed { .. })) => {
                if other_group != group {
                    return Err(refuse(&key, format!("{} and {} are not colocated.", key.from_name, key.to_name))
                        .hint(format!("Use colocate_with => '{}'.", key.to_name)));
                }
                paired(&key, key_of(key.from), key_of(key.to))?;
            }
            (true, Some(Spread::Reference)) => {}
            (false, Some(Spread::Reference)) => {
                return Err(refuse(
                    &key,
                    format!("Reference table {} cannot refer to a distributed table.", key.from_name),
                )
                .hint("Drop the foreign key first."));
            }
            (true, None) => return Err(refers_to_local(&key)),
            (false, None) => {} // guarded
        }
    }
    Ok(())
}

fn refers_to_local(key: &ForeignKey) -> Error {
    refuse(key, format!("It refers to table {}, which the nodes do not have.", key.to_name))
        .hint(format!("Use sharding.distribute_table or sharding.replicate_table on {} first.", key.to_name))
}

fn paired(key: &ForeignKey, from: Option<i16>, to: Option<i16>) -> Result<()> {
    let pair = from.zip(to);
    if pair.is_some_and(|p| key.pairs.contains(&p)) {
        return Ok(());
    }
    Err(refuse(key, format!("It does not pair the shard keys of {} and {}.", key.from_name, key.to_name))
        .hint("Add the shard key to the foreign key on both sides, or drop the foreign key."))
}

/// Refuses foreign keys that a reference table cannot keep.
pub fn check_reference(map: &ClusterMap, table: TableId) -> Result<()> {
    for key in keys_where(&format!("(c.conrelid = {0}) <> (c.confrelid = {0})", table.0))? {
        let other = if key.from == table { key.to } else { key.from };
        match (key.from == table, map.table(other).map(|t| &t.spread)) {
            (true, None) => return Err(refers_to_local(&key)),
            (true, Some(Spread::Distributed { .. })) => {
                return Err(refuse(&key, format!("It refers to distributed table {}.", key.to_name))
                    .hint("Drop the foreign key, or distribute the table as well."));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Refuses to bring a table back while tables on the nodes refer to it.
pub fn check_undistributed(map: &ClusterMap, table: TableId) -> Result<()> {
    for key in keys_where(&format!("c.confrelid = {0} AND c.conrelid <> {0}", table.0))? {
        if map.table(key.from).is_some() {
            return Err(refuse(&key, format!("Table {} on the nodes refers to this one.", key.from_name))
                .hint(format!("Use sharding.undistribute_table('{}') first.", key.from_name)));
        }
    }
    Ok(())
}

/// Makes the guards of distributed tables that a table refers to, or is referred from, what the
/// foreign keys of local tables demand now; `tables` are the possibly referenced ones.
pub fn refresh_guards(map: &ClusterMap, tables: &[TableId]) -> Result<()> {
    let every = map.node_ids();
    for table in tables {
        let Some((group, _)) = map.distribution(*table) else {
            continue;
        };
        let nodes: Vec<NodeId> = group.nodes().into_iter().filter(|n| every.contains(n)).collect();
        let name = super::describe::qualified_name(*table)?;
        let wanted: Vec<ForeignKey> = keys_where(&format!("c.confrelid = {}", table.0))?
            .into_iter()
            .filter(|k| map.table(k.from).is_none())
            .collect();
        let existing = session::query_on(
            &nodes,
            &format!(
                "SELECT tgname FROM pg_catalog.pg_trigger WHERE tgrelid = {}::pg_catalog.regclass \
                 AND tgname ~ '^{GUARD}[0-9]+$' AND NOT tgisinternal",
                quote_literal(&name)
            ),
            Access::Write,
        )?;
        let mut stale: Vec<(NodeId, String)> = Vec::new();
        let there = existing.iter().flat_map(|(_, rows)| rows).flatten().flatten();
        let mut names: Vec<&String> = there.collect();
        names.sort_unstable();
        names.dedup();
        for trigger in names {
            for node in &nodes {
                stale.push((*node, format!("DROP TRIGGER IF EXISTS {} ON {name}", quote_identifier(trigger))));
            }
        }
        for (node, sql) in stale {
            session::execute(node, &sql, Access::Write)?;
        }
        if !wanted.is_empty() {
            nodes::run(&nodes, &[guard_function()])?;
        }
        for (i, key) in wanted.iter().enumerate() {
            nodes::run(&nodes, &guard_triggers(&name, i, key)?)?;
        }
    }
    Ok(())
}

/// Prefix of the guards' trigger names; sorts before a user's triggers.
const GUARD: &str = "_sharding_guard_";

fn guard_function() -> String {
    format!(
        "CREATE OR REPLACE FUNCTION {SHARD_SCHEMA}.refuse_change_of_referenced_key() RETURNS pg_catalog.trigger \
         LANGUAGE plpgsql SET search_path = pg_catalog AS $$BEGIN \
         RAISE EXCEPTION USING ERRCODE = 'feature_not_supported', \
           MESSAGE = 'cannot delete from or change the key of a distributed table that a local table refers to', \
           DETAIL = 'Foreign key \"' || TG_ARGV[0] || '\" of table ' || TG_ARGV[1] || ' refers to it.', \
           HINT = 'Use sharding.distribute_table on ' || TG_ARGV[1] || ', or drop its foreign key.'; \
         END$$"
    )
}

fn guard_triggers(name: &str, number: usize, key: &ForeignKey) -> Result<Vec<String>> {
    let columns: Vec<String> = key.pairs.iter().map(|(_, to)| to.to_string()).collect();
    let columns = spi::column(&format!(
        "SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = {} AND attnum IN ({})",
        key.to.0,
        columns.join(", ")
    ))?;
    let row = |side: &str| columns.iter().map(|c| format!("{side}.{c}")).collect::<Vec<_>>().join(", ");
    let call = format!(
        "EXECUTE FUNCTION {SHARD_SCHEMA}.refuse_change_of_referenced_key({}, {})",
        quote_literal(&key.name),
        quote_literal(&key.from_name)
    );
    Ok(vec![
        format!("CREATE TRIGGER {GUARD}{} BEFORE DELETE ON {name} FOR EACH ROW {call}", number * 2),
        format!(
            "CREATE TRIGGER {GUARD}{} BEFORE UPDATE OF {} ON {name} FOR EACH ROW \
             WHEN (ROW({}) IS DISTINCT FROM ROW({})) {call}",
            number * 2 + 1,
            columns.join(", "),
            row("OLD"),
            row("NEW")
        ),
    ])
}
