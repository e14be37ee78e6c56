//! TRUNCATE and LOCK: lists of tables, of which the nodes hear about the cluster's.
//!
//! `TRUNCATE orders, some_local_table RESTART IDENTITY` becomes `TRUNCATE public.orders` on the nodes:
//! sequences are on the coordinator. CASCADE follows the nodes' own foreign keys, which are the same.

use crate::catalog::ClusterMap;
use crate::ddl::text::commas;
use crate::pg::utility::{Decision, nodes, relation, tree};
use pgrx::pg_sys;
use std::rc::Rc;

/// The qualified names of those tables of a list that the cluster knows.
unsafe fn sharded_names(map: &ClusterMap, relations: *const pg_sys::List) -> Vec<String> {
    // SAFETY: the cells are RangeVars.
    unsafe {
        tree::items::<pg_sys::RangeVar>(relations)
            .into_iter()
            .filter_map(|r| relation::named(map, r))
            .map(|t| relation::table_name(t.id))
            .collect()
    }
}

pub unsafe fn truncate(map: &Rc<ClusterMap>, statement: *mut pg_sys::TruncateStmt) -> Decision {
    // SAFETY: the statement outlives the call.
    unsafe {
        let names = sharded_names(map, (*statement).relations);
        if names.is_empty() {
            return Ok(None);
        }
        let cascade = if (*statement).behavior == pg_sys::DropBehavior::DROP_CASCADE { " CASCADE" } else { "" };
        Ok(nodes::say(map, vec![format!("TRUNCATE {}{cascade}", commas(names))]))
    }
}

pub unsafe fn lock(map: &Rc<ClusterMap>, statement: *mut pg_sys::LockStmt) -> Decision {
    // SAFETY: the statement outlives the call.
    unsafe {
        let names = sharded_names(map, (*statement).relations);
        // pg_dump's ACCESS SHARE: the coordinator's lock keeps DDL away, and a reader stays a reader.
        if names.is_empty() || (*statement).mode == pg_sys::AccessShareLock as i32 {
            return Ok(None);
        }
        // lockdefs.h, 1..=8
        let mode = match (*statement).mode {
            2 => "ROW SHARE",
            3 => "ROW EXCLUSIVE",
            4 => "SHARE UPDATE EXCLUSIVE",
            5 => "SHARE",
            6 => "SHARE ROW EXCLUSIVE",
            7 => "EXCLUSIVE",
            _ => "ACCESS EXCLUSIVE",
        };
        let nowait = if (*statement).nowait { " NOWAIT" } else { "" };
        Ok(nodes::say(map, vec![format!("LOCK TABLE {} IN {mode} MODE{nowait}", commas(names))]))
    }
}
