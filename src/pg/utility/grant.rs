//! GRANT and REVOKE.
//!
//! `GRANT SELECT ON orders, a_local_table TO bob` becomes, on each node, `GRANT SELECT ON public.orders,
//! sharding_shards.orders_3, ... TO bob`: a statement for one shard addresses it directly, and a partition
//! has privileges of its own. Roles that a node does not know are made there, without LOGIN. A role
//! needs a schema's USAGE on the nodes if it has it here.

use crate::catalog::{ClusterMap, DistributedTable, SHARD_SCHEMA, quote_identifier};
use crate::ddl::text::commas;
use crate::pg::session::{self, Access};
use crate::pg::utility::{Decision, names, nodes, relation, tree};
use pgrx::pg_sys::{self, GrantTargetType, ObjectType, Oid};
use std::ffi::CString;
use std::rc::Rc;

pub unsafe fn decide(map: &Rc<ClusterMap>, statement: *mut pg_sys::GrantStmt) -> Decision {
    // SAFETY: the statement outlives the call; what the closure needs is copied.
    unsafe {
        let on_schemas = (*statement).objtype == ObjectType::OBJECT_SCHEMA;
        if (*statement).objtype != ObjectType::OBJECT_TABLE && !on_schemas {
            return Ok(None);
        }
        let mut tables: Vec<DistributedTable> = Vec::new();
        let mut schemas: Vec<String> = Vec::new();
        match (*statement).targtype {
            GrantTargetType::ACL_TARGET_OBJECT if on_schemas => {
                schemas = tree::strings((*statement).objects);
                schemas.retain(|s| names::schema_concerned(map, s));
            }
            GrantTargetType::ACL_TARGET_OBJECT => {
                let named = tree::items::<pg_sys::RangeVar>((*statement).objects);
                tables = named.into_iter().filter_map(|r| relation::named(map, r)).cloned().collect();
            }
            GrantTargetType::ACL_TARGET_ALL_IN_SCHEMA => {
                for schema in tree::strings((*statement).objects) {
                    let name = CString::new(schema).unwrap_or_default();
                    let schema = pg_sys::get_namespace_oid(name.as_ptr(), true);
                    let inside = |t: &&DistributedTable| pg_sys::get_rel_namespace(Oid::from(t.id.0)) == schema;
                    tables.extend(map.tables.values().filter(inside).cloned());
                }
            }
            _ => return Ok(None),
        }
        if tables.is_empty() && schemas.is_empty() {
            return Ok(None);
        }
        let (grantees, roles) = tree::roles((*statement).grantees);
        let words = Words {
            privileges: privileges((*statement).privileges),
            grantees: commas(grantees),
            is_grant: (*statement).is_grant,
            option: (*statement).grant_option,
            cascade: (*statement).behavior == pg_sys::DropBehavior::DROP_CASCADE,
        };
        let map = map.clone();
        Ok(Some(Box::new(move |_| {
            roles.iter().try_for_each(|r| nodes::tell(&map, &nodes::role_exists(r)))?;
            if !schemas.is_empty() {
                return nodes::tell(&map, &words.on(&format!("SCHEMA {}", names::quoted_list(&schemas))));
            }
            let mut work = Vec::new();
            for node in map.node_ids() {
                if words.is_grant {
                    let shards = quote_identifier(SHARD_SCHEMA);
                    work.push((node, format!("GRANT USAGE ON SCHEMA {shards} TO {}", words.grantees)));
                }
                let mut all: Vec<String> = tables.iter().map(|t| relation::table_name(t.id)).collect();
                all.extend(tables.iter().flat_map(|t| nodes::shards_on(&map, t, node)));
                work.push((node, words.on(&format!("TABLE {}", commas(all)))));
            }
            session::execute_each(&work, Access::Write).map(drop)
        })))
    }
}

/// The statement but for its objects.
struct Words {
    privileges: String,
    grantees: String,
    is_grant: bool,
    option: bool,
    cascade: bool,
}

impl Words {
    fn on(&self, objects: &str) -> String {
        let Words { privileges, grantees, .. } = self;
        let cascade = if self.cascade { " CASCADE" } else { "" };
        match (self.is_grant, self.option) {
            (true, false) => format!("GRANT {privileges} ON {objects} TO {grantees}"),
            (true, true) => {
                format!("GRANT {privileges} ON {objects} TO {grantees} WITH GRANT OPTION")
            }
            (false, false) => format!("REVOKE {privileges} ON {objects} FROM {grantees}{cascade}"),
            (false, true) => format!("REVOKE GRANT OPTION FOR {privileges} ON {objects} FROM {grantees}{cascade}"),
        }
    }
}

/// `SELECT, UPDATE ("a", "b")`, or `ALL`.
unsafe fn privileges(list: *mut pg_sys::List) -> String {
    // SAFETY: the cells are AccessPriv nodes.
    unsafe {
        let one = |p: *mut pg_sys::AccessPriv| {
            let name = match tree::text((*p).priv_name) {
                all if all.is_empty() => "ALL".to_owned(),
                name => name,
            };
            match tree::strings((*p).cols) {
                columns if columns.is_empty() => name,
                columns => format!("{name} ({})", names::quoted_list(&columns)),
            }
        };
        let listed = tree::items::<pg_sys::AccessPriv>(list);
        if listed.is_empty() { "ALL".to_owned() } else { commas(listed.into_iter().map(one)) }
    }
}
