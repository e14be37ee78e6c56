//! How a backend waits for a connection that others use.

use crate::error::{Error, Result, sqlstate};
use crate::pg::maintenance::long_wait::{self, Watch};
use crate::pg::pool::settings;
use crate::pg::pool::shared::{locked, my_pid, now, serving, wake_workers};
use crate::pg::wait::{Event, Patience, wait_as};
use crate::pool::pools::Counters;
use crate::pool::slot::{Owner, State};
use crate::pool::stuck::is_stuck;
use crate::pool::table::{Claim, Table};
use crate::pool::turn::Turn;
use std::cell::Cell;
use std::sync::atomic::Ordering;
use std::time::Instant;

thread_local! {
    static TURN: Cell<Turn> = const { Cell::new(Turn::NONE) };
}

/// The number of this backend's turn, if that goes on.
pub(super) fn turn_now() -> Option<u64> {
    TURN.get().number(Instant::now())
}

/// A place in the queue, left when the wait ends in any way.
struct Waiting {
    table: Table<'static>,
    place: usize,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        serving(self.table, |all, wake| all.withdraw(self.place, settings::size(), wake));
        wake_workers();
    }
}

/// Waits until something is granted: 53300 when that takes too long, 40P01 when it never will be.
pub(super) fn wait_in_queue(table: Table<'static>, pool: usize, place: usize, started: Instant) -> Result<Claim> {
    let waiting = Waiting { table, place };
    let timeout = settings::wait_timeout();
    let deadline = timeout.map(|timeout| started + timeout);
    let began = now();
    let look_after = long_wait::limit();
    let mut look = Instant::now() + look_after;
    let mut watch = Watch::default();
    loop {
        if let Some(claim) = table.granted(place) {
            let turn = table.turn_at(place);
            table.leave(place);
            std::mem::forget(waiting);
            let Counters { wait_micros, .. } = &table.pools[pool].counters;
            wait_micros.fetch_add((now() - began).max(0) as u64, Ordering::Relaxed);
            let mut current = TURN.get();
            current.served(turn, Instant::now());
            TURN.set(current);
            return Ok(claim);
        }
        let instant = Instant::now();
        if deadline.is_some_and(|deadline| instant >= deadline) {
            return Err(timed_out(table, pool));
        }
        if instant >= look {
            if in_a_circle(table) {
                return Err(Error::new(sqlstate::DEADLOCK_DETECTED, "deadlock detected")
                    .detail(format!(
                        "This transaction waits for a connection to node \"{}\", which is in use by transactions \
                     that wait for connections that this one uses.",
                        table.pools[pool].node_name.get()
                    ))
                    .hint("Repeat the transaction, or raise sharding.pool_size."));
            }
            look = instant + look_after;
        }
        if let Some(error) = watch.verdict() {
            return Err(error);
        }
        wait_as(
            Event::Pool,
            &[],
            Patience::until([deadline, watch.until()].into_iter().flatten().fold(look, Instant::min)),
        );
    }
}

fn timed_out(table: Table<'static>, pool: usize) -> Error {
    let (node, user) = (table.pools[pool].node_name.get(), table.pools[pool].user.get());
    let (open, size) = (table.open_in(pool), settings::size());
    let error =
        Error::new(sqlstate::TOO_MANY_CONNECTIONS, format!("no connection to node \"{node}\" became free in time"));
    let longer = "Raise sharding.pool_size or sharding.pool_wait_timeout, or keep transactions shorter.";
    let has_idle = table.slots_in_use().iter().any(|slot| slot.is_idle_in(pool));
    if !has_idle && open >= size {
        error
            .detail(format!("All {open} connections as user \"{user}\" are in use by other transactions."))
            .hint(longer)
    } else if !has_idle && table.slots.iter().all(|slot| slot.word().state != State::Free) {
        error
            .detail(format!("All {} connections to nodes are in use by other transactions.", table.slots.len()))
            .hint("Raise sharding.max_pooled_connections.")
    } else {
        error
            .detail(format!(
                "What is left of {size} connections as user \"{user}\" is kept for transactions that already use \
                 other nodes."
            ))
            .hint(longer)
    }
}

/// Whether this backend waits for others that wait for it.
fn in_a_circle(table: Table<'static>) -> bool {
    locked(table, |all| {
        let (waits, holds) = all.waits_and_holds();
        holds.iter().any(|(owner, _)| *owner == Owner(my_pid()))
            && is_stuck(Owner(my_pid()), &waits, &holds, |pool| all.has_spare(pool, settings::size()))
    })
}
