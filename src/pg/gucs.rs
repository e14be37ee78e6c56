//! Switches of the planner: each turns one kind of pushdown off. Correctness never depends on them: what
//! is not pushed down is done on the coordinator.
//!
//! ```sql
//! SET sharding.enable_aggregate_pushdown = off;   -- aggregates are computed here, of rows from the nodes
//! ```

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

/// Whole queries on the nodes; off switches off the other three too.
pub static PUSHDOWN: GucSetting<bool> = GucSetting::<bool>::new(true);
/// Queries that read more than one table.
pub static JOIN_PUSHDOWN: GucSetting<bool> = GucSetting::<bool>::new(true);
/// Queries that group, aggregate or remove duplicates.
pub static AGGREGATE_PUSHDOWN: GucSetting<bool> = GucSetting::<bool>::new(true);
/// ORDER BY with LIMIT.
pub static SORT_PUSHDOWN: GucSetting<bool> = GucSetting::<bool>::new(true);

/// Defines the settings; called once from `_PG_init`.
pub fn install() {
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
}
