//! Adding, checking, losing and removing nodes.

use pg_test::harness::{Cluster, Plain, Settings};
use postgres::Client;
use postgres::error::DbError;
use std::net::TcpListener;
use std::time::{Duration, Instant};

/// The error of a statement that must fail.
fn fails(client: &mut Client, sql: &str) -> DbError {
    let error = client.batch_execute(sql).expect_err(sql);
    error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error}")).clone()
}

fn number(client: &mut Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error}")).get(0)
}

fn call(name: &str, port: u16, dbname: &str) -> String {
    format!("SELECT sharding.add_node('{name}', '127.0.0.1', {port}, '{dbname}', 'postgres')")
}

fn nodes(client: &mut Client) -> Vec<String> {
    let rows = client.query("SELECT name::text FROM sharding.nodes ORDER BY 1", &[]).unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[test]
fn a_node_is_checked_before_it_is_added() {
    let cluster = Cluster::start_unconfigured(1, Settings::default());
    let mut here = cluster.client();
    here.batch_execute("CREATE EXTENSION sharding").unwrap();

    // Nobody listens there: said at once.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let start = Instant::now();
    let error = fails(&mut here, &call("nobody", closed, "app"));
    assert!(error.code().code().starts_with("08"), "{error:?}");
    assert!(error.message().contains("nobody"), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(15));

    // Somebody listens there and says nothing: said after a timeout.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let start = Instant::now();
    let error = fails(&mut here, &call("mute", mute.local_addr().unwrap().port(), "app"));
    assert!(error.code().code().starts_with("08"), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(60));

    // No such database, no such user, this very database.
    let error = fails(&mut here, &call("n1", cluster.node(1).port(), "nothing"));
    assert!(["08", "3D"].contains(&&error.code().code()[..2]), "{error:?}");
    let wrong_user =
        format!("SELECT sharding.add_node('n1', '127.0.0.1', {}, 'app', 'nobody')", cluster.node(1).port());
    let error = fails(&mut here, &wrong_user);
    assert!(["08", "28"].contains(&&error.code().code()[..2]), "{error:?}");
    let error = fails(&mut here, &call("self", cluster.port(), "app"));
    assert_eq!(error.code().code(), "22023", "{error:?}");

    // Another database of the same server is a node like any other.
    here.batch_execute("CREATE DATABASE beside").unwrap();
    here.batch_execute(&call("beside", cluster.port(), "beside")).unwrap();
    assert_eq!(nodes(&mut here), ["beside"]);
    assert_eq!(fails(&mut here, &call("beside", cluster.node(1).port(), "app")).code().code(), "42710");
    here.batch_execute("SELECT sharding.remove_node('beside')").unwrap();
    assert_eq!(nodes(&mut here), Vec::<String>::new());
}

#[test]
fn a_node_must_be_able_to_prepare_transactions() {
    let settings = Settings { coordinator: "", node: "max_prepared_transactions = 0" };
    let cluster = Cluster::start_unconfigured(1, settings);
    let mut here = cluster.client();
    here.batch_execute("CREATE EXTENSION sharding").unwrap();
    let error = fails(&mut here, &call("n1", cluster.node(1).port(), "app"));
    assert_eq!(error.code().code(), "55000");
    assert!(error.message().contains("n1"), "{error:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("max_prepared_transactions")), "{error:?}");
    assert_eq!(nodes(&mut here), Vec::<String>::new());
}

#[test]
fn a_node_must_have_the_same_encoding() {
    let cluster = Cluster::start(1);
    let plain = Plain::start();
    plain.client().batch_execute("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'").unwrap();
    let error = fails(&mut cluster.client(), &call("latin", plain.port(), "latin"));
    assert_eq!(error.code().code(), "55000", "{error:?}");
    assert!(error.message().contains("encoding"), "{error:?}");
}

#[test]
fn nodes_are_servers_with_user_mappings() {
    let cluster = Cluster::start_unconfigured(1, Settings::default());
    let mut here = cluster.client();
    here.batch_execute("CREATE EXTENSION sharding").unwrap();
    here.batch_execute(&format!(
        "CREATE SERVER by_hand FOREIGN DATA WRAPPER sharding
             OPTIONS (host '127.0.0.1', port '{}', dbname 'app');
         CREATE USER MAPPING FOR PUBLIC SERVER by_hand OPTIONS (user 'postgres');
         SELECT sharding.check_node('by_hand');
         CREATE TABLE t (id int PRIMARY KEY, v int);
         SELECT sharding.distribute_table('t', 'id', 4);
         INSERT INTO t SELECT i, i FROM generate_series(1, 100) i",
        cluster.node(1).port()
    ))
    .unwrap();
    assert_eq!(number(&mut here, "SELECT count(*) FROM t"), 100);
    assert_eq!(number(&mut cluster.node_client(1), "SELECT count(*) FROM t"), 100);
    assert_eq!(number(&mut here, "SELECT shards FROM sharding.nodes WHERE name = 'by_hand'"), 4);
    for sql in [
        "CREATE SERVER wrong FOREIGN DATA WRAPPER sharding OPTIONS (nothing 'x')",
        "CREATE SERVER wrong FOREIGN DATA WRAPPER sharding OPTIONS (password 'x')",
    ] {
        assert_eq!(fails(&mut here, sql).code().code(), "HV00D", "{sql}");
    }
}

#[test]
fn a_node_with_shards_stays() {
    let cluster = Cluster::start(2);
    let mut here = cluster.client();
    here.batch_execute(
        "CREATE TABLE t (id int PRIMARY KEY, v int);
         INSERT INTO t SELECT i, i FROM generate_series(1, 100) i;
         CREATE TABLE r (id int PRIMARY KEY);
         INSERT INTO r VALUES (1), (2);
         SELECT sharding.distribute_table('t', 'id', 8);
         SELECT sharding.replicate_table('r')",
    )
    .unwrap();
    let error = fails(&mut here, "SELECT sharding.remove_node('n1')");
    assert_eq!(error.code().code(), "2BP01");
    assert!(error.detail().is_some_and(|detail| detail.contains("public.t")), "{error:?}");
    assert_eq!(fails(&mut here, "SELECT sharding.remove_node('nothing')").code().code(), "42704");
    assert_eq!(number(&mut here, "SELECT count(*) FROM t"), 100);

    here.batch_execute("SELECT sharding.undistribute_table('t')").unwrap();
    here.batch_execute("SELECT sharding.remove_node('n1')").unwrap();
    assert_eq!(nodes(&mut here), ["n2"]);
    // What it had a copy of is gone there, and stays here and on the other node.
    let copies = "SELECT count(*) FROM pg_class WHERE relname = 'r' AND relkind = 'r'";
    assert_eq!(number(&mut cluster.node_client(1), copies), 0);
    assert_eq!(number(&mut cluster.node_client(2), copies), 1);
    here.batch_execute("INSERT INTO r VALUES (3)").unwrap();
    assert_eq!(number(&mut cluster.node_client(2), "SELECT count(*) FROM r"), 3);
    // A node that comes later gets the reference tables.
    here.batch_execute(&call("n1", cluster.node(1).port(), "app")).unwrap();
    assert_eq!(number(&mut cluster.node_client(1), "SELECT count(*) FROM r"), 3);
    here.batch_execute("SELECT sharding.distribute_table('t', 'id', 8)").unwrap();
    assert_eq!(number(&mut here, "SELECT count(*) FROM t"), 100);
}

#[test]
fn a_dead_node_fails_only_what_touches_it() {
    let mut cluster = Cluster::start(3);
    let mut here = cluster.client();
    here.batch_execute(
        "CREATE TABLE t (id int PRIMARY KEY, v int);
         SELECT sharding.distribute_table('t', 'id', 12);
         INSERT INTO t SELECT i, i FROM generate_series(1, 300) i;
         CREATE TABLE local (id int); INSERT INTO local VALUES (1);
         CREATE TABLE r (id int PRIMARY KEY, v int);
         SELECT sharding.replicate_table('r');
         INSERT INTO r VALUES (1, 1)",
    )
    .unwrap();
    let key_on = |here: &mut Client, node: &str| -> i32 {
        let sql = format!(
            "SELECT min(g) FROM generate_series(1, 300) g
             JOIN sharding.shards s ON s.relation = 't'::regclass AND s.shard = sharding.shard_of('t', g)
             WHERE s.node = '{node}'"
        );
        here.query_one(&sql, &[]).unwrap().get(0)
    };
    let (alive, dead) = (key_on(&mut here, "n1"), key_on(&mut here, "n2"));
    cluster.stop_node(2, true);

    for (mut client, what) in [(here, "a session from before"), (cluster.client(), "a new session")] {
        let start = Instant::now();
        for (sql, writes) in [
            (format!("SELECT v FROM t WHERE id = {dead}"), false),
            ("SELECT count(*) FROM t".to_string(), false),
            (format!("UPDATE t SET v = 0 WHERE id = {dead}"), true),
            ("UPDATE t SET v = 0".to_string(), true),
            ("INSERT INTO t SELECT i, i FROM generate_series(1001, 1050) i".to_string(), true),
            ("INSERT INTO r VALUES (2, 2)".to_string(), true),
        ] {
            let error = fails(&mut client, &sql);
            let named =
                error.message().contains("\"n2\"") || error.where_().is_some_and(|context| context.contains("\"n2\""));
            assert!(named, "{what}: {sql} ({writes}): {error:?}");
            assert!(error.code().code().starts_with("08"), "{what}: {sql}: {error:?}");
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{what}");
        assert_eq!(number(&mut client, &format!("SELECT v::int8 FROM t WHERE id = {alive}")), i64::from(alive));
        client.batch_execute(&format!("UPDATE t SET v = v WHERE id = {alive}")).unwrap();
        assert_eq!(number(&mut client, "SELECT count(*) FROM local"), 1);
        assert_eq!(number(&mut client, "SELECT count(*) FROM r"), 1);
        assert_eq!(number(&mut client, &format!("SELECT count(*) FROM t JOIN r ON t.id = {alive} AND r.id = 1")), 1);
    }

    cluster.start_node(2);
    let mut client = cluster.client();
    assert_eq!(number(&mut client, "SELECT count(*) FROM t"), 300);
    assert_eq!(number(&mut client, "SELECT sum(v) FROM t"), 300 * 301 / 2);
    assert_eq!(number(&mut client, "SELECT count(*) FROM r"), 1);
    assert_eq!(number(&mut cluster.node_client(2), "SELECT count(*) FROM r"), 1);
}

#[test]
fn a_session_outlives_a_restart_of_its_node() {
    let mut cluster = Cluster::start(2);
    let mut here = cluster.client();
    here.batch_execute(
        "CREATE TABLE t (id int PRIMARY KEY, v int);
         SELECT sharding.distribute_table('t', 'id', 8);
         INSERT INTO t SELECT i, i FROM generate_series(1, 100) i",
    )
    .unwrap();
    assert_eq!(number(&mut here, "SELECT count(*) FROM t"), 100);
    cluster.restart_node(1);
    cluster.restart_node(2);
    // One statement may find the connections broken, none after it.
    let _ = here.query("SELECT count(*) FROM t", &[]);
    assert_eq!(number(&mut here, "SELECT count(*) FROM t"), 100);
    // Inside a transaction that had written, the loss is an error and nothing is left.
    here.batch_execute("BEGIN; UPDATE t SET v = 0").unwrap();
    cluster.restart_node(1);
    assert!(here.batch_execute("UPDATE t SET v = 1").is_err());
    here.batch_execute("ROLLBACK").unwrap();
    assert_eq!(number(&mut here, "SELECT sum(v) FROM t"), 100 * 101 / 2);
}

#[test]
fn run_on_nodes_reaches_all_in_one_transaction() {
    let cluster = Cluster::start(3);
    let mut here = cluster.client();
    assert_eq!(number(&mut here, "SELECT count(*) FROM sharding.run_on_nodes('SELECT 1')"), 3);
    here.batch_execute(
        "BEGIN; SELECT sharding.run_on_nodes('CREATE TABLE made (id int)'); ROLLBACK;
         SELECT sharding.run_on_nodes('CREATE TABLE kept (id int)')",
    )
    .unwrap();
    for i in 1..=3 {
        let tables = "SELECT count(*) FROM pg_class WHERE relname IN ('made', 'kept')";
        assert_eq!(number(&mut cluster.node_client(i), tables), 1);
    }
    cluster.node_client(2).batch_execute("DROP TABLE kept").unwrap();
    let error = fails(&mut here, "SELECT sharding.run_on_nodes('DROP TABLE kept')");
    assert_eq!(error.code().code(), "42P01");
    assert!(error.where_().is_some_and(|context| context.contains("n2")), "{error:?}");
    let kept = "SELECT count(*) FROM pg_class WHERE relname = 'kept'";
    assert_eq!(number(&mut cluster.node_client(1), kept), 1, "nothing happened on the others");
}
