//! Transactions that wait for each other over several servers: one of them gives way, soon, and nobody else does.

use pg_test::harness::{Cluster, Settings};
use postgres::error::DbError;
use postgres::{Client, SimpleQueryMessage};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Postgres's default for `deadlock_timeout`.
const TIMEOUT: Duration = Duration::from_secs(1);
const DEADLOCK: &str = "40P01";

fn start(nodes: usize, coordinator: &str) -> Cluster {
    // The nodes resolve their own as soon.
    let cluster = Cluster::start_with(nodes, Settings { coordinator, node: coordinator });
    cluster
        .client()
        .batch_execute(
            "CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL);
             SELECT sharding.distribute_table('t', 'id', 12);
             INSERT INTO t SELECT i, 0 FROM generate_series(1, 200) i;
             CREATE TABLE local (id int PRIMARY KEY, v int);
             INSERT INTO local VALUES (1, 0)",
        )
        .unwrap();
    cluster
}

fn text(client: &mut Client, sql: &str) -> String {
    let messages = client.simple_query(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let value = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("NULL").to_string()),
        _ => None,
    });
    value.unwrap_or_default()
}

/// A key whose row is on node `i`.
fn key_on(client: &mut Client, i: usize) -> String {
    let sql = format!(
        "SELECT min(g) FROM generate_series(1, 200) g
         JOIN sharding.shards s ON s.relation = 't'::regclass AND s.shard = sharding.shard_of('t', g)
         WHERE s.node = 'n{i}'"
    );
    text(client, &sql)
}

fn add(key: &str) -> String {
    format!("UPDATE t SET v = v + 1 WHERE id = {key}")
}

fn pid(client: &mut Client) -> String {
    text(client, "SELECT pg_backend_pid()")
}

/// How a statement ended.
type Outcome = Result<(), Box<DbError>>;

/// Runs a statement of each transaction at the same time, a little apart; how each ended, and how long the last one
/// took from its start until the first ended.
fn all_at_once(clients: &mut [Client], statements: &[String]) -> (Vec<Outcome>, Duration) {
    let first_end = AtomicU64::new(u64::MAX);
    let begun = Instant::now();
    let mut last_start = Duration::ZERO;
    let outcomes = thread::scope(|scope| {
        let first_end = &first_end;
        let mut running = Vec::new();
        for (client, sql) in clients.iter_mut().zip(statements) {
            last_start = begun.elapsed();
            running.push(scope.spawn(move || {
                let result = client.batch_execute(sql);
                first_end.fetch_min(begun.elapsed().as_millis() as u64, Ordering::SeqCst);
                if result.is_err() {
                    client.batch_execute("ROLLBACK").unwrap();
                } else {
                    client.batch_execute("COMMIT").unwrap();
                }
                result
                    .map_err(|error| Box::new(error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error}")).clone()))
            }));
            thread::sleep(Duration::from_millis(100));
        }
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    (outcomes, Duration::from_millis(first_end.load(Ordering::SeqCst)).saturating_sub(last_start))
}

fn expect_victim(outcomes: &[Outcome], victim: usize) -> &DbError {
    for (i, outcome) in outcomes.iter().enumerate() {
        match outcome {
            Ok(()) => assert_ne!(i, victim, "{outcomes:?}"),
            Err(error) => {
                assert_eq!(i, victim, "{error:?}");
                assert_eq!(error.code().code(), DEADLOCK, "{error:?}");
                assert_eq!(error.message(), "deadlock detected");
            }
        }
    }
    outcomes[victim].as_ref().expect_err("somebody gave way")
}

fn two_transactions_on_two_nodes(cluster: &Cluster) {
    let mut clients = [cluster.client(), cluster.client()];
    let keys = [key_on(&mut clients[0], 1), key_on(&mut clients[0], 2)];
    let pids = [pid(&mut clients[0]), pid(&mut clients[1])];
    for round in 0..2 {
        for (client, key) in clients.iter_mut().zip(&keys) {
            client.batch_execute(&format!("BEGIN; {}", add(key))).unwrap();
        }
        let (outcomes, took) = all_at_once(&mut clients, &[add(&keys[1]), add(&keys[0])]);
        let error = expect_victim(&outcomes, 1);
        let detail = error.detail().unwrap();
        let lines: Vec<&str> = detail.lines().collect();
        assert_eq!(lines.len(), 2, "{detail}");
        assert!(lines[0].starts_with(&format!("Process {} waits for ShareLock on transaction ", pids[1])), "{detail}");
        assert!(lines[0].ends_with(&format!(" on node \"n1\"; blocked by process {}.", pids[0])), "{detail}");
        assert!(lines[1].ends_with(&format!(" on node \"n2\"; blocked by process {}.", pids[1])), "{detail}");
        assert!(took < 2 * TIMEOUT, "{took:?}");
        println!("round {round}: {took:?}");
    }
    // The first one's two changes, twice.
    assert_eq!(text(&mut clients[0], "SELECT sum(v) FROM t"), "4");
}

#[test]
fn circles_over_two_nodes() {
    let cluster = start(2, "");
    cluster
        .client()
        .batch_execute(
            "CREATE TABLE u (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, v int);
             SELECT sharding.distribute_table('u', 'id', 12, colocate_with => 't')",
        )
        .unwrap();
    for scenario in [
        two_transactions_on_two_nodes,
        a_lock_of_the_coordinator_in_the_circle,
        a_statement_that_commits_on_its_node_in_the_circle,
        a_commit_in_the_circle,
        a_prepared_transaction_in_the_circle,
        the_error_can_be_caught,
    ] {
        cluster.client().batch_execute("UPDATE t SET v = 0; DELETE FROM u").unwrap();
        scenario(&cluster);
    }
}

#[test]
fn three_transactions_on_three_nodes() {
    let cluster = start(3, "");
    let mut clients = [cluster.client(), cluster.client(), cluster.client()];
    let keys: Vec<String> = (1..=3).map(|i| key_on(&mut clients[0], i)).collect();
    for (client, key) in clients.iter_mut().zip(&keys) {
        client.batch_execute(&format!("BEGIN; {}", add(key))).unwrap();
    }
    let (outcomes, took) = all_at_once(&mut clients, &[add(&keys[1]), add(&keys[2]), add(&keys[0])]);
    let error = expect_victim(&outcomes, 2);
    assert_eq!(error.detail().unwrap().lines().count(), 3, "{error:?}");
    assert!(took < 2 * TIMEOUT, "{took:?}");
    println!("{took:?}");
}

/// Of the two, only the one that waits for a node can be told.
fn a_lock_of_the_coordinator_in_the_circle(cluster: &Cluster) {
    let mut clients = [cluster.client(), cluster.client()];
    let key = key_on(&mut clients[0], 1);
    let local = "UPDATE local SET v = v + 1".to_string();
    clients[0].batch_execute(&format!("BEGIN; {local}")).unwrap();
    clients[1].batch_execute(&format!("BEGIN; {}", add(&key))).unwrap();
    let (outcomes, took) = all_at_once(&mut clients, &[add(&key), local]);
    let error = expect_victim(&outcomes, 0);
    assert!(error.detail().unwrap().contains(" on node \"n1\"; blocked"), "{error:?}");
    assert!(took < 2 * TIMEOUT, "{took:?}");
    println!("{took:?}");
}

#[test]
fn a_connection_of_the_pool_in_the_circle() {
    let cluster = start(2, "sharding.pool_size = 1");
    let mut clients = [cluster.client(), cluster.client()];
    let key = key_on(&mut clients[0], 1);
    let local = "UPDATE local SET v = v + 1".to_string();
    clients[0].batch_execute(&format!("BEGIN; {}", add(&key))).unwrap();
    clients[1].batch_execute(&format!("BEGIN; {local}")).unwrap();
    let other = format!("SELECT v FROM t WHERE id = {key}");
    let (outcomes, took) = all_at_once(&mut clients, &[local, other]);
    let error = expect_victim(&outcomes, 1);
    assert!(error.detail().unwrap().contains("waits for a connection to node \"n1\""), "{error:?}");
    println!("{took:?}");
}

/// One that is a statement of its own holds a lock of the table here, and commits on the node by itself.
fn a_statement_that_commits_on_its_node_in_the_circle(cluster: &Cluster) {
    let mut clients = [cluster.client(), cluster.client()];
    let key = key_on(&mut clients[0], 1);
    clients[1].batch_execute(&format!("BEGIN; {}", add(&key))).unwrap();
    let (outcomes, took) = all_at_once(&mut clients, &[add(&key), "LOCK TABLE t".to_string()]);
    let error = expect_victim(&outcomes, 0);
    assert!(error.detail().unwrap().contains(" on relation t; blocked by"), "{error:?}");
    assert!(took < 2 * TIMEOUT, "{took:?}");
    println!("{took:?}");
    assert_eq!(text(&mut clients[0], "SELECT sum(v) FROM t"), "1");
}

/// The commit on one node waits there for a constraint that is checked at the end.
fn a_commit_in_the_circle(cluster: &Cluster) {
    let mut clients = [cluster.client(), cluster.client()];
    let key = key_on(&mut clients[0], 1);
    clients[1].batch_execute(&format!("BEGIN; INSERT INTO u VALUES ({key}, 1)")).unwrap();
    clients[0].batch_execute(&format!("BEGIN; LOCK TABLE local; INSERT INTO u VALUES ({key}, 0)")).unwrap();
    let (outcomes, took) = all_at_once(&mut clients, &["COMMIT".to_string(), "LOCK TABLE local".to_string()]);
    expect_victim(&outcomes, 0);
    assert!(took < 2 * TIMEOUT, "{took:?}");
    println!("{took:?}");
    assert_eq!(text(&mut clients[0], "SELECT v FROM u"), "1");
}

/// A transaction is prepared on one node and, for a constraint that is checked at its end, waits on the other.
fn a_prepared_transaction_in_the_circle(cluster: &Cluster) {
    let mut clients = [cluster.client(), cluster.client()];
    let keys = [key_on(&mut clients[0], 1), key_on(&mut clients[0], 2)];
    clients[1].batch_execute(&format!("BEGIN; INSERT INTO u VALUES ({}, 1)", keys[1])).unwrap();
    clients[0].batch_execute(&format!("BEGIN; {}; INSERT INTO u VALUES ({}, 0)", add(&keys[0]), keys[1])).unwrap();
    let (outcomes, took) = all_at_once(&mut clients, &["COMMIT".to_string(), add(&keys[0])]);
    // It began later; its commit fails.
    expect_victim(&outcomes, 0);
    assert!(took < 2 * TIMEOUT, "{took:?}");
    println!("{took:?}");
}

fn the_error_can_be_caught(cluster: &Cluster) {
    let mut clients = [cluster.client(), cluster.client()];
    let keys = [key_on(&mut clients[0], 1), key_on(&mut clients[0], 2)];
    for (client, key) in clients.iter_mut().zip(&keys) {
        client.batch_execute(&format!("BEGIN; {}", add(key))).unwrap();
    }
    // The second gives up what it did in the block only, and with it nothing that the first waits for: its lock
    // of before remains, until it commits.
    let block =
        format!("DO $$ BEGIN {}; EXCEPTION WHEN deadlock_detected THEN RAISE NOTICE 'caught'; END $$", add(&keys[0]));
    let (outcomes, _) = all_at_once(&mut clients, &[add(&keys[1]), block]);
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(text(&mut clients[0], "SELECT sum(v) FROM t"), "3");
}

/// 200 transactions of 8 clients that take locks in random order, on nodes and here: all of them end.
#[test]
fn random_transactions_end() {
    let cluster = start(3, "deadlock_timeout = '100ms'");
    let victims = AtomicU64::new(0);
    let committed = AtomicU64::new(0);
    let begun = Instant::now();
    thread::scope(|scope| {
        for worker in 0..8_u64 {
            let (mut client, victims, committed) = (cluster.client(), &victims, &committed);
            scope.spawn(move || {
                let mut seed = worker * 7919 + 17;
                let mut random = move |below: u64| {
                    // Knuth's MMIX generator.
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (seed >> 33) % below
                };
                client.batch_execute("SET statement_timeout = '30s'").unwrap();
                for _ in 0..25 {
                    let mut run = || -> Result<(), postgres::Error> {
                        client.batch_execute("BEGIN")?;
                        for _ in 0..3 + random(3) {
                            match random(10) {
                                0 => client.batch_execute("UPDATE local SET v = v + 1")?,
                                1 => client.batch_execute("SELECT sum(v) FROM t")?,
                                _ => client.batch_execute(&add(&(1 + random(12)).to_string()))?,
                            }
                        }
                        client.batch_execute("COMMIT")
                    };
                    match run() {
                        Ok(()) => committed.fetch_add(1, Ordering::Relaxed),
                        Err(error) => {
                            let code = error.as_db_error().map(|error| error.code().code().to_string());
                            assert_eq!(code.as_deref(), Some(DEADLOCK), "{error:?}");
                            client.batch_execute("ROLLBACK").unwrap();
                            victims.fetch_add(1, Ordering::Relaxed)
                        }
                    };
                }
            });
        }
    });
    let (victims, committed) = (victims.into_inner(), committed.into_inner());
    println!("{committed} committed, {victims} gave way, in {:?}", begun.elapsed());
    assert_eq!(victims + committed, 200);
    assert!(victims > 0, "the test has no deadlocks");
    assert!(committed > 20);
    let found = cluster.coordinator().log().matches("has to give way").count();
    println!("{found} over several servers");
    assert!(found > 0);
}

/// Statements that are transactions of their own and write on all nodes at once, in no order: no session hangs.
#[test]
fn statements_on_all_nodes_end() {
    let cluster = start(3, "deadlock_timeout = '100ms'");
    let committed = AtomicU64::new(0);
    thread::scope(|scope| {
        for worker in 0..4 {
            let (mut client, committed) = (cluster.client(), &committed);
            scope.spawn(move || {
                client.batch_execute("SET statement_timeout = '30s'").unwrap();
                for round in 0..15 {
                    let sql = match (worker + round) % 3 {
                        0 => "UPDATE t SET v = v + 1",
                        1 => "UPDATE t SET v = v + 1 WHERE id IN (SELECT id FROM t ORDER BY id DESC)",
                        _ => "INSERT INTO t SELECT id, 1 FROM t ON CONFLICT (id) DO UPDATE SET v = t.v + 1",
                    };
                    match client.batch_execute(sql) {
                        Ok(()) => {
                            committed.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => {
                            let code = error.as_db_error().map(|error| error.code().code().to_string());
                            // The second one reads first: somebody may have changed what it read.
                            assert!(matches!(code.as_deref(), Some(DEADLOCK | "40001")), "{sql}: {error:?}");
                        }
                    }
                }
            });
        }
    });
    let committed = committed.into_inner();
    println!("{committed} of 60 committed");
    assert_eq!(text(&mut cluster.client(), "SELECT sum(v) FROM t"), (200 * committed).to_string());
}

/// Long waits in long queues, many of them, but never in a circle: nobody gives way.
#[test]
fn waiting_alone_is_no_deadlock() {
    let cluster = start(2, "deadlock_timeout = '50ms'");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for worker in 0..8_u64 {
            let (mut client, stop) = (cluster.client(), &stop);
            scope.spawn(move || {
                let mut round = worker;
                while !stop.load(Ordering::Relaxed) {
                    round += 1;
                    // In one order everywhere: locally, then by key.
                    let mut sql = "BEGIN;".to_string();
                    if round.is_multiple_of(3) {
                        sql += "UPDATE local SET v = v + 1;";
                    }
                    for key in 1..=4 {
                        if (round >> key) & 1 == 0 {
                            sql += &format!("{};", add(&key.to_string()));
                        }
                    }
                    sql += "SELECT pg_sleep(0.15); COMMIT";
                    client.batch_execute(&sql).unwrap_or_else(|error| panic!("{error:?}"));
                }
            });
        }
        thread::sleep(Duration::from_secs(5));
        stop.store(true, Ordering::Relaxed);
    });
    assert!(!cluster.coordinator().log().contains("has to give way"));
}
