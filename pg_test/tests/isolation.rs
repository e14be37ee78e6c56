//! Which anomalies concurrent transactions over several nodes can see, per isolation level and per
//! `sharding.consistent_reads`: histories of lists and registers, judged by `pg_test::history`.
//!
//! | excluded | READ COMMITTED | REPEATABLE READ |
//! |---|---|---|
//! | always | G0, G1a, G1b, G1c, lost writes | the same, and lost updates |
//! | with `transactions` | a statement that sees half of a multi-node transaction | a transaction that does |
//! | and if all use several nodes | read skew and long fork within a statement | read skew, long fork, stale reads |
//! | with `snapshot` | the same, whoever uses how many | the same |
//!
//! Write skew is possible in REPEATABLE READ, as on one server. `SHARDING_ISOLATION_SEED` reruns the same choices.

use pg_test::harness::{Cluster, Plain};
use pg_test::history::{Anomaly, History, Key, Kind, Op, Outcome, Seen, Transaction, Value, anomalies};
use postgres::{Client, SimpleQueryMessage};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;
use std::time::Instant;

const NODES: usize = 3;
const KEYS_PER_NODE: usize = 3;
/// Keys of registers; the same rows have both.
const REGISTER: Key = 1000;
const PROCESSES: usize = 6;

/// What must not be seen at any level.
const NEVER: [Kind; 8] = [
    Kind::LostWrite,
    Kind::Torn,
    Kind::Garbage,
    Kind::Internal,
    Kind::AbortedRead,
    Kind::IntermediateRead,
    Kind::DirtyWrite,
    Kind::CircularInformation,
];
const NO_SNAPSHOT: [Kind; 4] = [Kind::FracturedRead, Kind::ReadSkew, Kind::LongFork, Kind::StaleRead];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    ReadCommitted,
    RepeatableRead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    Off,
    Transactions,
    Snapshot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    /// Whoever reads or writes does so on several nodes.
    Wide,
    /// Some statements, and some transactions, use one node only.
    Any,
}

enum Servers {
    Cluster(Cluster),
    /// One server: what it shows cannot be an anomaly of several.
    Plain(Plain),
}

struct World {
    servers: Servers,
    /// The keys of each node.
    keys: Vec<Vec<Key>>,
    has_setting: bool,
}

const TABLE: &str = "CREATE TABLE lists (k int PRIMARY KEY, v bigint[] NOT NULL, last bigint, trail bigint[] NOT NULL)";

fn start() -> World {
    let cluster = Cluster::start(NODES);
    let mut client = cluster.client();
    client.batch_execute(&format!("{TABLE}; SELECT sharding.distribute_table('lists', 'k', 12)")).unwrap();
    let keys: Vec<Vec<Key>> = (1..=NODES)
        .map(|node| {
            let sql = format!(
                "SELECT g FROM generate_series(1, 900) g
                 JOIN sharding.shards s ON s.relation = 'lists'::regclass AND s.shard = sharding.shard_of('lists', g)
                 WHERE s.node = 'n{node}' ORDER BY g LIMIT {KEYS_PER_NODE}"
            );
            client.query(&sql, &[]).unwrap().iter().map(|row| row.get(0)).collect()
        })
        .collect();
    let sql = "SELECT count(*) FROM pg_settings WHERE name = 'sharding.consistent_reads'";
    let has_setting = client.query_one(sql, &[]).unwrap().get::<_, i64>(0) == 1;
    fill(World { servers: Servers::Cluster(cluster), keys, has_setting })
}

fn start_plain() -> World {
    let plain = Plain::start();
    plain.client().batch_execute(TABLE).unwrap();
    let keys = (0..NODES as Key).map(|node| (0..KEYS_PER_NODE as Key).map(|n| node * 10 + n).collect()).collect();
    fill(World { servers: Servers::Plain(plain), keys, has_setting: false })
}

fn fill(world: World) -> World {
    let mut client = world.client();
    for key in world.keys.iter().flatten() {
        client.batch_execute(&format!("INSERT INTO lists VALUES ({key}, '{{}}', NULL, '{{}}')")).unwrap();
    }
    drop(client);
    world
}

fn rows(client: &mut Client, sql: &str) -> Result<Vec<Vec<String>>, postgres::Error> {
    let text = |row: &postgres::SimpleQueryRow| {
        (0..row.len()).map(|i| row.get(i).unwrap_or_default().to_string()).collect::<Vec<String>>()
    };
    Ok(client
        .simple_query(sql)?
        .iter()
        .filter_map(|message| if let SimpleQueryMessage::Row(row) = message { Some(text(row)) } else { None })
        .collect())
}

/// `{1,2}`.
fn list(text: &str) -> Vec<Value> {
    let inner = text.trim_matches(['{', '}']);
    inner.split(',').filter(|value| !value.is_empty()).map(|value| value.parse().unwrap()).collect()
}

/// A client that does random transactions and keeps what it saw.
struct Process<'a> {
    number: usize,
    client: Client,
    random: ChaCha8Rng,
    world: &'a World,
    width: Width,
    begun: Instant,
    next_value: &'a AtomicI64,
    current: Transaction,
    statements: usize,
    done: Vec<Transaction>,
}

impl Process<'_> {
    fn now(&self) -> u64 {
        self.begun.elapsed().as_micros() as u64
    }

    /// So many keys, no two on one node, in order.
    fn keys(&mut self, count: usize) -> Vec<Key> {
        let mut nodes: Vec<usize> = (0..NODES).collect();
        while nodes.len() > count {
            nodes.remove(self.random.random_range(0..nodes.len()));
        }
        let mut keys: Vec<Key> =
            nodes.into_iter().map(|node| self.world.keys[node][self.random.random_range(0..KEYS_PER_NODE)]).collect();
        keys.sort();
        keys
    }

    fn some_keys(&mut self) -> Vec<Key> {
        let least = if self.width == Width::Any { 1 } else { 2 };
        let count = self.random.random_range(least..=NODES);
        self.keys(count)
    }

    fn read(&mut self, keys: &[Key]) -> Result<(), postgres::Error> {
        let texts: Vec<String> = keys.iter().map(Key::to_string).collect();
        let found = rows(&mut self.client, &format!("SELECT k, v, last FROM lists WHERE k IN ({})", texts.join(", ")))?;
        assert_eq!(found.len(), keys.len());
        self.statements += 1;
        let statement = self.statements;
        for row in found {
            let key: Key = row[0].parse().unwrap();
            self.current.ops.push(Op::Read { key, seen: Seen::List(list(&row[1])), statement });
            let seen = Seen::Register(row[2].parse().ok());
            self.current.ops.push(Op::Read { key: key + REGISTER, seen, statement });
        }
        Ok(())
    }

    /// Appends to some lists, or writes some registers, in one statement.
    fn write(&mut self, keys: &[Key], register: bool) -> Result<(), postgres::Error> {
        let value = self.next_value.fetch_add(1, Ordering::Relaxed);
        // Noted before it is sent: it may happen although we do not hear of it.
        let shift = if register { REGISTER } else { 0 };
        self.current.ops.extend(keys.iter().map(|key| Op::Write { key: key + shift, value }));
        let set = if register {
            format!("last = {value}, trail = trail || {value}::bigint")
        } else {
            format!("v = v || {value}::bigint")
        };
        let texts: Vec<String> = keys.iter().map(Key::to_string).collect();
        self.client.batch_execute(&format!("UPDATE lists SET {set} WHERE k IN ({})", texts.join(", ")))
    }

    fn body(&mut self) -> Result<(), postgres::Error> {
        match self.random.random_range(0..10) {
            // One statement that reads.
            0 | 1 => {
                let keys = self.keys(NODES);
                self.read(&keys)
            }
            // One that writes on several nodes.
            2 => {
                let keys = self.keys(2);
                self.write(&keys, false)
            }
            // One that writes on one.
            3 if self.width == Width::Any => {
                let keys = self.keys(1);
                let register = self.random.random();
                self.write(&keys, register)
            }
            // Several that read.
            3..=5 => {
                self.client.batch_execute("BEGIN")?;
                for _ in 0..self.random.random_range(2..4) {
                    let keys = self.some_keys();
                    self.read(&keys)?;
                }
                self.client.batch_execute("COMMIT")
            }
            // What was read decides what is written.
            _ => {
                let keys = self.some_keys();
                self.client.batch_execute("BEGIN")?;
                if self.random.random() {
                    self.read(&keys)?;
                }
                for key in &keys {
                    let register = self.random.random();
                    self.write(&[*key], register)?;
                    if self.random.random_bool(0.2) {
                        self.write(&[*key], register)?;
                    }
                }
                if self.random.random_bool(0.3) {
                    self.read(&keys)?;
                }
                let end = if self.random.random_bool(0.1) { "ROLLBACK" } else { "COMMIT" };
                if end == "ROLLBACK" {
                    self.current.outcome = Outcome::Aborted;
                }
                self.client.batch_execute(end)
            }
        }
    }

    fn transaction(&mut self) {
        self.current = Transaction::committed(self.number, [self.now(), 0]);
        if let Err(error) = self.body() {
            let code = error.as_db_error().unwrap_or_else(|| panic!("{error}")).code().code().to_string();
            assert!(["40001", "40P01", "55P03", "08007"].contains(&code.as_str()), "{error:?}");
            self.current.outcome = if code == "08007" { Outcome::Unknown } else { Outcome::Aborted };
            self.client.batch_execute("ROLLBACK").unwrap();
        }
        self.current.time[1] = self.now();
        self.done.push(self.current.clone());
    }
}

impl World {
    fn client(&self) -> Client {
        match &self.servers {
            Servers::Cluster(cluster) => cluster.client(),
            Servers::Plain(plain) => plain.client(),
        }
    }

    /// What so many transactions have seen.
    fn history(&self, level: Level, reads: Reads, width: Width, transactions: usize) -> History {
        let mut client = self.client();
        client.batch_execute("UPDATE lists SET v = '{}', last = NULL, trail = '{}'").unwrap();
        let setting = match reads {
            Reads::Off => "off",
            Reads::Transactions => "transactions",
            Reads::Snapshot => "snapshot",
        };
        let level = match level {
            Level::ReadCommitted => "READ COMMITTED",
            Level::RepeatableRead => "REPEATABLE READ",
        };
        let seed = std::env::var("SHARDING_ISOLATION_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed: u64 = seed.unwrap_or_else(|| rand::rng().random_range(0..100_000));
        println!("SHARDING_ISOLATION_SEED={seed}");
        let (begun, next_value) = (Instant::now(), AtomicI64::new(1));
        let done: Vec<Transaction> = thread::scope(|scope| {
            let processes: Vec<_> = (0..PROCESSES)
                .map(|number| {
                    let mut client = self.client();
                    if self.has_setting {
                        client.batch_execute(&format!("SET sharding.consistent_reads = {setting}")).unwrap();
                    }
                    client
                        .batch_execute(&format!(
                            "SET lock_timeout = '200ms';
                             SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL {level}"
                        ))
                        .unwrap();
                    let mut process = Process {
                        number,
                        client,
                        random: ChaCha8Rng::seed_from_u64(seed * 100 + number as u64),
                        world: self,
                        width,
                        begun,
                        next_value: &next_value,
                        current: Transaction::committed(number, [0, 0]),
                        statements: 0,
                        done: Vec::new(),
                    };
                    scope.spawn(move || {
                        while process.done.len() < transactions / PROCESSES {
                            process.transaction();
                        }
                        process.done
                    })
                })
                .collect();
            processes.into_iter().flat_map(|process| process.join().unwrap()).collect()
        });
        let mut finals = BTreeMap::new();
        for row in rows(&mut client, "SELECT k, v, trail FROM lists").unwrap() {
            let key: Key = row[0].parse().unwrap();
            finals.insert(key, list(&row[1]));
            finals.insert(key + REGISTER, list(&row[2]));
        }
        History { transactions: done, finals }
    }

    /// Makes a history and fails if it has what it must not have; the kinds of anomalies that it may have and has.
    fn judge(&self, level: Level, reads: Reads, width: Width, transactions: usize) -> Vec<Kind> {
        let begun = Instant::now();
        let history = self.history(level, reads, width, transactions);
        let ran = begun.elapsed();
        let mut forbidden = NEVER.to_vec();
        let mut in_statement = Vec::new();
        if level == Level::RepeatableRead {
            forbidden.push(Kind::LostUpdate);
        }
        let promised: &[Kind] = match (&self.servers, reads, width) {
            (Servers::Plain(_), ..) => &NO_SNAPSHOT,
            (_, Reads::Off, _) => &[],
            _ if !self.has_setting => &[],
            (_, Reads::Transactions, Width::Any) => &[Kind::FracturedRead],
            (_, Reads::Transactions, Width::Wide) | (_, Reads::Snapshot, _) => &NO_SNAPSHOT,
        };
        match level {
            Level::RepeatableRead => forbidden.extend(promised),
            Level::ReadCommitted => in_statement.extend(promised),
        }
        let found = anomalies(&history);
        let by_statement = anomalies(&history.by_statement());
        let count = |outcome| history.transactions.iter().filter(|t| t.outcome == outcome).count();
        println!(
            "{level:?}, {reads:?}, {width:?}: {} committed, {} rolled back in {ran:?}; {:?}; in a statement {:?}; judged in {:?}",
            count(Outcome::Committed),
            count(Outcome::Aborted),
            tally(&found),
            tally(&by_statement),
            begun.elapsed() - ran,
        );
        assert!(count(Outcome::Committed) > transactions / 3);
        let wrong = found.iter().filter(|anomaly| forbidden.contains(&anomaly.kind));
        let wrong_in_statement = by_statement.iter().filter(|anomaly| in_statement.contains(&anomaly.kind));
        if let Some(Anomaly { kind, story }) = wrong.chain(wrong_in_statement).next() {
            panic!("{kind:?} with {level:?}, consistent reads {reads:?}, {width:?}\n{story}");
        }
        found.iter().map(|anomaly| anomaly.kind).collect()
    }
}

fn tally(found: &[Anomaly]) -> BTreeMap<Kind, usize> {
    let mut tally = BTreeMap::new();
    for anomaly in found {
        *tally.entry(anomaly.kind).or_default() += 1;
    }
    tally
}

const LEVELS: [Level; 2] = [Level::ReadCommitted, Level::RepeatableRead];

/// What is no anomaly is not taken for one.
#[test]
fn one_server_passes_for_right() {
    let world = start_plain();
    for level in LEVELS {
        world.judge(level, Reads::Snapshot, Width::Any, 900);
    }
}

/// Also shows that the workload finds anomalies where there are some.
#[test]
fn nothing_is_dirty_or_lost_without_consistent_reads() {
    let world = start();
    for level in LEVELS {
        let halves = |_| world.judge(level, Reads::Off, Width::Any, 600).contains(&Kind::FracturedRead);
        assert!((0..5).any(halves), "the workload is too tame");
    }
}

#[test]
fn a_transaction_is_seen_on_all_nodes_or_on_none() {
    let world = start();
    for level in LEVELS {
        world.judge(level, Reads::Transactions, Width::Any, 600);
        world.judge(level, Reads::Transactions, Width::Wide, 600);
    }
}

#[test]
fn snapshots_are_in_one_order() {
    let world = start();
    for level in LEVELS {
        world.judge(level, Reads::Snapshot, Width::Any, 600);
    }
}

#[test]
#[ignore = "takes minutes"]
fn histories_for_long() {
    let world = start();
    for _ in 0..2 {
        for level in LEVELS {
            for (reads, width) in [
                (Reads::Off, Width::Any),
                (Reads::Transactions, Width::Any),
                (Reads::Transactions, Width::Wide),
                (Reads::Snapshot, Width::Any),
            ] {
                world.judge(level, reads, width, 3_000);
            }
        }
    }
}

/// As documented, and as on one server: each of two transactions reads what the other one writes.
#[test]
fn write_skew_is_possible_in_repeatable_read() {
    let world = start();
    let (x, y) = (world.keys[0][0], world.keys[1][0]);
    let mut clients = [world.client(), world.client()];
    let read = |client: &mut Client| {
        let found = rows(client, &format!("SELECT k, v FROM lists WHERE k IN ({x}, {y})")).unwrap();
        found.iter().map(|row| (row[0].parse::<Key>().unwrap(), list(&row[1]))).collect::<BTreeMap<_, _>>()
    };
    let mut transactions = Vec::new();
    for (process, client) in clients.iter_mut().enumerate() {
        client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ").unwrap();
        let seen = read(client);
        transactions.push(Transaction::committed(process, [1, 2]).read(x, &seen[&x]).read(y, &seen[&y]));
    }
    for (process, (client, key)) in clients.iter_mut().zip([x, y]).enumerate() {
        client.batch_execute(&format!("UPDATE lists SET v = v || 1::bigint WHERE k = {key}")).unwrap();
        transactions[process] = transactions[process].clone().write(key, 1);
    }
    clients.iter_mut().for_each(|client| client.batch_execute("COMMIT").unwrap());
    let history = History { transactions, finals: read(&mut clients[0]) };
    let kinds: Vec<Kind> = anomalies(&history).into_iter().map(|anomaly| anomaly.kind).collect();
    assert_eq!(kinds, [Kind::WriteSkew]);
}
