//! What the views show: rows of text in the order of the columns in `sql/pool.sql`.

use crate::pg::pool::shared::{now, table};
use crate::pool::slot::{Slot, State};
use std::sync::atomic::{AtomicU64, Ordering};

type Rows = Vec<Vec<Option<String>>>;

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn text(value: impl ToString) -> Option<String> {
    Some(value.to_string())
}

fn interval(micros: u64) -> Option<String> {
    Some(format!("{micros} microseconds"))
}

fn state_name(state: State) -> &'static str {
    match state {
        State::Free => "free",
        State::Opening(_) => "opening",
        State::Idle => "idle",
        State::Leased(_) => "leased",
        State::Broken => "closing",
    }
}

/// The connections that there are, come or go.
pub fn connections() -> Rows {
    let Some(table) = table() else { return Vec::new() };
    let used = |slot: &Slot| slot.word().state != State::Free;
    let slots = table.slots.iter().enumerate().filter(|(_, slot)| used(slot));
    slots
        .map(|(index, slot)| {
            let word = slot.word();
            let pool = &table.pools[slot.pool.load(Ordering::Relaxed) as usize];
            let facts = &slot.facts;
            let opened = facts.opened_at.load(Ordering::Relaxed);
            let (last_error, server) = (facts.last_error.get(), facts.server.get());
            vec![
                text(index),
                text(pool.database.load(Ordering::Relaxed)),
                Some(pool.node_name.get()),
                Some(pool.user.get()),
                text(pool.outside.load(Ordering::Relaxed)),
                text(state_name(word.state)),
                word.owner().map(|owner| owner.0.to_string()),
                (opened != 0).then(|| interval((now() - opened).max(0) as u64)).flatten(),
                text(read(&facts.leases)),
                text(read(&facts.statements)),
                text(facts.prepared().len()),
                text(read(&facts.bytes)),
                text(read(&facts.errors)),
                (!last_error.is_empty()).then_some(last_error),
                (!server.is_empty()).then_some(server),
                text(facts.tls.load(Ordering::Relaxed)),
            ]
        })
        .collect()
}

/// The pools and their counters.
pub fn counters() -> Rows {
    let Some(table) = table() else { return Vec::new() };
    table
        .pools_in_use()
        .map(|(index, pool)| {
            let counters = &pool.counters;
            let current: u64 = table
                .slots
                .iter()
                .filter(|slot| slot.word().state != State::Free && slot.pool.load(Ordering::Relaxed) as usize == index)
                .map(|slot| read(&slot.facts.leases))
                .sum();
            vec![
                text(pool.database.load(Ordering::Relaxed)),
                Some(pool.node_name.get()),
                Some(pool.user.get()),
                text(pool.outside.load(Ordering::Relaxed)),
                text(table.open_in(index)),
                text(pool.waiting()),
                text(read(&counters.leases) + current),
                text(read(&counters.waits)),
                interval(read(&counters.wait_micros)),
                text(read(&counters.opened)),
                text(read(&counters.closed)),
                text(read(&counters.failed)),
            ]
        })
        .collect()
}
