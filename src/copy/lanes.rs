//! Which of many records go to which node, each node's in their order.
//!
//! ```
//! use sharding::copy::lanes::Lanes;
//! // Shards 0 and 2 are on the first node, shard 1 is on the second.
//! let mut lanes = Lanes::new(vec![0, 1, 0], 2);
//! lanes.assign(&[2, 1, 0, 2, 0]);
//! assert_eq!((lanes.records(0), lanes.records(1)), (&[0, 2, 3, 4][..], &[1][..]));
//! ```
//!
//! A node gets its records in the order of the input, not shard by shard: Postgres finds a row's partition in 12 % of the
//! instructions that it takes to copy the row, and long runs of one partition save little of them, but cost more for the
//! buffers that grow with a run (callgrind, PostgreSQL 15, 16 partitions, 60,000 rows: 636 million instructions in the
//! order of the input, 639 to 833 million in runs of 125 to 1000 rows). And so it complains of the first faulty record. COPYs
//! into the partitions themselves were tried, too: to begin one takes as long as 700 rows, and what nodes save with long ones (8 %
//! of their time) is lost where the rows wait for them.

/// Records by node; see the module's text.
#[derive(Debug)]
pub struct Lanes {
    lane_of_shard: Vec<usize>,
    records: Vec<Vec<u32>>,
}

impl Lanes {
    /// For nodes that are numbered from 0 to `count`.
    pub fn new(lane_of_shard: Vec<usize>, count: usize) -> Lanes {
        Lanes { lane_of_shard, records: vec![Vec::new(); count.max(1)] }
    }

    /// Takes records by their shards, in place of those before.
    pub fn assign(&mut self, shards: &[u32]) {
        self.records.iter_mut().for_each(Vec::clear);
        for (number, shard) in (0..).zip(shards) {
            self.records[self.lane_of_shard[*shard as usize]].push(number);
        }
    }

    /// The numbers of a node's records.
    pub fn records(&self, lane: usize) -> &[u32] {
        &self.records[lane]
    }

    /// How many nodes there are.
    pub fn count(&self) -> usize {
        self.records.len()
    }
}
