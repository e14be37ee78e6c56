//! What differs between the versions of Postgres for statements that are pushed down.

use crate::pg::tree::Node;
use pgrx::pg_sys;

/// The condition on which a MERGE joins its source with its target; `None` if that is not the table it writes.
pub unsafe fn merge_condition(query: *mut pg_sys::Query) -> Option<*mut Node> {
    // SAFETY: reads an analyzed MERGE.
    unsafe {
        #[cfg(any(feature = "pg15", feature = "pg16"))]
        return Some((*(*query).jointree).quals);
        #[cfg(any(feature = "pg17", feature = "pg18"))]
        return ((*query).mergeTargetRelation == (*query).resultRelation).then_some((*query).mergeJoinCondition);
    }
}
