//! Which sessions this backend has, and how a node joins the transaction.
//!
//! A node is told of the transaction with the first statement that it gets: `BEGIN` with the local
//! isolation level, savepoints down to the current one, `SET CONSTRAINTS` as the user ran it, and
//! the settings that changed travel in front of the statement, without a round trip of their own.
//!
//! Nothing waits while the registry is borrowed: an interrupt leaves by unwinding.

use crate::catalog::NodeId;
use crate::cheap_hash::CheapMap;
use crate::error::{Error, Result, sqlstate};
use crate::pg::connection::{Connection, Place};
use crate::pg::endpoint::{Mapped, mapped};
use crate::pg::maintenance;
use crate::pg::pool::lease;
use crate::pg::pool::taint::{self, Work};
use crate::pg::session::aside;
use crate::pg::session::leases::connect;
use crate::pg::settings::Settings;
use crate::pg::socket::LONGEST_WAIT;
use crate::pg::wait::{Event, Patience, Source, Woken, check_interrupts, is_interrupt_pending, reported, wait};
use crate::pg::{consistent, raw, report};
use crate::pool::pools::PoolKey;
use crate::transaction::levels::{Levels, Step};
use crate::wire::conversation::{Conversation, TaskId};
use crate::wire::report::{Report, Severity, on_node};
use pgrx::pg_sys;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

/// What a statement means for the transaction on its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// One statement alone in an autocommit transaction, with one scan on the node: no `BEGIN`.
    ReadAlone,
    /// One statement alone that writes and commits on the node by itself, unless the local transaction is
    /// such that it cannot; then as `Write`. Its outcome has to be waited for with `Stream::wait_outcome`.
    WriteAlone,
    /// The whole local transaction is this one read-only statement, over several scans: all scans
    /// on a node see one snapshot.
    ReadSnapshot,
    /// Part of a transaction of the local isolation level; leaves nothing behind there.
    Read,
    /// The same, and something has to last until the transaction ends: locks, or what a command sets.
    Hold,
    /// The same, and the node's commit counts.
    Write,
}

/// Names a session. `outside`: of the second connection, for what cannot run in a transaction. `beside`: the number of a
/// further one for a part of a scan ([`beside`](super::beside)); 0 is the transaction's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub node: NodeId,
    pub(super) mapped: Mapped,
    pub outside: bool,
    pub beside: u8,
}

/// A transaction that the node was asked to prepare.
pub struct Prepared {
    pub gid: String,
    /// The answer to PREPARE TRANSACTION.
    pub task: TaskId,
}

/// A node's part in the transaction and the connection that is leased for it.
pub struct Session {
    pub name: String,
    pub connection: Option<Box<Connection>>,
    /// Where the last connection is.
    pub(super) last: Option<Place>,
    pub(super) pool: PoolKey,
    pub levels: Levels,
    pub prepared: Option<Prepared>,
    /// All statements of the transaction on the node see one snapshot.
    pub(super) fixed_snapshot: bool,
    /// Others may see its snapshot: it cannot be prepared.
    pub(super) exported: bool,
    /// Its transaction has more to keep than what was read.
    pub holds: bool,
    /// The connection was lost while the node was in the transaction.
    pub lost: Option<Error>,
    /// The nesting level at which each task was begun.
    pub task_levels: CheapMap<TaskId, u32>,
    /// The settings that the connection has, if known, and their hash, else 0.
    pub(super) settings: Option<Rc<Settings>>,
    pub(super) settings_hash: u64,
    /// Something may have run on the connection whose traces the next user must not see.
    pub(super) tainted: bool,
    /// Settings were sent since the last commit: a rollback takes them back.
    pub(super) settings_unsure: bool,
    /// Settings were sent on this lease, and the errors that the node had reported before it.
    pub(super) settings_sent: bool,
    pub(super) errors_at_lease: u64,
    pub(super) errors_seen: u64,
    /// The serial and end of the last lost connection, for streams that still read from it.
    pub(super) last_loss: Option<(u64, Error)>,
    pub(super) generation: u64,
}

thread_local! {
    static SESSIONS: RefCell<BTreeMap<Key, Session>> = const { RefCell::new(BTreeMap::new()) };
    /// SET CONSTRAINTS of this transaction, with the level at which each was run.
    static CONSTRAINTS: RefCell<Vec<(u32, String)>> = const { RefCell::new(Vec::new()) };
}

/// Runs `f` on all sessions. `f` must neither wait nor call what may raise an ERROR.
pub fn with_sessions<T>(f: impl FnOnce(&mut BTreeMap<Key, Session>) -> T) -> T {
    SESSIONS.with_borrow_mut(f)
}

/// As [`with_sessions`], where the registry may be in use or gone already (in `Drop`).
pub fn try_with_sessions(f: impl FnOnce(&mut BTreeMap<Key, Session>)) {
    let _ = SESSIONS.try_with(|sessions| {
        if let Ok(mut sessions) = sessions.try_borrow_mut() {
            f(&mut sessions);
        }
    });
}

/// The nodes that take part in the current transaction.
pub fn used_in_transaction() -> Vec<NodeId> {
    with_sessions(|sessions| {
        let mut nodes: Vec<NodeId> =
            sessions.iter().filter(|(_, s)| s.levels.is_inside()).map(|(k, _)| k.node).collect();
        nodes.dedup();
        nodes
    })
}

/// Whether a node takes part in the current transaction.
pub fn uses_nodes() -> bool {
    with_sessions(|sessions| sessions.values().any(|session| session.levels.is_inside()))
}

/// The nesting level of the local transaction, 1 outside of savepoints.
pub fn current_level() -> u32 {
    raw::GetCurrentTransactionNestLevel() as u32
}

/// Whether the local transaction is serializable.
pub fn is_serializable() -> bool {
    // SAFETY: reads a variable of this backend.
    unsafe { pg_sys::XactIsoLevel == pg_sys::XACT_SERIALIZABLE as i32 }
}

/// Whether the local transaction has one snapshot for all its statements, and is not serializable.
pub fn is_repeatable_read() -> bool {
    // SAFETY: reads a variable of this backend.
    unsafe { pg_sys::XactIsoLevel == pg_sys::XACT_REPEATABLE_READ as i32 }
}

/// A node that is connected, and what has to be sent in front of its next statement.
pub struct Joined {
    pub key: Key,
    pub prelude: String,
    pub(super) levels: Levels,
    pub(super) fixed_snapshot: bool,
    pub(super) settings: Rc<Settings>,
}

/// The session of the current user with a node.
pub fn key_of(node: NodeId) -> Result<Key> {
    Ok(Key { node, mapped: mapped(node)?, outside: false, beside: 0 })
}

/// Gets a node ready for a statement; waits for a connection where there is none.
pub fn join(node: NodeId, access: Access, work: Work) -> Result<Joined> {
    if !raw::IsTransactionState() {
        return Err(Error::new(sqlstate::INTERNAL, "a node was used outside of a transaction"));
    }
    let key = key_of(node)?;
    let alone = matches!(access, Access::ReadAlone | Access::WriteAlone);
    connect(key, alone)?;
    if !alone && with_sessions(|sessions| sessions.get(&key).is_some_and(|s| !s.levels.is_inside())) {
        consistent::node_joins(node)?;
    }
    let level = current_level();
    let settings = Settings::current();
    let taints = taint::taints(work, matches!(access, Access::Write | Access::WriteAlone));
    with_sessions(|sessions| {
        if is_serializable() {
            refuse_second_node(sessions, key)?;
        }
        let session = sessions.get_mut(&key).ok_or_else(gone)?;
        if session.exported && access == Access::Write {
            return Err(shared_snapshot(&session.name));
        }
        session.tainted |= taints;
        session.holds |= matches!(access, Access::Hold | Access::Write | Access::WriteAlone);
        let mut levels = session.levels;
        let mut prelude = String::new();
        let mut fixed_snapshot = session.fixed_snapshot;
        if !(alone && !levels.is_inside() && may_stand_alone(level)) {
            let steps = levels.enter(level);
            if steps.contains(&Step::Begin) {
                // SAFETY: reads a variable of this backend.
                let isolation = unsafe { pg_sys::XactIsoLevel };
                fixed_snapshot = access == Access::ReadSnapshot || isolation >= pg_sys::XACT_REPEATABLE_READ as i32;
            }
            write_steps(&steps, access, &mut prelude);
            if matches!(access, Access::Write | Access::WriteAlone) {
                levels.wrote(level);
            }
        }
        // Settings come last: nothing before them depends on them.
        prelude.push_str(&settings.changes(session.settings.as_deref()));
        Ok(Joined { key, prelude, levels, fixed_snapshot, settings })
    })
}

/// Whether the transaction has written on a node, locked something there, or may have left anything else.
pub fn holds(node: NodeId) -> bool {
    key_of(node)
        .is_ok_and(|key| with_sessions(|sessions| sessions.get(&key).is_some_and(|s| s.levels.is_inside() && s.holds)))
}

/// Whether what a statement sees on a node is decided already.
pub fn has_fixed_snapshot(node: NodeId) -> bool {
    key_of(node).is_ok_and(|key| {
        with_sessions(|sessions| sessions.get(&key).is_some_and(|s| s.levels.is_inside() && s.fixed_snapshot))
    })
}

/// Whether the node's transaction, if it is in one, might as well have not begun: it has read, and nobody reads on.
pub fn may_begin_anew(node: NodeId) -> bool {
    key_of(node).is_ok_and(|key| {
        with_sessions(|sessions| {
            sessions.get(&key).is_none_or(|session| {
                let reads_on = session.connection.as_ref().is_none_or(|connection| connection.talk.has_wanted());
                !session.levels.is_inside() || !session.holds && session.lost.is_none() && !reads_on
            })
        })
    })
}

/// The nodes whose transactions have a snapshot of their own.
pub fn with_fixed_snapshot() -> Vec<NodeId> {
    with_sessions(|sessions| {
        let fixed = sessions.iter().filter(|(_, session)| session.levels.is_inside() && session.fixed_snapshot);
        fixed.map(|(key, _)| key.node).collect()
    })
}

/// Gets the second connection to a node ready, which is in no transaction.
pub fn join_outside(node: NodeId) -> Result<Joined> {
    let key = Key { node, mapped: mapped(node)?, outside: true, beside: 0 };
    connect(key, true)?;
    let settings = Settings::current();
    with_sessions(|sessions| {
        let session = sessions.get_mut(&key).ok_or_else(gone)?;
        // The maintenance worker runs nothing that leaves traces, and nobody else uses its connections.
        session.tainted = !maintenance::shared::is_worker();
        let prelude = settings.changes(session.settings.as_deref());
        Ok(Joined { key, prelude, levels: session.levels, fixed_snapshot: false, settings })
    })
}

/// Whether a statement outside of a transaction block on the node means what it means here.
fn may_stand_alone(level: u32) -> bool {
    // SAFETY: reads variables of this backend.
    unsafe { level == 1 && pg_sys::XactIsoLevel <= pg_sys::XACT_READ_COMMITTED as i32 && !pg_sys::XactReadOnly }
}

fn write_steps(steps: &[Step], access: Access, prelude: &mut String) {
    CONSTRAINTS.with_borrow(|constraints| {
        for step in steps {
            let level = match step {
                Step::Begin => {
                    prelude.push_str(&begin(access));
                    1
                }
                Step::Savepoint(level) => {
                    prelude.push_str(&format!("SAVEPOINT s{level};"));
                    *level
                }
            };
            for (_, sql) in constraints.iter().filter(|(at, _)| *at == level) {
                prelude.push_str(sql);
                prelude.push(';');
            }
        }
    });
}

/// `BEGIN` with the local transaction's characteristics.
pub(super) fn begin(access: Access) -> String {
    // SAFETY: reads variables of this backend.
    let (isolation, read_only, deferrable) =
        unsafe { (pg_sys::XactIsoLevel, pg_sys::XactReadOnly, pg_sys::XactDeferrable) };
    let isolation = match isolation as u32 {
        pg_sys::XACT_SERIALIZABLE => "SERIALIZABLE",
        pg_sys::XACT_REPEATABLE_READ => "REPEATABLE READ",
        _ if access == Access::ReadSnapshot => "REPEATABLE READ",
        pg_sys::XACT_READ_UNCOMMITTED => "READ UNCOMMITTED",
        _ => "READ COMMITTED",
    };
    // Within a savepoint read-only may end with it; the executor here refuses writes anyway.
    let mode = if read_only && current_level() == 1 { "READ ONLY" } else { "READ WRITE" };
    let deferrable = if deferrable { " DEFERRABLE" } else { "" };
    format!("BEGIN ISOLATION LEVEL {isolation} {mode}{deferrable};")
}

fn refuse_second_node(sessions: &BTreeMap<Key, Session>, key: Key) -> Result<()> {
    let other = sessions.iter().find(|(k, s)| s.levels.is_inside() && k.node != key.node);
    match (other, sessions.get(&key)) {
        (Some((_, other)), Some(this)) => {
            Err(Error::unsupported("a serializable transaction cannot use more than one node")
                .detail(format!(
                    "It has used node \"{}\" and now needs node \"{}\"; each would serialize on its own.",
                    other.name, this.name
                ))
                .hint("Use SET TRANSACTION ISOLATION LEVEL REPEATABLE READ."))
        }
        _ => Ok(()),
    }
}

fn shared_snapshot(node: &str) -> Error {
    Error::unsupported(format!("cannot write on node \"{node}\" while a result is read from it in several tasks"))
        .hint("Read the result to its end before, or SET sharding.max_tasks_per_node = 1.")
}

pub(super) fn gone() -> Error {
    Error::new(sqlstate::CONNECTION_FAILURE, "a session with a node disappeared")
}

impl Session {
    /// The conversation over connection `serial`; the error that ended it otherwise.
    pub fn talk(&mut self, serial: u64) -> Result<&mut Conversation> {
        match &mut self.connection {
            Some(connection) if connection.serial == serial => Ok(&mut connection.talk),
            _ => Err(match &self.last_loss {
                Some((lost, error)) if *lost == serial => error.clone(),
                _ => {
                    Error::new(sqlstate::CONNECTION_FAILURE, format!("connection to node \"{}\" was closed", self.name))
                }
            }),
        }
    }

    /// How the last connection ended.
    pub fn last_loss_or_closed(&self) -> Error {
        match &self.last_loss {
            Some((_, error)) => error.clone(),
            None => Error::new(sqlstate::CONNECTION_FAILURE, "the connection was closed"),
        }
    }

    /// Closes the connection for good: it failed, or its state is not known.
    pub fn lose(&mut self, error: Error) {
        if let Some(connection) = self.connection.take() {
            lease::note_error(connection.place(), &error.message);
            self.last_loss = Some((connection.serial, error.clone()));
        }
        if self.levels.is_inside() {
            self.lost = Some(error);
        }
        self.set_settings(None);
        self.task_levels.clear();
    }

    /// Closes the connection because it did not come to rest.
    pub fn give_up(&mut self) {
        let error =
            Error::new(sqlstate::CONNECTION_FAILURE, format!("connection to node \"{}\" was closed", self.name))
                .detail("It did not answer in time after a cancel.");
        self.lose(error);
    }

    /// The transaction on the node has ended; `rolled_back` takes settings back.
    pub fn leave_transaction(&mut self, rolled_back: bool) {
        if rolled_back {
            self.forget_settings();
        }
        self.settings_unsure = false;
        self.levels = Levels::default();
        self.fixed_snapshot = false;
        self.exported = false;
        self.holds = false;
        self.prepared = None;
        self.lost = None;
        self.task_levels.clear();
        if let Some(connection) = &mut self.connection {
            connection.talk.abandon_all(|_| true);
            connection.talk.forget_portals();
            connection.talk.take_stray();
        }
    }

    /// A rollback of any kind: what was set since the last commit may be gone.
    pub fn forget_settings(&mut self) {
        if self.settings_unsure {
            self.set_settings(None);
        }
    }

    /// Sends and receives what is possible without waiting; whether anything came in.
    pub fn pump(&mut self, notices: &mut Vec<Report>) -> bool {
        self.exchange(Connection::pump, notices)
    }

    /// Whether more rows wait here than may, if so many connections have some.
    fn is_overfull(&self, connections: usize) -> bool {
        self.connection.as_ref().is_some_and(|c| c.talk.overfull(aside::limit(connections)).is_some())
    }

    fn exchange(&mut self, exchange: fn(&mut Connection) -> Result<bool>, notices: &mut Vec<Report>) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        match exchange(connection) {
            Ok(received) => {
                for mut notice in connection.talk.take_notices() {
                    notice.error = on_node(notice.error, &self.name);
                    notices.push(notice);
                }
                received
            }
            Err(error) => {
                self.lose(error);
                true
            }
        }
    }
}

/// Starts a task on a joined node; `ask` queues it behind the prelude.
pub fn start(joined: Joined, ask: impl FnOnce(&mut Conversation, &str) -> Result<TaskId>) -> Result<Running> {
    with_sessions(|sessions| {
        let session = sessions.get_mut(&joined.key).ok_or_else(gone)?;
        let connection = session.connection.as_mut().ok_or_else(gone)?;
        let task = ask(&mut connection.talk, &joined.prelude)?;
        connection.statements += 1;
        let serial = connection.serial;
        session.levels = joined.levels;
        session.fixed_snapshot = joined.fixed_snapshot;
        if session.settings.as_ref() != Some(&joined.settings) {
            session.set_settings(Some(joined.settings));
            session.settings_unsure = true;
            session.settings_sent = true;
        }
        session.task_levels.insert(task, current_level());
        Ok(Running { key: joined.key, serial, task })
    })
}

/// A task under way.
#[derive(Clone, Copy, Debug)]
pub struct Running {
    pub key: Key,
    pub serial: u64,
    pub task: TaskId,
}

/// Sends on this session what is possible without waiting.
pub fn send(key: Key) {
    with_sessions(|sessions| {
        if let Some(session) = sessions.get_mut(&key)
            && let Some(connection) = &mut session.connection
        {
            connection.send();
        }
    });
}

/// Sends and receives on these sessions what is possible without waiting; whether anything came.
pub fn pump(keys: &[Key]) -> bool {
    exchange(keys, Connection::pump)
}

fn exchange(keys: &[Key], exchange: fn(&mut Connection) -> Result<bool>) -> bool {
    let mut notices = Vec::new();
    let (received, overfull) = with_sessions(|sessions| {
        let (mut received, mut overfull) = (false, false);
        let connections = sessions.len();
        for key in keys {
            if let Some(session) = sessions.get_mut(key)
                && session.exchange(exchange, &mut notices)
            {
                received = true;
                overfull |= session.is_overfull(connections);
            }
        }
        (received, overfull)
    });
    if overfull {
        aside::make_room(keys);
    }
    for notice in notices {
        match notice.severity {
            Severity::Notice => report::notice(&notice.error),
            _ => report::warning(&notice.error),
        }
    }
    received
}

/// Waits until something comes in on one of these sessions, or one can be written to.
pub fn wait_for(keys: &[Key], patience: Patience) -> Woken {
    if keys.len() == 1 && receive_waiting(keys, patience) {
        return Woken::Ready;
    }
    let sources: Vec<Source> = with_sessions(|sessions| {
        let mut sources: Vec<Source> =
            keys.iter().filter_map(|key| Some(sessions.get(key)?.connection.as_ref()?.source())).collect();
        sources.sort_by_key(|source| source.fd);
        sources.dedup_by_key(|source| source.fd);
        sources
    });
    wait(&sources, patience)
}

/// Waits for one node in the receive itself, for a moment; whether anything came in. Cheaper than to wait for the
/// socket first, by some 5 of 100 microseconds of a point query. A signal ends it; a latch that is set without one is
/// noticed by who waits next.
fn receive_waiting(keys: &[Key], patience: Patience) -> bool {
    let is_soon = |deadline: Instant| deadline.saturating_duration_since(Instant::now()) <= LONGEST_WAIT;
    if is_interrupt_pending() || patience.deadline.is_some_and(is_soon) {
        return false;
    }
    let received = reported(Event::Node, || exchange(keys, Connection::pump_waiting));
    if patience.interruptible {
        check_interrupts();
    }
    received
}

/// Remembers a SET CONSTRAINTS for nodes that join the transaction later.
pub fn remember_constraints(sql: &str) {
    CONSTRAINTS.with_borrow_mut(|all| all.push((current_level(), sql.to_string())));
}

/// Whether no SET CONSTRAINTS is remembered.
pub fn no_constraints() -> bool {
    CONSTRAINTS.with_borrow(Vec::is_empty)
}

/// The level ended: what it set holds for the one around it, or is forgotten.
pub fn end_constraints_level(level: u32, rolled_back: bool) {
    CONSTRAINTS.with_borrow_mut(|all| {
        if rolled_back {
            all.retain(|(at, _)| *at < level);
        } else {
            for (at, _) in all.iter_mut().filter(|(at, _)| *at >= level) {
                *at = level - 1;
            }
        }
    });
}
