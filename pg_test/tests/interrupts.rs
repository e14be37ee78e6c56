//! Statements over several nodes that end before their time: cancelled, timed out, their session ended or killed. Soon
//! afterwards nothing of them runs on any node, no transaction is open there, and the next statement works.

use pg_test::harness::Cluster;
use postgres::NoTls;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const NODES: usize = 3;

fn start() -> Cluster {
    let cluster = Cluster::start(NODES);
    cluster
        .client()
        .batch_execute(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
                 'BEGIN IF new.v <> old.v THEN PERFORM pg_sleep(60); END IF; RETURN new; END';
             CREATE TABLE t (id int PRIMARY KEY, v int);
             CREATE TRIGGER slow BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION slow();
             SELECT sharding.distribute_table('t', 'id', 12);
             INSERT INTO t SELECT i, 0 FROM generate_series(1, 60) i;
             CREATE TABLE other (id int PRIMARY KEY, v int);
             SELECT sharding.distribute_table('other', 'id', 12);
             INSERT INTO other SELECT i, 0 FROM generate_series(1, 60) i",
        )
        .unwrap();
    cluster
}

/// Sessions of the coordinator on the nodes that are at work or in a transaction.
fn busy(cluster: &Cluster) -> Vec<String> {
    let sql = "SELECT coalesce(state, '') || ' ' || query FROM pg_stat_activity
               WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
                 AND (state <> 'idle' OR xact_start IS NOT NULL)";
    (1..=NODES)
        .flat_map(|node| cluster.node_client(node).query(sql, &[]).unwrap())
        .map(|row| row.get::<_, String>(0))
        .collect()
}

fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
    start.elapsed()
}

/// Something slow that every node is busy with.
fn slow(cluster: &Cluster, before: &str) -> (JoinHandle<Option<String>>, i32, postgres::CancelToken) {
    let mut client = cluster.client();
    let pid = client.query_one("SELECT pg_backend_pid()", &[]).unwrap().get(0);
    let token = client.cancel_token();
    client.batch_execute(before).unwrap();
    let thread = std::thread::spawn(move || {
        let error = client.batch_execute("UPDATE t SET v = v + 1").err()?;
        Some(error.code().map_or_else(|| "closed".to_string(), |code| code.code().to_string()))
    });
    wait_until("all nodes are busy", Duration::from_secs(20), || busy(cluster).len() >= NODES);
    (thread, pid, token)
}

fn works(cluster: &Cluster) {
    let sum: i64 = cluster.client().query_one("SELECT sum(v) FROM t", &[]).unwrap().get(0);
    assert_eq!(sum, 0, "what was broken off has left something");
}

fn idle(cluster: &Cluster, limit: Duration) -> Duration {
    let took = wait_until("nodes are idle", limit, || busy(cluster).is_empty());
    works(cluster);
    took
}

#[test]
fn a_cancel_ends_it_on_all_nodes_within_a_second() {
    let cluster = start();
    for before in ["", "BEGIN", "BEGIN; SAVEPOINT s; UPDATE other SET v = 1"] {
        let (thread, _, token) = slow(&cluster, before);
        let asked = Instant::now();
        token.cancel_query(NoTls).unwrap();
        assert_eq!(thread.join().unwrap().as_deref(), Some("57014"), "after {before:?}");
        assert!(asked.elapsed() < Duration::from_secs(1), "after {before:?}: {:?}", asked.elapsed());
        idle(&cluster, Duration::from_secs(1));
    }
    let sum: i64 = cluster.client().query_one("SELECT sum(v) FROM other", &[]).unwrap().get(0);
    assert_eq!(sum, 0);
}

#[test]
fn timeouts_end_it_on_all_nodes() {
    let cluster = start();
    let (thread, ..) = slow(&cluster, "SET statement_timeout = '1500ms'");
    assert_eq!(thread.join().unwrap().as_deref(), Some("57014"));
    idle(&cluster, Duration::from_secs(1));

    let mut client = cluster.client();
    client.batch_execute("SET idle_in_transaction_session_timeout = '300ms'; BEGIN; UPDATE other SET v = 5").unwrap();
    assert!(!busy(&cluster).is_empty());
    idle(&cluster, Duration::from_secs(3));
    assert!(client.batch_execute("COMMIT").is_err(), "the session has ended");

    let mut client = cluster.client();
    client.batch_execute("SET lock_timeout = '300ms'").unwrap();
    let mut holder = cluster.client();
    holder.batch_execute("BEGIN; SELECT * FROM other FOR UPDATE").unwrap();
    let error = client.batch_execute("UPDATE other SET v = 6").expect_err("the rows are locked");
    assert_eq!(error.code().map(|code| code.code()), Some("55P03"), "{error}");
    holder.batch_execute("ROLLBACK").unwrap();
    idle(&cluster, Duration::from_secs(1));
}

#[test]
fn a_session_that_is_ended_or_killed_leaves_nothing_running() {
    let cluster = start();
    let (thread, pid, _) = slow(&cluster, "BEGIN; UPDATE other SET v = 1");
    cluster.client().batch_execute(&format!("SELECT pg_terminate_backend({pid})")).unwrap();
    thread.join().unwrap();
    println!("terminated: idle after {:?}", idle(&cluster, Duration::from_secs(3)));

    // The postmaster ends all sessions then, and starts anew.
    let (thread, pid, _) = slow(&cluster, "BEGIN; UPDATE other SET v = 1");
    let killed = std::process::Command::new("kill").args(["-s", "KILL", &pid.to_string()]).status().unwrap();
    assert!(killed.success());
    thread.join().unwrap();
    wait_until("the coordinator is back", Duration::from_secs(30), || {
        cluster.coordinator().config("postgres").connect(NoTls).is_ok()
    });
    println!("killed: idle after {:?}", idle(&cluster, Duration::from_secs(5)));
}

/// A lock on a table of a node holds up whoever reads it, and nobody else: not the commits that may not become
/// visible while a reader takes its snapshots.
#[test]
fn a_reader_that_is_held_up_does_not_hold_up_commits() {
    let cluster = start();
    let mut lock = cluster.node_client(1);
    let shard: String = cluster
        .client()
        .query_one(
            "SELECT min(shard_relation) FROM sharding.shards WHERE relation = 't'::regclass AND node = 'n1'",
            &[],
        )
        .unwrap()
        .get(0);
    for isolation in ["READ COMMITTED", "REPEATABLE READ"] {
        for block in [false, true] {
            lock.batch_execute(&format!("BEGIN; LOCK TABLE {shard} IN ACCESS EXCLUSIVE MODE")).unwrap();
            let mut reader = cluster.client();
            reader.batch_execute(&format!("SET default_transaction_isolation = '{isolation}'")).unwrap();
            if block {
                reader.batch_execute("BEGIN").unwrap();
            }
            let reading = std::thread::spawn(move || {
                let row = reader.query_one("SELECT count(*), sum(b.v) FROM t a JOIN other b ON b.v = a.v", &[]);
                row.map(|row| row.get::<_, i64>(0)).map_err(|error| error.to_string())
            });
            std::thread::sleep(Duration::from_millis(300));
            let mut writer = cluster.client();
            let start = Instant::now();
            for _ in 0..5 {
                writer.batch_execute("UPDATE other SET v = v").unwrap();
            }
            let took = start.elapsed();
            lock.batch_execute("ROLLBACK").unwrap();
            assert!(took < Duration::from_secs(5), "{isolation}, {block}: commits took {took:?}");
            assert_eq!(reading.join().unwrap(), Ok(3600), "{isolation}, {block}");
        }
    }
}
