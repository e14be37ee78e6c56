//! However many leases: no descriptor, memory or slot is lost.
//!
//! Residents lease without pause; beside them sessions come and go, are killed and cancelled in the midst of it. What
//! processes have is counted when all is warm, and again at the end.

use crate::processes::{memory, open_files, worker};
use crate::{SESSIONS, eventually, fails, start, text};
use pg_test::harness::Cluster;
use postgres::Client;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const RESIDENTS: usize = 4;
const SIZE: usize = 3;

/// Short transactions, each with a lease of its own.
fn transactions(count: usize) -> String {
    format!(
        "DO $$ DECLARE x int; BEGIN FOR i IN 1..{count} LOOP
             IF i % 5 = 0 THEN UPDATE t SET v = v + 1 WHERE id = 1 + i % 120;
             ELSE SELECT v INTO x FROM t WHERE id = 1 + i % 120; END IF;
             COMMIT;
         END LOOP; END $$"
    )
}

fn leases(client: &mut Client) -> u64 {
    text(client, "SELECT sum(leases) FROM sharding.pool_stats WHERE NOT outside").parse().unwrap()
}

/// Runs `work` in a thread until `stop`.
fn again_and_again(stop: &Arc<AtomicBool>, mut work: impl FnMut() + Send + 'static) -> JoinHandle<()> {
    let stop = stop.clone();
    thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            work();
        }
    })
}

/// Sessions that come, lease, and go: by themselves, killed, or cancelled.
fn passers_by(cluster: &Cluster, stop: &Arc<AtomicBool>) -> Vec<JoinHandle<()>> {
    let (come_and_go, killed) = (cluster.coordinator().config("postgres"), cluster.coordinator().config("postgres"));
    let mut killer = cluster.client();
    let mut cancelled = cluster.client();
    cancelled.batch_execute("SET statement_timeout = '40ms'").unwrap();
    vec![
        again_and_again(stop, move || {
            let mut client = come_and_go.connect(postgres::NoTls).unwrap();
            client.batch_execute(&transactions(5)).unwrap();
            client
                .batch_execute("BEGIN; SELECT count(*) FROM t; SAVEPOINT s; UPDATE t SET v = 0 WHERE id = 7")
                .unwrap();
        }),
        again_and_again(stop, move || {
            let mut client = killed.connect(postgres::NoTls).unwrap();
            let pid = text(&mut client, "SELECT pg_backend_pid()");
            let working = thread::spawn(move || client.batch_execute(&transactions(1_000_000)).unwrap_err());
            thread::sleep(Duration::from_millis(60));
            killer.batch_execute(&format!("SELECT pg_terminate_backend({pid})")).unwrap();
            working.join().unwrap();
        }),
        again_and_again(stop, move || {
            assert_eq!(fails(&mut cancelled, &transactions(1_000_000)).code().code(), "57014");
        }),
    ]
}

/// What a process has that it might lose.
#[derive(Debug)]
struct Holdings {
    files: usize,
    /// kB.
    memory: usize,
}

fn holdings(pid: &str) -> Holdings {
    Holdings { files: open_files(pid), memory: memory(pid) }
}

fn nothing_is_lost(count: u64) {
    let cluster = start(2, &format!("sharding.pool_size = {SIZE}"));
    let mut here = cluster.client();
    let mut residents: Vec<Client> = (0..RESIDENTS).map(|_| cluster.client()).collect();
    let mut pids: Vec<String> = residents.iter_mut().map(|c| text(c, "SELECT pg_backend_pid()")).collect();
    pids.extend([worker(&cluster), cluster.coordinator().pid().to_string()]);
    let mut before = Vec::new();
    let mut begun = 0;
    // The first phase warms up; the second is what is measured.
    for share in [count / 10, count] {
        let stop = Arc::new(AtomicBool::new(false));
        let working: Vec<_> = residents
            .into_iter()
            .map(|mut client| {
                let stop = stop.clone();
                thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        client.batch_execute(&transactions(500)).unwrap();
                    }
                    client
                })
            })
            .collect();
        let passing = passers_by(&cluster, &stop);
        while leases(&mut here) < begun + share {
            thread::sleep(Duration::from_millis(50));
        }
        stop.store(true, Ordering::Relaxed);
        residents = working.into_iter().map(|working| working.join().unwrap()).collect();
        passing.into_iter().for_each(|passing| passing.join().unwrap());
        // Those that were killed are closed, and what was closed is counted.
        eventually(&mut here, "SELECT count(*) FROM sharding.connections WHERE state <> 'idle'", "0");
        eventually(&mut here, "SELECT sum(waiting) FROM sharding.pool_stats", "0");
        let sessions = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'";
        eventually(&mut here, sessions, &(RESIDENTS + 1).to_string());
        begun = leases(&mut here);
        if before.is_empty() {
            before = pids.iter().map(|pid| holdings(pid)).collect();
        }
    }
    assert!(begun >= count);
    for node in 1..=2 {
        let few = SESSIONS.replace("count(*)", &format!("count(*) <= {SIZE}"));
        eventually(&mut cluster.node_client(node), &few, "t");
    }
    // All of the limit can still be used at once.
    for holder in residents.iter_mut().take(SIZE) {
        holder.batch_execute("BEGIN; SELECT v FROM t WHERE id = 1; UPDATE t SET v = v WHERE id = 1; ROLLBACK").unwrap();
        holder.batch_execute("SET sharding.pool_wait_timeout = '5s'; BEGIN; SELECT count(*) FROM t").unwrap();
    }
    residents.iter_mut().take(SIZE).for_each(|holder| holder.batch_execute("COMMIT").unwrap());
    for (pid, before) in pids.iter().zip(&before) {
        let after = holdings(pid);
        let title = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        // A connection more or less, to each node, with what waits for it.
        assert!(after.files <= before.files + 4 * SIZE, "{title}: {before:?}, then {after:?}");
        assert!(after.memory <= before.memory + 1500, "{title}: {before:?}, then {after:?}");
    }
}

#[test]
fn thousands_of_leases_lose_nothing() {
    nothing_is_lost(20_000);
}

#[test]
#[ignore = "takes minutes: make test-long"]
fn a_million_leases_lose_nothing() {
    nothing_is_lost(1_000_000);
}
