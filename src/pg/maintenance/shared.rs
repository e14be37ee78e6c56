//! What launcher, workers and backends share: a seat per database, the lock around the seats, places for
//! backends that wait for long, and for those that commit in two phases.

use crate::error::{Error, sqlstate};
use crate::maintenance::seats::{Seat, Seats};
use crate::maintenance::under_way::{Commit, UnderWay};
use crate::maintenance::waits::{LongWait, LongWaits};
use crate::pg::pool::shared::{my_latch, my_pid, wake as set_latch};
use crate::pg::{guard, report};
use pgrx::pg_sys;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

/// Databases with nodes, and those that are just being tried.
const SEATS: usize = 128;

/// The beginning of the shared memory; the places of those who wait and of those who commit follow. All zeroes are
/// a valid one.
struct Header {
    launcher: AtomicUsize,
    seats: [Seat; SEATS],
    /// How many places of each kind there are.
    places: usize,
}

const _: () = assert!(
    size_of::<Header>().is_multiple_of(align_of::<LongWait>())
        && size_of::<LongWait>().is_multiple_of(align_of::<Commit>())
);

/// One for each process that there can be.
fn places() -> usize {
    // SAFETY: set before the hooks are called.
    unsafe { pg_sys::MaxBackends }.max(1) as usize
}

fn bytes() -> usize {
    size_of::<Header>() + places() * (size_of::<LongWait>() + size_of::<Commit>())
}

static IS_WORKER: AtomicBool = AtomicBool::new(false);
/// This process has told the log that there is no seat left.
static TOLD: AtomicBool = AtomicBool::new(false);
/// Set in the postmaster, inherited by its children.
static SHARED: AtomicPtr<Header> = AtomicPtr::new(std::ptr::null_mut());
static LOCK: AtomicPtr<pg_sys::LWLock> = AtomicPtr::new(std::ptr::null_mut());

const TRANCHE: &std::ffi::CStr = c"sharding_maintenance";

static mut PREV_SHMEM_REQUEST: pg_sys::shmem_request_hook_type = None;
static mut PREV_SHMEM_STARTUP: pg_sys::shmem_startup_hook_type = None;

/// Installs the hooks; while the postmaster loads its libraries.
pub fn install() {
    // SAFETY: the postmaster has one thread.
    unsafe {
        PREV_SHMEM_REQUEST = pg_sys::shmem_request_hook;
        pg_sys::shmem_request_hook = Some(request);
        PREV_SHMEM_STARTUP = pg_sys::shmem_startup_hook;
        pg_sys::shmem_startup_hook = Some(start);
    }
}

unsafe extern "C-unwind" fn request() {
    guard::guarded(|| {
        // SAFETY: the previous hook is called as Postgres would.
        unsafe {
            if let Some(previous) = PREV_SHMEM_REQUEST {
                guard::boundary(|| previous());
            }
            pg_sys::RequestAddinShmemSpace(bytes() as _);
            pg_sys::RequestNamedLWLockTranche(TRANCHE.as_ptr(), 1);
        }
        Ok(())
    })
}

unsafe extern "C-unwind" fn start() {
    guard::guarded(|| {
        // SAFETY: as above. The memory is nobody else's before the postmaster starts its first child.
        unsafe {
            if let Some(previous) = PREV_SHMEM_STARTUP {
                guard::boundary(|| previous());
            }
            let mut found = false;
            let memory = pg_sys::ShmemInitStruct(TRANCHE.as_ptr(), bytes() as _, &mut found).cast::<Header>();
            if !found {
                memory.cast::<u8>().write_bytes(0, bytes());
                (*memory).places = places();
            }
            SHARED.store(memory, Ordering::Relaxed);
            let lock = pg_sys::GetNamedLWLockTranche(TRANCHE.as_ptr());
            LOCK.store(&raw mut (*lock).lock, Ordering::Relaxed);
        }
        Ok(())
    })
}

fn header() -> Option<&'static Header> {
    // SAFETY: null, or made by `start` for the life of the server.
    unsafe { SHARED.load(Ordering::Relaxed).as_ref() }
}

/// The seats; none if the library was not loaded with the server.
pub fn seats() -> Seats<'static> {
    Seats(header().map_or(&[], |header| &header.seats))
}

/// The places of those who wait.
pub fn long_waits() -> LongWaits<'static> {
    // SAFETY: they follow the header in the number that `start` has given it; all their fields are atomics.
    LongWaits(header().map_or(&[], |header| unsafe { std::slice::from_raw_parts(first_wait(header), header.places) }))
}

/// # Safety
/// The header is the one in shared memory.
unsafe fn first_wait(header: &Header) -> *const LongWait {
    // SAFETY: what follows it has the size that `bytes` says.
    unsafe { std::ptr::from_ref(header).add(1).cast() }
}

/// The two-phase commits of live backends.
pub fn under_way() -> UnderWay<'static> {
    // SAFETY: they follow the places of those who wait.
    UnderWay(header().map_or(&[], |header| unsafe {
        std::slice::from_raw_parts(first_wait(header).add(header.places).cast::<Commit>(), header.places)
    }))
}

struct Held(*mut pg_sys::LWLock);

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: taken in `locked`.
        unsafe { pg_sys::LWLockRelease(self.0) }
    }
}

/// Runs `work` under the lock. It must neither wait nor raise an ERROR.
pub fn locked<T>(work: impl FnOnce(Seats<'static>) -> T) -> T {
    let lock = LOCK.load(Ordering::Relaxed);
    if lock.is_null() {
        return work(seats());
    }
    // SAFETY: set together with the seats.
    unsafe { pg_sys::LWLockAcquire(lock, pg_sys::LWLockMode::LW_EXCLUSIVE) };
    let _held = Held(lock);
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
    if let Some(header) = header() {
        header.launcher.store(my_latch(), Ordering::Release);
    }
}

/// Has the launcher look at the seats.
pub fn wake_launcher() {
    if let Some(header) = header() {
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
            if header().is_some() && !TOLD.swap(true, Ordering::Relaxed) {
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
