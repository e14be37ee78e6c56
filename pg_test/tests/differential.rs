//! Every file of `pg_test/cases`, on a plain server and on clusters of 1, 2 and 3 nodes, and of 2 nodes where each session
//! has one connection to each: no statement needs two.
//!
//! ```text
//! cargo test -p pg_test --test differential                      all
//! cargo test -p pg_test --test differential -- joins             one file, each cluster
//! cargo test -p pg_test --test differential -- joins::3          one file, three nodes
//! cargo test -p pg_test --test differential -- ::2               all files, two nodes
//! cargo test -p pg_test --test differential -- without           with each kind of pushdown switched off
//! cargo test -p pg_test --test differential -- cut           with scans cut into tasks
//! cargo test -p pg_test --test differential -- ::one_connection
//! ```
//!
//! With a kind of pushdown switched off, or each node's part of a scan cut into tasks, on two nodes, the answers are the same
//! too: the files about pushdown always, all files and random statements in the long tests.
//!
//! See `pg_test/cases/README.md` for running against servers of your own.

use libtest_mimic::{Arguments, Failed, Trial};
use pg_test::cases::random;
use pg_test::cases::report::Report;
use pg_test::cases::servers::{Pool, Running, are_given, case_folder, node_counts, start};
use pg_test::cases::suite::Suite;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

/// The planner's switches: each by itself, and the first for all.
const SWITCHES: [&str; 9] = [
    "enable_pushdown",
    "enable_join_pushdown",
    "enable_aggregate_pushdown",
    "enable_sort_pushdown",
    "enable_ship_by_key",
    "enable_node_settings",
    "enable_shard_writes",
    "enable_binary_copy",
    "early_grouping",
];

/// Everything that can be cut into tasks is: also what is small, and what a node might do in parallel.
const CUT: [&str; 3] =
    ["sharding.max_tasks_per_node = 3", "sharding.min_task_size = 0", "max_parallel_workers_per_gather = 0"];

/// A cluster that everything runs on.
#[derive(Clone)]
struct Kind {
    /// In the names of its tests.
    name: String,
    nodes: usize,
    pool: Pool,
}

const ONE_CONNECTION: &str = "one_connection";

fn kinds() -> Vec<Kind> {
    let several = node_counts().into_iter().map(|nodes| Kind { name: nodes.to_string(), nodes, pool: Pool::Default });
    let one = Kind { name: ONE_CONNECTION.to_string(), nodes: 2, pool: Pool::OneConnection };
    several.chain((!are_given()).then_some(one)).collect()
}

/// A cluster with its suite; started by the first test that needs it.
#[derive(Default)]
struct Shared {
    suite: Option<(Suite, Running)>,
}

impl Shared {
    fn suite(&mut self, kind: &Kind) -> Result<&mut Suite, Failed> {
        if self.suite.is_none() {
            let (servers, running) = start(kind.nodes, kind.pool)?;
            self.suite = Some((Suite::new(servers, &case_folder()), running));
        }
        let (suite, _) = self.suite.as_mut().ok_or("no suite")?;
        Ok(suite)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let clusters: Vec<(Kind, Arc<Mutex<Shared>>)> = kinds().into_iter().map(|kind| (kind, Arc::default())).collect();
    let mut trials = Vec::new();
    for (kind, shared) in &clusters {
        let random = (kind.clone(), Arc::clone(shared));
        let count = if kind.nodes == 3 { 600 } else { 200 };
        let name = format!("random::{}", kind.name);
        trials.push(Trial::test(name, move || run_random(&random.0, count, &random.1)));
        for file in case_files() {
            let (kind, shared) = (kind.clone(), Arc::clone(shared));
            let name = format!("{}::{}", file.trim_end_matches(".sql"), kind.name);
            trials.push(Trial::test(name, move || run(&file, &kind, &shared)));
        }
    }
    let switched: Arc<Mutex<Shared>> = Arc::default();
    let off = |switch| (format!("without_{switch}"), vec![format!("sharding.{switch} = off")]);
    let cut = ("cut".to_string(), CUT.map(str::to_string).to_vec());
    for (name, settings) in SWITCHES.map(off).into_iter().chain([cut]) {
        let (few, all) = ((settings.clone(), Arc::clone(&switched)), (settings, Arc::clone(&switched)));
        trials.push(Trial::test(name.clone(), move || run_with(&few.0, false, &few.1)));
        let long = Trial::test(format!("{name}_all"), move || run_with(&all.0, true, &all.1));
        trials.push(long.with_ignored_flag(true));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    // Statics and leaked threads would keep the servers: stop them here.
    drop(clusters);
    drop(switched);
    conclusion.exit_code()
}

/// Files that only read come first: they share one set of tables.
fn case_files() -> Vec<String> {
    let folder = case_folder();
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{folder:?}: {e}"));
    let mut files: Vec<(bool, String)> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".sql") && name != "schema.sql")
        .map(|name| {
            let text = std::fs::read_to_string(folder.join(&name)).unwrap_or_default();
            (!text.contains("-- @readonly\n"), name)
        })
        .collect();
    files.sort();
    files.into_iter().map(|(_, name)| name).collect()
}

fn run(file: &str, kind: &Kind, shared: &Mutex<Shared>) -> Result<(), Failed> {
    let mut shared = shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let report = shared.suite(kind)?.run_file(file);
    if report.differences.is_empty() {
        println!("{}: {}", kind.name, report.summary());
        return Ok(());
    }
    Err(report.to_string().into())
}

fn run_random(kind: &Kind, count: usize, shared: &Mutex<Shared>) -> Result<(), Failed> {
    let mut shared = shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let count = std::env::var("SHARDING_RANDOM_COUNT").ok().and_then(|n| n.parse().ok()).unwrap_or(count);
    // Each cluster gets statements of its own.
    let report = random::run(shared.suite(kind)?, random::seed() * 10 + kind.nodes as u64, count);
    if report.differences.is_empty() {
        println!("{}: {}", kind.name, report.summary());
        return Ok(());
    }
    Err(report.to_string().into())
}

/// The files about pushdown, or all and random statements, with these settings.
fn run_with(settings: &[String], all: bool, shared: &Mutex<Shared>) -> Result<(), Failed> {
    let mut shared = shared.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    shared.suite(&Kind { name: "2".to_string(), nodes: 2, pool: Pool::Default })?;
    let Some((suite, running)) = shared.suite.as_mut() else { return Ok(()) };
    let Some(cluster) = &running.cluster else { return Ok(()) };
    let settings: String = settings.iter().map(|setting| format!("; ALTER DATABASE app SET {setting}")).collect();
    let settings = format!("ALTER DATABASE app RESET ALL{settings}");
    cluster.client().batch_execute(&settings).map_err(|error| error.to_string())?;
    let files = case_files().into_iter().filter(|file| all || file.starts_with("pushdown_"));
    let mut reports: Vec<Report> = files.map(|file| suite.run_file(&file)).collect();
    if all {
        reports.push(random::run(suite, random::seed() * 10 + 4, 300));
    }
    let failed: Vec<String> =
        reports.iter().filter(|report| !report.differences.is_empty()).map(Report::to_string).collect();
    if failed.is_empty() { Ok(()) } else { Err(failed.concat().into()) }
}
