//! One transaction on several nodes: all of it or nothing, whatever is lost on the way.

use pg_test::harness::{Cluster, Shutdown};
use postgres::Client;

fn number(client: &mut Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error}")).get(0)
}

fn start(nodes: usize) -> Cluster {
    let cluster = Cluster::start(nodes);
    cluster
        .client()
        .batch_execute(
            "CREATE TABLE t (id int PRIMARY KEY, v int CHECK (v < 1000000));
             SELECT sharding.distribute_table('t', 'id', 12);
             INSERT INTO t SELECT i, 0 FROM generate_series(1, 120) i;
             CREATE TABLE local (id int, v int)",
        )
        .unwrap();
    cluster
}

fn prepared(cluster: &Cluster) -> i64 {
    (1..=cluster.node_count())
        .map(|i| number(&mut cluster.node_client(i), "SELECT count(*) FROM pg_prepared_xacts"))
        .sum()
}

/// Nothing is prepared on the nodes, nothing is left in the log: the second phase may lag behind
/// the answer, but not for long.
fn settled(cluster: &Cluster) {
    for _ in 0..50 {
        if prepared(cluster) == 0 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(prepared(cluster), 0);
    // Confirmed decisions are forgotten by a later commit, or here.
    cluster.client().batch_execute("SELECT * FROM sharding.recover_transactions()").unwrap();
    assert_eq!(number(&mut cluster.client(), "SELECT count(*) FROM sharding.transaction"), 0);
}

#[test]
fn two_phases_leave_nothing_behind() {
    let cluster = start(3);
    let mut here = cluster.client();
    for sql in [
        "UPDATE t SET v = v + 1",
        "BEGIN; UPDATE t SET v = v + 1 WHERE id < 60; INSERT INTO local VALUES (1, 1); COMMIT",
        "BEGIN; UPDATE t SET v = v + 1 WHERE id = 1; SELECT count(*) FROM t; COMMIT",
        "BEGIN; UPDATE t SET v = v + 1; ROLLBACK",
        "BEGIN; SAVEPOINT s; UPDATE t SET v = v + 1; ROLLBACK TO s; COMMIT",
    ] {
        here.batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    assert_eq!(number(&mut here, "SELECT sum(v) FROM t"), 120 + 59 + 1);
    here.batch_execute("SELECT * FROM sharding.recover_transactions()").unwrap();
    settled(&cluster);
}

#[test]
fn a_failure_on_one_node_undoes_all() {
    let cluster = start(3);
    let mut here = cluster.client();
    // Only some rows, so only some nodes, refuse.
    here.batch_execute("UPDATE t SET v = 999999 WHERE id = 7").unwrap();
    for sql in
        ["UPDATE t SET v = v + 1", "INSERT INTO t SELECT i, 1000000 * (i % 40 / 39) FROM generate_series(201, 240) i"]
    {
        let error = here.batch_execute(sql).expect_err(sql);
        assert_eq!(error.code().map(|code| code.code()), Some("23514"), "{sql}: {error}");
    }
    assert_eq!(number(&mut here, "SELECT sum(v) FROM t"), 999999);
    assert_eq!(number(&mut here, "SELECT count(*) FROM t"), 120);

    // A constraint that is checked at commit fails in the first phase.
    here.batch_execute(
        "CREATE TABLE parent (id int PRIMARY KEY);
         CREATE TABLE child (id int PRIMARY KEY REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
         SELECT sharding.distribute_table('parent', 'id', 12);
         SELECT sharding.distribute_table('child', 'id', 12);
         INSERT INTO parent SELECT generate_series(1, 50)",
    )
    .unwrap();
    here.batch_execute(
        "BEGIN; INSERT INTO child SELECT generate_series(1, 51); UPDATE t SET v = 1; INSERT INTO local VALUES (2, 2)",
    )
    .unwrap();
    let error = here.batch_execute("COMMIT").expect_err("the key 51 is missing");
    assert_eq!(error.code().map(|code| code.code()), Some("23503"), "{error}");
    assert_eq!(number(&mut here, "SELECT count(*) FROM child"), 0);
    assert_eq!(number(&mut here, "SELECT count(*) FROM local"), 0);
    assert_eq!(number(&mut here, "SELECT sum(v) FROM t"), 999999);
    settled(&cluster);
}

#[test]
fn a_local_failure_undoes_the_nodes() {
    let cluster = start(2);
    let mut here = cluster.client();
    here.batch_execute(
        "CREATE TABLE strict (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED);
         INSERT INTO strict VALUES (1)",
    )
    .unwrap();
    here.batch_execute("BEGIN; UPDATE t SET v = 5; INSERT INTO strict VALUES (1)").unwrap();
    let error = here.batch_execute("COMMIT").expect_err("1 is there twice");
    assert_eq!(error.code().map(|code| code.code()), Some("23505"), "{error}");
    assert_eq!(number(&mut here, "SELECT sum(v) FROM t"), 0);
    settled(&cluster);
}

#[test]
fn a_node_that_dies_before_the_commit_undoes_all() {
    let mut cluster = start(3);
    let mut here = cluster.client();
    here.batch_execute("BEGIN; UPDATE t SET v = 5; INSERT INTO local VALUES (1, 1)").unwrap();
    cluster.stop_node(2, true);
    assert!(here.batch_execute("COMMIT").is_err());
    cluster.start_node(2);
    let mut here = cluster.client();
    here.batch_execute("SELECT * FROM sharding.recover_transactions()").unwrap();
    assert_eq!(number(&mut here, "SELECT sum(v) FROM t"), 0);
    assert_eq!(number(&mut here, "SELECT count(*) FROM local"), 0);
    settled(&cluster);
}

#[test]
fn a_client_or_a_coordinator_that_vanishes_leaves_nothing() {
    let mut cluster = start(3);
    let mut here = cluster.client();
    here.batch_execute("BEGIN; UPDATE t SET v = 5").unwrap();
    drop(here);
    let mut here = cluster.client();
    // Its locks are gone soon.
    here.batch_execute("SET lock_timeout = '20s'; UPDATE t SET v = 1").unwrap();
    assert_eq!(number(&mut here, "SELECT sum(v) FROM t"), 120);

    here.batch_execute("BEGIN; UPDATE t SET v = 7").unwrap();
    cluster.coordinator_mut().restart(Shutdown::Immediate);
    let mut here = cluster.client();
    here.batch_execute("SELECT * FROM sharding.recover_transactions()").unwrap();
    here.batch_execute("SET lock_timeout = '20s'; UPDATE t SET v = v + 1").unwrap();
    assert_eq!(number(&mut here, "SELECT sum(v) FROM t"), 240);
    settled(&cluster);
}

/// Whatever instant the coordinator dies at, a transaction that moves amounts between nodes has
/// happened or has not: the sum stays.
#[test]
fn a_crash_of_the_coordinator_keeps_sums() {
    let mut cluster = start(3);
    for round in 0..4 {
        let mut workers = Vec::new();
        for worker in 0..4_i32 {
            let mut client = cluster.client();
            workers.push(std::thread::spawn(move || {
                for i in 0.. {
                    let (a, b) = ((worker * 31 + i * 7) % 120 + 1, (worker * 17 + i * 13) % 120 + 1);
                    let (a, b) = (a.min(b), a.max(b));
                    let sql = format!(
                        "SET lock_timeout = '2s'; BEGIN; UPDATE t SET v = v - 3 WHERE id = {a}; UPDATE t SET v = v + 3 WHERE id = {b}; COMMIT"
                    );
                    if client.batch_execute(&sql).is_err() && client.batch_execute("ROLLBACK").is_err() {
                        return;
                    }
                }
            }));
        }
        std::thread::sleep(std::time::Duration::from_millis(300 + round * 77));
        cluster.coordinator_mut().restart(Shutdown::Immediate);
        for worker in workers {
            worker.join().unwrap();
        }
        let mut here = cluster.client();
        here.batch_execute("SELECT * FROM sharding.recover_transactions()").unwrap();
        assert_eq!(number(&mut here, "SELECT sum(v) FROM t"), 0, "round {round}");
        settled(&cluster);
    }
}

/// The same with a node that dies.
#[test]
fn a_crash_of_a_node_keeps_sums() {
    let mut cluster = start(2);
    for round in 0..3 {
        let mut workers = Vec::new();
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        for worker in 0..3_i32 {
            let mut client = cluster.client();
            let stop = std::sync::Arc::clone(&stop);
            workers.push(std::thread::spawn(move || {
                let mut i = 0;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    i += 1;
                    let (a, b) = ((worker * 31 + i * 7) % 120 + 1, (worker * 17 + i * 13) % 120 + 1);
                    let (a, b) = (a.min(b), a.max(b));
                    let sql = format!(
                        "SET lock_timeout = '2s'; BEGIN; UPDATE t SET v = v - 3 WHERE id = {a}; UPDATE t SET v = v + 3 WHERE id = {b}; COMMIT"
                    );
                    if client.batch_execute(&sql).is_err() {
                        client.batch_execute("ROLLBACK").unwrap();
                    }
                }
            }));
        }
        std::thread::sleep(std::time::Duration::from_millis(300 + round * 77));
        cluster.stop_node(2, true);
        std::thread::sleep(std::time::Duration::from_millis(200));
        cluster.start_node(2);
        std::thread::sleep(std::time::Duration::from_millis(300));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for worker in workers {
            worker.join().unwrap();
        }
        let mut here = cluster.client();
        here.batch_execute("SELECT * FROM sharding.recover_transactions()").unwrap();
        assert_eq!(number(&mut here, "SELECT sum(v) FROM t"), 0, "round {round}");
        settled(&cluster);
    }
}

#[test]
fn recovery_finishes_by_the_log_and_leaves_others_alone() {
    let cluster = start(2);
    let mut here = cluster.client();
    here.batch_execute("UPDATE t SET v = 1").unwrap();
    // A prepared transaction that is not the coordinator's.
    let mut node = cluster.node_client(1);
    node.batch_execute("BEGIN; CREATE TABLE mine (id int); PREPARE TRANSACTION 'not_sharding'").unwrap();
    here.batch_execute("SELECT * FROM sharding.recover_transactions()").unwrap();
    assert_eq!(number(&mut node, "SELECT count(*) FROM pg_prepared_xacts WHERE gid = 'not_sharding'"), 1);
    node.batch_execute("ROLLBACK PREPARED 'not_sharding'").unwrap();
    assert_eq!(number(&mut here, "SELECT count(*) FROM sharding.recover_transactions()"), 0);
}
