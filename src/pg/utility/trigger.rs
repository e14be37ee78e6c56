//! Triggers, policies and rules.
//!
//! A row trigger on a distributed table fires where the row is: it is made here, on the empty parent,
//! and on every node. A statement trigger would fire once per node, so it is refused, except for
//! TRUNCATE, which runs here as well and fires it here. A reference table is written on the coordinator,
//! where all its triggers are.

use crate::catalog::ClusterMap;
use crate::error::Error;
use crate::pg::utility::{Call, Decision, nodes, objects, relation, tree};
use pgrx::pg_sys;
use std::rc::Rc;

/// `TRIGGER_TYPE_TRUNCATE` (pg_trigger.h).
const TRUNCATE: i16 = 1 << 5;

pub unsafe fn create(call: &Call, map: &Rc<ClusterMap>, statement: *mut pg_sys::CreateTrigStmt) -> Decision {
    // SAFETY: the statement outlives the call.
    unsafe {
        let Some(table) = relation::named(map, (*statement).relation) else { return Ok(None) };
        if !table.is_distributed() {
            return Ok(None);
        }
        if !(*statement).row {
            if (*statement).events == TRUNCATE {
                return Ok(None);
            }
            return Err(Error::unsupported("statement triggers on distributed tables are not supported")
                .detail("A statement runs once on each node, and would fire the trigger there each time.")
                .hint("Use FOR EACH ROW."));
        }
        if !(*statement).transitionRels.is_null() {
            return Err(Error::unsupported("transition tables on distributed tables are not supported")
                .detail("Each node would see the rows of its own shards only.")
                .hint("Leave out REFERENCING."));
        }
        let id = table.id;
        let (map, text) = (map.clone(), call.words().text);
        Ok(Some(Box::new(move |_| {
            objects::prepare_nodes(&map, id)?;
            nodes::tell(&map, &text)
        })))
    }
}

pub unsafe fn create_policy(call: &Call, map: &Rc<ClusterMap>, statement: *mut pg_sys::CreatePolicyStmt) -> Decision {
    // SAFETY: the statement outlives the call.
    unsafe { policy(call, map, (*statement).table, (*statement).roles) }
}

pub unsafe fn alter_policy(call: &Call, map: &Rc<ClusterMap>, statement: *mut pg_sys::AlterPolicyStmt) -> Decision {
    // SAFETY: the statement outlives the call.
    unsafe { policy(call, map, (*statement).table, (*statement).roles) }
}

unsafe fn policy(
    call: &Call,
    map: &Rc<ClusterMap>,
    table: *mut pg_sys::RangeVar,
    roles: *mut pg_sys::List,
) -> Decision {
    // SAFETY: parts of the statement.
    unsafe {
        let Some(table) = relation::named(map, table) else { return Ok(None) };
        let id = table.id;
        let (_, roles) = tree::roles(roles);
        let (map, text) = (map.clone(), call.words().text);
        Ok(Some(Box::new(move |_| {
            roles.iter().try_for_each(|r| nodes::tell(&map, &nodes::role_exists(r)))?;
            objects::prepare_nodes(&map, id)?;
            nodes::tell(&map, &text)
        })))
    }
}

pub unsafe fn rule(map: &Rc<ClusterMap>, statement: *mut pg_sys::RuleStmt) -> Decision {
    // SAFETY: the statement outlives the call.
    if unsafe { relation::named(map, (*statement).relation) }.is_some() {
        return Err(Error::unsupported("rules on distributed and reference tables are not supported")
            .hint("Use a row trigger, or a view with rules of its own."));
    }
    Ok(None)
}
