//! Many share few: the limit, the queue, and circles of waits.

use crate::{SESSIONS, eventually, fails, key_on, start, text};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn many_clients_share_few_connections() {
    const CLIENTS: usize = 40;
    let cluster = start(2, "sharding.pool_size = 3");
    let stop = Arc::new(AtomicBool::new(false));
    let most = Arc::new(AtomicUsize::new(0));
    let watchers: Vec<_> = (1..=2)
        .map(|node| {
            let (mut client, stop, most) = (cluster.node_client(node), stop.clone(), most.clone());
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    most.fetch_max(text(&mut client, SESSIONS).parse().unwrap(), Ordering::Relaxed);
                    thread::sleep(Duration::from_millis(5));
                }
            })
        })
        .collect();
    let workers: Vec<_> = (0..CLIENTS)
        .map(|n| {
            let mut client = cluster.client();
            thread::spawn(move || {
                for i in 0..15 {
                    let id = (n * 31 + i * 7) % 120 + 1;
                    assert_eq!(text(&mut client, "SELECT count(*) FROM t"), "120");
                    assert_ne!(text(&mut client, &format!("SELECT v FROM t WHERE id = {id}")), "");
                    client.batch_execute(&format!("UPDATE t SET v = v + 1 WHERE id = {id}")).unwrap();
                    client
                        .batch_execute(&format!(
                            "BEGIN; SELECT v FROM t WHERE id = {id}; SAVEPOINT s; SELECT sum(v) FROM t;
                             ROLLBACK TO s; COMMIT"
                        ))
                        .unwrap();
                }
            })
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
    stop.store(true, Ordering::Relaxed);
    watchers.into_iter().for_each(|watcher| watcher.join().unwrap());
    assert!(most.load(Ordering::Relaxed) <= 3, "{most:?} connections to a node");
    let mut here = cluster.client();
    assert_eq!(text(&mut here, "SELECT sum(v) - 7260 FROM t"), (CLIENTS * 15).to_string());
    assert_eq!(text(&mut here, "SELECT count(*) FROM sharding.connections WHERE state = 'leased'"), "0");
    assert_eq!(text(&mut here, "SELECT max(connections) <= 3 FROM sharding.pool_stats"), "t");
    assert_eq!(
        text(
            &mut here,
            "SELECT bool_and(waits > 0 AND wait_time > '0' AND opened >= 3 AND leases > 600)
        FROM sharding.pool_stats WHERE NOT outside"
        ),
        "t"
    );
}

#[test]
fn a_wait_ends_with_an_error_that_says_what_to_do() {
    let cluster = start(2, "sharding.pool_size = 1");
    let (mut a, mut b) = (cluster.client(), cluster.client());
    let (on_n1, on_n2) = (key_on(&mut a, "n1"), key_on(&mut a, "n2"));
    a.batch_execute(&format!("BEGIN; UPDATE t SET v = 0 WHERE id = {on_n1}")).unwrap();
    b.batch_execute("SET sharding.pool_wait_timeout = '300ms'").unwrap();
    let start = Instant::now();
    let error = fails(&mut b, &format!("SELECT v FROM t WHERE id = {on_n1}"));
    assert!(start.elapsed() >= Duration::from_millis(300) && start.elapsed() < Duration::from_secs(5));
    assert_eq!(error.code().code(), "53300", "{error:?}");
    assert!(error.message().contains("\"n1\""), "{error:?}");
    assert!(error.detail().is_some_and(|d| d.contains("All 1 ") && d.contains("\"postgres\"")), "{error:?}");
    assert!(error.hint().is_some_and(|h| h.contains("sharding.pool_size")), "{error:?}");
    // The other node is not concerned; a view shows who has the connection.
    assert_eq!(text(&mut b, &format!("SELECT v FROM t WHERE id = {on_n2}")), on_n2);
    let pid = text(&mut a, "SELECT pg_backend_pid()");
    let holder = "SELECT backend_pid FROM sharding.connections WHERE state = 'leased' AND node = 'n1'";
    assert_eq!(text(&mut b, holder), pid);
    // A block is not given what would keep the other one from going on.
    let error = fails(&mut b, &format!("BEGIN; SELECT v FROM t WHERE id = {on_n2}"));
    assert!(error.detail().is_some_and(|d| d.contains("kept for transactions")), "{error:?}");
    b.batch_execute("ROLLBACK").unwrap();
    // A wait ends by a cancel, too, and leaves nothing in the queue.
    b.batch_execute("SET sharding.pool_wait_timeout = 0; SET statement_timeout = '200ms'").unwrap();
    assert_eq!(fails(&mut b, &format!("SELECT v FROM t WHERE id = {on_n1}")).code().code(), "57014");
    assert_eq!(text(&mut b, "SELECT sum(waiting) FROM sharding.pool_stats"), "0");
    a.batch_execute("ROLLBACK").unwrap();
    assert_eq!(text(&mut b, &format!("SELECT v FROM t WHERE id = {on_n1}")), on_n1);
}

#[test]
fn who_waited_first_is_served_first() {
    let cluster = start(1, "sharding.pool_size = 1");
    let mut first = cluster.client();
    first.batch_execute("BEGIN; SELECT count(*) FROM t").unwrap();
    let (done, order) = mpsc::channel();
    let mut waiters = Vec::new();
    for n in 1..=5 {
        let (mut client, done) = (cluster.client(), done.clone());
        waiters.push(thread::spawn(move || {
            client.batch_execute("BEGIN; SELECT count(*) FROM t").unwrap();
            done.send(n).unwrap();
            client.batch_execute("COMMIT").unwrap();
        }));
        eventually(&mut first, "SELECT sum(waiting) FROM sharding.pool_stats", &n.to_string());
    }
    first.batch_execute("COMMIT").unwrap();
    waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    assert_eq!(order.try_iter().collect::<Vec<i32>>(), [1, 2, 3, 4, 5]);
}

/// Of one connection per node, each of two transactions needs both, in opposite order.
#[test]
fn transactions_over_several_nodes_do_not_deadlock_on_the_pool() {
    let cluster = start(2, "sharding.pool_size = 1");
    let mut here = cluster.client();
    let keys = [key_on(&mut here, "n1"), key_on(&mut here, "n2")];
    let workers: Vec<_> = (0..6)
        .map(|n| {
            let (mut client, keys) = (cluster.client(), keys.clone());
            thread::spawn(move || {
                let (first, second) = (&keys[n % 2], &keys[(n + 1) % 2]);
                for _ in 0..15 {
                    client
                        .batch_execute(&format!(
                            "BEGIN; SELECT v FROM t WHERE id = {first}; SELECT pg_sleep(0.002);
                             SELECT v FROM t WHERE id = {second}; SELECT count(*) FROM t; COMMIT;
                             SELECT v FROM t WHERE id = {first}; SELECT count(*) FROM t"
                        ))
                        .unwrap();
                }
            })
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().unwrap());
}

/// What cannot be foreseen, connections of several users in one transaction, is found out.
#[test]
fn a_circle_of_waits_is_a_deadlock() {
    let cluster = start(2, "sharding.pool_size = 1");
    let (mut a, mut b) = (cluster.client(), cluster.client());
    for node in 1..=2 {
        cluster.node_client(node).batch_execute("CREATE ROLE other LOGIN SUPERUSER").unwrap();
    }
    a.batch_execute(
        "CREATE ROLE ann; GRANT ALL ON t TO ann;
         CREATE USER MAPPING FOR ann SERVER n1 OPTIONS (user 'other');
         CREATE USER MAPPING FOR ann SERVER n2 OPTIONS (user 'other')",
    )
    .unwrap();
    let (on_n1, on_n2) = (key_on(&mut a, "n1"), key_on(&mut a, "n2"));
    a.batch_execute(&format!("BEGIN; UPDATE t SET v = 1000 WHERE id = {on_n1}")).unwrap();
    b.batch_execute(&format!("SET ROLE ann; BEGIN; UPDATE t SET v = 2000 WHERE id = {on_n2}")).unwrap();
    let start = Instant::now();
    let other = thread::spawn({
        let sql = format!("SET LOCAL ROLE ann; SELECT v FROM t WHERE id = {on_n2}");
        move || {
            let result = a.batch_execute(&sql).map_err(|e| Box::new(e.as_db_error().unwrap().clone()));
            a.batch_execute("COMMIT").unwrap();
            result
        }
    });
    let mine = b.batch_execute(&format!("SET LOCAL ROLE postgres; SELECT v FROM t WHERE id = {on_n1}"));
    let mine = mine.map_err(|e| Box::new(e.as_db_error().unwrap().clone()));
    b.batch_execute("COMMIT; RESET ROLE").unwrap();
    let theirs = other.join().unwrap();
    assert!(start.elapsed() < Duration::from_secs(10));
    let (errors, right): (Vec<_>, Vec<_>) = [mine, theirs].into_iter().partition(Result::is_err);
    assert_eq!((errors.len(), right.len()), (1, 1), "{errors:?}");
    let error = errors[0].as_ref().unwrap_err();
    assert_eq!(error.code().code(), "40P01", "{error:?}");
    let left = text(&mut b, "SELECT string_agg(v::text, ',') FROM t WHERE v >= 1000");
    assert!(left == "1000" || left == "2000", "{left}");
}
