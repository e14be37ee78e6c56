//! What MERGE and RETURNING are in each major version, for `modify`.
//!
//! `WHEN NOT MATCHED BY SOURCE` and `merge_action()` are of 17, `RETURNING old.*` of 18; before, a plan has no place for
//! them and these functions say so.

use pgrx::pg_sys;

/// When a WHEN clause of MERGE applies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum MatchKind {
    Matched,
    NotMatchedBySource,
    NotMatchedByTarget,
}

impl MatchKind {
    /// `target`: the join found a row to write; `source`: it found a source row.
    pub fn applies(self, target: bool, source: bool) -> bool {
        match self {
            MatchKind::Matched => target && source,
            MatchKind::NotMatchedBySource => target && !source,
            MatchKind::NotMatchedByTarget => !target,
        }
    }
}

pub unsafe fn match_kind(action: *mut pg_sys::MergeAction) -> MatchKind {
    // SAFETY: the action belongs to a plan.
    unsafe {
        #[cfg(any(feature = "pg15", feature = "pg16"))]
        {
            if (*action).matched { MatchKind::Matched } else { MatchKind::NotMatchedByTarget }
        }
        #[cfg(any(feature = "pg17", feature = "pg18"))]
        match (*action).matchKind {
            pg_sys::MergeMatchKind::MERGE_WHEN_MATCHED => MatchKind::Matched,
            pg_sys::MergeMatchKind::MERGE_WHEN_NOT_MATCHED_BY_SOURCE => MatchKind::NotMatchedBySource,
            _ => MatchKind::NotMatchedByTarget,
        }
    }
}

/// What tells a target row with a source row from one without (17 on). Null: each has one.
pub unsafe fn merge_join_condition(plan: *mut pg_sys::ModifyTable) -> *mut pg_sys::List {
    #[cfg(any(feature = "pg15", feature = "pg16"))]
    {
        let _ = plan;
        std::ptr::null_mut()
    }
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    // SAFETY: reads the plan; one element per result relation, which may be null.
    unsafe {
        crate::pg::tree::items((*plan).mergeJoinConditions).first().copied().unwrap_or(std::ptr::null_mut())
    }
}

/// Whether a node is a call of `merge_action()` (17 on).
pub unsafe fn is_merge_action(node: *const pg_sys::Node) -> bool {
    #[cfg(any(feature = "pg15", feature = "pg16"))]
    {
        let _ = node;
        false
    }
    #[cfg(any(feature = "pg17", feature = "pg18"))]
    // SAFETY: every node has a tag.
    unsafe {
        (*node).type_ == pg_sys::NodeTag::T_MergeSupportFunc
    }
}

/// Whether a node returns a view's column of the old or the new row (18), which does not print so.
pub unsafe fn is_returning_expression(node: *const pg_sys::Node) -> bool {
    #[cfg(not(feature = "pg18"))]
    {
        let _ = node;
        false
    }
    #[cfg(feature = "pg18")]
    // SAFETY: every node has a tag.
    unsafe {
        (*node).type_ == pg_sys::NodeTag::T_ReturningExpr
    }
}

/// Whether a RETURNING list names the old row (18).
pub unsafe fn returns_old(projection: *mut pg_sys::ProjectionInfo) -> bool {
    #[cfg(not(feature = "pg18"))]
    {
        let _ = projection;
        false
    }
    #[cfg(feature = "pg18")]
    // SAFETY: reads what compiling the list has found out.
    unsafe {
        u32::from((*projection).pi_state.flags) & pg_sys::EEO_FLAG_HAS_OLD != 0
    }
}

/// Makes the rows that `old` and `new` name in RETURNING (18) known to the list; null is no row.
pub unsafe fn set_returned_rows(
    projection: *mut pg_sys::ProjectionInfo,
    old: *mut pg_sys::TupleTableSlot,
    new: *mut pg_sys::TupleTableSlot,
    nulls: *mut pg_sys::TupleTableSlot,
) {
    #[cfg(not(feature = "pg18"))]
    let _ = (projection, old, new, nulls);
    #[cfg(feature = "pg18")]
    // SAFETY: as `ExecProcessReturning`; the slots have the target's row type.
    unsafe {
        let state = &raw mut (*projection).pi_state;
        let econtext = (*projection).pi_exprContext;
        (*econtext).ecxt_oldtuple = if old.is_null() { nulls } else { old };
        (*econtext).ecxt_newtuple = if new.is_null() { nulls } else { new };
        let missing = |slot: *mut pg_sys::TupleTableSlot, flag| if slot.is_null() { flag } else { 0 };
        (*state).flags &= !((pg_sys::EEO_FLAG_OLD_IS_NULL | pg_sys::EEO_FLAG_NEW_IS_NULL) as u8);
        (*state).flags |=
            (missing(old, pg_sys::EEO_FLAG_OLD_IS_NULL) | missing(new, pg_sys::EEO_FLAG_NEW_IS_NULL)) as u8;
    }
}

/// The check option kind for the old row of a MERGE action.
pub fn merge_check_kind(command: pg_sys::CmdType::Type) -> pg_sys::WCOKind::Type {
    #[cfg(feature = "pg15")]
    {
        let _ = command;
        pg_sys::WCOKind::WCO_RLS_MERGE_UPDATE_CHECK
    }
    #[cfg(not(feature = "pg15"))]
    if command == pg_sys::CmdType::CMD_UPDATE {
        pg_sys::WCOKind::WCO_RLS_MERGE_UPDATE_CHECK
    } else {
        pg_sys::WCOKind::WCO_RLS_MERGE_DELETE_CHECK
    }
}
