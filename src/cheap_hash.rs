//! Hash maps whose keys are small numbers, or hashes already: no need for a hash that resists attacks.
//!
//! ```
//! use sharding::cheap_hash::CheapMap;
//! let mut map: CheapMap<u64, &str> = CheapMap::default();
//! map.insert(7, "seven");
//! assert_eq!(map[&7], "seven");
//! ```

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map with numbers as keys.
pub type CheapMap<K, V> = HashMap<K, V, BuildHasherDefault<CheapHasher>>;

/// Spreads one number by a multiplication (Knuth's, with 2^64 over the golden ratio).
#[derive(Debug, Default)]
pub struct CheapHasher(u64);

impl Hasher for CheapHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte));
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
