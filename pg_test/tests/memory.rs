//! What a statement collects is bounded by `work_mem`, however many rows come: results that are merged, results that wait
//! for each other on a connection, rows of a write that are read when it is over.

use pg_test::harness::Cluster;
use postgres::Client;
use postgres::fallible_iterator::FallibleIterator;

const ROWS: i64 = 300_000;

/// A field of a backend's status, in MB: `RssAnon`, its own memory now, or `VmHWM`, the most it ever had with what it
/// shares.
fn status(process_id: i32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process_id}/status")).expect("a backend");
    let line = status.lines().find(|line| line.starts_with(field)).expect(field);
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).expect("kB") / 1024
}

/// A session that has little memory for anything, and its process.
fn reader(cluster: &Cluster, work_mem: &str) -> (Client, i32) {
    let mut reader = cluster.client();
    reader.batch_execute(&format!("SET work_mem = '{work_mem}'")).unwrap();
    reader.query("SELECT count(*) FROM t WHERE id = 1", &[]).unwrap();
    let process_id = reader.query_one("SELECT pg_backend_pid()", &[]).unwrap().get(0);
    (reader, process_id)
}

/// Reads all rows, one by one; their number, and the most memory that the backend had meanwhile.
fn read_all(reader: &mut Client, process_id: i32, sql: &str) -> (i64, u64) {
    let mut rows = reader.query_raw(sql, Vec::<i64>::new()).unwrap();
    let (mut count, mut most) = (0, 0);
    while rows.next().unwrap().is_some() {
        count += 1;
        if count % (ROWS / 30) == 0 {
            most = most.max(status(process_id, "RssAnon:"));
        }
    }
    (count, most)
}

#[test]
fn a_sorted_result_stays_within_bounds() {
    let cluster = Cluster::start(3);
    let mut here = cluster.client();
    here.batch_execute(&format!(
        "CREATE TABLE t (id int8, g text);
         SELECT sharding.distribute_table('t', 'id', 12);
         INSERT INTO t SELECT i, md5(i::text) || repeat('x', 120) FROM generate_series(1, {ROWS}) i"
    ))
    .unwrap();

    let (mut sorts, process_id) = reader(&cluster, "1MB");
    let before = status(process_id, "RssAnon:");
    let (count, most) = read_all(&mut sorts, process_id, "SELECT id, g FROM t ORDER BY g, id");
    assert_eq!(count, ROWS);
    assert!(most < before + 25, "sorted: {before} MB before, {most} MB at most");
}

#[test]
fn results_that_wait_for_each_other_stay_within_bounds() {
    const GROUPS: i64 = 60_000;
    let cluster = Cluster::start(3);
    let mut here = cluster.client();
    // No statistics: both sides of the join are believed to be small, and are sent without pages.
    here.batch_execute(&format!(
        "CREATE TABLE t (id int8, g text);
         SELECT sharding.distribute_table('t', 'id', 12);
         INSERT INTO t SELECT i, md5(i::text) || repeat('x', 700) FROM generate_series(1, {GROUPS}) i"
    ))
    .unwrap();
    // The rows of one side come behind all of the other's, on the same connections.
    let joined = "SELECT count(*), sum(a.n)::int8, sum(b.m)::int8
                  FROM (SELECT g, count(*) n FROM t GROUP BY g) a JOIN (SELECT g, max(id) m FROM t GROUP BY g) b USING (g)";
    let (mut joins, process_id) = reader(&cluster, "1MB");
    let before = status(process_id, "RssAnon:");
    for join in ["enable_mergejoin", "enable_hashjoin"] {
        joins.batch_execute(&format!("SET {join} = off")).unwrap();
        let row = joins.query_one(joined, &[]).unwrap();
        assert_eq!((row.get(0), row.get(1), row.get(2)), (GROUPS, GROUPS, GROUPS * (GROUPS + 1) / 2), "{join} off");
        let shared = status(process_id, "RssFile:") + status(process_id, "RssShmem:");
        let most = status(process_id, "VmHWM:").saturating_sub(shared);
        assert!(most < before + 30, "joined, {join} off: {before} MB before, {most} MB at most");
        joins.batch_execute(&format!("RESET {join}")).unwrap();
    }

    // Part of them: the rest is in files that nobody reads, which are closed before the commit.
    let first = joined.replacen("SELECT count(*), sum(a.n)::int8, sum(b.m)::int8", "SELECT a.n", 1);
    joins.batch_execute("BEGIN; SET LOCAL enable_hashjoin = off").unwrap();
    assert_eq!(joins.query(&format!("{first} ORDER BY g LIMIT 1"), &[]).unwrap().len(), 1);
    joins.batch_execute("COMMIT").unwrap();
    let error = joins.batch_execute(&format!("SET temp_file_limit = 0; {joined}")).unwrap_err();
    assert_eq!(error.code().map(|code| code.code()), Some("53400"), "{error:?}");
    joins.batch_execute("RESET temp_file_limit").unwrap();
    joins.query_one(joined, &[]).unwrap();
    let log = cluster.coordinator().log();
    assert!(!log.contains("temporary file leak"), "{log}");
}

#[test]
fn rows_that_are_sent_for_a_join_stay_within_bounds() {
    let cluster = Cluster::start(2);
    let mut here = cluster.client();
    here.batch_execute(&format!(
        "CREATE TABLE t (id int8, k int8, g text);
         CREATE TABLE u (id int8, n int);
         SELECT sharding.distribute_table('t', 'id', 12);
         SELECT sharding.distribute_table('u', 'id', 8);
         INSERT INTO t SELECT i, i % 1000 + 1, md5(i::text) || repeat('x', 120) FROM generate_series(1, {ROWS}) i;
         INSERT INTO u SELECT i, i % 10 FROM generate_series(1, 1000) i;
         ANALYZE"
    ))
    .unwrap();
    // One row of 200 by estimate, and half of them: 22 MB.
    let sql = "SELECT count(*), sum(length(t.g)), count(t.id) FROM u LEFT JOIN t ON t.k = u.id AND t.id % 2 = 0";
    let (mut joins, process_id) = reader(&cluster, "1MB");
    joins.batch_execute("SET sharding.ship_joins = always; SET sharding.max_shipped_size = '2MB'").unwrap();
    let before = status(process_id, "RssAnon:");
    let row = joins.query_one(sql, &[]).unwrap();
    assert_eq!((row.get(0), row.get(1), row.get(2)), (ROWS / 2 + 500, ROWS / 2 * 152, ROWS / 2));
    let shared = status(process_id, "RssFile:") + status(process_id, "RssShmem:");
    let most = status(process_id, "VmHWM:").saturating_sub(shared);
    assert!(most < before + 25, "sent: {before} MB before, {most} MB at most");
    let explained = joins.query(&format!("EXPLAIN (ANALYZE, TIMING OFF) {sql}"), &[]).unwrap();
    let text: Vec<String> = explained.iter().map(|row| row.get(0)).collect();
    assert!(text.iter().any(|line| line.contains("there are more than expected")), "{text:#?}");
}

#[test]
fn rows_that_a_write_returns_stay_within_bounds() {
    let cluster = Cluster::start(1);
    let mut here = cluster.client();
    here.batch_execute(&format!(
        "CREATE TABLE t (id int8, g text);
         SELECT sharding.distribute_table('t', 'id', 4);
         INSERT INTO t SELECT i, md5(i::text) || repeat('x', 120) FROM generate_series(1, {ROWS}) i"
    ))
    .unwrap();
    let (mut writer, process_id) = reader(&cluster, "1MB");
    let before = status(process_id, "RssAnon:");
    let (count, most) = read_all(&mut writer, process_id, "UPDATE t SET g = g || 'y' RETURNING id, g");
    assert_eq!(count, ROWS);
    assert!(most < before + 25, "updated: {before} MB before, {most} MB at most");

    // No room for the rows: the write is over on its node, so the error must not say that it was rolled back.
    writer.batch_execute("SET temp_file_limit = '2MB'").unwrap();
    let error = writer.query("DELETE FROM t RETURNING id, g", &[]).unwrap_err();
    let code = error.code().map(|code| code.code().to_string());
    writer.batch_execute("RESET temp_file_limit").unwrap();
    let left: i64 = writer.query_one("SELECT count(*) FROM t", &[]).unwrap().get(0);
    match code.as_deref() {
        Some("08007") => assert!(left == 0 || left == ROWS, "{left} rows are left"),
        Some("53400") => assert_eq!(left, ROWS, "{error:?}"),
        _ => panic!("{error:?}"),
    }
}

#[test]
#[ignore = "takes minutes: make test-long"]
fn ten_million_sorted_rows_stay_within_bounds() {
    const MANY: i64 = 10_000_000;
    let cluster = Cluster::start(3);
    let mut here = cluster.client();
    here.batch_execute(&format!(
        "CREATE TABLE t (id int8, v int8);
         SELECT sharding.distribute_table('t', 'id', 12);
         INSERT INTO t SELECT i, i * 7919 % 10000019 FROM generate_series(1::int8, {MANY}) i"
    ))
    .unwrap();
    let (mut sorts, process_id) = reader(&cluster, "4MB");
    let (count, most) = read_all(&mut sorts, process_id, "SELECT v, id FROM t ORDER BY v, id");
    assert_eq!(count, MANY);
    let peak = status(process_id, "VmHWM:");
    println!("{MANY} sorted rows: {most} MB of its own, {peak} MB with what is shared");
    assert!(peak < 200, "{most} MB of its own, {peak} MB with what is shared");
}
