//! Large results pass through the coordinator; they do not pile up in it.

use pg_test::harness::Cluster;
use postgres::Client;
use postgres::fallible_iterator::FallibleIterator;

const ROWS: i64 = 1_000_000;

/// Anonymous memory of a backend now, and the largest resident size it ever had, in MB.
fn memory(process_id: i32) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{process_id}/status")).expect("a backend");
    let field = |name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name)).expect(name);
        line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).expect(name) / 1024
    };
    (field("RssAnon:"), field("VmHWM:"))
}

fn backend(client: &mut Client) -> i32 {
    client.query_one("SELECT pg_backend_pid()", &[]).unwrap().get(0)
}

#[test]
fn a_million_rows_leave_memory_flat() {
    let cluster = Cluster::start(3);
    let mut here = cluster.client();
    here.batch_execute(
        "CREATE TABLE t (id int8, v text);
         SELECT sharding.distribute_table('t', 'id', 12)",
    )
    .unwrap();
    let process_id = backend(&mut here);
    here.batch_execute(&format!(
        "INSERT INTO t SELECT i, 'some text that makes the row about eighty bytes long ' || i FROM generate_series(1, {ROWS}) i"
    ))
    .unwrap();
    let (anonymous, _) = memory(process_id);
    assert!(anonymous < 120, "INSERT ... SELECT: {anonymous} MB");

    // The client reads row by row, so that nothing piles up here either.
    let mut reader = cluster.client();
    let process_id = backend(&mut reader);
    let (before, _) = memory(process_id);
    let mut rows = reader.query_raw("SELECT id, v FROM t", Vec::<i64>::new()).unwrap();
    let (mut count, mut sum, mut most) = (0_i64, 0_i64, 0);
    while let Some(row) = rows.next().unwrap() {
        count += 1;
        sum += row.get::<_, i64>(0);
        if count % 50_000 == 0 {
            most = most.max(memory(process_id).0);
        }
    }
    drop(rows);
    assert_eq!((count, sum), (ROWS, ROWS * (ROWS + 1) / 2));
    assert!(most < before + 60, "SELECT: {before} MB before, {most} MB at most");

    // So with a join that the coordinator does row by row, and with a filter that it evaluates.
    reader.batch_execute("CREATE TABLE small (k int8); INSERT INTO small VALUES (0), (1), (2)").unwrap();
    let joined: i64 = reader
        .query_one("SELECT count(*) FROM t JOIN small ON small.k = t.id % 5", &[])
        .unwrap_or_else(|error| panic!("{error:?}\n{}", cluster.coordinator().log()))
        .get(0);
    assert_eq!(joined, ROWS / 5 * 3);
    let (after, _) = memory(process_id);
    assert!(after < before + 60, "join: {before} MB before, {after} MB after");

    // A reader that stops early stops the nodes.
    let mut transaction = reader.transaction().unwrap();
    transaction.batch_execute("DECLARE c CURSOR FOR SELECT id, v FROM t").unwrap();
    let some = transaction.query("FETCH 10 FROM c", &[]).unwrap();
    assert_eq!(some.len(), 10);
    transaction.batch_execute("CLOSE c").unwrap();
    let limited = transaction.query("SELECT id FROM t LIMIT 10", &[]).unwrap();
    assert_eq!(limited.len(), 10);
    transaction.commit().unwrap();
    let total: i64 = reader.query_one("SELECT count(*) FROM t", &[]).unwrap().get(0);
    assert_eq!(total, ROWS);
}

#[test]
fn copy_streams_both_ways() {
    use std::io::{Read, Write};
    let cluster = Cluster::start(2);
    let mut here = cluster.client();
    here.batch_execute(
        "CREATE TABLE t (id int8 PRIMARY KEY, v text);
         SELECT sharding.distribute_table('t', 'id', 8)",
    )
    .unwrap();
    let process_id = backend(&mut here);
    let rows = 300_000;
    let mut writer = here.copy_in("COPY t FROM STDIN").unwrap();
    for i in 1..=rows {
        writeln!(writer, "{i}\tsome text that makes the row about eighty bytes long {i}").unwrap();
    }
    assert_eq!(writer.finish().unwrap(), rows);
    let (anonymous, _) = memory(process_id);
    assert!(anonymous < 120, "COPY FROM: {anonymous} MB");

    let mut reader = here.copy_out("COPY t TO STDOUT").unwrap();
    let mut buffer = vec![0; 1 << 16];
    let (mut lines, mut most) = (0, 0);
    loop {
        let length = reader.read(&mut buffer).unwrap();
        if length == 0 {
            break;
        }
        lines += buffer[..length].iter().filter(|byte| **byte == b'\n').count();
        // One read is one line.
        if lines % 10_000 == 0 {
            most = most.max(memory(process_id).0);
        }
    }
    drop(reader);
    assert_eq!(lines as u64, rows);
    assert!(most < 120, "COPY TO: {most} MB");
}

/// Rows on three nodes, one of which answers nothing as long as the returned session holds its lock.
fn one_node_held_up(cluster: &Cluster, here: &mut Client) -> Client {
    here.batch_execute(
        "CREATE TABLE t (id int8, v text);
         SELECT sharding.distribute_table('t', 'id', 12);
         INSERT INTO t SELECT i, 'some text that makes the row about eighty bytes long ' || i
             FROM generate_series(1, 30000) i;
         SET sharding.consistent_reads = off",
    )
    .unwrap();
    let mut holder = cluster.node_client(2);
    holder.batch_execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").unwrap();
    holder
}

#[test]
fn first_rows_arrive_before_the_last_node_ends() {
    let cluster = Cluster::start(3);
    let mut here = cluster.client();
    let mut holder = one_node_held_up(&cluster, &mut here);
    for sql in ["SELECT id, v FROM t", "SELECT t.id, s.v FROM t JOIN t s ON s.id = t.id"] {
        let mut rows = here.query_raw(sql, Vec::<i64>::new()).unwrap();
        for _ in 0..5_000 {
            assert!(rows.next().unwrap().is_some(), "{sql}");
        }
        holder.batch_execute("COMMIT").unwrap();
        let mut count = 5_000;
        while rows.next().unwrap().is_some() {
            count += 1;
        }
        drop(rows);
        assert_eq!(count, 30_000, "{sql}");
        holder.batch_execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").unwrap();
    }
}

#[test]
fn a_limit_that_is_reached_stops_the_other_nodes() {
    let cluster = Cluster::start(3);
    let mut here = cluster.client();
    let mut holder = one_node_held_up(&cluster, &mut here);
    for sql in ["SELECT id FROM t LIMIT 10", "SELECT id, random() FROM t LIMIT 10"] {
        assert_eq!(here.query(sql, &[]).unwrap().len(), 10, "{sql}");
        let running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%FROM public.t%'";
        let left: i64 = holder.query_one(running, &[]).unwrap().get(0);
        assert_eq!(left, 1, "{sql}: nothing but this query runs there");
    }
    holder.batch_execute("COMMIT").unwrap();
    assert_eq!(here.query_one("SELECT count(*) FROM t", &[]).unwrap().get::<_, i64>(0), 30_000);
}
