//! The rules of the pool: who gets which connection, who waits, what becomes of a dead owner's.
//!
//! ```
//! use sharding::pool::{pools::PoolKey, slot::Owner};
//! use sharding::pool::table::{Claim, GivenBack, Memory, Wish};
//! let memory = Memory::new(4, 4, 4);
//! let (table, ann, bob) = (memory.table(), Owner(7), Owner(8));
//! let all = table.exclusive();
//! let key = PoolKey { database: 1, node: 2, mapping: 3, outside: false, family: 5, fingerprint: 6 };
//! let n1 = all.pool_for(&key).unwrap();
//! let wish = |owner| Wish { owner, alone: true, again: None, turn: None, latch: 0 };
//! // The first one has a connection opened, the second waits: the limit is 1.
//! let Claim::Open(slot) = all.claim(n1, wish(ann), 1, |_| ()) else { panic!() };
//! assert!(table.opened(slot, table.slots[slot].word().generation, ann));
//! let Claim::Wait(place) = all.claim(n1, wish(bob), 1, |_| ()) else { panic!() };
//! assert_eq!(table.give_back(slot, ann), GivenBack::SomeoneWaits { bound: false });
//! all.pass_on(slot, false, 1, |_| ());
//! assert_eq!(table.granted(place), Some(Claim::Leased(slot)));
//! ```
//!
//! The common case, a connection leased again by who had it last and given back, takes no lock: one
//! compare-and-swap each ([`Table::lease_again`], [`Table::give_back`]). All that concerns the limit
//! or the queue ([`crate::pool::queue`]) is done under the lock ([`Exclusive`]). No wake-up is lost between the two: who
//! gives back first makes the slot idle, then looks whether somebody waits; who waits first stands in
//! the queue, then looks for an idle slot.
//!
//! Who might come to need several connections gets one only as long as everybody can finish
//! ([`is_safe`]); the first in the queue that may have it does. So transactions over several nodes do not
//! wait for each other in a circle, and those that need one connection only do not notice.

use crate::pool::pools::{Pool, PoolKey, Waiter};
use crate::pool::safe::is_safe;
use crate::pool::slot::{Facts, Owner, Slot, State, Word};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// What a backend got that asked for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The slot's connection.
    Leased(usize),
    /// The right to have a connection opened in this slot.
    Open(usize),
    /// A place in the queue.
    Wait(usize),
    /// Not even that: there are no places left.
    Full,
}

/// Who asks for a connection.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    pub owner: Owner,
    /// No other connection is asked for until this one is given back.
    pub alone: bool,
    /// A slot and its generation: the connection that would be best.
    pub again: Option<(usize, u64)>,
    /// The number of its turn, if that goes on: see [`crate::pool::turn`].
    pub turn: Option<u64>,
    /// How to wake who waits.
    pub latch: usize,
}

/// What giving back has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenBack {
    Idle,
    /// [`Exclusive::pass_on`] is due. `bound`: its owner might have asked for others.
    SomeoneWaits {
        bound: bool,
    },
    /// The connection was doomed: its worker has to close it.
    Broken,
    /// The slot was not the owner's.
    NotYours,
}

/// The shared arrays.
#[derive(Clone, Copy)]
pub struct Table<'a> {
    pub slots: &'a [Slot],
    pub pools: &'a [Pool],
    pub waiters: &'a [Waiter],
    pub totals: &'a Totals,
}

/// What concerns all pools.
#[derive(Debug, Default)]
pub struct Totals {
    pub(super) tickets: AtomicU64,
    pub(super) waiting: AtomicU64,
    /// Pools beyond this were never used.
    pools: AtomicUsize,
    /// Nor slots beyond this. To look at one costs more than a cache line: they are far apart.
    slots: AtomicUsize,
}

/// A table in ordinary memory.
pub struct Memory {
    slots: Vec<Slot>,
    pools: Vec<Pool>,
    waiters: Vec<Waiter>,
    totals: Totals,
}

impl Memory {
    pub fn new(slots: usize, pools: usize, waiters: usize) -> Memory {
        Memory {
            slots: (0..slots).map(|_| Slot::new()).collect(),
            pools: (0..pools).map(|_| Pool::default()).collect(),
            waiters: (0..waiters).map(|_| Waiter::default()).collect(),
            totals: Totals::default(),
        }
    }

    pub fn table(&self) -> Table<'_> {
        Table { slots: &self.slots, pools: &self.pools, waiters: &self.waiters, totals: &self.totals }
    }
}

const OPEN: u64 = 1 << 32;

/// What a waiter was granted, as a number; 0 is nothing yet.
pub(super) fn grant(claim: Claim) -> u64 {
    match claim {
        Claim::Leased(slot) => slot as u64 + 1,
        Claim::Open(slot) => (slot as u64 + 1) | OPEN,
        Claim::Wait(_) | Claim::Full => 0,
    }
}

impl<'a> Table<'a> {
    /// The same, for who holds the lock.
    pub fn exclusive(self) -> Exclusive<'a> {
        Exclusive(self)
    }

    /// Leases a slot that had this generation when it was last used: it is the same connection
    /// then. For who needs no other; not past those who wait.
    pub fn lease_again(&self, slot: usize, generation: u64, me: Owner) -> bool {
        let slot = &self.slots[slot];
        let Some(pool) = self.pools.get(slot.pool.load(Ordering::Relaxed) as usize) else { return false };
        let leased = pool.waiting.load(Ordering::SeqCst) == 0
            && slot.change(Word { state: State::Idle, generation }, State::Leased(me));
        if leased {
            slot.alone.store(true, Ordering::Relaxed);
        }
        leased
    }

    /// The slot's owner lets go of it.
    fn unbind(&self, slot: &Slot, alone: bool) {
        if !alone {
            self.pools[slot.pool.load(Ordering::Relaxed) as usize].bound.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Gives a clean connection back.
    pub fn give_back(&self, slot: usize, me: Owner) -> GivenBack {
        let slot = &self.slots[slot];
        let word = slot.word();
        if word.state != State::Leased(me) {
            return GivenBack::NotYours;
        }
        // First: once it is idle, it may be bound to somebody else.
        let alone = slot.alone.swap(true, Ordering::Relaxed);
        self.unbind(slot, alone);
        if !slot.change(word, State::Idle) {
            return GivenBack::NotYours;
        }
        if slot.doomed.load(Ordering::SeqCst) {
            // Somebody else may have it by now; then that one breaks it.
            slot.change(Word { state: State::Idle, ..word }, State::Broken);
            return GivenBack::Broken;
        }
        if self.totals.waiting.load(Ordering::SeqCst) == 0 {
            return GivenBack::Idle;
        }
        // Who waits elsewhere waits for this one only where there is no room for another connection.
        let has_room = self.totals.slots.load(Ordering::SeqCst) < self.slots.len();
        let pool = &self.pools[slot.pool.load(Ordering::Relaxed) as usize];
        if alone && has_room && pool.waiting.load(Ordering::SeqCst) == 0 {
            return GivenBack::Idle;
        }
        GivenBack::SomeoneWaits { bound: !alone }
    }

    /// The owner will not use the slot any more and nobody else shall; whether it was its.
    pub fn break_off(&self, slot: usize, me: Owner) -> bool {
        let slot = &self.slots[slot];
        let word = slot.word();
        let alone = slot.alone.load(Ordering::Relaxed);
        let broken = word.owner() == Some(me) && slot.change(word, State::Broken);
        if broken {
            self.unbind(slot, alone);
        }
        broken
    }

    /// A connection for `owner` is there; `false` if it has given up meanwhile.
    pub fn opened(&self, slot: usize, generation: u64, owner: Owner) -> bool {
        let seen = Word { state: State::Opening(owner), generation };
        let pool = self.slots[slot].pool.load(Ordering::Relaxed) as usize;
        let opened = self.slots[slot].change(seen, State::Leased(owner));
        if opened {
            self.pools[pool].counters.opened.fetch_add(1, Ordering::Relaxed);
        }
        opened
    }

    /// The connection must be closed as soon as nobody uses it; whether nobody does.
    pub fn doom(&self, slot: usize) -> bool {
        let slot = &self.slots[slot];
        slot.doomed.store(true, Ordering::SeqCst);
        let word = slot.word();
        word.state == State::Idle && slot.change(word, State::Broken)
    }

    /// What a waiter has got, if it has.
    pub fn granted(&self, place: usize) -> Option<Claim> {
        let granted = self.waiters[place].granted.load(Ordering::Acquire);
        let slot = ((granted & (OPEN - 1)) as usize).checked_sub(1)?;
        Some(if granted & OPEN == 0 { Claim::Leased(slot) } else { Claim::Open(slot) })
    }

    /// The waiter has taken what it was granted.
    pub fn leave(&self, place: usize) {
        self.waiters[place].owner.store(0, Ordering::Release);
    }

    /// The number of the turn in which a waiter waits.
    pub fn turn_at(&self, place: usize) -> u64 {
        self.waiters[place].turn.load(Ordering::Relaxed)
    }

    /// A pool's number of connections, of any state.
    pub fn open_in(&self, pool: usize) -> u32 {
        self.pools[pool].open.load(Ordering::Relaxed)
    }

    /// The slots that were ever used; all others are free.
    pub fn slots_in_use(&self) -> &'a [Slot] {
        &self.slots[..self.totals.slots.load(Ordering::Relaxed).min(self.slots.len())]
    }

    /// The pools in use.
    pub fn pools_in_use(&self) -> impl Iterator<Item = (usize, &'a Pool)> + use<'a> {
        let ever = self.totals.pools.load(Ordering::Relaxed).min(self.pools.len());
        self.pools[..ever].iter().enumerate().filter(|(_, pool)| pool.used.load(Ordering::Relaxed))
    }
}

/// The table in the hands of who holds the lock.
pub struct Exclusive<'a>(pub Table<'a>);

impl<'a> Exclusive<'a> {
    /// The pool of that key, if there is one.
    pub fn find_pool(&self, key: &PoolKey) -> Option<usize> {
        self.0.pools_in_use().find(|(_, pool)| pool.key() == *key).map(|(index, _)| index)
    }

    /// The pool of that key, made if there is none; `None` if there is no room for another one.
    pub fn pool_for(&self, key: &PoolKey) -> Option<usize> {
        let pools = self.0.pools;
        if let Some(found) = self.find_pool(key) {
            return Some(found);
        }
        let unused = pools.iter().position(|pool| !pool.used.load(Ordering::Relaxed));
        let empty = || pools.iter().position(Pool::is_empty);
        let index = unused.or_else(empty)?;
        pools[index].begin(key);
        self.0.totals.pools.fetch_max(index + 1, Ordering::Relaxed);
        Some(index)
    }

    /// Whether a pool has no connection to give and none may be opened.
    pub(super) fn is_exhausted(&self, pool: usize, limit: u32) -> bool {
        self.0.open_in(pool) >= limit && !self.0.slots_in_use().iter().any(|slot| slot.is_idle_in(pool))
    }

    /// As [`Exclusive::claim`]; `None` if the claim would be to open one and nobody waits.
    pub fn claim_open(&self, pool: usize, wish: Wish, limit: u32, wake: impl FnMut(usize)) -> Option<Claim> {
        if self.0.pools[pool].waiting.load(Ordering::SeqCst) == 0 {
            if (wish.alone || self.stays_safe(pool, wish.owner, limit))
                && let Some(slot) = self.take_idle(pool, wish)
            {
                return Some(Claim::Leased(slot));
            }
            if self.0.open_in(pool) < limit {
                return None;
            }
        }
        Some(self.claim(pool, wish, limit, wake))
    }

    /// A connection for who can do without: only at once, only while nobody waits for one, and only as long as half of
    /// the pool is left to others.
    pub fn claim_beside(&self, pool: usize, wish: Wish, limit: u32) -> Option<Claim> {
        let Table { totals, .. } = self.0;
        let is_spare = totals.waiting.load(Ordering::SeqCst) == 0
            && (self.held_in(pool) + 1) * 2 <= limit
            && self.stays_safe(pool, wish.owner, limit);
        if !is_spare {
            return None;
        }
        if let Some(slot) = self.take_idle(pool, wish) {
            return Some(Claim::Leased(slot));
        }
        let may_open = self.0.open_in(pool) < limit;
        if may_open { self.take_free(pool, wish.owner, wish.alone, |_| true).map(Claim::Open) } else { None }
    }

    fn bind(&self, pool: usize, slot: &Slot, alone: bool) {
        slot.alone.store(alone, Ordering::Relaxed);
        if !alone {
            self.0.pools[pool].bound.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn take_idle(&self, pool: usize, wish: Wish) -> Option<usize> {
        let take = |slot: &Slot| {
            let word = slot.word();
            let taken =
                slot.is_idle_in(pool) && word.state == State::Idle && slot.change(word, State::Leased(wish.owner));
            if taken {
                self.bind(pool, slot, wish.alone);
            }
            taken
        };
        if let Some((best, generation)) = wish.again
            && let Some(slot) = self.0.slots.get(best)
            && slot.word().generation == generation
            && take(slot)
        {
            return Some(best);
        }
        self.0.slots_in_use().iter().position(take)
    }

    pub(super) fn try_claim(&self, pool: usize, wish: Wish, limit: u32) -> Option<Claim> {
        let Table { slots, pools, .. } = self.0;
        let Wish { owner: me, alone, .. } = wish;
        if !alone && !self.stays_safe(pool, me, limit) {
            return None;
        }
        if let Some(slot) = self.take_idle(pool, wish) {
            return Some(Claim::Leased(slot));
        }
        if pools[pool].open.load(Ordering::Relaxed) >= limit {
            return None;
        }
        if let Some(slot) = self.take_free(pool, me, alone, |_| true) {
            return Some(Claim::Open(slot));
        }
        if self.has_broken() {
            return None;
        }
        // A connection that another pool does not use makes room.
        for slot in slots {
            let word = slot.word();
            if word.state == State::Idle
                && slot.pool.load(Ordering::Relaxed) as usize != pool
                && slot.change(word, State::Broken)
            {
                break;
            }
        }
        None
    }

    /// A free slot to open a connection in.
    fn take_free(&self, pool: usize, me: Owner, alone: bool, fits: impl Fn(usize) -> bool) -> Option<usize> {
        let Table { slots, pools, totals, .. } = self.0;
        let free = slots.iter().enumerate().position(|(index, slot)| {
            let word = slot.word();
            word.state == State::Free && fits(index) && slot.change(word, State::Opening(me))
        })?;
        let slot = &slots[free];
        slot.pool.store(pool as u32, Ordering::Relaxed);
        slot.doomed.store(false, Ordering::Relaxed);
        slot.facts.clear();
        self.bind(pool, slot, alone);
        pools[pool].open.fetch_add(1, Ordering::Relaxed);
        totals.slots.fetch_max(free + 1, Ordering::SeqCst);
        Some(free)
    }

    /// A slot that fits to open a connection in which nobody has asked for, if the pool has less than `least` and
    /// nobody waits for room.
    pub fn claim_spare(&self, pool: usize, me: Owner, least: u32, fits: impl Fn(usize) -> bool) -> Option<usize> {
        let needed = self.0.open_in(pool) < least && self.0.totals.waiting.load(Ordering::SeqCst) == 0;
        if needed { self.take_free(pool, me, true, fits) } else { None }
    }

    /// Whether a worker has something to close.
    pub fn has_broken(&self) -> bool {
        self.0.slots_in_use().iter().any(|slot| slot.word().state == State::Broken)
    }

    /// Whether everybody can finish if `me` gets a connection of a pool.
    fn stays_safe(&self, pool: usize, me: Owner, limit: u32) -> bool {
        let family = self.0.pools[pool].family.load(Ordering::Relaxed);
        if family == 0 {
            return true;
        }
        let of_family = || self.0.pools_in_use().filter(|(_, member)| member.family.load(Ordering::Relaxed) == family);
        let free = |(index, member): (usize, &Pool)| {
            limit.saturating_sub(member.bound.load(Ordering::Relaxed) + u32::from(index == pool))
        };
        if of_family().all(|member| free(member) > 0) {
            return true;
        }
        let members: Vec<usize> = of_family().map(|(index, _)| index).collect();
        let place = |pool: usize| members.iter().position(|member| *member == pool);
        let bound = self.0.slots_in_use().iter().filter_map(|slot| {
            let owner = slot.word().owner().filter(|_| !slot.alone.load(Ordering::Relaxed))?;
            Some((owner, place(slot.pool.load(Ordering::Relaxed) as usize)?))
        });
        let holds: Vec<(Owner, usize)> = bound.chain(place(pool).map(|index| (me, index))).collect();
        is_safe(&of_family().map(free).collect::<Vec<u32>>(), &holds)
    }

    /// Frees a slot whose connection is closed, as long as its word is what was seen.
    pub fn retire(&self, slot: usize, seen: Word) -> bool {
        let slot = &self.0.slots[slot];
        let pool = &self.0.pools[slot.pool.load(Ordering::Relaxed) as usize];
        let (leases, opened) =
            (slot.facts.leases.load(Ordering::Relaxed), slot.facts.opened_at.load(Ordering::Relaxed));
        let alone = slot.alone.load(Ordering::Relaxed);
        if seen.state == State::Free || !slot.renew(seen, State::Free) {
            return false;
        }
        if seen.owner().is_some() && !alone {
            pool.bound.fetch_sub(1, Ordering::Relaxed);
        }
        pool.open.fetch_sub(1, Ordering::Relaxed);
        Facts::add(&pool.counters.leases, leases);
        if opened != 0 {
            Facts::add(&pool.counters.closed, 1);
        }
        true
    }

    /// A backend is gone: it waits for nothing, and what it had is not trusted. Whether a worker has
    /// something to close.
    pub fn bury(&self, owner: Owner, limit: u32, mut wake: impl FnMut(usize)) -> bool {
        for (place, waiter) in self.0.waiters.iter().enumerate() {
            if waiter.owner.load(Ordering::Relaxed) == owner.0 {
                self.withdraw(place, limit, &mut wake);
            }
        }
        let mut broken = false;
        for slot in 0..self.0.slots_in_use().len() {
            broken |= self.0.break_off(slot, owner);
        }
        broken
    }

    /// Who waits for which pool, and who holds a connection of which.
    #[allow(clippy::type_complexity)]
    pub fn waits_and_holds(&self) -> (Vec<(Owner, usize)>, Vec<(Owner, usize)>) {
        let waits = self.0.waiters.iter().enumerate().filter_map(|(place, waiter)| {
            let owner = waiter.owner.load(Ordering::Relaxed);
            let waits = owner != 0 && self.0.granted(place).is_none();
            waits.then(|| (Owner(owner), waiter.pool.load(Ordering::Relaxed) as usize))
        });
        let holds = self.0.slots_in_use().iter().filter_map(|slot| {
            let owner = slot.word().owner()?;
            Some((owner, slot.pool.load(Ordering::Relaxed) as usize))
        });
        (waits.collect(), holds.collect())
    }

    /// Whether a pool has a connection that nobody holds, or may get one.
    pub fn has_spare(&self, pool: usize, limit: u32) -> bool {
        self.held_in(pool) < limit
    }

    /// How many connections of a pool are somebody's.
    fn held_in(&self, pool: usize) -> u32 {
        let is_held =
            |slot: &&Slot| slot.word().owner().is_some() && slot.pool.load(Ordering::Relaxed) as usize == pool;
        self.0.slots_in_use().iter().filter(is_held).count() as u32
    }
}
