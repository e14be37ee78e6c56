//! A bank whose accounts are on different nodes: whatever amounts are on their way, every sum is exact, also
//! while nodes are restarted and killed.
//!
//! Eight clients transfer, others add up all balances: in one statement, in one with several scans, in two
//! statements of a REPEATABLE READ transaction. `SHARDING_BANK_TRANSFERS=20000` makes a test longer.

use pg_test::harness::{Cluster, Settings, Shutdown, settle};
use postgres::Client;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const NODES: usize = 3;
const ACCOUNTS: i32 = 60;
const TOTAL: i64 = ACCOUNTS as i64 * 1000;
const CLIENTS: u64 = 8;

/// Queries that return one number or more, each of which is the total.
const STATEMENTS: [&str; 6] = [
    "SELECT sum(balance) FROM accounts",
    // Two scans, planned apart from each other.
    "SELECT (SELECT sum(balance) FROM accounts), (SELECT sum(balance) FROM accounts WHERE id > 0)",
    "SELECT sum(a.balance), sum(b.balance) FROM accounts a JOIN accounts b USING (id)",
    "WITH a AS MATERIALIZED (SELECT id, balance FROM accounts), b AS MATERIALIZED (SELECT id, balance FROM accounts)
     SELECT (SELECT sum(balance) FROM a), (SELECT sum(balance) FROM b)",
    // Joined here, by another column than the key.
    "SELECT sum(a.balance), sum(b.balance) FROM accounts a JOIN accounts b ON b.number = a.number",
    "SELECT sum(balance) FROM (SELECT balance FROM accounts ORDER BY number LIMIT 1000) s",
];

fn start(coordinator: &str) -> Cluster {
    let cluster = Cluster::start_with(NODES, Settings { coordinator, node: "" });
    cluster
        .client()
        .batch_execute(&format!(
            "CREATE TABLE accounts (id int PRIMARY KEY, number int NOT NULL, balance bigint NOT NULL, moves int NOT NULL);
             SELECT sharding.distribute_table('accounts', 'id', 12);
             INSERT INTO accounts SELECT i, -i, 1000, 0 FROM generate_series(1, {ACCOUNTS}) i;
             ANALYZE accounts"
        ))
        .unwrap();
    cluster
}

/// Whether reads of several nodes can be asked to be consistent.
fn has_setting(client: &mut Client) -> bool {
    let sql = "SELECT count(*) FROM pg_settings WHERE name = 'sharding.consistent_reads'";
    client.query_one(sql, &[]).unwrap().get::<_, i64>(0) == 1
}

fn code(error: &postgres::Error) -> String {
    error.as_db_error().unwrap_or_else(|| panic!("{error}")).code().code().to_string()
}

/// What may go wrong while nodes go down: connections, transactions, waits for locks of those who are in doubt.
fn may_fail(error: &postgres::Error) {
    let code = code(error);
    assert!(["08", "57", "40", "53", "55"].contains(&&code[..2]), "{error:?}");
}

#[derive(Default)]
struct Books {
    transfers: AtomicI64,
    unknown: AtomicI64,
    failed: AtomicI64,
    sums: AtomicUsize,
    unread: AtomicUsize,
    wrong: AtomicUsize,
}

fn transfer(client: &mut Client, random: &mut ChaCha8Rng, books: &Books) {
    let (a, b) = (random.random_range(1..=ACCOUNTS), random.random_range(1..=ACCOUNTS));
    if a == b {
        return;
    }
    let amount: i64 = random.random_range(-50..=50);
    let (first, second) = (a.min(b), a.max(b));
    let result = client.batch_execute(&format!(
        "BEGIN; UPDATE accounts SET balance = balance - {amount}, moves = moves + 1 WHERE id = {first};
         UPDATE accounts SET balance = balance + {amount}, moves = moves + 1 WHERE id = {second}; COMMIT"
    ));
    match result {
        Ok(()) => drop(books.transfers.fetch_add(1, Ordering::Relaxed)),
        Err(error) => {
            may_fail(&error);
            let unknown = code(&error) == "08007";
            if unknown { &books.unknown } else { &books.failed }.fetch_add(1, Ordering::Relaxed);
            client.batch_execute("ROLLBACK").unwrap();
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The numbers of a query's only row.
fn numbers(client: &mut Client, sql: &str) -> Result<Vec<i64>, postgres::Error> {
    let messages = client.simple_query(sql)?;
    let row = messages.iter().find_map(|message| match message {
        postgres::SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let row = row.unwrap_or_else(|| panic!("{sql}: no row"));
    Ok((0..row.len()).map(|i| row.get(i).and_then(|n| n.parse().ok()).unwrap_or(-1)).collect())
}

fn add_up(client: &mut Client, random: &mut ChaCha8Rng, books: &Books) -> Result<(), postgres::Error> {
    let check = |numbers: Vec<i64>, what: &str| {
        books.sums.fetch_add(1, Ordering::Relaxed);
        if numbers.iter().any(|number| *number != TOTAL) {
            println!("{what}: {numbers:?}");
            books.wrong.fetch_add(1, Ordering::Relaxed);
        }
    };
    let sql = STATEMENTS[random.random_range(0..STATEMENTS.len())];
    if random.random() {
        check(numbers(client, sql)?, sql);
        return Ok(());
    }
    client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ")?;
    // One node first, the others later: they must not be ahead.
    let id = random.random_range(1..=ACCOUNTS);
    let one = numbers(client, &format!("SELECT balance, moves FROM accounts WHERE id = {id}"))?;
    thread::sleep(Duration::from_millis(random.random_range(0..15)));
    check(numbers(client, sql)?, "the first query of a transaction");
    thread::sleep(Duration::from_millis(random.random_range(0..15)));
    check(numbers(client, "SELECT sum(balance) FROM accounts")?, "the second query of a transaction");
    let again = numbers(client, &format!("SELECT balance, moves FROM accounts WHERE id = {id}"))?;
    if one != again {
        println!("account {id} was {one:?}, then {again:?}");
        books.wrong.fetch_add(1, Ordering::Relaxed);
    }
    client.batch_execute("COMMIT")
}

/// Runs so many transfers, with nodes going down if `trouble`; how often sums were wrong.
fn open_the_bank(cluster: &mut Cluster, transfers: i64, trouble: bool) -> usize {
    let books = Books::default();
    let closed = AtomicBool::new(false);
    let begun = Instant::now();
    thread::scope(|scope| {
        let mut counters = Vec::new();
        for n in 0..CLIENTS {
            let (mut client, books) = (cluster.client(), &books);
            counters.push(scope.spawn(move || {
                let mut random = ChaCha8Rng::seed_from_u64(n);
                client.batch_execute("SET lock_timeout = '3s'; SET statement_timeout = '20s'").unwrap();
                while books.transfers.load(Ordering::Relaxed) < transfers {
                    transfer(&mut client, &mut random, books);
                }
            }));
        }
        for n in 0..3 {
            let (mut client, books, closed) = (cluster.client(), &books, &closed);
            scope.spawn(move || {
                let mut random = ChaCha8Rng::seed_from_u64(1000 + n);
                client.batch_execute("SET statement_timeout = '20s'").unwrap();
                while !closed.load(Ordering::Relaxed) {
                    if let Err(error) = add_up(&mut client, &mut random, books) {
                        may_fail(&error);
                        books.unread.fetch_add(1, Ordering::Relaxed);
                        client.batch_execute("ROLLBACK").unwrap();
                        thread::sleep(Duration::from_millis(10));
                    }
                }
            });
        }
        let (mut janitor, closed) = (cluster.client(), &closed);
        scope.spawn(move || {
            while !closed.load(Ordering::Relaxed) {
                // It fails while a node is being stopped.
                let _ = janitor.batch_execute("SELECT * FROM sharding.recover_transactions()");
                thread::sleep(Duration::from_millis(100));
            }
        });
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let mut incidents: BTreeMap<&str, usize> = BTreeMap::new();
        while counters.iter().any(|counter| !counter.is_finished()) {
            thread::sleep(Duration::from_millis(50));
            if !trouble || !random.random_bool(0.05) {
                continue;
            }
            let node = random.random_range(1..=NODES);
            let how = match random.random_range(0..3) {
                0 => {
                    cluster.node_mut(node).kill();
                    "killed"
                }
                1 => {
                    cluster.node_mut(node).stop(Shutdown::Immediate);
                    "crashed"
                }
                _ => {
                    cluster.node_mut(node).stop(Shutdown::Fast);
                    "stopped"
                }
            };
            *incidents.entry(how).or_default() += 1;
            thread::sleep(Duration::from_millis(random.random_range(0..400)));
            cluster.node_mut(node).start();
        }
        closed.store(true, Ordering::Relaxed);
        println!("nodes: {incidents:?}");
    });
    let took = begun.elapsed();
    settle(cluster, Duration::from_secs(30));

    let count = |counter: &AtomicI64| counter.load(Ordering::Relaxed);
    let (sums, wrong) = (books.sums.load(Ordering::Relaxed), books.wrong.load(Ordering::Relaxed));
    println!(
        "{} transfers in {took:?}, {} of unknown outcome, {} failed; {sums} sums, {wrong} wrong, {} failed",
        count(&books.transfers),
        count(&books.unknown),
        count(&books.failed),
        books.unread.load(Ordering::Relaxed),
    );
    let mut client = cluster.client();
    let moved = numbers(&mut client, "SELECT sum(balance), sum(moves) FROM accounts").unwrap();
    assert_eq!(moved[0], TOTAL);
    let least = 2 * count(&books.transfers);
    assert!((least..=least + 2 * count(&books.unknown)).contains(&moved[1]), "{} moves instead of {least}", moved[1]);
    assert!(sums > 20);
    wrong
}

fn transfers(usual: i64) -> i64 {
    std::env::var("SHARDING_BANK_TRANSFERS").ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

fn bank(consistent_reads: &str, transfers: i64, trouble: bool) {
    let mut cluster = start("");
    if !has_setting(&mut cluster.client()) {
        let wrong = open_the_bank(&mut cluster, transfers, trouble);
        println!("reads cannot be made consistent yet: {wrong} sums were wrong");
        return;
    }
    cluster
        .client()
        .batch_execute(&format!("ALTER DATABASE app SET sharding.consistent_reads = '{consistent_reads}'"))
        .unwrap();
    assert_eq!(open_the_bank(&mut cluster, transfers, trouble), 0, "sums were wrong");
}

#[test]
fn every_sum_is_exact() {
    bank("transactions", transfers(1500), false);
}

#[test]
fn every_sum_is_exact_while_nodes_go_down() {
    bank("transactions", transfers(1200), true);
}

#[test]
fn every_sum_is_exact_with_snapshots() {
    bank("snapshot", transfers(500), true);
}

#[test]
#[ignore = "takes minutes"]
fn every_sum_is_exact_for_long() {
    bank("transactions", transfers(20_000), true);
    bank("snapshot", transfers(20_000), true);
}
