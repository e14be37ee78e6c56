//! What the processes share: the pool's table, the workers' seats, and the lock.

use crate::pg::pool::settings::{self, MOST_WORKERS};
use crate::pg::shmem::{Array, Element, Layout, Piece, Space};
use crate::pool::pools::{Pool, Waiter};
use crate::pool::slot::Slot;
use crate::pool::table::{Exclusive, Table, Totals};
use pgrx::pg_sys;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

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
    arrays: Arrays,
}

struct Arrays {
    slots: Array<Slot>,
    pools: Array<Pool>,
    waiters: Array<Waiter>,
}

// SAFETY: atomics, of which all zeroes are valid ones.
unsafe impl Element for Slot {}
// SAFETY: as above.
unsafe impl Element for Pool {}
// SAFETY: as above.
unsafe impl Element for Waiter {}

/// Pools beyond the number of slots: these have waiters or statistics only.
const SPARE_POOLS: usize = 64;

/// Where the arrays are, and the bytes of the whole.
fn arrays() -> (Arrays, usize) {
    let slots = settings::max_connections();
    // SAFETY: set before the hooks of shared memory are called.
    let backends = unsafe { pg_sys::MaxBackends }.max(1) as usize;
    let mut space = Space::behind::<Header>();
    let arrays =
        Arrays { slots: space.array(slots), pools: space.array(slots + SPARE_POOLS), waiters: space.array(backends) };
    (arrays, space.bytes)
}

// SAFETY: atomics, and numbers that nobody changes.
unsafe impl Layout for Header {
    fn bytes() -> usize {
        arrays().1
    }

    fn begin() -> Header {
        Header { totals: Totals::default(), seats: Default::default(), arrays: arrays().0 }
    }
}

static POOL: Piece<Header> = Piece::new(c"sharding_pool");

/// Reserves the shared memory; while the postmaster loads its libraries.
pub fn install() {
    POOL.reserve();
}

/// The table; `None` if the library was not loaded with the server.
pub fn table() -> Option<Table<'static>> {
    let header = POOL.get()?;
    let Arrays { slots, pools, waiters } = &header.arrays;
    // SAFETY: the header is the one in shared memory.
    unsafe {
        Some(Table {
            slots: slots.of(header),
            pools: pools.of(header),
            waiters: waiters.of(header),
            totals: &header.totals,
        })
    }
}

/// Runs `work` under the lock. It must neither wait nor raise an ERROR.
pub fn locked<T>(table: Table<'static>, work: impl FnOnce(&Exclusive<'static>) -> T) -> T {
    // Whoever has a table has its lock.
    let _held = POOL.hold(pg_sys::LWLockMode::LW_EXCLUSIVE);
    work(&table.exclusive())
}

/// The same for work that serves those who wait; they are woken when the lock is free.
pub fn serving<T>(table: Table<'static>, work: impl FnOnce(&Exclusive<'static>, &mut dyn FnMut(usize)) -> T) -> T {
    let mut latches = Vec::new();
    let result = locked(table, |all| work(all, &mut |latch| latches.push(latch)));
    latches.into_iter().for_each(wake);
    result
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
    POOL.get()?.seats.get(worker)
}

/// Whether a process is one of the workers.
pub fn is_worker(pid: u32) -> bool {
    (0..settings::workers()).filter_map(seat).any(|seat| seat.pid.load(Ordering::Acquire) == pid)
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
