//! Deadlocks over several servers: who waits for whom, who can never go on, and who has to give way.
//!
//! ```
//! use sharding::catalog::NodeId;
//! use sharding::transaction::deadlock::{Graph, Place, Process, Wait};
//! let (n1, n2) = (Place::Node(NodeId(1)), Place::Node(NodeId(2)));
//! let wait = |waiter, place, pid, blocker, its_pid| Wait {
//!     waiter: Process::Backend(waiter), place, pid, since: "noon".into(), what: "ShareLock on transaction 7".into(),
//!     blockers: vec![(Process::Backend(blocker), its_pid)],
//! };
//! // On n1, backend 12 (there process 812) waits for 11 (process 811); on n2 it is the other way round.
//! let graph = Graph::new(vec![wait(12, n1, 812, 11, 811), wait(11, n2, 911, 12, 912)]);
//! let victims = graph.victims(|process| match process { Process::Backend(pid) => Some(*pid as i64), _ => None });
//! assert_eq!(victims.len(), 1);
//! assert_eq!(victims[0].process, Process::Backend(12), "12 began later");
//! assert_eq!(victims[0].cycle.len(), 2);
//! ```
//!
//! A lock is had when *all* who are in the way have let go; a connection of a pool when *any* holder gives one
//! back. So a process can never go on if one of the locks that it waits for is held by such a process, or
//! all holders of a connection are such processes: [`Graph::stuck`], the greatest such set.
//!
//! **No false alarm**: the graph is put together from servers that were asked one after the other, so an edge may be
//! over when the next one begins. It is taken twice, and only what is in both counts ([`Graph::in_both`]): the same
//! process in the same wait for the same other. Everybody in a circle of such edges was waiting all the time between
//! the two, so nobody let go of anything, and all edges were there at once.
//!
//! What a server sees by itself it also resolves by itself: circles of its own processes are left out, and so are
//! those of connections alone, which the pool finds ([`crate::pool::stuck`]).

use crate::catalog::NodeId;
use std::collections::{BTreeMap, BTreeSet};

/// Who can wait: a backend of this server, by its process; or somebody on a node who is not ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Process {
    Backend(u32),
    Stranger { node: NodeId, pid: i32 },
}

/// Where somebody waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// For a lock of this server.
    Here,
    /// For a lock of a node.
    Node(NodeId),
    /// For a connection to a node.
    Pool(NodeId),
}

/// One wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    pub waiter: Process,
    pub place: Place,
    /// The process that waits there: on a node, the waiter's session.
    pub pid: i32,
    /// What tells this wait from others of the process: when it began.
    pub since: String,
    /// What it waits for: `ShareLock on transaction 770`.
    pub what: String,
    /// Who is in the way, and as which process there.
    pub blockers: Vec<(Process, i32)>,
}

/// Who waits for whom, at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    waits: Vec<Wait>,
}

/// Who has to give way, and why: each waits for the next, the last for the first, which is the victim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Victim {
    pub process: Process,
    pub cycle: Vec<(Wait, Process)>,
}

impl Victim {
    /// The circle, a line for each wait.
    pub fn story(&self, name_of: impl Fn(NodeId) -> String) -> String {
        let lines = self.cycle.iter().map(|(wait, blocker)| {
            let place = match wait.place {
                Place::Here => String::new(),
                Place::Node(node) => format!(" on node \"{}\"", name_of(node)),
                Place::Pool(node) => format!(" to node \"{}\"", name_of(node)),
            };
            let name = |process: &Process| match process {
                Process::Backend(pid) => format!("rocess {pid}"),
                Process::Stranger { node, pid } => format!("rocess {pid} of node \"{}\"", name_of(*node)),
            };
            format!("P{} waits for {}{place}; blocked by p{}.", name(&wait.waiter), wait.what, name(blocker))
        });
        lines.collect::<Vec<String>>().join("\n")
    }
}

impl Wait {
    fn needs_all(&self) -> bool {
        !matches!(self.place, Place::Pool(_))
    }

    fn is_same(&self, other: &Wait) -> bool {
        (&self.waiter, self.place, self.pid, &self.since, &self.what)
            == (&other.waiter, other.place, other.pid, &other.since, &other.what)
    }

    /// Whether it never ends if these processes never go on.
    fn is_endless(&self, stuck: &BTreeSet<&Process>) -> bool {
        let mut blockers = self.blockers.iter().map(|(blocker, _)| stuck.contains(blocker));
        if self.needs_all() { blockers.any(|b| b) } else { !self.blockers.is_empty() && blockers.all(|b| b) }
    }
}

impl Graph {
    pub fn new(waits: Vec<Wait>) -> Graph {
        Graph { waits }
    }

    /// What is in this graph and in a later one.
    pub fn in_both(&self, later: &Graph) -> Graph {
        let mut waits = Vec::new();
        for wait in &self.waits {
            let Some(again) = later.waits.iter().find(|other| other.is_same(wait)) else { continue };
            let mut wait = wait.clone();
            if wait.needs_all() {
                wait.blockers.retain(|blocker| again.blockers.contains(blocker));
            } else {
                // Any of those could have let go.
                let new = again.blockers.iter().filter(|blocker| !wait.blockers.contains(blocker));
                let new: Vec<_> = new.cloned().collect();
                wait.blockers.extend(new);
            }
            waits.push(wait);
        }
        Graph { waits }
    }

    /// The processes that can never go on.
    pub fn stuck(&self) -> BTreeSet<&Process> {
        let mut stuck: BTreeSet<&Process> = self.waits.iter().map(|wait| &wait.waiter).collect();
        loop {
            let still: BTreeSet<&Process> =
                self.waits.iter().filter(|wait| wait.is_endless(&stuck)).map(|wait| &wait.waiter).collect();
            if still.len() == stuck.len() {
                return stuck;
            }
            stuck = still;
        }
    }

    /// Who has to give way so that all others can go on: of each circle the youngest, by `start_of`, which is
    /// `None` for those that cannot be made to. Circles without anybody that can remain.
    pub fn victims(&self, start_of: impl Fn(&Process) -> Option<i64>) -> Vec<Victim> {
        let mut left = self.without_local_circles();
        let mut victims = Vec::new();
        while let Some(victim) = left.next_victim(&start_of) {
            left.remove(&victim.process);
            victims.push(victim);
        }
        victims
    }

    fn next_victim(&self, start_of: &impl Fn(&Process) -> Option<i64>) -> Option<Victim> {
        let stuck = self.stuck();
        let edges = self.edges(&stuck);
        let mut components = circles(&edges);
        // Those first that wait for nobody outside: resolving them may free the others.
        components.sort_by_key(|circle| {
            circle.iter().any(|process| edges[process].iter().any(|blocker| !circle.contains(blocker)))
        });
        components.into_iter().find_map(|circle| {
            let youngest = circle.iter().filter_map(|p| Some((start_of(p)?, *p))).max()?.1;
            Some(Victim { process: youngest.clone(), cycle: self.cycle_of(youngest, &edges) })
        })
    }

    /// Who of the stuck waits for whom of them.
    fn edges<'a>(&'a self, stuck: &BTreeSet<&'a Process>) -> BTreeMap<&'a Process, BTreeSet<&'a Process>> {
        let mut edges: BTreeMap<&Process, BTreeSet<&Process>> = stuck.iter().map(|p| (*p, BTreeSet::new())).collect();
        for wait in self.waits.iter().filter(|wait| wait.is_endless(stuck)) {
            if let Some(out) = edges.get_mut(&wait.waiter) {
                out.extend(wait.blockers.iter().map(|(blocker, _)| blocker).filter(|b| stuck.contains(b)));
            }
        }
        edges
    }

    /// A shortest way from a process back to itself.
    fn cycle_of(&self, start: &Process, edges: &BTreeMap<&Process, BTreeSet<&Process>>) -> Vec<(Wait, Process)> {
        let mut came_from: BTreeMap<&Process, &Process> = BTreeMap::new();
        let mut queue = std::collections::VecDeque::from([start]);
        while let Some(process) = queue.pop_front() {
            for next in edges.get(process).into_iter().flatten() {
                if !came_from.contains_key(next) {
                    came_from.insert(next, process);
                    queue.push_back(next);
                }
            }
        }
        let mut way = Vec::new();
        let mut at = start;
        while let Some(before) = came_from.get(at) {
            let wait = self.waits.iter().find(|w| w.waiter == **before && w.blockers.iter().any(|(b, _)| b == at));
            way.extend(wait.map(|wait| (wait.clone(), at.clone())));
            at = before;
            if at == start {
                break;
            }
        }
        way.reverse();
        way
    }

    /// The process gives up: it waits for nothing and blocks nobody.
    fn remove(&mut self, process: &Process) {
        self.waits.retain(|wait| wait.waiter != *process);
        for wait in &mut self.waits {
            // Where one holder is enough, there is one now.
            let gave_back = !wait.needs_all() && wait.blockers.iter().any(|(blocker, _)| blocker == process);
            wait.blockers.retain(|(blocker, _)| blocker != process && !gave_back);
        }
        self.waits.retain(|wait| !wait.blockers.is_empty());
    }

    /// Without the waits that are part of a circle within one server, or within the pool.
    fn without_local_circles(&self) -> Graph {
        let mut edges: BTreeMap<(Place, i32), BTreeSet<(Place, i32)>> = BTreeMap::new();
        for wait in self.waits.iter().filter(|wait| wait.needs_all()) {
            let blockers = wait.blockers.iter().map(|(_, pid)| (wait.place, *pid));
            edges.entry((wait.place, wait.pid)).or_default().extend(blockers);
        }
        let borrowed: BTreeMap<&(Place, i32), BTreeSet<&(Place, i32)>> =
            edges.iter().map(|(from, to)| (from, to.iter().filter(|to| edges.contains_key(to)).collect())).collect();
        let local: BTreeSet<(Place, i32)> = circles(&borrowed).into_iter().flatten().copied().collect();
        let pools = Graph { waits: self.waits.iter().filter(|wait| !wait.needs_all()).cloned().collect() };
        let in_pools = pools.stuck();
        let counts = |wait: &&Wait| match wait.needs_all() {
            true => !local.contains(&(wait.place, wait.pid)),
            false => !in_pools.contains(&wait.waiter),
        };
        Graph { waits: self.waits.iter().filter(counts).cloned().collect() }
    }
}

/// The strongly connected components in which one can go round. Targets of edges must be keys.
fn circles<'a, T: Ord>(edges: &BTreeMap<&'a T, BTreeSet<&'a T>>) -> Vec<BTreeSet<&'a T>> {
    let reach = |start: &'a T| {
        let mut seen: BTreeSet<&'a T> = BTreeSet::new();
        let mut todo: Vec<&'a T> = edges[start].iter().copied().collect();
        while let Some(next) = todo.pop() {
            if seen.insert(next) {
                todo.extend(edges[next].iter().copied());
            }
        }
        seen
    };
    let reached: BTreeMap<&'a T, BTreeSet<&'a T>> = edges.keys().map(|key| (*key, reach(key))).collect();
    let mut found: Vec<BTreeSet<&'a T>> = Vec::new();
    for (key, from_key) in &reached {
        if from_key.contains(key) && !found.iter().any(|circle| circle.contains(key)) {
            found.push(from_key.iter().filter(|other| reached[**other].contains(key)).copied().collect());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn backend(pid: u32) -> Process {
        Process::Backend(pid)
    }

    fn wait(waiter: u32, place: Place, blockers: &[u32]) -> Wait {
        let offset = match place {
            Place::Here => 0,
            Place::Node(node) | Place::Pool(node) => node.0 as i32 * 100,
        };
        Wait {
            waiter: backend(waiter),
            place,
            pid: waiter as i32 + offset,
            since: "1".into(),
            what: "a lock".into(),
            blockers: blockers.iter().map(|b| (backend(*b), *b as i32 + offset)).collect(),
        }
    }

    const N1: Place = Place::Node(NodeId(1));
    const N2: Place = Place::Node(NodeId(2));
    const N3: Place = Place::Node(NodeId(3));

    fn by_pid(process: &Process) -> Option<i64> {
        match process {
            Process::Backend(pid) => Some(i64::from(*pid)),
            Process::Stranger { .. } => None,
        }
    }

    fn victims(waits: Vec<Wait>) -> Vec<Process> {
        Graph::new(waits).victims(by_pid).into_iter().map(|victim| victim.process).collect()
    }

    #[test]
    fn a_circle_over_three_nodes_is_described_from_the_victim_on() {
        let graph = Graph::new(vec![wait(1, N1, &[2]), wait(2, N2, &[3]), wait(3, N3, &[1]), wait(4, N1, &[1])]);
        let victims = graph.victims(by_pid);
        assert_eq!(victims.len(), 1);
        let way: Vec<_> = victims[0].cycle.iter().map(|(wait, to)| (wait.waiter.clone(), to.clone())).collect();
        assert_eq!(way, [(backend(3), backend(1)), (backend(1), backend(2)), (backend(2), backend(3))]);
        let story = victims[0].story(|node| format!("n{}", node.0));
        assert_eq!(story.lines().next(), Some("Process 3 waits for a lock on node \"n3\"; blocked by process 1."));
    }

    #[test]
    fn a_server_resolves_its_own_circles() {
        assert!(victims(vec![wait(1, N1, &[2]), wait(2, N1, &[1])]).is_empty());
        assert_eq!(victims(vec![wait(1, N1, &[2]), wait(2, Place::Here, &[1])]), [backend(2)]);
    }

    #[test]
    fn a_connection_is_waited_for_as_long_as_all_holders_are_stuck() {
        let pool = Place::Pool(NodeId(2));
        assert!(victims(vec![wait(1, pool, &[2, 3]), wait(2, N1, &[1])]).is_empty(), "3 works");
        assert_eq!(victims(vec![wait(1, pool, &[2, 3]), wait(2, N1, &[1]), wait(3, N1, &[1])]), [backend(3)]);
        let other = Place::Pool(NodeId(1));
        assert!(victims(vec![wait(1, pool, &[2]), wait(2, other, &[1])]).is_empty(), "the pool sees it");
    }

    #[test]
    fn who_cannot_give_way_is_spared() {
        let graph = Graph::new(vec![wait(1, N1, &[2]), wait(2, N2, &[1])]);
        let only_the_elder = |process: &Process| by_pid(process).filter(|pid| *pid == 1);
        assert_eq!(graph.victims(only_the_elder)[0].process, backend(1));
        assert!(graph.victims(|_| None).is_empty());
    }

    #[test]
    fn strangers_on_a_node_are_part_of_circles() {
        let stranger = Process::Stranger { node: NodeId(1), pid: 9 };
        let mut first = wait(1, N1, &[]);
        first.blockers.push((stranger.clone(), 9));
        let second = Wait { waiter: stranger, pid: 9, ..wait(9, N1, &[2]) };
        assert_eq!(victims(vec![first, second, wait(2, N2, &[1])]), [backend(2)]);
    }

    #[test]
    fn an_edge_that_was_seen_once_does_not_count() {
        let first = Graph::new(vec![wait(1, N1, &[2]), wait(2, N2, &[1])]);
        let mut later = wait(2, N2, &[1]);
        later.since = "2".into();
        let second = Graph::new(vec![wait(1, N1, &[2]), later]);
        assert_eq!(second.victims(by_pid).len(), 1, "alone it looks like one");
        assert!(first.in_both(&second).victims(by_pid).is_empty());
        let moved = Graph::new(vec![wait(1, N1, &[3]), wait(2, N2, &[1])]);
        assert!(first.in_both(&moved).victims(by_pid).is_empty());
        assert_eq!(first.in_both(&first.clone()).victims(by_pid).len(), 1);
    }

    fn any_graph() -> impl Strategy<Value = Graph> {
        let place = prop_oneof![Just(Place::Here), Just(N1), Just(N2), Just(Place::Pool(NodeId(3)))];
        let one = (0..8u32, place, proptest::collection::btree_set(0..8u32, 1..4));
        proptest::collection::vec(one, 0..12).prop_map(|all| {
            let mut waits: Vec<Wait> = Vec::new();
            for (waiter, place, blockers) in all {
                // A process waits for one thing at a place.
                if waits.iter().all(|w| (&w.waiter, w.place) != (&backend(waiter), place)) {
                    waits.push(wait(waiter, place, &blockers.into_iter().filter(|b| *b != waiter).collect::<Vec<_>>()));
                }
            }
            waits.retain(|wait| !wait.blockers.is_empty());
            Graph::new(waits)
        })
    }

    /// Lets everybody go on who can, until nobody can.
    fn left_waiting(graph: &Graph) -> BTreeSet<Process> {
        let mut waits = graph.waits.clone();
        loop {
            let waiting: BTreeSet<Process> = waits.iter().map(|wait| wait.waiter.clone()).collect();
            let before = waits.len();
            waits.retain(|wait| {
                let free = wait.blockers.iter().filter(|(blocker, _)| !waiting.contains(blocker)).count();
                if wait.needs_all() { free < wait.blockers.len() } else { free == 0 }
            });
            if waits.len() == before {
                return waiting;
            }
        }
    }

    proptest! {
        #[test]
        fn stuck_are_those_whom_no_order_of_events_helps(graph in any_graph()) {
            let stuck: BTreeSet<Process> = graph.stuck().into_iter().cloned().collect();
            prop_assert_eq!(stuck, left_waiting(&graph));
        }

        #[test]
        fn victims_are_in_circles_and_none_is_left(graph in any_graph()) {
            let mut left = graph.without_local_circles();
            for victim in graph.victims(by_pid) {
                prop_assert!(left.stuck().contains(&victim.process));
                let cycle = &victim.cycle;
                prop_assert_eq!(&cycle[0].0.waiter, &victim.process);
                prop_assert_eq!(&cycle[cycle.len() - 1].1, &victim.process);
                for pair in cycle.windows(2) {
                    prop_assert_eq!(&pair[0].1, &pair[1].0.waiter);
                }
                for (wait, blocker) in cycle {
                    // Earlier victims block nobody any more.
                    let seen = graph.waits.iter().find(|seen| seen.is_same(wait));
                    prop_assert!(seen.is_some_and(|seen| wait.blockers.iter().all(|b| seen.blockers.contains(b))));
                    prop_assert!(wait.blockers.iter().any(|(b, _)| b == blocker));
                }
                left.remove(&victim.process);
            }
            prop_assert!(left.stuck().is_empty());
        }

        #[test]
        fn without_a_circle_there_is_no_victim(graph in any_graph()) {
            // Only waits for those that began earlier: no circle.
            let mut waits = graph.waits.clone();
            for wait in &mut waits {
                let waiter = wait.waiter.clone();
                wait.blockers.retain(|(blocker, _)| *blocker < waiter);
            }
            waits.retain(|wait| !wait.blockers.is_empty());
            prop_assert!(Graph::new(waits).victims(by_pid).is_empty());
        }

        #[test]
        fn what_is_in_both_is_in_each(first in any_graph(), second in any_graph()) {
            let both = first.in_both(&second);
            for process in both.without_local_circles().stuck() {
                prop_assert!(first.stuck().contains(process) && second.stuck().contains(process));
            }
        }
    }
}
