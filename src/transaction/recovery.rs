//! What becomes of prepared transactions whose coordinator backend is gone: presumed abort.
//!
//! The coordinator's row in `sharding.transaction` commits together with its local transaction, so
//! for a transaction that is not in progress: row there, decided to commit; no row, never decided.
//! In which order facts are gathered matters:
//!
//! 1. the log, for step 4
//! 2. the prepared transactions of each node
//! 3. for each: is its xid in progress here? then leave it. Only then look for its row *anew*
//! 4. a row of step 1 may go if every one of its nodes was asked in 2 and has nothing left of it

use std::collections::HashSet;

/// What to do with a prepared transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its backend is at work.
    Leave,
    Commit,
    Rollback,
}

/// The verdict; `logged` is asked only once the transaction is known not to be in progress.
pub fn verdict<E>(in_progress: bool, logged: impl FnOnce() -> Result<bool, E>) -> Result<Verdict, E> {
    if in_progress {
        return Ok(Verdict::Leave);
    }
    Ok(if logged()? { Verdict::Commit } else { Verdict::Rollback })
}

/// A row of `sharding.transaction`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRow {
    pub gid: String,
    pub nodes: Vec<String>,
}

/// What is known of the nodes after they were asked.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// Nodes that are in the cluster.
    pub known: HashSet<String>,
    /// Nodes that answered.
    pub reached: HashSet<String>,
    /// Log names of transactions that some node still has prepared.
    pub unresolved: HashSet<String>,
}

/// Whether no node can ask any more what became of the transaction of this row, which was in the
/// log before the survey began. A node that has left the cluster does not hold up the row.
pub fn is_settled(row: &LogRow, survey: &Survey) -> bool {
    !survey.unresolved.contains(&row.gid)
        && row.nodes.iter().all(|node| survey.reached.contains(node) || !survey.known.contains(node))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> HashSet<String> {
        names.iter().map(|n| n.to_string()).collect()
    }

    #[test]
    fn a_row_stays_until_all_its_nodes_have_nothing_left() {
        let row = LogRow { gid: "g".into(), nodes: vec!["a".into(), "b".into()] };
        let mut survey = Survey { known: set(&["a", "b"]), reached: set(&["a"]), unresolved: set(&[]) };
        assert!(!is_settled(&row, &survey), "b was not reached");
        survey.reached = set(&["a", "b"]);
        assert!(is_settled(&row, &survey));
        survey.unresolved = set(&["g"]);
        assert!(!is_settled(&row, &survey));
        survey = Survey { known: set(&["a"]), reached: set(&["a"]), unresolved: set(&[]) };
        assert!(is_settled(&row, &survey), "b is no node any more");
    }

    /// A two-phase commit over two nodes that dies after any number of its steps, then recovery,
    /// which may itself reach only one node the first time: both end alike, and as the log says.
    #[test]
    fn a_crash_at_any_step_leaves_all_or_nothing() {
        #[derive(Clone, Copy, PartialEq, Debug)]
        enum Node {
            Open,
            Prepared,
            Committed,
            Undone,
        }
        let steps = ["prepare a", "prepare b", "decide", "commit a", "commit b"];
        for crash in 0..=steps.len() {
            for reached_first in 0..3 {
                let mut nodes = [Node::Open; 2];
                let mut logged = false;
                for step in &steps[..crash] {
                    match *step {
                        "prepare a" => nodes[0] = Node::Prepared,
                        "prepare b" => nodes[1] = Node::Prepared,
                        "decide" => logged = true,
                        "commit a" => nodes[0] = Node::Committed,
                        _ => nodes[1] = Node::Committed,
                    }
                }
                for node in &mut nodes {
                    if *node == Node::Open {
                        *node = Node::Undone;
                    }
                }
                let decided = logged;
                for round in 0..2 {
                    let reach = |i: usize| round == 1 || reached_first == 2 || reached_first == i;
                    let row = LogRow { gid: "g".into(), nodes: vec!["a".into(), "b".into()] };
                    let mut survey = Survey { known: set(&["a", "b"]), ..Survey::default() };
                    for (i, name) in ["a", "b"].into_iter().enumerate() {
                        if !reach(i) {
                            continue;
                        }
                        survey.reached.insert(name.into());
                        if nodes[i] == Node::Prepared {
                            let verdict = verdict::<()>(false, || Ok(logged)).unwrap();
                            nodes[i] = if verdict == Verdict::Commit { Node::Committed } else { Node::Undone };
                        }
                    }
                    if logged && is_settled(&row, &survey) {
                        logged = false;
                    }
                }
                let expected = if decided { Node::Committed } else { Node::Undone };
                assert_eq!(nodes, [expected; 2], "crash after {crash} steps");
            }
        }
    }

    #[test]
    fn the_log_is_not_asked_about_a_transaction_in_progress() {
        let verdict = verdict::<&str>(true, || Err("asked"));
        assert_eq!(verdict, Ok(Verdict::Leave));
    }
}
