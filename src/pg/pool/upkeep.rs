//! What a pool worker does from time to time: connections that are old, unused or orphaned are closed, and those that
//! are to be kept are opened.
//!
//! Idle connections are watched all the time (`Worker::hung_up`): one that its node has ended, or that the kernel's
//! keepalive has found dead, is closed at once.

use crate::pg::pool::settings;
use crate::pg::pool::shared::{self, locked, my_pid, serving, worker_of};
use crate::pg::pool::worker::Worker;
use crate::pool::slot::{Owner, State};
use crate::pool::table::{GivenBack, Table};
use pgrx::pg_sys;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

impl Worker {
    /// What is done from time to time.
    pub(super) fn tick(&mut self) {
        self.ticks += 1;
        self.retire_old();
        self.keep_warm();
        if self.ticks.is_multiple_of(5) {
            self.bury_the_dead();
        }
    }

    /// Closes what was idle for too long, is too old, or is more than there may be.
    fn retire_old(&mut self) {
        let instant = Instant::now();
        let older = |since: Instant, limit: Option<Duration>| limit.is_some_and(|l| instant.duration_since(since) > l);
        let mut close = Vec::new();
        // Per pool, without those that are closed here.
        let mut open: HashMap<usize, u32> = HashMap::new();
        for (index, master) in &mut self.masters {
            let slot = &self.table.slots[*index];
            let word = slot.word();
            let pool = slot.pool.load(Ordering::Relaxed) as usize;
            let open = open.entry(pool).or_insert_with(|| self.table.open_in(pool));
            let leases = slot.facts.leases.load(Ordering::Relaxed);
            if word.state != State::Idle || leases != master.leases {
                master.leases = leases;
                master.idle_since = instant;
                self.recipes.used(pool, instant);
            }
            if older(master.opened, settings::lifetime()) && self.table.doom(*index) {
                *open -= 1;
                close.push(*index);
                continue;
            }
            let surplus = *open > settings::size();
            let unused =
                older(master.idle_since, settings::idle_timeout()) && *open > self.recipes.least(self.table, pool);
            if (surplus || unused) && word.state == State::Idle && slot.change(word, State::Broken) {
                *open -= 1;
                close.push(*index);
            }
        }
        close.into_iter().for_each(|slot| self.close(slot));
    }

    /// Opens what is missing of those connections that are kept although nobody uses them.
    fn keep_warm(&mut self) {
        let me = Owner(my_pid());
        for (pool, opening) in self.recipes.due(self.table) {
            let least = self.recipes.least(self.table, pool);
            for _ in self.table.open_in(pool)..least {
                let mine = |slot: usize| worker_of(slot) == self.index;
                let Some(slot) = locked(self.table, |all| all.claim_spare(pool, me, least, mine)) else { break };
                self.begin(slot, me, opening.clone(), None);
            }
        }
    }

    /// A connection that was opened for nobody waits for somebody.
    pub(super) fn put_aside(&mut self, slot: usize, me: Owner) {
        if let GivenBack::SomeoneWaits { bound } = self.table.give_back(slot, me) {
            serving(self.table, |all, wake| all.pass_on(slot, bound, settings::size(), wake));
        }
    }

    /// Takes back what belongs to processes that are no backends any more. They all give back when
    /// they end; this is for those that could not.
    fn bury_the_dead(&mut self) {
        let (waits, holds) = locked(self.table, |all| all.waits_and_holds());
        let mut owners: Vec<Owner> = waits.into_iter().chain(holds).map(|(owner, _)| owner).collect();
        owners.sort();
        owners.dedup();
        for owner in owners.into_iter().filter(|owner| !shared::is_worker(owner.0)) {
            // SAFETY: looks the process up under its own lock.
            if unsafe { pg_sys::BackendPidGetProc(owner.0 as i32) }.is_null()
                && serving(self.table, |all, wake| all.bury(owner, settings::size(), wake))
            {
                shared::wake_workers();
            }
        }
    }

    /// Closes what nobody uses; what is in use closes when it is given back.
    pub(super) fn stop(&mut self) {
        for (slot, master) in &mut self.masters {
            if self.table.doom(*slot) {
                master.leave(&self.poll);
            }
        }
        retire_all(self.table, self.index);
    }
}

/// Frees the slots of a worker that have no descriptor any more.
pub(super) fn retire_all(table: Table<'static>, index: usize) {
    for slot in (index..table.slots.len()).step_by(settings::workers()) {
        table.doom(slot);
        let seen = table.slots[slot].word();
        if !matches!(seen.state, State::Free | State::Leased(_)) {
            locked(table, |all| all.retire(slot, seen));
        }
    }
    serving(table, |all, wake| all.dispatch(settings::size(), wake));
}
