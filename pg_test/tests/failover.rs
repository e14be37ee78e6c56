//! A node that is a primary with a streaming standby: when the primary dies and the standby is promoted, the coordinator
//! goes on with it, and nothing has to be changed. What has become a standby is never taken for the node.

use pg_test::harness::{Build, Scratch, Server, Shutdown};
use postgres::Client;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(15);

struct Servers {
    coordinator: Server,
    primary: Server,
    standby: Server,
    other: Server,
    _scratch: Scratch,
}

/// Node `n1` is the primary with its standby, which is named first; `n2` has no standby.
fn start(options: &str) -> Servers {
    let scratch = Scratch::new();
    let primary = Server::create(&scratch, "primary", Build::Stock, "hot_standby = on");
    let other = Server::create(&scratch, "other", Build::Stock, "");
    let coordinator = Server::create(&scratch, "coordinator", Build::Coordinator, "sharding.connect_timeout = 2");
    let standby = Server::standby(&scratch, "standby", &primary);
    let mut client = coordinator.client();
    client
        .batch_execute(&format!(
            "CREATE EXTENSION sharding;
             CREATE SERVER n1 FOREIGN DATA WRAPPER sharding
                 OPTIONS (host '127.0.0.1,127.0.0.1', port '{},{}', dbname 'app'{options});
             CREATE USER MAPPING FOR PUBLIC SERVER n1 OPTIONS (user 'postgres');
             SELECT sharding.check_node('n1');
             SELECT sharding.add_node('n2', '127.0.0.1', {}, 'app', 'postgres')",
            standby.port(),
            primary.port(),
            other.port()
        ))
        .unwrap();
    client
        .batch_execute(
            "CREATE TABLE t (id int PRIMARY KEY, v int);
             SELECT sharding.distribute_table('t', 'id', 8);
             INSERT INTO t SELECT i, 0 FROM generate_series(1, 100) i",
        )
        .unwrap();
    Servers { coordinator, primary, standby, other, _scratch: scratch }
}

impl Servers {
    /// Waits until the standby has all that the primary has.
    fn catch_up(&self) {
        let position: String =
            self.primary.client().query_one("SELECT pg_current_wal_lsn()::text", &[]).unwrap().get(0);
        let sql = format!("SELECT pg_last_wal_replay_lsn() >= '{position}'");
        within(LIMIT, || self.standby.client().query_one(&sql, &[]).unwrap().get(0));
    }

    fn promote(&self) {
        let promoted: bool = self.standby.client().query_one("SELECT pg_promote()", &[]).unwrap().get(0);
        assert!(promoted, "{}", self.standby.log());
    }
}

/// How long it took to hold.
fn within(limit: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < limit, "not within {limit:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    start.elapsed()
}

fn number(client: &mut Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
}

/// The port of the server that stands for `n1`.
fn server_of_n1(client: &mut Client) -> String {
    assert!(number(client, "SELECT count(*) FROM t") >= 100);
    let sql = "SELECT server FROM sharding.connections WHERE node = 'n1' ORDER BY age LIMIT 1";
    let server: String = client.query_one(sql, &[]).unwrap().get(0);
    server.strip_prefix("127.0.0.1 port ").expect("an address").to_string()
}

#[test]
fn the_promoted_standby_takes_over() {
    let mut servers = start("");
    let mut client = servers.coordinator.client();
    let mut in_transaction = servers.coordinator.client();
    assert_eq!(server_of_n1(&mut client), servers.primary.port().to_string(), "the standby is named first");
    in_transaction.batch_execute("BEGIN; UPDATE t SET v = 1").unwrap();
    let twice = format!("SELECT sharding.add_node('n3', '127.0.0.1', {}, 'app', 'postgres')", servers.primary.port());
    let error = client.batch_execute(&twice).unwrap_err();
    assert!(format!("{error:?}").contains("are the same database"), "{error:?}");
    servers.catch_up();
    servers.primary.kill();

    // Nobody is the node for a while; the error names both.
    let mut detail = String::new();
    within(LIMIT, || {
        let error = client.query_one("SELECT count(*) FROM t", &[]).unwrap_err();
        let error = error.as_db_error().unwrap();
        detail = error.detail().unwrap_or_default().to_string();
        error.code().code() == "08001"
    });
    for words in [
        format!(
            "127.0.0.1 port {}: the server is a standby, and target_session_attrs is read-write.",
            servers.standby.port()
        ),
        format!("127.0.0.1 port {}: Connection refused", servers.primary.port()),
    ] {
        assert!(detail.contains(&words), "{detail}\nlacks: {words}");
    }
    assert!(in_transaction.batch_execute("COMMIT").is_err());

    servers.promote();
    let took = within(LIMIT, || client.query_one("SELECT count(*) FROM t", &[]).is_ok());
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(server_of_n1(&mut client), servers.standby.port().to_string());
    assert_eq!(number(&mut client, "SELECT sum(v)::int8 FROM t"), 0, "of the transaction nothing is left");
    client.batch_execute("UPDATE t SET v = 2; INSERT INTO t SELECT i, 2 FROM generate_series(101, 200) i").unwrap();
    in_transaction.batch_execute("ROLLBACK; INSERT INTO t VALUES (1000, 2)").unwrap();
    assert_eq!(number(&mut client, "SELECT sum(v)::int8 FROM t"), 402);
    assert_eq!(number(&mut servers.other.client(), "SELECT count(*) FROM pg_prepared_xacts"), 0);

    // The old one comes back as a standby: nobody reads from it.
    std::fs::write(servers.primary.data_directory().join("standby.signal"), "").unwrap();
    servers.primary.start();
    client
        .batch_execute(&format!(
            "ALTER SERVER n1 OPTIONS (SET port '{},{}')",
            servers.primary.port(),
            servers.standby.port()
        ))
        .unwrap();
    assert_eq!(server_of_n1(&mut client), servers.standby.port().to_string());
    assert_eq!(number(&mut client, "SELECT sum(v)::int8 FROM t"), 402);
}

#[test]
fn a_planned_switch_loses_nothing() {
    let mut servers = start("");
    let mut client = servers.coordinator.client();
    client.batch_execute("UPDATE t SET v = 7").unwrap();
    // A fast shutdown waits until the standby has everything.
    servers.primary.stop(Shutdown::Fast);
    servers.promote();
    within(LIMIT, || client.query_one("SELECT count(*) FROM t", &[]).is_ok());
    assert_eq!(number(&mut client, "SELECT sum(v)::int8 FROM t"), 700);
    client.batch_execute("BEGIN; UPDATE t SET v = 8; COMMIT").unwrap();
    assert_eq!(number(&mut client, "SELECT sum(v)::int8 FROM t"), 800);
}

#[test]
fn other_targets_find_other_servers() {
    let servers = start("");
    let mut client = servers.coordinator.client();
    servers.catch_up();
    let (primary, standby) = (servers.primary.port().to_string(), servers.standby.port().to_string());
    let mut admin = servers.coordinator.client();
    let mut set = |target: &str| {
        admin.batch_execute(&format!("ALTER SERVER n1 OPTIONS (SET target_session_attrs '{target}')")).unwrap();
    };
    // On a standby a transaction must say that it is read-only.
    client
        .batch_execute(
            "ALTER SERVER n1 OPTIONS (ADD target_session_attrs 'any');
             SET default_transaction_read_only = on",
        )
        .unwrap();
    for (target, expected) in [
        ("primary", &primary),
        ("read-write", &primary),
        ("standby", &standby),
        ("read-only", &standby),
        ("prefer-standby", &standby),
        ("any", &standby),
    ] {
        set(target);
        assert_eq!(&server_of_n1(&mut client), expected, "{target}");
        let shown: String =
            client.query_one("SELECT target_session_attrs FROM sharding.nodes WHERE name = 'n1'", &[]).unwrap().get(0);
        assert_eq!(shown, target);
    }
    // With the wrong one rows are read; after a write that it refuses, the next transaction looks again.
    assert_eq!(number(&mut client, "SELECT count(*) FROM t"), 100);
    client.batch_execute("SET default_transaction_read_only = off").unwrap();
    let refused = (1..=20).find_map(|id| client.batch_execute(&format!("UPDATE t SET v = 1 WHERE id = {id}")).err());
    assert_eq!(refused.expect("some row is on n1").code().unwrap().code(), "25006");
    // The client hears of the error before its backend has cleaned up.
    let idle = "SELECT count(*) FROM sharding.connections WHERE node = 'n1' AND state IN ('idle', 'leased')";
    within(LIMIT, || number(&mut client, idle) == 0);
    client.batch_execute("SET default_transaction_read_only = on").unwrap();
    assert_eq!(number(&mut client, "SELECT count(*) FROM t"), 100);
}

#[test]
fn a_host_that_does_not_answer_costs_its_timeout_only() {
    // A listener that accepts nobody: the kernel does, and then there is silence.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let scratch = Scratch::new();
    let node = Server::create(&scratch, "node", Build::Stock, "");
    let coordinator = Server::create(&scratch, "coordinator", Build::Coordinator, "");
    let mut client = coordinator.client();
    let began = Instant::now();
    client
        .batch_execute(&format!(
            "CREATE EXTENSION sharding;
             CREATE SERVER n1 FOREIGN DATA WRAPPER sharding OPTIONS (host 'nowhere.invalid,127.0.0.1,127.0.0.1',
                 port '1,{},{}', dbname 'app', connect_timeout '1');
             CREATE USER MAPPING FOR PUBLIC SERVER n1 OPTIONS (user 'postgres');
             SELECT sharding.check_node('n1');
             CREATE TABLE t (id int); SELECT sharding.distribute_table('t', 'id', 4);
             INSERT INTO t SELECT generate_series(1, 100)",
            silent.local_addr().unwrap().port(),
            node.port()
        ))
        .unwrap();
    assert!(began.elapsed() > Duration::from_secs(1) && began.elapsed() < Duration::from_secs(10));
    assert_eq!(server_of_n1(&mut client), node.port().to_string());
}
