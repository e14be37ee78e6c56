//! Which servers the cases run on: the harness's, or one's own.
//!
//! ```text
//! SHARDING_CASES_PLAIN=127.0.0.1:20300/app
//! SHARDING_CASES_CLUSTER=127.0.0.1:9700/app,127.0.0.1:9701/app    coordinator, then its nodes
//! SHARDING_CASES_CLUSTER=127.0.0.1:20301/app                      a second plain server
//! ```
//!
//! With no node named, the "cluster" is taken for a plain server: that tests the case files.

use super::endpoint::Endpoint;
use super::suite::{SESSIONS, Servers};
use crate::harness::{Cluster, Plain, Settings};
use std::path::PathBuf;

/// Servers of the harness, which run until this is dropped; none if the environment names others.
#[derive(Debug, Default)]
pub struct Running {
    pub plain: Option<Plain>,
    pub cluster: Option<Cluster>,
}

/// Where the case files are.
pub fn case_folder() -> PathBuf {
    match std::env::var_os("SHARDING_CASES_FOLDER") {
        Some(folder) => folder.into(),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("cases"),
    }
}

/// How many nodes the clusters have that everything runs on.
pub fn node_counts() -> Vec<usize> {
    match from_environment() {
        Ok(Some(servers)) => vec![servers.nodes.len().max(1)],
        _ => vec![1, 2, 3],
    }
}

/// Whether the environment names the servers.
pub fn are_given() -> bool {
    matches!(from_environment(), Ok(Some(_)))
}

/// How many connections a cluster has to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pool {
    /// As many as there are by default.
    Default,
    /// One for each session of a case.
    OneConnection,
}

/// A plain server and a cluster.
pub fn start(nodes: usize, pool: Pool) -> Result<(Servers, Running), String> {
    if let Some(servers) = from_environment()? {
        return Ok((servers, Running::default()));
    }
    let plain = Plain::start();
    let coordinator = match pool {
        Pool::Default => "",
        Pool::OneConnection => "sharding.pool_size = 1\nsharding.pool_wait_timeout = 5s",
    };
    let cluster = Cluster::start_with(nodes, Settings { coordinator, node: "" });
    configure(&cluster)?;
    let own_roles = pool == Pool::OneConnection;
    if own_roles {
        give_sessions_roles(&plain, &cluster).map_err(|error| format!("roles for sessions: {error}"))?;
    }
    let endpoint = |port| Endpoint::local(port, "app");
    let servers = Servers {
        plain: endpoint(plain.port()),
        coordinator: endpoint(cluster.port()),
        nodes: (1..=nodes).map(|i| endpoint(cluster.node(i).port())).collect(),
        stand_in: false,
        own_roles,
    };
    Ok((servers, Running { plain: Some(plain), cluster: Some(cluster) }))
}

/// Further sessions become those of roles with user mappings of their own, and so have pools of their own: while one
/// session is in a transaction, another one could not use the same connection.
fn give_sessions_roles(plain: &Plain, cluster: &Cluster) -> Result<(), postgres::Error> {
    for role in SESSIONS {
        let create = format!("CREATE ROLE {role} SUPERUSER LOGIN");
        plain.client().batch_execute(&create)?;
        cluster.client().batch_execute(&create)?;
        for node in 1..=cluster.node_count() {
            cluster.node_client(node).batch_execute(&create)?;
            let map = format!("CREATE USER MAPPING FOR {role} SERVER n{node} OPTIONS (user '{role}')");
            cluster.client().batch_execute(&map)?;
        }
    }
    Ok(())
}

/// Settings of the coordinator's database: `SHARDING_GUC="sharding.enable_pushdown=off work_mem=64kB"`.
fn configure(cluster: &Cluster) -> Result<(), String> {
    let settings = std::env::var("SHARDING_GUC").unwrap_or_default();
    let mut client = cluster.client();
    for setting in settings.split_whitespace() {
        let (name, value) = setting.split_once('=').ok_or("SHARDING_GUC is a list of name=value")?;
        client
            .batch_execute(&format!("ALTER DATABASE app SET {name} = '{value}'"))
            .map_err(|error| format!("SHARDING_GUC: {setting}: {error}"))?;
    }
    Ok(())
}

fn from_environment() -> Result<Option<Servers>, String> {
    let plain = std::env::var("SHARDING_CASES_PLAIN");
    let cluster = std::env::var("SHARDING_CASES_CLUSTER");
    let (plain, cluster) = match (plain, cluster) {
        (Ok(plain), Ok(cluster)) => (plain, cluster),
        (Err(_), Err(_)) => return Ok(None),
        _ => return Err("set both SHARDING_CASES_PLAIN and SHARDING_CASES_CLUSTER".into()),
    };
    let mut endpoints = cluster.split(',').map(Endpoint::parse).collect::<Result<Vec<_>, _>>()?;
    let coordinator = endpoints.remove(0);
    let stand_in = endpoints.is_empty();
    Ok(Some(Servers { plain: Endpoint::parse(&plain)?, coordinator, nodes: endpoints, stand_in, own_roles: false }))
}
