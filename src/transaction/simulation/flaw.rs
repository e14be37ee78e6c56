//! Mistakes that a commit protocol can make, to be built in: each must be caught.

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The last vote is taken for granted.
    DecideBeforeLastVote,
    /// A lost vote is taken for a yes.
    LostVoteIsYes,
    /// Nodes are told to commit before the decision is on disk.
    TellBeforeFlush,
    /// The client is told of the commit before the decision is on disk.
    AcknowledgeBeforeFlush,
    /// The row goes with the first confirmation.
    ForgetAtFirstAnswer,
    /// A node that does not answer is taken to have confirmed.
    SilenceIsConsent,
    /// After a failed COMMIT PREPARED the others are rolled back.
    RollBackAfterDecision,
    /// Recovery looks for the row, then whether the transaction is in progress.
    LogBeforeProgress,
    /// Recovery does not care whether the transaction is in progress.
    IgnoreProgress,
    /// Recovery deletes rows although it has not reached all of their nodes.
    SettleUnreached,
    /// Recovery deletes rows that came after it asked the nodes.
    SettleNewRows,
    /// Prepared transactions are named by the xid alone, which a crash may give out again.
    NoNonce,
    /// Recovery takes all prepared transactions for its own.
    TakeAll,
}

impl Flaw {
    pub const ALL: [Flaw; 13] = [
        Flaw::DecideBeforeLastVote,
        Flaw::LostVoteIsYes,
        Flaw::TellBeforeFlush,
        Flaw::AcknowledgeBeforeFlush,
        Flaw::ForgetAtFirstAnswer,
        Flaw::SilenceIsConsent,
        Flaw::RollBackAfterDecision,
        Flaw::LogBeforeProgress,
        Flaw::IgnoreProgress,
        Flaw::SettleUnreached,
        Flaw::SettleNewRows,
        Flaw::NoNonce,
        Flaw::TakeAll,
    ];
}
