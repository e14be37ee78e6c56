//! Statements with several scans see one state: of a node, of several nodes, and of the coordinator beside them, while
//! transactions commit all the time.

use pg_test::harness::{Cluster, settle};
use postgres::Client;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const KEYS: i32 = 40;
const TIME: Duration = Duration::from_secs(4);

fn start() -> Cluster {
    let cluster = Cluster::start(2);
    cluster
        .client()
        .batch_execute(&format!(
            "CREATE TABLE a (id int PRIMARY KEY, v int);
             CREATE TABLE b (id int PRIMARY KEY, v int);
             SELECT sharding.distribute_table('a', 'id', 8);
             SELECT sharding.distribute_table('b', 'id', 8);
             CREATE TABLE copied (id int PRIMARY KEY, v int);
             SELECT sharding.replicate_table('copied');
             CREATE TABLE here (id int PRIMARY KEY, v int);
             INSERT INTO a SELECT i, 0 FROM generate_series(1, {KEYS}) i;
             INSERT INTO b SELECT i, 0 FROM generate_series(1, {KEYS}) i;
             INSERT INTO copied VALUES (1, 0);
             INSERT INTO here VALUES (1, 0)"
        ))
        .unwrap();
    cluster
}

/// Runs writers with these statements (`$k` is a key) while `read` looks, again and again; how often each did.
fn during(cluster: &Cluster, writers: &[&str], mut read: impl FnMut(&mut Client)) -> (usize, usize) {
    let stop = AtomicBool::new(false);
    let writes = AtomicUsize::new(0);
    let mut reads = 0;
    std::thread::scope(|scope| {
        for (n, sql) in writers.iter().enumerate() {
            let (stop, writes) = (&stop, &writes);
            let mut client = cluster.client();
            scope.spawn(move || {
                let mut key = n as i32;
                while !stop.load(Ordering::Relaxed) {
                    key = key % KEYS + 1;
                    client.batch_execute(&sql.replace("$k", &key.to_string())).unwrap();
                    writes.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let _ends = Ends(&stop);
        let mut client = cluster.client();
        let start = Instant::now();
        while start.elapsed() < TIME {
            read(&mut client);
            reads += 1;
        }
    });
    settle(cluster, Duration::from_secs(30));
    (reads, writes.into_inner())
}

/// Also when a look panics.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn two(client: &mut Client, sql: &str) -> (i64, i64) {
    let row = client.query_one(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error}"));
    (row.get(0), row.get(1))
}

/// Transactions of one node each, which write two tables: nobody sees one without the other.
#[test]
fn scans_of_one_node_see_one_state() {
    let cluster = start();
    let write = "BEGIN; UPDATE a SET v = v + 1 WHERE id = $k; UPDATE b SET v = v + 1 WHERE id = $k; COMMIT";
    let sql = "SELECT (SELECT sum(v) FROM a), (SELECT sum(v) FROM b)";
    for block in [false, true] {
        let mut last = 0;
        let counts = during(&cluster, &[write, write], |client| {
            if block {
                client.batch_execute("BEGIN").unwrap();
            }
            for _ in 0..3 {
                let (a, b) = two(client, sql);
                assert_eq!(a, b, "in a block: {block}");
                assert!(a >= last, "an older state than before");
                last = a;
            }
            if block {
                // What was only read does not keep the transaction from writing with the latest state.
                client.batch_execute("UPDATE a SET v = v WHERE id = 1; COMMIT").unwrap();
            }
        });
        println!("in a block: {block}: {counts:?} reads and writes");
        assert!(counts.0 > 5 && counts.1 > 5, "{counts:?}");
    }
}

/// Transactions that write here and on nodes, and such that write reference tables.
#[test]
fn this_server_is_one_of_the_nodes() {
    let cluster = start();
    for (table, write) in [
        ("here", "BEGIN; UPDATE here SET v = v + 1; UPDATE a SET v = v + 1 WHERE id = $k; COMMIT"),
        ("copied", "BEGIN; UPDATE copied SET v = v + 1; UPDATE a SET v = v + 1 WHERE id = $k; COMMIT"),
    ] {
        cluster.client().batch_execute("UPDATE a SET v = 0").unwrap();
        let sql = format!("SELECT (SELECT sum(v) FROM {table}), (SELECT sum(v) FROM a)");
        for isolation in ["READ COMMITTED", "REPEATABLE READ"] {
            let mut conflicts = 0;
            let counts = during(&cluster, &[write], |client| {
                client.batch_execute(&format!("BEGIN ISOLATION LEVEL {isolation}")).unwrap();
                let (x, y) = two(client, &sql);
                assert_eq!(x, y, "{table}, {isolation}");
                client.batch_execute("ROLLBACK").unwrap();
                let (x, y) = two(client, &sql);
                assert_eq!(x, y, "{table}, without a block");

                // What was read here before the first node is used holds.
                client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").unwrap();
                let here: i64 = client.query_one(&format!("SELECT sum(v) FROM {table}"), &[]).unwrap().get(0);
                match client.query_one("SELECT sum(v) FROM a", &[]) {
                    Ok(row) => assert_eq!(row.get::<_, i64>(0), here, "{table}"),
                    Err(error) => {
                        assert_eq!(error.code().map(|code| code.code()), Some("40001"), "{table}: {error}");
                        conflicts += 1;
                    }
                }
                client.batch_execute("ROLLBACK").unwrap();
            });
            println!("{table}, {isolation}: {counts:?} reads and writes, {conflicts} conflicts");
            assert!(counts.0 > 5 && counts.1 > 5 && conflicts < counts.0, "{counts:?}, {conflicts}");
        }
    }
}

/// Cursors, savepoints and locks keep what they have: a later statement must not end it.
#[test]
fn what_a_transaction_holds_on_nodes_stays() {
    let cluster = start();
    let mut client = cluster.client();
    let sum = "SELECT (SELECT sum(v) FROM a), (SELECT sum(v) FROM b)";
    client.batch_execute("BEGIN; DECLARE c CURSOR FOR SELECT a.id FROM a, b WHERE a.v = b.v ORDER BY 1").unwrap();
    assert_eq!(client.query("FETCH 5 FROM c", &[]).unwrap().len(), 5);
    assert_eq!(two(&mut client, sum), (0, 0));
    cluster.client().batch_execute("UPDATE a SET v = 1 WHERE id = 1").unwrap();
    assert_eq!(two(&mut client, sum), (1, 0), "READ COMMITTED");
    assert_eq!(client.query("FETCH ALL FROM c", &[]).unwrap().len(), (KEYS * KEYS) as usize - 5);
    client.batch_execute("COMMIT").unwrap();

    client.batch_execute("BEGIN").unwrap();
    assert_eq!(two(&mut client, sum), (1, 0));
    client
        .batch_execute("SELECT * FROM a WHERE id = 2 FOR UPDATE; SAVEPOINT s; UPDATE b SET v = 7 WHERE id = 2")
        .unwrap();
    assert_eq!(two(&mut client, sum), (1, 7));
    client.batch_execute("ROLLBACK TO s").unwrap();
    assert_eq!(two(&mut client, sum), (1, 0));
    let mut other = cluster.client();
    other.batch_execute("SET lock_timeout = '200ms'").unwrap();
    let error = other.batch_execute("UPDATE a SET v = 2 WHERE id = 2").expect_err("the row is locked");
    assert_eq!(error.code().map(|code| code.code()), Some("55P03"), "{error}");
    client.batch_execute("UPDATE a SET v = v + 1 WHERE id = 2; COMMIT").unwrap();
    assert_eq!(two(&mut client, sum), (2, 0));
}

/// The snapshot of the whole transaction is not given up for one of a statement.
#[test]
fn stricter_levels_keep_their_snapshot() {
    let cluster = Cluster::start(1);
    let mut client = cluster.client();
    client
        .batch_execute(
            "CREATE TABLE a (id int PRIMARY KEY, v int); SELECT sharding.distribute_table('a', 'id', 4);
             CREATE TABLE b (id int PRIMARY KEY, v int); SELECT sharding.distribute_table('b', 'id', 4);
             INSERT INTO a VALUES (1, 0); INSERT INTO b VALUES (1, 0)",
        )
        .unwrap();
    let sum = "SELECT (SELECT sum(v) FROM a), (SELECT sum(v) FROM b)";
    for (isolation, expected) in [("SERIALIZABLE", (0, 0)), ("REPEATABLE READ", (1, 0)), ("READ COMMITTED", (3, 0))] {
        client.batch_execute(&format!("BEGIN ISOLATION LEVEL {isolation}")).unwrap();
        two(&mut client, sum);
        cluster.client().batch_execute("UPDATE a SET v = v + 1").unwrap();
        assert_eq!(two(&mut client, sum), expected, "{isolation}");
        client.batch_execute("COMMIT").unwrap();
    }
}
