//! What EXPLAIN says of a scan: tier, table, nodes, remote SQL; with ANALYZE the rows and time of each task.

use crate::pg::merge;
use crate::pg::scan::Scan;
use crate::pg::tuple;
use crate::plan::remote::{Target, Tier};
use crate::plan::tuning;
use pgrx::pg_sys;
use std::ffi::{CStr, CString};

/// Adds a text property.
pub unsafe fn text(es: *mut pg_sys::ExplainState, label: &CStr, value: &str) {
    let value = CString::new(value.replace('\0', "")).unwrap_or_default();
    // SAFETY: the texts are copied into the output.
    unsafe { pg_sys::ExplainPropertyText(label.as_ptr(), value.as_ptr(), es) }
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
            (Target::All { .. }, Some((group, _))) => format!("{0} of {0}", group.shards.len()),
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
        let statement = scan.text_for(scan.shards_for_explain().as_deref());
        if !scan.plan.merge.is_empty() {
            text(es, c"Merge Key", &merge::describe(scan, es));
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
                let label =
                    CString::new(format!("Task on {}", scan.cluster().node_name(report.node))).unwrap_or_default();
                text(es, &label, &line);
            }
        }
    }
}
