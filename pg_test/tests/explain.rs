//! EXPLAIN says which tier a query takes, on which nodes and shards it runs, and the SQL sent there.

use pg_test::harness::Cluster;
use postgres::{Client, SimpleQueryMessage};

fn explain(client: &mut Client, options: &str, sql: &str) -> String {
    let explain = format!("EXPLAIN ({options}) {sql}");
    let messages = client.simple_query(&explain).unwrap_or_else(|error| panic!("{explain}: {error}"));
    let lines: Vec<String> = messages
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        })
        .collect();
    lines.join("\n")
}

fn start() -> (Cluster, Client) {
    let cluster = Cluster::start(3);
    let mut here = cluster.client();
    here.batch_execute(
        "CREATE TABLE t (id int PRIMARY KEY, v int, w text);
         SELECT sharding.distribute_table('t', 'id', 8);
         INSERT INTO t SELECT i, i % 10, 'w' || i FROM generate_series(1, 100) i;
         CREATE TABLE local (id int); INSERT INTO local VALUES (1), (2)",
    )
    .unwrap();
    (cluster, here)
}

fn contains_all(text: &str, parts: &[&str]) {
    let folded = text.to_lowercase();
    for part in parts {
        assert!(folded.contains(&part.to_lowercase()), "no {part:?} in\n{text}");
    }
}

#[test]
fn a_routed_query_names_its_node_and_shard() {
    let (_cluster, mut here) = start();
    let text = explain(&mut here, "COSTS OFF", "SELECT v FROM t WHERE id = 5");
    let node: String = here
        .query_one(
            "SELECT node::text FROM sharding.shards WHERE relation = 't'::regclass AND shard = sharding.shard_of('t', 5)",
            &[],
        )
        .unwrap()
        .get(0);
    contains_all(&text, &["router", &node, "1 of 8", "SELECT", "FROM"]);
    for other in ["n1", "n2", "n3"].iter().filter(|name| **name != node) {
        assert!(!text.contains(other), "{text}");
    }
}

#[test]
fn a_query_of_all_nodes_names_them() {
    let (_cluster, mut here) = start();
    for sql in
        ["SELECT count(*) FROM t", "SELECT l.id, t.v FROM local l JOIN t ON t.id = l.id", "SELECT * FROM t WHERE v = 3"]
    {
        let text = explain(&mut here, "VERBOSE", sql);
        contains_all(&text, &["tier", "n1", "n2", "n3", "8 of 8", "FROM"]);
    }
    // A filter is in the SQL that is sent.
    let text = explain(&mut here, "COSTS OFF", "SELECT w FROM t WHERE v = 3");
    contains_all(&text, &["v = 3"]);
}

#[test]
fn analyze_adds_rows_and_times_of_each_task() {
    let (_cluster, mut here) = start();
    let text = explain(&mut here, "ANALYZE", "SELECT * FROM t WHERE v = 3");
    contains_all(&text, &["n1", "n2", "n3", "actual time", "rows=10", "time=", "ms"]);
    let text = explain(&mut here, "ANALYZE, TIMING OFF, SUMMARY OFF, COSTS OFF", "SELECT * FROM t WHERE v = 3");
    assert!(!text.contains(" ms"), "{text}");
    contains_all(&text, &["rows="]);
    // What only reads changes nothing, what writes has written.
    explain(&mut here, "ANALYZE", "UPDATE t SET w = 'explained' WHERE v = 3");
    let changed: i64 = here.query_one("SELECT count(*) FROM t WHERE w = 'explained'", &[]).unwrap().get(0);
    assert_eq!(changed, 10);
    explain(&mut here, "COSTS OFF", "DELETE FROM t");
    let left: i64 = here.query_one("SELECT count(*) FROM t", &[]).unwrap().get(0);
    assert_eq!(left, 100);
}

#[test]
fn json_is_valid_and_has_the_same() {
    let (_cluster, mut here) = start();
    for (options, sql) in [
        ("FORMAT JSON", "SELECT v FROM t WHERE id = 5"),
        ("FORMAT JSON, ANALYZE, VERBOSE", "SELECT v, count(*) FROM t GROUP BY v"),
        ("FORMAT JSON, ANALYZE", "UPDATE t SET v = 1 WHERE id IN (1, 2, 3)"),
        ("FORMAT JSON", "INSERT INTO t VALUES (1000, 1, 'x'), (1001, 1, 'y')"),
    ] {
        let text = explain(&mut here, options, sql);
        // Postgres itself says whether it is JSON, and finds the property anywhere in it.
        let property = if sql.starts_with("INSERT") { "Nodes" } else { "Tier" };
        let found: i64 = here
            .query_one(
                &format!("SELECT count(*) FROM jsonb_path_query($1::text::jsonb, '$.**.\"{property}\"')"),
                &[&text],
            )
            .unwrap_or_else(|error| panic!("{error}\n{text}"))
            .get(0);
        assert!(found > 0, "{sql}: {text}");
    }
    let text = explain(&mut here, "FORMAT JSON", "SELECT v FROM t WHERE id = 5");
    for property in ["Tier", "Nodes", "Shards", "Remote SQL"] {
        assert!(text.contains(&format!("\"{property}\"")), "{property}: {text}");
    }
}

#[test]
fn a_generic_plan_chooses_when_it_runs() {
    let (_cluster, mut here) = start();
    here.batch_execute("SET plan_cache_mode = force_generic_plan; PREPARE q (int) AS SELECT v FROM t WHERE id = $1")
        .unwrap();
    let text = explain(&mut here, "COSTS OFF", "EXECUTE q (5)");
    contains_all(&text, &["router"]);
    let text = explain(&mut here, "ANALYZE, COSTS OFF", "EXECUTE q (5)");
    contains_all(&text, &["router", "rows=1"]);
}

#[test]
fn no_password_is_shown() {
    let (_cluster, mut here) = start();
    here.batch_execute("ALTER USER MAPPING FOR PUBLIC SERVER n1 OPTIONS (ADD password 'hush-hush')").unwrap();
    let text = explain(&mut here, "VERBOSE, ANALYZE", "SELECT * FROM t");
    assert!(!text.contains("hush"), "{text}");
    here.batch_execute("CREATE ROLE curious LOGIN; GRANT SELECT ON t TO curious; SET ROLE curious").unwrap();
    for view in ["sharding.nodes", "sharding.tables", "sharding.shards"] {
        let messages = here.simple_query(&format!("SELECT * FROM {view}")).unwrap_or_else(|e| panic!("{view}: {e}"));
        for message in messages {
            if let SimpleQueryMessage::Row(row) = message {
                let row: Vec<&str> = (0..row.len()).filter_map(|i| row.get(i)).collect();
                assert!(!row.join(" ").contains("hush"), "{view}");
            }
        }
    }
    let options: Option<Vec<String>> =
        here.query_one("SELECT umoptions FROM pg_user_mappings WHERE srvname = 'n1'", &[]).unwrap().get(0);
    assert!(options.is_none_or(|options| !options.join(" ").contains("hush")));
}

/// Tables for what follows: `t` with `u` beside it, `r` everywhere.
fn start_joined() -> (Cluster, Client) {
    let (cluster, mut here) = start();
    here.batch_execute(
        "CREATE TABLE u (t_id int, n int, note text);
         SELECT sharding.distribute_table('u', 't_id', 8, colocate_with => 't');
         CREATE TABLE r (id int PRIMARY KEY, name text);
         SELECT sharding.replicate_table('r');
         CREATE TABLE other (id int, v int);
         SELECT sharding.distribute_table('other', 'id', 4)",
    )
    .unwrap();
    (cluster, here)
}

#[test]
fn what_can_be_split_runs_on_the_nodes() {
    let (_cluster, mut here) = start_joined();
    let pushed: &[(&str, &[&str])] = &[
        ("SELECT count(*) FROM t", &["Aggregate", "SELECT count(*)"]),
        ("SELECT v, avg(id) FROM t GROUP BY v", &["Group Key: t.v", "sum(id)", "count(id)", "GROUP BY v"]),
        ("SELECT id, string_agg(w, ',') FROM t GROUP BY id", &["string_agg(w", "GROUP BY id"]),
        (
            "SELECT id FROM t ORDER BY w, id LIMIT 3 OFFSET 2",
            &["Limit", "Merge Key: t.w, t.id", "ORDER BY w, id", "LIMIT '5'"],
        ),
        ("SELECT DISTINCT v FROM t", &["SELECT DISTINCT v"]),
        ("SELECT count(DISTINCT id) FROM t", &["count(DISTINCT id)"]),
        ("SELECT count(DISTINCT w) FROM t", &["GROUP BY w", "Group Key: t.w", "Merge Key: t.w"]),
        ("SELECT t.w, u.n FROM t LEFT JOIN u ON u.t_id = t.id", &["LEFT JOIN"]),
        ("SELECT r.name, sum(u.n) FROM u JOIN r ON r.id = u.n GROUP BY r.name", &["JOIN", "GROUP BY r.name"]),
        ("SELECT u.n FROM u LEFT JOIN r ON r.id = u.n", &["LEFT JOIN"]),
        ("SELECT id FROM t WHERE NOT EXISTS (SELECT 1 FROM u WHERE u.t_id = t.id)", &["NOT (EXISTS"]),
        ("SELECT id FROM t WHERE id IN (SELECT t_id FROM u GROUP BY t_id HAVING count(*) > 2)", &["HAVING"]),
        ("SELECT max(x.c) FROM (SELECT t_id, count(*) AS c FROM u GROUP BY t_id) x", &["max(", "GROUP BY u.t_id"]),
        ("SELECT t_id, rank() OVER (PARTITION BY t_id ORDER BY n) FROM u", &["rank() OVER"]),
        ("SELECT id FROM t UNION SELECT t_id FROM u", &["UNION"]),
        ("SELECT stddev(u.n) FROM t JOIN u ON u.t_id = t.id", &["Aggregate", "JOIN", "sum", "count(u.n)"]),
        ("SELECT v, stddev(id), string_agg(w, ',') FROM t GROUP BY v", &["count(", "string_agg("]),
        ("SELECT corr(id, v) FROM t", &["regr_sxy(", "regr_count("]),
        ("SELECT v, array_agg(w) FROM t GROUP BY ROLLUP (v)", &["array_agg("]),
    ];
    for (sql, parts) in pushed {
        let text = explain(&mut here, "COSTS OFF", sql);
        contains_all(&text, &["Tier: pushdown"]);
        assert_eq!(text.matches("Foreign Scan").count(), 1, "{text}");
        contains_all(&text.replace("\n    ", " "), parts);
    }
}

#[test]
fn what_cannot_be_split_says_why() {
    let (_cluster, mut here) = start_joined();
    here.batch_execute("SET sharding.ship_joins = off").unwrap();
    for (sql, reason) in [
        ("SELECT t.id FROM t JOIN u ON u.n = t.id", "not joined on their shard keys"),
        ("SELECT t.id FROM t JOIN other o ON o.id = t.id", "not colocated"),
        ("SELECT r.id FROM r LEFT JOIN u ON u.n = r.id", "keeps rows of a reference table"),
        ("SELECT id FROM r WHERE NOT EXISTS (SELECT 1 FROM u WHERE u.n = r.id)", "reads a distributed table"),
        ("SELECT id FROM t WHERE id NOT IN (SELECT t_id FROM u)", "another shard key"),
        ("SELECT json_agg(id) FROM t", "\"json_agg\" cannot be split"),
        ("SELECT t.id FROM t, local l WHERE l.id = t.id", "only on the coordinator"),
        ("SELECT id, random() FROM t", "volatile"),
        ("SELECT id FROM t FOR UPDATE", "locks"),
        ("SELECT count(*) FROM t TABLESAMPLE bernoulli (10)", "samples"),
    ] {
        let text = explain(&mut here, "COSTS OFF, VERBOSE", sql);
        contains_all(&text, &["Tier: fallback", "Not Pushed Down Because", reason]);
    }
}

#[test]
fn each_kind_of_pushdown_can_be_switched_off() {
    let (_cluster, mut here) = start_joined();
    for (setting, sql) in [
        ("enable_pushdown", "SELECT id FROM t"),
        ("enable_join_pushdown", "SELECT count(*) FROM t JOIN u ON u.t_id = t.id"),
        ("enable_aggregate_pushdown", "SELECT count(*) FROM t"),
    ] {
        contains_all(&explain(&mut here, "COSTS OFF", sql), &["Tier: pushdown"]);
        here.batch_execute(&format!("SET sharding.{setting} = off")).unwrap();
        let text = explain(&mut here, "COSTS OFF, VERBOSE", sql);
        contains_all(&text, &["Tier: fallback", setting]);
        here.batch_execute(&format!("RESET sharding.{setting}")).unwrap();
    }
    here.batch_execute("SET sharding.enable_sort_pushdown = off").unwrap();
    for sql in ["SELECT id FROM t ORDER BY w LIMIT 3", "SELECT id FROM t ORDER BY w"] {
        let text = explain(&mut here, "COSTS OFF", sql);
        assert!(!text.contains("ORDER BY") && !text.contains("Merge Key") && text.contains("Sort"), "{text}");
    }
}

#[test]
fn what_the_nodes_have_sorted_is_merged() {
    let (_cluster, mut here) = start_joined();
    here.batch_execute("ANALYZE t").unwrap();
    for (sql, key) in [
        ("SELECT id, w FROM t ORDER BY id", "Merge Key: t.id\n"),
        ("SELECT * FROM t ORDER BY v DESC, w NULLS FIRST", "Merge Key: t.v DESC, t.w NULLS FIRST\n"),
        ("SELECT w, v FROM t ORDER BY v DESC NULLS LAST LIMIT 5", "Merge Key: t.v DESC NULLS LAST\n"),
        ("SELECT DISTINCT ON (v) v, w FROM t ORDER BY v, w", "Merge Key: t.v, t.w\n"),
        ("SELECT t.id, u.n FROM t JOIN u ON u.t_id = t.id ORDER BY u.n, t.id", "Merge Key: u.n, t.id\n"),
        ("SELECT t_id, count(*) FROM u GROUP BY t_id ORDER BY count(*) DESC", "Merge Key: count(*) DESC\n"),
    ] {
        let text = explain(&mut here, "COSTS OFF", sql);
        assert!(text.contains(key) && !text.contains("Sort"), "{sql}\n{text}");
    }
    let text = explain(&mut here, "COSTS OFF, VERBOSE", "SELECT id, rank() OVER (ORDER BY w) FROM t");
    contains_all(&text, &["WindowAgg", "Merge Key: t.w", "Not Pushed Down Because", "partitioned by the shard key"]);
    assert!(!text.contains("Sort"), "{text}");
}

#[test]
fn a_part_of_a_query_is_pushed_down() {
    let (_cluster, mut here) = start_joined();
    let text = explain(
        &mut here,
        "COSTS OFF",
        "SELECT l.id, x.c FROM local l JOIN (SELECT v, count(*) AS c FROM t GROUP BY v) x ON x.v = l.id",
    );
    contains_all(&text, &["Tier: pushdown", "GROUP BY v", "Seq Scan on local"]);
}

#[test]
fn a_subquery_for_each_row_is_joined_where_that_costs_less() {
    let (_cluster, mut here) = start_joined();
    here.batch_execute("INSERT INTO other SELECT i, i % 7 FROM generate_series(1, 100) i; ANALYZE t; ANALYZE other")
        .unwrap();
    let joined = "SELECT count(*) FROM t WHERE t.id > (SELECT avg(o.id) FROM other o WHERE o.v = t.v) AND t.w < 'w5'";
    let text = explain(&mut here, "COSTS OFF", joined);
    // Groups of the values that the filter leaves.
    contains_all(&text, &["GROUP BY o.v", "sum(o.id)", "IN ( SELECT", "Tier: pushdown"]);
    assert!(!text.contains("SubPlan"), "{text}");
    for kept in [
        "SELECT count(*) FROM t WHERE (SELECT count(*) FROM other o WHERE o.v = t.v) < 3",
        "SELECT count(*) FROM t WHERE coalesce((SELECT max(o.id) FROM other o WHERE o.v = t.v), 0) < 3",
        "SELECT count(*) FROM t WHERE t.id > (SELECT avg(o.id) FROM other o WHERE o.v > t.v)",
    ] {
        let text = explain(&mut here, "COSTS OFF", kept);
        assert!(text.contains("SubPlan"), "{kept}\n{text}");
    }
}

#[test]
fn what_shipped_rows_have_passed_is_not_asked_again() {
    let (_cluster, mut here) = start_joined();
    here.batch_execute("SET sharding.ship_joins = always").unwrap();
    let sql = "SELECT count(*) FROM t JOIN other o ON o.id = t.v WHERE o.v > 33 AND t.w > 'w7'";
    let text = explain(&mut here, "COSTS OFF", sql);
    assert!(text.contains("unnest") && text.matches("33").count() == 1 && text.matches("'w7'").count() == 1, "{text}");
    // The value of a column that joins is the other table's, too.
    let text = explain(&mut here, "COSTS OFF", "SELECT count(*) FROM t JOIN other o ON o.id = t.v WHERE o.id = 33");
    assert_eq!(text.matches("33").count(), 2, "{text}");
}

#[test]
fn a_scan_that_is_repeated_reports_each_node_once() {
    let (_cluster, mut here) = start_joined();
    here.batch_execute("SET sharding.ship_joins = off").unwrap();
    let sql = "SELECT (SELECT count(*) FROM t WHERE t.v = l.id) FROM local l";
    let text = explain(&mut here, "ANALYZE, COSTS OFF", sql);
    assert_eq!(text.matches("Task on n1").count(), 1, "{text}");
}

#[test]
fn insert_select_of_many_rows_goes_to_the_shards() {
    let (_cluster, mut here) = start();
    here.batch_execute(
        "CREATE TABLE u (id int PRIMARY KEY, v int); SELECT sharding.distribute_table('u', 'id', 8, 't');
         CREATE TABLE many (id int, v int); SELECT sharding.distribute_table('many', 'id', 8, 't');
         INSERT INTO many SELECT i, i % 10 FROM generate_series(1, 81000) i; ANALYZE many",
    )
    .unwrap();
    let each = ["pushdown", "8 of 8, a statement for each", "INSERT INTO public.u"];
    let sql = "INSERT INTO u SELECT id, v FROM many";
    contains_all(&explain(&mut here, "COSTS OFF", sql), &each);
    let text = explain(&mut here, "ANALYZE, COSTS OFF, TIMING OFF", sql);
    let rows =
        text.lines().filter_map(|line| line.split_once("Task on ")?.1.split_once("rows=")?.1.parse::<u32>().ok());
    assert_eq!(rows.sum::<u32>(), 81_000, "{text}");
    for other in [
        "INSERT INTO u SELECT id, v FROM t",
        "INSERT INTO u SELECT id, v FROM many ON CONFLICT DO NOTHING",
        "INSERT INTO u SELECT id, v FROM many WHERE id = 7",
    ] {
        let text = explain(&mut here, "COSTS OFF", other);
        assert!(!text.contains("for each") && text.contains("INSERT INTO public.u"), "{text}");
    }
    here.batch_execute(
        "CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER look AFTER INSERT ON u FOR EACH ROW EXECUTE FUNCTION look()",
    )
    .unwrap();
    assert!(!explain(&mut here, "COSTS OFF", sql).contains("for each"));
    here.batch_execute("DROP TRIGGER look ON u; SET sharding.enable_shard_writes = off").unwrap();
    assert!(!explain(&mut here, "COSTS OFF", sql).contains("for each"));
}

#[test]
fn insert_select_of_colocated_rows_goes_to_the_nodes() {
    let (_cluster, mut here) = start();
    here.batch_execute(
        "CREATE TABLE u (id int, n bigint, made timestamptz DEFAULT now(), PRIMARY KEY (id));
         SELECT sharding.distribute_table('u', 'id', 8, 't');
         CREATE TABLE s (id int, n bigserial);
         SELECT sharding.distribute_table('s', 'id', 8, 't')",
    )
    .unwrap();
    let pushed = ["pushdown", "n1, n2, n3", "INSERT INTO public.u"];
    for sql in [
        "INSERT INTO u (id, n) SELECT id, v FROM t",
        "INSERT INTO u (id, n) SELECT id, count(*) FROM t GROUP BY id ON CONFLICT (id) DO UPDATE SET n = excluded.n",
        "INSERT INTO u (n, id) SELECT 1, a.id FROM t a JOIN u b USING (id) ON CONFLICT DO NOTHING",
    ] {
        contains_all(&explain(&mut here, "COSTS OFF", sql), &pushed);
    }
    let one = explain(&mut here, "COSTS OFF", "INSERT INTO u (id, n) SELECT id, v FROM t WHERE id = 5");
    contains_all(&one, &["router", "1 of 8", "INSERT INTO public.u"]);
    for (sql, reason) in [
        ("INSERT INTO u (id, n) SELECT id + 1, v FROM t", "shard key is not that of the rows"),
        ("INSERT INTO u (id, n) SELECT v, count(*) FROM t GROUP BY v", "groups by other columns"),
        ("INSERT INTO u (id, n) SELECT id, random() FROM t", "volatile"),
        ("INSERT INTO s (id) SELECT id FROM t", "volatile"),
        ("INSERT INTO u (id, n) SELECT id, (SELECT count(*) FROM t) FROM t", "one value"),
        ("INSERT INTO u (id) SELECT b.id FROM t a LEFT JOIN t b ON b.id = a.id AND b.v > 3", "shard key is not that"),
        ("INSERT INTO u (id) SELECT id FROM t LIMIT 3", "limit"),
        ("INSERT INTO u (id) SELECT id FROM local", "local"),
    ] {
        let text = explain(&mut here, "COSTS OFF, VERBOSE", sql);
        assert!(!text.contains("INSERT INTO public.u (") && !text.contains("INSERT INTO public.s ("), "{sql}\n{text}");
        if text.contains("Reason") {
            contains_all(&text, &[reason]);
        }
    }
}

/// `t` and `u` with so many rows that settings travel with statements.
fn start_with_many_rows() -> (Cluster, Client) {
    let (cluster, mut here) = start_joined();
    here.batch_execute(
        "INSERT INTO t SELECT i, i % 10, 'w' || i FROM generate_series(101, 20000) i;
         INSERT INTO u SELECT i, i % 7, 'n' || i FROM generate_series(1, 20000) i;
         ANALYZE t; ANALYZE u; ANALYZE other; ANALYZE r",
    )
    .unwrap();
    (cluster, here)
}

#[test]
fn statements_of_many_rows_take_settings_to_the_nodes() {
    let (cluster, mut here) = start_with_many_rows();
    let workers = "max_parallel_workers_per_gather = 0";
    let both = "enable_partitionwise_join = on;enable_partitionwise_aggregate = on";
    for (sql, settings) in [
        ("SELECT u.n, count(*) FROM t JOIN u ON u.t_id = t.id GROUP BY u.n", format!("{both};{workers}")),
        ("SELECT t.v, u.n FROM t JOIN u ON u.t_id = t.id", format!("enable_partitionwise_join = on;{workers}")),
        ("SELECT v, sum(id) FROM t GROUP BY v", format!("enable_partitionwise_aggregate = on;{workers}")),
        ("SELECT v, w FROM t ORDER BY w LIMIT 3", workers.to_string()),
    ] {
        let text = explain(&mut here, "COSTS OFF, VERBOSE", sql);
        contains_all(&(text + "\n"), &["Tier: pushdown", &format!("Node Settings: {settings}\n")]);
    }
    // The workers that one server would use are shared by the three nodes of this machine.
    here.batch_execute("SET max_parallel_workers_per_gather = 8").unwrap();
    let sql = "SELECT v, sum(id) FROM t GROUP BY v";
    contains_all(&explain(&mut here, "COSTS OFF, VERBOSE", sql), &["max_parallel_workers_per_gather = 2"]);
    here.batch_execute("RESET max_parallel_workers_per_gather").unwrap();
    for sql in
        ["SELECT count(*) FROM other", "SELECT sum(v) FROM t WHERE id = 5", "SELECT id FROM t WHERE id IN (1, 2)"]
    {
        let text = explain(&mut here, "COSTS OFF, VERBOSE", sql);
        assert!(!text.contains("Node Settings"), "{text}");
    }
    here.batch_execute("SET sharding.enable_node_settings = off").unwrap();
    let text = explain(&mut here, "COSTS OFF, VERBOSE", sql);
    assert!(text.contains("Tier: pushdown") && !text.contains("Node Settings"), "{text}");
    here.batch_execute("RESET sharding.enable_node_settings").unwrap();

    // They get there, and end with the statement.
    let mut node = cluster.node_client(1);
    node.batch_execute("ALTER SYSTEM SET log_statement = 'all'").unwrap();
    node.batch_execute("SELECT pg_reload_conf(); SELECT pg_sleep(0.3)").unwrap();
    let count = "SELECT count(*) FROM t JOIN u ON u.t_id = t.id";
    assert_eq!(here.query_one(count, &[]).unwrap().get::<_, i64>(0), 20_000);
    contains_all(&cluster.node(1).log(), &["SET LOCAL enable_partitionwise_join = on;"]);
    let shown =
        "SELECT count(*) FROM sharding.run_on_nodes('SHOW enable_partitionwise_join') r WHERE r::text LIKE '%off%'";
    assert_eq!(here.query_one(shown, &[]).unwrap().get::<_, i64>(0), 3);
}

#[test]
fn duplicates_that_hardly_exist_are_not_looked_for_on_the_nodes() {
    let (_cluster, mut here) = start_with_many_rows();
    for sql in ["SELECT count(DISTINCT w) FROM t", "SELECT v, count(DISTINCT w) FROM t GROUP BY v"] {
        let text = explain(&mut here, "COSTS OFF, VERBOSE", sql);
        contains_all(&text, &["nearly all values of a DISTINCT aggregate are different"]);
        assert!(!text.contains("GROUP BY"), "{text}");
    }
    for sql in [
        "SELECT count(DISTINCT v) FROM t",
        "SELECT count(DISTINCT id) FROM t",
        "SELECT count(DISTINCT t.w) FROM t JOIN u ON u.t_id = t.id",
    ] {
        contains_all(&explain(&mut here, "COSTS OFF", sql), &["Tier: pushdown"]);
    }
    assert_eq!(here.query_one("SELECT count(DISTINCT w) FROM t", &[]).unwrap().get::<_, i64>(0), 20_000);
}

#[test]
fn nodes_group_before_they_join_or_count() {
    let (_cluster, mut here) = start_with_many_rows();
    here.batch_execute(
        "INSERT INTO r SELECT i, 'r' || i % 4 FROM generate_series(0, 12) i;
         CREATE TABLE s (t_id int, id int, place int, qty numeric, ratio float8, PRIMARY KEY (t_id, id));
         SELECT sharding.distribute_table('s', 't_id', 8, colocate_with => 't');
         INSERT INTO s SELECT i % 3000, i, i % 10, i / 3.0, i FROM generate_series(1, 30000) i;
         ANALYZE s; ANALYZE r",
    )
    .unwrap();
    let early: &[(&str, &[&str])] = &[
        (
            "SELECT r.name, count(*), sum(qty) FROM s JOIN r ON r.id = s.place GROUP BY r.name",
            &["place AS c1", "count(*) AS c2", "GROUP BY s_1.place", "(r.id = s.c1)"],
        ),
        ("SELECT count(DISTINCT t_id) FROM s", &["SELECT count(c1)", "t_id AS c1"]),
    ];
    for (sql, parts) in early {
        let text = explain(&mut here, "COSTS OFF, VERBOSE", sql);
        contains_all(&text, &["Tier: pushdown"]);
        contains_all(&text, parts);
    }
    for sql in [
        "SELECT r.name, count(*) FROM s LEFT JOIN r ON r.id = s.place GROUP BY r.name",
        "SELECT r.name, count(*) FROM s JOIN r ON r.id = s.place WHERE r.name <> 'r1' GROUP BY r.name",
        "SELECT r.name, sum(ratio) FROM s JOIN r ON r.id = s.place GROUP BY r.name",
        "SELECT r.name, sum(10 / place) FROM s JOIN r ON r.id = s.place GROUP BY r.name",
        "SELECT r.name, count(*) FROM s JOIN r ON r.id = s.id GROUP BY r.name",
        "SELECT count(DISTINCT id), count(DISTINCT t_id) FROM s",
    ] {
        let text = explain(&mut here, "COSTS OFF, VERBOSE", sql);
        assert!(!text.contains("AS c1"), "{text}");
    }
    here.batch_execute("SET sharding.early_grouping = off").unwrap();
    for (sql, _) in early {
        let text = explain(&mut here, "COSTS OFF, VERBOSE", sql);
        assert!(!text.contains("AS c1"), "{text}");
    }
    here.batch_execute("RESET sharding.early_grouping").unwrap();

    // Where an index has the groups and all that is asked for, it is read from end to end.
    let index = "random_page_cost = seq_page_cost";
    for sql in [
        "SELECT t_id, count(*), max(id) FROM s GROUP BY t_id HAVING count(*) > 1 ORDER BY t_id",
        "SELECT count(DISTINCT t_id) FROM s WHERE id > 5",
        "SELECT id, t_id, count(*) FROM s GROUP BY id, t_id",
    ] {
        let settings = format!("enable_partitionwise_aggregate = on;{index}");
        contains_all(&explain(&mut here, "COSTS OFF, VERBOSE", sql), &[&settings]);
    }
    for sql in [
        "SELECT t_id, sum(qty) FROM s GROUP BY t_id",
        "SELECT id, count(*) FROM s GROUP BY id",
        "SELECT t_id + 1, count(*) FROM s GROUP BY t_id + 1",
        "SELECT count(*) FROM s",
    ] {
        let text = explain(&mut here, "COSTS OFF, VERBOSE", sql);
        assert!(!text.contains("page_cost"), "{text}");
    }
}
