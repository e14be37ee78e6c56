//! One two-phase commit as a state machine: what has happened goes in, what to do comes out.
//!
//! ```text
//!            Start            all vote yes,         Committed                 all have answered
//!                             row written
//!  Working -------> Voting ---------------> Ready ------------> Committing -------------------> Over
//!                     | a no, no answer       |                                                  ^
//!                     v                       v  RolledBack                                      |
//!                   Doomed -----------------> +-------------> RollingBack -----------------------+
//! ```
//!
//! The decision is the local transaction's own commit, which makes its row in `sharding.transaction` visible:
//! before it, every end is a rollback; after it, none. Whoever decides ([`Action::Decide`]) has the word
//! of all participants that they can do either. A participant that may be prepared is told the
//! outcome, also if nobody heard its vote; those who cannot be told are left to recovery
//! ([`crate::transaction::recovery`]), which finds the row or, by its absence, that there never was one.
//!
//! The machine neither sends nor waits: `pg::two_phase` does, and `simulation` does in its place. Events that come
//! late or twice change nothing.
//!
//! ```
//! use sharding::transaction::protocol::{Action, Answer, Event, Protocol, Vote};
//! let mut commit = Protocol::new(2);
//! assert_eq!(commit.step(Event::Start), [Action::Prepare(0), Action::Prepare(1), Action::WriteRow]);
//! for event in [Event::Asked(0), Event::Asked(1), Event::RowWritten, Event::Voted(1, Vote::Yes)] {
//!     assert_eq!(commit.step(event), []);
//! }
//! assert_eq!(commit.step(Event::Voted(0, Vote::Yes)), [Action::Decide]);
//! assert_eq!(commit.step(Event::Committed), [Action::CommitPrepared(0), Action::CommitPrepared(1)]);
//! assert_eq!(commit.step(Event::Answered(0, Answer::Done)), []);
//! assert_eq!(commit.step(Event::Answered(1, Answer::Done)), [Action::ForgetRow]);
//! ```

/// What has happened. Participants are numbered from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The local transaction is about to commit.
    Start,
    /// PREPARE TRANSACTION may be on its way to the participant from now on.
    Asked(usize),
    /// The row is written as part of the local transaction.
    RowWritten,
    /// The answer to PREPARE TRANSACTION.
    Voted(usize, Vote),
    /// The local transaction has committed: on disk, and visible to others.
    Committed,
    /// The local transaction has rolled back, for whatever reason.
    RolledBack,
    /// The answer to COMMIT PREPARED or ROLLBACK PREPARED.
    Answered(usize, Answer),
}

/// What a participant says to PREPARE TRANSACTION.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vote {
    /// It is prepared.
    Yes,
    /// It has rolled back.
    No,
    /// The answer is lost: it is, or will be, one or the other.
    Unknown,
}

/// What a participant says to COMMIT PREPARED or ROLLBACK PREPARED.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Done,
    /// It has no such prepared transaction: recovery was faster, or it was never prepared.
    Gone,
    /// Recovery is at it, and may fail: to be asked again.
    Busy,
    /// Something else, or nothing, in time.
    Silent,
}

/// What to do next, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send PREPARE TRANSACTION.
    Prepare(usize),
    /// Write the row as part of the local transaction.
    WriteRow,
    /// Let the local transaction commit.
    Decide,
    /// Fail the local transaction for this participant's vote.
    Fail(usize),
    CommitPrepared(usize),
    RollbackPrepared(usize),
    /// Send ROLLBACK: it was not asked to prepare.
    Rollback(usize),
    /// All have confirmed the commit: the row may be deleted.
    ForgetRow,
    /// Not all have confirmed, see [`Protocol::unconfirmed`]; recovery will see to it.
    Report,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Working,
    Voting,
    /// Somebody cannot commit: what is left is the rollback.
    Doomed,
    /// Everybody can: only the local transaction's end is missing.
    Ready,
    Committing,
    RollingBack,
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Party {
    Working,
    Asked,
    Prepared,
    /// Its vote is lost.
    Doubtful,
    /// Has rolled back by itself.
    Undone,
    /// Knows the outcome, if the message arrives.
    Told,
    Confirmed,
    Silent,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Protocol {
    phase: Phase,
    parties: Vec<Party>,
    row_written: bool,
}

impl Protocol {
    /// A commit over so many participants, each with an open transaction.
    pub fn new(participants: usize) -> Protocol {
        Protocol { phase: Phase::Working, parties: vec![Party::Working; participants], row_written: false }
    }

    /// Takes note of an event and says what to do about it.
    pub fn step(&mut self, event: Event) -> Vec<Action> {
        match (self.phase, event) {
            (Phase::Working, Event::Start) => {
                self.phase = Phase::Voting;
                (0..self.parties.len()).map(Action::Prepare).chain([Action::WriteRow]).collect()
            }
            (_, Event::Asked(i)) => {
                self.advance(i, Party::Working, Party::Asked);
                vec![]
            }
            (Phase::Voting, Event::RowWritten) => {
                self.row_written = true;
                self.decide_if_ready()
            }
            (Phase::Voting | Phase::Doomed, Event::Voted(i, vote)) => self.voted(i, vote),
            (Phase::Ready, Event::Committed) => {
                self.phase = Phase::Committing;
                self.tell(Action::CommitPrepared)
            }
            (Phase::Working | Phase::Voting | Phase::Doomed | Phase::Ready, Event::RolledBack) => {
                self.phase = Phase::RollingBack;
                let mut actions = self.tell(Action::RollbackPrepared);
                actions.extend(self.end_if_answered());
                actions
            }
            (Phase::Committing, Event::Answered(i, Answer::Busy)) => self.again(i, Action::CommitPrepared(i)),
            (Phase::RollingBack, Event::Answered(i, Answer::Busy)) => self.again(i, Action::RollbackPrepared(i)),
            (Phase::Committing | Phase::RollingBack, Event::Answered(i, answer)) => {
                let party = if answer == Answer::Silent { Party::Silent } else { Party::Confirmed };
                self.advance(i, Party::Told, party);
                self.end_if_answered()
            }
            _ => vec![],
        }
    }

    /// The participants that have not confirmed the outcome.
    pub fn unconfirmed(&self) -> impl Iterator<Item = usize> {
        (0..self.parties.len()).filter(|i| matches!(self.parties[*i], Party::Told | Party::Silent))
    }

    fn advance(&mut self, participant: usize, from: Party, to: Party) -> bool {
        let party = self.parties.get_mut(participant).filter(|party| **party == from);
        party.map(|party| *party = to).is_some()
    }

    fn voted(&mut self, participant: usize, vote: Vote) -> Vec<Action> {
        let party = match vote {
            Vote::Yes => Party::Prepared,
            Vote::No => Party::Undone,
            Vote::Unknown => Party::Doubtful,
        };
        if !self.advance(participant, Party::Asked, party) || self.phase == Phase::Doomed {
            return vec![];
        }
        if vote == Vote::Yes {
            return self.decide_if_ready();
        }
        self.phase = Phase::Doomed;
        vec![Action::Fail(participant)]
    }

    fn decide_if_ready(&mut self) -> Vec<Action> {
        if !self.row_written || self.parties.iter().any(|party| *party != Party::Prepared) {
            return vec![];
        }
        self.phase = Phase::Ready;
        vec![Action::Decide]
    }

    /// Tells the outcome to all who may be prepared, and to those who were never asked to forget it.
    fn tell(&mut self, how: impl Fn(usize) -> Action) -> Vec<Action> {
        let mut actions = Vec::new();
        for (i, party) in self.parties.iter_mut().enumerate() {
            match party {
                Party::Asked | Party::Prepared | Party::Doubtful => {
                    *party = Party::Told;
                    actions.push(how(i));
                }
                Party::Working => {
                    *party = Party::Undone;
                    actions.push(Action::Rollback(i));
                }
                Party::Undone | Party::Told | Party::Confirmed | Party::Silent => {}
            }
        }
        actions
    }

    fn again(&self, participant: usize, action: Action) -> Vec<Action> {
        if self.parties.get(participant) == Some(&Party::Told) { vec![action] } else { vec![] }
    }

    fn end_if_answered(&mut self) -> Vec<Action> {
        if self.phase == Phase::Over || self.parties.contains(&Party::Told) {
            return vec![];
        }
        let committed = self.phase == Phase::Committing;
        self.phase = Phase::Over;
        match self.parties.contains(&Party::Silent) {
            true => vec![Action::Report],
            false if committed => vec![Action::ForgetRow],
            false => vec![],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(parties: usize) -> Protocol {
        let mut commit = Protocol::new(parties);
        commit.step(Event::Start);
        (0..parties).for_each(|i| assert_eq!(commit.step(Event::Asked(i)), []));
        commit
    }

    #[test]
    fn nothing_is_decided_before_all_votes_and_the_row_are_there() {
        let mut commit = started(2);
        assert_eq!(commit.step(Event::Voted(0, Vote::Yes)), []);
        assert_eq!(commit.step(Event::Voted(0, Vote::Yes)), [], "twice is once");
        assert_eq!(commit.step(Event::Voted(1, Vote::Yes)), []);
        assert_eq!(commit.step(Event::Committed), [], "not asked for");
        assert_eq!(commit.step(Event::RowWritten), [Action::Decide]);
        assert_eq!(commit.step(Event::RowWritten), []);
    }

    #[test]
    fn one_no_is_enough_and_only_who_may_be_prepared_is_told() {
        let mut commit = Protocol::new(4);
        commit.step(Event::Start);
        (0..3).for_each(|i| drop(commit.step(Event::Asked(i))));
        assert_eq!(commit.step(Event::Voted(1, Vote::No)), [Action::Fail(1)]);
        assert_eq!(commit.step(Event::Voted(2, Vote::Unknown)), []);
        assert_eq!(commit.step(Event::RowWritten), []);
        let told = [Action::RollbackPrepared(0), Action::RollbackPrepared(2), Action::Rollback(3)];
        assert_eq!(commit.step(Event::RolledBack), told);
        assert_eq!(commit.step(Event::RolledBack), []);
        assert_eq!(commit.step(Event::Voted(0, Vote::Yes)), [], "too late");
        assert_eq!(commit.step(Event::Answered(0, Answer::Gone)), []);
        assert_eq!(commit.step(Event::Answered(2, Answer::Silent)), [Action::Report]);
        assert_eq!(commit.unconfirmed().collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn a_commit_is_never_taken_back_nor_forgotten_while_somebody_is_silent() {
        let mut commit = started(2);
        commit.step(Event::RowWritten);
        commit.step(Event::Voted(0, Vote::Yes));
        commit.step(Event::Voted(1, Vote::Yes));
        assert_eq!(commit.step(Event::Committed), [Action::CommitPrepared(0), Action::CommitPrepared(1)]);
        assert_eq!(commit.step(Event::RolledBack), []);
        assert_eq!(commit.step(Event::Answered(0, Answer::Busy)), [Action::CommitPrepared(0)]);
        assert_eq!(commit.step(Event::Answered(1, Answer::Silent)), []);
        assert_eq!(commit.step(Event::Answered(1, Answer::Busy)), []);
        assert_eq!(commit.step(Event::Answered(1, Answer::Done)), [], "what was reported stands");
        assert_eq!(commit.step(Event::Answered(0, Answer::Done)), [Action::Report]);
        assert_eq!(commit.step(Event::Answered(0, Answer::Done)), []);
        assert_eq!(commit.unconfirmed().collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn a_local_failure_undoes_who_is_ready() {
        let mut commit = started(1);
        commit.step(Event::RowWritten);
        assert_eq!(commit.step(Event::Voted(0, Vote::Yes)), [Action::Decide]);
        assert_eq!(commit.step(Event::RolledBack), [Action::RollbackPrepared(0)]);
        assert_eq!(commit.step(Event::Answered(0, Answer::Done)), []);
        assert_eq!(commit.unconfirmed().count(), 0);
    }
}
