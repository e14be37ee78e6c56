//! What is shared of a pool, the connections of one kind, and of those who wait for one.
//!
//! The connections of a pool stand for each other: same node, same user, same credentials. Its queue
//! is a list through the places of those who wait.

use crate::pool::text::SharedText;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// What connections have in common that may stand for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolKey {
    pub database: u32,
    pub node: u32,
    pub mapping: u32,
    /// For what cannot run in a transaction.
    pub outside: bool,
    /// The same for pools of which one transaction may use several; 0: for none.
    pub family: u64,
    /// Hash of place and credentials.
    pub fingerprint: u128,
}

/// The connections to one node as one user, their waiters and counters.
#[derive(Debug, Default)]
pub struct Pool {
    pub(super) used: AtomicBool,
    pub database: AtomicU32,
    pub node: AtomicU32,
    pub mapping: AtomicU32,
    pub outside: AtomicBool,
    pub(super) family: AtomicU64,
    pub(super) fingerprint: [AtomicU64; 2],
    /// Slots that are not free.
    pub(super) open: AtomicU32,
    /// Slots whose owner may come to need others.
    pub(super) bound: AtomicU32,
    /// Connections may be kept although nobody uses them.
    pub warm: AtomicBool,
    /// The length of the queue, its first and its last waiter (their place + 1).
    pub(super) waiting: AtomicU32,
    pub(super) first: AtomicU32,
    pub(super) last: AtomicU32,
    /// Failed attempts to connect since the last one that succeeded, and when the last one failed.
    pub failures: AtomicU32,
    pub failed_at: AtomicI64,
    pub counters: Counters,
    pub node_name: SharedText<64>,
    pub user: SharedText<64>,
}

/// What has happened in a pool. Leases are those of connections that are closed.
#[derive(Debug, Default)]
pub struct Counters {
    pub leases: AtomicU64,
    pub waits: AtomicU64,
    pub wait_micros: AtomicU64,
    pub opened: AtomicU64,
    pub closed: AtomicU64,
    pub failed: AtomicU64,
}

/// A place to wait in.
#[derive(Debug, Default)]
pub struct Waiter {
    /// The waiting backend; 0: nobody.
    pub(super) owner: AtomicU32,
    pub(super) pool: AtomicU32,
    pub(super) next: AtomicU32,
    pub(super) previous: AtomicU32,
    /// The number of this wait, and of the turn that it is in.
    pub(super) ticket: AtomicU64,
    pub(super) turn: AtomicU64,
    pub(super) alone: AtomicBool,
    /// What the waiter got, see `Grant`.
    pub(super) granted: AtomicU64,
    /// How to wake the waiter: whatever it put there.
    pub(super) latch: AtomicUsize,
}

impl Pool {
    pub fn key(&self) -> PoolKey {
        let half = |i: usize| u128::from(self.fingerprint[i].load(Ordering::Relaxed));
        PoolKey {
            database: self.database.load(Ordering::Relaxed),
            node: self.node.load(Ordering::Relaxed),
            mapping: self.mapping.load(Ordering::Relaxed),
            outside: self.outside.load(Ordering::Relaxed),
            family: self.family.load(Ordering::Relaxed),
            fingerprint: half(0) << 64 | half(1),
        }
    }

    /// Whether nobody has, opens or waits for a connection.
    pub(super) fn is_empty(&self) -> bool {
        self.open.load(Ordering::Relaxed) == 0 && self.waiting.load(Ordering::SeqCst) == 0
    }

    pub(super) fn begin(&self, key: &PoolKey) {
        self.database.store(key.database, Ordering::Relaxed);
        self.node.store(key.node, Ordering::Relaxed);
        self.mapping.store(key.mapping, Ordering::Relaxed);
        self.outside.store(key.outside, Ordering::Relaxed);
        self.family.store(key.family, Ordering::Relaxed);
        self.fingerprint[0].store((key.fingerprint >> 64) as u64, Ordering::Relaxed);
        self.fingerprint[1].store(key.fingerprint as u64, Ordering::Relaxed);
        self.failures.store(0, Ordering::Relaxed);
        self.warm.store(false, Ordering::SeqCst);
        let Counters { leases, waits, wait_micros, opened, closed, failed } = &self.counters;
        for counter in [leases, waits, wait_micros, opened, closed, failed] {
            counter.store(0, Ordering::Relaxed);
        }
        self.used.store(true, Ordering::Relaxed);
    }

    /// How many wait.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::SeqCst)
    }
}
