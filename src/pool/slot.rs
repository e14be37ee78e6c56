//! One connection's place in shared memory: its state in one word, and what the next user of the
//! connection must know of it.
//!
//! The word holds state, owner and generation, so that each change is one compare-and-swap. The
//! generation grows whenever the connection behind the slot is another one: a descriptor, or a
//! compare-and-swap, of an earlier connection is told apart.
//!
//! ```
//! use sharding::pool::slot::{Owner, Slot, State};
//! let (slot, ann, bob) = (Slot::new(), Owner(7), Owner(8));
//! assert!(slot.change(slot.word(), State::Opening(ann)));
//! assert!(slot.change(slot.word(), State::Idle));
//! let seen = slot.word();
//! assert!(slot.change(seen, State::Leased(ann)));
//! assert!(!slot.change(seen, State::Leased(bob)), "only one of two gets it");
//! ```
//!
//! All but the word is written by the slot's owner (or by its worker, while it has none) and read
//! after a compare-and-swap, which orders it.

use crate::pool::text::SharedText;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU32, AtomicU64, Ordering};

/// The process id of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner(pub u32);

/// What a slot is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No connection.
    Free,
    /// Its worker connects, for a backend.
    Opening(Owner),
    /// Nobody uses the connection; it is clean.
    Idle,
    /// A backend uses the connection.
    Leased(Owner),
    /// The connection must not be used any more; its worker closes it.
    Broken,
}

/// The word of a slot as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    pub state: State,
    pub generation: u64,
}

/// Linux has process ids up to 2^22.
const OWNER_BITS: u32 = 23;
const GENERATION_BITS: u32 = 64 - 3 - OWNER_BITS;

impl Word {
    fn pack(self) -> u64 {
        let (state, owner) = match self.state {
            State::Free => (0, 0),
            State::Opening(owner) => (1, owner.0),
            State::Idle => (2, 0),
            State::Leased(owner) => (3, owner.0),
            State::Broken => (4, 0),
        };
        let owner = u64::from(owner) & ((1 << OWNER_BITS) - 1);
        (state << (64 - 3)) | (owner << GENERATION_BITS) | (self.generation & ((1 << GENERATION_BITS) - 1))
    }

    fn unpack(bits: u64) -> Word {
        let owner = Owner(((bits >> GENERATION_BITS) & ((1 << OWNER_BITS) - 1)) as u32);
        let state = match bits >> (64 - 3) {
            0 => State::Free,
            1 => State::Opening(owner),
            2 => State::Idle,
            3 => State::Leased(owner),
            _ => State::Broken,
        };
        Word { state, generation: bits & ((1 << GENERATION_BITS) - 1) }
    }

    /// Who has the slot.
    pub fn owner(self) -> Option<Owner> {
        match self.state {
            State::Opening(owner) | State::Leased(owner) => Some(owner),
            _ => None,
        }
    }
}

/// Prepared statements that a connection can be known to have.
const PREPARED: usize = crate::wire::prepared::CAPACITY;

/// A connection's place in shared memory.
#[derive(Debug)]
pub struct Slot {
    word: AtomicU64,
    /// The pool it belongs to, unless it is free.
    pub pool: AtomicU32,
    /// The connection must be closed when its owner gives it back.
    pub doomed: AtomicBool,
    /// Its owner asks for no other connection while it has this one.
    pub alone: AtomicBool,
    pub facts: Facts,
}

/// What is known of a connection.
#[derive(Debug)]
pub struct Facts {
    /// What a CancelRequest needs: the node's process and its secret.
    pub cancel_process: AtomicI32,
    pub cancel_secret: AtomicI32,
    /// The server of the node that it goes to: `10.0.0.1 port 5432`, and whether it is encrypted.
    pub server: SharedText<96>,
    pub tls: AtomicBool,
    /// Hash of the settings that the session has; 0 if they are not known.
    pub settings: AtomicU64,
    /// When it was opened, and last leased by a backend that had not had it before: microseconds.
    pub opened_at: AtomicI64,
    pub leases: AtomicU64,
    pub statements: AtomicU64,
    pub bytes: AtomicU64,
    pub errors: AtomicU64,
    pub last_error: SharedText<160>,
    /// Raised whenever the prepared statements change.
    prepared_version: AtomicU64,
    prepared_count: AtomicU32,
    prepared: [AtomicU64; PREPARED],
}

impl Default for Slot {
    fn default() -> Slot {
        Slot::new()
    }
}

impl Slot {
    pub fn new() -> Slot {
        Slot {
            word: AtomicU64::new(0),
            pool: AtomicU32::new(0),
            doomed: AtomicBool::new(false),
            alone: AtomicBool::new(false),
            facts: Facts {
                cancel_process: AtomicI32::new(0),
                cancel_secret: AtomicI32::new(0),
                server: SharedText::new(),
                tls: AtomicBool::new(false),
                settings: AtomicU64::new(0),
                opened_at: AtomicI64::new(0),
                leases: AtomicU64::new(0),
                statements: AtomicU64::new(0),
                bytes: AtomicU64::new(0),
                errors: AtomicU64::new(0),
                last_error: SharedText::new(),
                prepared_version: AtomicU64::new(0),
                prepared_count: AtomicU32::new(0),
                prepared: [const { AtomicU64::new(0) }; PREPARED],
            },
        }
    }

    pub fn word(&self) -> Word {
        Word::unpack(self.word.load(Ordering::SeqCst))
    }

    /// Whether it has a connection of that pool which nobody uses.
    pub fn is_idle_in(&self, pool: usize) -> bool {
        self.word().state == State::Idle && self.pool.load(Ordering::Relaxed) as usize == pool
    }

    /// From the state that was seen to another, with the same generation; `false` if somebody was
    /// faster.
    pub fn change(&self, seen: Word, state: State) -> bool {
        self.exchange(seen, Word { state, ..seen })
    }

    /// The same with the next generation: what was known of the connection is void.
    pub fn renew(&self, seen: Word, state: State) -> bool {
        self.exchange(seen, Word { state, generation: seen.generation + 1 })
    }

    fn exchange(&self, seen: Word, next: Word) -> bool {
        self.word.compare_exchange(seen.pack(), next.pack(), Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

impl Facts {
    /// Forgets the connection before.
    pub fn clear(&self) {
        for counter in [&self.settings, &self.leases, &self.statements, &self.bytes, &self.errors] {
            counter.store(0, Ordering::Relaxed);
        }
        self.cancel_process.store(0, Ordering::Relaxed);
        self.cancel_secret.store(0, Ordering::Relaxed);
        self.server.set("");
        self.tls.store(false, Ordering::Relaxed);
        self.opened_at.store(0, Ordering::Relaxed);
        self.last_error.set("");
        self.set_prepared(&[]);
    }

    /// Adds to a counter that only the slot's owner writes.
    pub fn add(counter: &AtomicU64, amount: u64) {
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    /// Which state of the prepared statements this is: who has seen it need not read them again.
    pub fn prepared_version(&self) -> u64 {
        self.prepared_version.load(Ordering::Relaxed)
    }

    /// The hashes of the connection's prepared statements.
    pub fn prepared(&self) -> Vec<u64> {
        let count = (self.prepared_count.load(Ordering::Relaxed) as usize).min(PREPARED);
        self.prepared[..count].iter().map(|hash| hash.load(Ordering::Relaxed)).collect()
    }

    /// Says which prepared statements the connection has, at most `PREPARED`; returns the new version.
    pub fn set_prepared(&self, hashes: &[u64]) -> u64 {
        let count = hashes.len().min(PREPARED);
        for (to, from) in self.prepared.iter().zip(&hashes[..count]) {
            to.store(*from, Ordering::Relaxed);
        }
        self.prepared_count.store(count as u32, Ordering::Relaxed);
        let version = self.prepared_version() + 1;
        self.prepared_version.store(version, Ordering::Relaxed);
        version
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_state() -> impl Strategy<Value = State> {
        let owner = (1..1u32 << 22).prop_map(Owner);
        prop_oneof![
            Just(State::Free),
            owner.clone().prop_map(State::Opening),
            Just(State::Idle),
            owner.prop_map(State::Leased),
            Just(State::Broken),
        ]
    }

    proptest! {
        #[test]
        fn a_word_is_read_as_it_was_written(state in any_state(), generation in 0..1u64 << GENERATION_BITS) {
            let word = Word { state, generation };
            prop_assert_eq!(Word::unpack(word.pack()), word);
        }

        #[test]
        fn a_stale_generation_never_wins(state in any_state(), next in any_state()) {
            let slot = Slot::new();
            let stale = slot.word();
            prop_assert!(slot.renew(stale, stale.state));
            prop_assert!(!slot.change(stale, state));
            prop_assert!(slot.change(slot.word(), next));
        }
    }

    #[test]
    fn prepared_statements_have_a_version() {
        let slot = Slot::new();
        let seen = slot.facts.prepared_version();
        let version = slot.facts.set_prepared(&[3, 1]);
        assert_ne!(version, seen);
        assert_eq!(slot.facts.prepared_version(), version);
        assert_eq!(slot.facts.prepared(), [3, 1]);
        slot.facts.clear();
        assert_ne!(slot.facts.prepared_version(), version);
        assert!(slot.facts.prepared().is_empty());
    }
}
