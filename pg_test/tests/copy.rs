//! COPY FROM whose records go to the nodes unparsed: the same rows, errors and line numbers as on one server.

use pg_test::harness::{Answer, Cluster, Pair, Plain, Reply, Session};
use std::io::Write;

const TABLE: &str = "CREATE TABLE t (v int, id int, note text, w text DEFAULT 'w', CHECK (v <> 13))";

struct Servers {
    plain: Plain,
    cluster: Cluster,
}

fn start(nodes: usize, table: &str, key: &str) -> Servers {
    let servers = Servers { plain: Plain::start(), cluster: Cluster::start(nodes) };
    servers.plain.client().batch_execute(table).expect(table);
    let mut here = servers.cluster.client();
    here.batch_execute(table).expect(table);
    here.batch_execute(&format!("SELECT sharding.distribute_table('t', '{key}', 8)")).expect("distribute");
    servers
}

impl Servers {
    fn pair(&self) -> Pair {
        Pair::new(self.plain.server(), self.cluster.coordinator())
    }
}

/// An error without what only a cluster says: SQLSTATE, message, DETAIL, HINT, CONTEXT.
fn failure(replies: &[Reply]) -> Option<(String, String, String)> {
    replies.iter().find_map(|reply| match &reply.answer {
        Answer::Failed { code, message, more } => {
            let more: Vec<&str> = more.lines().filter(|line| !line.contains("node \"")).map(str::trim_end).collect();
            // A partition's name is in the message of a constraint that it has.
            let message = (0..8).fold(message.clone(), |message, shard| message.replace(&format!("t_{shard}"), "t"));
            Some((code.clone(), message, more.join("\n")))
        }
        _ => None,
    })
}

/// The same answer, words and rows on both.
#[track_caller]
fn same(pair: &mut Pair, sql: &str, input: &[u8]) {
    pair.both("BEGIN");
    let (left, right): (&mut Session, &mut Session) = pair.sessions();
    let (left, right) = (left.run_with_input(sql, Some(input)), right.run_with_input(sql, Some(input)));
    let shown = String::from_utf8_lossy(&input[..input.len().min(200)]);
    assert_eq!(failure(&left), failure(&right), "{sql}\n{shown}");
    assert_eq!(left.last().map(Reply::tag), right.last().map(Reply::tag), "{sql}\n{shown}");
    if failure(&left).is_none() {
        pair.same("SELECT * FROM t");
    }
    pair.both("ROLLBACK");
}

#[test]
fn text_reads_as_on_one_server() {
    let servers = start(2, TABLE, "id");
    let mut pair = servers.pair();
    let inputs: &[&[u8]] = &[
        b"",
        b"1\t1\ta\n2\t2\tb\n",
        b"1\t1\ta\r\n2\t2\tb\r\n",
        b"1\t1\ta\r2\t2\tb\r",
        b"1\t1\ta\n2\t2\tb",
        b"1\t\\N\ta\n\\N\t2\t\\N\n",
        b"1\t1\ta\\\nb\n2\t\\x32\t\\.x\n",
        b"1\t1\ta\\\tb\\\\\n2\t\\0612\tx\n",
        b"1\t1\ta\n\\.\nignored\n",
        b"\\.\n",
        b"1\t1\ta\\.\n2\t2\tb\n",
        b"1\t1\ta\n\\.x\n",
        b"1\t1\ta\n\\.",
        b"1\t1\ta\n\\.\r\n",
        b"1\t1\ta\rb\n2\t2\tb\n",
        b"1\t1\ta\n2\t2\tb\rc\n3\t3\tc\n",
        b"1\t1\ta\r\n2\t2\tb\n3\t3\tc\r\n",
        b"1\t1\ta\n2\tx\tb\n",
        b"1\t1\ta\n2\t99999999999\tb\n",
        b"1\t1\ta\n2\t 3\tb\n",
        b"1\t1\ta\nx\t2\tb\n3\t3\tc\n",
        b"1\t1\ta\n2\t2\n3\t3\tc\n",
        b"1\t1\ta\n2\n3\t3\tc\n",
        b"1\t1\ta\n\n3\t3\tc\n",
        b"1\t1\ta\n2\t2\tb\tc\n",
        b"1\t1\t\xff\n",
        b"1\t1\ta\\0\n",
        b"1\t1\ta\\",
        b"1\t1\ta\n2\t\\0\tb\n",
    ];
    for input in inputs {
        same(&mut pair, "COPY t (v, id, note) FROM STDIN", input);
    }
    same(&mut pair, "COPY t (v, id, note) FROM STDIN (DELIMITER '|', NULL '-')", b"1|1|a\n-|-|-\n2|2|\\-\n3|3|a\\|b\n");
    same(&mut pair, "COPY t (id) FROM STDIN (NULL '')", b"1\n\n2\n");
    for header in ["HEADER", "HEADER match"] {
        let sql = format!("COPY t (v, id, note) FROM STDIN ({header})");
        let inputs: &[&[u8]] = &[
            b"",
            b"v\tid\tnote\n",
            b"v\tid\tnote\n1\t1\ta\n",
            b"v\tid\n1\t1\ta\n",
            b"v\tid\tx\n1\t1\ta\n",
            b"v\tid\tnote",
            b"v\tid\tnote\nx\t1\ta\n",
        ];
        for input in inputs {
            same(&mut pair, &sql, input);
        }
    }
}

#[test]
fn csv_reads_as_on_one_server() {
    let servers = start(3, TABLE, "id");
    let mut pair = servers.pair();
    let inputs: &[&[u8]] = &[
        b"1,1,a\n2,2,b\n",
        b"1,\"1\",\"a\nb\"\n2,2,\"c\"\"d\"\n",
        b"1,1,\"a\r\nb\"\r\n2,2,b\r\n",
        b"1,,a\n,2,\n3,\"3\",\"\"\n",
        b"1,1,a\n\\.\nignored\n",
        b"1,1,a\n\\.x,2,b\n",
        b"1,1,a\"b,c\"d\n2,\"2\"0,x\n",
        b"1,1,\"a\n2,2,b\n",
        b"1,\"1,a\n2,2,b\n",
        b"1,1,a\n2,x,b\n",
        b"1,1,\"a\nb\"\nx,2,b\n",
        b"1,1,a\rb\n2,2,b\n",
        b"1,1,a\n2,2,b\rc\n",
        b"1,1,a\n2,2\n",
        b"1,1,a\n2,2,b,c\n",
        b"1,1,a\n\n",
    ];
    for input in inputs {
        same(&mut pair, "COPY t (v, id, note) FROM STDIN (FORMAT csv)", input);
    }
    let odd = "COPY t (v, id, note) FROM STDIN (FORMAT csv, DELIMITER ';', QUOTE '''', ESCAPE '\\', NULL 'nil')";
    same(&mut pair, odd, b"1;'1';'it\\'s'\nnil;nil;'nil'\n3;3;'a\\\\'\n4;4;\\x\n");
    let forced = "COPY t (v, id, note) FROM STDIN (FORMAT csv, NULL '0', FORCE_NULL (id), FORCE_NOT_NULL (note))";
    same(&mut pair, forced, b"1,\"0\",0\n2,0,\"0\"\n0,3,x\n");
    let forced = "COPY t (v, id, note) FROM STDIN (FORMAT csv, NULL '0', FORCE_NOT_NULL (id), FORCE_NULL (note))";
    same(&mut pair, forced, b"1,\"0\",0\n2,0,\"0\"\n0,3,x\n");
    for header in ["HEADER", "HEADER match"] {
        let sql = format!("COPY t (v, id, note) FROM STDIN (FORMAT csv, {header})");
        for input in
            [&b"v,id,note\n1,1,a\n"[..], b"\"v\",\"id\",\"note\"\r\n1,1,a\r\n", b"v,id,\"a\nb\"\n1,1,a\nx,1,a\n"]
        {
            same(&mut pair, &sql, input);
        }
    }
    for wrong in ["FORCE_NULL (w)", "DELIMITER 'ab'", "FORMAT csv, QUOTE 'ab'", "HEADER 2", "nonsense", "ENCODING 'x'"]
    {
        same(&mut pair, &format!("COPY t (v, id, note) FROM STDIN ({wrong})"), b"1\t1\ta\n");
    }
}

#[test]
fn binary_reads_as_on_one_server() {
    let servers = start(2, TABLE, "id");
    let mut pair = servers.pair();
    const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
    let row = |fields: &[Option<&[u8]>]| {
        let mut row = (fields.len() as i16).to_be_bytes().to_vec();
        for field in fields {
            row.extend(field.map_or(-1, |field| field.len() as i32).to_be_bytes());
            row.extend(field.unwrap_or_default());
        }
        row
    };
    let one = row(&[Some(&[0, 0, 0, 1]), Some(&[0, 0, 0, 1]), Some(b"a")]);
    let null = row(&[None, None, None]);
    let all = |parts: &[&[u8]]| parts.concat();
    let inputs = [
        all(&[HEADER, &one, &null, b"\xff\xff"]),
        all(&[HEADER, &one, &null]),
        all(&[b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\x02xx", &one, b"\xff\xff"]),
        all(&[b"not at all, not at all"]),
        all(&[b"PGCOPY\n\xff\r\n\0\0\x01\0\0\0\0\0\0", &one]),
        all(&[HEADER, &one, &one[..9]]),
        all(&[HEADER, &one, &row(&[None])]),
        all(&[HEADER, &one, b"\xff\xff\0"]),
        all(&[HEADER, &one, &row(&[None, Some(&[0, 1]), None])]),
        all(&[HEADER, &one, &row(&[None, Some(&[0, 0, 0, 0, 1]), None])]),
        all(&[HEADER, &one, &row(&[Some(&[0, 1]), None, None])]),
        Vec::new(),
    ];
    for input in inputs {
        same(&mut pair, "COPY t (v, id, note) FROM STDIN (FORMAT binary)", &input);
    }
}

#[test]
fn errors_name_the_line_of_the_input() {
    let servers = start(2, TABLE, "id");
    let mut pair = servers.pair();
    let mut session = servers.cluster.session();
    let mut input: Vec<u8> = (1..=50_000).flat_map(|i| format!("{i},{i},\"row\n{i}\"\n").into_bytes()).collect();
    input.extend_from_slice(b"x,7,late\n");
    input.extend((1..=50_000).flat_map(|i| format!("{i},{i},after\n").into_bytes()));
    let sql = "COPY t (v, id, note) FROM STDIN (FORMAT csv)";
    // Row 13 of 1..=50,000 is against the CHECK.
    pair.both("ALTER TABLE t DROP CONSTRAINT t_v_check");
    same(&mut pair, sql, &input);
    let replies = session.run_with_input(sql, Some(&input));
    let Some(Answer::Failed { code, more, .. }) = replies.last().map(|reply| &reply.answer) else {
        panic!("{replies:?}")
    };
    assert_eq!(code, "22P02");
    // Lines within the first record count by CR, as long as nothing else is known.
    assert!(more.contains("COPY t, line 100000, column v: \"x\"") && more.contains("node \"n"), "{more}");
    assert_eq!(session.rows("SELECT count(*) FROM t"), [[Some("0".to_owned())]]);
    // The first of several faults, wherever they are.
    let sql = "COPY t (v, id, note) FROM STDIN (FORMAT csv)";
    let input: Vec<u8> = (1..=2000)
        .flat_map(|i| if i % 500 == 3 { format!("x{i},{i},a\n") } else { format!("{i},{i},a\n") }.into_bytes())
        .collect();
    let replies = session.run_with_input(sql, Some(&input));
    let Some(Answer::Failed { message, more, .. }) = replies.last().map(|reply| &reply.answer) else { panic!() };
    assert!(message.contains("\"x3\"") && more.contains("line 3, column v"), "{message} {more}");
}

/// The last COPY of each connection that a node has.
fn copies_on(cluster: &Cluster, node: usize) -> Vec<String> {
    let sql = "SELECT query FROM pg_stat_activity WHERE query LIKE 'COPY %' ORDER BY query";
    let rows = cluster.node_client(node).query(sql, &[]).expect(sql);
    rows.iter().map(|row| row.get(0)).collect()
}

const ALL_TYPES: &str = "CREATE TYPE mood AS ENUM ('sad', 'it''s ok'); CREATE DOMAIN small AS int CHECK (value < 100);
    CREATE TABLE t (id int8, b bool, i2 int2, i4 small, f4 float4, f8 float8, n numeric, n2 numeric(6, 2), t text, v varchar(5),
        c char(3), j json, jb jsonb, y bytea, u uuid, d date, tm time, ts timestamp, tz timestamptz(3), e mood,
        CHECK (i2 <> 13))";

/// Rows of all types in the forms that go on in binary.
fn plain_rows(from: usize, to: usize) -> Vec<String> {
    let row = |i: usize| {
        let (day, hour, sign) = (i % 28 + 1, i % 24, if i.is_multiple_of(3) { "-" } else { "" });
        let fields = [
            format!("{sign}{}", i * 7919),
            if i.is_multiple_of(2) { "t" } else { "false" }.to_owned(),
            format!("{sign}{}", i % 10),
            format!("{}", i % 100),
            format!("{sign}{}.25e{}", i % 9, i % 20),
            format!("{sign}0.{i}"),
            format!("{sign}{i}000{}.{:04}0", i % 7, i % 1000),
            format!("{sign}{}.{}", i % 9999, i % 1000),
            format!("tab\\tnew\\nline \\\\ é {i}"),
            format!("v{}", i % 1000),
            "c".to_owned(),
            format!("{{\"a\": {i}}}"),
            format!("[{i}, null]"),
            format!("\\\\x{:04x}", i % 65536),
            format!("a0eebc99-9c0b-4ef8-bb6d-6bb9{:08X}", i),
            format!("{:04}-02-{day:02}", 1900 + i % 200),
            format!("{hour:02}:59:0{}.{}", i % 10, i % 1000),
            format!("2024-{:02}-{day:02} {hour:02}:00:00.00{}", i % 12 + 1, i % 10),
            format!(
                "1999-{:02}-{day:02} {hour:02}:30:59.999{}{}0{}:30",
                i % 12 + 1,
                i % 1000,
                if i.is_multiple_of(2) { "+" } else { "-" },
                i % 10
            ),
            "it's ok".to_owned(),
        ];
        let null =
            |(n, field): (usize, String)| if i.is_multiple_of(17) && n == i % 20 { "\\N".to_owned() } else { field };
        fields.into_iter().enumerate().map(null).collect::<Vec<_>>().join("\t")
    };
    (from..to).map(row).collect()
}

#[test]
fn rows_of_known_types_go_on_in_binary() {
    let servers = start(2, ALL_TYPES, "id");
    let mut pair = servers.pair();
    let input = |rows: &[String]| rows.iter().flat_map(|row| format!("{row}\n").into_bytes()).collect::<Vec<u8>>();
    let rows = plain_rows(1, 3000);
    same(&mut pair, "COPY t FROM STDIN", &input(&rows));
    for (setting, target) in [("on", "FORMAT binary"), ("off", "FORMAT text")] {
        let mut session = servers.cluster.session();
        session.run(&format!("SET sharding.enable_binary_copy = {setting}"));
        session.run("BEGIN");
        let replies = session.run_with_input("COPY t FROM STDIN", Some(&input(&rows)));
        assert_eq!(replies.last().map(Reply::tag), Some(Some("COPY 2999")));
        for node in 1..=2 {
            let copies = copies_on(&servers.cluster, node);
            assert!(copies.iter().any(|copy| copy.contains(target)), "{setting}: {copies:?}");
        }
        session.run("ROLLBACK");
    }
    // Other spellings, and what is wrong, in a row behind others and before others.
    let columns = "id b i2 i4 f4 f8 n n2 t v c j jb y u d tm ts tz e";
    for (column, values) in [
        ("id", "+5| 7 |99999999999999999999|x|"),
        ("b", "yes|on|0|TRUE|maybe"),
        ("i2", "13|40000|1.5|\\N"),
        ("i4", "100|-5|0007|3000000000"),
        ("f4", "Infinity|nan|1e40|1e-50|.5|1e|-0"),
        ("f8", "1e308|1e309|4.9e-324|1e-400|0x1p3|-0.0"),
        ("n", "NaN|1e3|.5|5.|infinity|-0.000|00000000012345678901234567890123456789.00000|1_0|1e200000"),
        ("n2", "9999.994|9999.995|-1.005|99999"),
        ("t", "\\\\.|a\\x41|\\0|\\xff|\\303\\251"),
        ("v", "12345|123456|12345   |é1234|é12345"),
        ("c", "abcd|abc   |é|"),
        ("j", "{|1e5|  [1 ,2]|nul"),
        ("jb", "{\"b\":1,\"a\":2,\"b\":3}|1 2|\"\\\\u0000\""),
        ("y", "\\\\x0|abc|\\\\xzz|\\\\\\\\|\\\\x"),
        (
            "u",
            "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}|a0eebc999c0b4ef8bb6d6bb9bd380a11|a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1",
        ),
        ("d", "2023-02-29|infinity|Feb 3, 2024|2024-2-3|0000-01-01|4714-11-24 BC|1/2/2024"),
        ("tm", "24:00:00|10:11|allballs|25:00:00|10:00:00.1234567"),
        ("ts", "2024-01-01|2024-01-01T10:00:00|2024-01-01 10:00:00.9999999|epoch|2024-01-01 10:00:60|-infinity"),
        (
            "tz",
            "2024-01-01 10:00:00|2024-01-01 10:00:00 UTC|2024-01-01 10:00:00Z|2024-01-01 10:00:00+15|2024-01-01 10:00:00.12345-02:30",
        ),
        ("e", "sad|happy|Sad"),
    ] {
        let index = columns.split(' ').position(|name| name == column).expect(column);
        for value in values.split('|') {
            let mut rows = rows[..60].to_vec();
            let mut fields: Vec<&str> = rows[30].split('\t').collect();
            fields[index] = value;
            rows[30] = fields.join("\t");
            same(&mut pair, "COPY t FROM STDIN", &input(&rows));
        }
    }
    // In CSV, with quotes, and in another order.
    let csv = |i: usize| format!("\"a,\"\"\nb{i}\",{i},,2024-01-0{}\r\n", i % 9 + 1).into_bytes();
    let sql = "COPY t (t, id, v, d) FROM STDIN (FORMAT csv, HEADER)";
    let good: Vec<u8> = b"t,id,v,d\r\n".iter().copied().chain((1..5000).flat_map(csv)).collect();
    same(&mut pair, sql, &good);
    for fault in
        ["x,y,z,2024-01-01\r\n", "x,1,123456,\r\n", "x,1\r\n", "\"x\"y,1,,\r\n", "x,1,,\n", "x,1,\"\",2024-02-30\r\n"]
    {
        let input: Vec<u8> = good.iter().copied().chain(fault.bytes()).chain((1..100).flat_map(csv)).collect();
        same(&mut pair, sql, &input);
    }
    // What the rows are checked for, far behind.
    pair.both("ALTER TABLE t ALTER t SET NOT NULL, ADD UNIQUE (id, d)");
    let many: Vec<u8> = (1..60_000).flat_map(csv).collect();
    let sql = "COPY t (t, id, v, d) FROM STDIN (FORMAT csv)";
    for fault in [",7,,2024-01-01\r\n", "again,7,,2024-01-08\r\n", "\"é, long\",8,1234567,\r\n"] {
        let input: Vec<u8> = many.iter().copied().chain(fault.bytes()).chain((60_000..60_100).flat_map(csv)).collect();
        same(&mut pair, sql, &input);
    }
    // Triggers may say where they are, or look at what is there.
    pair.both("ALTER TABLE t ALTER t DROP NOT NULL;
        CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF NEW.id = 77 THEN RAISE ''stop''; END IF; RETURN NEW; END';
        CREATE TRIGGER look BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION look()");
    same(&mut pair, sql, &many);
}

#[test]
fn keys_of_many_types() {
    let servers = start(2, "CREATE TABLE t (id int, n int)", "id");
    let mut pair = servers.pair();
    for (kind, values) in [
        (
            "bigint",
            "9223372036854775807\n-9223372036854775808\n12\n+7\n 8 \n0\n-0\n123456789012345678\n1234567890123456789\n",
        ),
        ("smallint", "32767\n-32768\n0012\n"),
        ("text", "a\nb\\tc\n\\x41\n\\N\n\n東京\n"),
        ("varchar(3)", "abc\nab \nabc  \nüö東\n"),
        ("varchar(3)", "abc\nabcd\n"),
        ("varchar", "abc\n\nab \n"),
        ("char(5)", "abc\nabc  \n"),
        ("numeric(8,2)", "1.005\n1\n1e2\nNaN\n"),
        (
            "uuid",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\n{A0EEBC999C0B4EF8BB6D6BB9BD380A12}\nA0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A13\n",
        ),
        ("uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11\na0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1g\n"),
        ("date", "2024-02-29\nFeb 1, 2024\ninfinity\n"),
        ("timestamptz", "2024-02-29 12:00+02\n2024-02-29 12:00\n"),
    ] {
        pair.both(&format!("DROP TABLE t; CREATE TABLE t (n int, id {kind}); ALTER TABLE t DROP COLUMN n"));
        pair.right("SELECT sharding.distribute_table('t', 'id', 8)");
        same(&mut pair, "COPY t FROM STDIN", values.as_bytes());
        same(&mut pair, "COPY t (id) FROM STDIN (FORMAT csv)", values.replace('\\', "/").as_bytes());
        same(&mut pair, "COPY t FROM STDIN (NULL 'nothing')", b"this is none of them\n");
    }
}

/// What is hashed from a key's bytes is what a node hashes: it refuses a row that is not of its shards.
#[test]
fn nodes_agree_on_the_hashes_of_raw_keys() {
    let servers = start(3, "CREATE TABLE t (id int)", "id");
    let mut pair = servers.pair();
    let number = |i: i64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64) >> (i % 64);
    let letters = |i: i64| "东a bcdé-fghijklmnopqrstuvwxyz ".chars().cycle().skip(i as usize % 7).take(i as usize % 61);
    let uuid = |i: i64| format!("{:016x}{:016x}", number(i) as u64, number(i * 7) as u64);
    let hyphened = |text: String| [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-");
    type Printed<'a> = &'a dyn Fn(i64) -> String;
    type Binary<'a> = &'a dyn Fn(i64) -> Vec<u8>;
    let texts: [(&str, Printed, Binary); 5] = [
        ("int2", &|i| (number(i) as i16).to_string(), &|i| (number(i) as i16).to_be_bytes().to_vec()),
        ("int4", &|i| (number(i) as i32).to_string(), &|i| (number(i) as i32).to_be_bytes().to_vec()),
        ("int8", &|i| number(i).to_string(), &|i| number(i).to_be_bytes().to_vec()),
        ("text", &|i| letters(i).collect(), &|i| letters(i).collect::<String>().into_bytes()),
        ("uuid", &|i| hyphened(uuid(i)), &|i| {
            [(number(i) as u64).to_be_bytes(), (number(i * 7) as u64).to_be_bytes()].concat()
        }),
    ];
    for (kind, text, binary) in texts {
        pair.both(&format!("DROP TABLE t; CREATE TABLE t (id {kind})"));
        pair.right("SELECT sharding.distribute_table('t', 'id', 13)");
        let lines: Vec<u8> = (1..1000).flat_map(|i| format!("{}\n", text(i)).into_bytes()).collect();
        same(&mut pair, "COPY t FROM STDIN", &lines);
        let mut records = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
        for value in (1..1000).map(binary) {
            records.extend([0, 1]);
            records.extend((value.len() as u32).to_be_bytes());
            records.extend(value);
        }
        records.extend([0xff, 0xff]);
        same(&mut pair, "COPY t FROM STDIN (FORMAT binary)", &records);
    }
}

#[test]
fn files_programs_and_what_is_left_to_postgres() {
    let servers = start(2, TABLE, "id");
    let mut pair = servers.pair();
    let path = std::env::temp_dir().join(format!("sharding-copy-{}.csv", std::process::id()));
    let mut file = std::fs::File::create(&path).expect("a file");
    for i in 0..20_000 {
        writeln!(file, "{},{i},\"note {i}\"", if i == 13 { 0 } else { i % 7 }).expect("written");
    }
    let name = path.display();
    for sql in [
        format!("COPY t (v, id, note) FROM '{name}' (FORMAT csv)"),
        format!("COPY t (v, id, note) FROM PROGRAM 'cat {name}' (FORMAT csv)"),
        "COPY t (v, id, note) FROM PROGRAM 'exit 3' (FORMAT csv)".to_owned(),
        "COPY t (v, id, note) FROM PROGRAM 'yes 1,1,a | head -n 100; printf \"\\\\\\\\.\\n\"; yes' (FORMAT csv)"
            .to_owned(),
        format!("COPY t (v, id, note) FROM '{name}.missing' (FORMAT csv)"),
        "COPY t (v, id, note) FROM '/tmp' (FORMAT csv)".to_owned(),
        format!("COPY t (v, id, note) FROM '{name}' (FORMAT csv) WHERE id % 2 = 0"),
        format!("COPY t (v, id, note) FROM '{name}' (FORMAT csv, ENCODING 'LATIN1')"),
        format!("COPY t (v, note, id) FROM '{name}' (FORMAT csv)"),
    ] {
        same(&mut pair, &sql, b"");
    }
    std::fs::remove_file(&path).expect("removed");
    // A default that only the coordinator can tell.
    pair.both("CREATE SEQUENCE s; ALTER TABLE t ALTER w SET DEFAULT 'from ' || nextval('s')");
    same(&mut pair, "COPY t (v, id) FROM STDIN", b"1\t1\n2\t2\n");
    same(&mut pair, "COPY t (v, id, w) FROM STDIN", b"1\t1\tx\n2\t2\ty\n");
}

#[test]
fn a_client_that_gives_up_leaves_nothing() {
    let servers = start(2, TABLE, "id");
    let mut client = servers.cluster.client();
    let mut writer = client.copy_in("COPY t (v, id, note) FROM STDIN").expect("copy");
    for i in 0..100_000 {
        writeln!(writer, "{}\t{i}\tnote", i % 7).expect("written");
    }
    drop(writer);
    assert_eq!(client.query_one("SELECT count(*) FROM t", &[]).expect("count").get::<_, i64>(0), 0);
    let mut writer = client.copy_in("COPY t (v, id, note) FROM STDIN").expect("copy");
    for i in 0..100_000 {
        writeln!(writer, "{}\t{i}\tnote", i % 7).expect("written");
    }
    assert_eq!(writer.finish().expect("finished"), 100_000);
    assert_eq!(client.query_one("SELECT count(*) FROM t", &[]).expect("count").get::<_, i64>(0), 100_000);
}
