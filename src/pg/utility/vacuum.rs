//! VACUUM, ANALYZE, REINDEX and CLUSTER.
//!
//! They run here as always (a reference table's own copy is here), then on the nodes, each with its
//! own table's name: `VACUUM (VERBOSE) orders` is `VACUUM (verbose) public.orders` there, outside of any
//! transaction. After ANALYZE of a distributed table the nodes' statistics come to the coordinator
//! ([`column_statistics`]). Without a table's name, all tables of the cluster that the user may
//! maintain are meant, too. Nodes' autovacuum does not analyze partitioned parents, and nothing
//! brings its numbers here: ANALYZE is for people or schedulers to run.

use crate::catalog::{ClusterMap, DistributedTable, TableId, quote_identifier, quote_literal};
use crate::ddl::text::commas;
use crate::error::Result;
use crate::pg::session::{self, Access};
use crate::pg::utility::compat;
use crate::pg::utility::{Call, column_statistics, names, nodes, relation, tree};
use pgrx::pg_sys::{self, NodeTag, Oid, ReindexObjectType};

/// The options of a statement, as text in parentheses, or nothing.
unsafe fn options(list: *mut pg_sys::List) -> String {
    // SAFETY: the cells are DefElems.
    let printed = unsafe {
        commas(tree::items::<pg_sys::DefElem>(list).into_iter().map(|option| {
            let name = quote_identifier(&tree::text((*option).defname));
            let argument = (*option).arg;
            if argument.is_null() {
                return name;
            }
            let value = tree::text(pg_sys::defGetString(option));
            match tree::tag(argument) {
                NodeTag::T_Integer | NodeTag::T_Float => format!("{name} {value}"),
                _ => format!("{name} {}", quote_literal(&value)),
            }
        }))
    };
    if printed.is_empty() { printed } else { format!("({printed}) ") }
}

/// Whether an option of this name is there and not switched off.
unsafe fn has_option(list: *mut pg_sys::List, name: &str) -> bool {
    // SAFETY: the cells are DefElems.
    unsafe {
        tree::items::<pg_sys::DefElem>(list)
            .into_iter()
            .any(|o| tree::text((*o).defname) == name && pg_sys::defGetBoolean(o))
    }
}

/// VACUUM and ANALYZE.
pub fn run(call: &Call, map: &ClusterMap) -> Result<()> {
    let statement = call.node().cast::<pg_sys::VacuumStmt>();
    // SAFETY: the tag was read; everything needed later is copied before the statement runs, which
    // may end the transaction and free its memory.
    let (targets, verb, analyzes, outside) = unsafe {
        let mut targets: Vec<(DistributedTable, String)> = Vec::new();
        let listed = tree::items::<pg_sys::VacuumRelation>((*statement).rels);
        for target in &listed {
            let Some(table) = relation::named(map, (**target).relation) else { continue };
            let columns = tree::strings((**target).va_cols);
            let columns =
                if columns.is_empty() { String::new() } else { format!(" ({})", names::quoted_list(&columns)) };
            targets.push((table.clone(), columns));
        }
        if listed.is_empty() {
            targets.extend(map.tables.values().map(|t| (t.clone(), String::new())));
        }
        let is_vacuum = (*statement).is_vacuumcmd;
        let analyzes = !is_vacuum || has_option((*statement).options, "analyze");
        let verb = if is_vacuum { "VACUUM" } else { "ANALYZE" };
        let outside = is_vacuum || !pg_sys::IsInTransactionBlock(call.is_top_level());
        (targets, format!("{verb} {}", options((*statement).options)), analyzes, outside)
    };
    call.run();
    for (table, columns) in targets {
        if !compat::may_maintain(Oid::from(table.id.0)) {
            continue;
        }
        let sql = format!("{verb}{}{columns}", relation::table_name(table.id));
        if outside {
            session::execute_outside(&map.node_ids(), &sql)?;
        } else {
            nodes::tell(map, &sql)?;
        }
        if analyzes && table.is_distributed() {
            column_statistics::refresh(map, table.id, if outside { Access::Read } else { Access::Write })?;
        }
    }
    Ok(())
}

pub fn reindex(call: &Call, map: &ClusterMap) -> Result<()> {
    let statement = call.node().cast::<pg_sys::ReindexStmt>();
    // SAFETY: as in `run`.
    let (work, concurrently) = unsafe {
        let options = options((*statement).params);
        let tables = |inside: &dyn Fn(Oid) -> bool| -> Vec<(String, bool)> {
            let all = map.tables.values().filter(|t| inside(Oid::from(t.id.0)));
            all.map(|t| (format!("REINDEX {options}TABLE {}", relation::table_name(t.id)), t.is_distributed()))
                .collect()
        };
        let work = match (*statement).kind {
            ReindexObjectType::REINDEX_OBJECT_INDEX | ReindexObjectType::REINDEX_OBJECT_TABLE => {
                let relid = relation::resolve((*statement).relation);
                let is_index = (*statement).kind == ReindexObjectType::REINDEX_OBJECT_INDEX;
                let noun = if is_index { "INDEX" } else { "TABLE" };
                let named = relation::sharded(map, relid);
                named
                    .map(|t| (format!("REINDEX {options}{noun} {}", relation::qualified(relid)), t.is_distributed()))
                    .into_iter()
                    .collect()
            }
            ReindexObjectType::REINDEX_OBJECT_SCHEMA => {
                let schema = pg_sys::get_namespace_oid((*statement).name, true);
                tables(&|t| pg_sys::get_rel_namespace(t) == schema)
            }
            ReindexObjectType::REINDEX_OBJECT_DATABASE => tables(&|_| true),
            _ => Vec::new(),
        };
        let whole = (*statement).relation.is_null();
        (work, whole || has_option((*statement).params, "concurrently"))
    };
    call.run();
    for (sql, distributed) in work {
        // On a partitioned table Postgres uses a transaction for each partition.
        if distributed || concurrently {
            session::execute_outside(&map.node_ids(), &sql)?;
        } else {
            nodes::tell(map, &sql)?;
        }
    }
    Ok(())
}

pub fn cluster(call: &Call, map: &ClusterMap) -> Result<()> {
    let statement = call.node().cast::<pg_sys::ClusterStmt>();
    // SAFETY: as in `run`.
    let work = unsafe {
        relation::named(map, (*statement).relation).map(|table| {
            let using = match tree::text((*statement).indexname) {
                none if none.is_empty() => String::new(),
                index => format!(" USING {}", quote_identifier(&index)),
            };
            let options = options((*statement).params);
            (table_sql("CLUSTER", &options, table.id, &using), table.is_distributed())
        })
    };
    call.run();
    match work {
        Some((sql, true)) => session::execute_outside(&map.node_ids(), &sql),
        Some((sql, false)) => nodes::tell(map, &sql),
        None => Ok(()),
    }
}

fn table_sql(verb: &str, options: &str, table: TableId, rest: &str) -> String {
    format!("{verb} {options}{}{rest}", relation::table_name(table))
}
