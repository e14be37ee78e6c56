//! Which tables can be spread over nodes, and by which column; the reason when not.

use super::catalog_rows::KeyType;
use super::convert::PartitionKey;
use super::spi::{self, flag, text};
use crate::catalog::{TableId, quote_literal};
use crate::error::{Error, Result, SqlState, sqlstate};
use crate::pg::hash::KeyClass;
use pgrx::pg_sys;

/// What the refusals speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    Distribute,
    Replicate,
}

impl Wish {
    fn verb(self) -> &'static str {
        match self {
            Wish::Distribute => "distribute",
            Wish::Replicate => "replicate",
        }
    }
}

/// A table that may be spread.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub table: TableId,
    /// Quoted where needed, for messages.
    pub name: String,
    pub partitioned: bool,
    pub row_security: bool,
}

/// The caller must own the table.
pub fn check_owner(table: TableId) -> Result<()> {
    let sql = format!("SELECT relname, pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = {}", table.0);
    let row = spi::row(&sql)?.ok_or_else(|| {
        Error::new(sqlstate::UNDEFINED_TABLE, format!("relation with OID {} does not exist", table.0))
    })?;
    if flag(&row, 1) {
        Ok(())
    } else {
        Err(Error::new(sqlstate::INSUFFICIENT_PRIVILEGE, format!("must be owner of table {}", text(&row, 0))))
    }
}

/// Refuses what cannot be kept when a table is spread, whatever its key. The table is locked.
pub fn check_table(table: TableId, wish: Wish) -> Result<Candidate> {
    let sql = format!(
        "SELECT c.relname, c.relkind, c.relpersistence, c.relispartition, n.nspname, \
           EXISTS (SELECT FROM pg_inherits WHERE inhrelid = c.oid), EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid), \
           (SELECT e.extname FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid WHERE d.classid = 'pg_class'::regclass \
             AND d.objid = c.oid AND d.deptype = 'e' LIMIT 1), \
           (SELECT rulename FROM pg_rewrite WHERE ev_class = c.oid LIMIT 1), \
           (SELECT amname FROM pg_am WHERE oid = c.relam AND amname <> 'heap'), \
           c.relrowsecurity \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = {}",
        table.0
    );
    let row = spi::row(&sql)?.unwrap_or_default();
    let name = text(&row, 0).to_owned();
    let verb = wish.verb();
    let wrong = |what: &str| Error::new(sqlstate::WRONG_OBJECT_TYPE, format!("cannot {verb} {what} \"{name}\""));
    let unsupported = |what: &str| Error::unsupported(format!("cannot {verb} {what} \"{name}\""));
    let kind = text(&row, 1);
    match kind {
        "r" | "p" => {}
        "v" => return Err(wrong("view").hint("Use it with the tables that the view reads.")),
        "m" => {
            return Err(wrong("materialized view").hint("It may stay local and read distributed tables."));
        }
        "f" => return Err(wrong("foreign table")),
        _ => return Err(wrong("relation").detail("Only tables can be spread over nodes.")),
    }
    if table.0 < 16_384 || ["pg_catalog", "information_schema", "pg_toast", "sharding"].contains(&text(&row, 4)) {
        return Err(wrong("system catalog"));
    }
    if let Some(extension) = row.get(7).and_then(|c| c.as_deref()) {
        return Err(unsupported("table").detail(format!("It belongs to extension \"{extension}\".")));
    }
    match text(&row, 2) {
        "t" => {
            return Err(unsupported("temporary table").hint("Create the table without TEMPORARY."));
        }
        "u" => {
            return Err(unsupported("unlogged table").hint(format!("Use ALTER TABLE {name} SET LOGGED first.")));
        }
        _ => {}
    }
    if flag(&row, 3) {
        return Err(wrong("partition").hint("Use it with the partitioned table as a whole."));
    }
    if flag(&row, 5) {
        return Err(unsupported("table").detail("It inherits from another table."));
    }
    if kind == "r" && flag(&row, 6) {
        return Err(unsupported("table").detail("Other tables inherit from it."));
    }
    if kind == "p" && wish == Wish::Replicate {
        return Err(unsupported("partitioned table").hint("Copy its rows into a plain table and replicate that."));
    }
    if let Some(rule) = row.get(8).and_then(|c| c.as_deref()) {
        return Err(unsupported("table").detail(format!("It has the rule \"{rule}\".")).hint("Use a trigger instead."));
    }
    if let Some(method) = row.get(9).and_then(|c| c.as_deref()) {
        return Err(unsupported("table").detail(format!("It uses the table access method \"{method}\".")));
    }
    refuse_features(table, &name, wish)?;
    Ok(Candidate { table, name, partitioned: kind == "p", row_security: flag(&row, 10) })
}

/// A query for the name of an offending part, and what to say about it (`%` is that name).
struct Refusal {
    sql: &'static str,
    code: SqlState,
    detail: &'static str,
    hint: &'static str,
}

const BOTH: &[Refusal] = &[
    Refusal {
        sql: "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
              WHERE i.indrelid = {} AND NOT (i.indisvalid AND i.indisready AND i.indislive)",
        code: sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE,
        detail: "Index \"%\" is not valid.",
        hint: "Use REINDEX INDEX or DROP INDEX first.",
    },
    Refusal {
        // `to_jsonb`, because the column is new in 18: what is not enforced is never validated.
        sql: "SELECT conname FROM pg_constraint c WHERE conrelid = {} AND contype = 'f' AND NOT convalidated \
              AND coalesce(to_jsonb(c) ->> 'conenforced', 'true') = 'true'",
        code: sqlstate::FEATURE_NOT_SUPPORTED,
        detail: "Foreign key \"%\" is not validated.",
        hint: "Use ALTER TABLE ... VALIDATE CONSTRAINT first.",
    },
];

const DISTRIBUTED_ONLY: &[Refusal] = &[
    Refusal {
        sql: "SELECT tgname FROM pg_trigger WHERE tgrelid = {} AND NOT tgisinternal AND tgtype & 1 = 0",
        code: sqlstate::FEATURE_NOT_SUPPORTED,
        detail: "Trigger \"%\" fires once per statement, and a statement may run on several nodes.",
        hint: "Use FOR EACH ROW, or drop the trigger.",
    },
    Refusal {
        sql: "SELECT tgname FROM pg_trigger WHERE tgrelid = {} AND NOT tgisinternal \
              AND (tgoldtable IS NOT NULL OR tgnewtable IS NOT NULL)",
        code: sqlstate::FEATURE_NOT_SUPPORTED,
        detail: "Trigger \"%\" uses transition tables.",
        hint: "Drop the trigger.",
    },
    Refusal {
        sql: "SELECT conname FROM pg_constraint WHERE conrelid = {} AND contype IN ('c', 'n') AND connoinherit",
        code: sqlstate::INVALID_TABLE_DEFINITION,
        detail: "Constraint \"%\" is marked NO INHERIT.",
        hint: "Create it again without NO INHERIT.",
    },
    Refusal {
        sql: "SELECT p.pubname FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid WHERE r.prrelid = {}",
        code: sqlstate::FEATURE_NOT_SUPPORTED,
        detail: "It is in publication \"%\", and its changes happen on the nodes.",
        hint: "Use ALTER PUBLICATION ... DROP TABLE first.",
    },
    Refusal {
        sql: "SELECT conname FROM pg_constraint WHERE conrelid = {} AND contype = 'x' \
              AND current_setting('server_version_num')::int < 170000",
        code: sqlstate::FEATURE_NOT_SUPPORTED,
        detail: "It has the exclusion constraint \"%\".",
        hint: "Drop the constraint, or use Postgres 17 or later.",
    },
    Refusal {
        sql: "SELECT t.relname FROM pg_inherits i JOIN pg_class t ON t.oid = i.inhrelid \
              WHERE i.inhparent = {} AND t.relkind NOT IN ('r', 'p')",
        code: sqlstate::FEATURE_NOT_SUPPORTED,
        detail: "Its partition \"%\" is a foreign table.",
        hint: "Detach the partition.",
    },
];

fn refuse_features(table: TableId, name: &str, wish: Wish) -> Result<()> {
    let distributed = if wish == Wish::Distribute { DISTRIBUTED_ONLY } else { &[] };
    for refusal in BOTH.iter().chain(distributed) {
        let found = spi::value(&refusal.sql.replace("{}", &table.0.to_string()))?;
        if let Some(part) = found {
            return Err(Error::new(refusal.code, format!("cannot {} table \"{name}\"", wish.verb()))
                .detail(refusal.detail.replace('%', &part))
                .hint(refusal.hint));
        }
    }
    Ok(())
}

/// A shard key that will do.
#[derive(Clone, Copy, Debug)]
pub struct ShardKey {
    pub partition: PartitionKey,
    pub group_by: KeyType,
}

impl ShardKey {
    /// For hashing before the table is partitioned.
    pub fn class(&self) -> KeyClass {
        // SAFETY: syscache look-ups of an operator class that exists.
        unsafe {
            KeyClass {
                family: pg_sys::get_opclass_family(self.partition.operator_class),
                input_type: pg_sys::get_opclass_input_type(self.partition.operator_class),
                collation: self.partition.collation,
            }
        }
    }
}

/// Hash access method's OID (`pg_am.dat`), and its support function for 64-bit hashes.
const HASH_METHOD: u32 = 405;
const HASHEXTENDED_PROC: i16 = 2;

/// Checks that rows can be told apart by a column on every node alike, and that Postgres can keep
/// the table's unique constraints when it is partitioned by it.
pub fn check_key(candidate: &Candidate, column: &str) -> Result<ShardKey> {
    let (table, name) = (candidate.table, &candidate.name);
    let sql = format!(
        "SELECT a.attnum, a.atttypid, a.attcollation, a.attgenerated <> '', format_type(a.atttypid, a.atttypmod), \
           (SELECT c.collname FROM pg_collation c WHERE c.oid = a.attcollation AND NOT c.collisdeterministic) \
         FROM pg_attribute a WHERE a.attrelid = {} AND a.attname = {} AND a.attnum > 0 AND NOT a.attisdropped",
        table.0,
        quote_literal(column)
    );
    let row = spi::row(&sql)?.ok_or_else(|| {
        Error::new(sqlstate::UNDEFINED_COLUMN, format!("column \"{column}\" of table \"{name}\" does not exist"))
    })?;
    let refuse = |detail: String| {
        Error::unsupported(format!("cannot distribute table \"{name}\" by column \"{column}\"")).detail(detail)
    };
    if flag(&row, 3) {
        return Err(refuse("It is a generated column.".into()).hint("Choose a column that is stored as given."));
    }
    let shown = text(&row, 4);
    if let Some(collation) = row.get(5).and_then(|c| c.as_deref()) {
        return Err(refuse(format!("Its collation \"{collation}\" is not deterministic."))
            .hint("Choose another column, or give this one a deterministic collation."));
    }
    let declared = pg_sys::Oid::from(text(&row, 1).parse::<u32>().unwrap_or(0));
    // SAFETY: syscache look-ups.
    let (base, operator_class) = unsafe {
        let base = pg_sys::getBaseType(declared);
        (base, pg_sys::GetDefaultOpClass(base, pg_sys::Oid::from(HASH_METHOD)))
    };
    if let Some(part) = unstable_part(base)? {
        return Err(refuse(format!("Type {shown} hashes by an OID ({part}), which differs between nodes."))
            .hint("Choose another column, or store the value as text or as a number."));
    }
    let partition = PartitionKey {
        attno: text(&row, 0).parse().unwrap_or(0),
        operator_class,
        collation: pg_sys::Oid::from(text(&row, 2).parse::<u32>().unwrap_or(0)),
    };
    let key = ShardKey { partition, group_by: KeyType { oid: base, collation: partition.collation } };
    let hashes = operator_class != pg_sys::InvalidOid && {
        let class = key.class();
        // SAFETY: a syscache look-up.
        let function =
            unsafe { pg_sys::get_opfamily_proc(class.family, class.input_type, class.input_type, HASHEXTENDED_PROC) };
        function != pg_sys::InvalidOid
    };
    if !hashes {
        return Err(refuse(format!("Type {shown} has no default operator class for hash partitioning."))
            .hint("Choose another column."));
    }
    check_unique(candidate, column, partition.attno)?;
    if candidate.partitioned {
        check_partitioned(candidate, column, &partition)?;
    }
    Ok(key)
}

/// The part of a type whose values hash differently on each server, if it has one.
fn unstable_part(kind: pg_sys::Oid) -> Result<Option<String>> {
    let sql = format!(
        "WITH RECURSIVE part (oid) AS (SELECT {}::oid UNION \
           SELECT r.oid FROM part p JOIN pg_type t ON t.oid = p.oid LEFT JOIN pg_range g ON g.rngtypid = t.oid \
             LEFT JOIN pg_range m ON m.rngmultitypid = t.oid, \
             LATERAL (VALUES (t.typelem), (t.typbasetype), (g.rngsubtype), (m.rngsubtype)) r (oid) WHERE r.oid <> 0) \
         SELECT format_type(t.oid, NULL) FROM part JOIN pg_type t USING (oid) \
         WHERE t.typtype IN ('e', 'c', 'p') OR t.typname ~ '^reg' AND t.oid < 16384 LIMIT 1",
        kind.to_u32()
    );
    spi::value(&sql)
}

fn check_unique(candidate: &Candidate, column: &str, attno: i16) -> Result<()> {
    let sql = format!(
        "SELECT c.relname, EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = c.oid AND k.conrelid = i.indrelid \
           AND k.contype IN ('p', 'u')), i.indisprimary, i.indisexclusion \
         FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = {} \
           AND (i.indisunique OR i.indisexclusion) AND {attno} <> ALL ((i.indkey::int2[])[0:i.indnkeyatts - 1]) \
         ORDER BY i.indisprimary DESC, 1",
        candidate.table.0
    );
    let Some(row) = spi::row(&sql)? else {
        return Ok(());
    };
    let what = match (flag(&row, 2), flag(&row, 1), flag(&row, 3)) {
        (true, ..) => "Primary key",
        (_, true, _) => "Unique constraint",
        (_, _, true) => "Exclusion constraint",
        _ => "Unique index",
    };
    Err(Error::new(
        sqlstate::FEATURE_NOT_SUPPORTED,
        format!("cannot distribute table \"{}\" by column \"{column}\"", candidate.name),
    )
    .detail(format!("{what} \"{}\" does not include the column, so no node could enforce it alone.", text(&row, 0)))
    .hint("Choose a column that all unique constraints include, or add the column to the constraint."))
}

fn check_partitioned(candidate: &Candidate, column: &str, key: &PartitionKey) -> Result<()> {
    let sql = format!(
        "SELECT partstrat, partnatts = 1 AND partattrs[0] = {}, partclass[0] = {} AND partcollation[0] = {} \
         FROM pg_partitioned_table WHERE partrelid = {}",
        key.attno,
        key.operator_class.to_u32(),
        key.collation.to_u32(),
        candidate.table.0
    );
    let row = spi::row(&sql)?.unwrap_or_default();
    let refuse = |detail: String| {
        Error::new(
            sqlstate::WRONG_OBJECT_TYPE,
            format!("cannot distribute partitioned table \"{}\" by column \"{column}\"", candidate.name),
        )
        .detail(detail)
    };
    if text(&row, 0) != "h" {
        return Err(refuse("It is not partitioned by hash.".into())
            .hint("Copy the rows into a table that is not partitioned and distribute that."));
    }
    if !flag(&row, 1) {
        return Err(
            refuse("Its partition key is not just this column.".into()).hint("Use the partition key as the shard key.")
        );
    }
    if !flag(&row, 2) {
        return Err(refuse("Its partition key has an operator class or collation of its own.".into()));
    }
    Ok(())
}
