//! `sharding.recover_transactions()`: finishes two-phase commits that a crash or a lost connection
//! left behind. `transaction::recovery` explains the order of the steps.

use crate::api::node::known_cluster;
use crate::catalog::{NodeId, quote_literal};
use crate::error::{Result, sqlstate};
use crate::pg::function::{Answer, Call};
use crate::pg::session::query_outside;
use crate::pg::transaction_log as log;
use crate::sql_function;
use crate::transaction::gid::GlobalTransaction;
use crate::transaction::recovery::{Survey, Verdict, is_settled, verdict};

sql_function!(sharding_recover_transactions, pg_finfo_sharding_recover_transactions, recover_transactions);

/// A prepared transaction of ours on a node.
struct Found {
    node: NodeId,
    gid: String,
    transaction: GlobalTransaction,
}

fn recover_transactions(call: &Call) -> Result<Answer> {
    let map = known_cluster()?;
    let log_before = log::rows()?;
    let mut survey = Survey::default();
    let mut found = Vec::new();
    let mut table = Vec::new();
    for node in &map.nodes {
        survey.known.insert(node.name.clone());
        match prepared_on(node.id) {
            Ok(prepared) => {
                survey.reached.insert(node.name.clone());
                found.extend(prepared);
            }
            Err(error) => {
                table.push(vec![Some(node.name.clone()), None, Some(format!("unreachable: {}", error.message))])
            }
        }
    }
    for Found { node, gid, transaction } in found {
        let in_progress = log::is_in_progress(transaction);
        let name = transaction.log_name();
        let verdict = verdict(in_progress, || log::rows().map(|rows| rows.iter().any(|row| row.gid == name)))?;
        let (command, action) = match verdict {
            Verdict::Leave => {
                survey.unresolved.insert(name);
                continue;
            }
            Verdict::Commit => ("COMMIT PREPARED", "committed"),
            Verdict::Rollback => ("ROLLBACK PREPARED", "rolled back"),
        };
        let action = match query_outside(node, &format!("{command} {}", quote_literal(&gid))) {
            Ok(_) => action.to_string(),
            // Its own backend, or another recovery, was faster.
            Err(error) if error.code == sqlstate::UNDEFINED_OBJECT => continue,
            Err(error) => {
                survey.unresolved.insert(name);
                format!("failed: {}", error.message)
            }
        };
        table.push(vec![Some(map.node_name(node).to_string()), Some(gid), Some(action)]);
    }
    let settled: Vec<String> =
        log_before.into_iter().filter(|row| is_settled(row, &survey)).map(|row| row.gid).collect();
    log::delete(&settled)?;
    call.return_rows(&table)
}

/// The prepared transactions of this coordinator on a node.
fn prepared_on(node: NodeId) -> Result<Vec<Found>> {
    let coordinator = log::coordinator();
    let rows = query_outside(
        node,
        "SELECT gid FROM pg_catalog.pg_prepared_xacts \
         WHERE database = pg_catalog.current_database() ORDER BY prepared",
    )?;
    Ok(rows
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|gid| {
            let transaction = GlobalTransaction::of_gid(&gid, coordinator)?;
            Some(Found { node, gid, transaction })
        })
        .collect())
}
