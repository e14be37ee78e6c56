//! TLS between the coordinator and its nodes: every `sslmode`, certificates that are wrong in every way, client
//! certificates, channel binding; and that all that goes over a connection goes over an encrypted one too.

use pg_test::harness::{Authority, Build, Scratch, Server, write_as_server};
use postgres::Client;
use postgres::fallible_iterator::FallibleIterator;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

/// Who may come how. A role that is not named may not come at all.
const HBA: &str = "local all all trust
host all postgres 127.0.0.1/32 trust
hostssl all only_tls 127.0.0.1/32 trust
hostnossl all only_clear 127.0.0.1/32 trust
hostssl all by_cert 127.0.0.1/32 cert
host all by_scram 127.0.0.1/32 scram-sha-256
host all by_password 127.0.0.1/32 password
host all by_md5 127.0.0.1/32 md5
";

const ROLES: &str = "CREATE ROLE only_tls LOGIN; CREATE ROLE only_clear LOGIN; CREATE ROLE by_cert LOGIN;
    CREATE ROLE by_scram LOGIN PASSWORD 'secret'; CREATE ROLE by_password LOGIN PASSWORD 'secret';
    SET password_encryption = md5; CREATE ROLE by_md5 LOGIN PASSWORD 'secret'";

struct Servers {
    coordinator: Server,
    /// With a certificate for `localhost`.
    secure: Server,
    scratch: Scratch,
}

/// The settings of a server with this certificate.
fn with_tls(scratch: &Scratch, certificate: &str) -> String {
    let folder = scratch.path().display();
    format!(
        "ssl = on\nssl_cert_file = '{folder}/{certificate}.crt'\nssl_key_file = '{folder}/{certificate}.key'\n\
         ssl_ca_file = '{folder}/ca.crt'\nmax_prepared_transactions = 10"
    )
}

fn start() -> Servers {
    let scratch = Scratch::new();
    let authority = Authority::new("the authority");
    write_as_server(&scratch.path().join("ca.crt"), &authority.certificate());
    write_as_server(&scratch.path().join("other.crt"), &Authority::new("somebody else").certificate());
    write_as_server(&scratch.path().join("crl.pem"), &authority.revoke(&[77]));
    authority.numbered_server(&["localhost"], 5).write(scratch.path(), "server");
    authority.numbered_server(&["localhost"], 77).write(scratch.path(), "revoked");
    authority.expired_server(&["localhost"]).write(scratch.path(), "expired");
    authority.client("by_cert").write(scratch.path(), "client");
    authority.client("somebody").write(scratch.path(), "stranger");
    let secure = Server::create(&scratch, "secure", Build::Stock, &with_tls(&scratch, "server"));
    let mut node = secure.client();
    node.batch_execute(ROLES).unwrap();
    std::fs::write(secure.data_directory().join("pg_hba.conf"), HBA).unwrap();
    node.batch_execute("SELECT pg_reload_conf()").unwrap();
    let coordinator = Server::create(&scratch, "coordinator", Build::Coordinator, "sharding.pool_size = 4");
    coordinator.client().batch_execute("CREATE EXTENSION sharding").unwrap();
    // The postmaster reads the file before it accepts another connection, or soon after.
    let deadline = Instant::now() + Duration::from_secs(10);
    while secure.config("only_clear").ssl_mode(postgres::config::SslMode::Disable).connect(postgres::NoTls).is_err()
        || secure.config("nobody").connect(postgres::NoTls).is_ok()
    {
        assert!(Instant::now() < deadline, "pg_hba.conf is not in effect");
        std::thread::sleep(Duration::from_millis(20));
    }
    Servers { coordinator, secure, scratch }
}

/// How to go there: options of the server and of the mapping.
fn connect(client: &mut Client, server: &str, mapping: &str) -> Result<String, String> {
    client.batch_execute("BEGIN").unwrap();
    let made = client.batch_execute(&format!(
        "CREATE SERVER s FOREIGN DATA WRAPPER sharding OPTIONS (dbname 'app', {server});
         CREATE USER MAPPING FOR PUBLIC SERVER s OPTIONS ({mapping})"
    ));
    let sql = "SELECT result FROM sharding.run_on_nodes(
        'SELECT CASE WHEN ssl THEN ''tls'' ELSE ''clear'' END FROM pg_stat_ssl WHERE pid = pg_backend_pid()')";
    let result = made.and_then(|()| client.query_one(sql, &[]));
    client.batch_execute("ROLLBACK").unwrap();
    result.map(|row| row.get(0)).map_err(|error| {
        let error = error.as_db_error().expect("the coordinator goes on");
        let more = [error.detail(), error.hint()].into_iter().flatten().collect::<Vec<_>>().join("\n");
        format!("{} {}\n{more}", error.code().code(), error.message())
    })
}

impl Servers {
    fn file(&self, name: &str) -> String {
        self.scratch.path().join(name).display().to_string()
    }

    /// At the server with TLS.
    fn secure(&self, options: &str, mapping: &str) -> Result<String, String> {
        let server = format!("host 'localhost', port '{}'{options}", self.secure.port());
        connect(&mut self.coordinator.client(), &server, mapping)
    }
}

fn refused(outcome: Result<String, String>, words: &str) {
    let error = outcome.expect_err(words);
    assert!(error.starts_with("08001 could not connect to node \"s\""), "{error}");
    assert!(error.contains(words), "{error}\nlacks: {words}");
}

#[test]
fn every_sslmode_against_servers_with_and_without_tls() {
    let servers = start();
    let plain = Server::create(&servers.scratch, "plain", Build::Stock, "");
    let ca = servers.file("ca.crt");
    let strict = |mode: &str| format!(", sslmode '{mode}', sslrootcert '{ca}'");
    let at_plain = |options: &str| {
        let server = format!("host 'localhost', port '{}'{options}", plain.port());
        connect(&mut servers.coordinator.client(), &server, "user 'postgres'")
    };
    for (options, with, without) in [
        (String::new(), "tls", Some("clear")),
        (", sslmode 'disable'".into(), "clear", Some("clear")),
        (", sslmode 'allow'".into(), "clear", Some("clear")),
        (", sslmode 'prefer'".into(), "tls", Some("clear")),
        (", sslmode 'require'".into(), "tls", None),
        (strict("require"), "tls", None),
        (strict("verify-ca"), "tls", None),
        (strict("verify-full"), "tls", None),
        (", sslmode 'require', ssl_min_protocol_version 'TLSv1.3'".into(), "tls", None),
    ] {
        assert_eq!(servers.secure(&options, "user 'postgres'").as_deref(), Ok(with), "{options}");
        match without {
            Some(expected) => assert_eq!(at_plain(&options).as_deref(), Ok(expected), "{options}"),
            None => refused(at_plain(&options), "the server does not support TLS"),
        }
    }
    // Over a Unix socket there is no TLS, whatever is asked for.
    let folder = plain.data_directory();
    let folder = folder.parent().unwrap().display();
    let local = format!("host '{folder}', port '{}', sslmode 'require'", plain.port());
    assert_eq!(connect(&mut servers.coordinator.client(), &local, "user 'postgres'").as_deref(), Ok("clear"));
}

#[test]
fn certificates_that_are_wrong() {
    let servers = start();
    let (ca, other, crl) = (servers.file("ca.crt"), servers.file("other.crt"), servers.file("crl.pem"));
    let at = |server: &Server, options: &str| {
        let options = format!("host 'localhost', port '{}', {options}", server.port());
        connect(&mut servers.coordinator.client(), &options, "user 'postgres'")
    };
    let secure = &servers.secure;
    for mode in ["require", "verify-ca", "verify-full"] {
        let options = format!("sslmode '{mode}', sslrootcert '{other}'");
        refused(at(secure, &options), "is not from an authority in sslrootcert");
    }
    // 'prefer' goes on without TLS, as in libpq.
    assert_eq!(at(secure, &format!("sslrootcert '{other}'")).as_deref(), Ok("clear"));
    refused(at(secure, "sslmode 'verify-full', sslrootcert 'system'"), "is not from an authority");

    let address = format!("host '127.0.0.1', port '{}', sslrootcert '{ca}'", secure.port());
    let mut client = servers.coordinator.client();
    let full = connect(&mut client, &format!("{address}, sslmode 'verify-full'"), "user 'postgres'");
    refused(full, "certificate is for another host");
    let chain = connect(&mut client, &format!("{address}, sslmode 'verify-ca'"), "user 'postgres'");
    assert_eq!(chain.as_deref(), Ok("tls"));
    let named = format!("{address}, hostaddr '127.0.0.1', sslmode 'verify-full'")
        .replace("host '127.0.0.1'", "host 'localhost'");
    assert_eq!(connect(&mut client, &named, "user 'postgres'").as_deref(), Ok("tls"));

    let expired = Server::create(&servers.scratch, "expired", Build::Stock, &with_tls(&servers.scratch, "expired"));
    refused(at(&expired, &format!("sslmode 'verify-ca', sslrootcert '{ca}'")), "has expired");
    assert_eq!(at(&expired, "sslmode 'require'").as_deref(), Ok("tls"), "nobody looks");

    let revoked = Server::create(&servers.scratch, "revoked", Build::Stock, &with_tls(&servers.scratch, "revoked"));
    let options = format!("sslmode 'verify-full', sslrootcert '{ca}', sslcrl '{crl}'");
    refused(at(&revoked, &options), "has been revoked");
    assert_eq!(at(secure, &options).as_deref(), Ok("tls"));

    refused(at(secure, "sslmode 'verify-ca', sslrootcert '/nowhere'"), "sslrootcert \"/nowhere\" cannot be read");
    refused(at(secure, &format!("sslmode 'require', sslrootcert '{crl}'")), "has no certificate");
    let weak = at(secure, "sslmode 'require', sslrootcert 'system'").unwrap_err();
    assert!(weak.starts_with("22023"), "{weak}");
    let unrooted = at(secure, "sslmode 'verify-full'").unwrap_err();
    assert!(unrooted.starts_with("22023") && unrooted.contains("sslrootcert"), "{unrooted}");
}

#[test]
fn clients_prove_who_they_are() {
    let servers = start();
    let user = |name: &str| format!("user '{name}'");
    // Who may come with TLS only, or without only.
    for (mode, tls, clear) in [
        ("disable", None, Some("clear")),
        ("allow", Some("tls"), Some("clear")),
        ("prefer", Some("tls"), Some("clear")),
        ("require", Some("tls"), None),
    ] {
        let options = format!(", sslmode '{mode}'");
        for (role, expected) in [("only_tls", tls), ("only_clear", clear)] {
            let outcome = servers.secure(&options, &user(role));
            match expected {
                Some(expected) => assert_eq!(outcome.as_deref(), Ok(expected), "{role} {mode}"),
                None => refused(outcome, "no pg_hba.conf entry"),
            }
        }
    }

    // Client certificates.
    let certificate = |name: &str| {
        format!(
            "user 'by_cert', sslcert '{}', sslkey '{}'",
            servers.file(&format!("{name}.crt")),
            servers.file(&format!("{name}.key"))
        )
    };
    let require = ", sslmode 'require'";
    assert_eq!(servers.secure(require, &certificate("client")).as_deref(), Ok("tls"));
    refused(servers.secure(require, &certificate("stranger")), "certificate authentication failed");
    refused(servers.secure(require, &user("by_cert")), "requires a valid client certificate");
    std::fs::set_permissions(servers.file("stranger.key"), std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .unwrap();
    refused(servers.secure(require, &certificate("stranger")), "others may read it");

    // Passwords: in clear text over TLS only, bound to the connection if that is required.
    let password = |name: &str| format!("user '{name}', password 'secret'");
    let binding = |what: &str| format!(", sslmode 'require', channel_binding '{what}'");
    for what in ["disable", "prefer", "require"] {
        assert_eq!(servers.secure(&binding(what), &password("by_scram")).as_deref(), Ok("tls"), "{what}");
    }
    assert_eq!(servers.secure(require, &password("by_password")).as_deref(), Ok("tls"));
    assert_eq!(servers.secure(require, &password("by_md5")).as_deref(), Ok("tls"));
    refused(servers.secure(", sslmode 'disable'", &password("by_password")), "in clear text over an open connection");
    for role in ["by_password", "by_md5", "only_tls"] {
        refused(servers.secure(&binding("require"), &password(role)), "channel binding is required");
    }
    let without = servers.secure(", sslmode 'disable', channel_binding 'require'", &password("by_scram"));
    refused(without, "channel binding is required");
    refused(servers.secure(require, "user 'by_scram', password 'wrong'"), "password authentication failed");
}

#[test]
fn only_superusers_name_files() {
    let servers = start();
    let mut client = servers.coordinator.client();
    client
        .batch_execute(
            "CREATE ROLE ann LOGIN; GRANT USAGE ON FOREIGN DATA WRAPPER sharding TO ann;
             SET SESSION AUTHORIZATION ann;
             CREATE SERVER hers FOREIGN DATA WRAPPER sharding OPTIONS (sslmode 'require')",
        )
        .unwrap();
    for sql in [
        "CREATE SERVER a FOREIGN DATA WRAPPER sharding OPTIONS (sslrootcert '/etc/passwd')",
        "ALTER SERVER hers OPTIONS (ADD sslrootcert '/etc/passwd')",
        "ALTER SERVER hers OPTIONS (ADD sslcrl '/etc/passwd')",
        "CREATE USER MAPPING FOR ann SERVER hers OPTIONS (sslcert '/etc/passwd', sslkey '/etc/passwd')",
    ] {
        assert_eq!(client.batch_execute(sql).unwrap_err().code().unwrap().code(), "42501", "{sql}");
    }
    client.batch_execute("CREATE USER MAPPING FOR ann SERVER hers OPTIONS (user 'ann', password 'x')").unwrap();
}

/// Anonymous memory of a process in MB.
fn memory(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("RssAnon");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).expect("a number") / 1024
}

/// The processor time that a process has used, in hundredths of a second.
fn ticks(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let fields = stat.rsplit(") ").next().expect("fields after the name").split_whitespace();
    fields.skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum()
}

/// The process id of the coordinator's pool worker.
fn worker(servers: &Servers) -> i32 {
    let postmaster = servers.coordinator.pid();
    let output = std::process::Command::new("pgrep")
        .args(["-P", &postmaster.to_string(), "-f", "sharding pool worker"])
        .output()
        .expect("pgrep");
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("one pool worker")
}

/// Makes the server with TLS and another one the nodes of the coordinator.
fn cluster(servers: &Servers) -> Server {
    let second = Server::create(&servers.scratch, "second", Build::Stock, &with_tls(&servers.scratch, "server"));
    let mut client = servers.coordinator.client();
    for (name, port) in [("n1", servers.secure.port()), ("n2", second.port())] {
        client
            .batch_execute(&format!(
                "CREATE SERVER {name} FOREIGN DATA WRAPPER sharding
                     OPTIONS (host 'localhost', port '{port}', dbname 'app', sslmode 'verify-full', sslrootcert '{}');
                 CREATE USER MAPPING FOR PUBLIC SERVER {name} OPTIONS (user 'postgres');
                 SELECT sharding.check_node('{name}')",
                servers.file("ca.crt")
            ))
            .unwrap();
    }
    second
}

#[test]
fn all_that_a_connection_does_works_over_tls() {
    let servers = start();
    let second = cluster(&servers);
    let mut client = servers.coordinator.client();
    client
        .batch_execute(
            "CREATE TABLE t (id int8 PRIMARY KEY, v text);
             SELECT sharding.distribute_table('t', 'id', 8);
             INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 1000) i;
             BEGIN; UPDATE t SET v = v || '!' WHERE id <= 500; SAVEPOINT a; DELETE FROM t; ROLLBACK TO a; COMMIT",
        )
        .unwrap();
    let count: i64 = client.query_one("SELECT count(*) FROM t WHERE v LIKE '%!'", &[]).unwrap().get(0);
    assert_eq!(count, 500);
    let point = client.prepare("SELECT v FROM t WHERE id = $1").unwrap();
    for id in 501..=600_i64 {
        assert_eq!(client.query_one(&point, &[&id]).unwrap().get::<_, String>(0), format!("v{id}"));
    }
    let clear = "SELECT count(*) FROM sharding.connections WHERE NOT tls OR server NOT LIKE 'localhost port %'";
    assert_eq!(client.query_one(clear, &[]).unwrap().get::<_, i64>(0), 0, "a connection is not encrypted");
    let mut node = servers.secure.client();
    let clear = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                 WHERE application_name LIKE 'sharding%' AND NOT ssl";
    assert_eq!(node.query_one(clear, &[]).unwrap().get::<_, i64>(0), 0, "a connection is not encrypted");

    // COPY in both directions, more than all buffers together.
    let mut writer = client.copy_in("COPY t FROM STDIN").unwrap();
    for id in 1001..=60_000 {
        writeln!(writer, "{id}\tsome text that makes the row about eighty bytes long, {id}").unwrap();
    }
    assert_eq!(writer.finish().unwrap(), 59_000);
    let mut text = Vec::new();
    client.copy_out("COPY t TO STDOUT").unwrap().read_to_end(&mut text).unwrap();
    assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 60_000);

    // 100 MB to a reader that pauses: they wait on the node, not in the worker.
    client.batch_execute("UPDATE t SET v = repeat('x', 1700) || id").unwrap();
    let worker = worker(&servers);
    let before = memory(worker);
    let mut reader = servers.coordinator.client();
    let mut rows = reader.query_raw("SELECT id, v FROM t", Vec::<i64>::new()).unwrap();
    let (mut count, mut bytes, mut most, mut idle_work) = (0_i64, 0, before, 0);
    while let Some(row) = rows.next().unwrap() {
        bytes += row.get::<_, &str>(1).len();
        if count % 20_000 == 0 {
            // What can be moved is moved; after that the worker sleeps, too.
            std::thread::sleep(Duration::from_millis(150));
            let before = ticks(worker);
            std::thread::sleep(Duration::from_millis(300));
            idle_work = idle_work.max(ticks(worker) - before);
            most = most.max(memory(worker));
        }
        count += 1;
    }
    drop(rows);
    assert!(count == 60_000 && bytes > 100_000_000, "{count} rows, {bytes} bytes");
    assert!(idle_work < 6, "the pool worker used {idle_work}0 ms of 300 ms in which nothing moved");
    assert!(most < before + 4, "the pool worker: {before} MB before, {most} MB at most");

    // A cancel reaches the nodes, and they keep their connections.
    let closed = "SELECT sum(closed)::int8 FROM sharding.pool_stats";
    let closed_before: i64 = client.query_one(closed, &[]).unwrap().get(0);
    client.batch_execute("SET statement_timeout = '300ms'").unwrap();
    let began = Instant::now();
    let error = client.batch_execute("SELECT * FROM sharding.run_on_nodes('SELECT pg_sleep(30)')").unwrap_err();
    assert_eq!(error.code().unwrap().code(), "57014");
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    client.batch_execute("RESET statement_timeout").unwrap();
    for node in [&servers.secure, &second] {
        assert!(node.log().contains("canceling statement due to user request"), "{}", node.log());
    }
    assert_eq!(client.query_one(closed, &[]).unwrap().get::<_, i64>(0), closed_before, "a cancel was not heard");
}

#[test]
fn hang_ups_pass_through_the_relay() {
    let servers = start();
    let second = cluster(&servers);
    let mut client = servers.coordinator.client();
    client
        .batch_execute(
            "CREATE TABLE t (id int8 PRIMARY KEY);
             SELECT sharding.distribute_table('t', 'id', 8);
             INSERT INTO t SELECT generate_series(1, 100)",
        )
        .unwrap();
    let count = |client: &mut Client| -> i64 { client.query_one("SELECT count(*) FROM t", &[]).unwrap().get(0) };
    let again = |client: &mut Client| {
        let deadline = Instant::now() + Duration::from_secs(10);
        while let Err(error) = client.query_one("SELECT count(*) FROM t", &[]) {
            assert!(Instant::now() < deadline, "{error}");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(count(client), 100);
    };

    // A node ends a session in the midst of a transaction: its last words are heard.
    client.batch_execute("BEGIN; INSERT INTO t VALUES (1000)").unwrap();
    let mut node = servers.secure.client();
    node.batch_execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'sharding%'",
    )
    .unwrap();
    second
        .client()
        .batch_execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'sharding%'")
        .unwrap();
    let error = client.batch_execute("INSERT INTO t SELECT generate_series(2000, 2100)").unwrap_err();
    let error = error.as_db_error().unwrap();
    assert!(format!("{error:?}").contains("terminating connection due to administrator command"), "{error:?}");
    client.batch_execute("ROLLBACK").unwrap();
    again(&mut client);

    // A backend that is killed: the node's session ends.
    let mut victim = servers.coordinator.client();
    let pid: i32 = victim.query_one("SELECT pg_backend_pid()", &[]).unwrap().get(0);
    victim.batch_execute("BEGIN; INSERT INTO t SELECT generate_series(3000, 3100)").unwrap();
    client.execute("SELECT pg_terminate_backend($1)", &[&pid]).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    let open =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'sharding%' AND xact_start IS NOT NULL";
    while node.query_one(open, &[]).unwrap().get::<_, i64>(0) > 0 {
        assert!(Instant::now() < deadline, "the node's session goes on");
        std::thread::sleep(Duration::from_millis(20));
    }
    again(&mut client);

    // The worker ends: so do its connections, and another one begins.
    client.batch_execute("BEGIN; INSERT INTO t VALUES (1000)").unwrap();
    let worker = worker(&servers);
    assert!(std::process::Command::new("kill").args(["-TERM", &worker.to_string()]).status().unwrap().success());
    let deadline = Instant::now() + Duration::from_secs(10);
    while std::path::Path::new(&format!("/proc/{worker}")).exists() {
        assert!(Instant::now() < deadline, "the worker goes on");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(client.batch_execute("SELECT count(*) FROM t").unwrap_err().code().unwrap().code(), "08006");
    client.batch_execute("ROLLBACK").unwrap();
    again(&mut client);
}
