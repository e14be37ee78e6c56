//! The harness itself: servers start, restart, end with their process, and differences are seen.

use std::time::{Duration, Instant};

use pg_test::harness::{Order, Pair, Plain, Shutdown};

#[test]
fn plain_server_survives_restarts() {
    let mut plain = Plain::start();
    plain.client().batch_execute("CREATE TABLE t AS SELECT 1 AS a").unwrap();
    plain.server_mut().restart(Shutdown::Fast);
    plain.server_mut().restart(Shutdown::Immediate);
    assert_eq!(plain.client().query_one("SELECT a FROM t", &[]).unwrap().get::<_, i32>(0), 1);
}

#[test]
fn dropping_stops_the_server() {
    let plain = Plain::start();
    let (pid, data) = (plain.server().pid(), plain.server().data_directory());
    drop(plain);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert!(!data.exists());
}

/// Starts a server in a process that is then killed. The child is this very test binary.
#[test]
fn a_killed_test_process_leaves_no_server() {
    const CHILD: &str = "SHARDING_TEST_CHILD";
    if let Some(file) = std::env::var_os(CHILD) {
        let plain = Plain::start();
        let text = format!("{}\n{}", plain.server().pid(), plain.server().data_directory().display());
        std::fs::write(file, text).unwrap();
        std::thread::sleep(Duration::from_secs(60));
        return;
    }
    let file = std::env::temp_dir().join(format!("sharding-child-{}", std::process::id()));
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_killed_test_process_leaves_no_server"])
        .env(CHILD, &file)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let text = wait_for(|| std::fs::read_to_string(&file).ok().filter(|text| text.contains('\n')));
    child.kill().unwrap();
    child.wait().unwrap();
    let _ = std::fs::remove_file(&file);
    let (pid, data) = text.split_once('\n').unwrap();
    wait_for(|| (!std::path::Path::new(&format!("/proc/{pid}")).exists()).then_some(()));
    wait_for(|| (!std::path::Path::new(data).exists()).then_some(()));
}

fn wait_for<T>(mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_session_keeps_everything() {
    let plain = Plain::start();
    let mut session = plain.session();
    let replies = session.run("BEGIN; SELECT 1 AS a, NULL::text AS b; SELECT 1/0; SELECT 2");
    assert_eq!(replies.len(), 3);
    assert_eq!(replies[0].tag(), Some("BEGIN"));
    assert_eq!(replies[1].columns[0].name, "a");
    assert_eq!(replies[1].columns[0].builtin_type, Some(23));
    assert_eq!(replies[1].lines(), ["1|∅"]);
    assert_eq!(replies[2].sqlstate(), Some("22012"));
    assert_eq!(session.transaction_status(), 'E');
    session.succeed("ROLLBACK");

    session.succeed("CREATE TABLE t (a int, b text); DO $$ BEGIN RAISE WARNING 'w'; END $$");
    assert_eq!(session.notices(), ["WARNING: w"]);
    let copied = session.run_with_input("COPY t FROM STDIN", Some(b"1\tx\n2\ty\n"));
    assert_eq!(copied[0].tag(), Some("COPY 2"));
    assert_eq!(session.run("COPY t TO STDOUT")[0].lines(), ["1\tx", "2\ty"]);
    assert_eq!(session.run("COPY t FROM STDIN")[0].sqlstate(), Some("57014"));
    assert_eq!(session.run(";").len(), 1);
}

#[test]
fn a_pair_sees_differences() {
    let (left, right) = (Plain::start(), Plain::start());
    let mut pair = Pair::new(left.server(), right.server());
    pair.both("CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TABLE t (a int, m mood)");
    pair.same("INSERT INTO t SELECT i, 'ok' FROM generate_series(1, 20) i");
    pair.same("SELECT * FROM t");
    pair.same("SELECT * FROM nothing");
    pair.same_ordered("SELECT a FROM t ORDER BY a; SELECT 1/0");
    pair.right("UPDATE t SET a = 100 WHERE a = 7");
    let text = pair.check("SELECT a FROM t", Order::Any).unwrap_err();
    assert!(text.contains("left only:\n    7\nright only:\n    100"), "{text}");
    pair.check("SELECT count(*) FROM t", Order::Any).unwrap();
    pair.check("DELETE FROM t WHERE a = 7", Order::Any).unwrap_err();
    pair.check("SELECT a::bigint FROM t LIMIT 0", Order::Any).unwrap();
}

#[test]
fn psql_returns_output_and_errors() {
    let plain = Plain::start();
    let (output, errors) = plain.psql("\\pset tuples_only on\nSELECT 42;\nSELECT nothing;");
    assert!(output.contains("42"), "{output}");
    assert!(errors.contains("column \"nothing\" does not exist"), "{errors}");
}
