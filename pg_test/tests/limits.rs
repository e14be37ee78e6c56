//! Guard rails, statistics that come by themselves, and what EXPLAIN says of rows that are shipped.

use pg_test::harness::{Cluster, Settings};
use postgres::error::SqlState;
use postgres::{Client, SimpleQueryMessage};
use std::time::{Duration, Instant};

fn lines(client: &mut Client, sql: &str) -> String {
    let messages = client.simple_query(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    rows.collect::<Vec<_>>().join("\n")
}

fn start() -> (Cluster, Client) {
    let cluster = Cluster::start(2);
    let mut here = cluster.client();
    here.batch_execute(
        "CREATE TABLE big (id int PRIMARY KEY, part int, v int);
         CREATE TABLE small (id int PRIMARY KEY, name text, kind int);
         CREATE TABLE local (id int PRIMARY KEY, name text);
         SELECT sharding.distribute_table('big', 'id', 8);
         SELECT sharding.distribute_table('small', 'id', 4);
         INSERT INTO big SELECT i, i % 500, i % 7 FROM generate_series(1, 20000) i;
         INSERT INTO small SELECT i, 'n' || i, i % 10 FROM generate_series(1, 500) i;
         INSERT INTO local SELECT i, 'n' || i FROM generate_series(1, 5) i;
         ANALYZE",
    )
    .unwrap();
    (cluster, here)
}

#[test]
fn the_smaller_side_of_a_join_is_shipped_where_that_costs_less() {
    let (_cluster, mut here) = start();
    for sql in [
        "SELECT count(*) FROM big b JOIN small s ON s.id = b.part WHERE s.kind = 3",
        "SELECT s.name, sum(b.v) FROM big b JOIN small s ON s.id = b.part GROUP BY s.name",
        "SELECT count(*) FROM big b JOIN local l ON l.id = b.part",
        "SELECT count(*) FROM big b LEFT JOIN local l ON l.id = b.part WHERE l.name IS NULL",
        "SELECT count(*) FROM big b WHERE b.part IN (SELECT id FROM small WHERE kind = 3)",
        "SELECT count(*) FROM big b WHERE NOT EXISTS (SELECT 1 FROM small s WHERE s.id = b.part)",
    ] {
        let text = lines(&mut here, &format!("EXPLAIN (COSTS OFF) {sql}"));
        assert!(text.contains("Tier: pushdown") && text.to_lowercase().contains("unnest($"), "{sql}\n{text}");
        let pushed = lines(&mut here, sql);
        here.batch_execute("SET sharding.ship_joins = off").unwrap();
        let text = lines(&mut here, &format!("EXPLAIN (COSTS OFF) {sql}"));
        assert!(!text.to_lowercase().contains("unnest($"), "{sql}\n{text}");
        let mut joined: Vec<String> = lines(&mut here, sql).lines().map(str::to_owned).collect();
        let mut pushed: Vec<String> = pushed.lines().map(str::to_owned).collect();
        joined.sort();
        pushed.sort();
        assert_eq!(joined, pushed, "{sql}");
        here.batch_execute("RESET sharding.ship_joins").unwrap();
    }
}

#[test]
fn what_is_too_large_is_not_shipped() {
    let (_cluster, mut here) = start();
    let sql = "EXPLAIN (COSTS OFF) SELECT count(*) FROM big a JOIN big b ON b.part = a.v";
    here.batch_execute("SET sharding.ship_joins = always").unwrap();
    let text = lines(&mut here, sql);
    assert!(text.to_lowercase().contains("unnest($"), "{text}");
    here.batch_execute("SET sharding.max_shipped_size = '64kB'").unwrap();
    let text = lines(&mut here, sql);
    assert!(!text.to_lowercase().contains("unnest($"), "{text}");
}

#[test]
fn rows_go_to_the_node_of_their_value_where_they_are_joined_on_the_shard_key() {
    let (_cluster, mut here) = start();
    here.batch_execute("SET sharding.ship_joins = always").unwrap();
    let kinds = [
        ("SELECT count(*) FROM small s JOIN big b ON b.part = s.id WHERE b.id < 40", "by key"),
        ("SELECT count(*) FROM big b LEFT JOIN local l ON l.id = b.id", "by key"),
        // The row is kept once, on the node of its value.
        ("SELECT count(*) FROM local l LEFT JOIN big b ON b.id = l.id", "by key"),
        ("SELECT count(*) FROM local l FULL JOIN big b ON b.id = l.id", "by key"),
        ("SELECT count(*) FROM local l WHERE NOT EXISTS (SELECT FROM big b WHERE b.id = l.id AND b.v = 3)", "by key"),
        ("SELECT count(*) FROM big b WHERE b.id IN (SELECT id FROM local)", "by key"),
        // Its absence has to be known to all.
        ("SELECT count(*) FROM big b WHERE b.id NOT IN (SELECT id FROM local)", "to all nodes"),
        ("SELECT count(*) FROM big b JOIN local l ON l.id = b.part", "to all nodes"),
        ("SELECT count(*) FROM big b JOIN local l ON l.id > b.id", "to all nodes"),
    ];
    for (sql, how) in kinds {
        let text = lines(&mut here, &format!("EXPLAIN (COSTS OFF) {sql}"));
        assert!(text.contains(&format!("Rows Sent: shipped 1 {how}")), "{sql}\n{text}");
        assert!(!text.contains("joined here"), "{sql}\n{text}");
    }
    let text = lines(&mut here, &format!("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {}", kinds[1].0));
    assert!(text.contains("Rows Sent: shipped 1 by key (rows=5)"), "{text}");
    here.batch_execute("SET sharding.enable_ship_by_key = off").unwrap();
    let text = lines(&mut here, &format!("EXPLAIN (COSTS OFF) {}", kinds[1].0));
    assert!(text.contains("Rows Sent: shipped 1 to all nodes"), "{text}");
    let text = lines(&mut here, &format!("EXPLAIN (COSTS OFF) {}", kinds[2].0));
    assert!(!text.contains("Rows Sent"), "{text}");
}

#[test]
fn a_join_whose_rows_prove_too_many_to_be_sent_is_done_here() {
    let (_cluster, mut here) = start();
    here.batch_execute("SET sharding.ship_joins = always; SET sharding.max_shipped_size = '64kB'").unwrap();
    // One row of 200 by estimate, and all of them.
    let sql = "SELECT s.kind, count(*), sum(b.v) FROM small s JOIN big b ON b.part = s.id
               WHERE (b.id + 0) / 20001 = 0 GROUP BY s.kind ORDER BY 1";
    let text = lines(&mut here, &format!("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {sql}"));
    assert!(text.contains("Rows Sent: none, there are more than expected"), "{text}");
    assert!(text.contains("CTE joined here"), "{text}");
    let answer = |here: &mut Client| -> Vec<(i32, i64, i64)> {
        here.query(sql, &[]).unwrap().iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
    };
    let found = answer(&mut here);
    assert_eq!(found.iter().map(|(_, count, _)| count).sum::<i64>(), 19_960);
    // A transaction that reads only, and one that writes to all nodes before and after.
    here.batch_execute("BEGIN READ ONLY").unwrap();
    assert_eq!(answer(&mut here), found);
    here.batch_execute("COMMIT; BEGIN; INSERT INTO big SELECT i, 7, 0 FROM generate_series(30001, 30020) i").unwrap();
    assert_eq!(answer(&mut here), found);
    here.batch_execute("DELETE FROM big WHERE id > 30000; COMMIT").unwrap();
    here.batch_execute(
        "CREATE TABLE kinds (kind int, n int8, sum int8); SELECT sharding.distribute_table('kinds', 'kind')",
    )
    .unwrap();
    here.batch_execute(&format!("INSERT INTO kinds {sql}")).unwrap();
    here.batch_execute("SET sharding.ship_joins = off").unwrap();
    assert_eq!(answer(&mut here), found);
    assert_eq!(here.query_one("SELECT sum(n)::int8 FROM kinds", &[]).unwrap().get::<_, i64>(0), 19_960);
}

#[test]
fn shipped_rows_are_those_of_the_statements_snapshot() {
    let (_cluster, mut here) = start();
    here.batch_execute(
        "SET sharding.ship_joins = always;
         BEGIN; INSERT INTO local VALUES (499, 'mine'); INSERT INTO small VALUES (1000, 'mine', 3);
         UPDATE big SET part = 1000 WHERE id = 7",
    )
    .unwrap();
    let count = |here: &mut Client, sql: &str| here.query_one(sql, &[]).unwrap().get::<_, i64>(0);
    assert_eq!(count(&mut here, "SELECT count(*) FROM big b JOIN local l ON l.id = b.part WHERE l.name = 'mine'"), 40);
    assert_eq!(count(&mut here, "SELECT count(*) FROM big b JOIN small s ON s.id = b.part WHERE s.name = 'mine'"), 1);
    here.batch_execute("ROLLBACK").unwrap();
    assert_eq!(count(&mut here, "SELECT count(*) FROM big b JOIN small s ON s.id = b.part WHERE s.name = 'mine'"), 0);
}

#[test]
fn statements_that_need_all_shards_can_be_refused() {
    let (_cluster, mut here) = start();
    here.batch_execute("SET sharding.cross_shard_queries = error").unwrap();
    for sql in ["SELECT count(*) FROM big", "SELECT id FROM big WHERE v = 3", "UPDATE big SET v = 1 WHERE v = 3"] {
        let error = here.batch_execute(sql).unwrap_err();
        let error = error.as_db_error().unwrap();
        assert_eq!(*error.code(), SqlState::FEATURE_NOT_SUPPORTED, "{sql}");
        assert_eq!(error.message(), "statement needs all shards of table \"public.big\"");
        assert!(error.hint().unwrap().contains("\"id\""), "{:?}", error.hint());
        here.batch_execute(&format!("EXPLAIN {sql}")).unwrap();
    }
    for sql in [
        "SELECT v FROM big WHERE id = 3",
        "SELECT v FROM big WHERE id IN (3, 4, 5)",
        "SELECT b.v FROM big b JOIN local l ON l.id = b.id WHERE b.id = 4",
        "UPDATE big SET v = 1 WHERE id = 3",
        "INSERT INTO big VALUES (100001, 1, 1), (100002, 1, 1)",
    ] {
        here.batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    here.batch_execute("SET sharding.cross_shard_queries = warn; SELECT count(*) FROM big").unwrap();
    here.batch_execute("RESET sharding.cross_shard_queries; SELECT count(*) FROM big").unwrap();
}

#[test]
fn a_setting_of_the_role_holds_for_prepared_statements_too() {
    let (_cluster, mut here) = start();
    here.batch_execute("PREPARE all_of_it AS SELECT count(*) FROM big; EXECUTE all_of_it").unwrap();
    here.batch_execute("SET sharding.cross_shard_queries = error").unwrap();
    let error = here.batch_execute("EXECUTE all_of_it").unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::FEATURE_NOT_SUPPORTED));
}

#[test]
fn a_statement_gets_no_more_rows_than_it_may() {
    let (_cluster, mut here) = start();
    here.batch_execute("SET sharding.max_result_rows = 700; SET sharding.ship_joins = off").unwrap();
    for sql in ["SELECT * FROM big", "SELECT count(random() + id) FROM big", "SELECT a.id FROM small a, small b"] {
        let error = here.simple_query(sql).unwrap_err();
        let error = error.as_db_error().unwrap();
        assert_eq!(*error.code(), SqlState::PROGRAM_LIMIT_EXCEEDED, "{sql}");
        assert!(error.message().contains("more than 700 rows"), "{}", error.message());
    }
    here.simple_query("SELECT * FROM small").unwrap();
    here.simple_query("SELECT * FROM small").unwrap();
    here.simple_query("SELECT count(*) FROM big").unwrap();
}

#[test]
fn a_million_keys_are_answered() {
    let (_cluster, mut here) = start();
    let keys = (1..=1_000_000).map(|key| key.to_string()).collect::<Vec<_>>().join(", ");
    let count = lines(&mut here, &format!("SELECT count(*) FROM big WHERE id IN ({keys})"));
    assert_eq!(count, "20000");
    let keys: Vec<i32> = (10_001..=1_010_000).collect();
    let row = here.query_one("SELECT count(*), sum(id) FROM big WHERE id = ANY ($1)", &[&keys]).unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (10_000, (10_001..=20_000).sum()));
}

#[test]
fn statistics_come_by_themselves() {
    let node = "autovacuum_naptime = 1s\nautovacuum_analyze_threshold = 20";
    let coordinator = "sharding.statistics_interval = '500ms'";
    let cluster = Cluster::start_with(2, Settings { node, coordinator });
    let mut here = cluster.client();
    here.batch_execute(
        "CREATE TABLE t (id int PRIMARY KEY, v int);
         SELECT sharding.distribute_table('t', 'id', 4);
         INSERT INTO t SELECT i, i % 5 FROM generate_series(1, 3000) i",
    )
    .unwrap();
    let mut wait_for = |rows: f32, values: f32| {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let sql = "SELECT c.reltuples, coalesce(s.n_distinct, 0)::real FROM pg_class c LEFT JOIN pg_stats s
                         ON s.tablename = 't' AND s.attname = 'v' AND NOT s.inherited WHERE c.oid = 't'::regclass";
            let row = here.query_one(sql, &[]).unwrap();
            let known = (row.get::<_, f32>(0), row.get::<_, f32>(1));
            if known == (rows, values) {
                return;
            }
            assert!(Instant::now() < deadline, "{known:?} instead of {:?}", (rows, values));
            std::thread::sleep(Duration::from_millis(300));
        }
    };
    wait_for(3000.0, 5.0);
    cluster.client().batch_execute("INSERT INTO t SELECT i, i % 50 FROM generate_series(3001, 20000) i").unwrap();
    wait_for(20000.0, 50.0);
}
