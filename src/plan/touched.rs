//! Which rows of its target a statement has touched already: the second row of a source that matches one counts for nothing.
//!
//! ```
//! use sharding::catalog::ShardIndex;
//! use sharding::plan::touched::Touched;
//! let mut touched = Touched::default();
//! let row = [0, 0, 0, 9, 0, 3]; // page 9, line 3
//! assert!(touched.insert(ShardIndex(1), row));
//! assert!(!touched.insert(ShardIndex(1), row));
//! assert!(touched.insert(ShardIndex(2), row));
//! ```
//!
//! A bit for each line of a page that has such rows: ten million narrow rows that lie together take some ten megabytes.

use crate::catalog::ShardIndex;
use crate::cheap_hash::CheapMap;

/// A set of rows, named by their shard and their `ctid` in its binary form: page and line, big-endian.
#[derive(Debug, Default)]
pub struct Touched {
    /// By shard and page.
    lines: CheapMap<u64, Vec<u64>>,
}

impl Touched {
    /// Adds a row; whether it is new.
    pub fn insert(&mut self, shard: ShardIndex, ctid: [u8; 6]) -> bool {
        let [a, b, c, d, line @ ..] = ctid;
        let page = u64::from(shard.0) << 32 | u64::from(u32::from_be_bytes([a, b, c, d]));
        let line = usize::from(u16::from_be_bytes(line));
        let lines = self.lines.entry(page).or_default();
        if lines.len() <= line / 64 {
            lines.resize(line / 64 + 1, 0);
        }
        let bit = 1 << (line % 64);
        let is_new = lines[line / 64] & bit == 0;
        lines[line / 64] |= bit;
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn it_is_a_set() {
        let (mut touched, mut plain) = (Touched::default(), HashSet::new());
        let mut random = 7_u64;
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let shard = ShardIndex((random >> 60) as u32);
            let ctid = [0, 0, 0, (random >> 50) as u8 & 15, (random >> 41) as u8 & 1, (random >> 33) as u8];
            assert_eq!(touched.insert(shard, ctid), plain.insert((shard, ctid)));
        }
    }
}
