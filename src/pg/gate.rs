//! The gate of [`crate::transaction::gate`] and the marks of [`crate::transaction::doubt`] in shared memory.
//!
//! ```text
//! reader   enter_reader([a, b])   waits until neither is in doubt and no commit is inside
//!          ... snapshots on a and b ...
//!          drop
//! commit   enter_commit()         waits until no reader is inside
//!          ... COMMIT PREPARED on a and b; b does not answer: mark(b) ...
//!          drop
//! ```
//!
//! A process that leaves by an ERROR drops its pass while it unwinds, one that exits gives it back in its exit
//! callback; if one crashes, the server starts anew with empty shared memory, and the log of decisions says which
//! nodes are in doubt.

use crate::catalog::NodeId;
use crate::error::{Error, Result, sqlstate};
use crate::pg::guard::boundary;
use crate::pg::shmem::{Locked, Piece, Shareable};
use crate::pg::wait::{Event, is_cancel_pending};
use crate::pg::{catalog_cache, gucs, maintenance, preload, transaction_log};
use crate::transaction::doubt::{Doubts, Mark};
use crate::transaction::gate::{Entry, Gate, Group, Ticket};
use pgrx::pg_sys;
use std::cell::Cell;
use std::time::{Duration, Instant};

/// Databases share gates: what it costs is some waiting for strangers.
const GATES: usize = 8;
/// Databases whose log was read since the server started.
const DATABASES: usize = 1024;
/// The newest transactions with writes here and on nodes that are remembered.
const RECENT: usize = 32;

/// How often somebody who waits looks whether it is wanted elsewhere.
const LOOK: Duration = Duration::from_millis(500);

struct Shared {
    gates: [Gate; GATES],
    /// Signalled when somebody was let in.
    admitted: [pg_sys::ConditionVariable; GATES],
    doubts: Doubts,
    /// Signalled when a mark is gone.
    cleared: pg_sys::ConditionVariable,
    known: [u32; DATABASES],
    /// Newest last; 0 is none.
    recent: [[u64; RECENT]; GATES],
    /// The newest of those not remembered any more.
    forgotten: [u64; GATES],
}

impl Default for Shared {
    fn default() -> Shared {
        let variable = || {
            let mut variable = pg_sys::ConditionVariable::default();
            // SAFETY: an own value; nobody waits for it before it is in its place.
            unsafe { pg_sys::ConditionVariableInit(&mut variable) };
            variable
        };
        Shared {
            gates: Default::default(),
            admitted: std::array::from_fn(|_| variable()),
            doubts: Doubts::default(),
            cleared: variable(),
            known: [0; DATABASES],
            recent: [[0; RECENT]; GATES],
            forgotten: [0; GATES],
        }
    }
}

// SAFETY: plain numbers, and condition variables, which are made for shared memory.
unsafe impl Shareable for Shared {}

static SHARED: Piece<Locked<Shared>> = Piece::new(c"sharding_gate");

thread_local! {
    /// The group in which this process is inside.
    static INSIDE: Cell<Option<Group>> = const { Cell::new(None) };
    /// The ticket with which it waits.
    static WAITING: Cell<Option<Ticket>> = const { Cell::new(None) };
    static EXIT_WATCHED: Cell<bool> = const { Cell::new(false) };
}

/// Reserves the shared memory; while the postmaster loads its libraries.
pub fn install() {
    if preload::is_preloaded() {
        SHARED.reserve();
    }
}

fn database() -> u32 {
    // SAFETY: a variable of this process.
    unsafe { pg_sys::MyDatabaseId.to_u32() }
}

fn gate() -> usize {
    database() as usize % GATES
}

fn mark_of(node: NodeId) -> Mark {
    Mark { database: database(), node: node.0 }
}

/// A pass through the gate; dropped, it is given back.
#[derive(Debug)]
pub struct Pass {
    group: Group,
}

impl Drop for Pass {
    fn drop(&mut self) {
        if INSIDE.take() == Some(self.group) {
            give_back(self.group);
        }
    }
}

fn give_back(group: Group) {
    let admitted = {
        let mut shared = SHARED.exclusive();
        shared.gates[gate()].leave(group).then(|| &raw mut shared.admitted[gate()])
    };
    broadcast(admitted);
}

fn broadcast(variable: Option<*mut pg_sys::ConditionVariable>) {
    if let Some(variable) = variable {
        // SAFETY: it is in shared memory for the life of the server.
        unsafe { pg_sys::ConditionVariableBroadcast(variable) }
    }
}

unsafe extern "C-unwind" fn leave_at_exit(_code: i32, _arg: pg_sys::Datum) {
    give_up_waiting();
    if let Some(group) = INSIDE.take() {
        give_back(group);
    }
}

fn give_up_waiting() {
    if let Some(ticket) = WAITING.take() {
        let admitted = {
            let mut shared = SHARED.exclusive();
            shared.gates[gate()].give_up(ticket).then(|| &raw mut shared.admitted[gate()])
        };
        broadcast(admitted);
    }
}

/// Takes a place in the queue back when an ERROR ends the wait.
struct Waiting;

impl Drop for Waiting {
    fn drop(&mut self) {
        give_up_waiting();
        // SAFETY: may be called at any time.
        unsafe { pg_sys::ConditionVariableCancelSleep() };
    }
}

/// Sleeps until `done`, time is up, or `tired`; whether it is done. `done` looks under the lock. An interrupt
/// ends it with an ERROR where interrupts are not held off.
fn sleep_until(
    variable: impl Fn(&mut Shared) -> *mut pg_sys::ConditionVariable,
    done: impl Fn(&Shared) -> bool,
    deadline: Option<Instant>,
    tired: impl Fn() -> bool,
) -> bool {
    let variable = variable(&mut SHARED.exclusive());
    // SAFETY: the variable is in shared memory for the life of the server.
    unsafe { pg_sys::ConditionVariablePrepareToSleep(variable) };
    let slept = loop {
        if done(&SHARED.share()) {
            break true;
        }
        let left = deadline.map_or(LOOK, |deadline| deadline.saturating_duration_since(Instant::now()).min(LOOK));
        if left.is_zero() || tired() {
            break false;
        }
        let milliseconds = left.as_millis() as i64 + 1;
        // SAFETY: as above; an ERROR leaves through the boundary.
        unsafe {
            let event = Event::Gate.number();
            boundary(|| pg_sys::ConditionVariableTimedSleep(variable, milliseconds, event));
        }
    };
    // SAFETY: as above.
    unsafe { pg_sys::ConditionVariableCancelSleep() };
    slept
}

/// Enters, or `None` if it takes too long or nobody wants it any more.
fn enter(group: Group, deadline: Option<Instant>, tired: impl Fn() -> bool) -> Option<Pass> {
    if !EXIT_WATCHED.replace(true) {
        // SAFETY: the callback is in the library, which is never unloaded.
        unsafe { pg_sys::on_shmem_exit(Some(leave_at_exit), pg_sys::Datum::from(0)) };
    }
    let entry = SHARED.exclusive().gates[gate()].enter(group);
    if let Entry::Queued(ticket) = entry {
        WAITING.set(Some(ticket));
        let waiting = Waiting;
        let admitted = sleep_until(
            |shared| &raw mut shared.admitted[gate()],
            |shared| shared.gates[gate()].is_admitted(ticket),
            deadline,
            tired,
        );
        if !admitted {
            drop(waiting);
            return None;
        }
        WAITING.set(None);
        drop(waiting);
    }
    INSIDE.set(Some(group));
    Some(Pass { group })
}

/// Lets a commit in, at a point where an ERROR may still end it.
pub fn enter_commit() -> Result<Pass> {
    enter(Group::Commit, None, || false)
        .ok_or_else(|| Error::new(sqlstate::INTERNAL, "the wait for readers of several nodes has ended too early"))
}

/// Lets a commit in that is decided; `None` if it takes longer than `bound`, or than `cancelled` if the user wants no
/// more of it.
pub fn enter_decided_commit(bound: Duration, cancelled: Duration) -> Option<Pass> {
    let start = Instant::now();
    enter(Group::Commit, Some(start + bound), || is_cancel_pending() && start.elapsed() > cancelled)
}

/// Lets a reader of these nodes in: none of them is in doubt while it is inside.
pub fn enter_reader(nodes: &[NodeId]) -> Result<Pass> {
    read_log()?;
    let timeout = gucs::consistent_read_timeout();
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    loop {
        let late = || {
            Error::new(sqlstate::LOCK_NOT_AVAILABLE, "commits on several nodes keep this statement from reading them")
                .detail(format!("It has waited for {} ms.", timeout.unwrap_or_default().as_millis()))
                .hint("Repeat the statement later, or raise sharding.consistent_read_timeout.")
        };
        let pass = enter(Group::Reader, deadline, || false).ok_or_else(late)?;
        let Some(doubtful) = in_doubt(nodes) else { return Ok(pass) };
        drop(pass);
        maintenance::wake();
        let certain = sleep_until(
            |shared| &raw mut shared.cleared,
            |shared| !shared.doubts.contains(mark_of(doubtful)),
            deadline,
            || false,
        );
        if !certain {
            let name = catalog_cache::cluster().map_or_else(String::new, |map| map.node_name(doubtful).to_string());
            return Err(Error::new(
                sqlstate::LOCK_NOT_AVAILABLE,
                format!("node \"{name}\" has not yet confirmed a committed transaction"),
            )
            .detail("To read it together with other nodes now could show half of that transaction.")
            .hint(
                "The maintenance worker, or sharding.recover_transactions(), finishes it once the node answers. What is \
                 there now can be read with SET sharding.consistent_reads = off.",
            ));
        }
    }
}

/// The first of these nodes that readers have to wait for.
fn in_doubt(nodes: &[NodeId]) -> Option<NodeId> {
    let shared = SHARED.share();
    nodes.iter().copied().find(|node| shared.doubts.contains(mark_of(*node)))
}

/// What the log has when the server starts may not be confirmed: its nodes are marked, once, before the first reader
/// of the database passes or its first commit is logged.
pub fn read_log() -> Result<()> {
    if SHARED.share().known.contains(&database()) {
        return Ok(());
    }
    let Some(map) = catalog_cache::cluster() else { return Ok(()) };
    let rows = transaction_log::rows()?;
    let mut shared = SHARED.exclusive();
    if shared.known.contains(&database()) {
        return Ok(());
    }
    let Some(free) = shared.known.iter().position(|known| *known == 0) else {
        return Err(Error::new(sqlstate::CONFIGURATION_LIMIT, "too many databases use \"sharding\" on this server"));
    };
    for name in rows.iter().flat_map(|row| &row.nodes) {
        if let Some(node) = map.nodes.iter().find(|node| node.name == *name) {
            shared.doubts.add(mark_of(node.id));
        }
    }
    shared.known[free] = database();
    Ok(())
}

/// These nodes have not confirmed what is decided; called while inside the gate, or before anything is visible.
pub fn mark(nodes: &[NodeId]) {
    if nodes.is_empty() {
        return;
    }
    let mut shared = SHARED.exclusive();
    for node in nodes {
        shared.doubts.add(mark_of(*node));
    }
}

/// The number of each node's mark, before it is asked what it has in doubt; to be given to [`clear`].
pub fn numbers(nodes: &[NodeId]) -> Result<Vec<(NodeId, u64)>> {
    read_log()?;
    let shared = SHARED.share();
    Ok(nodes.iter().map(|node| (*node, shared.doubts.number(mark_of(*node)))).collect())
}

/// These nodes had nothing left in doubt when they were asked.
pub fn clear(nodes: &[(NodeId, u64)]) {
    let cleared = {
        let mut shared = SHARED.exclusive();
        let mut any = false;
        for (node, number) in nodes.iter().filter(|(_, number)| *number > 0) {
            any |= shared.doubts.clear(mark_of(*node), *number);
        }
        any.then(|| &raw mut shared.cleared)
    };
    broadcast(cleared);
}

/// What stands for every node of the database in [`numbers`] and [`clear`].
pub const EVERY_NODE: NodeId = NodeId(0);

/// A transaction that wrote here and on nodes is visible on all of them; called inside the gate.
pub fn remember_local(xid: u64) {
    let mut shared = SHARED.exclusive();
    let shared = &mut *shared;
    let (recent, forgotten) = (&mut shared.recent[gate()], &mut shared.forgotten[gate()]);
    *forgotten = (*forgotten).max(recent[0]);
    recent.rotate_left(1);
    recent[RECENT - 1] = xid;
}

/// Whether `snapshot`, of this server, may lack what a transaction wrote that the nodes show by now; asked inside
/// the gate.
pub unsafe fn is_outdated(snapshot: pg_sys::Snapshot) -> bool {
    // SAFETY: the snapshot is registered.
    unsafe {
        let next = pg_sys::ReadNextFullTransactionId().value;
        let xmin = next - u64::from((next as u32).wrapping_sub((*snapshot).xmin.into_inner()));
        let shared = SHARED.share();
        shared.forgotten[gate()] >= xmin
            || shared.recent[gate()].iter().any(|xid| {
                *xid >= xmin && pg_sys::XidInMVCCSnapshot(pg_sys::TransactionId::from(*xid as u32), snapshot)
            })
    }
}
