//! Roles that log in: privileges and row security are those of the coordinator, whoever is asked.

use pg_test::harness::Cluster;
use postgres::Client;

fn code(client: &mut Client, sql: &str) -> String {
    let error = client.batch_execute(sql).expect_err(sql);
    error.code().unwrap_or_else(|| panic!("{sql}: {error}")).code().to_owned()
}

fn number(client: &mut Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error}")).get(0)
}

#[test]
fn roles_that_the_nodes_do_not_know() {
    let cluster = Cluster::start(2);
    let mut here = cluster.client();
    here.batch_execute(
        "CREATE ROLE app LOGIN; CREATE ROLE stranger LOGIN;
         CREATE TABLE t (id int PRIMARY KEY, v int, owner text DEFAULT current_user);
         SELECT sharding.distribute_table('t', 'id', 8);
         CREATE TABLE r (id int PRIMARY KEY, v int);
         SELECT sharding.replicate_table('r')",
    )
    .unwrap();
    // Granting to a role that the nodes lack either works or says what to do; it is never half done.
    let granted = here.batch_execute("GRANT SELECT, INSERT, UPDATE, DELETE ON t, r TO app");
    if granted.is_err() {
        for i in 1..=2 {
            cluster.node_client(i).batch_execute("CREATE ROLE app; CREATE ROLE stranger").unwrap();
        }
        here.batch_execute("GRANT SELECT, INSERT, UPDATE, DELETE ON t, r TO app").unwrap();
    }
    let mut app = cluster.client_as("app");
    app.batch_execute("INSERT INTO t (id, v) SELECT i, i FROM generate_series(1, 50) i; INSERT INTO r VALUES (1, 1)")
        .unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!(number(&mut app, "SELECT count(*) FROM t WHERE owner = 'app'"), 50);
    assert_eq!(number(&mut app, "SELECT count(*) FROM t JOIN r USING (id)"), 1);
    app.batch_execute("UPDATE t SET v = 0; DELETE FROM t WHERE id > 40; UPDATE r SET v = 2").unwrap();

    let mut stranger = cluster.client_as("stranger");
    for sql in [
        "SELECT * FROM t",
        "SELECT v FROM t WHERE id = 1",
        "SELECT count(*) FROM r",
        "INSERT INTO t (id) VALUES (1000)",
        "UPDATE t SET v = 1 WHERE id = 1",
        "DELETE FROM t",
        "UPDATE r SET v = 1",
        "TRUNCATE t",
        "COPY t TO STDOUT",
        "ALTER TABLE t ADD COLUMN x int",
        "DROP TABLE t",
        "SELECT sharding.add_node('x', '127.0.0.1', 1, 'app')",
        "SELECT sharding.remove_node('n1')",
        "SELECT sharding.run_on_nodes('SELECT 1')",
        "SELECT * FROM sharding.recover_transactions()",
        "SELECT sharding.distribute_table('r', 'id')",
        "SELECT sharding.undistribute_table('t')",
        "INSERT INTO sharding.shard VALUES (1, 1, 'n1')",
        "UPDATE sharding.distributed_table SET shard_prefix = 'x'",
    ] {
        assert_eq!(code(&mut stranger, sql), "42501", "{sql}");
    }
    assert_eq!(number(&mut here, "SELECT count(*) FROM t"), 40);
    // The owner of a table may distribute it.
    here.batch_execute("GRANT CREATE ON SCHEMA public TO stranger").unwrap();
    stranger.batch_execute("CREATE TABLE own (id int PRIMARY KEY)").unwrap();
    let _ = stranger.batch_execute("SELECT sharding.distribute_table('own', 'id', 4)");
    stranger.batch_execute("INSERT INTO own VALUES (1), (2)").unwrap();
    assert_eq!(number(&mut stranger, "SELECT count(*) FROM own"), 2);
}

#[test]
fn row_security_holds_for_roles_that_log_in() {
    let cluster = Cluster::start(2);
    let mut here = cluster.client();
    for i in 1..=2 {
        cluster.node_client(i).batch_execute("CREATE ROLE alice; CREATE ROLE bob").unwrap();
    }
    here.batch_execute(
        "CREATE ROLE alice LOGIN; CREATE ROLE bob LOGIN;
         CREATE TABLE notes (id int PRIMARY KEY, owner text, body text);
         INSERT INTO notes SELECT i, CASE WHEN i % 2 = 0 THEN 'alice' ELSE 'bob' END, 'secret ' || i FROM generate_series(1, 40) i;
         ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
         CREATE POLICY own ON notes USING (owner = current_user);
         GRANT ALL ON notes TO alice, bob;
         SELECT sharding.distribute_table('notes', 'id', 8);
         CREATE FUNCTION shout(text) RETURNS bool LANGUAGE plpgsql COST 0.0001
             AS $$ BEGIN RAISE NOTICE 'saw %', $1; RETURN true; END $$",
    )
    .unwrap();
    for (role, other) in [("alice", "bob"), ("bob", "alice")] {
        let mut client = cluster.client_as(role);
        assert_eq!(number(&mut client, "SELECT count(*) FROM notes"), 20);
        assert_eq!(number(&mut client, &format!("SELECT count(*) FROM notes WHERE owner = '{other}'")), 0);
        let own_id = if role == "alice" { 2 } else { 1 };
        assert_eq!(number(&mut client, &format!("SELECT count(*) FROM notes WHERE id = {own_id}")), 1);
        assert_eq!(number(&mut client, &format!("SELECT count(*) FROM notes WHERE id = {}", own_id + 1)), 0);
        assert_eq!(client.execute("UPDATE notes SET body = body", &[]).unwrap(), 20);
        assert_eq!(code(&mut client, &format!("UPDATE notes SET owner = '{other}'")), "42501");
        let insert = format!("INSERT INTO notes VALUES ({}, '{other}', 'x')", 100 + own_id);
        assert_eq!(code(&mut client, &insert), "42501");
        // A function that tells what it sees is shown no hidden row.
        let mut session = cluster.coordinator().session_as(role);
        session.run("SELECT count(*) FROM notes WHERE shout(body)");
        let saw = session.notices().len();
        assert_eq!(saw, 20, "{:?}", session.notices());
    }
    let mut alice = cluster.client_as("alice");
    alice.batch_execute("PREPARE q AS SELECT count(*) FROM notes").unwrap();
    assert_eq!(number(&mut here, "SELECT count(*) FROM notes"), 40);
}

#[test]
fn each_user_may_have_a_mapping() {
    let cluster = Cluster::start(1);
    let mut here = cluster.client();
    cluster.node_client(1).batch_execute("CREATE ROLE remote_app LOGIN").unwrap();
    here.batch_execute(
        "CREATE ROLE app LOGIN;
         CREATE TABLE t (id int PRIMARY KEY, v text DEFAULT current_user);
         SELECT sharding.distribute_table('t', 'id', 4);
         GRANT SELECT ON t TO app",
    )
    .or_else(|_| {
        cluster.node_client(1).batch_execute("CREATE ROLE app").unwrap();
        here.batch_execute("GRANT SELECT ON t TO app")
    })
    .unwrap();
    here.batch_execute("INSERT INTO t VALUES (1), (2)").unwrap();
    let mut app = cluster.client_as("app");
    assert_eq!(number(&mut app, "SELECT count(*) FROM t"), 2);
    here.batch_execute("CREATE USER MAPPING FOR app SERVER n1 OPTIONS (user 'remote_app')").unwrap();
    // The node now asks for the remote role's own privileges, and the error names the node.
    let mut app = cluster.client_as("app");
    let error = app.batch_execute("SELECT count(*) FROM t").expect_err("no privilege there");
    assert_eq!(error.code().map(|code| code.code()), Some("42501"), "{error:?}");
    cluster
        .node_client(1)
        .batch_execute("GRANT USAGE ON SCHEMA sharding_shards TO remote_app; GRANT SELECT ON t TO remote_app; GRANT SELECT ON ALL TABLES IN SCHEMA sharding_shards TO remote_app")
        .unwrap();
    assert_eq!(number(&mut app, "SELECT count(*) FROM t"), 2);
    assert_eq!(number(&mut app, "SELECT count(*) FROM t WHERE id = 1"), 1);
}
