//! The DDL that makes a node's copy of a table, written from the coordinator's catalogs.
//!
//! For `orders` with a primary key and a trigger:
//!
//! ```text
//! create       CREATE TABLE public.orders (id bigint NOT NULL, ...) PARTITION BY HASH (id)
//! constrain    ALTER TABLE public.orders ADD CONSTRAINT orders_pkey PRIMARY KEY (id)
//! foreign_keys ALTER TABLE public.orders ADD CONSTRAINT ... REFERENCES public.users(id)
//! finish       CREATE TRIGGER ..., CREATE POLICY ..., COMMENT ON ..., ALTER TABLE ... OWNER TO ...
//! ```
//!
//! Postgres prints every part that has a `pg_get_...def`, under `search_path = pg_catalog`, so all
//! names are qualified. Left out on nodes: identity, defaults that draw from a sequence (the
//! coordinator supplies those values), tablespaces, and a reference table's triggers.

use super::spi::{self, TextRow, flag, text};
use crate::catalog::{TableId, quote_literal};
use crate::error::{Error, Result, sqlstate};
use pgrx::pg_sys;
use std::ffi::CStr;

/// What kind of table the nodes get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeCopy {
    /// The parent of shards, split by this column.
    Parent { key_attno: i16 },
    /// A full copy of a reference table.
    Whole,
}

/// A column as the nodes get it.
#[derive(Clone, Debug)]
pub struct Column {
    pub attno: i16,
    /// Quoted where needed.
    pub name: String,
    /// `name type [COLLATE ...] [DEFAULT ...] [[CONSTRAINT ...] NOT NULL]`
    pub definition: String,
    pub generated: bool,
}

/// The statements, in the order in which they have to run.
#[derive(Clone, Debug)]
pub struct TableDdl {
    /// `schema.name`, quoted where needed.
    pub name: String,
    pub columns: Vec<Column>,
    /// Before partitions and rows.
    pub create: Vec<String>,
    /// `WITH (...)` of the partitions, with a leading blank, or nothing.
    pub storage_parameters: String,
    /// With the rows in place: keys and indexes.
    pub constrain: Vec<String>,
    pub foreign_keys: Vec<String>,
    /// Triggers, policies, comments, owner, privileges.
    pub finish: Vec<String>,
    /// Owner and privileges of a relation that stands for the table on a node: `{}` is its name.
    pub access: Vec<String>,
}

/// `schema.name` of a relation, quoted where needed.
pub fn qualified_name(table: TableId) -> Result<String> {
    let sql = format!(
        "SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) FROM pg_class c \
         JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = {}",
        table.0
    );
    spi::value(&sql)?
        .ok_or_else(|| Error::new(sqlstate::UNDEFINED_TABLE, format!("relation with OID {} does not exist", table.0)))
}

/// The columns that exist, in order. From 18 on a NOT NULL constraint has a name, which older nodes overlook.
pub fn columns(table: TableId) -> Result<Vec<Column>> {
    let sql = format!(
        "SELECT a.attnum, quote_ident(a.attname), a.attgenerated <> '', \
           quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod) \
           || CASE WHEN a.attcollation <> 0 AND a.attcollation <> t.typcollation THEN \
                (SELECT ' COLLATE ' || quote_ident(n.nspname) || '.' || quote_ident(c.collname) \
                 FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace WHERE c.oid = a.attcollation) \
              ELSE '' END \
           || CASE WHEN a.attgenerated <> '' THEN ' GENERATED ALWAYS AS (' || pg_get_expr(d.adbin, d.adrelid) || ')' \
                     || CASE a.attgenerated WHEN 's' THEN ' STORED' ELSE ' VIRTUAL' END \
                   WHEN d.oid IS NOT NULL AND NOT ({DRAWS_FROM_SEQUENCE}) \
                     THEN ' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid) \
                   ELSE '' END \
           || CASE WHEN n.convalidated THEN ' CONSTRAINT ' || quote_ident(n.conname) || ' NOT NULL' \
                   WHEN n.oid IS NULL AND a.attnotnull THEN ' NOT NULL' ELSE '' END \
         FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid \
           LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
           LEFT JOIN pg_constraint n ON n.conrelid = a.attrelid AND n.contype = 'n' AND n.conkey = ARRAY[a.attnum] \
         WHERE a.attrelid = {} AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
        table.0
    );
    let column = |r: TextRow| Column {
        attno: text(&r, 0).parse().unwrap_or(0),
        name: text(&r, 1).to_owned(),
        generated: flag(&r, 2),
        definition: text(&r, 3).to_owned(),
    };
    Ok(spi::rows(&sql)?.into_iter().map(column).collect())
}

/// Of `pg_attrdef d`: whether the default asks a sequence.
pub const DRAWS_FROM_SEQUENCE: &str = "EXISTS (SELECT FROM pg_depend p JOIN pg_class s ON s.oid = p.refobjid \
     WHERE p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid AND p.refclassid = 'pg_class'::regclass \
       AND s.relkind = 'S') \
     OR pg_get_expr(d.adbin, d.adrelid) ~ '\\m(nextval|currval|lastval|setval)\\('";

/// All statements for a table.
pub fn describe(table: TableId, copy: NodeCopy) -> Result<TableDdl> {
    let name = qualified_name(table)?;
    let columns = columns(table)?;
    let mut create = vec![create_table(table, &name, &columns, copy)?];
    create.extend(column_storage(table, &name)?);
    let storage_parameters = storage_parameters(table)?;
    if copy == NodeCopy::Whole && !storage_parameters.is_empty() {
        create[0].push_str(&storage_parameters);
    }
    let mut finish = column_statistics(table, &name)?;
    finish.extend(not_valid_constraints(table, &name)?);
    if copy != NodeCopy::Whole {
        finish.extend(triggers(table, &name)?);
    }
    finish.extend(policies(table, &name)?);
    finish.extend(spi::column(&format!(
        "SELECT pg_get_statisticsobjdef(oid) FROM pg_statistic_ext WHERE stxrelid = {} ORDER BY oid",
        table.0
    ))?);
    finish.extend(comments(table, &name, copy)?);
    finish.extend(replica_identity(table, &name)?);
    let access = access(table)?;
    finish.extend(access.iter().map(|s| s.replace("{}", &name)));
    Ok(TableDdl {
        constrain: keys_and_indexes(table, &name)?,
        foreign_keys: foreign_keys(table, &name)?,
        name,
        columns,
        create,
        storage_parameters,
        finish,
        access,
    })
}

fn create_table(table: TableId, name: &str, columns: &[Column], copy: NodeCopy) -> Result<String> {
    let mut parts: Vec<String> = columns.iter().map(|c| c.definition.clone()).collect();
    parts.extend(spi::column(&format!(
        "SELECT 'CONSTRAINT ' || quote_ident(conname) || ' ' || pg_get_constraintdef(oid) FROM pg_constraint \
         WHERE conrelid = {} AND contype = 'c' AND convalidated ORDER BY conname",
        table.0
    ))?);
    let mut sql = format!("CREATE TABLE {name} ({})", parts.join(", "));
    if let NodeCopy::Parent { key_attno } = copy {
        let key = columns.iter().find(|c| c.attno == key_attno).map_or("", |c| c.name.as_str());
        sql.push_str(&format!(" PARTITION BY HASH ({key})"));
    }
    Ok(sql)
}

fn column_storage(table: TableId, name: &str) -> Result<Vec<String>> {
    spi::column(&format!(
        "SELECT format('ALTER TABLE %s ALTER COLUMN %I SET ', {}, a.attname) || s.setting \
         FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid, LATERAL (VALUES \
           (CASE WHEN a.attstorage <> t.typstorage THEN 'STORAGE ' || CASE a.attstorage WHEN 'p' THEN 'PLAIN' \
              WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END END), \
           (CASE a.attcompression WHEN 'p' THEN 'COMPRESSION pglz' WHEN 'l' THEN 'COMPRESSION lz4' END)) s (setting) \
         WHERE a.attrelid = {} AND a.attnum > 0 AND NOT a.attisdropped AND s.setting IS NOT NULL ORDER BY a.attnum",
        quote_literal(name),
        table.0
    ))
}

/// Without `pg_attver`, which late minor versions of Postgres 15-18 keep among the options for themselves.
fn column_statistics(table: TableId, name: &str) -> Result<Vec<String>> {
    spi::column(&format!(
        "SELECT format('ALTER TABLE %s ALTER COLUMN %I SET ', {}, a.attname) || s.setting \
         FROM pg_attribute a, LATERAL (VALUES \
           (CASE WHEN a.attstattarget >= 0 THEN 'STATISTICS ' || a.attstattarget END), \
           ('(' || nullif(array_to_string(ARRAY(SELECT o FROM unnest(a.attoptions) o \
              WHERE split_part(o, '=', 1) <> 'pg_attver'), ', '), '') || ')')) s (setting) \
         WHERE a.attrelid = {} AND a.attnum > 0 AND NOT a.attisdropped AND s.setting IS NOT NULL ORDER BY a.attnum",
        quote_literal(name),
        table.0
    ))
}

/// ` WITH (fillfactor='70', toast.autovacuum_enabled='false')`, or nothing.
fn storage_parameters(table: TableId) -> Result<String> {
    let options = storage_options(table)?;
    Ok(if options.is_empty() { options } else { format!(" WITH ({options})") })
}

/// The storage parameters of a table and its toast table, as between the parentheses of `WITH`.
fn storage_options(table: TableId) -> Result<String> {
    Ok(spi::value(&storage_options_query(&table.0.to_string()))?.unwrap_or_default())
}

/// A query, for any server, for the storage parameters of the relation with this OID.
pub fn storage_options_query(oid: &str) -> String {
    format!(
        "SELECT pg_catalog.string_agg(p.prefix || pg_catalog.split_part(o, '=', 1) || '=' \
           || pg_catalog.quote_literal(pg_catalog.substr(o, pg_catalog.strpos(o, '=') + 1)), ', ') \
         FROM pg_catalog.pg_class c, LATERAL (SELECT '' AS prefix, c.reloptions AS options UNION ALL \
           SELECT 'toast.', t.reloptions FROM pg_catalog.pg_class t WHERE t.oid = c.reltoastrelid) p, \
           pg_catalog.unnest(p.options) o WHERE c.oid = {oid}"
    )
}

fn not_valid_constraints(table: TableId, name: &str) -> Result<Vec<String>> {
    spi::column(&format!(
        "SELECT 'ALTER TABLE ' || {} || ' ADD CONSTRAINT ' || quote_ident(conname) || ' ' || pg_get_constraintdef(oid) \
         FROM pg_constraint WHERE conrelid = {} AND contype IN ('c', 'n') AND NOT convalidated ORDER BY conname",
        quote_literal(name),
        table.0
    ))
}

fn keys_and_indexes(table: TableId, name: &str) -> Result<Vec<String>> {
    let constraints = spi::column(&format!(
        "SELECT oid FROM pg_constraint WHERE conrelid = {} AND contype IN ('p', 'u', 'x') ORDER BY contype, oid",
        table.0
    ))?;
    let mut statements = Vec::new();
    for oid in constraints {
        // SAFETY: the result is palloc'd text of the current memory context.
        let text = unsafe {
            let oid = pg_sys::Oid::from(oid.parse::<u32>().unwrap_or(0));
            CStr::from_ptr(pg_sys::pg_get_constraintdef_command(oid)).to_string_lossy().into_owned()
        };
        statements.push(text);
    }
    // A partitioned index is printed with ONLY, which would keep the node from making it everywhere.
    statements.extend(spi::column(&format!(
        "SELECT regexp_replace(pg_get_indexdef(i.indexrelid), '^(CREATE (?:UNIQUE )?INDEX .+?) ON ONLY ', '\\1 ON ') \
         FROM pg_index i WHERE i.indrelid = {} AND NOT EXISTS (SELECT FROM pg_constraint c \
           WHERE c.conindid = i.indexrelid AND c.conrelid = i.indrelid AND c.contype IN ('p', 'u', 'x')) \
         ORDER BY i.indexrelid",
        table.0
    ))?);
    let _ = name;
    Ok(statements)
}

fn foreign_keys(table: TableId, name: &str) -> Result<Vec<String>> {
    spi::column(&format!(
        "SELECT 'ALTER TABLE ' || {} || ' ADD CONSTRAINT ' || quote_ident(conname) || ' ' || pg_get_constraintdef(oid) \
         FROM pg_constraint WHERE conrelid = {} AND contype = 'f' AND conparentid = 0 ORDER BY conname",
        quote_literal(name),
        table.0
    ))
}

fn triggers(table: TableId, name: &str) -> Result<Vec<String>> {
    spi::column(&format!(
        "SELECT s.statement FROM pg_trigger t, LATERAL (VALUES (1, pg_get_triggerdef(t.oid)), \
           (2, CASE t.tgenabled WHEN 'D' THEN format('ALTER TABLE %s DISABLE TRIGGER %I', {name}, t.tgname) \
               WHEN 'A' THEN format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', {name}, t.tgname) \
               WHEN 'R' THEN format('ALTER TABLE %s ENABLE REPLICA TRIGGER %I', {name}, t.tgname) END)) s (n, statement) \
         WHERE t.tgrelid = {} AND NOT t.tgisinternal AND s.statement IS NOT NULL ORDER BY t.tgname, s.n",
        table.0,
        name = quote_literal(name),
    ))
}

fn policies(table: TableId, name: &str) -> Result<Vec<String>> {
    let mut statements = spi::column(&format!(
        "SELECT format('CREATE POLICY %I ON %s AS %s FOR %s TO %s', p.polname, {name}, \
           CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END, \
           CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' \
             ELSE 'ALL' END, \
           (SELECT string_agg(CASE r WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(r)) END, ', ') \
            FROM unnest(p.polroles) r)) \
         || coalesce(' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')', '') \
         || coalesce(' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')', '') \
         FROM pg_policy p WHERE p.polrelid = {} ORDER BY p.polname",
        table.0,
        name = quote_literal(name),
    ))?;
    statements.extend(spi::column(&format!(
        "SELECT 'ALTER TABLE ' || {} || s.setting FROM pg_class c, LATERAL (VALUES \
           (CASE WHEN c.relrowsecurity THEN ' ENABLE ROW LEVEL SECURITY' END), \
           (CASE WHEN c.relforcerowsecurity THEN ' FORCE ROW LEVEL SECURITY' END)) s (setting) \
         WHERE c.oid = {} AND s.setting IS NOT NULL",
        quote_literal(name),
        table.0
    ))?);
    Ok(statements)
}

fn replica_identity(table: TableId, name: &str) -> Result<Vec<String>> {
    spi::column(&format!(
        "SELECT 'ALTER TABLE ' || {} || ' REPLICA IDENTITY ' || CASE c.relreplident WHEN 'f' THEN 'FULL' \
           WHEN 'n' THEN 'NOTHING' ELSE 'USING INDEX ' || (SELECT quote_ident(i.relname) FROM pg_index x \
             JOIN pg_class i ON i.oid = x.indexrelid WHERE x.indrelid = c.oid AND x.indisreplident) END \
         FROM pg_class c WHERE c.oid = {} AND c.relreplident <> 'd'",
        quote_literal(name),
        table.0
    ))
}

fn comments(table: TableId, name: &str, copy: NodeCopy) -> Result<Vec<String>> {
    spi::column(&format!(
        "SELECT 'COMMENT ON ' || o.object || ' IS ' || quote_literal(d.description) FROM ( \
           SELECT 'pg_class'::regclass, c.oid, 0, 'TABLE ' || {name}, true FROM pg_class c WHERE c.oid = {id} \
           UNION ALL SELECT 'pg_class'::regclass, a.attrelid, a.attnum, format('COLUMN %s.%I', {name}, a.attname), true \
             FROM pg_attribute a WHERE a.attrelid = {id} AND a.attnum > 0 AND NOT a.attisdropped \
           UNION ALL SELECT 'pg_constraint'::regclass, c.oid, 0, format('CONSTRAINT %I ON %s', c.conname, {name}), true \
             FROM pg_constraint c WHERE c.conrelid = {id} AND c.contype <> 'n' \
           UNION ALL SELECT 'pg_class'::regclass, c.oid, 0, format('INDEX %I.%I', n.nspname, c.relname), true \
             FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE i.indrelid = {id} \
           UNION ALL SELECT 'pg_trigger'::regclass, t.oid, 0, format('TRIGGER %I ON %s', t.tgname, {name}), {parent} \
             FROM pg_trigger t WHERE t.tgrelid = {id} AND NOT t.tgisinternal \
           UNION ALL SELECT 'pg_policy'::regclass, p.oid, 0, format('POLICY %I ON %s', p.polname, {name}), true \
             FROM pg_policy p WHERE p.polrelid = {id} \
           UNION ALL SELECT 'pg_statistic_ext'::regclass, s.oid, 0, format('STATISTICS %I.%I', n.nspname, s.stxname), true \
             FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace WHERE s.stxrelid = {id} \
         ) o (class, id, sub, object, here) \
         JOIN pg_description d ON d.classoid = o.class AND d.objoid = o.id AND d.objsubid = o.sub WHERE o.here",
        name = quote_literal(name),
        id = table.0,
        parent = copy != NodeCopy::Whole,
    ))
}

/// Owner, then privileges, for a relation named `{}`.
fn access(table: TableId) -> Result<Vec<String>> {
    let mut statements = spi::column(&format!(
        "SELECT s.statement FROM pg_class c, LATERAL (VALUES \
           (1, 'ALTER TABLE {{}} OWNER TO ' || quote_ident(pg_get_userbyid(c.relowner))), \
           (2, CASE WHEN c.relacl IS NOT NULL THEN \
              'REVOKE ALL ON TABLE {{}} FROM PUBLIC, ' || quote_ident(pg_get_userbyid(c.relowner)) END)) s (n, statement) \
         WHERE c.oid = {} AND s.statement IS NOT NULL ORDER BY s.n",
        table.0
    ))?;
    let grantee = "CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END \
                   || CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END";
    statements.extend(spi::column(&format!(
        "SELECT 'GRANT ' || string_agg(x.privilege_type, ', ' ORDER BY x.privilege_type) || ' ON TABLE {{}} TO ' || {grantee} \
         FROM pg_class c, aclexplode(c.relacl) x WHERE c.oid = {} AND (x.grantee = 0 OR EXISTS \
           (SELECT FROM pg_roles r WHERE r.oid = x.grantee)) GROUP BY x.grantee, x.is_grantable ORDER BY 1",
        table.0
    ))?);
    statements.extend(spi::column(&format!(
        "SELECT 'GRANT ' || string_agg(x.privilege_type || ' (' || quote_ident(a.attname) || ')', ', ' ORDER BY a.attnum) \
           || ' ON TABLE {{}} TO ' || {grantee} \
         FROM pg_attribute a, aclexplode(a.attacl) x WHERE a.attrelid = {} AND NOT a.attisdropped AND (x.grantee = 0 \
           OR EXISTS (SELECT FROM pg_roles r WHERE r.oid = x.grantee)) GROUP BY x.grantee, x.is_grantable ORDER BY 1",
        table.0
    ))?);
    Ok(statements)
}
