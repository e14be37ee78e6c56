//! Cycles in the graph of dependencies: Tarjan's components first, the search within them.

use super::graph::{Edge, Graph};
use std::collections::{HashMap, VecDeque};

/// A cycle: each transaction with the edge that leads to the next one, the last one's to the first.
pub type Cycle = Vec<(usize, Edge)>;

/// The strongly connected component of each transaction, over edges that fit (Tarjan 1972, without recursion).
pub fn components(graph: &Graph, fits: impl Fn(Edge) -> bool) -> Vec<usize> {
    const UNSEEN: usize = usize::MAX;
    let count = graph.after.len();
    let (mut index, mut low, mut component) = (vec![UNSEEN; count], vec![0; count], vec![UNSEEN; count]);
    let (mut next, mut components) = (0, 0);
    let mut stack = Vec::new();
    for root in 0..count {
        if index[root] != UNSEEN {
            continue;
        }
        let mut calls = vec![(root, 0)];
        while let Some((node, at)) = calls.pop() {
            if at == 0 {
                (index[node], low[node]) = (next, next);
                next += 1;
                stack.push(node);
            }
            let onward = graph.after[node][at..].iter().position(|(_, edge)| fits(*edge)).map(|i| at + i);
            if let Some(i) = onward {
                let (to, _) = graph.after[node][i];
                calls.push((node, i + 1));
                if index[to] == UNSEEN {
                    calls.push((to, 0));
                } else if component[to] == UNSEEN {
                    low[node] = low[node].min(index[to]);
                }
                continue;
            }
            if low[node] == index[node] {
                while let Some(member) = stack.pop() {
                    component[member] = components;
                    if member == node {
                        break;
                    }
                }
                components += 1;
            }
            if let Some((caller, _)) = calls.last() {
                low[*caller] = low[*caller].min(low[node]);
            }
        }
    }
    component
}

/// Which cycles are looked for.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// The edges of which they consist.
    pub fits: fn(Edge) -> bool,
    /// One that they have.
    pub first: Edge,
    /// What may come after an edge, on the way back from the first one.
    pub next: fn(Edge, Edge) -> bool,
    /// Which edge may be the last.
    pub last: fn(Edge) -> bool,
}

/// Cycles of a kind: one for each component, the shortest that begins with one of its first edges.
pub fn cycles(graph: &Graph, rule: Rule) -> Vec<Cycle> {
    let component = components(graph, rule.fits);
    let mut found: HashMap<usize, Cycle> = HashMap::new();
    for (from, after) in graph.after.iter().enumerate() {
        if found.contains_key(&component[from]) {
            continue;
        }
        let within = |node: usize| component[node] == component[from];
        let mut starts = after.iter().filter(|(to, edge)| *edge == rule.first && within(*to));
        if let Some(cycle) = starts.find_map(|(to, _)| back(graph, from, *to, rule, within)) {
            found.insert(component[from], cycle);
        }
    }
    let mut cycles: Vec<Cycle> = found.into_values().collect();
    cycles.sort();
    cycles
}

/// The shortest way from `to`, reached by the rule's first edge, back to `from`.
fn back(graph: &Graph, from: usize, to: usize, rule: Rule, within: impl Fn(usize) -> bool) -> Option<Cycle> {
    // A place is a transaction and the edge by which it was reached.
    let mut came: HashMap<(usize, Edge), Option<(usize, Edge)>> = HashMap::from([((to, rule.first), None)]);
    let mut queue = VecDeque::from([(to, rule.first)]);
    while let Some(place @ (node, by)) = queue.pop_front() {
        if node == from && (rule.last)(by) {
            let mut path = vec![place];
            while let Some(Some(before)) = path.last().map(|place| came[place]) {
                path.push(before);
            }
            path.reverse();
            let mut cycle = vec![(from, rule.first)];
            cycle.extend(path.windows(2).map(|pair| (pair[0].0, pair[1].1)));
            return Some(cycle);
        }
        for (onward, edge) in &graph.after[node] {
            let place_onward = (*onward, *edge);
            if (rule.fits)(*edge) && within(*onward) && (rule.next)(by, *edge) && !came.contains_key(&place_onward) {
                came.insert(place_onward, Some(place));
                queue.push_back(place_onward);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use Edge::{Rw, Wr, Ww};

    fn graph(count: usize, edges: &[(usize, usize, Edge)]) -> Graph {
        let mut graph = Graph { after: vec![Vec::new(); count] };
        edges.iter().for_each(|(a, b, edge)| graph.after[*a].push((*b, *edge)));
        graph
    }

    #[test]
    fn components_are_what_reaches_itself() {
        let graph = graph(6, &[(0, 1, Ww), (1, 2, Wr), (2, 0, Rw), (2, 3, Ww), (3, 4, Ww), (4, 3, Ww), (5, 5, Ww)]);
        let all = components(&graph, |_| true);
        assert!(all[0] == all[1] && all[1] == all[2] && all[3] == all[4]);
        assert!(all[0] != all[3] && all[3] != all[5] && all[0] != all[5]);
        let writes = components(&graph, |edge| edge == Ww);
        assert!(writes[0] != writes[1] && writes[3] == writes[4]);
    }

    #[test]
    fn cycles_are_found_with_the_edges_that_are_asked_for() {
        let graph = graph(4, &[(0, 1, Wr), (1, 2, Rw), (2, 3, Wr), (3, 0, Rw)]);
        let any = Rule { fits: |_| true, first: Rw, next: |_, _| true, last: |_| true };
        let one = Rule { next: |_, next| next != Rw, ..any };
        assert_eq!(cycles(&graph, one), [] as [Cycle; 0], "there are two");
        let apart = Rule { next: |a, b| a != Rw || b != Rw, last: |edge| edge != Rw, ..any };
        assert_eq!(cycles(&graph, apart), [vec![(1, Rw), (2, Wr), (3, Rw), (0, Wr)]]);
        let information = Rule { fits: |edge| edge != Rw, first: Wr, ..any };
        assert_eq!(cycles(&graph, information), [] as [Cycle; 0]);
    }
}
