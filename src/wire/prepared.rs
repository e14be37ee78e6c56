//! The statements that a connection has prepared, by the hash of their text and parameter types.
//!
//! Hundreds of client sessions send the same few statements; each is parsed and planned once per
//! connection. A statement's name on the node is its hash, so whoever sends the same text finds it.
//!
//! ```
//! use sharding::wire::prepared::Prepared;
//! let mut prepared = Prepared::default();
//! assert!(!prepared.uses(7));            // has to be prepared now
//! prepared.add(7);
//! assert!(prepared.uses(7));
//! prepared.remove(7);                    // the node refused it
//! assert!(!prepared.uses(7));
//! ```

use crate::cheap_hash::CheapMap;

/// How many statements a connection keeps; the one not used for longest makes room.
pub const CAPACITY: usize = 1024;

/// The statements of one connection and when each was last used.
#[derive(Debug, Default)]
pub struct Prepared {
    used: CheapMap<u64, u64>,
    clock: u64,
    changed: bool,
}

impl Prepared {
    /// Whether the connection has the statement, which counts as used now.
    pub fn uses(&mut self, hash: u64) -> bool {
        self.clock += 1;
        match self.used.get_mut(&hash) {
            Some(at) => {
                *at = self.clock;
                true
            }
            None => false,
        }
    }

    /// The connection is told to prepare a statement; returns one that has to be closed for it.
    pub fn add(&mut self, hash: u64) -> Option<u64> {
        let full = self.used.len() >= CAPACITY;
        let oldest = if full { self.used.iter().min_by_key(|(_, at)| **at).map(|(hash, _)| *hash) } else { None };
        if let Some(oldest) = oldest {
            self.used.remove(&oldest);
        }
        self.clock += 1;
        self.used.insert(hash, self.clock);
        self.changed = true;
        oldest
    }

    /// The connection does not have the statement.
    pub fn remove(&mut self, hash: u64) {
        self.changed |= self.used.remove(&hash).is_some();
    }

    /// The connection has none any more.
    pub fn clear(&mut self) {
        self.changed |= !self.used.is_empty();
        self.used.clear();
    }

    /// Whether there are others than when this was last asked.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// The statements, the one not used for longest first.
    pub fn hashes(&self) -> Vec<u64> {
        let mut all: Vec<(u64, u64)> = self.used.iter().map(|(hash, at)| (*at, *hash)).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, hash)| hash).collect()
    }

    /// What [`Prepared::hashes`] returned.
    pub fn from_hashes(hashes: &[u64]) -> Prepared {
        let mut prepared = Prepared::default();
        for hash in hashes {
            prepared.add(*hash);
        }
        prepared.changed = false;
        prepared
    }
}

/// The name of a statement on its node: `s` and the hash in hexadecimal digits.
pub struct Name([u8; 17]);

impl Name {
    pub fn of(hash: u64) -> Name {
        let mut text = [b's'; 17];
        for (i, digit) in text[1..].iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(hash >> (60 - 4 * i)) as usize & 15];
        }
        Name(text)
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_not_used_for_longest_makes_room() {
        let mut prepared = Prepared::default();
        for hash in 0..CAPACITY as u64 {
            assert_eq!(prepared.add(hash), None);
        }
        assert!(prepared.uses(0));
        assert_eq!(prepared.add(u64::MAX), Some(1));
        assert!(prepared.uses(0) && !prepared.uses(1));
    }

    #[test]
    fn what_has_changed_is_said_once() {
        let mut prepared = Prepared::from_hashes(&[1]);
        assert!(!prepared.take_changed());
        prepared.remove(2);
        assert!(!prepared.take_changed());
        prepared.remove(1);
        assert!(prepared.take_changed() && !prepared.take_changed());
    }

    #[test]
    fn names_are_hashes() {
        for hash in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX] {
            assert_eq!(Name::of(hash).as_str(), format!("s{hash:016x}"));
        }
    }

    #[test]
    fn the_order_of_use_survives_a_copy() {
        let mut prepared = Prepared::from_hashes(&[3, 1, 2]);
        prepared.uses(3);
        assert_eq!(prepared.hashes(), [1, 2, 3]);
        assert_eq!(Prepared::from_hashes(&prepared.hashes()).hashes(), [1, 2, 3]);
    }
}
