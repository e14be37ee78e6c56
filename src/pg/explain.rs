//! What EXPLAIN says of a scan: tier, table, nodes, remote SQL; with ANALYZE the rows and time of each task.

use crate::pg::merge;
use crate::pg::scan::Scan;
use crate::pg::tuple;
use crate::plan::remote::{Shipment, Target, Tier};
use crate::plan::tuning;
use pgrx::pg_sys;
use std::ffi::{CStr, CString};

/// Adds a text property.
pub unsafe fn text(es: *mut pg_sys::ExplainState, label: &CStr, value: &str) {
    let value = CString::new(value.replace('\0', "")).unwrap_or_default();
    // SAFETY: the texts are copied into the output.
    unsafe { pg_sys::ExplainPropertyText(label.as_ptr(), value.as_ptr(), es) }
}

/// `4 on 2 nodes`, where nodes have more than one: as they were, or as many as there are to be.
unsafe fn tasks(scan: &Scan) -> Option<String> {
    // SAFETY: EXPLAIN's scan lives.
    let nodes = unsafe { scan.nodes_for_explain()? };
    let tasks = match scan.reports.len() {
        0 => scan.planned_tasks(&nodes).ok()??.iter().sum(),
        some => some,
    };
    let s = if nodes.len() == 1 { "" } else { "s" };
    (tasks > nodes.len()).then(|| format!("{tasks} on {} node{s}", nodes.len()))
}

/// Properties of a foreign scan.
pub unsafe fn scan(scan: &mut Scan, es: *mut pg_sys::ExplainState) {
    // SAFETY: the scan's executor state lives during EXPLAIN.
    unsafe {
        let tier = match scan.plan.tier {
            Tier::Router => "router",
            Tier::Pushdown => "pushdown",
            Tier::Fallback => "fallback",
        };
        text(es, c"Tier", tier);
        let table = scan.plan.target.table();
        text(es, c"Distributed Table", &tuple::qualified_name(pg_sys::Oid::from(table.0)).replace('"', ""));
        let map = scan.cluster();
        let shards = match (&scan.plan.target, map.distribution(table)) {
            (Target::All { .. }, Some((group, _))) => {
                let each = if scan.plan.is_by_shard() { ", a statement for each" } else { "" };
                format!("{0} of {0}{each}", group.shards.len())
            }
            (_, Some((group, _))) => match scan.shards_for_explain() {
                Some(shards) => format!("{} of {}", shards.len(), group.shards.len()),
                None => format!("chosen at execution of {}", group.shards.len()),
            },
            _ => "?".into(),
        };
        let nodes = match scan.nodes_for_explain() {
            Some(nodes) => nodes.iter().map(|n| map.node_name(*n).to_string()).collect::<Vec<_>>().join(", "),
            None => "chosen at execution".into(),
        };
        text(es, c"Nodes", &nodes);
        text(es, c"Shards", &shards);
        if let Some(tasks) = tasks(scan) {
            text(es, c"Tasks", &tasks);
        }
        let statement = scan.text_for(scan.shards_for_explain().as_deref());
        if !scan.plan.merge.is_empty() {
            text(es, c"Merge Key", &merge::describe(scan, es));
        }
        if !scan.plan.shipping.shipments.is_empty() {
            text(es, c"Rows Sent", &rows_sent(scan, (*es).analyze));
            if !(*es).verbose && !scan.joins_here() {
                scan.hide_instead();
            }
        }
        text(es, c"Remote SQL", statement.sql.trim());
        if (*es).verbose
            && let Some(nodes) = scan.nodes_for_explain()
            && let Ok(settings) = scan.settings_for(&nodes)
            && let Some(first) = settings.first().filter(|first| !first.is_empty())
        {
            let rest = if settings.iter().any(|settings| settings != first) { " (on the first node)" } else { "" };
            text(es, c"Node Settings", &format!("{}{rest}", tuning::shown(first)));
        }
        if (*es).verbose
            && let Some(reason) = scan.plan.reason.clone()
        {
            text(es, c"Not Routed Because", &reason);
        }
        if (*es).verbose
            && let Some(reason) = scan.plan.not_pushed.clone()
        {
            text(es, c"Not Pushed Down Because", &reason);
        }
        if (*es).analyze {
            for report in &scan.reports {
                let line = if (*es).timing {
                    format!("rows={} time={:.3} ms", report.rows, report.elapsed.as_secs_f64() * 1e3)
                } else {
                    format!("rows={}", report.rows)
                };
                let several =
                    scan.reports.iter().any(|other| other.node == report.node && other.beside != report.beside);
                let number = if several { format!(" {}", report.beside + 1) } else { String::new() };
                let label = format!("Task{number} on {}", scan.cluster().node_name(report.node));
                let label = CString::new(label).unwrap_or_default();
                text(es, &label, &line);
            }
        }
    }
}

/// `shipped 1 by key, shipped 2 to all nodes`: the subplans whose rows are sent, and how.
fn rows_sent(scan: &Scan, analyze: bool) -> String {
    if scan.joins_here() {
        return "none, there are more than expected".into();
    }
    let counts = scan.shipped_rows();
    let one = |(i, shipment): (usize, &Shipment)| {
        let to = if shipment.cut.is_some() { "by key" } else { "to all nodes" };
        let rows = match counts.get(i).filter(|_| analyze) {
            Some(count) => format!(" (rows={count})"),
            None => String::new(),
        };
        format!("shipped {} {to}{rows}", i + 1)
    };
    scan.plan.shipping.shipments.iter().enumerate().map(one).collect::<Vec<_>>().join(", ")
}
