//! Sorted results of all nodes are merged as they come: in order, in constant memory, and only if all agree what
//! order is.

use pg_test::harness::Cluster;
use postgres::fallible_iterator::FallibleIterator;

const ROWS: i64 = 200_000;

/// Anonymous memory of a backend now, in MB.
fn memory(process_id: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process_id}/status")).expect("a backend");
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("RssAnon");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).expect("kB") / 1024
}

#[test]
fn a_sorted_result_leaves_memory_flat() {
    let cluster = Cluster::start(3);
    let mut here = cluster.client();
    here.batch_execute(&format!(
        "CREATE TABLE t (id int8, v text);
         SELECT sharding.distribute_table('t', 'id', 12);
         INSERT INTO t SELECT i, md5(i::text) || repeat('x', 40) FROM generate_series(1, {ROWS}) i;
         ANALYZE t"
    ))
    .unwrap();
    let mut reader = cluster.client();
    reader.batch_execute("SET work_mem = '1MB'; SET temp_file_limit = 0").unwrap();
    let process_id: i32 = reader.query_one("SELECT pg_backend_pid()", &[]).unwrap().get(0);
    let before = memory(process_id);
    let mut rows = reader.query_raw("SELECT id, v FROM t ORDER BY v COLLATE \"C\", id", Vec::<i64>::new()).unwrap();
    let (mut count, mut sum, mut most, mut last) = (0_i64, 0_i64, 0, String::new());
    while let Some(row) = rows.next().unwrap() {
        let v: String = row.get(1);
        assert!(last <= v, "{last} before {v}");
        last = v;
        count += 1;
        sum += row.get::<_, i64>(0);
        if count % 20_000 == 0 {
            most = most.max(memory(process_id));
        }
    }
    drop(rows);
    assert_eq!((count, sum), (ROWS, ROWS * (ROWS + 1) / 2));
    assert!(most < before + 40, "{before} MB before, {most} MB at most");

    // Rows that are decoded here, and looked at.
    let step: i64 = reader
        .query_one("SELECT id - lag(id) OVER (ORDER BY id) FROM t ORDER BY 1 DESC NULLS LAST LIMIT 1", &[])
        .unwrap()
        .get(0);
    assert_eq!(step, 1);
    // Nearly unique, so sorted here: in files beyond work_mem.
    reader.batch_execute("RESET temp_file_limit").unwrap();
    let distinct: i64 = reader.query_one("SELECT count(DISTINCT v) FROM t", &[]).unwrap().get(0);
    assert_eq!(distinct, ROWS);
    let after = memory(process_id);
    assert!(after < before + 40, "{before} MB before, {after} MB after");

    // A reader that stops early stops the nodes.
    let first: i64 = reader.query_one("SELECT id FROM t ORDER BY id LIMIT 1", &[]).unwrap().get(0);
    assert_eq!(first, 1);
    let mut transaction = reader.transaction().unwrap();
    transaction.batch_execute("DECLARE c NO SCROLL CURSOR FOR SELECT id FROM t ORDER BY id").unwrap();
    let some: Vec<i64> = transaction.query("FETCH 5 FROM c", &[]).unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(some, [1, 2, 3, 4, 5]);
    let more: i64 = transaction.query_one("SELECT count(*) FROM t", &[]).unwrap().get(0);
    assert_eq!(more, ROWS);
    let some: Vec<i64> = transaction.query("FETCH 3 FROM c", &[]).unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(some, [6, 7, 8]);
}

#[test]
fn a_node_that_sorts_otherwise_is_an_error() {
    let cluster = Cluster::start(2);
    let mut here = cluster.client();
    here.batch_execute("CREATE COLLATION odd (provider = icu, locale = 'und')").unwrap();
    for node in 1..=2 {
        // Lower case after upper case: another order under the same name.
        let other = "CREATE COLLATION odd (locale = 'C')";
        cluster.node_client(node).batch_execute(other).unwrap();
    }
    here.batch_execute(
        "CREATE TABLE t (id int8, v text COLLATE odd);
         SELECT sharding.distribute_table('t', 'id', 4);
         INSERT INTO t SELECT i, chr(64 + i) FROM generate_series(1, 20) i;
         INSERT INTO t SELECT i, chr(96 + i) FROM generate_series(1, 20) i",
    )
    .unwrap();
    let error = here.query("SELECT v FROM t ORDER BY v", &[]).unwrap_err();
    assert_eq!(error.code().map(|code| code.code()), Some("XX001"), "{error:?}");
    let ordered: String =
        here.query_one("SELECT string_agg(v, '' ORDER BY v COLLATE \"C\") FROM t", &[]).unwrap().get(0);
    assert_eq!(ordered, "ABCDEFGHIJKLMNOPQRSTabcdefghijklmnopqrst");
    here.batch_execute("SET sharding.enable_sort_pushdown = off").unwrap();
    let first: Vec<String> =
        here.query("SELECT v FROM t ORDER BY v LIMIT 4", &[]).unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(first, ["a", "A", "b", "B"]);
}
