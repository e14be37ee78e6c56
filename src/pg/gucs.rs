//! Settings of a session: what readers of several nodes are promised, and switches of the planner, each of which
//! turns one kind of pushdown off. Correctness never depends on those: what is not pushed down is done on the
//! coordinator.
//!
//! ```sql
//! SET sharding.consistent_reads = off;            -- may see a transaction on one node and not yet on another
//! SET sharding.enable_aggregate_pushdown = off;   -- aggregates are computed here, of rows from the nodes
//! ```

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};
use std::time::Duration;

/// What a statement that reads several nodes sees of transactions that others commit meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
pub enum ConsistentReads {
    /// Each node as it is when the statement gets there.
    #[name = c"off"]
    Off,
    /// A transaction of several nodes on all of them or on none.
    #[name = c"transactions"]
    Transactions,
    /// One state of the whole cluster: transactions of single nodes, too, are seen in one order by all.
    #[name = c"snapshot"]
    Snapshot,
}

static CONSISTENT_READS: GucSetting<ConsistentReads> =
    GucSetting::<ConsistentReads>::new(ConsistentReads::Transactions);
static CONSISTENT_READ_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(10_000);

pub fn consistent_reads() -> ConsistentReads {
    CONSISTENT_READS.get()
}

/// How long a reader waits for commits that are not confirmed; `None` is without limit.
pub fn consistent_read_timeout() -> Option<Duration> {
    let milliseconds = CONSISTENT_READ_TIMEOUT.get();
    (milliseconds > 0).then(|| Duration::from_millis(milliseconds as u64))
}

/// Whole queries on the nodes; off switches off the other three too.
pub static PUSHDOWN: GucSetting<bool> = GucSetting::<bool>::new(true);
/// Queries that read more than one table.
pub static JOIN_PUSHDOWN: GucSetting<bool> = GucSetting::<bool>::new(true);
/// Queries that group, aggregate or remove duplicates.
pub static AGGREGATE_PUSHDOWN: GucSetting<bool> = GucSetting::<bool>::new(true);
/// ORDER BY with LIMIT.
pub static SORT_PUSHDOWN: GucSetting<bool> = GucSetting::<bool>::new(true);
/// Rows that are sent go to the node of their join value only, where that is the other side's shard key.
pub static SHIP_BY_KEY: GucSetting<bool> = GucSetting::<bool>::new(true);
/// Settings of the nodes' planners that travel with statements of many rows.
pub static NODE_SETTINGS: GucSetting<bool> = GucSetting::<bool>::new(true);
/// COPY FROM text and CSV that goes on in binary.
pub static BINARY_COPY: GucSetting<bool> = GucSetting::<bool>::new(true);
/// INSERT ... SELECT of many rows that addresses shards, not their parents.
pub static SHARD_WRITES: GucSetting<bool> = GucSetting::<bool>::new(true);

/// When a statement is executed in another way than it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
pub enum When {
    #[name = c"off"]
    Off,
    /// Where that is estimated to cost less.
    #[name = c"auto"]
    Auto,
    /// Wherever it is possible.
    #[name = c"always"]
    Always,
}

static EARLY_GROUPING: GucSetting<When> = GucSetting::<When>::new(When::Auto);

/// When nodes group rows before they join or count them.
pub fn early_grouping() -> When {
    EARLY_GROUPING.get()
}

static SHIP_JOINS: GucSetting<When> = GucSetting::<When>::new(When::Auto);
static MAX_SHIPPED_SIZE: GucSetting<i32> = GucSetting::<i32>::new(32 * 1024);

/// When rows are sent to the nodes for a join that is not on the shard key.
pub fn ship_joins() -> When {
    SHIP_JOINS.get()
}

/// How much is sent to each node for one statement at most, by estimate.
pub fn max_shipped_bytes() -> f64 {
    f64::from(MAX_SHIPPED_SIZE.get()) * 1024.0
}

/// How much is sent to each node for one statement at most, whatever the estimate: with room for one that is a little
/// low, and as much as the arrays of a node, of 1 GB at most, can hold.
pub fn most_shipped_bytes() -> usize {
    (MAX_SHIPPED_SIZE.get().max(0) as usize * 2 * 1024).min(512 << 20)
}

static MAX_TASKS_PER_NODE: GucSetting<i32> = GucSetting::<i32>::new(1);
static MIN_TASK_SIZE: GucSetting<i32> = GucSetting::<i32>::new(8 * 1024);

/// Into how many tasks a node's part of a scan is cut at most.
pub fn max_tasks_per_node() -> usize {
    MAX_TASKS_PER_NODE.get().max(1) as usize
}

/// How much a task has to do at least, in bytes, by estimate.
pub fn min_task_bytes() -> u64 {
    MIN_TASK_SIZE.get().max(0) as u64 * 1024
}

/// Defines the settings; called once from `_PG_init`.
pub fn install() {
    GucRegistry::define_enum_guc(
        c"sharding.consistent_reads",
        c"What a statement that reads several nodes sees of transactions that commit meanwhile.",
        c"transactions: each on all nodes or on none. snapshot: one state of the whole cluster; needs the same setting \
          where the transactions commit. off: each node as it is when the statement gets there.",
        &CONSISTENT_READS,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"sharding.consistent_read_timeout",
        c"Time that a reader of several nodes waits for commits that nodes have not confirmed.",
        c"0 waits without limit.",
        &CONSISTENT_READ_TIMEOUT,
        0,
        i32::MAX,
        GucContext::Userset,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_enum_guc(
        c"sharding.ship_joins",
        c"When rows are sent to the nodes for a join that is not on the shard key.",
        c"auto: where that is estimated to cost less than to join on the coordinator. Tables that are never analyzed \
          are taken to be small.",
        &SHIP_JOINS,
        GucContext::Userset,
        GucFlags::EXPLAIN,
    );
    GucRegistry::define_enum_guc(
        c"sharding.early_grouping",
        c"When nodes group rows before they join them with reference tables, or count different values.",
        c"auto: where a table is large and its statistics say that there are few groups.",
        &EARLY_GROUPING,
        GucContext::Userset,
        GucFlags::EXPLAIN,
    );
    GucRegistry::define_int_guc(
        c"sharding.max_shipped_size",
        c"How much is sent to each node for the joins of one statement at most, by estimate.",
        c"What is larger is joined on the coordinator, and so is what proves to be more than twice as much.",
        &MAX_SHIPPED_SIZE,
        64,
        512 * 1024,
        GucContext::Userset,
        GucFlags::UNIT_KB | GucFlags::EXPLAIN,
    );
    GucRegistry::define_int_guc(
        c"sharding.max_tasks_per_node",
        c"Into how many tasks a node's part of a large scan is cut at most, each over a connection of its own.",
        c"1 never cuts. Fewer are used where the pool has not so many connections to spare.",
        &MAX_TASKS_PER_NODE,
        1,
        64,
        GucContext::Userset,
        GucFlags::EXPLAIN,
    );
    GucRegistry::define_int_guc(
        c"sharding.min_task_size",
        c"How much each task of a node has to send at least, by estimate.",
        c"A row that is aggregated on the node counts 64 bytes.",
        &MIN_TASK_SIZE,
        0,
        i32::MAX,
        GucContext::Userset,
        GucFlags::UNIT_KB | GucFlags::EXPLAIN,
    );
    let define = |name, short, setting| {
        GucRegistry::define_bool_guc(
            name,
            short,
            c"What is not pushed down is done on the coordinator, with the same answer.",
            setting,
            GucContext::Userset,
            GucFlags::EXPLAIN,
        );
    };
    define(c"sharding.enable_pushdown", c"Runs queries on the nodes, where they can be split.", &PUSHDOWN);
    define(c"sharding.enable_join_pushdown", c"Runs joins on the nodes.", &JOIN_PUSHDOWN);
    define(
        c"sharding.enable_aggregate_pushdown",
        c"Runs aggregates, GROUP BY and DISTINCT on the nodes.",
        &AGGREGATE_PUSHDOWN,
    );
    define(c"sharding.enable_sort_pushdown", c"Runs ORDER BY with LIMIT on the nodes.", &SORT_PUSHDOWN);
    GucRegistry::define_bool_guc(
        c"sharding.enable_ship_by_key",
        c"Sends a row for a join on the other side's shard key to the node of its value only.",
        c"Else each row that is sent goes to all nodes.",
        &SHIP_BY_KEY,
        GucContext::Userset,
        GucFlags::EXPLAIN,
    );
    GucRegistry::define_bool_guc(
        c"sharding.enable_node_settings",
        c"Has statements of many rows take settings for the nodes' planners along.",
        c"Shards are joined and aggregated one by one, and nodes on one machine share the parallel workers that one \
          server would use. They hold for the statement.",
        &NODE_SETTINGS,
        GucContext::Userset,
        GucFlags::EXPLAIN,
    );
    define(
        c"sharding.enable_binary_copy",
        c"Has COPY FROM send rows on in binary where it knows their types.",
        &BINARY_COPY,
    );
    define(
        c"sharding.enable_shard_writes",
        c"Has INSERT ... SELECT of many colocated rows write to each shard by itself.",
        &SHARD_WRITES,
    );
}
