//! Who depends on whom: a graph whose nodes are the transactions that happened.

use super::reads::Known;
use std::collections::HashSet;

/// Why one transaction comes before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Edge {
    /// It wrote the version before the other's.
    Ww,
    /// The other read its version.
    Wr,
    /// It read the version before the other's: it did not see it.
    Rw,
    /// It had ended when the other began.
    Time,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Graph {
    /// For each transaction, those that come after it.
    pub after: Vec<Vec<(usize, Edge)>>,
}

impl Graph {
    pub fn of(known: &Known) -> Graph {
        let mut edges: HashSet<(usize, usize, Edge)> = HashSet::new();
        for (key, values) in &known.history.finals {
            for version in 1..values.len() {
                if let (Some(a), Some(b)) = (known.writer(*key, version), known.writer(*key, version + 1)) {
                    edges.insert((a, b, Edge::Ww));
                }
            }
        }
        for read in known.external_reads() {
            if let Some(writer) = known.writer(read.key, read.version) {
                edges.insert((writer, read.reader, Edge::Wr));
            }
            if let Some(next) = known.writer(read.key, read.version + 1) {
                edges.insert((read.reader, next, Edge::Rw));
            }
        }
        edges.extend(in_time(known).into_iter().map(|(a, b)| (a, b, Edge::Time)));
        let mut graph = Graph { after: vec![Vec::new(); known.history.transactions.len()] };
        for (a, b, edge) in edges {
            if a != b && known.happened[a] && known.happened[b] {
                graph.after[a].push((b, edge));
            }
        }
        graph.after.iter_mut().for_each(|after| after.sort());
        graph
    }
}

/// Pairs of transactions the first of which had ended when the second began, without those that follow from others.
fn in_time(known: &Known) -> Vec<(usize, usize)> {
    let transactions = &known.history.transactions;
    let mut events: Vec<(u64, bool, usize)> = Vec::new();
    for (t, transaction) in transactions.iter().enumerate().filter(|(t, _)| known.happened[*t]) {
        events.push((transaction.time[0], false, t));
        events.push((transaction.time[1], true, t));
    }
    events.sort();
    let mut latest: Vec<usize> = Vec::new();
    let mut before: Vec<Vec<usize>> = vec![Vec::new(); transactions.len()];
    for (_, ended, t) in events {
        if ended {
            latest.retain(|other| !before[t].contains(other));
            latest.push(t);
        } else {
            before[t] = latest.clone();
        }
    }
    before.iter().enumerate().flat_map(|(t, before)| before.iter().map(move |other| (*other, t))).collect()
}
