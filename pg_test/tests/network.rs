//! A bad network between the coordinator and its nodes: nothing hangs, nothing is lost, half done, or left over.
//!
//! All nodes are added through proxies. While clients read and write, faults drawn from a seed happen to the
//! connections: delays, stalls, resets, half-closes, cuts in the middle of a message; some clients end in the midst of a
//! transaction, and some backends are terminated. The seed is printed;
//! `SHARDING_NETWORK_SEED=17 cargo test -p pg_test --test network` makes the same faults at the same times.

use pg_test::harness::{Cluster, Fault, Proxy, Settings, settle};
use postgres::{Client, SimpleQueryMessage};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const NODES: usize = 3;
const ROWS: i32 = 120;
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(3);
/// A statement's own time, a cancel that nobody hears (5 s), and a second phase that nobody confirms (10 s).
const NOTHING_TAKES_LONGER: Duration = Duration::from_secs(25);

fn start() -> (Cluster, Vec<Proxy>) {
    let coordinator = "sharding.connect_timeout = 2\nsharding.pool_size = 4\nsharding.pool_wait_timeout = '5s'";
    let cluster = Cluster::start_unconfigured(NODES, Settings { coordinator, node: "" });
    let proxies: Vec<Proxy> = (1..=NODES).map(|node| Proxy::start(cluster.node(node).port())).collect();
    let mut client = cluster.client();
    client.batch_execute("CREATE EXTENSION sharding").unwrap();
    for (i, proxy) in proxies.iter().enumerate() {
        let sql = format!("SELECT sharding.add_node('n{}', '127.0.0.1', {}, 'app', 'postgres')", i + 1, proxy.port());
        client.batch_execute(&sql).unwrap();
    }
    client
        .batch_execute(&format!(
            "CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL);
             SELECT sharding.distribute_table('t', 'id', 12);
             INSERT INTO t SELECT i, i FROM generate_series(1, {ROWS}) i;
             CREATE TABLE done (k int, id bigint, PRIMARY KEY (k, id));
             SELECT sharding.distribute_table('done', 'k', 12)"
        ))
        .unwrap();
    (cluster, proxies)
}

/// A fault, when, on which node, and until when if it lasts.
struct Incident {
    at: Duration,
    node: usize,
    fault: Fault,
    lasts: Duration,
}

fn incidents(seed: u64, length: Duration) -> Vec<Incident> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut at = Duration::from_millis(200);
    let mut incidents = Vec::new();
    while at < length {
        let longest = if random.random_bool(0.1) { 6000 } else { 1000 };
        incidents.push(Incident {
            at,
            node: random.random_range(0..NODES),
            fault: Fault::any(&mut random),
            // Now and then longer than a statement may take.
            lasts: Duration::from_millis(random.random_range(20..longest)),
        });
        at += Duration::from_millis(random.random_range(20..400));
    }
    incidents
}

/// Makes the faults happen, and ends the last of them.
fn happen(incidents: &[Incident], proxies: &[Proxy]) {
    let start = Instant::now();
    let mut ends: Vec<(Duration, usize)> = Vec::new();
    let mut waiting = incidents.iter().peekable();
    loop {
        let now = start.elapsed();
        while let Some(incident) = waiting.next_if(|incident| incident.at <= now) {
            proxies[incident.node].inject(&incident.fault);
            if incident.fault.lasts() {
                ends.push((incident.at + incident.lasts, incident.node));
            }
        }
        let (over, lasting): (Vec<_>, Vec<_>) = ends.into_iter().partition(|(at, _)| *at <= now);
        ends = lasting;
        // What lasts longer keeps the others company.
        for (_, node) in over.iter().filter(|(_, node)| ends.iter().all(|(_, other)| other != node)) {
            proxies[*node].heal();
        }
        if waiting.peek().is_none() && ends.is_empty() {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Stands for the SQLSTATE where the connection ended without a word.
const GONE: &str = "gone";

/// What the client was told of a write.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Done,
    Undone,
    Unknown,
}

/// The keys that each write touches, by its id, and what became of it.
type Writes = BTreeMap<i64, (Vec<i32>, Fate)>;

/// Runs SQL; its rows as text, or the SQLSTATE.
fn run(client: &mut Client, sql: &str) -> Result<Vec<String>, String> {
    let start = Instant::now();
    let result = client.simple_query(sql);
    let took = start.elapsed();
    assert!(took < NOTHING_TAKES_LONGER, "{sql} took {took:?}: {result:?}");
    match result {
        Ok(messages) => Ok(messages
            .iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => {
                    Some((0..row.len()).map(|i| row.get(i).unwrap_or("NULL")).collect::<Vec<_>>().join(" "))
                }
                _ => None,
            })
            .collect()),
        // Its backend was terminated.
        Err(error) if client.is_closed() => Err(error.code().map_or(GONE, |code| code.code()).to_string()),
        Err(error) => {
            let Some(db) = error.as_db_error() else { panic!("{sql}: {error}") };
            let code = db.code().code().to_string();
            let class = &code[..2];
            assert!(["08", "57", "53", "40", "25"].contains(&class), "{sql}: {db:?}");
            Err(code)
        }
    }
}

struct Load<'a> {
    cluster: &'a Cluster,
    client: Client,
    random: ChaCha8Rng,
    next: i64,
    writes: Writes,
    failures: BTreeMap<String, usize>,
    successes: usize,
}

impl Load<'_> {
    fn any_key(&mut self) -> i32 {
        self.random.random_range(1..=ROWS)
    }

    fn step(&mut self) {
        let key = self.any_key();
        let result = match self.random.random_range(0..8) {
            0 | 1 => self.read("SELECT count(*), sum(v) FROM t", "120 7260"),
            2 => self.read(&format!("SELECT v FROM t WHERE id = {key}"), &key.to_string()),
            3 => self.read("BEGIN; SELECT count(*) FROM t; SELECT max(v) FROM t; COMMIT", "120\n120"),
            4 if self.random.random_bool(0.1) => self.vanish(key),
            4 | 5 => self.write(vec![key], "INSERT INTO done VALUES ($)"),
            6 => {
                let keys = vec![key, self.any_key(), self.any_key()];
                self.write(keys, "INSERT INTO done VALUES ($) ON CONFLICT DO NOTHING")
            }
            _ => {
                let keys = vec![key, self.any_key()];
                self.write(
                    keys,
                    "BEGIN; INSERT INTO done VALUES ($) ON CONFLICT DO NOTHING; SELECT count(*) FROM t; COMMIT",
                )
            }
        };
        match result {
            Ok(()) => self.successes += 1,
            Err(code) => {
                *self.failures.entry(code).or_default() += 1;
                if self.client.is_closed() || run(&mut self.client, "ROLLBACK").is_err() {
                    self.client = connect(self.cluster);
                }
            }
        }
    }

    /// Ends in the midst of a transaction.
    fn vanish(&mut self, key: i32) -> Result<(), String> {
        let keys = vec![key, self.any_key()];
        self.write(keys, "BEGIN; INSERT INTO done VALUES ($) ON CONFLICT DO NOTHING")?;
        self.client = connect(self.cluster);
        if let Some((_, fate)) = self.writes.get_mut(&(self.next - 1)) {
            *fate = Fate::Undone;
        }
        Ok(())
    }

    fn read(&mut self, sql: &str, expected: &str) -> Result<(), String> {
        assert_eq!(run(&mut self.client, sql)?.join("\n"), expected, "{sql}");
        Ok(())
    }

    fn write(&mut self, keys: Vec<i32>, sql: &str) -> Result<(), String> {
        let id = self.next;
        self.next += 1;
        let rows: Vec<String> = keys.iter().map(|key| format!("{key}, {id}")).collect();
        let result = run(&mut self.client, &sql.replace('$', &rows.join("), (")));
        let fate = match &result {
            Ok(_) => Fate::Done,
            // transaction_resolution_unknown
            Err(code) if code == "08007" => Fate::Unknown,
            // As on one server: it may have been about to answer.
            Err(_) if self.client.is_closed() => Fate::Unknown,
            Err(_) => Fate::Undone,
        };
        self.writes.insert(id, (keys, fate));
        result.map(drop)
    }
}

fn connect(cluster: &Cluster) -> Client {
    let mut client = cluster.client();
    let timeout = STATEMENT_TIMEOUT.as_millis();
    client.batch_execute(&format!("SET statement_timeout = {timeout}; SET application_name = 'storm'")).unwrap();
    client
}

/// Terminates a backend of a client now and then.
fn terminate_some(cluster: &Cluster, stop: &AtomicBool) {
    let mut client = cluster.client();
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(700));
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE application_name = 'storm' ORDER BY random() LIMIT 1";
        client.batch_execute(sql).unwrap();
    }
}

fn eventually(what: &str, mut is: impl FnMut() -> Result<(), String>) {
    let start = Instant::now();
    while let Err(found) = is() {
        assert!(start.elapsed() < Duration::from_secs(40), "{what}: {found}");
        thread::sleep(Duration::from_millis(100));
    }
}

fn one(client: &mut Client, sql: &str) -> String {
    run(client, sql).unwrap_or_else(|code| panic!("{sql}: {code}")).join("\n")
}

fn storm(cluster: &Cluster, proxies: &[Proxy], seed: u64, length: Duration) {
    println!("SHARDING_NETWORK_SEED={seed}");
    cluster.client().batch_execute("TRUNCATE done").unwrap();
    let stop = AtomicBool::new(false);
    let loads: Vec<Load> = thread::scope(|scope| {
        let workers: Vec<_> = (0..6_u64)
            .map(|worker| {
                let (client, stop) = (connect(cluster), &stop);
                scope.spawn(move || {
                    let mut load = Load {
                        cluster,
                        client,
                        random: ChaCha8Rng::seed_from_u64(seed ^ (worker << 32)),
                        next: worker as i64 * 1_000_000,
                        writes: Writes::new(),
                        failures: BTreeMap::new(),
                        successes: 0,
                    };
                    while !stop.load(Ordering::Relaxed) {
                        load.step();
                    }
                    load
                })
            })
            .collect();
        scope.spawn(|| terminate_some(cluster, &stop));
        happen(&incidents(seed, length), proxies);
        proxies.iter().for_each(Proxy::heal);
        stop.store(true, Ordering::Relaxed);
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let took = settle(cluster, Duration::from_secs(30));
    check_writes(cluster, &loads);
    check_connections(cluster);

    let mut failures: BTreeMap<&str, usize> = BTreeMap::new();
    for (code, count) in loads.iter().flat_map(|load| &load.failures) {
        *failures.entry(code).or_default() += count;
    }
    let successes: usize = loads.iter().map(|load| load.successes).sum();
    println!("seed {seed}: {successes} succeeded, failed {failures:?}, settled in {took:?}");
    assert!(successes > 20, "hardly anything was done");
}

/// Each write is on all of its keys or on none, as the client was told.
fn check_writes(cluster: &Cluster, loads: &[Load]) {
    let mut found: BTreeMap<i64, Vec<i32>> = BTreeMap::new();
    let mut client = cluster.client();
    for row in client.query("SELECT id, k FROM done ORDER BY id, k", &[]).unwrap() {
        found.entry(row.get(0)).or_default().push(row.get(1));
    }
    for (id, (keys, fate)) in loads.iter().flat_map(|load| &load.writes) {
        let mut keys = keys.clone();
        keys.sort();
        keys.dedup();
        let rows = found.remove(id).unwrap_or_default();
        let right = match fate {
            Fate::Done => rows == keys,
            Fate::Undone => rows.is_empty(),
            Fate::Unknown => rows == keys || rows.is_empty(),
        };
        assert!(right, "write {id} of {keys:?} is {fate:?}, and there is {rows:?}\n{}", cluster.coordinator().log());
    }
    assert!(found.is_empty(), "nobody has written {found:?}");
    assert_eq!(one(&mut client, "SELECT count(*), sum(v) FROM t"), "120 7260");
}

/// What the pool has is what the nodes have, and nobody is in the midst of something.
fn check_connections(cluster: &Cluster) {
    let mut client = cluster.client();
    eventually("connections in use", || {
        let busy = one(&mut client, "SELECT node, state, last_error FROM sharding.connections WHERE state <> 'idle'");
        if busy.is_empty() { Ok(()) } else { Err(busy) }
    });
    for node in 1..=NODES {
        let mut there = cluster.node_client(node);
        eventually("connections of a node", || {
            let here =
                one(&mut client, &format!("SELECT count(*), 0 FROM sharding.connections WHERE node = 'n{node}'"));
            let found = one(
                &mut there,
                "SELECT count(*), count(*) FILTER (WHERE state <> 'idle') FROM pg_stat_activity
                 WHERE application_name LIKE 'sharding%' AND application_name <> 'sharding tests'",
            );
            if here == found { Ok(()) } else { Err(format!("node {node} has {found}, the pool {here}")) }
        });
    }
}

fn seed() -> u64 {
    std::env::var("SHARDING_NETWORK_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        let mut random = rand::rng();
        random.random_range(0..100_000)
    })
}

#[test]
fn a_bad_network_loses_and_halves_nothing() {
    let (cluster, proxies) = start();
    storm(&cluster, &proxies, seed(), Duration::from_secs(6));
}

#[test]
#[ignore = "takes minutes"]
fn a_bad_network_for_long() {
    let (cluster, proxies) = start();
    let first = seed();
    for seed in first..first + 25 {
        storm(&cluster, &proxies, seed, Duration::from_secs(6));
    }
}

/// Seconds until the kernel asks whether the other side of a connection is alive, for the one to this port that
/// waits longest.
#[cfg(target_os = "linux")]
fn keepalive_timer(port: u16) -> Option<u64> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let remote = format!(":{port:04X}");
    let timers = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // Established; timer 2 is that of keepalives, in hundredths of seconds.
        let (timer, when) = fields[5].split_once(':')?;
        let ours = fields[2].ends_with(&remote) && fields[3] == "01" && timer == "02";
        ours.then(|| u64::from_str_radix(when, 16).ok()).flatten()
    });
    timers.max().map(|when| when.div_ceil(100))
}

/// A machine that is gone sends nothing: the kernel has to ask, as often as the options say.
#[test]
#[cfg(target_os = "linux")]
fn keepalives_are_those_of_the_server() {
    let cluster = Cluster::start(1);
    let mut client = cluster.client();
    let port = cluster.node(1).port();
    let seconds = |client: &mut Client| {
        client.batch_execute("SELECT * FROM sharding.run_on_nodes('SELECT 1')").unwrap();
        keepalive_timer(port).unwrap_or_default()
    };
    assert!((25..=30).contains(&seconds(&mut client)), "the default");
    client.batch_execute("ALTER SERVER n1 OPTIONS (ADD keepalives_idle '9')").unwrap();
    eventually("the new setting", || match seconds(&mut client) {
        7..=9 => Ok(()),
        other => Err(format!("{other} s")),
    });
    let error = client.batch_execute("ALTER SERVER n1 OPTIONS (ADD tcp_user_timeout '3s')").unwrap_err();
    assert_eq!(error.code().map(|code| code.code()), Some("22023"), "{error}");
}
