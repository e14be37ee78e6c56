//! Scans whose part on each node is cut into several tasks: all see one state, and nothing of theirs stays behind.

use pg_test::harness::{Cluster, Settings, settle};
use postgres::fallible_iterator::FallibleIterator;
use postgres::{Client, SimpleQueryMessage};
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const ROWS: i64 = 400;
const CUT: &str = "SET sharding.max_tasks_per_node = 3; SET sharding.min_task_size = 0;
                   SET max_parallel_workers_per_gather = 0";

/// Two nodes with eight shards; a session that cuts all it can.
fn start(coordinator: &str) -> (Cluster, Client) {
    let cluster = Cluster::start_with(2, Settings { coordinator, ..Settings::default() });
    let mut here = cluster.client();
    here.batch_execute(&format!(
        "CREATE TABLE t (id int8 PRIMARY KEY, v int8, w text);
         SELECT sharding.distribute_table('t', 'id', 8);
         INSERT INTO t SELECT i, 100, 'some text of row ' || i FROM generate_series(1, {ROWS}) i;
         ANALYZE t; {CUT}"
    ))
    .unwrap();
    (cluster, here)
}

fn lines(client: &mut Client, sql: &str) -> Vec<String> {
    let messages = client.simple_query(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let text = |message: &SimpleQueryMessage| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_string),
        _ => None,
    };
    messages.iter().filter_map(text).collect()
}

fn number(client: &mut Client, sql: &str) -> i64 {
    lines(client, sql)[0].parse().unwrap_or_else(|_| panic!("{sql}"))
}

/// The number of tasks with which a statement has run.
fn tasks(client: &mut Client, sql: &str) -> usize {
    let plan = lines(client, &format!("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) {sql}"));
    plan.iter().filter(|line| line.trim_start().starts_with("Task ")).count()
}

/// How many connections were leased for what `run` does: one for each task.
fn leases_of(client: &mut Client, run: impl FnOnce(&mut Client)) -> i64 {
    let leases = "SELECT sum(leases) FROM sharding.pool_stats WHERE NOT outside";
    let before = number(client, leases);
    run(client);
    number(client, leases) - before
}

/// Connections to nodes that somebody uses, or that are in a transaction there.
fn left_behind(cluster: &Cluster) -> i64 {
    let leased = "SELECT count(*) FROM sharding.connections WHERE state = 'leased'";
    let busy = "SELECT count(*) FROM pg_stat_activity
                WHERE application_name LIKE 'sharding%' AND (state <> 'idle' OR backend_xmin IS NOT NULL)";
    let of_nodes: i64 = (1..=2).map(|node| number(&mut cluster.node_client(node), busy)).sum();
    number(&mut cluster.client(), leased) + of_nodes
}

fn nothing_is_left_behind(cluster: &Cluster, what: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while left_behind(cluster) > 0 {
        assert!(Instant::now() < deadline, "{what}: {} connections are busy", left_behind(cluster));
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn explain_says_how_many() {
    let (_cluster, mut here) = start("");
    let plan = lines(&mut here, "EXPLAIN (COSTS OFF) SELECT * FROM t").join("\n");
    assert!(plan.contains("Tasks: 6 on 2 nodes"), "{plan}");
    let plan = lines(&mut here, "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) SELECT * FROM t").join("\n");
    for part in ["Tasks: 6 on 2 nodes", "Task 1 on n1: rows=", "Task 3 on n2: rows="] {
        assert!(plan.contains(part), "{part}: {plan}");
    }
    for sql in [
        "SELECT v, count(*) FROM t GROUP BY v",
        "SELECT id FROM t ORDER BY w, id",
        "SELECT a.id FROM t a JOIN t b USING (id) WHERE a.v > 1",
        "SELECT id, repeat(w, 2) FROM t WHERE w > 'some'",
    ] {
        assert_eq!(tasks(&mut here, sql), 6, "{sql}");
    }
    // COPY is no plan to look at.
    let leased = leases_of(&mut here, |here| {
        let mut copied = String::new();
        here.copy_out("COPY t TO STDOUT").unwrap().read_to_string(&mut copied).unwrap();
        assert_eq!(copied.lines().count(), ROWS as usize);
    });
    assert_eq!(leased, 6);
    // One shard, few shards; what a node's own parallel workers do; too little.
    assert_eq!(tasks(&mut here, "SELECT * FROM t WHERE id = 7"), 1);
    assert!(tasks(&mut here, "SELECT * FROM t WHERE id = ANY ('{1, 2, 3}'::int8[])") <= 2);
    here.batch_execute("SET max_parallel_workers_per_gather = 2").unwrap();
    assert_eq!(tasks(&mut here, "SELECT v, count(*) FROM t GROUP BY v"), 2);
    assert_eq!(tasks(&mut here, "SELECT * FROM t"), 6);
    here.batch_execute("SET sharding.min_task_size = '1MB'").unwrap();
    assert_eq!(tasks(&mut here, "SELECT * FROM t"), 2);
    // A plan that was made for more is run with what is allowed now.
    here.batch_execute("SET sharding.min_task_size = 0").unwrap();
    let statement = here.prepare("SELECT * FROM t").unwrap();
    for (most, expected) in [(3, 6), (2, 4), (1, 2)] {
        here.batch_execute(&format!("SET sharding.max_tasks_per_node = {most}")).unwrap();
        let leased = leases_of(&mut here, |here| {
            assert_eq!(here.query(&statement, &[]).unwrap().len(), ROWS as usize);
        });
        assert_eq!(leased, expected);
    }
}

/// A group by a key's columns may name others: not if the key is hidden by a UNION ALL.
#[test]
fn what_needs_the_table_itself_is_not_cut() {
    let (_cluster, mut here) = start("");
    let sql = "SELECT id, w, count(*) FROM t GROUP BY id HAVING count(*) > 0";
    assert_eq!(tasks(&mut here, sql), 2);
    assert_eq!(lines(&mut here, sql).len(), ROWS as usize);
    assert_eq!(tasks(&mut here, "SELECT id FROM t TABLESAMPLE BERNOULLI (50)"), 2);
    assert_eq!(tasks(&mut here, "SELECT id FROM t FOR UPDATE"), 2);
    assert_eq!(tasks(&mut here, "SELECT t.tableoid::regclass, id FROM t"), 6, "the coordinator knows the table");
}

/// Money goes from row to row, of two shards of one node or of two nodes; the sum never wavers.
#[test]
fn all_tasks_see_one_state() {
    let (cluster, mut here) = start("");
    let stop = AtomicBool::new(false);
    let mut reads = 0;
    thread::scope(|scope| {
        for n in 0..3_i64 {
            let (mut writer, stop) = (cluster.client(), &stop);
            scope.spawn(move || {
                let mut i = n * 131;
                while !stop.load(Ordering::Relaxed) {
                    i += 7;
                    let (from, to) = (i % ROWS + 1, (i * 3 + 1) % ROWS + 1);
                    // In one order: the writers do not wait for each other in a circle.
                    let (first, second) = (from.min(to), from.max(to));
                    let add = |id: i64| if id == from { -1 } else { 1 };
                    if from != to {
                        writer
                            .batch_execute(&format!(
                                "BEGIN; UPDATE t SET v = v + {} WHERE id = {first};
                                 UPDATE t SET v = v + {} WHERE id = {second}; COMMIT",
                                add(first),
                                add(second)
                            ))
                            .unwrap();
                    }
                }
            });
        }
        let _ends = Ends(&stop);
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(6) {
            let total = ROWS * 100;
            let sum = |rows: Vec<String>| rows.iter().map(|v| v.parse::<i64>().unwrap()).sum::<i64>();
            assert_eq!(number(&mut here, "SELECT sum(v) FROM t"), total, "partial sums");
            assert_eq!(sum(lines(&mut here, "SELECT v FROM t")), total, "rows");
            assert_eq!(sum(lines(&mut here, "SELECT v FROM t ORDER BY w")), total, "merged rows");
            assert_eq!(number(&mut here, "SELECT (SELECT sum(v) FROM t) - (SELECT sum(v) FROM t WHERE w > '')"), 0);
            let mut copied = String::new();
            here.copy_out("COPY (SELECT v FROM t) TO STDOUT").unwrap().read_to_string(&mut copied).unwrap();
            assert_eq!(sum(copied.lines().map(str::to_string).collect()), total, "COPY");
            for begin in
                ["BEGIN", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "BEGIN ISOLATION LEVEL REPEATABLE READ"]
            {
                here.batch_execute(begin).unwrap();
                assert_eq!(sum(lines(&mut here, "SELECT v FROM t")), total, "{begin}");
                assert_eq!(number(&mut here, "SELECT sum(v) FROM t"), total, "{begin}");
                here.batch_execute("COMMIT").unwrap();
            }
            reads += 1;
        }
    });
    assert!(reads > 3, "{reads}");
    settle(&cluster, Duration::from_secs(30));
    nothing_is_left_behind(&cluster, "after all");
}

/// Also when a look panics.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_transaction_sees_what_it_wrote() {
    let (cluster, mut here) = start("");
    here.batch_execute("BEGIN").unwrap();
    assert_eq!(tasks(&mut here, "SELECT * FROM t"), 6);
    here.batch_execute("UPDATE t SET v = v + 1").unwrap();
    assert_eq!(tasks(&mut here, "SELECT * FROM t"), 2);
    assert_eq!(number(&mut here, "SELECT sum(v) FROM t"), ROWS * 101);
    // Both nodes are prepared although their snapshots had been exported in the same transaction here.
    here.batch_execute("COMMIT").unwrap();
    assert_eq!(number(&mut here, "SELECT sum(v) FROM t"), ROWS * 101);

    // Others' commits are seen by the next statement.
    here.batch_execute("BEGIN").unwrap();
    assert_eq!(number(&mut here, "SELECT sum(v) FROM t"), ROWS * 101);
    cluster.client().batch_execute("UPDATE t SET v = v + 1 WHERE id <= 10").unwrap();
    assert_eq!(number(&mut here, "SELECT sum(v) FROM t"), ROWS * 101 + 10);
    here.batch_execute("SAVEPOINT s; SELECT id FROM t WHERE id = 3 FOR UPDATE").unwrap();
    assert_eq!(tasks(&mut here, "SELECT * FROM t"), 2, "in a savepoint");
    here.batch_execute("ROLLBACK TO s; UPDATE t SET v = v - 1 WHERE id <= 10; COMMIT").unwrap();

    // It may write until its end, in the state that it has read.
    here.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").unwrap();
    assert_eq!(tasks(&mut here, "SELECT * FROM t"), 2);
    here.batch_execute("UPDATE t SET v = v - 1; COMMIT").unwrap();
    here.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").unwrap();
    assert_eq!(tasks(&mut here, "SELECT * FROM t"), 6);
    cluster.client().batch_execute("UPDATE t SET v = 0").unwrap();
    assert_eq!(number(&mut here, "SELECT sum(v) FROM t"), ROWS * 100);
    assert_eq!(tasks(&mut here, "SELECT v FROM t"), 6);
    here.batch_execute("COMMIT").unwrap();
    assert_eq!(number(&mut here, "SELECT sum(v) FROM t"), 0);
    nothing_is_left_behind(&cluster, "after all");
}

/// What reads on while the transaction writes is no obstacle to its commit.
#[test]
fn a_cursor_stays_open_while_others_write() {
    let (_cluster, mut here) = start("");
    here.batch_execute("BEGIN; DECLARE c CURSOR FOR SELECT * FROM t").unwrap();
    assert_eq!(lines(&mut here, "FETCH 5 FROM c").len(), 5);
    assert_eq!(lines(&mut here, "SELECT id FROM t").len(), ROWS as usize);
    here.batch_execute("UPDATE t SET v = v + 1").unwrap();
    assert_eq!(lines(&mut here, "FETCH ALL FROM c").len(), ROWS as usize - 5);
    here.batch_execute("COMMIT").unwrap();
    let mut transaction = here.build_transaction().read_only(true).start().unwrap();
    let statement = transaction.prepare("SELECT id FROM t").unwrap();
    let (a, b) = (transaction.bind(&statement, &[]).unwrap(), transaction.bind(&statement, &[]).unwrap());
    for portal in [&a, &b, &a, &b] {
        assert_eq!(transaction.query_portal(portal, 100).unwrap().len(), 100);
    }
    transaction.commit().unwrap();
    // A part of the result, then a write in the same transaction.
    let mut transaction = here.transaction().unwrap();
    let portal = transaction.bind("SELECT id FROM t", &[]).unwrap();
    assert_eq!(transaction.query_portal(&portal, 10).unwrap().len(), 10);
    transaction.execute("UPDATE t SET v = v + 1", &[]).unwrap();
    assert_eq!(transaction.query_portal(&portal, 0).unwrap().len(), ROWS as usize - 10);
    transaction.commit().unwrap();
    assert_eq!(number(&mut here, "SELECT sum(v) FROM t"), ROWS * 102);
}

#[test]
fn a_limit_a_cancel_and_an_error_stop_all_tasks() {
    let (cluster, mut here) = start("");
    here.batch_execute("INSERT INTO t SELECT i, i, repeat('x', 100) FROM generate_series(1001, 60000) i; ANALYZE t")
        .unwrap();
    for block in ["", "BEGIN", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"] {
        here.batch_execute(block).unwrap();
        assert_eq!(lines(&mut here, "SELECT id, w FROM t WHERE v <> 3 LIMIT 10").len(), 10);
        assert_eq!(lines(&mut here, "SELECT * FROM (SELECT id, w, row_number() OVER () FROM t) x LIMIT 10").len(), 10);
        if !block.is_empty() {
            assert_eq!(
                number(&mut here, "SELECT count(*) FROM sharding.connections WHERE state = 'leased'"),
                2,
                "{block}"
            );
            here.batch_execute("COMMIT").unwrap();
        }
        nothing_is_left_behind(&cluster, block);
        here.batch_execute(block).unwrap();
        here.batch_execute("SET statement_timeout = '300ms'").unwrap();
        let slow = "SELECT count(*) FROM t WHERE md5(repeat(md5(w), 3000)) > 'z'";
        let error = here.batch_execute(slow).unwrap_err();
        assert_eq!(error.code().map(|code| code.code()), Some("57014"), "{error}");
        here.batch_execute("ROLLBACK; RESET statement_timeout").unwrap();
        nothing_is_left_behind(&cluster, block);
        here.batch_execute(block).unwrap();
        let error = here.batch_execute("SELECT id, 1 / (id - 40000) FROM t").unwrap_err();
        assert_eq!(error.code().map(|code| code.code()), Some("22012"), "{error}");
        here.batch_execute("ROLLBACK").unwrap();
        nothing_is_left_behind(&cluster, block);
    }
    // A client that stops reading and leaves.
    let mut rows = here.query_raw("SELECT * FROM t", Vec::<i64>::new()).unwrap();
    assert!(rows.next().unwrap().is_some());
    drop(rows);
    drop(here);
    nothing_is_left_behind(&cluster, "a client that left");
}

/// Further connections are taken only from what others leave: no more than half of the pool.
#[test]
fn the_pool_says_how_many() {
    for (size, expected) in [(1, 2), (3, 2), (4, 4), (10, 6)] {
        let (cluster, mut here) = start(&format!("sharding.pool_size = {size}"));
        assert_eq!(tasks(&mut here, "SELECT * FROM t"), expected, "a pool of {size}");
        assert_eq!(lines(&mut here, "SELECT * FROM t").len(), ROWS as usize);
        // Many at once: each gets what there is, and none waits for long.
        thread::scope(|scope| {
            for _ in 0..6 {
                let mut client = cluster.client();
                scope.spawn(move || {
                    client.batch_execute(CUT).unwrap();
                    for _ in 0..5 {
                        assert_eq!(lines(&mut client, "SELECT * FROM t").len(), ROWS as usize);
                        assert_eq!(number(&mut client, "SELECT count(*) FROM t"), ROWS);
                    }
                });
            }
        });
        let most = number(&mut here, "SELECT max(connections) FROM sharding.pool_stats WHERE NOT outside");
        assert!(most <= size, "{most} connections");
        nothing_is_left_behind(&cluster, "after all");
    }
}

/// A node that has no room for further connections serves with the one that there is.
#[test]
fn a_node_without_room_has_one_task() {
    let cluster = Cluster::start_with(2, Settings { node: "max_connections = 5", ..Settings::default() });
    let mut here = cluster.client();
    here.batch_execute(
        "CREATE TABLE t (id int8 PRIMARY KEY, v int);
         SELECT sharding.distribute_table('t', 'id', 8);
         INSERT INTO t SELECT i, i FROM generate_series(1, 100) i",
    )
    .unwrap();
    let mut others: Vec<Client> = Vec::new();
    here.batch_execute(CUT).unwrap();
    here.batch_execute("BEGIN; SELECT count(*) FROM t; COMMIT").unwrap();
    for node in 1..=2 {
        while let Ok(client) = postgres::Client::connect(
            &format!("host=127.0.0.1 port={} dbname=app user=postgres", cluster.node(node).port()),
            postgres::NoTls,
        ) {
            others.push(client);
        }
    }
    assert_eq!(lines(&mut here, "SELECT * FROM t").len(), 100);
    drop(others);
}

/// A task waits for somebody on its node who waits for the transaction's own connection: no server sees that circle.
#[test]
fn a_circle_over_two_connections_to_a_node_is_ended() {
    let (cluster, mut here) = start("");
    let last = "SELECT max(shard) FROM sharding.shards WHERE relation = 't'::regclass AND node = 'n1'";
    let shard = number(&mut here, last);
    here.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL sharding.max_tasks_per_node = 1")
        .unwrap();
    assert_eq!(number(&mut here, "SELECT count(*) FROM t"), ROWS);
    here.batch_execute("SET LOCAL sharding.max_tasks_per_node = 3").unwrap();
    thread::scope(|scope| {
        let mut on_node = cluster.node_client(1);
        scope.spawn(move || {
            let lock = format!("BEGIN; LOCK TABLE sharding_shards.t_{shard} IN ACCESS EXCLUSIVE MODE; COMMIT");
            on_node.batch_execute(&lock).unwrap();
        });
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted";
        let mut watcher = cluster.node_client(1);
        let deadline = Instant::now() + Duration::from_secs(20);
        while number(&mut watcher, waits) == 0 {
            assert!(Instant::now() < deadline, "nobody waits");
            thread::sleep(Duration::from_millis(20));
        }
        let error = here.batch_execute("SELECT * FROM t").unwrap_err();
        assert_eq!(error.code().map(|code| code.code()), Some("40P01"), "{error:?}");
        here.batch_execute("ROLLBACK").unwrap();
    });
    assert_eq!(lines(&mut here, "SELECT * FROM t").len(), ROWS as usize);
}
