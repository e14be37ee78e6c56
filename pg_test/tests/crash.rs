//! Crashes at each step of a two-phase commit: of the backend, of the whole coordinator, of a node. Afterwards, and
//! without anybody's help, each transaction is on all its nodes and here, or nowhere; one that was acknowledged is
//! everywhere; and nothing is left prepared.
//!
//! `make test` tries the steps between which the outcome changes; `make test-long` all of them, with each of the nodes
//! as victim.

use pg_test::harness::{Cluster, Settings, in_doubt};
use postgres::Client;
use std::time::{Duration, Instant};

const NODES: usize = 3;
/// Long enough for everything to start again on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Backend,
    Coordinator,
    Node(usize),
}

fn start() -> Cluster {
    let cluster = Cluster::start_with(NODES, Settings::default());
    cluster
        .client()
        .batch_execute(
            "CREATE TABLE t (id int, tx int, PRIMARY KEY (id, tx));
             SELECT sharding.distribute_table('t', 'id', 12);
             CREATE TABLE local (tx int)",
        )
        .unwrap();
    cluster
}

/// Keys that are on different nodes.
fn keys(client: &mut Client) -> Vec<i32> {
    let rows = client
        .query(
            "SELECT min(k)::int FROM generate_series(1, 200) k
             JOIN sharding.shards s ON s.relation = 't'::regclass AND s.shard = sharding.shard_of('t', k)
             GROUP BY s.node ORDER BY s.node",
            &[],
        )
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Connects as soon as the server lets it.
fn connect(cluster: &Cluster) -> Client {
    let start = Instant::now();
    loop {
        match cluster.coordinator().config("postgres").connect(postgres::NoTls) {
            Ok(client) => return client,
            Err(error) => assert!(start.elapsed() < LIMIT, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn wait_for_log(cluster: &Cluster, before: usize) {
    let start = Instant::now();
    while cluster.coordinator().log().matches("is reached").count() == before {
        assert!(start.elapsed() < LIMIT, "the failpoint is not reached");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Writes on all nodes and here, with a crash at `step`; whether it was acknowledged.
fn transact(cluster: &mut Cluster, keys: &[i32], tx: i32, step: &str, victim: Victim) -> bool {
    let deed = match victim {
        Victim::Backend => "crash",
        Victim::Coordinator => "pause 60000",
        Victim::Node(_) => "pause 1000",
    };
    let seen = cluster.coordinator().log().matches("is reached").count();
    let mut client = connect(cluster);
    let values: Vec<String> = keys.iter().map(|key| format!("({key}, {tx})")).collect();
    let sql = format!(
        "SET sharding.failpoint = '{step}: {deed}'; BEGIN; INSERT INTO t VALUES {}; INSERT INTO local VALUES ({tx}); COMMIT",
        values.join(", ")
    );
    let commit = std::thread::spawn(move || client.batch_execute(&sql).is_ok());
    wait_for_log(cluster, seen);
    match victim {
        Victim::Backend => {}
        Victim::Coordinator => {
            cluster.coordinator_mut().kill();
            cluster.coordinator_mut().start();
        }
        Victim::Node(node) => {
            cluster.node_mut(node).kill();
        }
    }
    let acknowledged = commit.join().unwrap();
    if let Victim::Node(node) = victim {
        cluster.node_mut(node).start();
    }
    acknowledged
}

/// Waits until recovery, which nobody asks for, has nothing left to do; how long that took.
fn recovered(cluster: &Cluster) -> Duration {
    let start = Instant::now();
    loop {
        // A server that starts anew after a crash may end this session, too.
        let rows = connect(cluster).query_one("SELECT count(*) FROM sharding.transactions", &[]).map(|row| row.get(0));
        if matches!(rows, Ok(0_i64)) && in_doubt(cluster) == 0 {
            return start.elapsed();
        }
        assert!(start.elapsed() < LIMIT, "{rows:?} transactions are in doubt\n{}", cluster.coordinator().log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_crash_at_any_step_leaves_all_or_nothing() {
    crash_at(&["prepare 2", "prepared", "decided", "commit_prepared 2"].map(String::from), &[2]);
}

#[test]
#[ignore = "takes minutes"]
fn a_crash_of_anybody_at_any_step_leaves_all_or_nothing() {
    let numbered = |name: &str| (1..=NODES).map(|n| format!("{name} {n}")).collect::<Vec<_>>();
    let unnumbered = ["prepared", "decided"].map(String::from).to_vec();
    let steps = [numbered("prepare"), unnumbered, numbered("commit_prepared")].concat();
    crash_at(&steps, &(1..=NODES).collect::<Vec<_>>());
}

/// One transaction after the other, each with one crash.
fn crash_at(steps: &[String], nodes: &[usize]) {
    let mut cluster = start();
    let keys = keys(&mut cluster.client());
    assert_eq!(keys.len(), NODES);
    let mut tx = 0;
    for step in steps {
        for victim in [Victim::Backend, Victim::Coordinator].into_iter().chain(nodes.iter().copied().map(Victim::Node))
        {
            tx += 1;
            let acknowledged = transact(&mut cluster, &keys, tx, step, victim);
            let took = recovered(&cluster);
            // Read as a user would, and on the nodes themselves.
            let mut client = connect(&cluster);
            let count = |client: &mut Client, sql: &str| -> i64 { client.query_one(sql, &[&tx]).unwrap().get(0) };
            let read = count(&mut client, "SELECT count(*) FROM t WHERE tx = $1");
            let local = count(&mut client, "SELECT count(*) FROM local WHERE tx = $1");
            println!("{step}, {victim:?}: {read} rows, acknowledged: {acknowledged}, recovered after {took:?}");
            assert!(read == 0 || read == NODES as i64, "{step}, {victim:?}: {read} of {NODES} rows");
            assert_eq!(local, read / NODES as i64, "{step}, {victim:?}: here and there");
            assert!(!acknowledged || read > 0, "{step}, {victim:?}: an acknowledged transaction is lost");
            let decided = step == "decided" || step.starts_with("commit_prepared");
            if decided {
                assert!(read > 0, "{step}, {victim:?}: the decision was reversed");
            } else if !matches!(victim, Victim::Node(_)) {
                assert_eq!(read, 0, "{step}, {victim:?}: nobody has decided");
            }
            client.batch_execute("UPDATE t SET tx = tx WHERE id = 0; INSERT INTO t SELECT i, 0 FROM generate_series(1, 20) i ON CONFLICT DO NOTHING").unwrap();
        }
    }
}
