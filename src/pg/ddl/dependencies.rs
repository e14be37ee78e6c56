//! What a table needs on the nodes before it can be created there.
//!
//! `orders (state public.order_state DEFAULT app.first_state())` needs schemas `public` and `app`,
//! the enum and the function. `pg_depend` says so: [`objects_for`] walks it from the table's
//! columns, defaults, constraints, indexes, triggers and policies, and returns the objects in an
//! order in which they can be created; [`create_on`] creates on each node what is missing there.
//!
//! A type that a node has under the same name must be the same type; a function is replaced if it
//! differs. What only an extension can bring (operators, C functions, base types) comes with
//! `CREATE EXTENSION`. What a function's *string* body uses is not recorded by Postgres and is not
//! followed.

use super::describe::{DRAWS_FROM_SEQUENCE, NodeCopy};
use super::spi::{self, flag, text};
use crate::catalog::{ClusterMap, NodeId, TableId, quote_literal};
use crate::error::{Error, Result, sqlstate};
use crate::pg::session::{self, Access};
use std::collections::HashSet;

/// An object that nodes must have.
#[derive(Clone, Debug)]
pub struct NodeObject {
    /// `type public.order_state`
    what: String,
    /// Asked of a node: no row or NULL where the object is missing, else its fingerprint.
    probe: String,
    fingerprint: Option<String>,
    create: Vec<String>,
    /// Whether `create` also makes a differing object equal.
    replaces: bool,
}

/// First OID of objects that users create (`access/transam.h`).
const FIRST_NORMAL_OID: u32 = 16_384;

struct Walk<'a> {
    map: &'a ClusterMap,
    table: TableId,
    seen: HashSet<(String, u32)>,
    objects: Vec<NodeObject>,
}

/// The objects that a table's copies need, each after what it needs itself.
pub fn objects_for(map: &ClusterMap, table: TableId, copy: NodeCopy) -> Result<Vec<NodeObject>> {
    let mut walk = Walk { map, table, seen: HashSet::new(), objects: Vec::new() };
    walk.roles()?;
    let triggers = match copy {
        NodeCopy::Parent { .. } => {
            "UNION ALL SELECT 'pg_trigger', oid FROM pg_trigger WHERE tgrelid = {} AND NOT tgisinternal"
        }
        NodeCopy::Whole => "",
    };
    let roots = format!(
        "SELECT 'pg_class', {{}}::oid UNION ALL SELECT 'pg_class', indexrelid FROM pg_index WHERE indrelid = {{}} \
         UNION ALL SELECT 'pg_attrdef', d.oid FROM pg_attrdef d WHERE d.adrelid = {{}} AND NOT ({DRAWS_FROM_SEQUENCE}) \
         UNION ALL SELECT 'pg_constraint', oid FROM pg_constraint WHERE conrelid = {{}} AND contype <> 'f' \
         UNION ALL SELECT 'pg_policy', oid FROM pg_policy WHERE polrelid = {{}} \
         UNION ALL SELECT 'pg_statistic_ext', oid FROM pg_statistic_ext WHERE stxrelid = {{}} {triggers}"
    )
    .replace("{}", &table.0.to_string());
    for root in spi::rows(&roots)? {
        let oid = text(&root, 1).parse().unwrap_or(0);
        walk.follow(text(&root, 0), oid)?;
    }
    Ok(walk.objects)
}

/// Creates on each node the objects that it lacks.
pub fn create_on(nodes: &[NodeId], objects: &[NodeObject]) -> Result<()> {
    for object in objects {
        for (node, rows) in session::query_on(nodes, &object.probe, Access::Write)? {
            let found = rows.into_iter().next().and_then(|r| r.into_iter().next().flatten());
            let create = match (&found, &object.fingerprint) {
                (None, _) => true,
                (Some(there), Some(here)) if there != here => {
                    if !object.replaces {
                        return Err(Error::new(
                            sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE,
                            format!("{} exists on a node with another definition", object.what),
                        )
                        .detail(format!("Here: {here}. On the node: {there}."))
                        .hint("Make the two equal, or drop the one on the node."));
                    }
                    true
                }
                _ => false,
            };
            if create {
                for statement in &object.create {
                    session::execute(node, statement, Access::Write)?;
                }
            }
        }
    }
    Ok(())
}

impl Walk<'_> {
    fn push(&mut self, what: String, probe: String, fingerprint: Option<String>, create: Vec<String>) {
        self.objects.push(NodeObject { what, probe, fingerprint, create, replaces: false });
    }

    /// Owner, grantees and the roles of policies.
    fn roles(&mut self) -> Result<()> {
        let id = self.table.0;
        let sql = format!(
            "SELECT DISTINCT r.rolname, quote_ident(r.rolname) FROM pg_roles r WHERE r.oid IN ( \
               SELECT relowner FROM pg_class WHERE oid = {id} \
               UNION SELECT x.grantee FROM pg_class c, aclexplode(c.relacl) x WHERE c.oid = {id} \
               UNION SELECT x.grantee FROM pg_attribute a, aclexplode(a.attacl) x WHERE a.attrelid = {id} \
               UNION SELECT unnest(polroles) FROM pg_policy WHERE polrelid = {id}) ORDER BY 1"
        );
        for row in spi::rows(&sql)? {
            self.role(text(&row, 0), text(&row, 1));
        }
        Ok(())
    }

    fn role(&mut self, name: &str, quoted: &str) {
        self.push(
            format!("role {quoted}"),
            format!("SELECT '' FROM pg_roles WHERE rolname = {}", quote_literal(name)),
            None,
            vec![format!("CREATE ROLE {quoted} NOLOGIN")],
        );
    }

    /// Visits everything that an object refers to.
    fn follow(&mut self, class: &str, oid: u32) -> Result<()> {
        let sql = format!(
            "SELECT DISTINCT refclassid::regclass::text, refobjid FROM pg_depend WHERE classid = '{class}'::regclass \
             AND objid = {oid} AND deptype IN ('n', 'a', 'i') AND refobjid >= {FIRST_NORMAL_OID} ORDER BY 1, 2"
        );
        for row in spi::rows(&sql)? {
            self.visit(text(&row, 0), text(&row, 1).parse().unwrap_or(0))?;
        }
        Ok(())
    }

    fn visit(&mut self, class: &str, oid: u32) -> Result<()> {
        let part_of_a_table = ["pg_constraint", "pg_attrdef", "pg_trigger", "pg_policy"].contains(&class);
        if part_of_a_table || !self.seen.insert((class.to_owned(), oid)) {
            return Ok(());
        }
        let extension = spi::value(&format!(
            "SELECT refobjid FROM pg_depend WHERE classid = '{class}'::regclass AND objid = {oid} AND deptype = 'e'"
        ))?;
        if let Some(extension) = extension {
            return self.extension(extension.parse().unwrap_or(0));
        }
        match class {
            "pg_namespace" => self.schema(oid),
            "pg_extension" => self.extension(oid),
            "pg_type" => self.of_type(oid),
            "pg_proc" => self.function(oid),
            "pg_collation" => self.collation(oid),
            "pg_class" => self.relation(oid),
            "pg_authid" | "pg_am" | "pg_language" => Ok(()),
            _ => Err(self.unknown(class, oid)?),
        }
    }

    fn unknown(&self, class: &str, oid: u32) -> Result<Error> {
        let what = spi::value(&format!("SELECT pg_describe_object('{class}'::regclass, {oid}, 0)"))?;
        Ok(Error::unsupported(format!("cannot create {} on the nodes", what.unwrap_or_default()))
            .detail("The table depends on it.")
            .hint("Put it into an extension that the nodes have, or remove the dependency."))
    }

    fn extension(&mut self, oid: u32) -> Result<()> {
        let sql = format!(
            "SELECT e.extname, quote_ident(e.extname), quote_ident(n.nspname), n.nspname = 'pg_catalog' \
               OR EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_namespace'::regclass AND d.objid = n.oid \
                          AND d.deptype = 'e') \
             FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.oid = {oid}"
        );
        let Some(row) = spi::row(&sql)? else {
            return Ok(());
        };
        let (name, quoted, schema) = (text(&row, 0), text(&row, 1), text(&row, 2));
        if self.objects.iter().any(|o| o.what == format!("extension {quoted}")) {
            return Ok(());
        }
        let mut create = Vec::new();
        if flag(&row, 3) {
            create.push(format!("CREATE EXTENSION IF NOT EXISTS {quoted} CASCADE"));
        } else {
            create.push(format!("CREATE SCHEMA IF NOT EXISTS {schema}"));
            create.push(format!("CREATE EXTENSION IF NOT EXISTS {quoted} SCHEMA {schema} CASCADE"));
        }
        let probe = format!("SELECT '' FROM pg_extension WHERE extname = {}", quote_literal(name));
        self.push(format!("extension {quoted}"), probe, None, create);
        Ok(())
    }

    fn schema(&mut self, oid: u32) -> Result<()> {
        let sql = format!(
            "SELECT nspname, quote_ident(nspname), pg_get_userbyid(nspowner), quote_ident(pg_get_userbyid(nspowner)) \
             FROM pg_namespace WHERE oid = {oid}"
        );
        let Some(row) = spi::row(&sql)? else {
            return Ok(());
        };
        let (name, quoted) = (text(&row, 0).to_owned(), text(&row, 1).to_owned());
        if name == "public" {
            return Ok(());
        }
        self.role(text(&row, 2), text(&row, 3));
        let mut create = vec![format!("CREATE SCHEMA IF NOT EXISTS {quoted} AUTHORIZATION {}", text(&row, 3))];
        create.extend(self.grants("pg_namespace", "nspacl", oid, &format!("SCHEMA {quoted}"))?);
        let probe = format!("SELECT '' FROM pg_namespace WHERE nspname = {}", quote_literal(&name));
        self.push(format!("schema {quoted}"), probe, None, create);
        Ok(())
    }

    /// The privileges of an object whose ACL is not the default one.
    fn grants(&mut self, class: &str, column: &str, oid: u32, object: &str) -> Result<Vec<String>> {
        let sql = format!(
            "SELECT coalesce(r.rolname, ''), coalesce(quote_ident(r.rolname), 'PUBLIC'), x.privilege_type, \
               x.is_grantable FROM {class} o, aclexplode(o.{column}) x LEFT JOIN pg_roles r ON r.oid = x.grantee \
             WHERE o.oid = {oid} AND (x.grantee = 0 OR r.oid IS NOT NULL) ORDER BY 2, 3"
        );
        let rows = spi::rows(&sql)?;
        let mut statements = Vec::new();
        if !rows.is_empty() {
            statements.push(format!("REVOKE ALL ON {object} FROM PUBLIC"));
        }
        for row in rows {
            let (name, grantee) = (text(&row, 0), text(&row, 1));
            if !name.is_empty() {
                self.role(name, grantee);
            }
            let option = if flag(&row, 3) { " WITH GRANT OPTION" } else { "" };
            statements.push(format!("GRANT {} ON {object} TO {grantee}{option}", text(&row, 2)));
        }
        Ok(statements)
    }

    fn of_type(&mut self, oid: u32) -> Result<()> {
        self.follow("pg_type", oid)?;
        let sql = format!(
            "SELECT t.typtype, quote_ident(n.nspname) || '.' || quote_ident(t.typname), t.typrelid, \
               t.typelem <> 0 AND t.typsubscript::text LIKE '%array_subscript_handler' \
             FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE t.oid = {oid}"
        );
        let Some(row) = spi::row(&sql)? else {
            return Ok(());
        };
        let name = text(&row, 1).to_owned();
        let same = quote_literal(&name);
        match (text(&row, 0), flag(&row, 3)) {
            (_, true) | ("m", _) => Ok(()), // comes with its element or range type
            ("e", _) => {
                let labels = "SELECT string_agg(quote_literal(enumlabel), ', ' ORDER BY enumsortorder) FROM pg_enum \
                              WHERE enumtypid = ";
                let here = spi::value(&format!("{labels}{oid}"))?.unwrap_or_default();
                let probe =
                    format!("SELECT coalesce(({labels}to_regtype({same})), '') WHERE to_regtype({same}) IS NOT NULL");
                let create = vec![format!("CREATE TYPE {name} AS ENUM ({here})")];
                self.push(format!("type {name}"), probe, Some(here), create);
                Ok(())
            }
            ("c", _) => self.composite(oid, &name, text(&row, 2).parse().unwrap_or(0)),
            ("d", _) => self.domain(oid, &name),
            ("r", _) => self.range(oid, &name),
            _ => Err(self.unknown("pg_type", oid)?),
        }
    }

    fn composite(&mut self, oid: u32, name: &str, relation: u32) -> Result<()> {
        let kind = spi::value(&format!("SELECT relkind FROM pg_class WHERE oid = {relation}"))?;
        if kind.as_deref() != Some("c") {
            return self.visit("pg_class", relation);
        }
        self.follow("pg_class", relation)?;
        let attributes = |relation: &str| {
            format!(
                "SELECT string_agg(quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod), ', ' \
                 ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = {relation} AND a.attnum > 0 \
                 AND NOT a.attisdropped"
            )
        };
        let here = spi::value(&attributes(&relation.to_string()))?.unwrap_or_default();
        let same = quote_literal(name);
        let probe = format!(
            "SELECT coalesce(({}), '') WHERE to_regtype({same}) IS NOT NULL",
            attributes(&format!("(SELECT typrelid FROM pg_type WHERE oid = to_regtype({same}))"))
        );
        let create = vec![format!("CREATE TYPE {name} AS ({here})")];
        let _ = oid;
        self.push(format!("type {name}"), probe, Some(here), create);
        Ok(())
    }

    fn domain(&mut self, oid: u32, name: &str) -> Result<()> {
        let constraints = format!("SELECT oid FROM pg_constraint WHERE contypid = {oid} AND contype = 'c'");
        for constraint in spi::column(&constraints)? {
            self.follow("pg_constraint", constraint.parse().unwrap_or(0))?;
        }
        let base = |t: &str| format!("SELECT format_type(typbasetype, typtypmod) FROM pg_type WHERE oid = {t}");
        let here = spi::value(&base(&oid.to_string()))?.unwrap_or_default();
        let rest = spi::value(&format!(
            "SELECT CASE WHEN t.typcollation <> 0 AND t.typcollation <> b.typcollation THEN \
                 (SELECT format(' COLLATE %I.%I', n.nspname, c.collname) FROM pg_collation c \
                  JOIN pg_namespace n ON n.oid = c.collnamespace WHERE c.oid = t.typcollation) ELSE '' END \
               || coalesce(' DEFAULT ' || pg_get_expr(t.typdefaultbin, 0), '') \
               || CASE WHEN t.typnotnull THEN coalesce((SELECT ' CONSTRAINT ' || quote_ident(n.conname) \
                    FROM pg_constraint n WHERE n.contypid = t.oid AND n.contype = 'n'), '') || ' NOT NULL' ELSE '' END \
               || coalesce((SELECT string_agg(format(' CONSTRAINT %I ', c.conname) || \
                    regexp_replace(pg_get_constraintdef(c.oid), ' NOT VALID$', ''), '' ORDER BY c.conname) \
                  FROM pg_constraint c WHERE c.contypid = t.oid AND c.contype = 'c'), '') \
             FROM pg_type t JOIN pg_type b ON b.oid = t.typbasetype WHERE t.oid = {oid}"
        ))?
        .unwrap_or_default();
        let probe = base(&format!("to_regtype({}) AND typtype = 'd'", quote_literal(name)));
        let create = vec![format!("CREATE DOMAIN {name} AS {here}{rest}")];
        self.push(format!("domain {name}"), probe, Some(here), create);
        Ok(())
    }

    fn range(&mut self, oid: u32, name: &str) -> Result<()> {
        let sql = format!(
            "SELECT format_type(r.rngsubtype, NULL), r.rngcanonical <> 0, \
               format('SUBTYPE_OPCLASS = %I.%I', n.nspname, o.opcname) \
               || coalesce((SELECT format(', COLLATION = %I.%I', cn.nspname, c.collname) FROM pg_collation c \
                    JOIN pg_namespace cn ON cn.oid = c.collnamespace WHERE c.oid = r.rngcollation \
                    AND c.collname <> 'default'), '') \
               || CASE WHEN r.rngsubdiff <> 0 THEN ', SUBTYPE_DIFF = ' || r.rngsubdiff::regproc ELSE '' END \
               || coalesce((SELECT format(', MULTIRANGE_TYPE_NAME = %I.%I', mn.nspname, m.typname) FROM pg_type m \
                    JOIN pg_namespace mn ON mn.oid = m.typnamespace WHERE m.oid = r.rngmultitypid), '') \
             FROM pg_range r JOIN pg_opclass o ON o.oid = r.rngsubopc JOIN pg_namespace n ON n.oid = o.opcnamespace \
             WHERE r.rngtypid = {oid}"
        );
        let Some(row) = spi::row(&sql)? else {
            return Ok(());
        };
        if flag(&row, 1) {
            return Err(self.unknown("pg_type", oid)?);
        }
        let here = text(&row, 0).to_owned();
        let probe = format!(
            "SELECT format_type(rngsubtype, NULL) FROM pg_range WHERE rngtypid = to_regtype({})",
            quote_literal(name)
        );
        let create = vec![format!("CREATE TYPE {name} AS RANGE (SUBTYPE = {here}, {})", text(&row, 2))];
        self.push(format!("type {name}"), probe, Some(here), create);
        Ok(())
    }

    fn function(&mut self, oid: u32) -> Result<()> {
        self.follow("pg_proc", oid)?;
        let sql = format!(
            "SELECT p.oid::regprocedure::text, l.lanname, p.prokind, p.prosecdef, pg_get_userbyid(p.proowner), \
               quote_ident(pg_get_userbyid(p.proowner)), \
               CASE WHEN p.prokind <> 'a' THEN pg_get_functiondef(p.oid) END, l.oid \
             FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang WHERE p.oid = {oid}"
        );
        let Some(row) = spi::row(&sql)? else {
            return Ok(());
        };
        let (signature, language) = (text(&row, 0).to_owned(), text(&row, 1));
        if language == "c" || text(&row, 2) == "a" {
            return Err(self.unknown("pg_proc", oid)?);
        }
        let mut create = vec![text(&row, 6).to_owned()];
        if flag(&row, 3) {
            self.role(text(&row, 4), text(&row, 5));
            create.push(format!("ALTER ROUTINE {signature} OWNER TO {}", text(&row, 5)));
        }
        create.extend(self.grants("pg_proc", "proacl", oid, &format!("ROUTINE {signature}"))?);
        let probe = format!(
            "SELECT pg_get_functiondef(to_regprocedure({0})) WHERE to_regprocedure({0}) IS NOT NULL",
            quote_literal(&signature)
        );
        let here = create[0].clone();
        self.objects.push(NodeObject {
            what: format!("function {signature}"),
            probe,
            fingerprint: Some(here),
            create,
            replaces: true,
        });
        Ok(())
    }

    fn collation(&mut self, oid: u32) -> Result<()> {
        self.follow("pg_collation", oid)?;
        // `to_jsonb`, because the column of an ICU locale has another name in each version.
        let sql = format!(
            "SELECT c.collname, n.nspname, format('%I.%I', n.nspname, c.collname), \
               format('PROVIDER = %s, %s, DETERMINISTIC = %s', \
                 CASE c.collprovider WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE 'libc' END, \
                 CASE c.collprovider WHEN 'c' THEN format('LC_COLLATE = %L, LC_CTYPE = %L', c.collcollate, c.collctype) \
                   ELSE format('LOCALE = %L', coalesce(to_jsonb(c) ->> 'colllocale', to_jsonb(c) ->> 'colliculocale', \
                     to_jsonb(c) ->> 'collcollate')) END, CASE WHEN c.collisdeterministic THEN 'true' ELSE 'false' END) \
             FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace WHERE c.oid = {oid}"
        );
        let Some(row) = spi::row(&sql)? else {
            return Ok(());
        };
        let probe = format!(
            "SELECT '' FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace \
             WHERE c.collname = {} AND n.nspname = {}",
            quote_literal(text(&row, 0)),
            quote_literal(text(&row, 1))
        );
        let create = vec![format!("CREATE COLLATION {} ({})", text(&row, 2), text(&row, 3))];
        self.push(format!("collation {}", text(&row, 2)), probe, None, create);
        Ok(())
    }

    /// A relation that an expression, a policy or a row type refers to must be on the nodes already.
    fn relation(&mut self, oid: u32) -> Result<()> {
        if oid == self.table.0 || self.map.table(TableId(oid)).is_some() {
            return Ok(());
        }
        let sql = format!(
            "SELECT c.relkind, c.oid::regclass::text, i.indrelid FROM pg_class c \
             LEFT JOIN pg_index i ON i.indexrelid = c.oid WHERE c.oid = {oid}"
        );
        let Some(row) = spi::row(&sql)? else {
            return Ok(());
        };
        match text(&row, 0) {
            "c" => self.follow("pg_class", oid),
            "i" | "I" => self.visit("pg_class", text(&row, 2).parse().unwrap_or(0)),
            "r" | "p" => Err(Error::unsupported(format!(
                "table depends on table {}, which the nodes do not have",
                text(&row, 1)
            ))
            .hint(format!("Use sharding.replicate_table('{}') first.", text(&row, 1)))),
            _ => Err(self.unknown("pg_class", oid)?),
        }
    }
}
