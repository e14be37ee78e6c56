//! A pool worker: opens the connections of its slots, hands their descriptors to backends, watches
//! them while nobody uses them, and closes them.
//!
//! It has no connection to a database and holds no lock for longer than a look at the table. It
//! waits for all its sockets at once, so that a node that does not answer holds up nobody else.
//! What it knows beyond the shared table (the descriptors) dies with it: a worker that starts first
//! retires what another one has left, and what backends still use is closed when they give it back.

use crate::error::{Error, Result, sqlstate};
use crate::pg::guard;
use crate::pg::pool::ask::socket_path;
use crate::pg::pool::attempt::{Attempt, Connected, Progress};
use crate::pg::pool::cancel::{Cancel, Purpose};
use crate::pg::pool::master::Master;
use crate::pg::pool::poll::{Interest, Poll, Watch};
use crate::pg::pool::relayed::{Relayed, Tokens};
use crate::pg::pool::shared::{self, my_pid, now, serving, worker_of};
use crate::pg::pool::upkeep::retire_all;
use crate::pg::pool::warm::Recipes;
use crate::pg::pool::{descriptor, settings};
use crate::pg::report;
use crate::pg::wait::{Event, Patience, Source, wait_as};
use crate::pool::backoff::pause_after;
use crate::pool::message::{Answer, Opening, Request, decode, encode};
use crate::pool::slot::{Owner, State, Word};
use crate::pool::table::Table;
use crate::tls::relay::BLOCK;
use crate::wire::startup::CancelKey;
use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder, SignalWakeFlags};
use pgrx::{IntoDatum, pg_sys};
use std::collections::HashMap;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often idle times, ages and dead owners are looked at.
const TICK: Duration = Duration::from_secs(1);
/// How often sockets are looked at before all the rest has its turn.
const ROUNDS: usize = 32;

/// Registers the workers; while the postmaster loads its libraries.
pub fn install() {
    for index in 0..settings::workers() {
        BackgroundWorkerBuilder::new(&format!("sharding pool worker {index}"))
            .set_type("sharding pool worker")
            .set_library("sharding")
            .set_function("sharding_pool_worker")
            .set_argument((index as i32).into_datum())
            .enable_shmem_access(None)
            .set_restart_time(Some(Duration::from_secs(1)))
            .load();
    }
}

/// The main function of a worker.
#[unsafe(no_mangle)]
pub extern "C-unwind" fn sharding_pool_worker(argument: pg_sys::Datum) {
    guard::guarded(|| {
        BackgroundWorker::attach_signal_handlers(SignalWakeFlags::SIGHUP | SignalWakeFlags::SIGTERM);
        run(argument.value())
    });
    // A worker that ends with success would not be started again.
    // SAFETY: nothing of this process is left to be dropped.
    unsafe { pg_sys::proc_exit(1) }
}

fn run(index: usize) -> Result<()> {
    let Some(table) = shared::table() else { return Ok(()) };
    descriptor::raise_limit();
    let mut worker = Worker::start(index, table).map_err(|error| {
        Error::new(sqlstate::INTERNAL, format!("sharding pool worker {index} cannot start: {error}"))
    })?;
    while !BackgroundWorker::sigterm_received() {
        if BackgroundWorker::sighup_received() {
            // SAFETY: re-reads the configuration, as every process does.
            unsafe { pg_sys::ProcessConfigFile(pg_sys::GucContext::PGC_SIGHUP) }
        }
        worker.work();
        let source = Source { fd: worker.poll.fd(), write: false };
        wait_as(Event::PoolWorker, &[source], Patience::until(worker.next_due()));
    }
    worker.stop();
    Ok(())
}

/// A backend that asks.
struct Client {
    stream: UnixStream,
    owner: Owner,
    input: Vec<u8>,
}

/// An attempt to connect and who wants it.
struct Wanted {
    attempt: Attempt,
    slot: usize,
    generation: u64,
    owner: Owner,
    /// `None`: it is to be kept for whoever comes.
    client: Option<u64>,
    watch: Watch,
    /// Of the socket that is watched.
    dials: u64,
}

pub struct Worker {
    pub(super) index: usize,
    pub(super) table: Table<'static>,
    pub(super) poll: Poll,
    listener: UnixListener,
    /// By slot.
    pub(super) masters: HashMap<usize, Master>,
    pub(super) recipes: Recipes,
    clients: HashMap<u64, Client>,
    attempts: HashMap<u64, Wanted>,
    cancels: HashMap<u64, (Cancel, Watch)>,
    /// For what passes through.
    block: Box<[u8]>,
    last_token: u64,
    next_tick: Instant,
    pub(super) ticks: u64,
}

const LISTENER: u64 = 0;
/// Tokens of masters are their slots plus this, those of the two sides of a relay plus one of these.
const MASTERS: u64 = 1 << 60;
const NODE_SIDES: u64 = 2 << 60;
const BACKEND_SIDES: u64 = 3 << 60;
/// What is left of a token without these.
const SLOTS: u64 = MASTERS - 1;

impl Worker {
    fn start(index: usize, table: Table<'static>) -> io::Result<Worker> {
        let path = socket_path(index);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        let poll = Poll::new()?;
        poll.add(listener.as_raw_fd(), Interest::Read, LISTENER)?;
        let worker = Worker {
            index,
            table,
            poll,
            listener,
            masters: HashMap::new(),
            recipes: Recipes::default(),
            clients: HashMap::new(),
            attempts: HashMap::new(),
            cancels: HashMap::new(),
            block: vec![0; BLOCK].into_boxed_slice(),
            last_token: LISTENER,
            next_tick: Instant::now() + TICK,
            ticks: 0,
        };
        if let Some(seat) = shared::seat(index) {
            seat.take();
        }
        retire_all(table, index);
        // SAFETY: the callback is in the library, which is never unloaded.
        unsafe { pg_sys::on_shmem_exit(Some(leave), pg_sys::Datum::from(index)) };
        Ok(worker)
    }

    fn token(&mut self) -> u64 {
        self.last_token += 1;
        self.last_token
    }

    fn next_due(&self) -> Instant {
        let attempts = self.attempts.values().map(|wanted| wanted.attempt.due());
        let cancels = self.cancels.values().map(|(cancel, _)| cancel.deadline);
        attempts.chain(cancels).fold(self.next_tick, Instant::min)
    }

    fn work(&mut self) {
        for _ in 0..ROUNDS {
            let mut relayed = false;
            for token in self.poll.ready() {
                match token {
                    LISTENER => self.accept(),
                    token if token >= NODE_SIDES => {
                        relayed = true;
                        self.relay((token & SLOTS) as usize);
                    }
                    token if token >= MASTERS => self.hung_up((token - MASTERS) as usize),
                    token if self.clients.contains_key(&token) => self.listen_to(token),
                    _ => {}
                }
            }
            if !relayed {
                break;
            }
        }
        let attempts: Vec<u64> = self.attempts.keys().copied().collect();
        attempts.into_iter().for_each(|token| self.advance(token));
        let cancels: Vec<u64> = self.cancels.keys().copied().collect();
        cancels.into_iter().for_each(|token| self.cancel_on(token));
        self.close_broken();
        if Instant::now() >= self.next_tick {
            self.next_tick = Instant::now() + TICK;
            self.tick();
        }
    }

    // Backends.

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let Some(pid) = descriptor::trusted_peer(&stream) else { continue };
            let token = self.token();
            if stream.set_nonblocking(true).is_ok() && self.poll.add(stream.as_raw_fd(), Interest::Read, token).is_ok()
            {
                self.clients.insert(token, Client { stream, owner: Owner(pid), input: Vec::new() });
                self.listen_to(token);
            }
        }
    }

    fn listen_to(&mut self, token: u64) {
        let Some(client) = self.clients.get_mut(&token) else { return };
        let mut buffer = [0; 8192];
        loop {
            match client.stream.read(&mut buffer) {
                Ok(count) if count > 0 => client.input.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // It does not wait for the answer any more.
                _ => {
                    self.clients.remove(&token);
                    return;
                }
            }
        }
        match decode::<Request>(&client.input) {
            Ok(None) => {}
            Ok(Some((request, used))) => {
                client.input.drain(..used);
                let owner = client.owner;
                self.serve(token, owner, request);
            }
            Err(_) => {
                self.clients.remove(&token);
            }
        }
    }

    fn serve(&mut self, client: u64, owner: Owner, request: Request) {
        match request {
            Request::Descriptor { slot, generation } => match self.leased(slot, generation, owner) {
                Some((slot, master)) => {
                    let answer = self.connected(slot, master);
                    let fd = master.socket.fd();
                    self.answer(client, &answer, Some(fd));
                }
                None => self.answer(client, &Answer::Gone, None),
            },
            Request::Cancel { slot, generation } => {
                let known = self.leased(slot, generation, owner).is_some();
                if !(known && self.cancel(slot as usize, Purpose::Asked { client })) {
                    self.answer(client, &Answer::Gone, None);
                }
            }
            Request::Open { slot, generation, opening } => {
                let slot = slot as usize;
                let word = self.table.slots.get(slot).map(|slot| slot.word());
                if word != Some(Word { state: State::Opening(owner), generation })
                    || worker_of(slot) != self.index
                    || self.masters.contains_key(&slot)
                {
                    return self.answer(client, &Answer::Gone, None);
                }
                self.begin(slot, owner, *opening, Some(client));
            }
        }
    }

    /// The connection of a slot that this backend has leased.
    fn leased(&self, slot: u32, generation: u64, owner: Owner) -> Option<(usize, &Master)> {
        let slot = slot as usize;
        let word = self.table.slots.get(slot)?.word();
        let its_own = word == Word { state: State::Leased(owner), generation };
        let master = self.masters.get(&slot).filter(|master| its_own && master.generation == generation)?;
        Some((slot, master))
    }

    fn answer(&mut self, client: u64, answer: &Answer, fd: Option<RawFd>) {
        // A backend that does not take it has gone, and its slot will be found.
        if let (Some(client), Ok(bytes)) = (self.clients.remove(&client), encode(answer)) {
            let _ = descriptor::send(&client.stream, &bytes, fd);
        }
    }

    fn connected(&self, slot: usize, master: &Master) -> Answer {
        let facts = &self.table.slots[slot].facts;
        Answer::Connected {
            address: master.address.clone(),
            encrypted: master.seal.is_some(),
            cancel_process: facts.cancel_process.load(Ordering::Relaxed),
            cancel_secret: facts.cancel_secret.load(Ordering::Relaxed),
        }
    }

    // Opening.

    /// Begins to connect in a slot that is `Opening` for this owner.
    pub(super) fn begin(&mut self, slot: usize, owner: Owner, opening: Opening, client: Option<u64>) {
        let generation = self.table.slots[slot].word().generation;
        let attempt = Attempt::new(opening, self.pause(slot));
        let token = self.token();
        let wanted = Wanted { attempt, slot, generation, owner, client, watch: Watch::default(), dials: 0 };
        self.attempts.insert(token, wanted);
        self.advance(token);
    }

    /// How long to leave the node alone, after what happened before.
    fn pause(&self, slot: usize) -> Duration {
        let pool = &self.table.pools[self.table.slots[slot].pool.load(Ordering::Relaxed) as usize];
        let since = now().saturating_sub(pool.failed_at.load(Ordering::Relaxed)).max(0) as u64;
        pause_after(pool.failures.load(Ordering::Relaxed)).saturating_sub(Duration::from_micros(since))
    }

    fn advance(&mut self, token: u64) {
        let Some(wanted) = self.attempts.get_mut(&token) else { return };
        let slot = &self.table.slots[wanted.slot];
        if slot.word() != (Word { state: State::Opening(wanted.owner), generation: wanted.generation }) {
            // Its backend has given up; what is broken is retired below.
            self.forget_attempt(token);
            return;
        }
        match wanted.attempt.step() {
            Progress::Pending => {
                if let Some((fd, interest)) = wanted.attempt.source() {
                    if wanted.attempt.dials() != wanted.dials {
                        wanted.dials = wanted.attempt.dials();
                        wanted.watch.forget();
                    }
                    wanted.watch.update(&self.poll, fd, interest, token);
                }
            }
            Progress::Connected(connected) => {
                let Some(wanted) = self.forget_attempt(token) else { return };
                self.keep(wanted, connected);
            }
            Progress::Failed { reason, hint } => {
                let Some(wanted) = self.forget_attempt(token) else { return };
                self.fail(wanted, reason, hint);
            }
        }
    }

    fn forget_attempt(&mut self, token: u64) -> Option<Wanted> {
        let mut wanted = self.attempts.remove(&token)?;
        if let Some((fd, _)) = wanted.attempt.source() {
            self.poll.remove(fd);
        }
        Some(wanted)
    }

    fn keep(&mut self, wanted: Wanted, connected: Connected) {
        let Connected { link, address, place, seal, cancel_key } = connected;
        let Wanted { slot: index, generation, owner, client, .. } = wanted;
        let slot = &self.table.slots[index];
        let opening = wanted.attempt.opening();
        slot.facts.settings.store(opening.settings, Ordering::Relaxed);
        slot.facts.cancel_process.store(cancel_key.process_id, Ordering::Relaxed);
        slot.facts.cancel_secret.store(cancel_key.secret_key, Ordering::Relaxed);
        slot.facts.opened_at.store(now(), Ordering::Relaxed);
        slot.facts.server.set(&place);
        slot.facts.tls.store(seal.is_some(), Ordering::Relaxed);
        let pool = &self.table.pools[slot.pool.load(Ordering::Relaxed) as usize];
        pool.failures.store(0, Ordering::Relaxed);
        if client.is_some() && !slot.doomed.load(Ordering::SeqCst) {
            pool.warm.store(true, Ordering::SeqCst);
            self.recipes.learn(slot.pool.load(Ordering::Relaxed) as usize, pool.key(), opening);
        }
        self.poll.remove(link.fd());
        let (relayed, socket) = match Relayed::new(link) {
            Ok(both) => both,
            Err(error) => {
                let reason = format!("The coordinator cannot relay a TLS connection: {error}.");
                return self.fail(Wanted { slot: index, generation, owner, client, ..wanted }, reason, None);
            }
        };
        let watched = match &relayed {
            None => self.poll.add(socket.fd(), Interest::HangUp, MASTERS + index as u64).is_ok(),
            Some(_) => true,
        };
        let opened = Instant::now();
        let master = Master { socket, relayed, generation, address, seal, opened, leases: 0, idle_since: opened };
        let answer = self.connected(index, &master);
        let fd = master.socket.fd();
        self.masters.insert(index, master);
        if !watched || !self.table.opened(index, generation, owner) {
            // Broken by a backend that did not wait: `close_broken` finds it.
            self.table.break_off(index, owner);
            client.into_iter().for_each(|client| self.answer(client, &Answer::Gone, None));
            return;
        }
        match client {
            Some(client) => self.answer(client, &answer, Some(fd)),
            None => self.put_aside(index, owner),
        }
        self.relay(index);
    }

    fn fail(&mut self, wanted: Wanted, reason: String, hint: Option<String>) {
        let slot = &self.table.slots[wanted.slot];
        let pool = &self.table.pools[slot.pool.load(Ordering::Relaxed) as usize];
        pool.failures.fetch_add(1, Ordering::Relaxed);
        pool.failed_at.store(now(), Ordering::Relaxed);
        pool.counters.failed.fetch_add(1, Ordering::Relaxed);
        self.free(wanted.slot, Word { state: State::Opening(wanted.owner), generation: wanted.generation });
        if let Some(client) = wanted.client {
            self.answer(client, &Answer::Failed { reason, hint }, None);
        }
    }

    /// Moves bytes between a backend and a node, if they are encrypted on the way.
    fn relay(&mut self, slot: usize) {
        let Some(Master { relayed: Some(relayed), .. }) = self.masters.get_mut(&slot) else { return };
        let tokens = Tokens { node: NODE_SIDES + slot as u64, backend: BACKEND_SIDES + slot as u64 };
        match relayed.pump(&self.poll, tokens, &mut self.block) {
            Ok(true) => return,
            // Backends report it when a connection breaks off, but not what is wrong with TLS.
            Err(error) if error.kind() == io::ErrorKind::Other => {
                let pool = &self.table.pools[self.table.slots[slot].pool.load(Ordering::Relaxed) as usize];
                let message = format!("TLS connection to node \"{}\" failed: {error}", pool.node_name.get());
                report::log(&Error::new(sqlstate::CONNECTION_FAILURE, message));
            }
            _ => {}
        }
        relayed.end(&self.poll);
        self.hung_up(slot);
    }

    // Closing.

    /// The node has ended a connection.
    fn hung_up(&mut self, slot: usize) {
        if let Some(master) = self.masters.get(&slot) {
            self.poll.remove(master.socket.fd());
            if self.table.doom(slot) {
                self.close(slot);
            }
        }
    }

    /// Looks for what backends have given up.
    fn close_broken(&mut self) {
        for slot in (self.index..self.table.slots.len()).step_by(settings::workers()) {
            let seen = self.table.slots[slot].word();
            if seen.state != State::Broken
                || self.cancels.values().any(|(cancel, _)| cancel.purpose == Purpose::Close { slot, seen })
                || self.attempts.values().any(|wanted| wanted.slot == slot)
            {
                continue;
            }
            if !self.cancel(slot, Purpose::Close { slot, seen }) {
                self.close(slot);
            }
        }
    }

    /// Asks the node to stop what still runs on a connection; `false` if there is no need or no way.
    fn cancel(&mut self, slot: usize, purpose: Purpose) -> bool {
        let facts = &self.table.slots[slot].facts;
        let key = CancelKey {
            process_id: facts.cancel_process.load(Ordering::Relaxed),
            secret_key: facts.cancel_secret.load(Ordering::Relaxed),
        };
        let Some(master) = self.masters.get(&slot) else { return false };
        if key == CancelKey::default() {
            return false;
        }
        let Ok(cancel) = Cancel::new(&master.address, master.seal.clone(), key, purpose) else { return false };
        let token = self.token();
        self.cancels.insert(token, (cancel, Watch::default()));
        self.cancel_on(token);
        true
    }

    fn cancel_on(&mut self, token: u64) {
        let Some((cancel, watch)) = self.cancels.get_mut(&token) else { return };
        let Some(heard) = cancel.step() else {
            if let Some((fd, interest)) = cancel.source() {
                watch.update(&self.poll, fd, interest, token);
            }
            return;
        };
        match self.cancels.remove(&token).map(|(cancel, _)| cancel.purpose) {
            Some(Purpose::Close { slot, seen }) if self.table.slots[slot].word() == seen => self.close(slot),
            Some(Purpose::Asked { client }) => {
                self.answer(client, if heard { &Answer::Cancelled } else { &Answer::Gone }, None);
            }
            _ => {}
        }
    }

    /// Closes the connection of a broken slot and frees it.
    pub(super) fn close(&mut self, slot: usize) {
        if let Some(mut master) = self.masters.remove(&slot) {
            self.poll.remove(master.socket.fd());
            master.leave(&self.poll);
        }
        let seen = self.table.slots[slot].word();
        if seen.state == State::Broken {
            self.free(slot, seen);
        }
    }

    fn free(&self, slot: usize, seen: Word) {
        serving(self.table, |all, wake| {
            if all.retire(slot, seen) {
                all.dispatch(settings::size(), wake);
            }
        });
    }
}

unsafe extern "C-unwind" fn leave(_code: i32, index: pg_sys::Datum) {
    let index = index.value();
    if let Some(seat) = shared::seat(index).filter(|seat| seat.pid.load(Ordering::Relaxed) == my_pid()) {
        seat.leave();
    }
    if let Some(table) = shared::table() {
        retire_all(table, index);
    }
}
