//! The distributed transaction: what happens on the nodes when the local one ends.
//!
//! Installed once as raw transaction callbacks. Before the local commit the nodes commit in one
//! phase or prepare (`transaction::commit` decides), after it the prepared ones are told to commit: see `two_phase`.
//! Where an ERROR would be too late, waits are bounded and failures become warnings: the maintenance worker
//! finishes what is left.

use crate::catalog::NodeId;
use crate::error::{Error, Result, sqlstate};
use crate::pg::guard::guarded;
use crate::pg::maintenance::long_wait::Watch;
use crate::pg::session::aside;
use crate::pg::session::command::{collect, is_finished};
use crate::pg::session::registry::{
    Key, Running, Session, end_constraints_level, is_serializable, key_of, no_constraints, pump, wait_for,
    with_sessions,
};
use crate::pg::session::settle::{CANCEL_BOUND, end_leases, request_cancel, settle};
use crate::pg::wait::{Patience, is_cancel_pending};
use crate::pg::{consistent, gate, maintenance, pending, raw, report, two_phase};
use crate::transaction::commit::{CommitPlan, plan_commit};
use crate::wire::conversation::Block;
use pgrx::pg_sys;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// How long a commit goes on waiting for the deciding node once the user cancels it.
const CANCELLED_COMMIT_BOUND: Duration = Duration::from_secs(5);
/// How long small messages may take to leave.
const SEND_BOUND: Duration = Duration::from_secs(1);

/// Registers the callbacks; called once from `_PG_init`.
pub fn install() {
    // SAFETY: the callbacks live as long as the library, which is never unloaded.
    unsafe {
        pg_sys::RegisterXactCallback(Some(transaction_ends), std::ptr::null_mut());
        pg_sys::RegisterSubXactCallback(Some(savepoint_ends), std::ptr::null_mut());
    }
}

unsafe extern "C-unwind" fn transaction_ends(event: pg_sys::XactEvent::Type, _arg: *mut std::ffi::c_void) {
    // Most transactions use no node: they pay for this look only.
    if with_sessions(|sessions| sessions.is_empty())
        && pending::is_unused()
        && no_constraints()
        && consistent::is_unused()
    {
        return;
    }
    guarded(|| match event {
        pg_sys::XactEvent::XACT_EVENT_PRE_COMMIT => {
            pending::flush()?;
            aside::before_commit();
            before_commit()
        }
        pg_sys::XactEvent::XACT_EVENT_PRE_PREPARE => {
            pending::flush()?;
            aside::before_commit();
            refuse_prepare()
        }
        pg_sys::XactEvent::XACT_EVENT_COMMIT => {
            pending::transaction_ended();
            without_error(after_commit);
            Ok(())
        }
        pg_sys::XactEvent::XACT_EVENT_ABORT => {
            pending::transaction_ended();
            aside::transaction_ended();
            without_error(after_abort);
            Ok(())
        }
        pg_sys::XactEvent::XACT_EVENT_PREPARE => {
            without_error(forget_transaction);
            Ok(())
        }
        _ => Ok(()),
    })
}

unsafe extern "C-unwind" fn savepoint_ends(
    event: pg_sys::SubXactEvent::Type,
    _this: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _arg: *mut std::ffi::c_void,
) {
    guarded(|| {
        let level = raw::GetCurrentTransactionNestLevel() as u32;
        match event {
            pg_sys::SubXactEvent::SUBXACT_EVENT_PRE_COMMIT_SUB => release(level),
            pg_sys::SubXactEvent::SUBXACT_EVENT_COMMIT_SUB => {
                pending::subtransaction_ended(level as i32, true);
                Ok(())
            }
            pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB => {
                pending::subtransaction_ended(level as i32, false);
                without_error(|| roll_back_to(level));
                Ok(())
            }
            _ => Ok(()),
        }
    })
}

/// Runs what may not raise an ERROR. A panic in it loses the connections, not the server.
fn without_error(body: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(body)).is_err() {
        with_sessions(|sessions| sessions.clear());
        maintenance::wake();
        report::warning(&Error::new(
            sqlstate::INTERNAL,
            "connections to the nodes were closed after an internal error",
        ));
    }
}

fn keys_where(fits: impl Fn(&Session) -> bool) -> Vec<Key> {
    with_sessions(|sessions| sessions.iter().filter(|(_, session)| fits(session)).map(|(key, _)| *key).collect())
}

fn refuse_prepare() -> Result<()> {
    if keys_where(|session| session.levels.is_inside()).is_empty() {
        return Ok(());
    }
    Err(Error::unsupported("cannot PREPARE a transaction that has used nodes")
        .hint("Use COMMIT: a transaction that writes on several nodes commits in two phases by itself."))
}

// Before the local commit: ERRORs are still possible, the transaction then rolls back.

fn before_commit() -> Result<()> {
    let keys = keys_where(|session| session.levels.is_inside());
    if keys.is_empty() {
        return Ok(());
    }
    let written: Vec<bool> = with_sessions(|sessions| {
        keys.iter().map(|key| sessions.get(key).is_some_and(|s| s.levels.has_written())).collect()
    });
    refuse_broken(&keys, &written)?;
    let local_wrote = raw::GetTopTransactionIdIfAny() != pg_sys::InvalidTransactionId;
    let readers =
        |except: &[usize]| -> Vec<Key> { (0..keys.len()).filter(|i| !except.contains(i)).map(|i| keys[i]).collect() };
    match plan_commit(&written, local_wrote) {
        CommitPlan::ReadOnly if is_serializable() => {
            for key in keys {
                commit_deciding(key)?;
            }
        }
        CommitPlan::ReadOnly => commit_readers(&keys),
        CommitPlan::OnePhase { writer } => {
            let pass = (!consistent::commits_freely()).then(gate::enter_commit).transpose()?;
            commit_deciding(keys[writer])?;
            drop(pass);
            commit_readers(&readers(&[writer]));
        }
        CommitPlan::TwoPhase { writers } => {
            two_phase::prepare(&writers.iter().map(|i| keys[*i]).collect::<Vec<_>>(), local_wrote)?;
            commit_readers(&readers(&writers));
        }
    }
    Ok(())
}

/// A node that was written and whose work cannot be committed any more fails the transaction.
fn refuse_broken(keys: &[Key], written: &[bool]) -> Result<()> {
    with_sessions(|sessions| {
        for (key, written) in keys.iter().zip(written) {
            let Some(session) = sessions.get_mut(key) else { continue };
            if let (true, Some(lost)) = (*written, &session.lost) {
                return Err(lost.clone());
            }
            let name = session.name.clone();
            let Some(connection) = &mut session.connection else { continue };
            if let Some(error) = connection.talk.take_stray() {
                return Err(crate::wire::report::on_node(error, &name));
            }
            if *written && connection.talk.is_quiet() && connection.talk.block() == Block::Failed {
                return Err(failed(&name));
            }
        }
        Ok(())
    })
}

pub(super) fn failed(node: &str) -> Error {
    Error::new(
        sqlstate::TRANSACTION_ROLLBACK,
        format!("the transaction on node \"{node}\" had failed before and was rolled back"),
    )
}

/// COMMIT on nodes that were only read: sent, not waited for. Its failure changes nothing.
fn commit_readers(keys: &[Key]) {
    end_reading(keys, "COMMIT", false);
}

/// Ends the transactions of those of these nodes that have only been read, as if they had not been used yet.
pub fn leave_nodes(nodes: &[NodeId], command: &str) -> Result<()> {
    let keys: Vec<Key> = nodes.iter().map(|node| key_of(*node)).collect::<Result<_>>()?;
    let inside = keys_where(|session| session.levels.is_inside() && !session.holds)
        .into_iter()
        .filter(|key| keys.contains(key))
        .collect::<Vec<_>>();
    if !inside.is_empty() {
        end_reading(&inside, command, command != "COMMIT");
    }
    Ok(())
}

/// Ends the transactions of these further connections, which have only read, and gives them back to the pool.
pub fn end_beside(keys: &[Key]) {
    end_reading(keys, "COMMIT", false);
    end_leases(keys);
}

fn end_reading(keys: &[Key], command: &str, rolled_back: bool) {
    with_sessions(|sessions| {
        for key in keys {
            if let Some(session) = sessions.get_mut(key)
                && let Some(connection) = &mut session.connection
            {
                connection.talk.abandon_all(|_| true);
            }
        }
    });
    let unwanted: Vec<Key> = keys_where(has_unwanted).into_iter().filter(|key| keys.contains(key)).collect();
    if !unwanted.is_empty() {
        settle(&unwanted, CANCEL_BOUND, |_| true);
    }
    tell_and_leave(keys, command, rolled_back);
}

/// Sends the last command of a transaction and lets the sessions go. The command leaves now.
fn tell_and_leave(keys: &[Key], sql: &str, rolled_back: bool) {
    with_sessions(|sessions| {
        for key in keys {
            let Some(session) = sessions.get_mut(key) else { continue };
            if session.levels.is_inside()
                && let Err(error) = session.tell(sql)
            {
                session.lose(error);
            }
            session.leave_transaction(rolled_back);
        }
    });
    flush(keys);
}

/// Gets queued messages out, within a bound; a connection that takes none is closed.
fn flush(keys: &[Key]) {
    let deadline = Instant::now() + SEND_BOUND;
    loop {
        let mut unseen = Vec::new();
        let stuck: Vec<Key> = with_sessions(|sessions| {
            keys.iter()
                .filter(|key| {
                    sessions.get_mut(key).is_some_and(|session| {
                        session.pump(&mut unseen);
                        session.connection.as_mut().is_some_and(|c| c.talk.has_output())
                    })
                })
                .copied()
                .collect()
        });
        if stuck.is_empty() {
            return;
        }
        let patience = Patience::callback(deadline);
        if wait_for(&stuck, patience) == crate::pg::wait::Woken::TimedOut {
            with_sessions(|sessions| {
                for key in stuck {
                    if let Some(session) = sessions.get_mut(&key) {
                        session.give_up();
                    }
                }
            });
            return;
        }
    }
}

/// COMMIT on the node whose commit is the transaction's. A cancel does not end the wait at once:
/// the outcome would be unknown. In a deadlock (over a deferred constraint) the node is asked to stop.
fn commit_deciding(key: Key) -> Result<()> {
    let (running, name) = with_sessions(|sessions| ask(sessions.get_mut(&key), key, "COMMIT"))?;
    let mut deadline = None;
    let mut watch = Watch::default();
    let mut deadlock = None;
    let result = loop {
        pump(&[key]);
        let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if is_finished(&running) || is_late {
            break collect(&[running], Patience::callback(Instant::now()));
        }
        wait_for(&[key], Patience { deadline: deadline.or_else(|| watch.until()), interruptible: false });
        if deadline.is_none() {
            deadlock = watch.verdict();
            if deadlock.is_some() || is_cancel_pending() {
                deadline = Some(Instant::now() + CANCELLED_COMMIT_BOUND);
            }
            if deadlock.is_some() {
                request_cancel(&[key], Instant::now() + CANCEL_BOUND);
            }
        }
    };
    let result = result.map_err(|error| match deadlock {
        Some(deadlock) if error.code == sqlstate::QUERY_CANCELED => deadlock,
        _ => error,
    });
    let connected = with_sessions(|sessions| {
        let Some(session) = sessions.get_mut(&key) else { return false };
        if !session.is_quiet() {
            session.give_up();
        }
        let connected = session.connection.is_some();
        session.leave_transaction(result.is_err());
        connected
    });
    match result {
        Ok(tasks) if tasks.iter().flat_map(|t| &t.tags).any(|tag| tag == "COMMIT") => Ok(()),
        Ok(_) => Err(failed(&name)),
        Err(error) if connected => Err(error),
        Err(error) => Err(Error::new(
            sqlstate::TRANSACTION_RESOLUTION_UNKNOWN,
            format!("it is not known whether the transaction on node \"{name}\" was committed"),
        )
        .detail(error.detail.unwrap_or(error.message))
        .hint("Look at the data before you repeat it.")),
    }
}

/// Queues a command on a session whose transaction ends with it.
pub(super) fn ask(session: Option<&mut Session>, key: Key, sql: &str) -> Result<(Running, String)> {
    let gone = || Error::new(sqlstate::CONNECTION_FAILURE, "a session with a node disappeared");
    let session = session.ok_or_else(gone)?;
    if let Some(lost) = &session.lost {
        return Err(lost.clone());
    }
    let name = session.name.clone();
    let connection = session.connection.as_mut().ok_or_else(gone)?;
    let task = connection.talk.query("", sql)?;
    Ok((Running { key, serial: connection.serial, task }, name))
}

// After the local commit: nothing may fail any more.

fn after_commit() {
    two_phase::commit_prepared();
    forget_transaction();
}

// Rollback: nothing may fail either.

fn after_abort() {
    let all = keys_where(|session| session.levels.is_inside() || session.prepared.is_some() || !session.is_quiet());
    if !all.is_empty() {
        let busy = keys_where(|session| !session.is_quiet());
        if !busy.is_empty() {
            settle(&busy, CANCEL_BOUND, |_| true);
        }
        let told = two_phase::roll_back_prepared();
        let inside: Vec<Key> = all.into_iter().filter(|key| !told.contains(key)).collect();
        tell_and_leave(&inside, "ROLLBACK", true);
    }
    two_phase::forget();
    forget_transaction();
}

/// No session is in a transaction any more.
fn forget_transaction() {
    with_sessions(|sessions| {
        for session in sessions.values_mut() {
            let rolled_back = session.levels.is_inside() && session.prepared.is_none();
            session.leave_transaction(rolled_back);
        }
    });
    end_constraints_level(0, true);
    consistent::transaction_ended();
    if try_end_leases() {
        return;
    }
    // A result that nobody wants must not hold a snapshot on its node.
    let unwanted = keys_where(has_unwanted);
    if !unwanted.is_empty() {
        settle(&unwanted, CANCEL_BOUND, |_| true);
    }
    end_leases(&keys_where(|session| session.connection.is_some()));
}

/// Gives all connections back to the pool if none of them needs anything before.
fn try_end_leases() -> bool {
    with_sessions(|sessions| {
        let all = sessions.values().all(Session::may_end_lease);
        if all {
            sessions.values_mut().for_each(Session::end_lease);
        }
        all
    })
}

fn has_unwanted(session: &Session) -> bool {
    session.connection.as_ref().is_some_and(|connection| connection.talk.has_unwanted())
}

// Savepoints.

fn release(level: u32) -> Result<()> {
    end_constraints_level(level, false);
    with_sessions(|sessions| {
        for session in sessions.values_mut() {
            for at in session.task_levels.values_mut() {
                *at = (*at).min(level - 1);
            }
            if session.levels.released(level) {
                session.tell(&format!("RELEASE SAVEPOINT s{level}"))?;
            }
        }
        Ok(())
    })
}

fn roll_back_to(level: u32) {
    end_constraints_level(level, true);
    with_sessions(|sessions| {
        for session in sessions.values_mut() {
            let Session { connection, task_levels, .. } = session;
            if let Some(connection) = connection {
                connection.talk.abandon_all(|task| task_levels.get(&task).is_none_or(|at| *at >= level));
            }
        }
    });
    let busy = keys_where(has_unwanted);
    if !busy.is_empty() {
        settle(&busy, CANCEL_BOUND, |at| at.is_none_or(|at| at >= level));
    }
    let told: Vec<Key> = with_sessions(|sessions| {
        let mut told = Vec::new();
        for (key, session) in sessions.iter_mut() {
            if session.lost.is_some() && session.levels.joined_within(level) {
                session.leave_transaction(true);
                continue;
            }
            if !session.levels.rolled_back(level) || session.lost.is_some() {
                continue;
            }
            session.forget_settings();
            let sql = format!("ROLLBACK TO SAVEPOINT s{level};RELEASE SAVEPOINT s{level}");
            match session.tell(&sql) {
                Ok(()) => told.push(*key),
                Err(error) => session.lose(error),
            }
        }
        told
    });
    flush(&told);
}
