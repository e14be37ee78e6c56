//! What a server must be to be a node of this cluster, checked before it holds anything.
//!
//! It answers; it understands what this coordinator prints (same or later major version); it is
//! another database; text means and sorts the same there; it can prepare transactions; it has the
//! schema for shards and the reference tables.

use crate::api::node::find;
use crate::catalog::{NodeId, SHARD_SCHEMA};
use crate::error::{Error, Result, sqlstate};
use crate::pg::ddl::distribute;
use crate::pg::session::{Access, execute, query};
use crate::pg::spi;
use crate::pool::hosts::{Host, hosts};
use pgrx::pg_sys;

/// Major versions that are tested.
const OLDEST_MAJOR: u32 = 15;
const NEWEST_MAJOR: u32 = 18;

/// Works on every version: a column that a version lacks is NULL in the jsonb.
const FACTS: &str = "SELECT pg_catalog.current_setting('server_version_num'), \
    pg_catalog.current_setting('max_prepared_transactions'), pg_catalog.pg_is_in_recovery(), \
    pg_catalog.pg_encoding_to_char(d.encoding), d.datcollate, d.datctype, d.datlocprovider, \
    COALESCE(pg_catalog.to_jsonb(d) ->> 'daticulocale', pg_catalog.to_jsonb(d) ->> 'datlocale') \
    FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()";

/// What is compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Facts {
    major: u32,
    max_prepared: u32,
    in_recovery: bool,
    encoding: String,
    collate: String,
    ctype: String,
    provider: String,
    locale: String,
}

impl Facts {
    fn read(row: Vec<Option<String>>) -> Facts {
        let mut columns = row.into_iter().map(Option::unwrap_or_default);
        let mut next = || columns.next().unwrap_or_default();
        Facts {
            major: next().parse::<u32>().unwrap_or(0) / 10_000,
            max_prepared: next().parse().unwrap_or(0),
            in_recovery: next() == "t",
            encoding: next(),
            collate: next(),
            ctype: next(),
            provider: next(),
            locale: next(),
        }
    }
}

/// Checks the node and makes it ready to hold shards.
pub fn check(name: &str) -> Result<()> {
    let (_, node) = find(name)?;
    refuse_same_place(name)?;
    let there = Facts::read(query(node, FACTS, Access::Read)?.into_iter().next().unwrap_or_default());
    let here = Facts::read(spi::run(FACTS).into_iter().next().unwrap_or_default());
    compare(name, &here, &there)?;
    if is_this_database(node)? {
        return Err(Error::new(sqlstate::INVALID_PARAMETER_VALUE, format!("node \"{name}\" is this database itself"))
            .hint("Name another server, or another database."));
    }
    execute(node, &format!("CREATE SCHEMA IF NOT EXISTS {SHARD_SCHEMA}"), Access::Write)?;
    distribute::copy_tables_to(node)
}

/// Two nodes in one database would wait for each other's locks, which no server would notice. Each server counts that a
/// node may be at.
fn refuse_same_place(name: &str) -> Result<()> {
    let rows = spi::run("SELECT name, dbname, host, port FROM sharding.nodes");
    let places: Vec<(String, Vec<(String, Host)>)> = rows.into_iter().filter_map(places_of).collect();
    let Some((_, here)) = places.iter().find(|(node, _)| node == name) else { return Ok(()) };
    let same = |(node, there): &&(String, Vec<(String, Host)>)| node != name && there.iter().any(|p| here.contains(p));
    match places.iter().find(same) {
        None => Ok(()),
        Some((other, _)) => Err(Error::new(
            sqlstate::INVALID_PARAMETER_VALUE,
            format!("nodes \"{name}\" and \"{other}\" are the same database"),
        )
        .hint("Every node needs a database of its own.")),
    }
}

/// A node of the view and the databases that it may be.
fn places_of(row: Vec<Option<String>>) -> Option<(String, Vec<(String, Host)>)> {
    let [name, dbname, host, port] = <[Option<String>; 4]>::try_from(row).ok()?;
    let dbname = dbname?;
    // What does not fit together cannot be connected to either, and the user is told of it then.
    let hosts = hosts(host.as_deref(), None, port.as_deref()).ok()?;
    Some((name?, hosts.into_iter().map(|host| (dbname.clone(), host)).collect()))
}

fn compare(name: &str, here: &Facts, there: &Facts) -> Result<()> {
    let unfit = |message: String| Error::new(sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE, message);
    if !(OLDEST_MAJOR..=NEWEST_MAJOR).contains(&there.major) {
        return Err(unfit(format!("node \"{name}\" runs PostgreSQL {}, which is not supported", there.major))
            .hint(format!("Use PostgreSQL {OLDEST_MAJOR} to {NEWEST_MAJOR} on the nodes.")));
    }
    if there.major < here.major {
        return Err(unfit(format!(
            "node \"{name}\" runs PostgreSQL {}, which is older than the coordinator's {}",
            there.major, here.major
        ))
        .detail("It would not understand all statements that the coordinator prints.")
        .hint("Upgrade the nodes before the coordinator."));
    }
    if there.in_recovery {
        return Err(unfit(format!("node \"{name}\" is a standby server")).hint("Name the primary server."));
    }
    if there.max_prepared == 0 {
        return Err(unfit(format!(
            "node \"{name}\" cannot take part in a two-phase commit"
        ))
        .hint(format!("Set max_prepared_transactions = 100 (at least the number of concurrent writers) in the postgresql.conf of \"{name}\" and restart it.")));
    }
    let differs = [
        ("encoding", &here.encoding, &there.encoding),
        ("locale provider", &here.provider, &there.provider),
        ("collation (datcollate)", &here.collate, &there.collate),
        ("character classification (datctype)", &here.ctype, &there.ctype),
        ("locale", &here.locale, &there.locale),
    ]
    .into_iter()
    .find(|(_, here, there)| normal_locale(here) != normal_locale(there));
    if let Some((what, here, there)) = differs {
        return Err(unfit(format!("node \"{name}\" has another {what} than this database"))
            .detail(format!("Here it is \"{here}\", there \"{there}\"; text would sort or compare differently."))
            .hint("Create the node's database with the same ENCODING, LOCALE and LOCALE_PROVIDER."));
    }
    Ok(())
}

/// `en_US.UTF-8` and `en_US.utf8` are the same locale.
fn normal_locale(name: &str) -> String {
    match name.split_once('.') {
        Some((language, codeset)) => {
            format!("{language}.{}", codeset.to_ascii_lowercase().replace('-', ""))
        }
        None => name.to_string(),
    }
}

/// Whether the node is this very database. Copies of a data directory share the system identifier
/// and all OIDs, so what decides is whether a lock that is taken here is seen there.
fn is_this_database(node: NodeId) -> Result<bool> {
    // SAFETY: variables of this backend.
    let (pid, start) = unsafe { (pg_sys::MyProcPid, pg_sys::MyStartTimestamp) };
    let (high, low) = ((start as u32) & 0x7fff_ffff, pid as u32);
    spi::run(&format!("SELECT pg_catalog.pg_advisory_xact_lock({high}, {low})"));
    let sql = format!(
        "SELECT count(*) FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND pid = {pid} \
         AND classid = {high} AND objid = {low} AND objsubid = 2 AND database = \
         (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())"
    );
    let rows = query(node, &sql, Access::Read)?;
    Ok(rows.first().and_then(|row| row.first()).and_then(Option::as_deref) != Some("0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            major: 16,
            max_prepared: 10,
            encoding: "UTF8".into(),
            collate: "en_US.UTF-8".into(),
            ctype: "en_US.UTF-8".into(),
            provider: "c".into(),
            ..Facts::default()
        }
    }

    #[test]
    fn a_node_must_be_like_the_coordinator() {
        let here = facts();
        assert!(compare("n", &here, &here).is_ok());
        assert!(compare("n", &here, &Facts { major: 17, ..facts() }).is_ok());
        assert!(compare("n", &here, &Facts { collate: "en_US.utf8".into(), ..facts() }).is_ok());
        for unfit in [
            Facts { major: 15, ..facts() },
            Facts { major: 19, ..facts() },
            Facts { max_prepared: 0, ..facts() },
            Facts { in_recovery: true, ..facts() },
            Facts { encoding: "LATIN1".into(), ..facts() },
            Facts { collate: "C".into(), ..facts() },
            Facts { provider: "i".into(), ..facts() },
            Facts { locale: "de".into(), ..facts() },
        ] {
            let error = compare("n", &here, &unfit).unwrap_err();
            assert_eq!(error.code.as_str(), "55000");
            assert!(error.hint.is_some());
        }
    }
}
