//! The worker of a database: finishes transactions that are left in doubt, ends deadlocks over several servers, and
//! refreshes the planner's statistics.
//!
//! It sleeps until a node is due ([`crate::maintenance::agenda`]), a backend reports that it had to leave
//! something behind or that it waits for long, or somebody wants the database for himself. Each piece of work has a transaction of its own;
//! one that fails is reported and tried again later.

use crate::catalog::{ClusterMap, NodeId};
use crate::error::{Error, Result, sqlstate};
use crate::maintenance::agenda::Agenda;
use crate::maintenance::seats::Seat;
use crate::pg::maintenance::deadlock::Deadlocks;
use crate::pg::maintenance::recover::{Pass, Visit};
use crate::pg::maintenance::roles::Roles;
use crate::pg::maintenance::shared::{is_alive, locked, long_waits, take_seat};
use crate::pg::maintenance::statistics::Statistics;
use crate::pg::maintenance::{long_wait, settings, work};
use crate::pg::wait::{Event, Patience, wait_as};
use crate::pg::{catalog_cache, compat, endpoint, guard, report};
use pgrx::bgworkers::{BackgroundWorker, SignalWakeFlags};
use pgrx::pg_sys;
use std::collections::HashMap;
use std::ffi::CStr;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How often a worker without work looks whether the cluster is still there.
const TICK: Duration = Duration::from_secs(10);
/// After a failure to read the catalog.
const RETRY: Duration = Duration::from_secs(5);
/// How long a connection may take at first; each failure doubles it, up to the node's own limit.
const FIRST_CONNECT_LIMIT: Duration = Duration::from_secs(1);
const MOST_DOUBLINGS: u32 = 12;
/// How often is looked for deadlocks at most, as long as the same ones wait.
const LEAST_PERIOD: Duration = Duration::from_millis(100);
/// Between two looks: a quarter of `deadlock_timeout` within these bounds.
const LEAST_PAUSE: Duration = Duration::from_millis(10);
const MOST_PAUSE: Duration = Duration::from_millis(250);

/// The main function of a worker.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn sharding_maintenance_worker(database: pg_sys::Datum) {
    guard::guarded(|| {
        compat::on_signal(pg_sys::SIGTERM as i32, die);
        BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP);
        let database = database.value() as u32;
        match take_seat(database) {
            Some(seat) => run(database, seat),
            None => Ok(()),
        }
    });
    // SAFETY: nothing of this process is left to be dropped.
    unsafe { pg_sys::proc_exit(0) }
}

/// As in any backend, SIGTERM ends the process where it next looks for interrupts.
unsafe extern "C-unwind" fn die(signal: i32) {
    unsafe extern "C-unwind" {
        fn die(signal: i32);
    }
    // SAFETY: Postgres's own handler.
    unsafe { die(signal) }
}

fn run(database: u32, seat: &'static Seat) -> Result<()> {
    BackgroundWorker::connect_worker_to_spi_by_oid(Some(pg_sys::Oid::from(database)), None);
    set(c"application_name", c"maintenance");
    // What waits for a connection here holds up everything else.
    set(c"sharding.pool_wait_timeout", c"1s");
    let mut worker = Worker {
        seat,
        agenda: Agenda::default(),
        troubles: 0,
        waits: 0,
        deadlocks: Deadlocks::default(),
        statistics: Statistics::default(),
        no_look_before: Instant::now(),
        complaints: HashMap::new(),
    };
    loop {
        if BackgroundWorker::sighup_received() {
            // SAFETY: re-reads the configuration, as every process does.
            unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) }
        }
        if seat.is_held(is_alive) {
            return Ok(());
        }
        let noted = seat.noted();
        let next = match work::transaction(|| Ok(catalog_cache::cluster().filter(|map| !map.nodes.is_empty()))) {
            Ok(Some(map)) => {
                seat.settle();
                worker.look(&map)
            }
            Ok(None) if locked(|_| seat.give_up(noted)) => return Ok(()),
            Ok(None) => continue,
            Err(error) => {
                report::log(&error);
                wait_as(Event::Maintenance, &[], Patience::until(Instant::now() + RETRY));
                continue;
            }
        };
        // Waits in between may have used up a wake-up.
        let until = worker.called_for().map_or(next, |at| at.min(next));
        wait_as(Event::Maintenance, &[], Patience::until(until));
    }
}

fn set(name: &CStr, value: &CStr) {
    // SAFETY: a setting of this process.
    unsafe {
        pg_sys::SetConfigOption(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_OVERRIDE,
        )
    }
}

struct Worker {
    seat: &'static Seat,
    agenda: Agenda,
    /// The reports of trouble that were heard.
    troubles: u64,
    /// The reports of long waits that were heard.
    waits: u64,
    deadlocks: Deadlocks,
    statistics: Statistics,
    /// Until then, who waits has to wait: many may begin to at once.
    no_look_before: Instant,
    /// What the log was last told of a node.
    complaints: HashMap<NodeId, String>,
}

impl Worker {
    /// Whether somebody has called since the last look, and for when.
    fn called_for(&self) -> Option<Instant> {
        let trouble = settings::recovery_interval().is_some() && self.seat.troubles() != self.troubles;
        if trouble || self.seat.is_held(is_alive) {
            return Some(Instant::now());
        }
        (self.seat.waits() != self.waits).then_some(self.no_look_before)
    }

    /// Does what is due; when to look again.
    fn look(&mut self, map: &Rc<ClusterMap>) -> Instant {
        let nodes = map.node_ids();
        self.agenda.set_nodes(&nodes);
        self.complaints.retain(|node, _| nodes.contains(node));
        let next_wait = self.resolve_deadlocks(map);
        let next = self.look_for_doubt(map);
        let next_statistics = self.refresh_statistics(map);
        [next_wait, next_statistics].into_iter().flatten().fold(next, Instant::min)
    }

    /// Refreshes the planner's statistics if it is time; when to look again.
    fn refresh_statistics(&mut self, map: &ClusterMap) -> Option<Instant> {
        let (seat, waits, troubles) = (self.seat, self.waits, self.troubles);
        let is_wanted = || seat.is_held(is_alive) || seat.waits() != waits || seat.troubles() != troubles;
        endpoint::limit_connecting(FIRST_CONNECT_LIMIT);
        let (next, failed) = self.statistics.look(map, is_wanted);
        failed.into_iter().for_each(|(node, error)| self.complain(map, node, error));
        next
    }

    /// Looks for deadlocks if somebody waits for long; when to look again.
    fn resolve_deadlocks(&mut self, map: &ClusterMap) -> Option<Instant> {
        if self.seat.waits() != self.waits && Instant::now() < self.no_look_before {
            return Some(self.no_look_before);
        }
        self.waits = self.seat.waits();
        if long_waits().of_database(self.seat.database()).is_empty() {
            return None;
        }
        // A node that is not connected yet has nobody waiting.
        endpoint::limit_connecting(FIRST_CONNECT_LIMIT);
        match self.deadlocks.look(map) {
            Ok(failed) => failed.into_iter().for_each(|(node, error)| self.complain(map, node, error)),
            Err(error) => report::log(&error),
        }
        let now = Instant::now();
        self.no_look_before = now + (long_wait::limit() / 4).clamp(LEAST_PAUSE, MOST_PAUSE);
        Some(now + long_wait::limit().max(LEAST_PERIOD))
    }

    /// Finishes transactions in doubt where that is due; when to look again.
    fn look_for_doubt(&mut self, map: &Rc<ClusterMap>) -> Instant {
        let Some(interval) = settings::recovery_interval() else { return Instant::now() + TICK };
        let troubles = self.seat.troubles();
        if troubles != self.troubles {
            self.troubles = troubles;
            self.agenda.trouble();
        }
        let due = self.agenda.due(Instant::now(), interval);
        if !due.is_empty() {
            self.recover(map, &due);
        }
        let now = Instant::now();
        self.agenda.next_due(interval).unwrap_or(now).clamp(now, now + TICK)
    }

    /// Finishes what is in doubt on these nodes.
    fn recover(&mut self, map: &Rc<ClusterMap>, nodes: &[NodeId]) {
        let mut pass = match work::transaction(|| Pass::begin(Rc::clone(map), Roles::Any)) {
            Ok(pass) => pass,
            Err(error) => {
                nodes.iter().for_each(|node| self.agenda.open(*node, Instant::now()));
                return report::log(&error);
            }
        };
        // Those that answer come first.
        let mut all = pass.nodes_in_log();
        all.retain(|node| self.agenda.failures(*node) == 0 && !nodes.contains(node));
        all.extend(nodes);
        for node in &all {
            if self.seat.is_held(is_alive) {
                return;
            }
            if self.seat.waits() != self.waits {
                self.resolve_deadlocks(map);
            }
            let asked = Instant::now();
            let doublings = self.agenda.failures(*node).min(MOST_DOUBLINGS);
            endpoint::limit_connecting(FIRST_CONNECT_LIMIT * (1 << doublings));
            match work::transaction(|| pass.visit(*node)) {
                Ok(Visit::Clean) => self.recovered(*node, asked),
                Ok(Visit::Open) => self.agenda.open(*node, asked),
                Err(error) => {
                    self.agenda.failed(*node, asked, Instant::now());
                    self.complain(map, *node, error);
                }
            }
            for done in pass.done.drain(..) {
                report::log(
                    &Error::new(
                        sqlstate::SUCCESS,
                        format!("transaction in doubt on node \"{}\": {}", done.node, done.action),
                    )
                    .detail(format!("Its name there is \"{}\".", done.gid)),
                );
            }
        }
        if let Err(error) = work::transaction(|| pass.end()) {
            report::log(&error);
        }
    }

    /// The node was reached after `asked`, and nothing of this coordinator that was reported before is left in
    /// doubt on it.
    fn recovered(&mut self, node: NodeId, asked: Instant) {
        self.complaints.remove(&node);
        self.agenda.clean(node, asked);
    }

    /// Tells the log why a node cannot be asked, unless it knows.
    fn complain(&mut self, map: &ClusterMap, node: NodeId, error: Error) {
        if self.complaints.get(&node) == Some(&error.message) {
            return;
        }
        self.complaints.insert(node, error.message.clone());
        let mut told = error;
        told.context = Some(format!("looking after node \"{}\"", map.node_name(node)));
        report::log(&told);
    }
}
