//! The launcher: starts a worker for each database with nodes.
//!
//! It is connected to no database; which of them have nodes it cannot see. At its start it tries all, one after
//! the other: a worker without anything to do ends at once. Later, backends that find nodes say so.

use crate::error::{Error, Result, sqlstate};
use crate::maintenance::seats::Seat;
use crate::pg::catalog_cache::scan_catalog;
use crate::pg::maintenance::shared::{self, is_alive, locked, seats, set_launcher};
use crate::pg::maintenance::work;
use crate::pg::pool::shared::my_pid;
use crate::pg::wait::{Event, Patience, wait_as};
use crate::pg::{guard, report};
use pgrx::bgworkers::{
    BackgroundWorker, BackgroundWorkerBuilder, BackgroundWorkerStatus, DynamicBackgroundWorker, SignalWakeFlags,
};
use pgrx::{IntoDatum, pg_sys};
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Between two starts of a worker in one database.
const PAUSE: Duration = Duration::from_secs(1);
/// After there was no process left for a worker.
const NO_SLOT_PAUSE: Duration = Duration::from_secs(5);
/// How often the seats are looked at if nobody says anything.
const TICK: Duration = Duration::from_secs(60);
/// datconnlimit of a database whose DROP was interrupted.
const INVALID_DATABASE: i32 = -2;

/// Registers the launcher; while the postmaster loads its libraries.
pub fn install() {
    BackgroundWorkerBuilder::new("sharding maintenance launcher")
        .set_type("sharding maintenance launcher")
        .set_library("sharding")
        .set_function("sharding_maintenance_launcher")
        .enable_spi_access()
        .set_restart_time(Some(PAUSE))
        .load();
}

/// The main function of the launcher.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn sharding_maintenance_launcher(_argument: pg_sys::Datum) {
    guard::guarded(|| {
        BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM);
        BackgroundWorker::connect_worker_to_spi_by_oid(None, None);
        run()
    });
    // One that ends with success would not be started again.
    // SAFETY: nothing of this process is left to be dropped.
    unsafe { pg_sys::proc_exit(1) }
}

fn run() -> Result<()> {
    set_launcher();
    let mut launcher = Launcher {
        untried: databases()?.into(),
        trying: None,
        started: HashMap::new(),
        not_before: HashMap::new(),
        no_slot_until: None,
        told: false,
    };
    while !BackgroundWorker::sigterm_received() {
        if BackgroundWorker::sighup_received() {
            // SAFETY: re-reads the configuration, as every process does.
            unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) }
        }
        let next = launcher.look()?;
        wait_as(Event::Maintenance, &[], Patience::until(next));
    }
    Ok(())
}

struct Launcher {
    /// Databases that may have nodes, and the one whose worker is finding out.
    untried: VecDeque<u32>,
    trying: Option<u32>,
    started: HashMap<u32, DynamicBackgroundWorker>,
    /// Databases whose last worker has just ended.
    not_before: HashMap<u32, Instant>,
    no_slot_until: Option<Instant>,
    /// The log has been told that there is no process left.
    told: bool,
}

impl Launcher {
    /// Starts what is to be started; when to look again.
    fn look(&mut self) -> Result<Instant> {
        let now = Instant::now();
        let next = now + TICK;
        self.bury(now);
        if let Some(until) = self.no_slot_until.filter(|until| *until > now) {
            return Ok(until);
        }
        if self.trying.is_some_and(|database| self.has_found_out(database)) {
            self.trying = None;
        }
        while self.trying.is_none()
            && let Some(database) = self.untried.pop_front()
        {
            if seats().find(database).is_none() && shared::note(database) {
                self.trying = Some(database);
            }
        }
        let wanted: Vec<u32> =
            seats().unserved(is_alive).into_iter().filter(|database| !self.started.contains_key(database)).collect();
        if wanted.is_empty() {
            return Ok(next);
        }
        // Somebody may have dropped them.
        let existing = databases()?;
        for database in wanted {
            if !existing.contains(&database) {
                locked(|seats| seats.find(database).map(Seat::forget));
            } else if self.not_before.get(&database).is_some_and(|at| *at > now) {
                continue;
            } else if !self.start(database) {
                self.no_slot_until = Some(now + NO_SLOT_PAUSE);
                return Ok(now + NO_SLOT_PAUSE);
            }
        }
        Ok(self.not_before.values().copied().fold(next, Instant::min))
    }

    /// Forgets the workers that have ended.
    fn bury(&mut self, now: Instant) {
        let over = |worker: &DynamicBackgroundWorker| {
            matches!(worker.pid(), Err(BackgroundWorkerStatus::Stopped | BackgroundWorkerStatus::PostmasterDied))
        };
        let ended: Vec<u32> =
            self.started.iter().filter(|(_, worker)| over(worker)).map(|(database, _)| *database).collect();
        self.not_before.retain(|_, at| *at > now);
        for database in ended {
            self.started.remove(&database);
            self.not_before.insert(database, now + PAUSE);
        }
    }

    /// Whether the worker of a database has found something to do there, or has ended.
    fn has_found_out(&self, database: u32) -> bool {
        !self.started.contains_key(&database) || seats().find(database).is_none_or(Seat::is_settled)
    }

    /// `false` if there is no process left.
    fn start(&mut self, database: u32) -> bool {
        let worker = BackgroundWorkerBuilder::new("sharding maintenance worker")
            .set_type("sharding maintenance worker")
            .set_library("sharding")
            .set_function("sharding_maintenance_worker")
            .set_argument(pg_sys::Oid::from(database).into_datum())
            .enable_spi_access()
            .set_notify_pid(my_pid() as i32)
            .load_dynamic();
        match worker {
            Ok(worker) => {
                self.started.insert(database, worker);
                self.told = false;
                true
            }
            Err(_) => {
                if !std::mem::replace(&mut self.told, true) {
                    report::log(
                        &Error::new(
                            sqlstate::CONFIGURATION_LIMIT,
                            "no background worker is left to look after a database",
                        )
                        .detail(
                            "Until there is one, transactions in doubt are not finished and deadlocks across nodes \
                                 are not found there.",
                        )
                        .hint("Raise max_worker_processes."),
                    );
                }
                false
            }
        }
    }
}

/// The databases that one can connect to.
fn databases() -> Result<Vec<u32>> {
    work::transaction(|| {
        let mut databases = Vec::new();
        let column = |number: u32| number as usize - 1;
        // SAFETY: the columns are those of pg_database in this version.
        unsafe {
            scan_catalog(pg_sys::DatabaseRelationId, |columns| {
                let oid = columns[column(pg_sys::Anum_pg_database_oid)];
                let connectable = columns[column(pg_sys::Anum_pg_database_datallowconn)];
                let limit = columns[column(pg_sys::Anum_pg_database_datconnlimit)];
                if let (Some(oid), Some(connectable), Some(limit)) = (oid, connectable, limit)
                    && connectable.value() as u8 != 0
                    && limit.value() as i32 != INVALID_DATABASE
                {
                    databases.push(oid.value() as u32);
                }
            });
        }
        Ok(databases)
    })
}
