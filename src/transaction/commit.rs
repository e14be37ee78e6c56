//! How a transaction commits: in no, one or two phases.
//!
//! Only writing sides count. One of them alone decides by itself; two or more need to agree, and
//! the coordinator's own commit record (with its row in `sharding.transaction`) is the decision.
//!
//! ```
//! use sharding::transaction::commit::{CommitPlan, plan_commit};
//! assert_eq!(plan_commit(&[false, true], false), CommitPlan::OnePhase { writer: 1 });
//! assert_eq!(plan_commit(&[true], true), CommitPlan::TwoPhase { writers: vec![0] });
//! ```

/// What to do on the nodes before the local commit. Nodes that are not named have only read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommitPlan {
    /// Nobody wrote: every node is told to commit, whatever comes of it.
    ReadOnly,
    /// Node `writer` (an index) commits and thereby decides.
    OnePhase { writer: usize },
    /// Nodes `writers` prepare; the local commit decides.
    TwoPhase { writers: Vec<usize> },
}

/// The plan for nodes of which `written[i]` says whether node `i` wrote.
pub fn plan_commit(written: &[bool], local_wrote: bool) -> CommitPlan {
    let writers: Vec<usize> = (0..written.len()).filter(|i| written[*i]).collect();
    match writers[..] {
        [] => CommitPlan::ReadOnly,
        [writer] if !local_wrote => CommitPlan::OnePhase { writer },
        _ => CommitPlan::TwoPhase { writers },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_write_counts_only_beside_a_remote_one() {
        assert_eq!(plan_commit(&[], true), CommitPlan::ReadOnly);
        assert_eq!(plan_commit(&[false, false], true), CommitPlan::ReadOnly);
        assert_eq!(plan_commit(&[true, false], false), CommitPlan::OnePhase { writer: 0 });
        assert_eq!(plan_commit(&[true, false], true), CommitPlan::TwoPhase { writers: vec![0] });
        assert_eq!(plan_commit(&[true, false, true], false), CommitPlan::TwoPhase { writers: vec![0, 2] });
    }
}
