//! What the processes share: the pool's table, the workers' seats, and the lock.

use crate::pg::guard;
use crate::pg::pool::settings::{self, MOST_WORKERS};
use crate::pool::pools::{Pool, Waiter};
use crate::pool::slot::Slot;
use crate::pool::table::{Exclusive, Table, Totals};
use pgrx::pg_sys;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

/// Where a worker is.
#[derive(Debug, Default)]
pub struct Seat {
    /// 0: it does not run.
    pub pid: AtomicU32,
    latch: AtomicUsize,
}

/// The beginning of the shared memory; slots, pools and waiters follow.
struct Header {
    totals: Totals,
    seats: [Seat; MOST_WORKERS],
    slots: usize,
    pools: usize,
    waiters: usize,
}

/// Pools beyond the number of slots: these have waiters or statistics only.
const SPARE_POOLS: usize = 64;

/// Set in the postmaster, inherited by its children.
static SHARED: AtomicPtr<Header> = AtomicPtr::new(std::ptr::null_mut());
static LOCK: AtomicPtr<pg_sys::LWLock> = AtomicPtr::new(std::ptr::null_mut());

const TRANCHE: &std::ffi::CStr = c"sharding_pool";

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

/// Numbers of slots, pools and places to wait in.
fn numbers() -> (usize, usize, usize) {
    let slots = settings::max_connections();
    // SAFETY: set before the hooks are called.
    let backends = unsafe { pg_sys::MaxBackends }.max(1) as usize;
    (slots, slots + SPARE_POOLS, backends)
}

fn bytes() -> usize {
    let (slots, pools, waiters) = numbers();
    size_of::<Header>() + slots * size_of::<Slot>() + pools * size_of::<Pool>() + waiters * size_of::<Waiter>()
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
        // SAFETY: as above; all zeroes are a valid header, slot, pool and waiter. The memory is
        // nobody else's before the postmaster starts its first child.
        unsafe {
            if let Some(previous) = PREV_SHMEM_STARTUP {
                guard::boundary(|| previous());
            }
            let mut found = false;
            let memory = pg_sys::ShmemInitStruct(TRANCHE.as_ptr(), bytes() as _, &mut found).cast::<Header>();
            if !found {
                memory.cast::<u8>().write_bytes(0, bytes());
                let (slots, pools, waiters) = numbers();
                (*memory).slots = slots;
                (*memory).pools = pools;
                (*memory).waiters = waiters;
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

/// The table; `None` if the library was not loaded with the server.
pub fn table() -> Option<Table<'static>> {
    let header = header()?;
    // SAFETY: the arrays follow the header in the size that `start` has given them; all their
    // fields are atomics. Their alignments divide the sizes before them.
    unsafe {
        let slots = std::ptr::from_ref(header).add(1).cast::<Slot>();
        let pools = slots.add(header.slots).cast::<Pool>();
        let waiters = pools.add(header.pools).cast::<Waiter>();
        Some(Table {
            slots: std::slice::from_raw_parts(slots, header.slots),
            pools: std::slice::from_raw_parts(pools, header.pools),
            waiters: std::slice::from_raw_parts(waiters, header.waiters),
            totals: &header.totals,
        })
    }
}

/// All that is in shared memory is aligned like this.
const _: () = assert!(
    size_of::<Header>().is_multiple_of(8)
        && size_of::<Slot>().is_multiple_of(8)
        && size_of::<Pool>().is_multiple_of(8)
        && align_of::<Slot>() == 8
);

struct Held(*mut pg_sys::LWLock);

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: taken in `locked`.
        unsafe { pg_sys::LWLockRelease(self.0) }
    }
}

/// Runs `work` under the lock. It must neither wait nor raise an ERROR.
pub fn locked<T>(table: Table<'static>, work: impl FnOnce(&Exclusive<'static>) -> T) -> T {
    let lock = LOCK.load(Ordering::Relaxed);
    // SAFETY: whoever has a table has the lock's address.
    unsafe { pg_sys::LWLockAcquire(lock, pg_sys::LWLockMode::LW_EXCLUSIVE) };
    let _held = Held(lock);
    work(&table.exclusive())
}

/// How this process is woken, as a number that other processes understand.
pub fn my_latch() -> usize {
    // SAFETY: the latch of a process with shared memory is in shared memory, at the same address in
    // all of them.
    unsafe { pg_sys::MyLatch as usize }
}

/// Wakes a process by its latch.
pub fn wake(latch: usize) {
    if latch != 0 {
        // SAFETY: from `my_latch`; latches of processes that are gone stay where they are.
        unsafe { pg_sys::SetLatch(latch as *mut pg_sys::Latch) }
    }
}

/// Of which worker a slot is.
pub fn worker_of(slot: usize) -> usize {
    slot % settings::workers()
}

/// The seat of a worker.
pub fn seat(worker: usize) -> Option<&'static Seat> {
    header()?.seats.get(worker)
}

impl Seat {
    pub fn take(&self) {
        self.latch.store(my_latch(), Ordering::Release);
        self.pid.store(my_pid(), Ordering::Release);
    }

    pub fn leave(&self) {
        self.pid.store(0, Ordering::Release);
        self.latch.store(0, Ordering::Release);
    }
}

/// Tells a worker that there is something to close.
pub fn wake_worker(worker: usize) {
    if let Some(seat) = seat(worker) {
        wake(seat.latch.load(Ordering::Acquire));
    }
}

pub fn wake_workers() {
    (0..settings::workers()).for_each(wake_worker);
}

pub fn my_pid() -> u32 {
    // SAFETY: a variable of this process.
    unsafe { pg_sys::MyProcPid as u32 }
}

/// The time in microseconds, as Postgres counts it.
pub fn now() -> i64 {
    // SAFETY: reads the clock.
    unsafe { pg_sys::GetCurrentTimestamp() }
}
