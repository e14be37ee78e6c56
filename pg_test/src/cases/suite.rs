//! Runs case files on a plain server and on a cluster, and collects the differences.
//!
//! ```ignore
//! let mut suite = Suite::new(servers, Path::new("pg_test/cases"));
//! let report = suite.run_file("joins.sql");
//! assert!(report.differences.is_empty(), "{report}");
//! ```
//!
//! Each file finds the same schema `t`: dropped and made again from `schema.sql`, unless the file
//! before it was `@readonly`. After a file that writes, all tables are compared, and the copies of
//! reference tables on the nodes with the one on the coordinator.
//!
//! Losing a connection (a crashed backend) is a difference like any other: the run goes on with new
//! connections, so that one run shows as much as it can.

use super::compare::{difference, row_difference, show_error};
use super::endpoint::Endpoint;
use super::report::Report;
use super::script::{self, Expectation, Script, Sending, Statement, Step};
use super::session::{Answer, Session, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a server may take to come back after a crash.
const RECOVERY: Duration = Duration::from_secs(20);

/// After that many lost connections a file is given up.
const MOST_LOST: usize = 10;

/// Lays the rows of a stand-in's tables in another order, so that a case file that relies on one
/// shows it.
const SHUFFLE: &str = "
    DO $$
    DECLARE r regclass;
    BEGIN
        SET LOCAL session_replication_role = replica;
        FOR r IN SELECT oid FROM pg_class WHERE relnamespace = 't'::regnamespace AND relkind = 'r' LOOP
            EXECUTE format('CREATE TEMP TABLE shuffled AS SELECT * FROM %s x ORDER BY md5(x::text)', r);
            EXECUTE format('DELETE FROM %s', r);
            EXECUTE format('INSERT INTO %s SELECT * FROM shuffled', r);
            DROP TABLE shuffled;
        END LOOP;
    END $$";

/// The servers that are compared.
#[derive(Clone, Debug)]
pub struct Servers {
    pub plain: Endpoint,
    pub coordinator: Endpoint,
    pub nodes: Vec<Endpoint>,
    /// The "cluster" is a second plain server: the case files themselves are being tested.
    pub stand_in: bool,
    /// Further sessions of a case are those of roles of their own, see [`SESSIONS`].
    pub own_roles: bool,
}

/// The names of further sessions, which are those of the roles, too.
pub const SESSIONS: [&str; 2] = ["b", "c"];

/// Both sides of one `@session`.
struct Pair {
    plain: Session,
    cluster: Session,
}

/// A pair of servers, and what is known of the schema `t` on them.
pub struct Suite {
    servers: Servers,
    folder: PathBuf,
    pairs: BTreeMap<String, Pair>,
    current: String,
    /// Side connections for catalog queries, outside the transactions of the case.
    side: Option<Pair>,
    /// The schema is as `schema.sql` made it.
    clean: bool,
    replicated: BTreeSet<String>,
    lost: usize,
}

impl Suite {
    /// `folder` holds the case files.
    pub fn new(servers: Servers, folder: &Path) -> Suite {
        Suite {
            servers,
            folder: folder.into(),
            pairs: BTreeMap::new(),
            current: "a".into(),
            side: None,
            clean: false,
            replicated: BTreeSet::new(),
            lost: 0,
        }
    }

    pub fn servers(&self) -> &Servers {
        &self.servers
    }

    /// Runs one case file.
    pub fn run_file(&mut self, name: &str) -> Report {
        let mut report = Report::new(name);
        self.lost = 0;
        let start = Instant::now();
        if let Err(error) = self.run_file_inner(name, &mut report) {
            self.clean = false;
            report.differ(0, "", format!("the file was given up: {error}"));
        }
        self.pairs.clear();
        self.side = None;
        report.elapsed = start.elapsed();
        report
    }

    fn run_file_inner(&mut self, name: &str, report: &mut Report) -> io::Result<()> {
        let script = self.read(name)?;
        self.connect_side()?;
        for query in &script.needs {
            if self.side()?.plain.run(query).is_ok_and(|rows| !rows.is_empty()) {
                continue;
            }
            report.skipped = Some(format!("needs {query}"));
            return Ok(());
        }
        if script.no_schema {
            self.empty_schema()?;
        } else if !self.clean {
            let start = Instant::now();
            self.common_schema(report)?;
            report.schema = start.elapsed();
        }
        self.clean = script.readonly && !script.no_schema;
        self.run_script(&script, report)?;
        if !script.readonly {
            self.compare_tables(&script.ignored_tables, report)?;
        }
        Ok(())
    }

    fn read(&self, name: &str) -> io::Result<Script> {
        let text = std::fs::read_to_string(self.folder.join(name))?;
        script::parse(&text).map_err(|error| io::Error::other(format!("{name}: {error}")))
    }

    /// The tables of `schema.sql`, for a test that runs its own statements.
    pub fn prepare(&mut self) -> Report {
        let mut report = Report::new("schema.sql");
        let mut prepared = self.connect_side();
        if !self.clean {
            prepared = prepared.and_then(|()| self.common_schema(&mut report));
        }
        if let Err(error) = prepared {
            report.differ(0, "", error.to_string());
        }
        report
    }

    fn common_schema(&mut self, report: &mut Report) -> io::Result<()> {
        self.empty_schema()?;
        let script = self.read("schema.sql")?;
        let mut schema_report = Report::new("schema.sql");
        self.run_script(&script, &mut schema_report)?;
        report.differences.append(&mut schema_report.differences);
        if self.servers.stand_in {
            self.side()?.cluster.run(SHUFFLE)?;
        }
        self.clean = true;
        Ok(())
    }

    /// Drops and makes the schema `t` everywhere, also what a failed run left on the nodes.
    fn empty_schema(&mut self) -> io::Result<()> {
        self.pairs.clear();
        self.replicated.clear();
        self.clean = false;
        let side = self.side()?;
        for session in [&mut side.plain, &mut side.cluster] {
            session.run("DROP SCHEMA IF EXISTS t CASCADE; DROP SCHEMA IF EXISTS other CASCADE")?;
        }
        for node in &self.servers.nodes {
            let drop = "SET client_min_messages = error; DROP SCHEMA IF EXISTS t CASCADE; \
                        DROP SCHEMA IF EXISTS other CASCADE; \
                        DROP SCHEMA IF EXISTS sharding_shards CASCADE";
            Session::connect_within(node, RECOVERY)?.run(drop)?;
        }
        let side = self.side()?;
        for session in [&mut side.plain, &mut side.cluster] {
            session.run("CREATE SCHEMA t; GRANT ALL ON SCHEMA t TO PUBLIC")?;
        }
        Ok(())
    }

    fn connect(endpoint: &Endpoint) -> io::Result<Session> {
        let mut session = Session::connect_within(endpoint, RECOVERY)?;
        session.run("SET search_path = t, public; SET statement_timeout = '30s'")?;
        Ok(session)
    }

    fn connect_pair(&self, session: &str) -> io::Result<Pair> {
        let own_role = self.servers.own_roles && SESSIONS.contains(&session);
        let place = |endpoint: &Endpoint| if own_role { endpoint.role(session) } else { endpoint.clone() };
        let plain = Self::connect(&place(&self.servers.plain))?;
        let cluster = Self::connect(&place(&self.servers.coordinator))?;
        Ok(Pair { plain, cluster })
    }

    fn connect_side(&mut self) -> io::Result<()> {
        self.side = Some(self.connect_pair("a")?);
        Ok(())
    }

    fn side(&mut self) -> io::Result<&mut Pair> {
        if self.side.is_none() {
            self.connect_side()?;
        }
        self.side.as_mut().ok_or_else(|| io::Error::other("no side connection"))
    }

    fn pair(&mut self) -> io::Result<&mut Pair> {
        if !self.pairs.contains_key(&self.current) {
            let pair = self.connect_pair(&self.current)?;
            self.pairs.insert(self.current.clone(), pair);
        }
        self.pairs.get_mut(&self.current).ok_or_else(|| io::Error::other("no connection"))
    }

    fn run_script(&mut self, script: &Script, report: &mut Report) -> io::Result<()> {
        self.current = "a".into();
        for step in &script.steps {
            match step {
                Step::Session(name) => self.current.clone_from(name),
                Step::Cluster { line, sql } => self.on_cluster(*line, sql, report)?,
                Step::Everywhere { sql, .. } => self.everywhere(sql)?,
                Step::Compare(statement) => self.compare(statement, report)?,
            }
        }
        self.pairs.clear();
        Ok(())
    }

    fn on_cluster(&mut self, line: usize, sql: &str, report: &mut Report) -> io::Result<()> {
        if self.servers.stand_in {
            return Ok(());
        }
        let answers = self.pair()?.cluster.simple(sql, None);
        match self.survive(answers, line, sql, report)? {
            None => {}
            Some(answers) => match answers.into_iter().find_map(|answer| answer.error) {
                Some(error) => report.differ(line, sql, format!("cluster: {}", show_error(&error))),
                None => self.note_replicated(sql),
            },
        }
        Ok(())
    }

    fn note_replicated(&mut self, sql: &str) {
        let named = |call: &str| sql.split(call).nth(1).and_then(|rest| rest.split('\'').nth(1));
        if let Some(table) = named("replicate_table") {
            self.replicated.insert(table.into());
        } else if let Some(table) = named("undistribute_table") {
            self.replicated.remove(table);
        }
    }

    fn everywhere(&mut self, sql: &str) -> io::Result<()> {
        let side = self.side()?;
        side.plain.run(sql)?;
        side.cluster.run(sql)?;
        for node in &self.servers.nodes {
            Session::connect_within(node, RECOVERY)?.run(sql)?;
        }
        Ok(())
    }

    fn compare(&mut self, statement: &Statement, report: &mut Report) -> io::Result<()> {
        report.statements += 1;
        for _ in 0..statement.repeat {
            let before = report.differences.len();
            self.compare_once(statement, report)?;
            if report.differences.len() > before {
                break;
            }
        }
        Ok(())
    }

    fn compare_once(&mut self, statement: &Statement, report: &mut Report) -> io::Result<()> {
        let Statement { line, sql, expectation, .. } = statement;
        let cluster = send(&mut self.pair()?.cluster, statement);
        let Some(cluster) = self.survive(cluster, *line, sql, report)? else {
            return Ok(());
        };
        let refusal = cluster.iter().filter_map(|answer| answer.error.as_ref()).next();
        if expectation.may_refuse && refusal.is_some_and(|error| error.code == "0A000") {
            report.refused += 1;
            return Ok(());
        }
        let pair = self.pair()?;
        let plain = send(&mut pair.plain, statement)?;
        let statuses = (pair.plain.status, pair.cluster.status);
        check_expected_error(statement, &plain, report);
        if let Some(text) = self.answers_difference(&plain, &cluster, expectation) {
            report.differ(*line, sql, text);
        } else if statuses.0 != statuses.1 {
            let text = format!("transaction status {} and {}", statuses.0, statuses.1);
            report.differ(*line, sql, text);
        }
        Ok(())
    }

    /// A lost connection is a difference; then everything is connected anew.
    fn survive<T>(
        &mut self,
        result: io::Result<T>,
        line: usize,
        sql: &str,
        report: &mut Report,
    ) -> io::Result<Option<T>> {
        let error = match result {
            Ok(value) => return Ok(Some(value)),
            Err(error) => error,
        };
        report.differ(line, sql, format!("cluster: {error}"));
        self.lost += 1;
        if self.lost > MOST_LOST {
            return Err(io::Error::other("too many lost connections"));
        }
        let process_ids: Vec<i32> = self.pairs.values().map(|p| p.cluster.process_id).collect();
        self.pairs.clear();
        self.clean = false;
        self.connect_side()?;
        for process_id in process_ids {
            let end = format!("SELECT pg_terminate_backend({process_id})");
            self.side()?.cluster.run(&end)?;
        }
        Ok(None)
    }

    /// Compares what two servers answered to one message.
    pub fn answers_difference(
        &mut self,
        plain: &[Answer],
        cluster: &[Answer],
        expectation: &Expectation,
    ) -> Option<String> {
        if plain.len() != cluster.len() {
            let show = |answers: &[Answer]| {
                let error = answers.iter().filter_map(|answer| answer.error.as_ref()).next();
                format!("{} answers {}", answers.len(), error.map(show_error).unwrap_or_default())
            };
            return Some(format!("plain:   {}\ncluster: {}", show(plain), show(cluster)));
        }
        for (a, b) in plain.iter().zip(cluster) {
            let mut names = |plain_oid, cluster_oid| {
                let side = self.side().ok()?;
                let name =
                    |session: &mut Session, oid: u32| session.value(&format!("SELECT format_type({oid}, NULL)")).ok();
                Some((name(&mut side.plain, plain_oid)?, name(&mut side.cluster, cluster_oid)?))
            };
            if let Some(text) = difference(a, b, expectation, &mut names) {
                return Some(text);
            }
        }
        None
    }

    /// Sends SQL to both and compares; for tests that make their statements themselves.
    pub fn check(&mut self, label: &str, sql: &str, expectation: Expectation, report: &mut Report) -> io::Result<()> {
        let statement = Statement {
            line: 0,
            sql: format!("{label}{sql}"),
            sending: Sending::Simple { copy_data: None },
            expectation,
            repeat: 1,
        };
        self.compare(&statement, report)
    }

    /// As [`Suite::check`], but the statement may fail, on both in the same way.
    pub fn check_any(&mut self, label: &str, sql: &str, report: &mut Report) -> io::Result<()> {
        report.statements += 1;
        let sql = format!("{label}{sql}");
        let cluster = self.pair()?.cluster.simple(&sql, None);
        let Some(cluster) = self.survive(cluster, 0, &sql, report)? else {
            return Ok(());
        };
        let plain = self.pair()?.plain.simple(&sql, None)?;
        report.failed += usize::from(plain.iter().any(|answer| answer.error.is_some()));
        if let Some(text) = self.answers_difference(&plain, &cluster, &Expectation::default()) {
            report.differ(0, &sql, text);
        }
        Ok(())
    }

    /// The tables are not as `schema.sql` made them any more; sessions end.
    pub fn spoil(&mut self) {
        self.pairs.clear();
        self.clean = false;
    }

    /// Compares the contents of all tables in schema `t`.
    pub fn compare_tables(&mut self, ignored: &[String], report: &mut Report) -> io::Result<()> {
        self.connect_side()?;
        let tables = "SELECT relname FROM pg_class WHERE relnamespace = 't'::regnamespace \
                      AND relkind IN ('r', 'p', 'm', 'S') AND NOT relispartition ORDER BY 1";
        let side = self.side()?;
        let (plain, cluster) = (side.plain.run(tables)?, side.cluster.run(tables)?);
        if let Some(text) = row_difference(&plain, &cluster, &Expectation::default()) {
            report.differ(0, "the tables, views and sequences at the end", text);
        }
        let data = "SELECT relname FROM pg_class WHERE relnamespace = 't'::regnamespace \
                    AND relkind IN ('r', 'p', 'm') AND NOT relispartition ORDER BY 1";
        let names: Vec<String> = self.side()?.plain.run(data)?.into_iter().filter_map(|row| row[0].clone()).collect();
        for name in names.iter().filter(|name| !ignored.contains(name)) {
            self.compare_table(name, report)?;
        }
        for name in self.replicated.clone() {
            if names.contains(&name) {
                self.compare_copies(&name, report)?;
            }
        }
        Ok(())
    }

    fn compare_table(&mut self, name: &str, report: &mut Report) -> io::Result<()> {
        let select = format!("SELECT * FROM t.\"{name}\"");
        let side = self.side()?;
        let plain = side.plain.run(&select)?;
        match side.cluster.run(&select) {
            Err(error) => {
                report.differ(0, &select, error.to_string());
                self.connect_side()?;
            }
            Ok(cluster) => {
                if let Some(text) = row_difference(&plain, &cluster, &Expectation::default()) {
                    report.differ(0, &format!("table \"{name}\" at the end"), text);
                }
            }
        }
        Ok(())
    }

    fn compare_copies(&mut self, name: &str, report: &mut Report) -> io::Result<()> {
        let select = format!("SELECT * FROM t.\"{name}\"");
        let here = self.side()?.cluster.run(&select)?;
        for node in self.servers.nodes.clone() {
            let there: io::Result<Vec<Vec<Value>>> =
                Session::connect_within(&node, RECOVERY).and_then(|mut s| s.run(&select));
            let text = match there {
                Err(error) => Some(error.to_string()),
                Ok(there) => row_difference(&here, &there, &Expectation::default()),
            };
            if let Some(text) = text {
                let what = format!("copy of \"{name}\" on {}:{}", node.host, node.port);
                report.differ(0, &what, text);
            }
        }
        Ok(())
    }
}

fn send(session: &mut Session, statement: &Statement) -> io::Result<Vec<Answer>> {
    match &statement.sending {
        Sending::Simple { copy_data } => session.simple(&statement.sql, copy_data.as_deref()),
        Sending::Extended { params, rows_at_a_time, binary } => {
            session.extended(&statement.sql, params, *rows_at_a_time, *binary)
        }
    }
}

/// The plain server must fail exactly where the case file says so.
fn check_expected_error(statement: &Statement, plain: &[Answer], report: &mut Report) {
    let error = plain.iter().filter_map(|answer| answer.error.as_ref()).next();
    let text = match (&statement.expectation.error, error) {
        (None, None) => return,
        (Some(expected), Some(error)) if *expected == error.code => return,
        (Some(expected), _) => format!("the case file expects {expected} of the plain server"),
        (None, Some(_)) => "the plain server fails, the case file does not say so".into(),
    };
    let answer = error.map(show_error).unwrap_or_else(|| "success".into());
    report.differ(statement.line, &statement.sql, format!("{text}\nplain:   {answer}"));
}
