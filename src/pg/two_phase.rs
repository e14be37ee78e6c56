//! Carries out a two-phase commit: `transaction::protocol` says what to do, this file sends, waits and reports.
//!
//! ```text
//! before the local commit   prepare             PREPARE TRANSACTION to all writers at once, the row into the log
//! after it                  commit_prepared     COMMIT PREPARED to all of them; a warning if one does not confirm it
//! after a rollback          roll_back_prepared  ROLLBACK PREPARED to those who may be prepared
//! ```

use crate::catalog::{NodeId, quote_literal};
use crate::error::{Error, Result, sqlstate};
use crate::pg::gate::Pass;
use crate::pg::session::command::{collect_each, is_finished, wait_finished};
use crate::pg::session::registry::{Key, Prepared, Running, pump, wait_for, with_sessions};
use crate::pg::transaction::{ask, failed};
use crate::pg::wait::{Patience, Woken, is_cancel_pending};
use crate::pg::{failpoint, gate, maintenance, report, transaction_log};
use crate::transaction::failpoint::Point;
use crate::transaction::protocol::{Action, Answer, Event, Protocol, Vote};
use crate::wire::report::on_node;
use std::cell::RefCell;
use std::time::{Duration, Instant};

/// How long the end of a transaction waits for nodes to confirm what is decided already.
const CONFIRM_BOUND: Duration = Duration::from_secs(10);
/// The same once the user wants it to end: time enough for a node that is well.
const CANCELLED_BOUND: Duration = Duration::from_secs(2);
/// A prepared transaction that recovery is at is asked for again after this time.
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// The transaction that is being committed in two phases.
struct TwoPhase {
    protocol: Protocol,
    /// The sessions of the participants.
    keys: Vec<Key>,
    /// The PREPARE of the first so many participants.
    asked: Vec<Running>,
    /// Its number, of 64 bits, and its name in the log.
    xid: u64,
    log_name: String,
    /// It has written here too: what keeps readers out while that becomes visible together with the rest.
    pass: Option<Pass>,
}

/// A node that has not confirmed the second phase, and why.
struct Unconfirmed {
    node: NodeId,
    name: String,
    error: Error,
}

thread_local! {
    static TWO_PHASE: RefCell<Option<TwoPhase>> = const { RefCell::new(None) };
    /// Names in the log that no node will ask about any more: deleted with the next two-phase commit.
    static CONFIRMED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// The transaction is over.
pub fn forget() {
    TWO_PHASE.set(None);
    maintenance::commit::end(false);
}

/// Takes note of an event and says what to do next.
fn step(event: Event) -> Vec<Action> {
    TWO_PHASE.with_borrow_mut(|commit| commit.as_mut().map_or_else(Vec::new, |commit| commit.protocol.step(event)))
}

/// The first phase: all writers prepare, and the decision is written into the log. `wrote_here`: the local
/// transaction is one of them.
pub fn prepare(keys: &[Key], wrote_here: bool) -> Result<()> {
    gate::read_log()?;
    let transaction = transaction_log::current_transaction();
    let xid = transaction.xid;
    maintenance::commit::begin(xid);
    let log_name = transaction.log_name();
    let protocol = Protocol::new(keys.len());
    let commit = TwoPhase { protocol, keys: keys.to_vec(), asked: vec![], xid, log_name: log_name.clone(), pass: None };
    TWO_PHASE.set(Some(commit));
    let mut names = Vec::new();
    let mut logged = Ok(());
    for action in step(Event::Start) {
        match action {
            Action::Prepare(i) => {
                failpoint::reached(Point::Prepare(i + 1), || {
                    wait_finished(&asked_to_prepare(), Patience::STATEMENT);
                });
                names.push(ask_to_prepare(i, keys[i], transaction.gid(i + 1))?);
            }
            Action::WriteRow => {
                pump(keys);
                let confirmed = CONFIRMED.take();
                logged = transaction_log::delete(&confirmed).and_then(|()| transaction_log::insert(&log_name, &names));
            }
            _ => {}
        }
    }
    let asked = asked_to_prepare();
    // Waited for in any case: a rollback has to know who is prepared.
    wait_finished(&asked, Patience::STATEMENT);
    logged?;
    let mut next = step(Event::RowWritten);
    for (i, asked) in asked.iter().enumerate() {
        next.extend(step(Event::Voted(i, vote(*asked))));
    }
    match next[..] {
        [Action::Decide] => {
            failpoint::reached(Point::Prepared, || ());
            let pass = wrote_here.then(gate::enter_commit).transpose()?;
            TWO_PHASE.with_borrow_mut(|commit| commit.as_mut().map(|commit| commit.pass = pass));
            Ok(())
        }
        [Action::Fail(i), ..] => Err(refusal(asked[i], &names[i])),
        _ => Err(Error::new(sqlstate::INTERNAL, "a PREPARE has no answer")),
    }
}

fn asked_to_prepare() -> Vec<Running> {
    TWO_PHASE.with_borrow(|commit| commit.as_ref().map_or_else(Vec::new, |commit| commit.asked.clone()))
}

/// Queues the PREPARE of participant `i`; the node's name.
fn ask_to_prepare(i: usize, key: Key, gid: String) -> Result<String> {
    let sql = format!("PREPARE TRANSACTION {}", quote_literal(&gid));
    let (asked, name) = with_sessions(|sessions| {
        let (asked, name) = ask(sessions.get_mut(&key), key, &sql)?;
        if let Some(session) = sessions.get_mut(&key) {
            session.prepared = Some(Prepared { gid, task: asked.task });
        }
        Ok::<_, Error>((asked, name))
    })?;
    TWO_PHASE.with_borrow_mut(|commit| {
        if let Some(commit) = commit {
            commit.protocol.step(Event::Asked(i));
            commit.asked.push(asked);
        }
    });
    Ok(name)
}

/// What has come of a PREPARE TRANSACTION.
fn vote(asked: Running) -> Vote {
    with_sessions(|sessions| {
        let Some(session) = sessions.get_mut(&asked.key) else { return Vote::Unknown };
        match session.talk(asked.serial).ok().and_then(|talk| talk.task(asked.task)) {
            Some(task) if task.tags.iter().any(|tag| tag == "PREPARE TRANSACTION") => Vote::Yes,
            // It has failed, or there was nothing left to prepare.
            Some(task) if task.error.is_some() || task.is_finished() => Vote::No,
            _ => Vote::Unknown,
        }
    })
}

/// Why a participant has not voted for the commit.
fn refusal(asked: Running, name: &str) -> Error {
    with_sessions(|sessions| {
        let Some(session) = sessions.get_mut(&asked.key) else { return failed(name) };
        match session.talk(asked.serial) {
            Err(error) => error,
            Ok(talk) => match talk.task(asked.task).and_then(|task| task.error.clone()) {
                Some(error) => on_node(error, name),
                None => failed(name),
            },
        }
    })
}

/// The second phase, after the local commit: nothing may fail any more.
pub fn commit_prepared() {
    if TWO_PHASE.with_borrow(Option::is_some) {
        failpoint::reached(Point::Decided, || ());
    }
    let actions = step(Event::Committed);
    let Some(mut commit) = TWO_PHASE.take() else { return };
    let (unconfirmed, last) = resolve_visibly(&mut commit, actions);
    maintenance::commit::end(!unconfirmed.is_empty());
    if last == Some(Action::ForgetRow) {
        CONFIRMED.with_borrow_mut(|names| names.push(commit.log_name));
    } else {
        let names: Vec<String> = unconfirmed.iter().map(|u| format!("\"{}\"", u.name)).collect();
        let details: Vec<String> =
            unconfirmed.iter().map(|u| format!("Node \"{}\": {}.", u.name, u.error.message)).collect();
        let nodes = if names.len() == 1 { "node" } else { "nodes" };
        let have = if names.len() == 1 { "has" } else { "have" };
        report::warning(
            &Error::new(
                sqlstate::TRANSACTION_RESOLUTION_UNKNOWN,
                format!("the transaction is committed, but {nodes} {} {have} not confirmed it", names.join(", ")),
            )
            .detail(details.join(" "))
            .hint("Its changes there become visible once the node answers; see sharding.transactions."),
        );
    }
    leave(&commit.keys, false);
}

/// The second phase of a commit, while no reader takes its snapshots: who reads several nodes sees it on all of
/// them. From a node that does not confirm it, readers are kept away until recovery has been there.
fn resolve_visibly(commit: &mut TwoPhase, actions: Vec<Action>) -> (Vec<Unconfirmed>, Option<Action>) {
    let held = commit.pass.take();
    let wrote_here = held.is_some();
    let pass = held.or_else(|| gate::enter_decided_commit(CONFIRM_BOUND, CANCELLED_BOUND));
    if pass.is_none() {
        gate::mark(&commit.keys.iter().map(|key| key.node).collect::<Vec<_>>());
    }
    let (unconfirmed, last) = resolve(commit, actions);
    gate::mark(&unconfirmed.iter().map(|u| u.node).collect::<Vec<_>>());
    if wrote_here {
        gate::remember_local(commit.xid);
    }
    (unconfirmed, last)
}

fn leave(keys: &[Key], rolled_back: bool) {
    with_sessions(|sessions| {
        for key in keys {
            if let Some(session) = sessions.get_mut(key) {
                session.leave_transaction(rolled_back);
            }
        }
    });
}

/// Sends the second phase to all these nodes at once; the nodes that did not confirm it, and why, and
/// what the protocol has to say in the end.
fn resolve(commit: &mut TwoPhase, mut actions: Vec<Action>) -> (Vec<Unconfirmed>, Option<Action>) {
    let deadline = Instant::now() + CONFIRM_BOUND;
    let mut unconfirmed = Vec::new();
    let mut last = None;
    loop {
        let mut running = Vec::new();
        for action in std::mem::take(&mut actions) {
            let (i, command) = match action {
                Action::CommitPrepared(i) => {
                    let before =
                        || wait_until(&running.iter().map(|(_, asked, _)| *asked).collect::<Vec<_>>(), deadline);
                    failpoint::reached(Point::CommitPrepared(i + 1), before);
                    (i, "COMMIT PREPARED")
                }
                Action::RollbackPrepared(i) => (i, "ROLLBACK PREPARED"),
                other => {
                    last = Some(other);
                    continue;
                }
            };
            let (name, asked) = ask_to_end(commit.keys[i], command);
            match asked {
                Ok(asked) => running.push((i, asked, name)),
                Err(error) => {
                    last = commit.protocol.step(Event::Answered(i, Answer::Silent)).pop();
                    unconfirmed.push(Unconfirmed { node: commit.keys[i].node, name, error });
                }
            }
        }
        if running.is_empty() {
            return (unconfirmed, last);
        }
        let asked: Vec<Running> = running.iter().map(|(_, running, _)| *running).collect();
        wait_until(&asked, deadline);
        let answers = collect_each(&asked, Patience::callback(Instant::now()));
        for ((i, running, name), result) in running.into_iter().zip(answers) {
            let answer = match result {
                Ok(_) => Answer::Done,
                Err(error) => answer(&error, deadline).unwrap_or_else(|| {
                    close_unless_quiet(running.key);
                    unconfirmed.push(Unconfirmed { node: running.key.node, name, error });
                    Answer::Silent
                }),
            };
            actions.extend(commit.protocol.step(Event::Answered(i, answer)));
        }
        if actions.iter().any(|action| matches!(action, Action::CommitPrepared(_) | Action::RollbackPrepared(_))) {
            wait_for(&[], Patience::callback(Instant::now() + BUSY_PAUSE));
        }
    }
}

/// Waits for answers until `deadline`, or not much longer than the user wants.
fn wait_until(asked: &[Running], mut deadline: Instant) {
    let mut cancelled = false;
    loop {
        let open: Vec<Key> = asked.iter().filter(|r| !is_finished(r)).map(|r| r.key).collect();
        if open.is_empty() {
            return;
        }
        if !cancelled && is_cancel_pending() {
            cancelled = true;
            deadline = deadline.min(Instant::now() + CANCELLED_BOUND);
        }
        if !pump(&open) && wait_for(&open, Patience::callback(deadline)) == Woken::TimedOut {
            return;
        }
    }
}

/// What an error says of the prepared transaction; `None` if nothing is known.
fn answer(error: &Error, deadline: Instant) -> Option<Answer> {
    match error.code {
        sqlstate::UNDEFINED_OBJECT => Some(Answer::Gone),
        sqlstate::OBJECT_NOT_IN_PREREQUISITE_STATE if Instant::now() < deadline && !is_cancel_pending() => {
            Some(Answer::Busy)
        }
        _ => None,
    }
}

fn close_unless_quiet(key: Key) {
    with_sessions(|sessions| {
        if let Some(session) = sessions.get_mut(&key)
            && !session.is_quiet()
        {
            session.give_up();
        }
    });
}

/// Queues the second phase on a session: the node's name, and what is under way or why nothing is.
fn ask_to_end(key: Key, command: &str) -> (String, Result<Running>) {
    with_sessions(|sessions| {
        let gone = || Error::new(sqlstate::CONNECTION_FAILURE, "a session with a node disappeared");
        let Some(session) = sessions.get_mut(&key) else { return (String::new(), Err(gone())) };
        let name = session.name.clone();
        let Some(prepared) = &session.prepared else { return (name, Err(gone())) };
        let sql = format!("{command} {}", quote_literal(&prepared.gid));
        let error = session.last_loss_or_closed();
        session.lost = None;
        let asked = ask(Some(session), key, &sql).map(|(asked, _)| asked);
        (name, asked.map_err(|_| error))
    })
}

/// Rolls back what may be prepared on nodes, after the local rollback; the sessions whose transaction is over
/// with that. Nothing may fail here either.
pub fn roll_back_prepared() -> Vec<Key> {
    let Some(mut commit) = TWO_PHASE.take() else { return Vec::new() };
    // The first phase may have been left before all votes were in.
    for (i, asked) in commit.asked.iter().enumerate() {
        commit.protocol.step(Event::Voted(i, vote(*asked)));
    }
    let actions = commit.protocol.step(Event::RolledBack);
    let unconfirmed = resolve(&mut commit, actions).0;
    maintenance::commit::end(!unconfirmed.is_empty());
    for Unconfirmed { name, error, .. } in unconfirmed {
        report::warning(
            &Error::new(
                sqlstate::TRANSACTION_RESOLUTION_UNKNOWN,
                format!("the transaction is rolled back, but node \"{name}\" has not confirmed it"),
            )
            .detail(format!("{}.", error.message))
            .hint("Its locks there are released once the node answers; see sharding.transactions."),
        );
    }
    // Those who were never asked still are in their transactions.
    commit.keys.truncate(commit.asked.len());
    leave(&commit.keys, true);
    commit.keys
}
