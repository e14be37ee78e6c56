//! All anomalies of a history, each kind with the transactions that show it.

use super::cycle::{Cycle, Rule, cycles};
use super::graph::{Edge, Graph};
use super::reads::Known;
use super::{Anomaly, History, Kind};

/// Writes alone.
const DIRTY_WRITE: Rule = Rule { fits: |edge| edge == Edge::Ww, first: Edge::Ww, next: |_, _| true, last: |_| true };
/// Writes and what was read of them.
const CIRCULAR_INFORMATION: Rule =
    Rule { fits: |edge| matches!(edge, Edge::Ww | Edge::Wr), first: Edge::Wr, ..DIRTY_WRITE };
/// Any, with one rw edge at least.
const WRITE_SKEW: Rule = Rule { fits: |edge| edge != Edge::Time, first: Edge::Rw, ..DIRTY_WRITE };
/// With one rw edge.
const READ_SKEW: Rule = Rule { next: |_, next| next != Edge::Rw, ..WRITE_SKEW };
/// With rw edges that are apart: snapshot isolation is that there is none (Cerone and Gotsman 2018).
const LONG_FORK: Rule =
    Rule { next: |a, b| a != Edge::Rw || b != Edge::Rw, last: |edge| edge != Edge::Rw, ..WRITE_SKEW };
/// The same, over time.
const STALE_READ: Rule = Rule { fits: |_| true, ..LONG_FORK };

/// What should not be, worst first. A component of the graph is reported as the worst kind of cycle that there is.
pub fn anomalies(history: &History) -> Vec<Anomaly> {
    let known = Known::of(history);
    let graph = Graph::of(&known);
    let mut found = known.anomalies();
    let mut report = |kind: Kind, rule: Rule| {
        let cycles = cycles(&graph, rule);
        let none = cycles.is_empty();
        found.extend(cycles.into_iter().map(|cycle| Anomaly { kind, story: story(history, &cycle) }));
        none
    };
    report(Kind::DirtyWrite, DIRTY_WRITE);
    report(Kind::CircularInformation, CIRCULAR_INFORMATION);
    // What follows is a less strict rule than the one before it: it would find the same again.
    if report(Kind::ReadSkew, READ_SKEW) && report(Kind::LongFork, LONG_FORK) {
        report(Kind::StaleRead, STALE_READ);
        report(Kind::WriteSkew, WRITE_SKEW);
    }
    found.sort_by_key(|anomaly| anomaly.kind);
    found
}

fn story(history: &History, cycle: &Cycle) -> String {
    let mut text = String::new();
    for (t, edge) in cycle {
        text.push_str(&format!("T{t} -{}-> ", format!("{edge:?}").to_lowercase()));
    }
    text.push_str(&format!("T{}", cycle[0].0));
    for (t, _) in cycle {
        text.push_str(&format!("\n  T{t}: {:?}", history.transactions[*t]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Outcome, Transaction, Value};

    fn t(process: usize) -> Transaction {
        // All at the same time.
        Transaction::committed(process, [1, 2])
    }

    fn kinds<const N: usize>(transactions: Vec<Transaction>, finals: [(i32, &[Value]); N]) -> Vec<Kind> {
        let finals = finals.into_iter().map(|(key, values)| (key, values.to_vec())).collect();
        let mut kinds: Vec<Kind> =
            anomalies(&History { transactions, finals }).into_iter().map(|anomaly| anomaly.kind).collect();
        kinds.dedup();
        kinds
    }

    #[test]
    fn a_serial_history_is_right() {
        let transactions = vec![
            t(0).write(1, 1).write(2, 1),
            t(1).read(1, &[1]).write(1, 2).read(1, &[1, 2]),
            t(2).read(1, &[1, 2]).read(2, &[1]),
            t(3).write(1, 9).but(Outcome::Aborted),
            t(3).write(1, 8).but(Outcome::Unknown),
        ];
        assert_eq!(kinds(transactions, [(1, &[1, 2]), (2, &[1])]), []);
    }

    #[test]
    fn interleaved_writes_are_dirty_ones() {
        let transactions = vec![t(0).write(1, 1).write(2, 1), t(1).write(1, 2).write(2, 2)];
        assert_eq!(kinds(transactions, [(1, &[1, 2]), (2, &[2, 1])]), [Kind::DirtyWrite]);
    }

    #[test]
    fn what_is_not_committed_must_not_be_seen() {
        let aborted = t(0).write(1, 1).but(Outcome::Aborted);
        assert_eq!(kinds(vec![aborted, t(1).read(1, &[1])], [(1, &[])]), [Kind::AbortedRead]);
        let aborted = t(0).write(1, 1).but(Outcome::Aborted);
        assert_eq!(kinds(vec![aborted], [(1, &[1])]), [Kind::AbortedRead]);
        let twice = t(0).write(1, 1).write(1, 2);
        let found = kinds(vec![twice.clone(), t(1).read(1, &[1])], [(1, &[1, 2])]);
        assert!(found.contains(&Kind::IntermediateRead), "{found:?}");
        let found = kinds(vec![twice.clone(), t(1).read_register(1, Some(1))], [(1, &[1, 2])]);
        assert!(found.contains(&Kind::IntermediateRead), "{found:?}");
        assert_eq!(kinds(vec![twice, t(1).read_register(1, Some(2))], [(1, &[1, 2])]), []);
        // Each has seen the other.
        let transactions = vec![t(0).write(1, 1).read(2, &[1]), t(1).write(2, 1).read(1, &[1])];
        assert_eq!(kinds(transactions, [(1, &[1]), (2, &[1])]), [Kind::CircularInformation]);
    }

    #[test]
    fn what_is_committed_must_be_there() {
        assert_eq!(kinds(vec![t(0).write(1, 1)], [(1, &[])]), [Kind::LostWrite]);
        let half = t(0).write(1, 1).write(2, 1).but(Outcome::Unknown);
        assert_eq!(kinds(vec![half], [(1, &[1]), (2, &[])]), [Kind::Torn]);
        assert_eq!(kinds(vec![t(0).read(1, &[7])], [(1, &[])]), [Kind::Garbage]);
        assert_eq!(kinds(vec![t(0).write(1, 1).read(1, &[])], [(1, &[1])]), [Kind::Internal]);
        let order = vec![t(0).write(1, 1), t(1).write(1, 2), t(2).read(1, &[2, 1])];
        assert!(kinds(order, [(1, &[1, 2])]).contains(&Kind::Garbage));
    }

    #[test]
    fn both_update_what_both_have_read() {
        let transactions = vec![t(0).read_register(1, None).write(1, 1), t(1).read_register(1, None).write(1, 2)];
        assert_eq!(kinds(transactions, [(1, &[1, 2])]), [Kind::LostUpdate, Kind::ReadSkew]);
    }

    #[test]
    fn half_of_a_transaction_is_read_skew() {
        let transfer = t(0).write(1, 1).write(2, 1);
        let fractured = [Kind::FracturedRead, Kind::ReadSkew];
        let transactions = vec![transfer.clone(), t(1).read(1, &[1]).read(2, &[])];
        assert_eq!(kinds(transactions, [(1, &[1]), (2, &[1])]), fractured);
        let transactions = vec![transfer.clone(), t(1).read(2, &[]).read(1, &[1])];
        assert_eq!(kinds(transactions, [(1, &[1]), (2, &[1])]), fractured);
        // What came after it is seen, too.
        let transactions = vec![transfer, t(2).write(1, 2), t(1).read(1, &[1, 2]).read(2, &[])];
        assert_eq!(kinds(transactions, [(1, &[1, 2]), (2, &[1])]), fractured);
        // By a chain of single writes: skewed, but no transaction is halved.
        let transactions = vec![t(0).write(1, 1), t(1).read(1, &[1]).write(2, 1), t(2).read(1, &[]).read(2, &[1])];
        assert_eq!(kinds(transactions, [(1, &[1]), (2, &[1])]), [Kind::ReadSkew]);
        // The same key twice.
        let transactions = vec![t(0).write(1, 1), t(1).read(1, &[]).read(1, &[1])];
        assert_eq!(kinds(transactions, [(1, &[1])]), [Kind::ReadSkew]);
    }

    #[test]
    fn readers_that_disagree_about_the_order_are_a_long_fork() {
        let transactions =
            vec![t(0).write(1, 1), t(1).write(2, 1), t(2).read(1, &[1]).read(2, &[]), t(3).read(1, &[]).read(2, &[1])];
        assert_eq!(kinds(transactions, [(1, &[1]), (2, &[1])]), [Kind::LongFork]);
    }

    #[test]
    fn each_overlooks_the_other_in_write_skew() {
        let transactions = vec![t(0).read(1, &[]).write(2, 1), t(1).read(2, &[]).write(1, 1)];
        assert_eq!(kinds(transactions, [(1, &[1]), (2, &[1])]), [Kind::WriteSkew]);
    }

    #[test]
    fn what_had_ended_must_be_seen() {
        let write = Transaction::committed(0, [1, 2]).write(1, 1);
        let read = |time| Transaction::committed(1, time).read(1, &[]);
        assert_eq!(kinds(vec![write.clone(), read([3, 4])], [(1, &[1])]), [Kind::StaleRead]);
        assert_eq!(kinds(vec![write.clone(), read([2, 4])], [(1, &[1])]), []);
        // By way of a third one.
        let other = Transaction::committed(2, [3, 4]).write(2, 1);
        let blind = Transaction::committed(1, [5, 6]).read(2, &[1]).read(1, &[]);
        assert_eq!(kinds(vec![write, other, blind], [(1, &[1]), (2, &[1])]), [Kind::StaleRead]);
    }

    #[test]
    fn statements_are_looked_at_one_by_one() {
        let reader = t(1).read(1, &[1]).read(2, &[]);
        let history = History {
            transactions: vec![t(0).write(1, 1).write(2, 1), reader],
            finals: [(1, vec![1]), (2, vec![1])].into(),
        };
        assert!(!anomalies(&history).is_empty());
        assert_eq!(anomalies(&history.by_statement()), []);
    }
}
