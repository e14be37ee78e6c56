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
use super::suite::Servers;
use crate::harness::{Cluster, Plain};
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

/// A plain server and a cluster.
pub fn start(nodes: usize) -> Result<(Servers, Running), String> {
    if let Some(servers) = from_environment()? {
        return Ok((servers, Running::default()));
    }
    let plain = Plain::start();
    let cluster = Cluster::start(nodes);
    configure(&cluster)?;
    let endpoint = |port| Endpoint::local(port, "app");
    let servers = Servers {
        plain: endpoint(plain.port()),
        coordinator: endpoint(cluster.port()),
        nodes: (1..=nodes).map(|i| endpoint(cluster.node(i).port())).collect(),
        stand_in: false,
    };
    Ok((servers, Running { plain: Some(plain), cluster: Some(cluster) }))
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
    Ok(Some(Servers { plain: Endpoint::parse(&plain)?, coordinator, nodes: endpoints, stand_in }))
}
