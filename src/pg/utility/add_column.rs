//! A new column's default: one value on every server, or one for each row.
//!
//! `ALTER TABLE orders ADD seen timestamptz DEFAULT now()` must give all rows one time, so the nodes
//! are told the coordinator's: `ADD COLUMN seen timestamptz DEFAULT '2026-05-01 ...'`, then
//! `ALTER COLUMN seen SET DEFAULT now()`. `DEFAULT random()` may run per row on each node. `bigserial` and
//! identity take their numbers from the coordinator's sequence: each node fills its rows from a
//! range that the sequence has skipped.
//!
//! A reference table's copies must be equal, so there a volatile default is refused unless the table is
//! empty. Defaults that use sequences stay on the coordinator.

use crate::catalog::{ClusterMap, DistributedTable, NodeId, TableId, quote_identifier};
use crate::error::{Error, Result};
use crate::pg::session::{self, Access};
use crate::pg::utility::{constraint, owner_sql, relation, tree};
use pgrx::pg_sys::{self, Oid};
use std::ffi::CString;

/// The default of one column, as the coordinator's catalog has it.
struct Default {
    /// As `SET DEFAULT` would say it.
    text: String,
    /// The same with everything that is constant for one statement computed.
    computed: String,
    uses_sequence: bool,
    volatile: bool,
    mutable: bool,
    /// Whether the column has it by itself (not from its domain, nor as an identity).
    own: bool,
}

/// Whether a column that was just added may get different values on different servers.
pub fn needs_care(table: TableId, column: &str) -> bool {
    default_of(table, column).is_some_and(|d| d.mutable)
}

/// Whether only the coordinator can compute the default.
pub fn is_coordinators_own(table: TableId, column: &str) -> bool {
    default_of(table, column).is_some_and(|d| d.uses_sequence)
}

/// `ALTER COLUMN ... SET/DROP DEFAULT` for the nodes.
pub fn default_statement(table: TableId, column: &str) -> Option<String> {
    let alter = format!("ALTER TABLE {} ALTER COLUMN {}", relation::table_name(table), quote_identifier(column));
    match default_of(table, column) {
        // A default of the nodes' own would only mislead whoever writes there.
        Some(d) if d.uses_sequence || !d.own => Some(format!("{alter} DROP DEFAULT")),
        Some(d) => Some(format!("{alter} SET DEFAULT {}", d.text)),
        None => Some(format!("{alter} DROP DEFAULT")),
    }
}

/// The statements that add the column on the nodes.
pub fn statements(map: &ClusterMap, table: &DistributedTable, column: &str) -> Result<Vec<String>> {
    let name = relation::table_name(table.id);
    let definition = Definition::of(table.id, column)?;
    let quoted = quote_identifier(column);
    let Some(default) = default_of(table.id, column) else {
        return Ok(vec![format!("ALTER TABLE {name} ADD COLUMN {}", definition.text(None))]);
    };
    if default.volatile && !table.is_distributed() && !is_empty(&name)? {
        return Err(Error::unsupported("cannot add a column with a volatile default to a reference table with rows")
            .detail("Each copy would get other values.")
            .hint("Add the column without a default, fill it with UPDATE, then set the default."));
    }
    let mut out = Vec::new();
    if default.uses_sequence && table.is_distributed() {
        fill_from_sequence(map, table, column, &definition)?;
    } else if default.uses_sequence {
        out.push(format!("ALTER TABLE {name} ADD COLUMN {}", definition.text(None)));
    } else {
        out.push(format!("ALTER TABLE {name} ADD COLUMN {}", definition.text(Some(&default.computed))));
        match default.own {
            true => out.push(format!("ALTER TABLE {name} ALTER COLUMN {quoted} SET DEFAULT {}", default.text)),
            false => out.push(format!("ALTER TABLE {name} ALTER COLUMN {quoted} DROP DEFAULT")),
        }
    }
    Ok(out)
}

/// Adds a serial or identity column on the nodes, each node's rows numbered from a range of its own.
fn fill_from_sequence(map: &ClusterMap, table: &DistributedTable, column: &str, definition: &Definition) -> Result<()> {
    let name = relation::table_name(table.id);
    let sequence = owner_sql::rows(&format!(
        "SELECT pg_catalog.pg_get_serial_sequence({}, {}), s.seqincrement::pg_catalog.text
           FROM pg_catalog.pg_sequence s
          WHERE s.seqrelid OPERATOR(pg_catalog.=) pg_catalog.pg_get_serial_sequence({0}, {1})::pg_catalog.regclass",
        crate::catalog::quote_literal(&name),
        crate::catalog::quote_literal(column)
    ))?;
    let nodes = map.node_ids();
    let counts = session::query_on(&nodes, &format!("SELECT pg_catalog.count(*) FROM {name}"), Access::Write)?;
    let counts: Vec<(NodeId, i64)> = counts
        .into_iter()
        .map(|(node, rows)| {
            let count = rows.first().and_then(|r| r.first().cloned().flatten());
            (node, count.and_then(|c| c.parse().ok()).unwrap_or(0))
        })
        .collect();
    let total: i64 = counts.iter().map(|(_, n)| n).sum();
    let plain = format!("ALTER TABLE {name} ADD COLUMN {}", definition.text(None));
    if total == 0 {
        return session::execute_on(&nodes, &plain, Access::Write).map(drop);
    }
    let Some([sequence, increment]) = sequence.first().map(Vec::as_slice) else {
        return Err(Error::unsupported("cannot add a column whose default calls a sequence of its own choice")
            .detail(format!("Table {name} has rows, on nodes where the sequence is not."))
            .hint(
                "Use bigserial or GENERATED BY DEFAULT AS IDENTITY, or add the column without a default and UPDATE.",
            ));
    };
    let increment: i64 = increment.parse().unwrap_or(1);
    let sequence = crate::catalog::quote_literal(sequence);
    let first = owner_sql::rows(&format!("SELECT pg_catalog.nextval({sequence})::pg_catalog.text"))?;
    let first: i64 = first.first().and_then(|r| r[0].parse().ok()).unwrap_or(1);
    owner_sql::rows(&format!(
        "SELECT pg_catalog.setval({sequence}, {})::pg_catalog.text",
        first + increment * (total - 1)
    ))?;
    let mut start = first;
    let fill = format!("{}.fill_{}", quote_identifier(crate::catalog::SHARD_SCHEMA), table.id.0);
    let quoted = quote_identifier(column);
    let mut work = Vec::new();
    for (node, count) in counts {
        let default = format!("pg_catalog.nextval({}::pg_catalog.regclass)", crate::catalog::quote_literal(&fill));
        let bound = if increment < 0 {
            format!("MINVALUE {} MAXVALUE {start}", i64::MIN)
        } else {
            format!("MINVALUE {start} MAXVALUE {}", i64::MAX)
        };
        for sql in [
            format!("CREATE SEQUENCE {fill} START {start} INCREMENT {increment} {bound}"),
            format!("ALTER TABLE {name} ADD COLUMN {}", definition.text(Some(&default))),
            format!("ALTER TABLE {name} ALTER COLUMN {quoted} DROP DEFAULT"),
            format!("DROP SEQUENCE {fill} CASCADE"),
        ] {
            work.push((node, sql));
        }
        start += increment * count;
    }
    session::execute_each(&work, Access::Write).map(drop)
}

fn is_empty(name: &str) -> Result<bool> {
    Ok(owner_sql::rows(&format!("SELECT 't'::pg_catalog.text FROM ONLY {name} LIMIT 1"))?.is_empty())
}

/// The parts of a column's definition but for its default.
struct Definition {
    name: String,
    data_type: String,
    collation: Option<String>,
    not_null: bool,
    /// The name of its NOT NULL constraint (18).
    not_null_name: Option<String>,
}

impl Definition {
    fn of(table: TableId, column: &str) -> Result<Definition> {
        let mut definition = Definition {
            name: quote_identifier(column),
            data_type: String::new(),
            collation: None,
            not_null: false,
            not_null_name: constraint::not_null_name(table, column)?,
        };
        with_attribute(Oid::from(table.0), column, |attribute| {
            let flags = (pg_sys::FORMAT_TYPE_TYPEMOD_GIVEN | pg_sys::FORMAT_TYPE_FORCE_QUALIFY) as _;
            let (type_oid, collation) = (attribute.atttypid, attribute.attcollation);
            // SAFETY: syscache look-ups; the texts are palloc'd.
            unsafe {
                definition.data_type = tree::text(pg_sys::format_type_extended(type_oid, attribute.atttypmod, flags));
                if collation != pg_sys::InvalidOid && collation != pg_sys::get_typcollation(type_oid) {
                    definition.collation = Some(tree::text(pg_sys::generate_collation_name(collation)));
                }
            }
            definition.not_null = attribute.attnotnull;
        });
        Ok(definition)
    }

    fn text(&self, default: Option<&str>) -> String {
        let mut out = format!("{} {}", self.name, self.data_type);
        if let Some(collation) = &self.collation {
            out.push_str(&format!(" COLLATE {collation}"));
        }
        if let Some(default) = default {
            out.push_str(&format!(" DEFAULT {default}"));
        }
        if let Some(name) = &self.not_null_name {
            out.push_str(&format!(" CONSTRAINT {}", quote_identifier(name)));
        }
        if self.not_null {
            out.push_str(" NOT NULL");
        }
        out
    }
}

/// Calls `look` with the column's row of `pg_attribute`, if there is one.
fn with_attribute<T>(relid: Oid, column: &str, look: impl FnOnce(&pg_sys::FormData_pg_attribute) -> T) -> Option<T> {
    let name = CString::new(column).ok()?;
    // SAFETY: the tuple is pinned until it is released.
    unsafe {
        let tuple = pg_sys::SearchSysCacheAttName(relid, name.as_ptr());
        if tuple.is_null() {
            return None;
        }
        let out = look(&*pg_sys::heap_tuple_get_struct::<pg_sys::FormData_pg_attribute>(tuple));
        pg_sys::ReleaseSysCache(tuple);
        Some(out)
    }
}

fn default_of(table: TableId, column: &str) -> Option<Default> {
    let relid = Oid::from(table.0);
    let (attno, generated, own) =
        with_attribute(relid, column, |a| (a.attnum, a.attgenerated != 0, a.atthasdef && a.attidentity == 0))?;
    if generated {
        return None;
    }
    let relation_name = CString::new(relation::bare_name(relid)).ok()?;
    // SAFETY: the relation is locked by the statement; nodes and texts are palloc'd.
    unsafe {
        let rel = pg_sys::relation_open(relid, pg_sys::NoLock as _);
        let expression = pg_sys::build_column_default(rel, i32::from(attno));
        pg_sys::relation_close(rel, pg_sys::NoLock as _);
        if expression.is_null() {
            return None;
        }
        let print = |node| {
            let context = pg_sys::deparse_context_for(relation_name.as_ptr(), relid);
            tree::text(pg_sys::deparse_expression(node, context, false, false))
        };
        let dump = tree::text(pg_sys::nodeToString(expression.cast()).cast_const());
        // A NextValueExpr prints, too, but as nothing that can be read back.
        let uses_sequence = dump.contains("{NEXTVALUEEXPR") || dump.contains(&format!(":funcid {NEXTVAL} "));
        let (text, computed) = if uses_sequence {
            (String::new(), String::new())
        } else {
            (print(expression), print(computed(expression)))
        };
        Some(Default {
            text,
            computed,
            uses_sequence,
            volatile: uses_sequence || pg_sys::contain_volatile_functions(expression),
            mutable: uses_sequence || pg_sys::contain_mutable_functions(expression),
            own,
        })
    }
}

/// An expression without parameters, its stable parts computed.
unsafe fn computed(expression: *mut pg_sys::Node) -> *mut pg_sys::Node {
    // SAFETY: zeroed planner nodes; of them only the (absent) bound parameters are looked at.
    unsafe {
        let root = pg_sys::palloc0(size_of::<pg_sys::PlannerInfo>()).cast::<pg_sys::PlannerInfo>();
        (*root).type_ = pg_sys::NodeTag::T_PlannerInfo;
        (*root).glob = pg_sys::palloc0(size_of::<pg_sys::PlannerGlobal>()).cast();
        (*(*root).glob).type_ = pg_sys::NodeTag::T_PlannerGlobal;
        pg_sys::estimate_expression_value(root, expression)
    }
}

/// `nextval(regclass)` (pg_proc.dat).
const NEXTVAL: u32 = 1574;

/// Whether a raw expression over a table's columns calls a volatile function.
///
/// # Safety
/// `raw` is an expression of the grammar.
pub unsafe fn is_volatile(relid: Oid, raw: *mut pg_sys::Node) -> bool {
    // SAFETY: works on a copy; the parse state owns nothing but memory of this context.
    unsafe {
        let rel = pg_sys::relation_open(relid, pg_sys::AccessShareLock as _);
        let state = pg_sys::make_parsestate(std::ptr::null_mut());
        let item = pg_sys::addRangeTableEntryForRelation(
            state,
            rel,
            pg_sys::AccessShareLock as _,
            std::ptr::null_mut(),
            false,
            true,
        );
        pg_sys::addNSItemToQuery(state, item, true, true, true);
        let copy = pg_sys::copyObjectImpl(raw.cast()).cast();
        let kind = pg_sys::ParseExprKind::EXPR_KIND_ALTER_COL_TRANSFORM;
        let expression = pg_sys::transformExpr(state, copy, kind);
        let volatile = pg_sys::contain_volatile_functions(expression);
        pg_sys::relation_close(rel, pg_sys::NoLock as _);
        volatile
    }
}
