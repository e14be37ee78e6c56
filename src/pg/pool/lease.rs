//! How a backend gets a connection of the pool and gives it back.
//!
//! A backend keeps what it once had: the descriptor and the conversation's buffers stay with it when
//! the slot is given back (`PARKED`), and serve again if the slot still has the same connection.

use crate::catalog::NodeId;
use crate::error::{Error, Result, sqlstate};
use crate::pg::connection::{CancelWay, Connection, Place};
use crate::pg::endpoint::{Endpoint, endpoint_of};
use crate::pg::maintenance;
use crate::pg::pool::ask::{ask, ended, socket_path};
use crate::pg::pool::dial::socket_address;
use crate::pg::pool::queueing::{turn_now, wait_in_queue};
use crate::pg::pool::settings;
use crate::pg::pool::shared::{self, locked, my_latch, my_pid, serving, table, wake_worker, wake_workers, worker_of};
use crate::pg::preload;
use crate::pg::settings::Settings;
use crate::pg::socket::Socket;
use crate::pool::message::{Answer, Opening, Request, encode};
use crate::pool::pools::PoolKey;
use crate::pool::slot::Owner;
use crate::pool::table::{Claim, GivenBack, Table, Wish};
use crate::wire::startup::CancelKey;
use pgrx::pg_sys;
use socket2::SockAddr;
use std::cell::{Cell, RefCell};
use std::ffi::CStr;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// What a worker may take beyond the time for connecting.
const WORKER_GRACE: Duration = Duration::from_secs(3);
/// How long a worker may take to hand over a descriptor.
const HAND_OVER_BOUND: Duration = Duration::from_secs(10);
/// How often a connection may turn out to be gone before its backend had it.
const ATTEMPTS: u32 = 5;

thread_local! {
    /// By slot: connections that this backend has had and nobody else has closed, as far as it knows.
    static PARKED: RefCell<Vec<Option<Box<Connection>>>> = const { RefCell::new(Vec::new()) };
    /// The backend is registered to give everything back when it ends, or has ended.
    static REGISTERED: Cell<bool> = const { Cell::new(false) };
    static ENDED: Cell<bool> = const { Cell::new(false) };
}

fn me() -> Owner {
    Owner(my_pid())
}

fn wish(alone: bool, again: Option<Place>) -> Wish {
    let again = again.map(|place| (place.slot, place.generation));
    Wish { owner: me(), alone, again, turn: turn_now(), latch: my_latch() }
}

/// What tells the connections of a pool from others: where they go and with which credentials.
pub fn key_of(node: NodeId, mapping: u32, outside: bool, endpoint: &Endpoint) -> PoolKey {
    let Endpoint { hosts, target, tls, dbname, user, password, keepalive, .. } = endpoint;
    let mut bytes = Vec::new();
    for part in [Some(dbname), Some(user), password.as_ref()] {
        bytes.extend(part.map_or(u64::MAX, |part| part.len() as u64).to_le_bytes());
        bytes.extend(part.map_or("", String::as_str).as_bytes());
    }
    // Unambiguous: texts in it are quoted.
    bytes.extend(format!("{hosts:?}{target:?}{tls:?}").into_bytes());
    // A connection of its own: others may keep all of theirs for long.
    bytes.push(u8::from(maintenance::shared::is_worker()));
    bytes.push(u8::from(keepalive.enabled));
    for value in [keepalive.idle, keepalive.interval, keepalive.count, keepalive.user_timeout] {
        bytes.extend(value.to_le_bytes());
    }
    // SAFETY: a variable of this backend.
    let database = unsafe { pg_sys::MyDatabaseId }.to_u32();
    // The same user on other nodes. Outside of transactions, nodes are asked for in one order.
    let family = if outside { 0 } else { xxh3_64(user.as_bytes()).wrapping_add(u64::from(database)).max(1) };
    PoolKey { database, node: node.0, mapping, outside, family, fingerprint: xxh3_128(&bytes) }
}

/// A connection of a pool that is known, the one that was last at this place if possible; waits for one at the limit.
/// `None` if there is none, but may be. `alone`: no other is asked for until it is given back; then, in the common
/// case, it takes one compare-and-swap.
pub fn again(
    last: Place,
    key: &PoolKey,
    node: impl FnOnce() -> String,
    alone: bool,
) -> Result<Option<Box<Connection>>> {
    let Some(table) = table() else { return Ok(None) };
    // Leased first: the descriptor is worth something only while nobody can retire the connection.
    if alone && table.lease_again(last.slot, last.generation, me()) {
        return fetch(table, last.slot, node);
    }
    let started = Instant::now();
    let claim = serving(table, |all, wake| {
        let pool = all.find_pool(key)?;
        Some((pool, all.claim_open(pool, wish(alone, Some(last)), settings::size(), wake)?))
    });
    let claim = match claim {
        Some((pool, Claim::Wait(place))) => wait_in_queue(table, pool, place, started)?,
        Some((_, claim)) => claim,
        None => return Ok(None),
    };
    match claim {
        Claim::Leased(slot) => fetch(table, slot, node),
        Claim::Open(slot) => {
            let claimed = Claimed::of(table, slot);
            let endpoint = endpoint_of(NodeId(key.node))?;
            if key_of(NodeId(key.node), key.mapping, key.outside, &endpoint) != *key {
                // The server was altered meanwhile: this one would lead elsewhere.
                return Ok(None);
            }
            open(claimed, &endpoint, &Settings::current())
        }
        Claim::Wait(_) | Claim::Full => Ok(None),
    }
}

/// A connection beside the one that the transaction has: one that is free at once, or can be opened; `None` if
/// none is to spare.
pub fn beside(
    key: &PoolKey,
    endpoint: &Endpoint,
    settings: &Settings,
    last: Option<Place>,
) -> Result<Option<Box<Connection>>> {
    let Some(table) = table() else { return Ok(None) };
    let claim = serving(table, |all, _| all.claim_beside(all.find_pool(key)?, wish(false, last), settings::size()));
    match claim {
        Some(Claim::Leased(slot)) => fetch(table, slot, || endpoint.name.clone()),
        Some(Claim::Open(slot)) => open(Claimed::of(table, slot), endpoint, settings),
        Some(Claim::Wait(_) | Claim::Full) | None => Ok(None),
    }
}

/// Gives a connection back that is quiet and clean; `settings` is the hash of those that it has, 0
/// if they are not known.
pub fn give_back(mut connection: Box<Connection>, settings: u64) {
    let Some(table) = table() else { return };
    let slot = connection.place().slot;
    let facts = &table.slots[slot].facts;
    facts.settings.store(settings, Ordering::Relaxed);
    connection.tell(facts);
    connection.given_back();
    match table.give_back(slot, me()) {
        GivenBack::Idle => park(connection),
        GivenBack::SomeoneWaits { bound } => {
            park(connection);
            if serving(table, |all, wake| all.pass_on(slot, bound, settings::size(), wake)) {
                wake_workers();
            }
        }
        GivenBack::Broken | GivenBack::NotYours => {
            connection.shut_down();
            wake_worker(worker_of(slot));
        }
    }
}

/// The connection at this place is not to be used any more.
pub fn break_off(place: Place) {
    if ENDED.get() {
        return;
    }
    if let Some(table) = table()
        && table.break_off(place.slot, me())
    {
        wake_worker(worker_of(place.slot));
    }
}

/// What the pool knows of the settings that the connection at this place has.
pub fn settings_at(place: Place) -> u64 {
    table().map_or(0, |table| table.slots[place.slot].facts.settings.load(Ordering::Relaxed))
}

/// Calls `f` with the slot's facts: its prepared statements, among others.
pub fn with_facts<T>(place: Place, f: impl FnOnce(&crate::pool::slot::Facts) -> T) -> Option<T> {
    table().map(|table| f(&table.slots[place.slot].facts))
}

/// Closes the connections of the pools that fit: idle ones now, others when they are given back.
fn abandon_where(fits: impl Fn(&PoolKey) -> bool) {
    let Some(table) = table() else { return };
    locked(table, |_| {
        for (index, pool) in table.pools_in_use().filter(|(_, pool)| fits(&pool.key())) {
            pool.warm.store(false, Ordering::SeqCst);
            for slot in 0..table.slots.len() {
                if table.slots[slot].pool.load(Ordering::Relaxed) as usize == index {
                    table.doom(slot);
                }
            }
        }
    });
    wake_workers();
}

/// Nobody shall use the connections of this pool any more.
pub fn abandon(key: &PoolKey) {
    abandon_where(|other| other == key);
}

/// Nobody needs the connections to this node any more.
pub fn abandon_node(node: NodeId) {
    // SAFETY: a variable of this backend.
    let database = unsafe { pg_sys::MyDatabaseId }.to_u32();
    abandon_where(|key| key.database == database && key.node == node.0);
}

/// What a node said last, for the view.
pub fn note_error(place: Place, message: &str) {
    with_facts(place, |facts| facts.last_error.set(message));
}

fn park(connection: Box<Connection>) {
    PARKED.with_borrow_mut(|parked| {
        let slot = connection.place().slot;
        if parked.len() <= slot {
            parked.resize_with(slot + 1, || None);
        }
        parked[slot] = Some(connection);
    });
}

fn unpark(place: Place) -> Option<Box<Connection>> {
    PARKED.with_borrow_mut(|parked| {
        let mut connection = parked.get_mut(place.slot)?.take()?;
        if connection.place() != place {
            return None;
        }
        connection.leased_again();
        Some(connection)
    })
}

/// Leases a connection; waits for one where none is idle. The settings are those that a new one
/// begins with.
pub fn lease(key: &PoolKey, endpoint: &Endpoint, settings: &Settings, alone: bool) -> Result<Box<Connection>> {
    let Some(table) = table() else {
        preload::require()?;
        return Err(Error::new(sqlstate::INTERNAL, "the connection pool has no shared memory"));
    };
    register();
    let started = Instant::now();
    let mut failures = 0;
    loop {
        let claim = serving(table, |all, wake| {
            let pool = all.pool_for(key)?;
            table.pools[pool].node_name.set(&endpoint.name);
            table.pools[pool].user.set(&endpoint.user);
            let claim = all.claim(pool, wish(alone, None), settings::size(), wake);
            // Somebody else's idle connection may have been given up for this one.
            let close = table.open_in(pool) < settings::size() && all.has_broken();
            Some((pool, claim, close))
        });
        let claim = match claim {
            None | Some((_, Claim::Full, _)) => {
                return Err(Error::new(sqlstate::TOO_MANY_CONNECTIONS, "the connection pool has no room left")
                    .hint("Raise sharding.max_pooled_connections."));
            }
            Some((pool, Claim::Wait(place), close)) => {
                if close {
                    wake_workers();
                }
                wait_in_queue(table, pool, place, started)?
            }
            Some((_, claim, _)) => claim,
        };
        let (slot, connection) = match claim {
            Claim::Leased(slot) => (slot, fetch(table, slot, || endpoint.name.clone())?),
            Claim::Open(slot) => (slot, open(Claimed::of(table, slot), endpoint, settings)?),
            Claim::Wait(_) | Claim::Full => continue,
        };
        if let Some(connection) = connection {
            let pool = table.slots[slot].pool.load(Ordering::Relaxed) as usize;
            debug_assert_eq!(table.pools[pool].key(), *key);
            return Ok(connection);
        }
        failures += 1;
        if failures >= ATTEMPTS {
            return Err(ended());
        }
    }
}

/// A slot that is this backend's, until there is a connection to care for it.
struct Claimed {
    place: Place,
}

impl Claimed {
    fn of(table: Table<'static>, slot: usize) -> Claimed {
        Claimed { place: Place { slot, generation: table.slots[slot].word().generation } }
    }

    fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        break_off(self.place);
    }
}

/// The connection of a leased slot; `None` if it is gone.
fn fetch(table: Table<'static>, slot: usize, node: impl FnOnce() -> String) -> Result<Option<Box<Connection>>> {
    let claimed = Claimed::of(table, slot);
    let place = claimed.place;
    if let Some(connection) = unpark(place) {
        claimed.keep();
        return Ok(Some(connection));
    }
    let request = Request::Descriptor { slot: slot as u32, generation: place.generation };
    match ask(worker_of(slot), &request, Instant::now() + HAND_OVER_BOUND)? {
        Some((answer @ Answer::Connected { .. }, Some(fd))) => {
            let connection = connected(place, fd, &node(), &answer)?;
            claimed.keep();
            Ok(Some(connection))
        }
        _ => Ok(None),
    }
}

/// Has a connection opened in a slot; `None` if the worker ended.
fn open(claimed: Claimed, endpoint: &Endpoint, settings: &Settings) -> Result<Option<Box<Connection>>> {
    let place = claimed.place;
    let slot = place.slot;
    let unable = |reason: String, hint: Option<String>| {
        let message = format!("could not connect to node \"{}\"", endpoint.name);
        let mut error = Error::new(sqlstate::CONNECTION_UNABLE, message).detail(reason);
        error.hint = hint;
        error
    };
    let hosts = endpoint.candidates();
    let addresses: usize = hosts.iter().map(|host| host.addresses.len()).sum();
    let patience = endpoint.timeout * (addresses.max(1) * endpoint.target.passes().len()) as u32;
    let opening = Opening {
        hosts,
        target: endpoint.target,
        tls: endpoint.tls.clone(),
        user: endpoint.user.clone(),
        password: endpoint.password.clone(),
        parameters: parameters(endpoint, settings),
        settings: settings.hash(),
        timeout_ms: endpoint.timeout.as_millis() as u64,
        keepalive: endpoint.keepalive,
    };
    let request = Request::Open { slot: slot as u32, generation: place.generation, opening: Box::new(opening) };
    match ask(worker_of(slot), &request, Instant::now() + patience + WORKER_GRACE)? {
        Some((answer @ Answer::Connected { .. }, Some(fd))) => {
            let connection = connected(place, fd, &endpoint.name, &answer)?;
            claimed.keep();
            Ok(Some(connection))
        }
        Some((Answer::Failed { reason, hint }, _)) => Err(unable(reason, hint)),
        _ => Ok(None),
    }
}

fn connected(place: Place, fd: OwnedFd, node: &str, answer: &Answer) -> Result<Box<Connection>> {
    if !Socket::has_room() {
        // Connections that are kept just in case give way.
        PARKED.take();
    }
    let socket = Socket::adopt(fd)?;
    Ok(Box::new(Connection::new(place, socket, node, way_to_cancel(place, answer)?)))
}

/// Over a connection of its own, or by the worker where that is to be encrypted.
fn way_to_cancel(place: Place, answer: &Answer) -> Result<CancelWay> {
    let unusable =
        |error: io::Error| Error::new(sqlstate::CONNECTION_FAILURE, format!("invalid address of a node: {error}"));
    match answer {
        Answer::Connected { address, cancel_process, cancel_secret, encrypted: false } => {
            let key = CancelKey { process_id: *cancel_process, secret_key: *cancel_secret };
            let address = socket_address(address).map_err(unusable)?;
            Ok(CancelWay { address, request: key.request(), is_answered: false })
        }
        _ => {
            let address = SockAddr::unix(socket_path(worker_of(place.slot))).map_err(unusable)?;
            let request = encode(&Request::Cancel { slot: place.slot as u32, generation: place.generation })?;
            Ok(CancelWay { address, request: request.as_slice().into(), is_answered: true })
        }
    }
}

/// The startup packet.
fn parameters(endpoint: &Endpoint, settings: &Settings) -> Vec<(String, String)> {
    let encoding = database_encoding();
    let fixed = [
        ("user", endpoint.user.as_str()),
        ("database", endpoint.dbname.as_str()),
        ("client_encoding", encoding.as_str()),
        // What a plain BEGIN means must not depend on how the node is configured.
        ("default_transaction_isolation", "read committed"),
        ("default_transaction_read_only", "off"),
        ("default_transaction_deferrable", "off"),
        // If this server crashes, what its sessions run on nodes ends soon.
        ("client_connection_check_interval", "500ms"),
    ];
    fixed.into_iter().chain(settings.pairs()).map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

/// The encoding of this database, which nodes share.
fn database_encoding() -> String {
    // SAFETY: a static string.
    unsafe { CStr::from_ptr(pg_sys::GetDatabaseEncodingName()) }.to_string_lossy().into_owned()
}

/// Sees to it that nothing stays behind when this backend ends.
fn register() {
    if !REGISTERED.replace(true) {
        // After the transaction's own end, which still needs its connections.
        // SAFETY: the callback is in the library, which is never unloaded.
        unsafe { pg_sys::on_shmem_exit(Some(leave), pg_sys::Datum::from(0)) };
    }
}

unsafe extern "C-unwind" fn leave(_code: i32, _arg: pg_sys::Datum) {
    ENDED.set(true);
    if let Some(table) = shared::table()
        && serving(table, |all, wake| all.bury(me(), settings::size(), wake))
    {
        wake_workers();
    }
}
