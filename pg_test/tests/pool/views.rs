//! What the views show, and to whom.

use crate::{eventually, fails, start, text};

#[test]
fn views_show_the_pool_to_those_who_may_see_it() {
    let cluster = start(2, "");
    let mut here = cluster.client();
    here.batch_execute("CREATE ROLE curious LOGIN; CREATE ROLE watcher LOGIN; GRANT pg_monitor TO watcher").unwrap();
    assert_eq!(fails(&mut cluster.client_as("curious"), "SELECT * FROM sharding.connections").code().code(), "42501");
    let mut watcher = cluster.client_as("watcher");
    assert_eq!(text(&mut watcher, "SELECT count(*) > 0 FROM sharding.pool_stats"), "t");
    here.batch_execute("BEGIN; SELECT count(*) FROM t").unwrap();
    let shown = "SELECT string_agg(concat_ws(' ', node, \"user\", state, statements > 0, bytes > 0, age > '0'), '; ' ORDER BY node)
                 FROM sharding.connections WHERE backend_pid IS NOT NULL";
    // The counters are those of the leases before.
    assert_eq!(text(&mut watcher, shown), "n1 postgres leased t t t; n2 postgres leased t t t");
    here.batch_execute("COMMIT").unwrap();
    assert_eq!(text(&mut watcher, shown), "NULL");
    let failed = "SELECT count(*) FROM sharding.connections WHERE errors > 0";
    assert_eq!(text(&mut watcher, failed), "0");
    // A client hears of an error before its server has given the connections back.
    fails(&mut here, "INSERT INTO t VALUES (1, 1)");
    eventually(&mut watcher, failed, "1");
}
