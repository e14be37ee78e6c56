//! Statements that read several nodes see each transaction of several nodes on all of them or on none.
//!
//! A node fixes a SELECT's snapshot when it binds it. So the statement goes to all its nodes while no commit is
//! half done ([`gate`]), with a Flush behind Bind: the nodes report their snapshots at once, the gate is left, and
//! they go on executing. A statement of one node pays nothing, unless `sharding.consistent_reads` is `snapshot`.
//!
//! | transaction | what is fixed | when |
//! |---|---|---|
//! | one SELECT, no block | one snapshot per node, for all scans (`REPEATABLE READ` on the nodes) | statement starts |
//! | `READ COMMITTED` block | the same, as long as it has only read on these nodes: their transactions begin anew | statement starts |
//! | the same, one scan cut into tasks | one snapshot per node | statement starts |
//! | after a write | each scan's own snapshot, all in one pass | statement starts |
//! | `REPEATABLE READ` | one snapshot on every node of the cluster | a node is used first |
//! | `SERIALIZABLE` | nothing: it uses one node | |
//!
//! Scans whose parameters come from other parts of the plan can only be sent when those are known, in a pass of
//! their own. This server is one of the nodes: if a transaction that wrote here and elsewhere was committed since the
//! statement's local snapshot was taken, that is taken anew.

use crate::catalog::NodeId;
use crate::error::{Error, Result, sqlstate};
use crate::pg::alone::is_sent_by_client;
use crate::pg::gate::{self, Pass};
use crate::pg::guard::boundary;
use crate::pg::gucs::{ConsistentReads, consistent_reads};
use crate::pg::pool::taint::Work;
use crate::pg::scan::Scan;
use crate::pg::session::command::{collect_each, wait_finished};
use crate::pg::session::leases::ensure_connected;
use crate::pg::session::registry::{
    Access, Running, has_fixed_snapshot, is_repeatable_read, is_serializable, join, key_of, may_begin_anew, start,
    with_fixed_snapshot,
};
use crate::pg::wait::Patience;
use crate::pg::{catalog_cache, hooks, raw, readers, transaction, tree};
use crate::plan::remote::{Effect, Tier};
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::ptr;
use std::time::{Duration, Instant};

/// How long the nodes may take to report their snapshots before commits go on. What holds them up is a lock on a
/// table there; the statement then waits for it outside of the gate and tries again.
const HOLD: Duration = Duration::from_secs(1);
const ATTEMPTS: usize = 3;

/// Whether the transaction's one snapshot on all nodes is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fixed {
    No,
    Now,
    Yes,
}

thread_local! {
    static FIXED: Cell<Fixed> = const { Cell::new(Fixed::No) };
    /// A statement of this transaction has, or had, a snapshot of its own on nodes.
    static OWN_SNAPSHOT: Cell<bool> = const { Cell::new(false) };
    /// Nodes that could not be reached then, and why.
    static ABSENT: RefCell<Vec<(NodeId, Error)>> = const { RefCell::new(Vec::new()) };
}

/// Whether a write on one node may commit without regard to readers of several.
pub fn commits_freely() -> bool {
    consistent_reads() != ConsistentReads::Snapshot
}

/// How many nodes a statement has to read to pass the gate. That of a single node could not see anything half done,
/// but two of them could see two commits in different orders.
fn fewest() -> usize {
    if consistent_reads() == ConsistentReads::Snapshot { 1 } else { 2 }
}

/// Whether [`previous_is_over`] has anything to do.
pub fn has_own_snapshot() -> bool {
    OWN_SNAPSHOT.get()
}

/// The statement under way has a snapshot of its own on nodes: its transactions there end before the client's next one.
pub fn has_taken_snapshot() {
    OWN_SNAPSHOT.set(true);
}

/// The client's next statement begins: what had a snapshot of its own has ended, and nodes go on with transactions of
/// the local isolation level.
pub fn previous_is_over() -> Result<()> {
    OWN_SNAPSHOT.set(false);
    if is_repeatable_read() {
        return Ok(());
    }
    let nodes: Vec<NodeId> = with_fixed_snapshot().into_iter().filter(|node| may_begin_anew(*node)).collect();
    transaction::leave_nodes(&nodes, "COMMIT")
}

/// A statement is about to run: its scans on several nodes are sent together. Called after the executor has
/// prepared it; `before` is the number of scans that there were before.
pub unsafe fn statement_starts(desc: *mut pg_sys::QueryDesc, before: usize, eflags: i32, first: bool) -> Result<()> {
    if consistent_reads() == ConsistentReads::Off || is_serializable() {
        return Ok(());
    }
    if is_repeatable_read() {
        // SAFETY: as below.
        let is_first = first && unsafe { is_sent_by_client((*desc).plannedstmt) };
        return if is_first && FIXED.get() == Fixed::No { fix_at(Some((desc, eflags))) } else { Ok(()) };
    }
    // SAFETY: the executor has just prepared the statement.
    unsafe {
        let Some(mut reading) = Reading::of_statement(desc, before)? else { return Ok(()) };
        let here = reads_here(desc);
        // A scan that is all there is passes the gate by itself when its rows are wanted.
        let alone = !here && reading.scans.len() == 1 && reading.ready().count() == 1;
        if alone || reading.nodes.len() + usize::from(here) < fewest() || !reading.can_send() {
            return Ok(());
        }
        let local = if here { (*desc).snapshot } else { ptr::null_mut() };
        if let Opened::Outdated(pass) = reading.open(local)? {
            // What is prepared has the old snapshot in it. No commit can pass meanwhile.
            renew(desc, eflags);
            if let Some(mut reading) = Reading::of_statement(desc, before)? {
                let bound = reading.send(Instant::now() + HOLD)?;
                drop(pass);
                if !bound {
                    reading.take_back()?;
                    reading.open(ptr::null_mut())?;
                }
            }
        }
        Ok(())
    }
}

/// Sends a scan that was not sent when its statement started.
pub unsafe fn open(scan: &mut Scan, nodes: &[NodeId]) -> Result<()> {
    // SAFETY: the executor runs the scan.
    unsafe {
        let alone = nodes.len() < fewest() || consistent_reads() == ConsistentReads::Off;
        let has_snapshot = is_repeatable_read() || is_serializable();
        if has_snapshot || nodes.iter().all(|node| has_fixed_snapshot(*node)) {
            return scan.send(false, false);
        }
        let is_cut = scan.wants_tasks(nodes)? && may_begin_anew_for(scan.statement(), nodes);
        if alone {
            if is_cut {
                begin_anew(nodes)?;
            }
            return scan.send(false, is_cut);
        }
        let own_snapshot = nodes.len() > 1 && scan.has_own_snapshot() || is_cut;
        let mut reading = Reading {
            scans: vec![scan],
            nodes: nodes.to_vec(),
            own_snapshot,
            running: true,
            sent: Vec::new(),
            fixing: Vec::new(),
        };
        reading.open(ptr::null_mut()).map(drop)
    }
}

/// Whether these nodes may begin their transactions anew, with one snapshot for a statement: it is the client's next
/// one, and they have only been read.
unsafe fn may_begin_anew_for(statement: *mut pg_sys::PlannedStmt, nodes: &[NodeId]) -> bool {
    // SAFETY: reads backend state.
    let is_clients = raw::GetCurrentTransactionNestLevel() == 1 && unsafe { is_sent_by_client(statement) };
    is_clients && nodes.iter().all(|node| may_begin_anew(*node))
}

/// The statement under way gets a snapshot of its own on these nodes.
fn begin_anew(nodes: &[NodeId]) -> Result<()> {
    transaction::leave_nodes(nodes, "COMMIT")?;
    has_taken_snapshot();
    Ok(())
}

/// Whether a statement reads tables of this server, copies of reference tables among them.
unsafe fn reads_here(desc: *mut pg_sys::QueryDesc) -> bool {
    // SAFETY: reads the plan.
    unsafe {
        tree::each::<pg_sys::RangeTblEntry>((*(*desc).plannedstmt).rtable).any(|rte| {
            (*rte).rtekind == pg_sys::RTEKind::RTE_RELATION
                && (*rte).relid.to_u32() >= pg_sys::FirstNormalObjectId
                && matches!((*rte).relkind as u8, b'r' | b'm')
        })
    }
}

/// Prepares a statement anew, with a local snapshot taken now.
unsafe fn renew(desc: *mut pg_sys::QueryDesc, eflags: i32) {
    // SAFETY: the statement is prepared and not yet run; what `ExecutorStart` has begun is ended the same way.
    unsafe {
        boundary(|| {
            if (*(*desc).estate).es_top_eflags & pg_sys::EXEC_FLAG_SKIP_TRIGGERS as i32 == 0 {
                pg_sys::AfterTriggerEndQuery((*desc).estate);
            }
            (*(*desc).estate).es_finished = true;
            pg_sys::ExecutorEnd(desc);
            let old = (*desc).snapshot;
            (*desc).snapshot = pg_sys::RegisterSnapshot(pg_sys::GetTransactionSnapshot());
            pg_sys::UnregisterSnapshot(old);
            hooks::next_executor_start(desc, eflags);
        });
    }
}

/// Scans that are sent together.
struct Reading {
    scans: Vec<*mut Scan>,
    /// All nodes that they may read.
    nodes: Vec<NodeId>,
    /// The statement is the whole transaction: all its scans on a node see one snapshot.
    own_snapshot: bool,
    /// The executor is at its only scan, whose parameters are known therefore.
    running: bool,
    sent: Vec<*mut Scan>,
    /// Nodes that have taken a snapshot without a scan.
    fixing: Vec<Running>,
}

enum Opened {
    Yes,
    /// Nothing is sent: the local snapshot lacks what the nodes show.
    Outdated(Pass),
}

impl Reading {
    /// What a statement reads on nodes; `None` if that is nothing, or one scan of one node.
    unsafe fn of_statement(desc: *mut pg_sys::QueryDesc, before: usize) -> Result<Option<Reading>> {
        // SAFETY: registered scans are alive; parameters from outside of the plan are known.
        unsafe {
            let mut scans = readers::since(before);
            scans.retain(|scan| matches!((&**scan).plan.effect, Effect::Read { .. }));
            let mut nodes = Vec::new();
            for scan in &scans {
                let early = (**scan).is_ready_early();
                let its_nodes = if early { (**scan).nodes()? } else { (**scan).possible_nodes()? };
                if early && its_nodes.len() == 1 && scans.len() == 1 && (&**scan).plan.tier == Tier::Router {
                    return Ok(None);
                }
                nodes.extend(its_nodes);
            }
            nodes.sort();
            nodes.dedup();
            if nodes.is_empty() {
                return Ok(None);
            }
            let mut own_snapshot = scans.iter().all(|scan| (**scan).has_own_snapshot());
            if !own_snapshot && scans.iter().all(|scan| (**scan).only_reads()) {
                let has_use = scans.len() > 1 || (*scans[0]).wants_tasks(&nodes)?;
                own_snapshot = has_use && may_begin_anew_for((*desc).plannedstmt, &nodes);
            }
            Ok(Some(Reading { scans, nodes, own_snapshot, running: false, sent: Vec::new(), fixing: Vec::new() }))
        }
    }

    /// The scans that can be sent now.
    fn ready(&self) -> impl Iterator<Item = *mut Scan> {
        // SAFETY: the scans are alive.
        self.scans.iter().copied().filter(|scan| self.running || unsafe { (**scan).is_ready_early() })
    }

    /// Whether anything can be fixed before the statement runs.
    fn can_send(&self) -> bool {
        self.own_snapshot || self.ready().next().is_some()
    }

    /// Sends the scans while no commit is half done; nothing if `local` is outdated.
    unsafe fn open(&mut self, local: pg_sys::Snapshot) -> Result<Opened> {
        if self.own_snapshot {
            begin_anew(&self.nodes)?;
        }
        for _ in 0..ATTEMPTS {
            // Before the gate: a place in the pool may take its time.
            for node in &self.nodes {
                ensure_connected(key_of(*node)?)?;
            }
            let pass = gate::enter_reader(&self.nodes)?;
            // SAFETY: the caller's snapshot is registered, the scans are alive.
            unsafe {
                if !local.is_null() && gate::is_outdated(local) {
                    return Ok(Opened::Outdated(pass));
                }
                let bound = self.send(Instant::now() + HOLD)?;
                drop(pass);
                if bound {
                    return Ok(Opened::Yes);
                }
                self.take_back()?;
            }
        }
        Err(locked_out())
    }

    /// Sends what can be sent; whether all nodes have taken their snapshots at `deadline`.
    unsafe fn send(&mut self, deadline: Instant) -> Result<bool> {
        // SAFETY: the scans are alive.
        unsafe {
            let mut missing = self.nodes.clone();
            for scan in self.ready().collect::<Vec<_>>() {
                let its_nodes = (*scan).nodes()?;
                // One scan per node is enough where the others see the same snapshot.
                if self.own_snapshot && !its_nodes.iter().any(|node| missing.contains(node)) {
                    continue;
                }
                missing.retain(|node| !its_nodes.contains(node));
                self.sent.push(scan);
                (*scan).send(true, self.own_snapshot)?;
            }
            if self.own_snapshot {
                self.fixing = take_snapshots(&missing, Access::ReadSnapshot)?;
            }
            for scan in &self.sent {
                if !(**scan).wait_bound(Some(deadline))? {
                    return Ok(false);
                }
            }
            if !wait_finished(&self.fixing, Patience::until(deadline)) {
                return Ok(false);
            }
            let fixing = std::mem::take(&mut self.fixing);
            collect_each(&fixing, Patience::STATEMENT).into_iter().try_for_each(|answer| answer.map(drop))?;
            self.sent.clear();
            Ok(true)
        }
    }

    /// Waits, outside of the gate, for what holds the nodes up, and undoes what was sent. In a block the locks
    /// stay, so that they hold up nobody the next time.
    unsafe fn take_back(&mut self) -> Result<()> {
        // SAFETY: the scans are alive.
        unsafe {
            for scan in &self.sent {
                (**scan).wait_bound(None)?;
            }
            collect_each(&std::mem::take(&mut self.fixing), Patience::STATEMENT)
                .into_iter()
                .try_for_each(|answer| answer.map(drop))?;
            for scan in self.sent.drain(..) {
                (*scan).take_back();
            }
        }
        if self.own_snapshot {
            transaction::leave_nodes(&self.nodes, "ROLLBACK")?;
        }
        Ok(())
    }
}

fn locked_out() -> Error {
    Error::new(sqlstate::LOCK_NOT_AVAILABLE, "could not take the snapshots of all nodes at the same time")
        .detail("Each time a node did not answer soon enough, as it does when a table there is locked.")
        .hint("Repeat the statement later, or SET sharding.consistent_reads = off.")
}

/// Has nodes begin their transactions and take the snapshots of them.
fn take_snapshots(nodes: &[NodeId], access: Access) -> Result<Vec<Running>> {
    nodes
        .iter()
        .map(|node| start(join(*node, access, Work::Command)?, |talk, prelude| talk.query(prelude, "SELECT")))
        .collect()
}

// REPEATABLE READ.

/// A node joins the transaction. If that is a repeatable-read one, the first node that does so fixes the snapshots
/// of all.
pub fn node_joins(node: NodeId) -> Result<()> {
    if !is_repeatable_read() || consistent_reads() == ConsistentReads::Off {
        return Ok(());
    }
    match FIXED.get() {
        Fixed::Now => Ok(()),
        Fixed::No => fix_at(None),
        Fixed::Yes => {
            let reason = ABSENT.with_borrow(|absent| absent.iter().find(|(n, _)| *n == node).map(|(_, e)| e.clone()));
            let name = catalog_cache::cluster().map_or_else(String::new, |map| map.node_name(node).to_string());
            Err(Error::new(
                sqlstate::SERIALIZATION_FAILURE,
                format!("node \"{name}\" has no part in the snapshot of this repeatable-read transaction"),
            )
            .detail(reason.map_or_else(
                || "Its connection was lost, or it was added later.".to_string(),
                |error| format!("It could not be used when the snapshot was taken: {}.", error.message),
            ))
            .hint("Repeat the transaction."))
        }
    }
}

/// `first`: the transaction's first statement, which is prepared and not yet run.
fn fix_at(first: Option<(*mut pg_sys::QueryDesc, i32)>) -> Result<()> {
    FIXED.set(Fixed::Now);
    let fixed = fix_snapshots(first);
    FIXED.set(if fixed.is_ok() { Fixed::Yes } else { Fixed::No });
    if fixed.is_err() {
        // In a savepoint, the transaction may go on: with snapshots that are taken together.
        ABSENT.take();
        transaction::leave_nodes(&catalog_cache::cluster().map_or_else(Vec::new, |map| map.node_ids()), "ROLLBACK")?;
    }
    fixed
}

fn fix_snapshots(first: Option<(*mut pg_sys::QueryDesc, i32)>) -> Result<()> {
    let Some(map) = catalog_cache::cluster() else { return Ok(()) };
    let mut nodes = Vec::new();
    for node in map.node_ids() {
        match key_of(node).and_then(ensure_connected) {
            Ok(()) => nodes.push(node),
            // An error for who uses it.
            Err(error) => ABSENT.with_borrow_mut(|absent| absent.push((node, error))),
        }
    }
    for _ in 0..ATTEMPTS {
        let pass = gate::enter_reader(&nodes)?;
        // SAFETY: the transaction's own snapshot, which lasts as long as it; a statement that has not run.
        unsafe {
            if boundary(|| gate::is_outdated(pg_sys::GetTransactionSnapshot())) {
                let Some((desc, eflags)) = first else { return Err(outdated()) };
                boundary(|| refresh_transaction_snapshot());
                renew(desc, eflags);
            }
        }
        let running = take_snapshots(&nodes, Access::Read)?;
        let finished = wait_finished(&running, Patience::until(Instant::now() + HOLD));
        drop(pass);
        let answers = collect_each(&running, Patience::STATEMENT);
        if finished {
            return answers.into_iter().try_for_each(|answer| answer.map(drop));
        }
        transaction::leave_nodes(&nodes, "ROLLBACK")?;
    }
    Err(locked_out())
}

fn outdated() -> Error {
    Error::new(sqlstate::SERIALIZATION_FAILURE, "could not take one snapshot of this server and the nodes")
        .detail("A transaction that wrote here and on nodes was committed since this one had read something here.")
        .hint("Repeat the transaction.")
}

/// Brings the snapshot of a repeatable-read transaction, which has read nothing yet, up to date. Its `xmin` stays: the
/// list of registered snapshots is ordered by it, and an older one is as good.
unsafe fn refresh_transaction_snapshot() {
    // SAFETY: both snapshots are this backend's; the lists live as long as the transaction.
    unsafe {
        let current = pg_sys::GetTransactionSnapshot();
        let latest = pg_sys::GetLatestSnapshot();
        let kept = |list: *const pg_sys::TransactionId, count: usize| {
            let bytes = count.max(1) * size_of::<pg_sys::TransactionId>();
            let copy = pg_sys::MemoryContextAlloc(pg_sys::TopTransactionContext, bytes).cast::<pg_sys::TransactionId>();
            if count > 0 {
                ptr::copy_nonoverlapping(list, copy, count);
            }
            copy
        };
        (*current).xip = kept((*latest).xip, (*latest).xcnt as usize);
        (*current).xcnt = (*latest).xcnt;
        (*current).subxip = kept((*latest).subxip, (*latest).subxcnt.max(0) as usize);
        (*current).subxcnt = (*latest).subxcnt;
        (*current).suboverflowed = (*latest).suboverflowed;
        (*current).xmax = (*latest).xmax;
    }
}

/// Whether there is nothing to forget at the transaction's end.
pub fn is_unused() -> bool {
    FIXED.get() == Fixed::No && !OWN_SNAPSHOT.get()
}

/// The transaction is over.
pub fn transaction_ended() {
    OWN_SNAPSHOT.set(false);
    FIXED.set(Fixed::No);
    ABSENT.take();
}
