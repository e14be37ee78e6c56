//! The coordinator's processes, as the system sees them.

use pg_test::harness::Cluster;
use postgres::Client;
use std::thread;
use std::time::{Duration, Instant};

/// The pool worker's process; it is in no view of Postgres. Waits for one that is being started.
pub fn worker(cluster: &Cluster) -> String {
    let deadline = Instant::now() + Duration::from_secs(20);
    let postmaster = format!("PPid:\t{}\n", cluster.coordinator().pid());
    loop {
        let found = std::fs::read_dir("/proc").unwrap().find_map(|entry| {
            let path = entry.ok()?.path();
            let title = std::fs::read_to_string(path.join("cmdline")).ok()?;
            let child = std::fs::read_to_string(path.join("status")).ok()?.contains(&postmaster);
            (child && title.contains("sharding pool worker")).then(|| path.file_name()?.to_str().map(str::to_string))?
        });
        if let Some(pid) = found {
            return pid;
        }
        assert!(Instant::now() < deadline, "no pool worker\n{}", cluster.coordinator().log());
        thread::sleep(Duration::from_millis(20));
    }
}

pub fn signal(name: &str, pid: &str) {
    assert!(std::process::Command::new("kill").args([name, pid]).status().unwrap().success());
}

/// A client, after the server has started anew; `before` is one of its last life.
pub fn comes_back(cluster: &mut Cluster, before: &mut Client) -> Client {
    let deadline = Instant::now() + Duration::from_secs(30);
    // Before it is noticed that a process is gone, all goes on.
    while !before.is_closed() {
        let _ = before.batch_execute("SELECT 1");
        assert!(Instant::now() < deadline, "the coordinator goes on\n{}", cluster.coordinator().log());
        thread::sleep(Duration::from_millis(10));
    }
    loop {
        let connected = cluster.coordinator().config("postgres").connect(postgres::NoTls);
        if let Ok(mut client) = connected
            && client.batch_execute("SELECT 1").is_ok()
        {
            return client;
        }
        assert!(Instant::now() < deadline, "the coordinator does not come back\n{}", cluster.coordinator().log());
        thread::sleep(Duration::from_millis(50));
    }
}

/// How many descriptors a process has.
pub fn open_files(pid: &str) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap_or_else(|error| panic!("process {pid}: {error}")).count()
}

/// The memory of a process that is its own, in kB: neither files nor shared memory.
pub fn memory(pid: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("the kernel is of this century");
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
