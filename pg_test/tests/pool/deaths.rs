//! What clients, workers and nodes that die leave behind.

use crate::processes::{comes_back, signal, worker};
use crate::{SESSIONS, eventually, start, text};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

#[test]
fn a_client_that_dies_leaves_nothing_behind() {
    let mut cluster = start(1, "sharding.pool_size = 1");
    let mut here = cluster.client();
    // In a transaction: its work is undone, its locks are free.
    let mut victim = cluster.client();
    let pid = text(&mut victim, "SELECT pg_backend_pid()");
    victim.batch_execute("BEGIN; UPDATE t SET v = -1 WHERE id = 1").unwrap();
    here.batch_execute(&format!("SELECT pg_terminate_backend({pid})")).unwrap();
    assert_eq!(text(&mut here, "UPDATE t SET v = v + 1 WHERE id = 1 RETURNING v"), "2");
    // In a statement that the node is still at.
    let mut victim = cluster.client();
    let pid = text(&mut victim, "SELECT pg_backend_pid()");
    let waiting = thread::spawn(move || victim.batch_execute("SELECT sharding.run_on_nodes('SELECT pg_sleep(100)')"));
    let mut node = cluster.node_client(1);
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep%'";
    eventually(&mut node, sleeping, "1");
    here.batch_execute(&format!("SELECT pg_terminate_backend({pid})")).unwrap();
    assert!(waiting.join().unwrap().is_err());
    eventually(&mut node, sleeping, "0");
    assert_eq!(text(&mut here, "SELECT count(*) FROM t"), "120");
    assert_eq!(text(&mut node, SESSIONS), "1");
    // While it waits.
    here.batch_execute("BEGIN; SELECT count(*) FROM t").unwrap();
    let mut victim = cluster.client();
    let pid = text(&mut victim, "SELECT pg_backend_pid()");
    let waiting = thread::spawn(move || victim.batch_execute("SELECT count(*) FROM t"));
    eventually(&mut here, "SELECT sum(waiting) FROM sharding.pool_stats", "1");
    here.batch_execute(&format!("SELECT pg_terminate_backend({pid})")).unwrap();
    assert!(waiting.join().unwrap().is_err());
    eventually(&mut here, "SELECT sum(waiting) FROM sharding.pool_stats", "0");
    here.batch_execute("COMMIT").unwrap();
    // By the kernel: all of the server starts anew.
    let mut victim = cluster.client();
    let pid = text(&mut victim, "SELECT pg_backend_pid()");
    victim.batch_execute("BEGIN; UPDATE t SET v = -1 WHERE id = 2").unwrap();
    signal("-KILL", &pid);
    assert!(victim.batch_execute("SELECT 1").is_err());
    let mut here = comes_back(&mut cluster, &mut here);
    assert_eq!(text(&mut here, "UPDATE t SET v = v + 1 WHERE id = 2 RETURNING v"), "3");
    eventually(&mut node, SESSIONS, "1");
}

#[test]
fn a_worker_that_ends_is_replaced() {
    let mut cluster = start(2, "sharding.pool_size = 3");
    let mut here = cluster.client();
    let stop = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..6)
        .map(|n| {
            let (mut client, stop) = (cluster.client(), stop.clone());
            thread::spawn(move || {
                let mut rounds = 0;
                while !stop.load(Ordering::Relaxed) {
                    client.batch_execute(&format!("UPDATE t SET v = v + 1 WHERE id = {}", n * 7 + 1)).unwrap();
                    assert_eq!(text(&mut client, "SELECT count(*) FROM t"), "120");
                    rounds += 1;
                }
                rounds
            })
        })
        .collect();
    let mut last = String::new();
    for _ in 0..3 {
        thread::sleep(Duration::from_millis(300));
        let pid = worker(&cluster);
        assert_ne!(pid, last);
        signal("-TERM", &pid);
        last = pid;
        thread::sleep(Duration::from_millis(1500));
    }
    stop.store(true, Ordering::Relaxed);
    let rounds: usize = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
    assert_eq!(text(&mut here, "SELECT sum(v) - 7260 FROM t"), rounds.to_string());
    for node in 1..=2 {
        // One that was just closed may still be on its way out.
        eventually(&mut cluster.node_client(node), &SESSIONS.replace("count(*)", "count(*) <= 3"), "t");
    }
    // By the kernel: all of the server starts anew, in the midst of a transaction.
    here.batch_execute("BEGIN; UPDATE t SET v = -1 WHERE id = 1").unwrap();
    let before = text(&mut cluster.client(), "SELECT count(*) FROM t WHERE v = -1");
    assert_eq!(before, "0");
    signal("-KILL", &worker(&cluster));
    let mut here = comes_back(&mut cluster, &mut here);
    // Without the maintenance worker, nobody else knows that what is in the log is done.
    here.batch_execute("SELECT * FROM sharding.recover_transactions()").unwrap();
    assert_eq!(text(&mut here, "SELECT count(*) FROM t WHERE v <> -1"), "120");
}

#[test]
fn a_restarted_node_is_found_again() {
    let mut cluster = start(2, "sharding.pool_size = 3");
    let stop = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..6)
        .map(|n| {
            let (mut client, stop) = (cluster.client(), stop.clone());
            thread::spawn(move || {
                let mut changes = 0;
                while !stop.load(Ordering::Relaxed) {
                    match client.batch_execute(&format!("UPDATE t SET v = v + 1 WHERE id = {}", n * 7 + 1)) {
                        Ok(()) => changes += 1,
                        Err(error) => {
                            let error = error.as_db_error().unwrap().clone();
                            let class = &error.code().code()[..2];
                            assert!(["08", "57"].contains(&class), "{error:?}");
                            // Lost in COMMIT: it may have happened.
                            assert_ne!(error.code().code(), "XX000", "{error:?}");
                        }
                    }
                }
                changes
            })
        })
        .collect();
    for round in 0..4 {
        thread::sleep(Duration::from_millis(200));
        cluster.restart_node(round % 2 + 1);
    }
    thread::sleep(Duration::from_millis(300));
    stop.store(true, Ordering::Relaxed);
    let changes: i64 = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
    assert!(changes > 20);
    for _ in 0..20 {
        assert_eq!(text(&mut cluster.client(), "SELECT count(*) FROM t"), "120");
    }
    let mut here = cluster.client();
    eventually(&mut here, "SELECT count(*) FROM sharding.connections WHERE state NOT IN ('idle')", "0");
}
