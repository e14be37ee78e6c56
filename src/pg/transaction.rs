//! The distributed transaction: what happens on the nodes when the local one ends.
//!
//! Installed once as raw transaction callbacks. Before the local commit the nodes commit in one
//! phase or prepare (`transaction::commit` decides), after it the prepared ones are told to commit.
//! Where an ERROR would be too late, waits are bounded and failures become warnings: the maintenance worker
//! finishes what is left.

use crate::catalog::quote_literal;
use crate::error::{Error, Result, sqlstate};
use crate::pg::guard::guarded;
use crate::pg::maintenance::long_wait::Watch;
use crate::pg::session::command::{collect, collect_each};
use crate::pg::session::registry::{
    Key, Prepared, Running, Session, end_constraints_level, is_serializable, no_constraints, pump, wait_for,
    with_sessions,
};
use crate::pg::session::settle::{CANCEL_BOUND, end_leases, request_cancel, settle};
use crate::pg::wait::{Patience, is_cancel_pending};
use crate::pg::{maintenance, pending, report, transaction_log};
use crate::transaction::commit::{CommitPlan, plan_commit};
use crate::wire::conversation::{Block, Task};
use pgrx::pg_sys;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// How long the end of a transaction waits for nodes to confirm what is decided already.
const CONFIRM_BOUND: Duration = Duration::from_secs(10);
/// How long a commit goes on waiting for the deciding node once the user cancels it.
const CANCELLED_COMMIT_BOUND: Duration = Duration::from_secs(5);
/// How long small messages may take to leave.
const SEND_BOUND: Duration = Duration::from_secs(1);

thread_local! {
    /// The name in the log of the transaction that is being committed in two phases.
    static DECIDED: RefCell<Option<String>> = const { RefCell::new(None) };
    /// Names in the log that no node will ask about any more: deleted with the next two-phase commit.
    static CONFIRMED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

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
    if with_sessions(|sessions| sessions.is_empty()) && pending::is_unused() && no_constraints() {
        return;
    }
    guarded(|| match event {
        pg_sys::XactEvent::XACT_EVENT_PRE_COMMIT => {
            pending::flush()?;
            before_commit()
        }
        pg_sys::XactEvent::XACT_EVENT_PRE_PREPARE => {
            pending::flush()?;
            refuse_prepare()
        }
        pg_sys::XactEvent::XACT_EVENT_COMMIT => {
            pending::transaction_ended();
            without_error(after_commit);
            Ok(())
        }
        pg_sys::XactEvent::XACT_EVENT_ABORT => {
            pending::transaction_ended();
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
        // SAFETY: reads the backend's transaction state.
        let level = unsafe { pg_sys::GetCurrentTransactionNestLevel() as u32 };
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
        maintenance::commit::end(true);
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
    // SAFETY: reads the backend's transaction state.
    let local_wrote = unsafe { pg_sys::GetTopTransactionIdIfAny() } != pg_sys::InvalidTransactionId;
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
            commit_deciding(keys[writer])?;
            commit_readers(&readers(&[writer]));
        }
        CommitPlan::TwoPhase { writers } => {
            prepare(&writers.iter().map(|i| keys[*i]).collect::<Vec<_>>())?;
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

fn failed(node: &str) -> Error {
    Error::new(
        sqlstate::TRANSACTION_ROLLBACK,
        format!("the transaction on node \"{node}\" had failed before and was rolled back"),
    )
}

/// COMMIT on nodes that were only read: sent, not waited for. Its failure changes nothing.
fn commit_readers(keys: &[Key]) {
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
    tell_and_leave(keys, "COMMIT", false);
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
        if is_done(running) || is_late {
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
fn ask(session: Option<&mut Session>, key: Key, sql: &str) -> Result<(Running, String)> {
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

fn is_done(running: Running) -> bool {
    with_sessions(|sessions| {
        sessions.get_mut(&running.key).is_none_or(|session| {
            session.talk(running.serial).map_or(true, |talk| talk.task(running.task).is_none_or(Task::is_finished))
        })
    })
}

/// The first phase: all writers prepare, and the decision is written into the log.
fn prepare(keys: &[Key]) -> Result<()> {
    let transaction = transaction_log::current_transaction();
    maintenance::commit::begin(transaction.xid);
    let mut running = Vec::new();
    let names = with_sessions(|sessions| -> Result<Vec<String>> {
        let mut names = Vec::new();
        for (n, key) in keys.iter().enumerate() {
            let gid = transaction.gid(n + 1);
            let sql = format!("PREPARE TRANSACTION {}", quote_literal(&gid));
            let session = sessions.get_mut(key);
            let (asked, name) = ask(session, *key, &sql)?;
            if let Some(session) = sessions.get_mut(key) {
                session.prepared = Some(Prepared { gid, task: asked.task });
            }
            running.push(asked);
            names.push(name);
        }
        Ok(names)
    })?;
    pump(keys);
    let log_name = transaction.log_name();
    let confirmed = CONFIRMED.take();
    let logged = transaction_log::delete(&confirmed).and_then(|()| transaction_log::insert(&log_name, &names));
    // Waited for in any case: a rollback has to know who is prepared.
    wait_all(&running);
    logged?;
    for (running, name) in running.iter().zip(&names) {
        match prepare_answer(*running) {
            Some(Ok(true)) => {}
            Some(Ok(false)) => return Err(failed(name)),
            Some(Err(error)) => return Err(error),
            None => return Err(Error::new(sqlstate::INTERNAL, "a PREPARE has no answer")),
        }
    }
    DECIDED.set(Some(log_name));
    Ok(())
}

fn wait_all(running: &[Running]) {
    loop {
        let open: Vec<Key> = running.iter().filter(|r| !is_done(**r)).map(|r| r.key).collect();
        if open.is_empty() {
            return;
        }
        if !pump(&open) {
            wait_for(&open, Patience::STATEMENT);
        }
    }
}

/// Whether the node has prepared; `None` if its connection or answer is gone.
fn prepare_answer(running: Running) -> Option<Result<bool>> {
    with_sessions(|sessions| {
        let session = sessions.get_mut(&running.key)?;
        let name = session.name.clone();
        let talk = match session.talk(running.serial) {
            Ok(talk) => talk,
            Err(error) => return Some(Err(error)),
        };
        let task = talk.task(running.task)?;
        Some(match &task.error {
            Some(error) => Err(crate::wire::report::on_node(error.clone(), &name)),
            None => Ok(task.tags.iter().any(|tag| tag == "PREPARE TRANSACTION")),
        })
    })
}

// After the local commit: nothing may fail any more.

fn after_commit() {
    let keys = keys_where(|session| session.prepared.is_some());
    if !keys.is_empty() {
        let unconfirmed = resolve(&keys, "COMMIT PREPARED");
        maintenance::commit::end(!unconfirmed.is_empty());
        match (DECIDED.take(), unconfirmed.is_empty()) {
            (Some(log_name), true) => CONFIRMED.with_borrow_mut(|names| names.push(log_name)),
            _ => {
                let names: Vec<String> = unconfirmed.iter().map(|(name, _)| format!("\"{name}\"")).collect();
                let details: Vec<String> =
                    unconfirmed.iter().map(|(name, error)| format!("Node \"{name}\": {}.", error.message)).collect();
                let nodes = if names.len() == 1 { "node" } else { "nodes" };
                let have = if names.len() == 1 { "has" } else { "have" };
                report::warning(
                    &Error::new(
                        sqlstate::TRANSACTION_RESOLUTION_UNKNOWN,
                        format!(
                            "the transaction is committed, but {nodes} {} {have} not confirmed it",
                            names.join(", ")
                        ),
                    )
                    .detail(details.join(" "))
                    .hint("Its changes there become visible once the node answers; see sharding.transactions."),
                );
            }
        }
        with_sessions(|sessions| {
            for key in &keys {
                if let Some(session) = sessions.get_mut(key) {
                    session.leave_transaction(false);
                }
            }
        });
    }
    forget_transaction();
}

/// Sends the second phase to all these nodes at once; the nodes that did not confirm it, and why.
fn resolve(keys: &[Key], command: &str) -> Vec<(String, Error)> {
    let mut unconfirmed = Vec::new();
    let mut running = Vec::new();
    with_sessions(|sessions| {
        for key in keys {
            let Some(session) = sessions.get_mut(key) else { continue };
            let Some(prepared) = session.prepared.take() else { continue };
            let name = session.name.clone();
            let sql = format!("{command} {}", quote_literal(&prepared.gid));
            let error = session.last_loss_or_closed();
            session.lost = None;
            match ask(Some(session), *key, &sql) {
                Ok((asked, _)) => running.push((asked, name)),
                Err(_) => unconfirmed.push((name, error)),
            }
        }
    });
    let asked: Vec<Running> = running.iter().map(|(running, _)| *running).collect();
    let deadline = Instant::now() + CONFIRM_BOUND;
    loop {
        let open: Vec<Key> = asked.iter().filter(|r| !is_done(**r)).map(|r| r.key).collect();
        if open.is_empty() || is_cancel_pending() {
            break;
        }
        if !pump(&open) && wait_for(&open, Patience::callback(deadline)) == crate::pg::wait::Woken::TimedOut {
            break;
        }
    }
    let answers = collect_each(&asked, Patience::callback(Instant::now()));
    for ((running, name), answer) in running.into_iter().zip(answers) {
        match answer {
            Ok(_) => {}
            // Recovery was faster.
            Err(error) if error.code == sqlstate::UNDEFINED_OBJECT => {}
            Err(error) => {
                with_sessions(|sessions| {
                    if let Some(session) = sessions.get_mut(&running.key)
                        && !session.is_quiet()
                    {
                        session.give_up();
                    }
                });
                unconfirmed.push((name, error));
            }
        }
    }
    unconfirmed
}

// Rollback: nothing may fail either.

fn after_abort() {
    DECIDED.set(None);
    let all = keys_where(|session| session.levels.is_inside() || session.prepared.is_some() || !session.is_quiet());
    if !all.is_empty() {
        let busy = keys_where(|session| !session.is_quiet());
        if !busy.is_empty() {
            settle(&busy, CANCEL_BOUND, |_| true);
        }
        let prepared = end_prepares(&all);
        if !prepared.is_empty() {
            let unconfirmed = resolve(&prepared, "ROLLBACK PREPARED");
            maintenance::commit::end(!unconfirmed.is_empty());
            for (name, error) in unconfirmed {
                report::warning(
                    &Error::new(
                        sqlstate::TRANSACTION_RESOLUTION_UNKNOWN,
                        format!("the transaction is rolled back, but node \"{name}\" has not confirmed it"),
                    )
                    .detail(format!("{}.", error.message))
                    .hint("Its locks there are released once the node answers; see sharding.transactions."),
                );
            }
        }
        let inside: Vec<Key> = all.into_iter().filter(|key| !prepared.contains(key)).collect();
        tell_and_leave(&inside, "ROLLBACK", true);
    }
    forget_transaction();
}

/// Those of these sessions whose node may hold a prepared transaction; the others, whose PREPARE
/// failed, have nothing to roll back.
fn end_prepares(keys: &[Key]) -> Vec<Key> {
    with_sessions(|sessions| {
        let mut prepared = Vec::new();
        for key in keys {
            let Some(session) = sessions.get_mut(key) else { continue };
            let Some(Prepared { task, .. }) = &session.prepared else { continue };
            let answer = session
                .connection
                .as_ref()
                .map(|connection| connection.talk.task(*task).is_none_or(|t| t.error.is_none()));
            match answer {
                Some(false) => {
                    session.prepared = None;
                    session.leave_transaction(true);
                }
                _ => prepared.push(*key),
            }
        }
        prepared
    })
}

/// No session is in a transaction any more.
fn forget_transaction() {
    maintenance::commit::end(false);
    with_sessions(|sessions| {
        for session in sessions.values_mut() {
            let rolled_back = session.levels.is_inside() && session.prepared.is_none();
            session.leave_transaction(rolled_back);
        }
    });
    end_constraints_level(0, true);
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
