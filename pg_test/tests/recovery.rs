//! Transactions in doubt are finished without anybody's help, and the worker that does it is in nobody's way.

use pg_test::harness::{Cluster, Settings, Shutdown};
use postgres::Client;
use std::thread::sleep;
use std::time::{Duration, Instant};

const QUICK: Settings = Settings { coordinator: "sharding.recovery_interval = '500ms'", node: "" };
/// How long anything may take that is to happen within seconds.
const SECONDS: Duration = Duration::from_secs(15);

fn number(client: &mut Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error}")).get(0)
}

/// Waits until a query returns a number, and returns how long that took.
fn eventually(client: &mut Client, sql: &str, expected: i64) -> Duration {
    let begun = Instant::now();
    loop {
        let got = number(client, sql);
        if got == expected {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < SECONDS, "{sql}: {got} instead of {expected}");
        sleep(Duration::from_millis(20));
    }
}

fn start(settings: Settings) -> Cluster {
    let cluster = Cluster::start_with(2, settings);
    cluster
        .client()
        .batch_execute(
            "CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL);
             SELECT sharding.distribute_table('t', 'id', 8);
             INSERT INTO t SELECT i, 0 FROM generate_series(1, 100) i",
        )
        .unwrap();
    cluster
}

const PREPARED: &str = "SELECT count(*) FROM pg_prepared_xacts";
const WORKERS: &str = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'sharding maintenance worker'
                       AND datname = current_database()";

/// What the gids of this coordinator's transactions begin with, up to the transaction's number.
fn prefix(here: &mut Client) -> String {
    let sql = "SELECT 'sharding_' || system_identifier || '_' || d.oid || '_'
               FROM pg_control_system(), pg_database d WHERE datname = current_database()";
    here.query_one(sql, &[]).unwrap().get(0)
}

/// Leaves a transaction of the coordinator prepared on a node, as if its backend were gone. It sets v of a row
/// to 7, a row that is on that node.
fn leave_prepared(cluster: &Cluster, node: usize, log_name: &str) {
    let mut client = cluster.node_client(node);
    client
        .batch_execute(&format!(
            "BEGIN; UPDATE t SET v = 7 WHERE id = (SELECT min(id) FROM t); PREPARE TRANSACTION '{log_name}_{node}'"
        ))
        .unwrap();
}

/// Has a new worker started, which looks at all nodes: what these tests leave behind by hand, nobody reports.
fn renew_worker(here: &mut Client) {
    eventually(here, WORKERS, 1);
    let sql = WORKERS.replace("count(*)", "count(pg_terminate_backend(pid))");
    assert_eq!(number(here, &sql), 1);
}

#[test]
fn what_is_left_in_doubt_is_finished_by_the_log() {
    let mut cluster = start(QUICK);
    let mut here = cluster.client();
    eventually(&mut here, WORKERS, 1);
    let prefix = prefix(&mut here);
    // Long ago, as their numbers are concerned.
    let (decided, undecided) = (format!("{prefix}10_00000000000000aa"), format!("{prefix}11_00000000000000bb"));
    leave_prepared(&cluster, 1, &undecided);
    renew_worker(&mut here);
    eventually(&mut cluster.node_client(1), PREPARED, 0);
    assert_eq!(number(&mut here, "SELECT sum(v) FROM t"), 0, "no row in the log: rolled back");
    // The pass goes on; the next rows of the log shall be this test's alone.
    eventually(&mut here, "SELECT count(*) FROM sharding.transaction", 0);

    // Decided, and one node has not heard of it: it was down.
    cluster.stop_node(1, true);
    here.batch_execute(&format!("INSERT INTO sharding.transaction VALUES ('{decided}', '{{n1,n2}}')")).unwrap();
    leave_prepared(&cluster, 2, &decided);
    renew_worker(&mut here);
    let mut node = cluster.node_client(2);
    eventually(&mut node, PREPARED, 0);
    assert_eq!(number(&mut node, "SELECT sum(v) FROM t"), 7);
    // The log keeps it until n1 has confirmed.
    sleep(Duration::from_secs(1));
    assert_eq!(number(&mut here, "SELECT count(*) FROM sharding.transaction"), 1);
    let row =
        here.query_one("SELECT gid, state, nodes::text, unconfirmed::text FROM sharding.transactions", &[]).unwrap();
    let column = |i: usize| row.get::<_, String>(i);
    assert_eq!([column(0), column(1), column(2), column(3)], [&decided, "committing", "{n1,n2}", "{n1}"]);

    cluster.start_node(1);
    eventually(&mut here, "SELECT count(*) FROM sharding.transaction", 0);
    assert_eq!(number(&mut here, "SELECT count(*) FROM sharding.transactions"), 0);
}

/// The same over a real commit: its node is gone before it hears of the decision.
#[test]
fn a_node_that_returns_is_told_within_seconds() {
    let mut cluster = start(QUICK);
    for round in 0..3 {
        let mut here = cluster.client();
        here.batch_execute("BEGIN; UPDATE t SET v = v + 1").unwrap();
        cluster.stop_node(2, round % 2 == 0);
        let _ = here.batch_execute("COMMIT");
        cluster.start_node(2);
        let mut node = cluster.node_client(2);
        eventually(&mut node, PREPARED, 0);
        let mut here = cluster.client();
        let sum = number(&mut here, "SELECT sum(v) FROM t");
        assert_eq!(sum % 100, 0, "all or nothing");
    }
}

#[test]
fn a_coordinator_that_returns_finishes_what_it_left() {
    let mut cluster = start(Settings::default());
    let mut here = cluster.client();
    let prefix = prefix(&mut here);
    leave_prepared(&cluster, 1, &format!("{prefix}10_00000000000000aa"));
    drop(here);
    cluster.coordinator_mut().restart(Shutdown::Immediate);
    // Nobody connects to the coordinator.
    let took = eventually(&mut cluster.node_client(1), PREPARED, 0);
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let cluster = start(QUICK);
    let mut here = cluster.client();
    let prefix = prefix(&mut here);
    let mut node = cluster.node_client(1);
    // Somebody else's, another database's, and one whose backend is at work.
    here.batch_execute("BEGIN; CREATE TABLE busy (id int)").unwrap();
    let xid = number(&mut here, "SELECT pg_current_xact_id()::text::bigint");
    let (system, _) = prefix.trim_end_matches('_').rsplit_once('_').unwrap();
    let foreign = [
        "app_17".to_string(),
        format!("{system}_1_10_00000000000000aa_1"),
        format!("{prefix}{xid}_00000000000000aa_1"),
    ];
    for (i, gid) in foreign.iter().enumerate() {
        node.batch_execute(&format!("BEGIN; CREATE TABLE mine{i} (id int); PREPARE TRANSACTION '{gid}'")).unwrap();
    }
    node.batch_execute("BEGIN; CREATE TABLE gone (id int)").unwrap();
    node.batch_execute(&format!("PREPARE TRANSACTION '{prefix}10_00000000000000cc_1'")).unwrap();
    let mut other = cluster.client();
    renew_worker(&mut other);
    eventually(&mut node, &format!("{PREPARED} WHERE gid LIKE '%cc_1'"), 0);
    sleep(Duration::from_secs(1));
    assert_eq!(number(&mut node, PREPARED), 3);
    let running = "SELECT count(*) FROM sharding.transactions WHERE state = 'in progress'";
    assert_eq!(number(&mut cluster.client(), running), 1);
    here.batch_execute("ROLLBACK").unwrap();
    renew_worker(&mut other);
    eventually(&mut node, PREPARED, 2);
    for gid in &foreign[..2] {
        node.batch_execute(&format!("ROLLBACK PREPARED '{gid}'")).unwrap();
    }
}

#[test]
fn the_worker_makes_way_for_statements_about_its_database() {
    let cluster = start(QUICK);
    let mut here = cluster.client();
    eventually(&mut here, WORKERS, 1);
    drop(here);
    let mut elsewhere = cluster.coordinator().config("postgres").dbname("postgres").connect(postgres::NoTls).unwrap();
    // Sessions of the tests that have just ended count as well.
    sleep(Duration::from_millis(200));
    for sql in [
        "CREATE DATABASE copy TEMPLATE app",
        "ALTER DATABASE app RENAME TO renamed",
        "ALTER DATABASE renamed RENAME TO app",
    ] {
        elsewhere.batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    // Afterwards it is there again.
    eventually(&mut cluster.client(), WORKERS, 1);
    sleep(Duration::from_millis(200));
    let begun = Instant::now();
    for sql in ["DROP DATABASE copy", "DROP DATABASE app"] {
        elsewhere.batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    let anywhere = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'sharding maintenance worker'";
    sleep(Duration::from_secs(2));
    assert_eq!(number(&mut elsewhere, anywhere), 0);
}

#[test]
fn each_database_with_nodes_has_a_worker_and_no_other() {
    let cluster = start(QUICK);
    let mut here = cluster.client();
    let anywhere = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'sharding maintenance worker'";
    eventually(&mut here, anywhere, 1);
    here.batch_execute("CREATE DATABASE second").unwrap();
    here.batch_execute("CREATE DATABASE plain").unwrap();
    for i in 1..=2 {
        cluster.node_client(i).batch_execute("CREATE DATABASE second").unwrap();
    }
    let mut second = cluster.coordinator().config("postgres").dbname("second").connect(postgres::NoTls).unwrap();
    second.batch_execute("CREATE EXTENSION sharding").unwrap();
    for i in 1..=2 {
        let port = cluster.node(i).port();
        second
            .batch_execute(&format!("SELECT sharding.add_node('n{i}', '127.0.0.1', {port}, 'second', 'postgres')"))
            .unwrap();
    }
    second.batch_execute("SELECT * FROM sharding.nodes").unwrap();
    eventually(&mut here, anywhere, 2);
    // Each finishes its own.
    let theirs = prefix(&mut second);
    let ours = prefix(&mut here);
    for (database, prefix) in [("app", &ours), ("second", &theirs)] {
        let mut node = cluster.node(1).config("postgres").dbname(database).connect(postgres::NoTls).unwrap();
        let gid = format!("{prefix}10_00000000000000aa_1");
        node.batch_execute(&format!("BEGIN; CREATE TABLE gone (id int); PREPARE TRANSACTION '{gid}'")).unwrap();
    }
    let sql = anywhere.replace("count(*)", "count(pg_terminate_backend(pid))");
    assert_eq!(number(&mut here, &sql), 2);
    eventually(&mut cluster.node_client(1), PREPARED, 0);

    second.batch_execute("DROP EXTENSION sharding CASCADE").unwrap();
    eventually(&mut here, anywhere, 1);
}

#[test]
fn without_a_process_for_the_worker_the_log_says_so() {
    // The pool's, the launcher's and that of logical replication.
    let settings = Settings { coordinator: "max_worker_processes = 3", node: "" };
    let cluster = start(settings);
    let begun = Instant::now();
    while !cluster.coordinator().log().contains("no background worker is left") {
        assert!(begun.elapsed() < SECONDS, "{}", cluster.coordinator().log());
        sleep(Duration::from_millis(50));
    }
    let mut here = cluster.client();
    assert_eq!(number(&mut here, WORKERS), 0);
    assert_eq!(number(&mut here, "SELECT count(*) FROM t"), 100);
    sleep(Duration::from_secs(6));
    assert_eq!(cluster.coordinator().log().matches("no background worker is left").count(), 1);
    assert!(cluster.coordinator().log().contains("Raise max_worker_processes."));
}

/// Of the nodes, the first one takes connections and never answers.
#[test]
fn a_node_that_does_not_answer_delays_no_other() {
    let cluster = start(QUICK);
    let mut here = cluster.client();
    let prefix = prefix(&mut here);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    here.batch_execute(&format!("ALTER SERVER n1 OPTIONS (SET port '{port}')")).unwrap();
    leave_prepared(&cluster, 2, &format!("{prefix}10_00000000000000aa"));
    let begun = Instant::now();
    renew_worker(&mut here);
    eventually(&mut cluster.node_client(2), PREPARED, 0);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
    // Deadlocks, too, are looked for as before, and the log is told once.
    sleep(Duration::from_secs(6));
    let log = cluster.coordinator().log();
    assert_eq!(log.matches("could not connect to node \"n1\"").count(), 1, "{log}");
    let port_of_n1 = cluster.node(1).port();
    leave_prepared(&cluster, 1, &format!("{prefix}11_00000000000000aa"));
    here.batch_execute(&format!("ALTER SERVER n1 OPTIONS (SET port '{port_of_n1}')")).unwrap();
    eventually(&mut cluster.node_client(1), PREPARED, 0);

    // Nor does it delay a statement for which the worker has to leave.
    here.batch_execute(&format!("ALTER SERVER n1 OPTIONS (SET port '{port}')")).unwrap();
    renew_worker(&mut here);
    eventually(&mut here, WORKERS, 1);
    drop(here);
    let mut elsewhere = cluster.coordinator().config("postgres").dbname("postgres").connect(postgres::NoTls).unwrap();
    sleep(Duration::from_millis(300));
    let begun = Instant::now();
    elsewhere.batch_execute("DROP DATABASE app").unwrap();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[test]
fn the_worker_goes_to_a_node_as_whoever_may() {
    let cluster = start(QUICK);
    let mut here = cluster.client();
    let prefix = prefix(&mut here);
    eventually(&mut here, WORKERS, 1);
    here.batch_execute("CREATE ROLE alice; CREATE ROLE bob").unwrap();
    for i in 1..=2 {
        cluster.node_client(i).batch_execute("CREATE ROLE limited LOGIN").unwrap();
        here.batch_execute(&format!("DROP USER MAPPING FOR PUBLIC SERVER n{i}")).unwrap();
    }
    renew_worker(&mut here);
    let begun = Instant::now();
    while !cluster.coordinator().log().contains("no user mapping for \"postgres\" on node \"n1\"") {
        assert!(begun.elapsed() < SECONDS, "{}", cluster.coordinator().log());
        sleep(Duration::from_millis(50));
    }
    // The first one may look but not touch.
    here.batch_execute("CREATE USER MAPPING FOR alice SERVER n1 OPTIONS (user 'limited')").unwrap();
    here.batch_execute("CREATE USER MAPPING FOR bob SERVER n1 OPTIONS (user 'postgres')").unwrap();
    leave_prepared(&cluster, 1, &format!("{prefix}10_00000000000000aa"));
    renew_worker(&mut here);
    eventually(&mut cluster.node_client(1), PREPARED, 0);
}

#[test]
fn recovery_can_be_left_to_the_user() {
    let cluster = start(Settings { coordinator: "sharding.recovery_interval = 0", node: "" });
    let mut here = cluster.client();
    let prefix = prefix(&mut here);
    leave_prepared(&cluster, 1, &format!("{prefix}10_00000000000000aa"));
    renew_worker(&mut here);
    sleep(Duration::from_secs(3));
    assert_eq!(number(&mut cluster.node_client(1), PREPARED), 1);
    assert_eq!(number(&mut here, "SELECT count(*) FROM sharding.recover_transactions()"), 1);
    leave_prepared(&cluster, 1, &format!("{prefix}11_00000000000000aa"));
    here.batch_execute("ALTER SYSTEM SET sharding.recovery_interval = '1s'").unwrap();
    // What the server is started with does not hide it.
    here.batch_execute("SELECT pg_reload_conf()").unwrap();
    eventually(&mut cluster.node_client(1), PREPARED, 0);
}
