//! The views `sharding.connections` and `sharding.pool_stats`.

use crate::error::Result;
use crate::pg::function::{Answer, Call};
use crate::pg::pool::overview;
use crate::sql_function;

sql_function!(sharding_pool_connections, pg_finfo_sharding_pool_connections, pool_connections);
sql_function!(sharding_pool_counters, pg_finfo_sharding_pool_counters, pool_counters);

fn pool_connections(call: &Call) -> Result<Answer> {
    call.return_rows(&overview::connections())
}

fn pool_counters(call: &Call) -> Result<Answer> {
    call.return_rows(&overview::counters())
}
