//! `sharding.add_node`, `check_node`, `remove_node`, `run_on_nodes`: the nodes of the cluster.
//!
//! A node is a SERVER with a USER MAPPING for PUBLIC; these functions make and drop both, and see
//! to it that the other server can be one. All in the current transaction, on the nodes, too.

use crate::api::node_check;
use crate::catalog::{ClusterMap, NodeId, TableId, quote_identifier, quote_literal};
use crate::error::{Error, Result, SqlState, sqlstate};
use crate::pg::catalog_cache::{cluster, invalidate_cluster};
use crate::pg::function::{Answer, Call};
use crate::pg::pool::lease;
use crate::pg::session::{Access, execute, run_on};
use crate::pg::spi;
use crate::sql_function;
use std::collections::BTreeSet;
use std::rc::Rc;

sql_function!(sharding_add_node, pg_finfo_sharding_add_node, add_node);
sql_function!(sharding_check_node, pg_finfo_sharding_check_node, check_node);
sql_function!(sharding_remove_node, pg_finfo_sharding_remove_node, remove_node);
sql_function!(sharding_run_on_nodes, pg_finfo_sharding_run_on_nodes, run_on_nodes);
sql_function!(sharding_invalidate_cluster_map, pg_finfo_sharding_invalidate_cluster_map, invalidate_cluster_map);

const NULL_VALUE: SqlState = SqlState::new("22004");

/// `add_node(name, host, port, dbname, "user", password)`
fn add_node(call: &Call) -> Result<Answer> {
    let name = required(call.name(0), "name")?;
    let mut options = vec![("host", required(call.text(1), "host")?)];
    if let Some(port) = call.int(2) {
        options.push(("port", port.to_string()));
    }
    if let Some(dbname) = call.text(3) {
        options.push(("dbname", dbname));
    }
    let mut credentials = vec![("user", required(call.text(4), "user")?)];
    if let Some(password) = call.text(5) {
        credentials.push(("password", password));
    }
    let server = quote_identifier(&name);
    spi::run(&format!("CREATE SERVER {server} FOREIGN DATA WRAPPER sharding OPTIONS ({})", option_list(&options)));
    spi::run(&format!("CREATE USER MAPPING FOR PUBLIC SERVER {server} OPTIONS ({})", option_list(&credentials)));
    node_check::check(&name).map(Answer::from)
}

/// `check_node(name)`: for a node made by CREATE SERVER and CREATE USER MAPPING.
fn check_node(call: &Call) -> Result<Answer> {
    node_check::check(&required(call.name(0), "name")?).map(Answer::from)
}

/// `remove_node(name, force)`: `force` leaves alone what the node holds, for one that is gone.
fn remove_node(call: &Call) -> Result<Answer> {
    let name = required(call.name(0), "name")?;
    let (map, node) = find(&name)?;
    let held = tables_with_shards_on(&map, node);
    if !held.is_empty() {
        return Err(Error::new(
            sqlstate::DEPENDENT_OBJECTS,
            format!("cannot remove node \"{name}\" because it holds shards"),
        )
        .detail(format!("It holds shards of {}.", held.into_iter().collect::<Vec<_>>().join(", ")))
        .hint("Bring the tables back with SELECT sharding.undistribute_table('...')."));
    }
    if !call.boolean(1).unwrap_or(false) {
        let tables: Vec<String> = map.tables.keys().filter_map(|id| relation_name(*id)).collect();
        if !tables.is_empty() {
            let sql = format!("DROP TABLE IF EXISTS {} CASCADE", tables.join(", "));
            execute(node, &sql, Access::Write)?;
        }
    }
    let quoted = quote_literal(&name);
    spi::run(&format!(
        "DELETE FROM sharding.colocation_group g WHERE EXISTS
           (SELECT FROM sharding.shard s WHERE s.group_id = g.group_id AND s.node = {quoted})"
    ));
    let server = quote_identifier(&name);
    let users = spi::run(&format!(
        "SELECT CASE umuser WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(usename) END
         FROM pg_catalog.pg_user_mappings WHERE srvname = {quoted}"
    ));
    for user in users.into_iter().flatten().flatten() {
        spi::run(&format!("DROP USER MAPPING FOR {user} SERVER {server}"));
    }
    spi::run(&format!("DROP SERVER {server}"));
    lease::abandon_node(node);
    invalidate_cluster();
    Ok(Answer::from(()))
}

/// `run_on_nodes(sql)`: a row per row that the node returns, else one with the command tag.
fn run_on_nodes(call: &Call) -> Result<Answer> {
    let sql = required(call.text(0), "sql")?;
    let map = known_cluster()?;
    let mut table = Vec::new();
    for (node, tags, rows) in run_on(&map.node_ids(), &sql, Access::Write)? {
        let name = Some(map.node_name(node).to_string());
        let tag = tags.last().cloned();
        if rows.is_empty() {
            table.push(vec![name, tag]);
            continue;
        }
        for row in rows {
            let result = match &row[..] {
                [single] => single.clone(),
                _ => Some(row.iter().map(|v| v.as_deref().unwrap_or("")).collect::<Vec<_>>().join("|")),
            };
            table.push(vec![name.clone(), result]);
        }
    }
    call.return_rows(&table)
}

/// The trigger on the catalog tables.
fn invalidate_cluster_map(_: &Call) -> Result<Answer> {
    invalidate_cluster();
    Ok(Answer::from(()))
}

fn required<T>(argument: Option<T>, name: &str) -> Result<T> {
    argument.ok_or_else(|| Error::new(NULL_VALUE, format!("argument \"{name}\" must not be null")))
}

fn option_list(options: &[(&str, String)]) -> String {
    let options: Vec<String> =
        options.iter().map(|(name, value)| format!("{} {}", quote_identifier(name), quote_literal(value))).collect();
    options.join(", ")
}

/// The cluster of this database.
pub fn known_cluster() -> Result<Rc<ClusterMap>> {
    cluster().ok_or_else(|| {
        Error::new(sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE, "extension \"sharding\" is not created in this database")
            .hint("Use CREATE EXTENSION sharding.")
    })
}

/// The node of that name. 42704 if there is none.
pub fn find(name: &str) -> Result<(Rc<ClusterMap>, NodeId)> {
    let map = known_cluster()?;
    let node = map.nodes.iter().find(|node| node.name == name).map(|node| node.id);
    match node {
        Some(node) => Ok((map, node)),
        None => Err(Error::new(sqlstate::UNDEFINED_OBJECT, format!("node \"{name}\" does not exist"))
            .hint("SELECT name FROM sharding.nodes lists the nodes.")),
    }
}

/// The names of tables with a shard on a node.
fn tables_with_shards_on(map: &ClusterMap, node: NodeId) -> BTreeSet<String> {
    map.tables
        .keys()
        .filter(|id| map.distribution(**id).is_some_and(|(group, _)| group.nodes().contains(&node)))
        .filter_map(|id| relation_name(*id))
        .collect()
}

/// The qualified, quoted name of a table, as long as it exists.
pub fn relation_name(table: TableId) -> Option<String> {
    spi::value(&format!(
        "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname)
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE c.oid = {}",
        table.0
    ))
}
