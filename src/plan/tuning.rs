//! What a statement of many rows tells the nodes' planners: settings that hold for its own transaction there, and
//! travel in front of it.
//!
//! ```
//! use sharding::plan::tuning::{Reads, Tuning, share};
//! let join = Reads { rows: 2.2e6, beside_largest: 2e5, tables: 2, shards: 32, nodes: 2, aggregates: true, ..Reads::default() };
//! let tuning = Tuning::of(&join);
//! assert_eq!(tuning.sql(Some(share(2, 2))),
//!     "SET LOCAL enable_partitionwise_join = on;SET LOCAL enable_partitionwise_aggregate = on;\
//!      SET LOCAL max_parallel_workers_per_gather = 0;");
//! ```
//!
//! - Shards of colocated tables are joined pair by pair: their hash tables fit into a processor's cache, which halves
//!   the time of a join of 1 million rows with 100,000. Planning takes longer with each table (16 shards on a node:
//!   2 tables 2 ms, 3 tables 8, 4 tables 35, 5 tables 130), and all hash tables are there at the same time.
//! - Shards are aggregated one by one, so that their rows are not handed on.
//! - Where an index has all that is asked for, and its groups one behind the other, the whole of it is read from the
//!   first page to the last, in each shard. Postgres takes each page for a random access, and would rather hash the
//!   table's rows; so a random page costs what one of a sequence does. (2 million rows, 200,000 groups: two thirds of the time, for a count of
//!   the different keys half.)
//! - Nodes on one machine share its processors: together they use as many processes as one server would. Each
//!   process more has to start and to find its way into the shared buffers: two nodes with two workers each took
//!   twice the processor time for a `count(*)` that they take alone.
//!
//! None of it changes an answer.

use serde::{Deserialize, Serialize};

/// Fewer rows, all nodes together, are read before a setting can pay.
const MANY_ROWS: f64 = 20_000.0;
/// Rows of a shard for which a join of two tables may take the longer planning; for each table more, so many times that.
const JOINED_ROWS: f64 = 1_000.0;
const PER_TABLE: f64 = 8.0;
/// Rows of a node that may be in hash tables.
const HASHED_ROWS: f64 = 2_000_000.0;

/// What a statement reads, by estimate.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reads {
    /// Of all tables, all nodes together.
    pub rows: f64,
    /// Those of all distributed tables but the largest.
    pub beside_largest: f64,
    /// How many distributed tables.
    pub tables: usize,
    pub shards: usize,
    pub nodes: usize,
    /// It has aggregate functions.
    pub aggregates: bool,
    /// An index has all that it needs of its one table, and the groups one behind the other.
    pub grouped_by_index: bool,
}

/// What a statement tells the nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuning {
    /// It reads so much that nodes on one machine get into each other's way.
    pub shares_machine: bool,
    pub joins_shards: bool,
    pub aggregates_shards: bool,
    /// It reads whole indexes; only if it aggregates shards.
    pub reads_index: bool,
}

const READ_INDEX: &str =
    "SELECT pg_catalog.set_config('random_page_cost', pg_catalog.current_setting('seq_page_cost'), true);";

impl Tuning {
    pub fn of(reads: &Reads) -> Tuning {
        let shares_machine = reads.rows >= MANY_ROWS;
        let joined = JOINED_ROWS * PER_TABLE.powi(reads.tables.saturating_sub(2) as i32);
        let joins_shards = shares_machine
            && reads.tables >= 2
            && reads.rows / reads.shards.max(1) as f64 >= joined
            && reads.beside_largest / reads.nodes.max(1) as f64 <= HASHED_ROWS;
        let aggregates_shards = shares_machine && reads.aggregates && (reads.tables == 1 || joins_shards);
        let reads_index = aggregates_shards && reads.tables == 1 && reads.grouped_by_index;
        Tuning { shares_machine, joins_shards, aggregates_shards, reads_index }
    }

    /// The statements to run first; `workers`: of a parallel plan, where the node shares its machine.
    pub fn sql(&self, workers: Option<u32>) -> String {
        let mut sql = String::new();
        let set = |sql: &mut String, name: &str, value: &str| sql.push_str(&format!("SET LOCAL {name} = {value};"));
        if self.joins_shards {
            set(&mut sql, "enable_partitionwise_join", "on");
        }
        if self.aggregates_shards {
            set(&mut sql, "enable_partitionwise_aggregate", "on");
        }
        if self.reads_index && self.aggregates_shards {
            sql.push_str(READ_INDEX);
        }
        if let Some(workers) = workers.filter(|_| self.shares_machine) {
            set(&mut sql, "max_parallel_workers_per_gather", &workers.to_string());
        }
        sql
    }
}

/// The statements in few words, for EXPLAIN.
pub fn shown(sql: &str) -> String {
    let short = sql.replace("SET LOCAL ", "").replace(READ_INDEX, "random_page_cost = seq_page_cost;");
    short.trim_end_matches(';').to_string()
}

/// The workers of each of so many nodes on a machine on which one server would use `workers` beside the leader.
pub fn share(workers: u32, nodes: usize) -> u32 {
    ((workers + 1) / nodes.max(1) as u32).saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const READS: Reads = Reads {
        rows: 1e6,
        beside_largest: 1e5,
        tables: 2,
        shards: 32,
        nodes: 2,
        aggregates: true,
        grouped_by_index: false,
    };

    #[test]
    fn small_statements_tell_nothing() {
        let tuning = Tuning::of(&Reads { rows: 10_000.0, ..READS });
        assert_eq!(tuning, Tuning::default());
        assert_eq!(tuning.sql(Some(0)), "");
    }

    #[test]
    fn a_join_of_more_tables_needs_more_rows() {
        let joins = |tables, rows| Tuning::of(&Reads { tables, rows, ..READS }).joins_shards;
        assert!(!joins(1, 1e9));
        assert!(joins(2, 32_000.0) && !joins(3, 32_000.0));
        assert!(joins(3, 256_000.0) && !joins(4, 256_000.0));
    }

    #[test]
    fn hash_tables_stay_small() {
        assert!(!Tuning::of(&Reads { rows: 1e9, beside_largest: 1e8, ..READS }).joins_shards);
    }

    #[test]
    fn one_table_is_aggregated_by_shard() {
        let tuning = Tuning::of(&Reads { tables: 1, beside_largest: 0.0, ..READS });
        assert_eq!(tuning.sql(None), "SET LOCAL enable_partitionwise_aggregate = on;");
    }

    #[test]
    fn an_index_that_has_the_groups_is_read_as_a_whole() {
        let one = Reads { tables: 1, beside_largest: 0.0, grouped_by_index: true, ..READS };
        let tuning = Tuning::of(&one);
        assert_eq!(
            shown(&tuning.sql(Some(0))),
            "enable_partitionwise_aggregate = on;random_page_cost = seq_page_cost;max_parallel_workers_per_gather = 0"
        );
        assert!(!Tuning { aggregates_shards: false, ..tuning }.sql(None).contains("random_page_cost"));
        assert!(!Tuning::of(&Reads { tables: 2, ..one }).reads_index);
    }

    #[test]
    fn nodes_of_one_machine_have_no_more_processes_than_one_server() {
        let shares: Vec<u32> = [(2, 1), (2, 2), (8, 2), (8, 3), (0, 2), (2, 8)].map(|(w, n)| share(w, n)).into();
        assert_eq!(shares, [2, 0, 3, 2, 0, 0]);
    }
}
