//! Waiting for sockets together with the backend's latch, so that every wait can be interrupted.
//!
//! The wait set of a single socket is kept with it: making one costs six system calls, and most
//! waits are for one node.

use crate::pg::compat;
use crate::pg::guard;
use crate::pg::maintenance::long_wait;
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::ffi::CStr;
use std::os::fd::RawFd;
use std::time::Instant;

unsafe extern "C-unwind" {
    fn ProcessInterrupts();
    fn FreeWaitEventSet(set: *mut pg_sys::WaitEventSet);
}

/// How long to wait, and whether a cancel ends the wait with an ERROR.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pub deadline: Option<Instant>,
    pub interruptible: bool,
}

impl Patience {
    /// As long as it takes, unless the statement is cancelled.
    pub const STATEMENT: Patience = Patience { deadline: None, interruptible: true };

    /// Until `deadline`, or the statement is cancelled.
    pub fn until(deadline: Instant) -> Patience {
        Patience { deadline: Some(deadline), interruptible: true }
    }

    /// Until `deadline`, where no ERROR may be raised: in the callbacks at transaction end.
    pub fn callback(deadline: Instant) -> Patience {
        Patience { deadline: Some(deadline), interruptible: false }
    }
}

/// A socket to wait for; always for input, for room to write if `write`.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    pub fd: RawFd,
    pub write: bool,
}

/// What is waited for, as `pg_stat_activity` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A node's answer.
    Node,
    /// A connection that others use.
    Pool,
    /// A pool worker's answer.
    PoolWorker,
    /// Commits of several nodes that are half done, or readers who take their snapshots.
    Gate,
    /// Something to do for a maintenance process.
    Maintenance,
    /// What a test has asked for.
    Failpoint,
}

const EVENTS: [&CStr; 6] = [
    c"ShardingNode",
    c"ShardingPool",
    c"ShardingPoolWorker",
    c"ShardingGate",
    c"ShardingMaintenance",
    c"ShardingFailpoint",
];

impl Event {
    /// The number by which Postgres knows it.
    pub fn number(self) -> u32 {
        NUMBERS.with(|numbers| {
            let number = &numbers[self as usize];
            if number.get() == 0 {
                number.set(compat::wait_event(EVENTS[self as usize]));
            }
            number.get()
        })
    }
}

/// How a wait ended. `Ready` may be spurious.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    Ready,
    TimedOut,
}

struct KeptSet {
    fd: RawFd,
    set: *mut pg_sys::WaitEventSet,
    socket_position: i32,
    events: u32,
}

thread_local! {
    static NUMBERS: [Cell<u32>; EVENTS.len()] = const { [const { Cell::new(0) }; EVENTS.len()] };
    static KEPT: RefCell<Vec<KeptSet>> = const { RefCell::new(Vec::new()) };
}

/// Raises the ERROR of a pending cancel, as `CHECK_FOR_INTERRUPTS` does.
pub fn check_interrupts() {
    // SAFETY: no Rust value lives in the closure; an ERROR leaves as a panic.
    unsafe {
        if pg_sys::InterruptPending != 0 {
            guard::boundary(|| ProcessInterrupts());
        }
    }
}

/// Whether a signal waits to be heeded.
pub fn is_interrupt_pending() -> bool {
    // SAFETY: a flag that signal handlers set.
    unsafe { pg_sys::InterruptPending != 0 }
}

/// Names what `f`, which raises no ERROR, waits for.
pub fn reported<T>(event: Event, f: impl FnOnce() -> T) -> T {
    // SAFETY: points to this backend's entry, or to a place of its own.
    unsafe { pg_sys::my_wait_event_info.write_volatile(event.number()) };
    let value = f();
    unsafe { pg_sys::my_wait_event_info.write_volatile(0) };
    value
}

/// Whether the user wants this backend to stop what it does.
pub fn is_cancel_pending() -> bool {
    // SAFETY: flags that signal handlers set.
    unsafe { pg_sys::QueryCancelPending != 0 || pg_sys::ProcDiePending != 0 }
}

/// Waits until one of the sockets can be read (or written), the latch is set, or time is up.
pub fn wait(sources: &[Source], patience: Patience) -> Woken {
    wait_as(Event::Node, sources, patience)
}

/// The same for something else than a node.
pub fn wait_as(event: Event, sources: &[Source], patience: Patience) -> Woken {
    let timeout = match patience.deadline {
        None => -1,
        Some(deadline) => {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Woken::TimedOut;
            }
            // Rounded up: a wait of 0 ms would spin.
            left.as_millis() as i64 + 1
        }
    };
    let woken = match event {
        Event::Node if patience.interruptible => wait_for_nodes(sources, timeout),
        _ => wait_once(event, sources, timeout),
    };
    if patience.interruptible {
        check_interrupts();
    }
    woken
}

fn wait_once(event: Event, sources: &[Source], timeout: i64) -> Woken {
    match sources {
        [] => wait_for_latch(event, timeout),
        [source] => wait_for_one(event, *source, timeout),
        _ => wait_for_all(event, sources, timeout),
    }
}

/// Waits for nodes; once that takes long, also for the word that this is a deadlock, whose ERROR it raises.
fn wait_for_nodes(sources: &[Source], timeout: i64) -> Woken {
    let limit = long_wait::limit().as_millis() as i64;
    if (0..=limit).contains(&timeout) {
        return wait_once(Event::Node, sources, timeout);
    }
    if wait_once(Event::Node, sources, limit) == Woken::Ready {
        return Woken::Ready;
    }
    let long = long_wait::begin();
    let woken = wait_once(Event::Node, sources, if timeout < 0 { timeout } else { timeout - limit });
    if let Some(error) = long.verdict() {
        drop(long);
        guard::throw(error);
    }
    woken
}

fn events_of(source: Source) -> u32 {
    if source.write { pg_sys::WL_SOCKET_READABLE | pg_sys::WL_SOCKET_WRITEABLE } else { pg_sys::WL_SOCKET_READABLE }
}

/// A set with the latch, the postmaster and room for `sockets`.
fn new_set(sockets: usize) -> *mut pg_sys::WaitEventSet {
    let set = compat::create_wait_event_set(sockets as i32 + 2);
    // SAFETY: the set was made for that many events; MyLatch belongs to this backend for its life.
    unsafe {
        pg_sys::AddWaitEventToSet(
            set,
            pg_sys::WL_LATCH_SET,
            pg_sys::PGINVALID_SOCKET,
            pg_sys::MyLatch,
            std::ptr::null_mut(),
        );
        pg_sys::AddWaitEventToSet(
            set,
            pg_sys::WL_EXIT_ON_PM_DEATH,
            pg_sys::PGINVALID_SOCKET,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        );
    }
    set
}

fn add_socket(set: *mut pg_sys::WaitEventSet, source: Source) -> i32 {
    // SAFETY: the socket is open, and the set has room for it.
    unsafe { pg_sys::AddWaitEventToSet(set, events_of(source), source.fd, std::ptr::null_mut(), std::ptr::null_mut()) }
}

fn wait_on(what: Event, set: *mut pg_sys::WaitEventSet, timeout: i64) -> Woken {
    let mut event = pg_sys::WaitEvent::default();
    // SAFETY: room for one event; the set's sockets are open.
    unsafe {
        let count = pg_sys::WaitEventSetWait(set, timeout, &mut event, 1, what.number());
        if count == 0 {
            return Woken::TimedOut;
        }
        if event.events & pg_sys::WL_LATCH_SET != 0 {
            pg_sys::ResetLatch(pg_sys::MyLatch);
        }
    }
    Woken::Ready
}

/// With the set that Postgres keeps for it.
fn wait_for_latch(event: Event, timeout: i64) -> Woken {
    let limit = if timeout < 0 { 0 } else { pg_sys::WL_TIMEOUT };
    // SAFETY: MyLatch belongs to this process.
    unsafe {
        let events = pg_sys::WL_LATCH_SET | pg_sys::WL_EXIT_ON_PM_DEATH | limit;
        let woken = pg_sys::WaitLatch(pg_sys::MyLatch, events as i32, timeout as _, event.number());
        if woken as u32 & pg_sys::WL_LATCH_SET == 0 {
            return Woken::TimedOut;
        }
        pg_sys::ResetLatch(pg_sys::MyLatch);
    }
    Woken::Ready
}

fn wait_for_one(event: Event, source: Source, timeout: i64) -> Woken {
    let events = events_of(source);
    let set = KEPT.with_borrow_mut(|kept| {
        let index = match kept.iter().position(|k| k.fd == source.fd) {
            Some(index) => index,
            None => {
                let set = new_set(1);
                let socket_position = add_socket(set, source);
                kept.push(KeptSet { fd: source.fd, set, socket_position, events });
                kept.len() - 1
            }
        };
        let entry = &mut kept[index];
        if entry.events != events {
            // SAFETY: the position is the socket's.
            unsafe {
                pg_sys::ModifyWaitEvent(entry.set, entry.socket_position, events, std::ptr::null_mut());
            }
            entry.events = events;
        }
        entry.set
    });
    wait_on(event, set, timeout)
}

fn wait_for_all(event: Event, sources: &[Source], timeout: i64) -> Woken {
    let set = Temporary(new_set(sources.len()));
    for source in sources {
        add_socket(set.0, *source);
    }
    wait_on(event, set.0, timeout)
}

struct Temporary(*mut pg_sys::WaitEventSet);

impl Drop for Temporary {
    fn drop(&mut self) {
        // SAFETY: made by `new_set`; freeing raises no ERROR, so it may happen while unwinding.
        unsafe { FreeWaitEventSet(self.0) }
    }
}

/// Frees what is kept for a socket that is about to be closed.
pub fn forget(fd: RawFd) {
    let _ = KEPT.try_with(|kept| {
        if let Ok(mut kept) = kept.try_borrow_mut()
            && let Some(index) = kept.iter().position(|k| k.fd == fd)
        {
            drop(Temporary(kept.swap_remove(index).set));
        }
    });
}
