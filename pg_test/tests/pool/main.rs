//! The connection pool on real servers: limits, waits, deaths, and that nothing leaks.
//!
//! | file | what it shows |
//! |---|---|
//! | `limits` | connections are shared, limited, waited for in order, and no wait is for ever |
//! | `deaths` | what clients, workers and nodes that die leave behind: nothing |
//! | `sessions` | nothing of one session is seen by another |
//! | `retirement` | connections are closed when they are not needed, and kept where they are |
//! | `leases` | however many leases: no descriptor, memory or slot is lost |
//! | `views` | who may see what |

mod deaths;
mod leases;
mod limits;
mod processes;
mod retirement;
mod sessions;
mod views;

use pg_test::harness::{Cluster, Settings};
use postgres::error::DbError;
use postgres::{Client, SimpleQueryMessage};
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
