//! Nothing of one session is seen by another.

use crate::{start, text};
use pg_test::harness::Cluster;
use postgres::Client;

/// What each kind of state of a session looks like to somebody else; all give the same in a session
/// that nobody has touched.
const TRACES: [(&str, &str, &str); 9] = [
    ("SET work_mem = ''77kB''", "SELECT current_setting(''work_mem'')", "4MB"),
    (
        "SELECT set_config(''app.tenant'', ''secret'', false)",
        "SELECT coalesce(nullif(current_setting(''app.tenant'', true), ''''), ''none'')",
        "none",
    ),
    ("SET ROLE reader", "SELECT current_user", "postgres"),
    (
        "CREATE TEMP TABLE mine AS SELECT 1 AS a",
        "SELECT coalesce(to_regclass(''pg_temp.mine'')::text, ''none'')",
        "none",
    ),
    ("PREPARE mine AS SELECT 1", "SELECT count(*) FROM pg_prepared_statements WHERE name = ''mine''", "0"),
    ("SELECT pg_advisory_lock(4711)", "SELECT count(*) FROM pg_locks WHERE locktype = ''advisory''", "0"),
    ("LISTEN mine", "SELECT count(*) FROM pg_listening_channels()", "0"),
    ("DECLARE mine CURSOR WITH HOLD FOR SELECT 1", "SELECT count(*) FROM pg_cursors WHERE name = ''mine''", "0"),
    (
        "CREATE TEMP SEQUENCE counter; SELECT nextval(''counter'')",
        "SELECT coalesce(to_regclass(''pg_temp.counter'')::text, ''none'')",
        "none",
    ),
];

fn on_node(client: &mut Client, sql: &str) -> String {
    text(client, &format!("SELECT result FROM sharding.run_on_nodes('{sql}')"))
}

/// Two roles that use a pool of one connection in turns, and the node's process that they share.
fn two_roles(cluster: &Cluster) -> (Client, Client) {
    let mut here = cluster.client();
    cluster.node_client(1).batch_execute("CREATE ROLE reader").unwrap();
    here.batch_execute(
        "CREATE ROLE ann LOGIN; CREATE ROLE bob LOGIN; GRANT ALL ON t TO ann, bob;
         GRANT EXECUTE ON FUNCTION sharding.run_on_nodes TO ann, bob",
    )
    .unwrap();
    (cluster.client_as("ann"), cluster.client_as("bob"))
}

#[test]
fn nothing_of_a_session_leaks_into_another() {
    let cluster = start(1, "sharding.pool_size = 1");
    let (mut ann, mut bob) = two_roles(&cluster);
    let process = on_node(&mut ann, "SELECT pg_backend_pid()");
    for (leave, look, clean) in TRACES {
        assert_eq!(on_node(&mut bob, look), clean, "before {leave}");
        ann.batch_execute(&format!("SELECT sharding.run_on_nodes('{leave}')")).unwrap();
        assert_eq!(on_node(&mut bob, look), clean, "{leave}");
        // Within one transaction it is one session.
        ann.batch_execute(&format!("BEGIN; SELECT sharding.run_on_nodes('{leave}')")).unwrap();
        if !leave.starts_with("LISTEN") {
            assert_ne!(on_node(&mut ann, look), clean, "{leave}");
        }
        ann.batch_execute("COMMIT").unwrap();
        assert_eq!(on_node(&mut bob, look), clean, "{leave}, in a transaction");
        ann.batch_execute(&format!("BEGIN; SELECT sharding.run_on_nodes('{leave}'); ROLLBACK")).unwrap();
        assert_eq!(on_node(&mut bob, look), clean, "{leave}, rolled back");
    }
    assert_eq!(on_node(&mut bob, "SELECT pg_backend_pid()"), process, "it was one connection all the time");
}

#[test]
fn code_on_tables_leaves_no_traces() {
    let cluster = start(1, "sharding.pool_size = 1");
    let (mut ann, mut bob) = two_roles(&cluster);
    let mut here = cluster.client();
    here.batch_execute(
        "CREATE FUNCTION leave_traces() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
             PERFORM pg_catalog.set_config('app.tenant', 'secret', false);
             PERFORM pg_catalog.pg_advisory_lock(4711);
             CREATE TEMP TABLE IF NOT EXISTS mine (a int);
         END $$;
         CREATE FUNCTION in_trigger() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             PERFORM public.leave_traces(); RETURN NEW; END $$;
         CREATE FUNCTION in_check(v int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
             PERFORM pg_catalog.set_config('app.tenant', 'secret', false); RETURN true; END $$;
         CREATE FUNCTION in_policy(v int) RETURNS boolean LANGUAGE plpgsql STABLE AS $$ BEGIN
             PERFORM pg_catalog.set_config('app.tenant', 'secret', false); RETURN true; END $$;
         SELECT sharding.run_on_nodes($q$CREATE FUNCTION leave_traces() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
             PERFORM pg_catalog.set_config('app.tenant', 'secret', false);
             PERFORM pg_catalog.pg_advisory_lock(4711);
             CREATE TEMP TABLE IF NOT EXISTS mine (a int);
         END $$$q$);
         CREATE TABLE with_trigger (id int PRIMARY KEY, v int);
         CREATE TRIGGER code AFTER INSERT OR UPDATE ON with_trigger FOR EACH ROW EXECUTE FUNCTION in_trigger();
         CREATE TABLE \"With\"\"Check\" (id int PRIMARY KEY, v int CHECK (in_check(v)));
         CREATE TABLE with_index (id int PRIMARY KEY, v int);
         CREATE INDEX ON with_index ((in_check(v)));
         CREATE TABLE cascading (id int PRIMARY KEY, v int);
         CREATE TABLE cascaded (id int PRIMARY KEY REFERENCES cascading ON DELETE CASCADE, v int);
         CREATE TRIGGER code AFTER DELETE ON cascaded FOR EACH ROW EXECUTE FUNCTION in_trigger();
         CREATE TABLE later (id int PRIMARY KEY, v int);
         SELECT sharding.distribute_table('with_trigger', 'id', 6);
         SELECT sharding.distribute_table('\"With\"\"Check\"', 'id', 6);
         SELECT sharding.distribute_table('with_index', 'id', 6);
         SELECT sharding.distribute_table('cascading', 'id', 6);
         SELECT sharding.distribute_table('cascaded', 'id', 6);
         SELECT sharding.distribute_table('later', 'id', 6);
         INSERT INTO cascading SELECT i, i FROM generate_series(1, 5) i;
         INSERT INTO cascaded SELECT i, i FROM generate_series(1, 5) i;
         GRANT ALL ON with_trigger, \"With\"\"Check\", with_index, cascading, cascaded, later TO ann, bob",
    )
    .unwrap();
    let clean = |bob: &mut Client, what: &str| {
        for (look, expected) in [(TRACES[1].1, TRACES[1].2), (TRACES[3].1, TRACES[3].2), (TRACES[5].1, TRACES[5].2)] {
            assert_eq!(on_node(bob, look), expected, "{what}");
        }
    };
    clean(&mut bob, "at first");
    for sql in [
        "INSERT INTO with_trigger VALUES (1, 1)",
        "BEGIN; INSERT INTO with_trigger VALUES (2, 1); COMMIT",
        "UPDATE with_trigger SET v = 2",
        "UPDATE with_trigger SET v = 3 WHERE id = 1",
        "INSERT INTO with_trigger VALUES (3, 1) ON CONFLICT (id) DO UPDATE SET v = 5 RETURNING v",
        "INSERT INTO \"With\"\"Check\" VALUES (1, 1)",
        "UPDATE \"With\"\"Check\" SET v = 3 WHERE id = 1",
        "INSERT INTO with_index VALUES (1, 1)",
        "DELETE FROM cascading WHERE id = 1",
        "DELETE FROM cascading",
    ] {
        ann.batch_execute(sql).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        clean(&mut bob, sql);
    }
    // Code that comes later is noticed, also by sessions that have looked before.
    ann.batch_execute("INSERT INTO later VALUES (1, 1)").unwrap();
    here.batch_execute("CREATE TRIGGER code AFTER INSERT ON later FOR EACH ROW EXECUTE FUNCTION in_trigger()").unwrap();
    ann.batch_execute("INSERT INTO later VALUES (2, 1)").unwrap();
    clean(&mut bob, "a trigger that came later");
    ann.batch_execute("BEGIN; SELECT 1").unwrap();
    here.batch_execute(
        "DROP TRIGGER code ON later; CREATE POLICY code ON later USING (in_policy(v));
         ALTER TABLE later ENABLE ROW LEVEL SECURITY",
    )
    .unwrap();
    ann.batch_execute("SELECT * FROM later; COMMIT").unwrap();
    clean(&mut bob, "a policy");
    ann.batch_execute("SELECT count(*) FROM t; UPDATE t SET v = v").unwrap();
    clean(&mut bob, "a table without code");
}

#[test]
fn settings_are_those_of_who_asks() {
    let cluster = start(1, "sharding.pool_size = 1");
    let (mut ann, mut bob) = two_roles(&cluster);
    cluster
        .client()
        .batch_execute(
            "CREATE TABLE times (id int PRIMARY KEY, at timestamptz);
             SELECT sharding.distribute_table('times', 'id', 4);
             INSERT INTO times VALUES (1, '2024-01-01 00:00:00+00');
             GRANT ALL ON times TO ann, bob",
        )
        .unwrap();
    let hour = "SELECT extract(hour FROM at) || '' FROM times WHERE id = 1";
    ann.batch_execute("SET TimeZone = 'Asia/Tokyo'; SET application_name = 'ann at work'").unwrap();
    bob.batch_execute("SET TimeZone = 'America/New_York'").unwrap();
    for _ in 0..3 {
        assert_eq!(text(&mut ann, hour), "9");
        assert_eq!(on_node(&mut ann, "SELECT current_setting(''application_name'')"), "sharding: ann at work");
        assert_eq!(text(&mut bob, hour), "19");
        assert_eq!(on_node(&mut bob, "SELECT current_setting(''application_name'')"), "sharding");
    }
    // What a rollback takes back is taken back for the next one, too.
    ann.batch_execute(&format!("BEGIN; SET LOCAL TimeZone = 'UTC'; {hour}; ROLLBACK")).unwrap();
    assert_eq!(text(&mut ann, hour), "9");
    bob.batch_execute(&format!("BEGIN; SET TimeZone = 'UTC'; {hour}; SELECT 1/0")).unwrap_err();
    bob.batch_execute("ROLLBACK").unwrap();
    assert_eq!(text(&mut ann, hour), "9");
    assert_eq!(text(&mut bob, hour), "19");
}

#[test]
fn nobody_gets_a_connection_of_another_user() {
    let cluster = start(1, "sharding.pool_size = 1");
    let (mut ann, mut bob) = two_roles(&cluster);
    let mut here = cluster.client();
    let mut node = cluster.node_client(1);
    // GRANT has made the roles there.
    node.batch_execute(
        "ALTER ROLE ann LOGIN SUPERUSER; ALTER ROLE bob LOGIN SUPERUSER; CREATE ROLE other LOGIN SUPERUSER",
    )
    .unwrap();
    let who = "SELECT session_user";
    assert_eq!(on_node(&mut ann, who), "postgres");
    here.batch_execute("CREATE USER MAPPING FOR ann SERVER n1 OPTIONS (user 'other')").unwrap();
    assert_eq!(on_node(&mut ann, who), "other");
    assert_eq!(on_node(&mut bob, who), "postgres");
    here.batch_execute("ALTER USER MAPPING FOR ann SERVER n1 OPTIONS (SET user 'ann')").unwrap();
    assert_eq!(on_node(&mut ann, who), "ann");
    here.batch_execute("DROP USER MAPPING FOR ann SERVER n1").unwrap();
    assert_eq!(on_node(&mut ann, who), "postgres");
    // A mapping for all that names no user: each goes as himself, also by SET ROLE.
    here.batch_execute("ALTER USER MAPPING FOR PUBLIC SERVER n1 OPTIONS (DROP user)").unwrap();
    for _ in 0..2 {
        assert_eq!(on_node(&mut ann, who), "ann");
        assert_eq!(on_node(&mut bob, who), "bob");
        assert_eq!(on_node(&mut here, who), "postgres");
        here.batch_execute("SET ROLE ann").unwrap();
        assert_eq!(on_node(&mut here, who), "ann");
        here.batch_execute("RESET ROLE").unwrap();
    }
}

#[test]
fn a_new_session_runs_no_statements_but_its_own() {
    let cluster = start(2, "");
    cluster
        .client()
        .batch_execute(
            "CREATE TABLE known (id int8 PRIMARY KEY, v int4 CHECK (v > 0));
             SELECT sharding.distribute_table('known', 'id');
             INSERT INTO known SELECT i, i FROM generate_series(1, 10) i",
        )
        .unwrap();
    let mut new = cluster.client();
    new.batch_execute("LOAD 'auto_explain'; SET auto_explain.log_nested_statements = on").unwrap();
    new.batch_execute("SET auto_explain.log_min_duration = 0").unwrap();
    let work =
        ["SELECT v FROM known WHERE id = 1", "UPDATE known SET v = 2 WHERE id = 1", "SELECT count(*) FROM known"];
    for sql in work {
        new.batch_execute(sql).unwrap();
    }
    let log = cluster.coordinator().log();
    let executed: Vec<&str> = log.lines().filter_map(|line| line.trim().strip_prefix("Query Text: ")).collect();
    assert_eq!(executed, work, "{log}");
}
