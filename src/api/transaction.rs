//! `sharding.recover_transactions()` and the view `sharding.transactions`: two-phase commits that are under way or were
//! interrupted.

use crate::api::node::known_cluster;
use crate::catalog::ClusterMap;
use crate::error::{Error, Result};
use crate::pg::function::{Answer, Call};
use crate::pg::maintenance::recover::{Pass, is_at_work, prepared_on};
use crate::pg::maintenance::roles::Roles;
use crate::pg::report;
use crate::pg::transaction_log as log;
use crate::sql_function;
use crate::transaction::overview::{Overview, Progress};
use std::rc::Rc;

sql_function!(sharding_recover_transactions, pg_finfo_sharding_recover_transactions, recover_transactions);
sql_function!(sharding_transactions, pg_finfo_sharding_transactions, transactions);

/// `recover_transactions()`: what was done, and the nodes that could not be asked.
fn recover_transactions(call: &Call) -> Result<Answer> {
    let map = known_cluster()?;
    let mut pass = Pass::begin(Rc::clone(&map), Roles::Mine)?;
    let mut table = Vec::new();
    for node in &map.nodes {
        if let Err(error) = pass.visit(node.id) {
            table.push(vec![Some(node.name.clone()), None, Some(format!("unreachable: {}", error.message))]);
        }
    }
    table.extend(pass.done.drain(..).map(|done| vec![Some(done.node), Some(done.gid), Some(done.action)]));
    pass.end()?;
    call.return_rows(&table)
}

/// `transactions()`: the nodes are asked.
fn transactions(call: &Call) -> Result<Answer> {
    let map = known_cluster()?;
    let overview = survey(&map)?;
    let array =
        |names: &[String]| Some(format!("{{{}}}", names.iter().map(|n| element(n)).collect::<Vec<_>>().join(",")));
    let rows: Vec<Vec<Option<String>>> = overview
        .rows()
        .into_iter()
        .map(|row| {
            let state = match row.progress {
                Progress::Running => "in progress",
                Progress::Committing => "committing",
                Progress::RollingBack => "rolling back",
            };
            vec![Some(row.gid), Some(state.to_string()), row.since, array(&row.nodes), array(&row.unconfirmed)]
        })
        .collect();
    call.return_rows(&rows)
}

fn survey(map: &ClusterMap) -> Result<Overview> {
    let mut overview = Overview::default();
    for (row, decided) in log::rows_with_time()? {
        overview.logged(row, decided);
    }
    for node in &map.nodes {
        match prepared_on(node.id) {
            Ok(all) => {
                overview.reached(&node.name);
                for prepared in all {
                    let running = is_at_work(prepared.transaction);
                    overview.prepared(&node.name, &prepared.transaction.log_name(), prepared.since, running);
                }
            }
            Err(error) => {
                report::warning(&Error::new(error.code, format!("node \"{}\" could not be asked", node.name)).detail(
                    format!("{}.", error.detail.map_or(error.message, |d| d.trim_end_matches('.').to_string())),
                ))
            }
        }
    }
    Ok(overview)
}

/// A name in the text of an array.
fn element(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}
