//! Connections that are closed, and those that are kept.

use crate::{SESSIONS, eventually, start, text};

#[test]
fn connections_are_retired() {
    let cluster = start(1, "sharding.pool_size = 2\nsharding.pool_idle_timeout = 2");
    let mut here = cluster.client();
    let mut node = cluster.node_client(1);
    assert_eq!(text(&mut here, "SELECT count(*) FROM t"), "120");
    assert_eq!(text(&mut node, SESSIONS), "1");
    eventually(&mut node, SESSIONS, "0");
    assert_eq!(text(&mut here, "SELECT count(*) FROM t"), "120");
    // By age, but not in the midst of a transaction.
    here.batch_execute(
        "ALTER SYSTEM SET sharding.pool_lifetime = 1; ALTER SYSTEM SET sharding.pool_idle_timeout = 0;
         SELECT pg_reload_conf()",
    )
    .unwrap_err();
    for setting in ["sharding.pool_lifetime = 1", "sharding.pool_idle_timeout = 0"] {
        here.batch_execute(&format!("ALTER SYSTEM SET {setting}")).unwrap();
    }
    here.batch_execute("SELECT pg_reload_conf()").unwrap();
    here.batch_execute(
        "BEGIN; UPDATE t SET v = 0 WHERE id = 1; SELECT pg_sleep(3); UPDATE t SET v = 1 WHERE id = 1; COMMIT",
    )
    .unwrap();
    eventually(&mut node, SESSIONS, "0");
    assert_eq!(text(&mut here, "SELECT v FROM t WHERE id = 1"), "1");
    // A node that is removed has no connections any more.
    here.batch_execute("SELECT sharding.undistribute_table('t')").unwrap();
    here.batch_execute("SELECT sharding.remove_node('n1')").unwrap();
    eventually(&mut node, SESSIONS, "0");
}

/// `sharding.pool_min_size`: of a pool that was used, so many stay, whatever happens to them.
#[test]
fn a_few_connections_are_kept() {
    let settings = "sharding.pool_min_size = 2\nsharding.pool_size = 4\nsharding.pool_idle_timeout = 1";
    let cluster = start(1, settings);
    let mut here = cluster.client();
    let mut node = cluster.node_client(1);
    // One was asked for, the other one comes by itself; a third one is above.
    assert_eq!(text(&mut here, "SELECT count(*) FROM t"), "120");
    eventually(&mut node, SESSIONS, "2");
    let mut others: Vec<_> = (0..3).map(|_| cluster.client()).collect();
    for other in &mut others {
        other.batch_execute("BEGIN; SELECT count(*) FROM t").unwrap();
    }
    assert_eq!(text(&mut node, SESSIONS), "3");
    drop(others);
    eventually(&mut node, SESSIONS, "2");
    // What has come by itself serves as any other: same settings, nothing to be opened.
    let opened = "SELECT sum(opened) FROM sharding.pool_stats WHERE NOT outside";
    let before = text(&mut here, opened);
    here.batch_execute("SET TimeZone = 'Asia/Tokyo'; BEGIN; SELECT count(*) FROM t").unwrap();
    let mut other = cluster.client();
    other.batch_execute("BEGIN").unwrap();
    assert_eq!(text(&mut other, "SELECT v FROM t WHERE id = 3"), "3");
    assert_eq!(text(&mut here, opened), before);
    other.batch_execute("COMMIT").unwrap();
    here.batch_execute("COMMIT; RESET TimeZone").unwrap();
    // Idle ones that the node ends, and those that are too old, are replaced.
    let sessions = SESSIONS.replace("count(*)", "string_agg(pid::text, ',' ORDER BY pid)");
    let first = text(&mut node, &sessions);
    text(&mut node, &SESSIONS.replace("count(*)", "count(pg_terminate_backend(pid))"));
    let replaced = SESSIONS.replace("count(*)", &format!("count(*) = 2 AND NOT bool_or(pid IN ({first}))"));
    eventually(&mut node, &replaced, "t");
    let second = text(&mut node, &sessions);
    here.batch_execute("ALTER SYSTEM SET sharding.pool_lifetime = 4").unwrap();
    here.batch_execute("SELECT pg_reload_conf()").unwrap();
    for _ in 0..20 {
        // Whoever uses it has it kept.
        assert_eq!(text(&mut here, "SELECT v FROM t WHERE id = 3"), "3");
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
    let replaced = SESSIONS.replace("count(*)", &format!("count(*) = 2 AND NOT bool_or(pid IN ({second}))"));
    eventually(&mut node, &replaced, "t");
    // Who was not there for so long has none kept.
    eventually(&mut node, SESSIONS, "0");
}

/// What is kept is given up when it may not be used any more.
#[test]
fn what_is_kept_is_given_up_in_time() {
    let cluster = start(1, "sharding.pool_min_size = 2");
    let mut here = cluster.client();
    let mut node = cluster.node_client(1);
    node.batch_execute("CREATE ROLE other LOGIN SUPERUSER").unwrap();
    assert_eq!(text(&mut here, "SELECT count(*) FROM t"), "120");
    eventually(&mut node, SESSIONS, "2");
    here.batch_execute("ALTER USER MAPPING FOR PUBLIC SERVER n1 OPTIONS (SET user 'other')").unwrap();
    assert_eq!(text(&mut here, "SELECT count(*) FROM t"), "120");
    eventually(
        &mut node,
        &SESSIONS.replace("count(*)", "count(*) || ' ' || min(usename) || ' ' || max(usename)"),
        "2 other other",
    );
    here.batch_execute("SELECT sharding.undistribute_table('t')").unwrap();
    here.batch_execute("SELECT sharding.remove_node('n1')").unwrap();
    eventually(&mut node, SESSIONS, "0");
    // For longer than the worker takes to look again.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert_eq!(text(&mut node, SESSIONS), "0");
}
