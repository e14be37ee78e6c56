//! As whom a maintenance process goes to a node.
//!
//! It runs as the superuser that the server was made with: his user mapping, or PUBLIC's. A node for which
//! there is neither is reached as the owner of the extension, else as any role with a mapping. On the node, a
//! prepared transaction is finished by whom it belongs to, or by a superuser: where one is refused, the next tries.

use crate::catalog::NodeId;
use crate::error::Result;
use crate::pg::catalog_cache::scan_catalog;
use crate::pg::spi;
use pgrx::pg_sys;

/// Which roles may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Roles {
    /// The current one.
    Mine,
    /// All with a user mapping; for a process of our own.
    Any,
}

impl Roles {
    /// The roles to go to a node as, the best first; at least one.
    pub fn of(self, node: NodeId) -> Vec<pg_sys::Oid> {
        // SAFETY: the current user is always known.
        let me = unsafe { pg_sys::GetUserId() };
        if self == Roles::Mine {
            return vec![me];
        }
        let mapped = mapped_on(node);
        let may_go = |role: &pg_sys::Oid| mapped.contains(role) || mapped.contains(&pg_sys::InvalidOid);
        let first = [Some(me), extension_owner()].into_iter().flatten().filter(may_go);
        let others = mapped.iter().copied().filter(|role| *role != pg_sys::InvalidOid);
        let mut roles = Vec::new();
        for role in first.chain(others) {
            if !roles.contains(&role) {
                roles.push(role);
            }
        }
        // Without any, the error that it gets says what is missing.
        if roles.is_empty() { vec![me] } else { roles }
    }
}

/// Who has a user mapping on a node; 0 is PUBLIC.
fn mapped_on(node: NodeId) -> Vec<pg_sys::Oid> {
    let mut roles = Vec::new();
    let column = |number: u32| number as usize - 1;
    // SAFETY: the columns are those of pg_user_mapping.
    unsafe {
        scan_catalog(pg_sys::UserMappingRelationId, |columns| {
            let user = columns[column(pg_sys::Anum_pg_user_mapping_umuser)];
            let server = columns[column(pg_sys::Anum_pg_user_mapping_umserver)];
            if let (Some(user), Some(server)) = (user, server)
                && server.value() as u32 == node.0
            {
                roles.push(pg_sys::Oid::from(user.value() as u32));
            }
        });
    }
    roles.sort_by_key(|role| role.to_u32());
    roles
}

fn extension_owner() -> Option<pg_sys::Oid> {
    let rows = spi::read_now("SELECT extowner FROM pg_catalog.pg_extension WHERE extname = 'sharding'");
    let oid: u32 = rows.into_iter().flatten().flatten().next()?.parse().ok()?;
    Some(pg_sys::Oid::from(oid))
}

/// Runs `work`, which runs no code of users, as a role. An ERROR sets the user back at the end of the transaction.
pub fn as_role<T>(role: pg_sys::Oid, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let (mut me, mut context) = (pg_sys::InvalidOid, 0);
    // SAFETY: reads and sets variables of this process.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut me, &mut context);
        pg_sys::SetUserIdAndSecContext(role, context | pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32);
    }
    let result = work();
    // SAFETY: as above.
    unsafe { pg_sys::SetUserIdAndSecContext(me, context) };
    result
}
