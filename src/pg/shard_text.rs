//! The same statement, addressed to shards: a node's plan for `sharding_shards.orders_7` is as cheap as
//! one for a plain table, while one for the parent has to look at every partition.
//!
//! Postgres prints it like the other: `SELECT v FROM public.orders WHERE id = $1` becomes `SELECT v FROM
//! "shard of 16402" orders WHERE id = $1`, and the shard's name takes the place of the marker when
//! the shard is known. A table in FROM is printed by that name because it is made a reference to a CTE;
//! the target of a write is where the statement begins.
//!
//! Not for statements in which parent and shard are not the same: their row types, their system
//! columns, the names of their constraints, their statement triggers.

use crate::catalog::{ClusterMap, TableId};
use crate::pg::tree::{self, Visit};
use crate::pg::{print, tuple};
use crate::plan::remote::ShardSql;
use pgrx::pg_sys;
use std::ffi::{CStr, CString};
use std::ptr;

/// The statement in pieces, or `None` where only the parents can be addressed. `query` is read only.
pub unsafe fn shard_sql(query: *mut pg_sys::Query, map: &ClusterMap) -> Option<ShardSql> {
    // SAFETY: `query` is a statement ready to be printed; what is changed is a copy of it.
    unsafe {
        if !is_the_same_on_shards(query) {
            return None;
        }
        let query = tree::copy(query);
        let target = target_of(query, map)?;
        let mut markers = 0;
        tree::walk(query.cast(), |n| {
            if (*n).type_ == pg_sys::NodeTag::T_RangeTblEntry {
                let rte = n.cast::<pg_sys::RangeTblEntry>();
                let table = TableId((*rte).relid.to_u32());
                let is_table = (*rte).rtekind == pg_sys::RTEKind::RTE_RELATION && (*rte).inFromCl;
                if is_table && map.distribution(table).is_some() {
                    print_as_marker(rte, table);
                    markers += 1;
                }
            }
            Visit::Deeper
        });
        let text = print::query_text(query);
        let text = match &target {
            None => text,
            Some((table, start, rest)) => {
                format!("{start}{}{}", marker_text(*table), text.trim_start().strip_prefix(&format!("{start}{rest}"))?)
            }
        };
        cut(&text, markers + usize::from(target.is_some()))
    }
}

/// `shard of 16402`
fn marker(table: TableId) -> String {
    format!("shard of {}", table.0)
}

fn marker_text(table: TableId) -> String {
    format!("\"{}\"", marker(table))
}

/// Cuts the text at its markers, of which there have to be so many.
fn cut(text: &str, markers: usize) -> Option<ShardSql> {
    let mut parts = text.split("\"shard of ");
    let mut pieces = vec![parts.next()?.to_string()];
    let mut tables = Vec::new();
    for part in parts {
        let (number, rest) = part.split_once('"')?;
        tables.push(TableId(number.parse().ok()?));
        pieces.push(rest.to_string());
    }
    (tables.len() == markers && markers > 0).then_some(ShardSql { pieces, tables })
}

/// Whether nothing in the statement tells a shard from its parent.
unsafe fn is_the_same_on_shards(query: *mut pg_sys::Query) -> bool {
    // SAFETY: a read-only walk.
    unsafe {
        !tree::walk(query.cast(), |n| {
            let differs = match (*n).type_ {
                pg_sys::NodeTag::T_Var => (*n.cast::<pg_sys::Var>()).varattno <= 0,
                pg_sys::NodeTag::T_RangeTblEntry => !(*n.cast::<pg_sys::RangeTblEntry>()).tablesample.is_null(),
                pg_sys::NodeTag::T_OnConflictExpr => {
                    (*n.cast::<pg_sys::OnConflictExpr>()).constraint != pg_sys::InvalidOid
                }
                _ => false,
            };
            if differs { Visit::Stop } else { Visit::Deeper }
        })
    }
}

/// Of a write: its table, how the statement begins, and the table's printed name after that. The outer
/// `None`: it has to go to the parent.
#[allow(clippy::option_option)]
unsafe fn target_of(query: *mut pg_sys::Query, map: &ClusterMap) -> Option<Option<(TableId, &'static str, String)>> {
    // SAFETY: the query is our copy; the names are palloc'd.
    unsafe {
        let start = match (*query).commandType {
            pg_sys::CmdType::CMD_SELECT => return Some(None),
            pg_sys::CmdType::CMD_INSERT => "INSERT INTO ",
            pg_sys::CmdType::CMD_UPDATE => "UPDATE ",
            pg_sys::CmdType::CMD_DELETE => "DELETE FROM ",
            _ => return None,
        };
        let rte = tree::entry((*query).rtable, (*query).resultRelation as u32);
        let table = TableId((*rte).relid.to_u32());
        map.distribution(table)?;
        if has_statement_triggers((*rte).relid) || !(*query).cteList.is_null() {
            return None;
        }
        (*rte).inFromCl = false;
        if (*rte).alias.is_null() {
            (*rte).alias = pg_sys::makeAlias((*(*rte).eref).aliasname, ptr::null_mut());
        }
        Some(Some((table, start, printed_name(table))))
    }
}

/// A table's name as Postgres prints it where nothing is in the search path.
pub unsafe fn printed_name(table: TableId) -> String {
    // SAFETY: the relation is locked by the query that names it; the names are palloc'd.
    unsafe {
        let relid = pg_sys::Oid::from(table.0);
        let schema = pg_sys::get_namespace_name(pg_sys::get_rel_namespace(relid));
        let name = pg_sys::quote_qualified_identifier(schema, pg_sys::get_rel_name(relid));
        CStr::from_ptr(name).to_string_lossy().into_owned()
    }
}

/// They belong to the parent and would not run for a shard.
unsafe fn has_statement_triggers(relid: pg_sys::Oid) -> bool {
    // SAFETY: the relation is locked by the query that names it.
    unsafe {
        let relation = pg_sys::RelationIdGetRelation(relid);
        if relation.is_null() {
            return true;
        }
        let triggers = (*relation).trigdesc;
        let found = !triggers.is_null() && {
            let t = &*triggers;
            t.trig_insert_before_statement
                || t.trig_insert_after_statement
                || t.trig_update_before_statement
                || t.trig_update_after_statement
                || t.trig_delete_before_statement
                || t.trig_delete_after_statement
        };
        pg_sys::RelationClose(relation);
        found
    }
}

/// Makes a table in FROM print as its marker: as the CTE of that name, with the table's own columns.
unsafe fn print_as_marker(rte: *mut pg_sys::RangeTblEntry, table: TableId) {
    // SAFETY: the entry belongs to our copy; all is allocated in the current memory context.
    unsafe {
        let name = CString::new(marker(table)).unwrap_or_default();
        (*rte).rtekind = pg_sys::RTEKind::RTE_CTE;
        (*rte).ctename = pg_sys::pstrdup(name.as_ptr());
        // A view knows columns by the names that they had when it was made, a statement by those that it gave them.
        (*rte).eref = pg_sys::makeAlias((*(*rte).eref).aliasname, column_names((*rte).relid));
    }
}

/// The names of a table's columns; a dropped one has none.
unsafe fn column_names(relid: pg_sys::Oid) -> *mut pg_sys::List {
    // SAFETY: the relation is locked by the query that names it; all is allocated in the current memory context.
    unsafe {
        let mut names: *mut pg_sys::List = ptr::null_mut();
        let mut next = 1;
        for column in tuple::columns(relid) {
            while next < column.attno {
                names = pg_sys::lappend(names, pg_sys::makeString(pg_sys::pstrdup(c"".as_ptr())).cast());
                next += 1;
            }
            let text = CString::new(column.name).unwrap_or_default();
            names = pg_sys::lappend(names, pg_sys::makeString(pg_sys::pstrdup(text.as_ptr())).cast());
            next += 1;
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_at_its_markers() {
        let sql = cut("SELECT a FROM \"shard of 7\" t, \"shard of 8\" u", 2).unwrap();
        assert_eq!(sql.pieces, ["SELECT a FROM ", " t, ", " u"]);
        assert_eq!(sql.tables, [TableId(7), TableId(8)]);
        assert_eq!(sql.text(|t| format!("s.x_{}", t.0)), "SELECT a FROM s.x_7 t, s.x_8 u");
    }

    #[test]
    fn a_marker_that_somebody_else_wrote_is_noticed() {
        assert!(cut("SELECT '\"shard of 7\"' FROM \"shard of 7\" t", 1).is_none());
        assert!(cut("SELECT 1", 0).is_none());
    }
}
