//! After faults: until no node has a prepared transaction any more, nor the coordinator a row about one.

use std::time::{Duration, Instant};

use super::Cluster;

/// The prepared transactions of `sharding` on all nodes, which must be up.
pub fn in_doubt(cluster: &Cluster) -> i64 {
    let sql = r"SELECT count(*) FROM pg_prepared_xacts WHERE gid LIKE 'sharding\_%'";
    (1..=cluster.node_count())
        .map(|node| {
            let row = cluster.node_client(node).query_one(sql, &[]).expect("the node is up");
            row.get::<_, i64>(0)
        })
        .sum()
}

/// Recovers until nothing is in doubt; how long that took. Panics after `limit`, with what is left.
pub fn settle(cluster: &Cluster, limit: Duration) -> Duration {
    let start = Instant::now();
    let mut client = cluster.client();
    loop {
        let recovered = client.batch_execute("SELECT * FROM sharding.recover_transactions()");
        let rows: i64 =
            client.query_one("SELECT count(*) FROM sharding.transaction", &[]).expect("the coordinator answers").get(0);
        let prepared = in_doubt(cluster);
        if recovered.is_ok() && rows == 0 && prepared == 0 {
            return start.elapsed();
        }
        assert!(
            start.elapsed() < limit,
            "{prepared} prepared transactions and {rows} decisions are left ({recovered:?})\n{}",
            cluster.coordinator().log()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}
