//! The connection pool on real servers: limits, waits, deaths, and that nothing leaks.

use pg_test::harness::{Cluster, Settings};
use postgres::error::DbError;
use postgres::{Client, SimpleQueryMessage};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// A cluster with a table of 120 rows over its nodes.
fn start(nodes: usize, coordinator: &str) -> Cluster {
    // The maintenance worker's connections are not what is counted here.
    let coordinator = format!("sharding.recovery_interval = 0\n{coordinator}");
    let cluster = Cluster::start_with(nodes, Settings { coordinator: &coordinator, node: "" });
    cluster
        .client()
        .batch_execute(
            "CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL);
             SELECT sharding.distribute_table('t', 'id', 6);
             INSERT INTO t SELECT i, i FROM generate_series(1, 120) i",
        )
        .unwrap();
    cluster
}

fn fails(client: &mut Client, sql: &str) -> DbError {
    let error = client.batch_execute(sql).expect_err(sql);
    error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error}")).clone()
}

/// The first column of the first row, as text.
fn text(client: &mut Client, sql: &str) -> String {
    let messages = client.simple_query(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    messages
        .iter()
        .find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or("NULL").to_string()),
            _ => None,
        })
        .unwrap_or_default()
}

/// A key whose row is on a node.
fn key_on(client: &mut Client, node: &str) -> String {
    let sql = format!(
        "SELECT min(g) FROM generate_series(1, 120) g
         JOIN sharding.shards s ON s.relation = 't'::regclass AND s.shard = sharding.shard_of('t', g)
         WHERE s.node = '{node}'"
    );
    text(client, &sql)
}

/// Waits until a query returns what is expected.
fn eventually(client: &mut Client, sql: &str, expected: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let got = text(client, sql);
        if got == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{sql}: {got} instead of {expected}");
        thread::sleep(Duration::from_millis(20));
    }
}

const SESSIONS: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'sharding%'
                        AND application_name <> 'sharding: maintenance'";

/// The pool worker's process; it is in no view of Postgres. Waits for one that is being started.
fn worker(cluster: &Cluster) -> String {
    let deadline = Instant::now() + Duration::from_secs(20);
    let postmaster = format!("PPid:\t{}\n", cluster.coordinator().pid());
    loop {
        let found = std::fs::read_dir("/proc").unwrap().find_map(|entry| {
            let path = entry.ok()?.path();
            let title = std::fs::read_to_string(path.join("cmdline")).ok()?;
            let child = std::fs::read_to_string(path.join("status")).ok()?.contains(&postmaster);
            (child && title.contains("sharding pool worker")).then(|| path.file_name()?.to_str().map(str::to_string))?
        });
        if let Some(pid) = found {
            return pid;
        }
        assert!(Instant::now() < deadline, "no pool worker\n{}", cluster.coordinator().log());
        thread::sleep(Duration::from_millis(20));
    }
}

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
    let mut here = comes_back(&mut cluster);
    assert_eq!(text(&mut here, "UPDATE t SET v = v + 1 WHERE id = 2 RETURNING v"), "3");
    eventually(&mut node, SESSIONS, "1");
}

fn signal(name: &str, pid: &str) {
    assert!(std::process::Command::new("kill").args([name, pid]).status().unwrap().success());
}

/// A client, after the server has started anew.
fn comes_back(cluster: &mut Cluster) -> Client {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let connected = cluster.coordinator().config("postgres").connect(postgres::NoTls);
        if let Ok(mut client) = connected
            && client.batch_execute("SELECT 1").is_ok()
        {
            return client;
        }
        assert!(Instant::now() < deadline, "the coordinator does not come back\n{}", cluster.coordinator().log());
        thread::sleep(Duration::from_millis(50));
    }
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
    let mut here = comes_back(&mut cluster);
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

/// What each kind of state of a session looks like to somebody else; all give the same in a session
/// that nobody has touched.
const TRACES: [(&str, &str, &str); 9] = [
    ("SET work_mem = ''77kB''", "SELECT current_setting(''work_mem'')", "4MB"),
    (
        "SELECT set_config(''app.tenant'', ''secret'', false)",
        "SELECT coalesce(nullif(current_setting(''app.tenant'', true), ''''), ''none'')",
        "none",
    ),
    ("SET ROLE reader", "SELECT current_user", "postgres"),
    (
        "CREATE TEMP TABLE mine AS SELECT 1 AS a",
        "SELECT coalesce(to_regclass(''pg_temp.mine'')::text, ''none'')",
        "none",
    ),
    ("PREPARE mine AS SELECT 1", "SELECT count(*) FROM pg_prepared_statements WHERE name = ''mine''", "0"),
    ("SELECT pg_advisory_lock(4711)", "SELECT count(*) FROM pg_locks WHERE locktype = ''advisory''", "0"),
    ("LISTEN mine", "SELECT count(*) FROM pg_listening_channels()", "0"),
    ("DECLARE mine CURSOR WITH HOLD FOR SELECT 1", "SELECT count(*) FROM pg_cursors WHERE name = ''mine''", "0"),
    (
        "CREATE TEMP SEQUENCE counter; SELECT nextval(''counter'')",
        "SELECT coalesce(to_regclass(''pg_temp.counter'')::text, ''none'')",
        "none",
    ),
];

fn on_node(client: &mut Client, sql: &str) -> String {
    text(client, &format!("SELECT result FROM sharding.run_on_nodes('{sql}')"))
}

/// Two roles that use a pool of one connection in turns, and the node's process that they share.
fn two_roles(cluster: &Cluster) -> (Client, Client) {
    let mut here = cluster.client();
    cluster.node_client(1).batch_execute("CREATE ROLE reader").unwrap();
    here.batch_execute(
        "CREATE ROLE ann LOGIN; CREATE ROLE bob LOGIN; GRANT ALL ON t TO ann, bob;
         GRANT EXECUTE ON FUNCTION sharding.run_on_nodes TO ann, bob",
    )
    .unwrap();
    (cluster.client_as("ann"), cluster.client_as("bob"))
}

#[test]
fn nothing_of_a_session_leaks_into_another() {
    let cluster = start(1, "sharding.pool_size = 1");
    let (mut ann, mut bob) = two_roles(&cluster);
    let process = on_node(&mut ann, "SELECT pg_backend_pid()");
    for (leave, look, clean) in TRACES {
        assert_eq!(on_node(&mut bob, look), clean, "before {leave}");
        ann.batch_execute(&format!("SELECT sharding.run_on_nodes('{leave}')")).unwrap();
        assert_eq!(on_node(&mut bob, look), clean, "{leave}");
        // Within one transaction it is one session.
        ann.batch_execute(&format!("BEGIN; SELECT sharding.run_on_nodes('{leave}')")).unwrap();
        if !leave.starts_with("LISTEN") {
            assert_ne!(on_node(&mut ann, look), clean, "{leave}");
        }
        ann.batch_execute("COMMIT").unwrap();
        assert_eq!(on_node(&mut bob, look), clean, "{leave}, in a transaction");
        ann.batch_execute(&format!("BEGIN; SELECT sharding.run_on_nodes('{leave}'); ROLLBACK")).unwrap();
        assert_eq!(on_node(&mut bob, look), clean, "{leave}, rolled back");
    }
    assert_eq!(on_node(&mut bob, "SELECT pg_backend_pid()"), process, "it was one connection all the time");
}

#[test]
fn code_on_tables_leaves_no_traces() {
    let cluster = start(1, "sharding.pool_size = 1");
    let (mut ann, mut bob) = two_roles(&cluster);
    let mut here = cluster.client();
    here.batch_execute(
        "CREATE FUNCTION leave_traces() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
             PERFORM pg_catalog.set_config('app.tenant', 'secret', false);
             PERFORM pg_catalog.pg_advisory_lock(4711);
             CREATE TEMP TABLE IF NOT EXISTS mine (a int);
         END $$;
         CREATE FUNCTION in_trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             PERFORM public.leave_traces(); RETURN NEW; END $$;
         CREATE FUNCTION in_check(v int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
             PERFORM pg_catalog.set_config('app.tenant', 'secret', false); RETURN true; END $$;
         CREATE FUNCTION in_policy(v int) RETURNS boolean LANGUAGE plpgsql STABLE AS $$ BEGIN
             PERFORM pg_catalog.set_config('app.tenant', 'secret', false); RETURN true; END $$;
         SELECT sharding.run_on_nodes($q$CREATE FUNCTION leave_traces() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
             PERFORM pg_catalog.set_config('app.tenant', 'secret', false);
             PERFORM pg_catalog.pg_advisory_lock(4711);
             CREATE TEMP TABLE IF NOT EXISTS mine (a int);
         END $$$q$);
         CREATE TABLE with_trigger (id int PRIMARY KEY, v int);
         CREATE TRIGGER code AFTER INSERT OR UPDATE ON with_trigger FOR EACH ROW EXECUTE FUNCTION in_trigger();
         CREATE TABLE \"With\"\"Check\" (id int PRIMARY KEY, v int CHECK (in_check(v)));
         CREATE TABLE with_index (id int PRIMARY KEY, v int);
         CREATE INDEX ON with_index ((in_check(v)));
         CREATE TABLE cascading (id int PRIMARY KEY, v int);
         CREATE TABLE cascaded (id int PRIMARY KEY REFERENCES cascading ON DELETE CASCADE, v int);
         CREATE TRIGGER code AFTER DELETE ON cascaded FOR EACH ROW EXECUTE FUNCTION in_trigger();
         CREATE TABLE later (id int PRIMARY KEY, v int);
         SELECT sharding.distribute_table('with_trigger', 'id', 6);
         SELECT sharding.distribute_table('\"With\"\"Check\"', 'id', 6);
         SELECT sharding.distribute_table('with_index', 'id', 6);
         SELECT sharding.distribute_table('cascading', 'id', 6);
         SELECT sharding.distribute_table('cascaded', 'id', 6);
         SELECT sharding.distribute_table('later', 'id', 6);
         INSERT INTO cascading SELECT i, i FROM generate_series(1, 5) i;
         INSERT INTO cascaded SELECT i, i FROM generate_series(1, 5) i;
         GRANT ALL ON with_trigger, \"With\"\"Check\", with_index, cascading, cascaded, later TO ann, bob",
    )
    .unwrap();
    let clean = |bob: &mut Client, what: &str| {
        for (look, expected) in [(TRACES[1].1, TRACES[1].2), (TRACES[3].1, TRACES[3].2), (TRACES[5].1, TRACES[5].2)] {
            assert_eq!(on_node(bob, look), expected, "{what}");
        }
    };
    clean(&mut bob, "at first");
    for sql in [
        "INSERT INTO with_trigger VALUES (1, 1)",
        "BEGIN; INSERT INTO with_trigger VALUES (2, 1); COMMIT",
        "UPDATE with_trigger SET v = 2",
        "UPDATE with_trigger SET v = 3 WHERE id = 1",
        "INSERT INTO with_trigger VALUES (3, 1) ON CONFLICT (id) DO UPDATE SET v = 5 RETURNING v",
        "INSERT INTO \"With\"\"Check\" VALUES (1, 1)",
        "UPDATE \"With\"\"Check\" SET v = 3 WHERE id = 1",
        "INSERT INTO with_index VALUES (1, 1)",
        "DELETE FROM cascading WHERE id = 1",
        "DELETE FROM cascading",
    ] {
        ann.batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        clean(&mut bob, sql);
    }
    // Code that comes later is noticed, also by sessions that have looked before.
    ann.batch_execute("INSERT INTO later VALUES (1, 1)").unwrap();
    here.batch_execute("CREATE TRIGGER code AFTER INSERT ON later FOR EACH ROW EXECUTE FUNCTION in_trigger()").unwrap();
    ann.batch_execute("INSERT INTO later VALUES (2, 1)").unwrap();
    clean(&mut bob, "a trigger that came later");
    ann.batch_execute("BEGIN; SELECT 1").unwrap();
    here.batch_execute(
        "DROP TRIGGER code ON later; CREATE POLICY code ON later USING (in_policy(v));
         ALTER TABLE later ENABLE ROW LEVEL SECURITY",
    )
    .unwrap();
    ann.batch_execute("SELECT * FROM later; COMMIT").unwrap();
    clean(&mut bob, "a policy");
    ann.batch_execute("SELECT count(*) FROM t; UPDATE t SET v = v").unwrap();
    clean(&mut bob, "a table without code");
}

#[test]
fn settings_are_those_of_who_asks() {
    let cluster = start(1, "sharding.pool_size = 1");
    let (mut ann, mut bob) = two_roles(&cluster);
    cluster
        .client()
        .batch_execute(
            "CREATE TABLE times (id int PRIMARY KEY, at timestamptz);
             SELECT sharding.distribute_table('times', 'id', 4);
             INSERT INTO times VALUES (1, '2024-01-01 00:00:00+00');
             GRANT ALL ON times TO ann, bob",
        )
        .unwrap();
    let hour = "SELECT extract(hour FROM at) || '' FROM times WHERE id = 1";
    ann.batch_execute("SET TimeZone = 'Asia/Tokyo'; SET application_name = 'ann at work'").unwrap();
    bob.batch_execute("SET TimeZone = 'America/New_York'").unwrap();
    for _ in 0..3 {
        assert_eq!(text(&mut ann, hour), "9");
        assert_eq!(on_node(&mut ann, "SELECT current_setting(''application_name'')"), "sharding: ann at work");
        assert_eq!(text(&mut bob, hour), "19");
        assert_eq!(on_node(&mut bob, "SELECT current_setting(''application_name'')"), "sharding");
    }
    // What a rollback takes back is taken back for the next one, too.
    ann.batch_execute(&format!("BEGIN; SET LOCAL TimeZone = 'UTC'; {hour}; ROLLBACK")).unwrap();
    assert_eq!(text(&mut ann, hour), "9");
    bob.batch_execute(&format!("BEGIN; SET TimeZone = 'UTC'; {hour}; SELECT 1/0")).unwrap_err();
    bob.batch_execute("ROLLBACK").unwrap();
    assert_eq!(text(&mut ann, hour), "9");
    assert_eq!(text(&mut bob, hour), "19");
}

#[test]
fn nobody_gets_a_connection_of_another_user() {
    let cluster = start(1, "sharding.pool_size = 1");
    let (mut ann, mut bob) = two_roles(&cluster);
    let mut here = cluster.client();
    let mut node = cluster.node_client(1);
    // GRANT has made the roles there.
    node.batch_execute(
        "ALTER ROLE ann LOGIN SUPERUSER; ALTER ROLE bob LOGIN SUPERUSER; CREATE ROLE other LOGIN SUPERUSER",
    )
    .unwrap();
    let who = "SELECT session_user";
    assert_eq!(on_node(&mut ann, who), "postgres");
    here.batch_execute("CREATE USER MAPPING FOR ann SERVER n1 OPTIONS (user 'other')").unwrap();
    assert_eq!(on_node(&mut ann, who), "other");
    assert_eq!(on_node(&mut bob, who), "postgres");
    here.batch_execute("ALTER USER MAPPING FOR ann SERVER n1 OPTIONS (SET user 'ann')").unwrap();
    assert_eq!(on_node(&mut ann, who), "ann");
    here.batch_execute("DROP USER MAPPING FOR ann SERVER n1").unwrap();
    assert_eq!(on_node(&mut ann, who), "postgres");
    // A mapping for all that names no user: each goes as himself, also by SET ROLE.
    here.batch_execute("ALTER USER MAPPING FOR PUBLIC SERVER n1 OPTIONS (DROP user)").unwrap();
    for _ in 0..2 {
        assert_eq!(on_node(&mut ann, who), "ann");
        assert_eq!(on_node(&mut bob, who), "bob");
        assert_eq!(on_node(&mut here, who), "postgres");
        here.batch_execute("SET ROLE ann").unwrap();
        assert_eq!(on_node(&mut here, who), "ann");
        here.batch_execute("RESET ROLE").unwrap();
    }
}

#[test]
fn connections_are_retired() {
    let cluster = start(1, "sharding.pool_size = 2\nsharding.pool_idle_timeout = 2");
    let mut here = cluster.client();
    let mut node = cluster.node_client(1);
    assert_eq!(text(&mut here, "SELECT count(*) FROM t"), "120");
    assert_eq!(text(&mut node, SESSIONS), "1");
    eventually(&mut node, SESSIONS, "0");
    assert_eq!(text(&mut here, "SELECT count(*) FROM t"), "120");
    // By age, but not in the midst of a transaction.
    here.batch_execute(
        "ALTER SYSTEM SET sharding.pool_lifetime = 1; ALTER SYSTEM SET sharding.pool_idle_timeout = 0;
         SELECT pg_reload_conf()",
    )
    .unwrap_err();
    for setting in ["sharding.pool_lifetime = 1", "sharding.pool_idle_timeout = 0"] {
        here.batch_execute(&format!("ALTER SYSTEM SET {setting}")).unwrap();
    }
    here.batch_execute("SELECT pg_reload_conf()").unwrap();
    here.batch_execute(
        "BEGIN; UPDATE t SET v = 0 WHERE id = 1; SELECT pg_sleep(3); UPDATE t SET v = 1 WHERE id = 1; COMMIT",
    )
    .unwrap();
    eventually(&mut node, SESSIONS, "0");
    assert_eq!(text(&mut here, "SELECT v FROM t WHERE id = 1"), "1");
    // A node that is removed has no connections any more.
    here.batch_execute("SELECT sharding.undistribute_table('t')").unwrap();
    here.batch_execute("SELECT sharding.remove_node('n1')").unwrap();
    eventually(&mut node, SESSIONS, "0");
}

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
