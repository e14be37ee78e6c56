//! What launcher, workers and backends share: a seat per database, the lock around the seats, places for
//! backends that wait for long, and for those that commit in two phases.

use crate::error::{Error, sqlstate};
use crate::maintenance::seats::{Seat, Seats};
use crate::maintenance::under_way::{Commit, UnderWay};
use crate::maintenance::waits::{LongWait, LongWaits};
use crate::pg::pool::shared::{my_latch, my_pid, wake as set_latch};
use crate::pg::report;
use crate::pg::shmem::{Array, Element, Layout, Piece, Space};
use pgrx::pg_sys;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Databases with nodes, and those that are just being tried.
const SEATS: usize = 128;

/// The beginning of the shared memory; the places of those who wait and of those who commit follow, one for each
/// process that there can be.
struct Header {
    launcher: AtomicUsize,
    seats: [Seat; SEATS],
    waits: Array<LongWait>,
    commits: Array<Commit>,
}

// SAFETY: atomics, of which all zeroes are valid ones.
unsafe impl Element for LongWait {}
// SAFETY: as above.
unsafe impl Element for Commit {}

/// Where the arrays are, and the bytes of the whole.
fn arrays() -> (Array<LongWait>, Array<Commit>, usize) {
    // SAFETY: set before the hooks of shared memory are called.
    let processes = unsafe { pg_sys::MaxBackends }.max(1) as usize;
    let mut space = Space::behind::<Header>();
    let (waits, commits) = (space.array(processes), space.array(processes));
    (waits, commits, space.bytes)
}

// SAFETY: atomics, and numbers that nobody changes.
unsafe impl Layout for Header {
    fn bytes() -> usize {
        arrays().2
    }

    fn begin() -> Header {
        let (waits, commits, _) = arrays();
        let seats = std::array::from_fn(|_| Seat::default());
        Header { launcher: AtomicUsize::default(), seats, waits, commits }
    }
}

static MAINTENANCE: Piece<Header> = Piece::new(c"sharding_maintenance");

static IS_WORKER: AtomicBool = AtomicBool::new(false);
/// This process has told the log that there is no seat left.
static TOLD: AtomicBool = AtomicBool::new(false);

/// Reserves the shared memory; while the postmaster loads its libraries.
pub fn install() {
    MAINTENANCE.reserve();
}

/// The seats; none if the library was not loaded with the server.
pub fn seats() -> Seats<'static> {
    Seats(MAINTENANCE.get().map_or(&[], |header| &header.seats))
}

/// The places of those who wait.
pub fn long_waits() -> LongWaits<'static> {
    // SAFETY: the header is the one in shared memory.
    LongWaits(MAINTENANCE.get().map_or(&[], |header| unsafe { header.waits.of(header) }))
}

/// The two-phase commits of live backends.
pub fn under_way() -> UnderWay<'static> {
    // SAFETY: as above.
    UnderWay(MAINTENANCE.get().map_or(&[], |header| unsafe { header.commits.of(header) }))
}

/// Runs `work` under the lock, if there is one. It must neither wait nor raise an ERROR.
pub fn locked<T>(work: impl FnOnce(Seats<'static>) -> T) -> T {
    let _held = MAINTENANCE.hold(pg_sys::LWLockMode::LW_EXCLUSIVE);
    work(seats())
}

/// Whether a process of this server has that number.
pub fn is_alive(process: u32) -> bool {
    // SAFETY: looks the process up under its own lock.
    !unsafe { pg_sys::BackendPidGetProc(process as i32) }.is_null()
}

/// The database of this process.
pub fn my_database() -> u32 {
    // SAFETY: a variable of this process.
    unsafe { pg_sys::MyDatabaseId }.to_u32()
}

/// This process is the launcher.
pub fn set_launcher() {
    if let Some(header) = MAINTENANCE.get() {
        header.launcher.store(my_latch(), Ordering::Release);
    }
}

/// Has the launcher look at the seats.
pub fn wake_launcher() {
    if let Some(header) = MAINTENANCE.get() {
        set_latch(header.launcher.load(Ordering::Acquire));
    }
}

/// This database has nodes: it gets a worker if it has none. Cheap where it has.
pub fn note_nodes() {
    note(my_database());
}

/// The same for any database that may have some. Whether there is a seat for it.
pub fn note(database: u32) -> bool {
    let made = || locked(|seats| seats.find_or_make(database, is_alive));
    match seats().find(database).or_else(made) {
        Some(seat) => {
            seat.note();
            if seat.worker() == 0 {
                wake_launcher();
            }
            true
        }
        None => {
            if MAINTENANCE.get().is_some() && !TOLD.swap(true, Ordering::Relaxed) {
                report::log(
                    &Error::new(sqlstate::CONFIGURATION_LIMIT, "no more databases with nodes can be looked after")
                        .detail(format!("There are {SEATS} on this server already."))
                        .hint("Run sharding.recover_transactions() in this one from a scheduler."),
                );
            }
            false
        }
    }
}

/// A transaction of this database has left something on a node that is to be finished: the worker looks for it
/// at once. Raises no ERROR.
pub fn wake() {
    if let Some(seat) = seats().find(my_database()) {
        seat.report_trouble();
        wake_worker(seat);
    } else {
        note_nodes();
    }
}

/// Has a worker look around.
pub fn wake_worker(seat: &Seat) {
    match seat.latch() {
        0 => wake_launcher(),
        latch => set_latch(latch),
    }
}

/// Whether this process is the worker of its database.
pub fn is_worker() -> bool {
    IS_WORKER.load(Ordering::Relaxed)
}

/// This process becomes the worker of its database, until it ends; `None` if there is one already.
pub fn take_seat(database: u32) -> Option<&'static Seat> {
    let seat = locked(|seats| {
        let seat = seats.find(database)?;
        seat.take(my_pid(), my_latch(), is_alive).then_some(seat)
    })?;
    IS_WORKER.store(true, Ordering::Relaxed);
    // Before the process belongs to the database: called after it has left it.
    // SAFETY: the callback is in the library, which is never unloaded.
    unsafe { pg_sys::on_shmem_exit(Some(leave), pg_sys::Datum::from(database)) };
    Some(seat)
}

unsafe extern "C-unwind" fn leave(_code: i32, database: pg_sys::Datum) {
    if let Some(seat) = seats().find(database.value() as u32) {
        seat.vacate(my_pid());
        wake_launcher();
    }
}
