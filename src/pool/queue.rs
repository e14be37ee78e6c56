//! Who waits for a connection, and who is served next.
//!
//! The queue of a pool is in the order of turns: who comes anew stands last, who comes back within its turn stands
//! where it stood before ([`crate::pool::turn`]). What comes back is given to the first who may have it, under the
//! lock, so that nobody snatches it.
//!
//! ```
//! use sharding::pool::{pools::PoolKey, slot::Owner};
//! use sharding::pool::table::{Claim, Memory, Wish};
//! let memory = Memory::new(1, 1, 4);
//! let (table, all) = (memory.table(), memory.table().exclusive());
//! let key = PoolKey { database: 1, node: 2, mapping: 3, outside: false, family: 5, fingerprint: 6 };
//! let n1 = all.pool_for(&key).unwrap();
//! let wish = |n, turn| Wish { owner: Owner(n), alone: true, again: None, turn, latch: 0 };
//! let Claim::Open(slot) = all.claim(n1, wish(1, None), 1, |_| ()) else { panic!() };
//! assert!(table.opened(slot, table.slots[slot].word().generation, Owner(1)));
//! let Claim::Wait(second) = all.claim(n1, wish(2, None), 1, |_| ()) else { panic!() };
//! let Claim::Wait(third) = all.claim(n1, wish(3, None), 1, |_| ()) else { panic!() };
//! table.give_back(slot, Owner(1));
//! all.pass_on(slot, false, 1, |_| ());
//! assert_eq!(table.granted(second), Some(Claim::Leased(slot)));
//! // The second one's turn goes on: it comes before the third.
//! let turn = table.turn_at(second);
//! table.leave(second);
//! table.give_back(slot, Owner(2));
//! let Claim::Wait(again) = all.claim(n1, wish(2, Some(turn)), 1, |_| ()) else { panic!() };
//! assert_eq!((table.granted(again), table.granted(third)), (Some(Claim::Leased(slot)), None));
//! ```

use crate::pool::pools::Pool;
use crate::pool::slot::Owner;
use crate::pool::table::{Claim, Exclusive, Table, Wish, grant};
use std::sync::atomic::Ordering;

impl Exclusive<'_> {
    /// A connection for `me`: an idle one, or the right to open one below `limit`, or a place in the
    /// queue, where it may have been served already.
    pub fn claim(&self, pool: usize, wish: Wish, limit: u32, mut wake: impl FnMut(usize)) -> Claim {
        if self.0.pools[pool].waiting.load(Ordering::SeqCst) == 0
            && let Some(claim) = self.try_claim(pool, wish, limit)
        {
            return claim;
        }
        let Some(place) = self.enqueue(pool, wish) else { return Claim::Full };
        // A slot may have become idle before the queue was seen.
        self.serve(pool, limit, &mut wake);
        Claim::Wait(place)
    }

    fn enqueue(&self, pool: usize, wish: Wish) -> Option<usize> {
        let Table { waiters, pools, .. } = self.0;
        let place = waiters.iter().position(|waiter| waiter.owner.load(Ordering::Acquire) == 0)?;
        let (waiter, pool_) = (&waiters[place], &pools[pool]);
        let ticket = self.0.totals.tickets.fetch_add(1, Ordering::Relaxed);
        let turn = wish.turn.unwrap_or(ticket);
        let (previous, next) = self.neighbours(pool_, turn);
        waiter.pool.store(pool as u32, Ordering::Relaxed);
        waiter.granted.store(0, Ordering::Relaxed);
        waiter.latch.store(wish.latch, Ordering::Relaxed);
        waiter.alone.store(wish.alone, Ordering::Relaxed);
        waiter.ticket.store(ticket, Ordering::Relaxed);
        waiter.turn.store(turn, Ordering::Relaxed);
        waiter.next.store(next, Ordering::Relaxed);
        waiter.previous.store(previous, Ordering::Relaxed);
        waiter.owner.store(wish.owner.0, Ordering::Relaxed);
        let this = place as u32 + 1;
        self.set_next(pool_, previous, this);
        self.set_previous(pool_, next, this);
        pool_.counters.waits.fetch_add(1, Ordering::Relaxed);
        pool_.waiting.fetch_add(1, Ordering::SeqCst);
        self.0.totals.waiting.fetch_add(1, Ordering::SeqCst);
        Some(place)
    }

    /// Between whom somebody of that turn waits: as places + 1, 0 for nobody.
    fn neighbours(&self, pool: &Pool, turn: u64) -> (u32, u32) {
        let waiters = self.0.waiters;
        let turn_of = |this: u32| waiters[this as usize - 1].turn.load(Ordering::Relaxed);
        let last = pool.last.load(Ordering::Relaxed);
        if last == 0 || turn_of(last) < turn {
            return (last, 0);
        }
        // Those whose turn goes on are few, and stand in front.
        let (mut previous, mut next) = (0, pool.first.load(Ordering::Relaxed));
        while next != 0 && turn_of(next) < turn {
            (previous, next) = (next, waiters[next as usize - 1].next.load(Ordering::Relaxed));
        }
        (previous, next)
    }

    /// Who comes after `this`; after nobody (0) comes the first one.
    fn set_next(&self, pool: &Pool, this: u32, next: u32) {
        match this {
            0 => pool.first.store(next, Ordering::Relaxed),
            this => self.0.waiters[this as usize - 1].next.store(next, Ordering::Relaxed),
        }
    }

    /// Who comes before `this`; before nobody (0) comes the last one.
    fn set_previous(&self, pool: &Pool, this: u32, previous: u32) {
        match this {
            0 => pool.last.store(previous, Ordering::Relaxed),
            this => self.0.waiters[this as usize - 1].previous.store(previous, Ordering::Relaxed),
        }
    }

    fn unlink(&self, place: usize) {
        let Table { waiters, pools, .. } = self.0;
        let waiter = &waiters[place];
        let pool = &pools[waiter.pool.load(Ordering::Relaxed) as usize];
        let (previous, next) = (waiter.previous.load(Ordering::Relaxed), waiter.next.load(Ordering::Relaxed));
        self.set_next(pool, previous, next);
        self.set_previous(pool, next, previous);
        pool.waiting.fetch_sub(1, Ordering::SeqCst);
        self.0.totals.waiting.fetch_sub(1, Ordering::SeqCst);
    }

    /// Serves the queue of a pool as far as connections go. Who may not have what is left does not
    /// stop those behind.
    fn serve(&self, pool: usize, limit: u32, wake: &mut impl FnMut(usize)) {
        let mut next = self.0.pools[pool].first.load(Ordering::Relaxed);
        while let Some(place) = (next as usize).checked_sub(1)
            && !self.is_exhausted(pool, limit)
        {
            let waiter = &self.0.waiters[place];
            next = waiter.next.load(Ordering::Relaxed);
            let wish = Wish {
                owner: Owner(waiter.owner.load(Ordering::Relaxed)),
                alone: waiter.alone.load(Ordering::Relaxed),
                again: None,
                turn: None,
                latch: waiter.latch.load(Ordering::Relaxed),
            };
            match self.try_claim(pool, wish, limit) {
                Some(claim) => {
                    self.unlink(place);
                    // From now on the place is the waiter's to leave.
                    waiter.granted.store(grant(claim), Ordering::Release);
                    wake(wish.latch);
                }
                None if wish.alone => return,
                None => {}
            }
        }
    }

    /// The connection of this slot has come back: serves its pool's queue, and all others if somebody there may have
    /// waited for it. Whether a worker has something to close.
    pub fn pass_on(&self, slot: usize, bound: bool, limit: u32, mut wake: impl FnMut(usize)) -> bool {
        let pool = self.0.slots[slot].pool.load(Ordering::Relaxed) as usize;
        self.serve(pool, limit, &mut wake);
        if !bound && !self.0.slots[slot].is_idle_in(pool) {
            return false;
        }
        self.dispatch(limit, wake);
        self.has_broken()
    }

    /// Serves all queues, in the order of their first waiters' turns. `wake` gets the latch of each
    /// waiter that is served.
    pub fn dispatch(&self, limit: u32, mut wake: impl FnMut(usize)) {
        let mut queues: Vec<(u64, usize)> = self
            .0
            .pools_in_use()
            .filter_map(|(index, pool)| {
                let place = (pool.first.load(Ordering::Relaxed) as usize).checked_sub(1)?;
                Some((self.0.turn_at(place), index))
            })
            .collect();
        queues.sort_unstable();
        for (_, pool) in queues {
            self.serve(pool, limit, &mut wake);
        }
    }

    /// The waiter does not want anything any more; what it was granted meanwhile goes to others.
    pub fn withdraw(&self, place: usize, limit: u32, wake: impl FnMut(usize)) {
        let waiter = &self.0.waiters[place];
        let owner = Owner(waiter.owner.load(Ordering::Relaxed));
        match self.0.granted(place) {
            None => self.unlink(place),
            Some(Claim::Leased(slot)) => {
                self.0.give_back(slot, owner);
            }
            Some(Claim::Open(slot)) => {
                let word = self.0.slots[slot].word();
                if word.owner() == Some(owner) {
                    self.retire(slot, word);
                }
            }
            Some(Claim::Wait(_) | Claim::Full) => {}
        }
        self.0.leave(place);
        self.dispatch(limit, wake);
    }

    /// Who waits for which pool, and under which number.
    pub fn queue(&self) -> Vec<(Owner, usize, u64)> {
        let waits = self.0.waiters.iter().enumerate().filter_map(|(place, waiter)| {
            let owner = waiter.owner.load(Ordering::Relaxed);
            let waits = owner != 0 && self.0.granted(place).is_none();
            let ticket = waiter.ticket.load(Ordering::Relaxed);
            waits.then(|| (Owner(owner), waiter.pool.load(Ordering::Relaxed) as usize, ticket))
        });
        waits.collect()
    }
}
