//! A cluster starts with the extension and its nodes, and stock nodes stay stock.

use pg_test::harness::{Cluster, Installation};

#[test]
fn starts_with_its_nodes() {
    let mut cluster = Cluster::start(2);
    let mut client = cluster.client();
    let row = client.query_one("SELECT count(*) FROM pg_extension WHERE extname = 'sharding'", &[]);
    assert_eq!(row.unwrap().get::<_, i64>(0), 1);
    let preloaded: String = client.query_one("SHOW shared_preload_libraries", &[]).unwrap().get(0);
    assert_eq!(preloaded, "sharding");

    let installation = Installation::get();
    if installation.stock_bin != installation.pgroot_bin {
        let known = "SELECT count(*) FROM pg_available_extensions WHERE name = 'sharding'";
        assert_eq!(cluster.node_client(1).query_one(known, &[]).unwrap().get::<_, i64>(0), 0);
    }

    cluster.stop_node(1, true);
    cluster.start_node(1);
    cluster.restart_node(2);
    assert_eq!(cluster.node_client(2).query_one("SELECT 1", &[]).unwrap().get::<_, i32>(0), 1);
}
