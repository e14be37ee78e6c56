//! `ALTER TABLE ... SET (fillfactor = 70)` of a distributed table.
//!
//! Postgres has no storage parameters for partitioned tables, and the rows are in the shards: so it is
//! these that get them, on their nodes, and nothing is done here.

#![allow(non_upper_case_globals)] // the constants are named as in Postgres

use crate::catalog::{ClusterMap, quote_identifier, quote_literal};
use crate::ddl::text::commas;
use crate::error::Result;
use crate::pg::guard::boundary;
use crate::pg::utility::{Call, compat, nodes, raw, relation, tree};
use pgrx::pg_sys::{self, AlterTableType::*, ObjectType};

/// Whether the statement was one of this file's.
pub fn run(call: &Call, map: &ClusterMap) -> Result<bool> {
    let statement = call.node().cast::<pg_sys::AlterTableStmt>();
    // SAFETY: the tag was read; the statement outlives the call.
    unsafe {
        let commands = tree::items::<pg_sys::AlterTableCmd>((*statement).cmds);
        let ours = |c: &*mut pg_sys::AlterTableCmd| matches!((**c).subtype, AT_SetRelOptions | AT_ResetRelOptions);
        if (*statement).objtype != ObjectType::OBJECT_TABLE || !commands.iter().all(ours) {
            return Ok(false);
        }
        let relid = relation::resolve((*statement).relation);
        let Some(table) = map.table(crate::catalog::TableId(relid.to_u32())).filter(|t| t.is_distributed()) else {
            return Ok(false);
        };
        if !compat::owns(relid) {
            let name = pg_sys::get_rel_name(relid);
            boundary(|| raw::aclcheck_error(pg_sys::AclResult::ACLCHECK_NOT_OWNER, ObjectType::OBJECT_TABLE, name));
        }
        pg_sys::LockRelationOid(relid, pg_sys::ShareUpdateExclusiveLock as _);
        let actions = commas(commands.iter().map(|c| action(*c)));
        nodes::tell_shards(map, table, |shard| format!("ALTER TABLE {shard} {actions}"))?;
    }
    Ok(true)
}

/// `SET ("fillfactor" = '70', "toast"."autovacuum_enabled" = 'false')`
unsafe fn action(command: *mut pg_sys::AlterTableCmd) -> String {
    // SAFETY: these forms have a list of DefElems.
    unsafe {
        let options = tree::items::<pg_sys::DefElem>((*command).def.cast()).into_iter().map(|option| {
            let mut text = match tree::text((*option).defnamespace) {
                none if none.is_empty() => String::new(),
                space => format!("{}.", quote_identifier(&space)),
            };
            text.push_str(&quote_identifier(&tree::text((*option).defname)));
            if !(*option).arg.is_null() {
                text.push_str(&format!(" = {}", quote_literal(&tree::text(pg_sys::defGetString(option)))));
            }
            text
        });
        let verb = if (*command).subtype == AT_SetRelOptions { "SET" } else { "RESET" };
        format!("{verb} ({})", commas(options))
    }
}
