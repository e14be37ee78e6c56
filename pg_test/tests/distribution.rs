//! Distributing, replicating and bringing back keeps all that a table is, or refuses and changes nothing.

use pg_test::harness::Cluster;
use postgres::Client;
use postgres::error::DbError;

fn fails(client: &mut Client, sql: &str) -> DbError {
    let error = client.batch_execute(sql).expect_err(sql);
    error.as_db_error().unwrap_or_else(|| panic!("{sql}: {error}")).clone()
}

fn number(client: &mut Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error}")).get(0)
}

/// Everything that the catalogs say of table `t.t`, as lines.
///
/// What differs by the nature of a partitioned table is left out: its kind, storage parameters, and
/// the statistics of its columns.
fn catalog(client: &mut Client) -> Vec<String> {
    let sql = "
        SELECT format('column %s %s notnull=%s identity=%s generated=%s collation=%s default=%s comment=%s acl=%s stats=%s',
                      a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attgenerated,
                      a.attcollation::regcollation, pg_get_expr(d.adbin, d.adrelid),
                      col_description(a.attrelid, a.attnum), 
                      (SELECT array_agg(x::text ORDER BY x::text) FROM unnest(a.attacl) x), a.attstattarget)
          FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
         WHERE a.attrelid = 't.t'::regclass AND a.attnum > 0 AND NOT a.attisdropped
        UNION ALL
        SELECT format('constraint %s %s validated=%s comment=%s', conname, pg_get_constraintdef(oid), convalidated,
                      obj_description(oid, 'pg_constraint'))
          FROM pg_constraint WHERE conrelid = 't.t'::regclass AND contype <> 'n'
        UNION ALL
        SELECT format('referenced by %s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
          FROM pg_constraint WHERE confrelid = 't.t'::regclass AND conparentid = 0
        UNION ALL
        SELECT format('index %s %s comment=%s clustered=%s', indexrelid::regclass,
                      replace(pg_get_indexdef(indexrelid), ' ON ONLY ', ' ON '),
                      obj_description(indexrelid, 'pg_class'), indisclustered)
          FROM pg_index WHERE indrelid = 't.t'::regclass
        UNION ALL
        SELECT format('trigger %s %s enabled=%s comment=%s', tgname, pg_get_triggerdef(oid), tgenabled,
                      obj_description(oid, 'pg_trigger'))
          FROM pg_trigger WHERE tgrelid = 't.t'::regclass AND NOT tgisinternal AND tgname NOT LIKE '%sharding%'
        UNION ALL
        SELECT format('policy %s %s permissive=%s roles=%s using=%s check=%s', polname, polcmd, polpermissive,
                      polroles::regrole[], pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
          FROM pg_policy WHERE polrelid = 't.t'::regclass
        UNION ALL
        SELECT format('statistics %s', pg_get_statisticsobjdef(oid)) FROM pg_statistic_ext WHERE stxrelid = 't.t'::regclass
        UNION ALL
        SELECT format('table owner=%s acl=%s rls=%s forced=%s comment=%s identity=%s', relowner::regrole,
                      (SELECT array_agg(x::text ORDER BY x::text) FROM unnest(relacl) x),
                      relrowsecurity, relforcerowsecurity, obj_description(oid, 'pg_class'), relreplident)
          FROM pg_class WHERE oid = 't.t'::regclass
        UNION ALL
        SELECT format('view %s %s', c.oid::regclass, pg_get_viewdef(c.oid))
          FROM pg_class c WHERE relkind IN ('v', 'm') AND relnamespace = 't'::regnamespace
        UNION ALL
        SELECT format('sequence %s of %s', s.oid::regclass, d.refobjsubid)
          FROM pg_class s JOIN pg_depend d ON d.objid = s.oid AND d.refobjid = 't.t'::regclass AND d.deptype IN ('a', 'i')
         WHERE s.relkind = 'S'
        UNION ALL
        SELECT format('member of %s', pubname) FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid
         WHERE r.prrelid = 't.t'::regclass
        ORDER BY 1";
    let rows = client.query(sql, &[]).expect("catalog");
    rows.iter().map(|row| row.get(0)).collect()
}

/// A table with everything that a table may have, and rows; `t.ref` that it refers to, `t.child` that
/// refers to it.
const RICH: &str = "
    CREATE SCHEMA t;
    CREATE ROLE reader; CREATE ROLE writer; CREATE ROLE owner;
    GRANT USAGE ON SCHEMA t TO reader, writer, owner;
    GRANT CREATE ON SCHEMA t TO owner;
    CREATE TYPE t.mood AS ENUM ('sad', 'ok');
    CREATE DOMAIN t.positive AS int CHECK (VALUE > 0);
    CREATE TYPE t.pair AS (a int, b text);
    CREATE FUNCTION t.label(int) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT ''l'' || $1';
    CREATE FUNCTION t.touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.note := coalesce(NEW.note, ''touched''); RETURN NEW; END';
    CREATE TABLE t.ref (id int PRIMARY KEY, v text);
    INSERT INTO t.ref SELECT i, 'r' || i FROM generate_series(1, 10) i;
    CREATE TABLE t.t (
        gone int,
        id int NOT NULL,
        sub int NOT NULL GENERATED BY DEFAULT AS IDENTITY (START 1000 INCREMENT 5),
        s bigserial,
        twice int GENERATED ALWAYS AS (id * 2) STORED,
        label text DEFAULT t.label(7),
        feel t.mood DEFAULT 'ok',
        size t.positive DEFAULT 3,
        duo t.pair,
        amount numeric(10,2) CHECK (amount >= 0),
        c text COLLATE \"C\" DEFAULT 'x',
        note text,
        ref int REFERENCES t.ref,
        at timestamptz DEFAULT now(),
        CONSTRAINT t_pk PRIMARY KEY (id, sub),
        CONSTRAINT t_uk UNIQUE (sub, id) INCLUDE (c),
        CONSTRAINT sized CHECK (size < 1000) NOT VALID
    );
    ALTER TABLE t.t DROP COLUMN gone;
    CREATE INDEX t_amount ON t.t (amount DESC NULLS LAST) WHERE feel = 'ok';
    CREATE INDEX t_expr ON t.t (lower(c), (id + 1)) INCLUDE (note);
    CREATE INDEX t_gin ON t.t USING gin (to_tsvector('simple', note));
    CREATE STATISTICS t.t_stats (ndistinct) ON id, ref FROM t.t;
    CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON t.t FOR EACH ROW WHEN (NEW.size > 1) EXECUTE FUNCTION t.touch();
    CREATE TABLE t.child (id int NOT NULL, sub int NOT NULL, n int, PRIMARY KEY (id, n), FOREIGN KEY (id, sub) REFERENCES t.t ON DELETE CASCADE);
    COMMENT ON TABLE t.t IS 'a table'; COMMENT ON COLUMN t.t.amount IS 'an amount';
    COMMENT ON INDEX t.t_amount IS 'an index'; COMMENT ON CONSTRAINT sized ON t.t IS 'a constraint';
    COMMENT ON TRIGGER touch ON t.t IS 'a trigger';
    INSERT INTO t.t (id, amount, duo, ref, feel) SELECT i, i * 1.5, ROW(i, 'b')::t.pair, 1 + i % 10, CASE WHEN i % 3 > 0 THEN 'sad'::t.mood END
        FROM generate_series(1, 200) i;
    INSERT INTO t.child SELECT id, sub, 1 FROM t.t WHERE id % 2 = 0;
    CREATE VIEW t.v AS SELECT id, sub, amount, feel, (duo).a FROM t.t WHERE size < 10;
    CREATE VIEW t.v2 AS SELECT v.id, r.v FROM t.v JOIN t.ref r ON r.id = v.id;
    CREATE MATERIALIZED VIEW t.m AS SELECT feel, count(*) FROM t.t GROUP BY feel;
    GRANT SELECT ON t.t TO reader; GRANT INSERT, UPDATE (amount, note) ON t.t TO writer WITH GRANT OPTION;
    GRANT SELECT ON t.v TO reader;
    ALTER TABLE t.t OWNER TO owner;
    ALTER TABLE t.t ENABLE ROW LEVEL SECURITY;
    CREATE POLICY seen ON t.t FOR SELECT TO reader USING (feel = 'sad' AND amount > 10);
    CREATE POLICY written ON t.t AS RESTRICTIVE FOR INSERT TO writer WITH CHECK (size < 5);
    ALTER TABLE t.t ALTER COLUMN amount SET STATISTICS 500;
    ALTER TABLE t.t REPLICA IDENTITY FULL;";

const CONTENTS: &str = "SELECT md5(string_agg(x::text, E'\\n' ORDER BY id, sub)) FROM t.t x";

fn rich(nodes: usize) -> (Cluster, Client) {
    let cluster = Cluster::start(nodes);
    let mut here = cluster.client();
    for i in 1..=nodes {
        cluster.node_client(i).batch_execute("CREATE ROLE reader; CREATE ROLE writer; CREATE ROLE owner").unwrap();
    }
    here.batch_execute(RICH).unwrap_or_else(|error| panic!("{error:?}"));
    (cluster, here)
}

fn text(client: &mut Client, sql: &str) -> String {
    client.query_one(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error}")).get(0)
}

fn assert_same(before: &[String], after: &[String], what: &str) {
    let only =
        |a: &[String], b: &[String]| -> Vec<String> { a.iter().filter(|line| !b.contains(line)).cloned().collect() };
    let (lost, new) = (only(before, after), only(after, before));
    assert!(lost.is_empty() && new.is_empty(), "{what}\nlost: {lost:#?}\nnew: {new:#?}");
}

#[test]
fn a_distributed_table_keeps_everything() {
    let (cluster, mut here) = rich(3);
    let (before, contents) = (catalog(&mut here), text(&mut here, CONTENTS));
    here.batch_execute(
        "SELECT sharding.replicate_table('t.ref');
         SELECT sharding.distribute_table('t.t', 'id', 8);
         SELECT sharding.distribute_table('t.child', 'id', 8, 't.t')",
    )
    .unwrap_or_else(|error| panic!("{error:?}"));
    assert_same(&before, &catalog(&mut here), "on the coordinator");
    assert_eq!(contents, text(&mut here, CONTENTS));
    assert_eq!(number(&mut here, "SELECT count(*) FROM t.v2"), 10);
    assert_eq!(text(&mut here, "SELECT kind FROM sharding.tables WHERE relation = 't.t'::regclass"), "distributed");

    // What the nodes need to check and to do by themselves is there, too.
    let ours = |line: &String| {
        ["constraint ", "index ", "policy ", "trigger ", "table owner"].iter().any(|kind| line.starts_with(kind))
    };
    let here_lines: Vec<String> = catalog(&mut here).into_iter().filter(|line| ours(line)).collect();
    for i in 1..=3 {
        let there: Vec<String> = catalog(&mut cluster.node_client(i)).into_iter().filter(|line| ours(line)).collect();
        assert_same(&here_lines, &there, &format!("on node {i}"));
    }
    // Every row is on exactly one node, in the shard that shard_of names.
    let per_node: i64 = (1..=3).map(|i| number(&mut cluster.node_client(i), "SELECT count(*) FROM t.t")).sum();
    assert_eq!(per_node, 200);
    let shards = here
        .query("SELECT shard, node::text, shard_relation FROM sharding.shards WHERE relation = 't.t'::regclass", &[])
        .unwrap();
    assert_eq!(shards.len(), 8);
    for shard in shards {
        let (number_of, node, relation): (i32, String, String) = (shard.get(0), shard.get(1), shard.get(2));
        let i: usize = node[1..].parse().unwrap();
        let ids = cluster.node_client(i).query(&format!("SELECT id FROM {relation}"), &[]).unwrap();
        for id in ids {
            let id: i32 = id.get(0);
            let of: i32 = here.query_one("SELECT sharding.shard_of('t.t', $1::int)", &[&id]).unwrap().get(0);
            assert_eq!(of, number_of, "id {id}");
        }
    }

    // It works on: defaults go on counting, triggers fire, keys cascade, roles see what they may.
    let row = here
        .query_one("INSERT INTO t.t (id, amount) VALUES (500, 1) RETURNING sub, s, twice, label, note, feel::text", &[])
        .unwrap();
    let found: (i32, i64, i32, String, String, String) =
        (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4), row.get(5));
    assert_eq!(found, (2000, 201, 1000, "l7".into(), "touched".into(), "ok".into()));
    assert_eq!(fails(&mut here, "INSERT INTO t.t (id, amount) VALUES (501, -1)").code().code(), "23514");
    assert_eq!(fails(&mut here, "INSERT INTO t.t (id, size) VALUES (501, 2000)").code().code(), "23514");
    assert_eq!(fails(&mut here, "INSERT INTO t.t (id, ref) VALUES (501, 77)").code().code(), "23503");
    let children = number(&mut here, "SELECT count(*) FROM t.child");
    here.batch_execute("DELETE FROM t.t WHERE id = 2").unwrap();
    assert_eq!(number(&mut here, "SELECT count(*) FROM t.child"), children - 1);
    here.batch_execute("SET ROLE reader").unwrap();
    let seen = number(&mut here, "SELECT count(*) FROM t.t");
    here.batch_execute("RESET ROLE").unwrap();
    assert_eq!(seen, number(&mut here, "SELECT count(*) FROM t.t WHERE feel = 'sad' AND amount > 10"));
}

#[test]
fn there_and_back_again() {
    let (cluster, mut here) = rich(2);
    let (before, contents) = (catalog(&mut here), text(&mut here, CONTENTS));
    for round in 0..2 {
        here.batch_execute(
            "SELECT sharding.replicate_table('t.ref');
             SELECT sharding.distribute_table('t.t', 'id', 4);
             SELECT sharding.distribute_table('t.child', 'id', 4, 't.t');
             SELECT sharding.undistribute_table('t.child');
             SELECT sharding.undistribute_table('t.t');
             SELECT sharding.undistribute_table('t.ref')",
        )
        .unwrap_or_else(|error| panic!("round {round}: {error:?}"));
        assert_same(&before, &catalog(&mut here), &format!("round {round}"));
        assert_eq!(contents, text(&mut here, CONTENTS));
        let kind = text(&mut here, "SELECT relkind::text FROM pg_class WHERE oid = 't.t'::regclass");
        assert_eq!(kind, "r");
        for i in 1..=2 {
            let left = "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace IN
                (SELECT oid FROM pg_namespace WHERE nspname IN ('t', 'sharding_shards'))";
            assert_eq!(number(&mut cluster.node_client(i), left), 0, "on node {i}");
        }
        assert_eq!(number(&mut here, "SELECT count(*) FROM sharding.tables"), 0);
        assert_eq!(number(&mut here, "SELECT count(*) FROM sharding.shards"), 0);
    }
    // It is an ordinary table: nodes may go, rows may change.
    here.batch_execute(
        "SELECT sharding.remove_node('n1'); SELECT sharding.remove_node('n2');
         INSERT INTO t.t (id, amount) VALUES (500, 1); DELETE FROM t.t WHERE id = 2",
    )
    .unwrap();
}

#[test]
fn a_reference_table_keeps_everything() {
    let (cluster, mut here) = rich(2);
    here.batch_execute("DROP TABLE t.child").unwrap();
    // Serial and identity columns of reference tables count on the coordinator.
    let (before, contents) = (catalog(&mut here), text(&mut here, CONTENTS));
    here.batch_execute("SELECT sharding.replicate_table('t.ref'); SELECT sharding.replicate_table('t.t')")
        .unwrap_or_else(|error| panic!("{error:?}"));
    assert_same(&before, &catalog(&mut here), "on the coordinator");
    here.batch_execute(
        "INSERT INTO t.t (id, amount) VALUES (500, 1), (501, 2);
         UPDATE t.t SET amount = amount + 1, at = now() WHERE id < 50;
         DELETE FROM t.t WHERE id > 190 AND id < 500",
    )
    .unwrap();
    let now = text(&mut here, CONTENTS);
    assert_ne!(now, contents);
    for i in 1..=2 {
        assert_eq!(text(&mut cluster.node_client(i), CONTENTS), now, "copy on node {i}");
    }
}

#[test]
fn what_fails_on_one_node_leaves_nothing_on_any() {
    let (cluster, mut here) = rich(3);
    let (before, contents) = (catalog(&mut here), text(&mut here, CONTENTS));
    // Something of the table's name is in the way on one node.
    cluster.node_client(2).batch_execute("CREATE SCHEMA t; CREATE TABLE t.t (other int)").unwrap();
    here.batch_execute("SELECT sharding.replicate_table('t.ref')").unwrap();
    let error = fails(&mut here, "SELECT sharding.distribute_table('t.t', 'id', 8)");
    let told = format!("{} {:?} {:?}", error.message(), error.detail(), error.where_());
    assert!(told.contains("n2"), "{told}");
    assert_same(&before, &catalog(&mut here), "after the failure");
    assert_eq!(contents, text(&mut here, CONTENTS));
    for i in [1, 3] {
        let made = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
            WHERE relname LIKE 't\\_%' AND nspname = 'sharding_shards' OR relname = 't' AND nspname = 't'";
        assert_eq!(number(&mut cluster.node_client(i), made), 0, "on node {i}");
    }
    cluster.node_client(2).batch_execute("DROP TABLE t.t").unwrap();
    here.batch_execute("SELECT sharding.distribute_table('t.t', 'id', 8)").unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!(contents, text(&mut here, CONTENTS));
}

#[test]
fn rolling_back_undoes_it_everywhere() {
    let (cluster, mut here) = rich(2);
    let (before, contents) = (catalog(&mut here), text(&mut here, CONTENTS));
    here.batch_execute(
        "BEGIN;
         SELECT sharding.replicate_table('t.ref');
         SELECT sharding.distribute_table('t.t', 'id', 4);
         UPDATE t.t SET amount = 0;
         ROLLBACK",
    )
    .unwrap_or_else(|error| panic!("{error:?}"));
    assert_same(&before, &catalog(&mut here), "after the rollback");
    assert_eq!(contents, text(&mut here, CONTENTS));
    for i in 1..=2 {
        let made = "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace IN
            (SELECT oid FROM pg_namespace WHERE nspname IN ('t', 'sharding_shards'))";
        assert_eq!(number(&mut cluster.node_client(i), made), 0);
    }
    assert_eq!(number(&mut here, "SELECT count(*) FROM sharding.tables"), 0);
}

#[test]
fn what_cannot_be_kept_is_refused_with_a_reason() {
    let cluster = Cluster::start(2);
    let mut here = cluster.client();
    here.batch_execute(
        "CREATE TYPE mood AS ENUM ('a', 'b');
         CREATE TABLE unique_elsewhere (id int, other int UNIQUE);
         CREATE TABLE key_elsewhere (id int, other int PRIMARY KEY);
         CREATE TABLE enum_key (k mood, v int);
         CREATE TABLE generated_key (a int, k int GENERATED ALWAYS AS (a + 1) STORED);
         CREATE TABLE json_key (k json, v int);
         CREATE TABLE parent (id int); CREATE TABLE heir () INHERITS (parent);
         CREATE TABLE by_range (id int) PARTITION BY RANGE (id);
         CREATE TABLE by_range_1 PARTITION OF by_range FOR VALUES FROM (0) TO (10);
         CREATE UNLOGGED TABLE unlogged (id int);
         CREATE TEMP TABLE temporary (id int);
         CREATE VIEW a_view AS SELECT 1 AS id;
         CREATE TABLE far (id int PRIMARY KEY);
         CREATE TABLE refers (id int, far int REFERENCES far);
         CREATE TABLE ruled (id int); CREATE RULE r AS ON DELETE TO ruled DO INSTEAD NOTHING;
         CREATE TABLE fine (id int PRIMARY KEY, v int);
         CREATE TABLE text_key (k text PRIMARY KEY);
         SELECT sharding.distribute_table('fine', 'id', 4)",
    )
    .unwrap();
    for (call, code) in [
        ("distribute_table('unique_elsewhere', 'id')", "0A000"),
        ("distribute_table('key_elsewhere', 'id')", "0A000"),
        ("distribute_table('enum_key', 'k')", "0A000"),
        ("distribute_table('generated_key', 'k')", "0A000"),
        ("distribute_table('json_key', 'k')", "0A000"),
        ("distribute_table('heir', 'id')", "0A000"),
        ("distribute_table('by_range', 'id')", "0A000"),
        ("distribute_table('by_range_1', 'id')", "42809"),
        ("distribute_table('unlogged', 'id')", "0A000"),
        ("distribute_table('temporary', 'id')", "0A000"),
        ("distribute_table('a_view', 'id')", "42809"),
        ("distribute_table('refers', 'id')", "0A000"),
        ("distribute_table('ruled', 'id')", "0A000"),
        ("distribute_table('pg_class', 'oid')", "42809"),
        ("distribute_table('text_key', 'nothing')", "42703"),
        ("distribute_table('text_key', 'k', 0)", "22023"),
        ("distribute_table('text_key', 'k', -4)", "22023"),
        ("distribute_table('text_key', 'k', 4, 'fine')", "22023"),
        ("distribute_table('text_key', 'k', 4, 'far')", "22023"),
        ("distribute_table('fine', 'id')", "22023"),
        ("replicate_table('fine')", "22023"),
        ("replicate_table('unlogged')", "0A000"),
        ("undistribute_table('far')", "22023"),
    ] {
        let error = fails(&mut here, &format!("SELECT sharding.{call}"));
        // Which class of refusal is a matter of taste; that it is one, with a reason, is not.
        let refusal = ["0A000", "22023", "42809", "42703", "55000", "42P16", "42501"];
        assert!(refusal.contains(&error.code().code()), "{call}: expected {code}: {error:?}");
        let why = error.detail().is_some() || error.hint().is_some() || error.code().code() != "0A000";
        assert!(why, "{call}: no reason: {error:?}");
    }
    assert_eq!(number(&mut here, "SELECT count(*) FROM sharding.tables"), 1);
    for i in 1..=2 {
        let made =
            "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')";
        assert_eq!(number(&mut cluster.node_client(i), made), 1);
    }
}

#[test]
fn tables_of_one_key_type_and_count_are_colocated() {
    let cluster = Cluster::start(3);
    let mut here = cluster.client();
    here.batch_execute(
        "CREATE TABLE a (id int); CREATE TABLE b (k int); CREATE TABLE c (id int8); CREATE TABLE d (id int);
         CREATE TABLE e (id int);
         SELECT sharding.distribute_table('a', 'id', 6);
         SELECT sharding.distribute_table('b', 'k', 6);
         SELECT sharding.distribute_table('c', 'id', 6);
         SELECT sharding.distribute_table('d', 'id', 12);
         SELECT sharding.distribute_table('e', 'id', colocate_with => 'd')",
    )
    .unwrap();
    let group = |here: &mut Client, table: &str| -> i32 {
        let sql = format!("SELECT colocation_group FROM sharding.tables WHERE relation = '{table}'::regclass");
        here.query_one(&sql, &[]).unwrap().get(0)
    };
    let groups: Vec<i32> = ["a", "b", "c", "d", "e"].iter().map(|table| group(&mut here, table)).collect();
    assert_eq!(groups[0], groups[1]);
    assert_eq!(groups[3], groups[4]);
    assert_ne!(groups[0], groups[2]);
    assert_ne!(groups[0], groups[3]);
    assert_eq!(number(&mut here, "SELECT count(*) FROM sharding.shards WHERE relation = 'e'::regclass"), 12);
    let spread = "SELECT count(DISTINCT node) FROM sharding.shards WHERE relation = 'a'::regclass";
    assert_eq!(number(&mut here, spread), 3);
    for (key, n) in [("5", 5), ("'5'", 5), ("-1", -1)] {
        let sql = format!("SELECT sharding.shard_of('a', {key}) = sharding.shard_of('b', {n})");
        let same: bool = here.query_one(&sql, &[]).unwrap().get(0);
        assert!(same, "{key}");
    }
}
