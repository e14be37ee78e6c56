//! CREATE TABLE with a parent that is spread over nodes. Foreign keys are checked once they exist.

use crate::catalog::ClusterMap;
use crate::pg::utility::{Decision, alter_table, relation, tree};
use pgrx::pg_sys;

pub unsafe fn table(map: &ClusterMap, statement: *mut pg_sys::CreateStmt) -> Decision {
    // SAFETY: the statement outlives the call; parents are RangeVars.
    unsafe {
        for parent in tree::items::<pg_sys::RangeVar>((*statement).inhRelations) {
            if let Some(table) = relation::named(map, parent) {
                return Err(alter_table::no_inheritance(table.id));
            }
        }
    }
    Ok(None)
}
