//! How a session gets its connection from the pool, and gives it back.
//!
//! ```text
//! join      -> connect   -> the one it had, another idle one, a new one, or a place in the queue
//! (settled) -> end_lease -> idle for somebody else; closed if it is not at rest
//! ```
//!
//! What the next user must know of the connection goes with it: the hash of its settings. Where code of
//! users may have run (`tainted`), it is reset before.

use crate::cheap_hash::CheapMap;
use crate::error::Result;
use crate::pg::catalog_cache::servers_generation;
use crate::pg::connection::Connection;
use crate::pg::endpoint::{Endpoint, endpoint_of};
use crate::pg::pool::lease;
use crate::pg::session::registry::{Key, Session, gone, with_sessions};
use crate::pg::session::settle;
use crate::pg::settings::Settings;
use crate::pool::pools::PoolKey;
use crate::transaction::levels::Levels;
use crate::wire::conversation::Block;
use pgrx::pg_sys;
use std::rc::Rc;

/// Leases a connection for a transaction that may use other nodes as well, or checks the one that is
/// there if the node is not yet in the transaction.
pub fn ensure_connected(key: Key) -> Result<()> {
    connect(key, false)
}

/// `alone`: the transaction uses no other node.
pub(super) fn connect(key: Key, alone: bool) -> Result<()> {
    let usable = with_sessions(|sessions| {
        let Some(session) = sessions.get_mut(&key) else { return Ok(Usable::No) };
        if let Some(lost) = &session.lost {
            return Err(lost.clone());
        }
        Ok(session.freshen())
    })?;
    match usable {
        Usable::Yes => return Ok(()),
        Usable::No if lease_again(key, alone)? => return Ok(()),
        Usable::No => {}
        Usable::Busy => {
            // What nobody waits for any more must not delay this statement.
            settle::settle(&[key], settle::CANCEL_BOUND, |_| true);
            let quiet =
                with_sessions(|sessions| sessions.get_mut(&key).is_some_and(|s| matches!(s.freshen(), Usable::Yes)));
            if quiet {
                return Ok(());
            }
        }
    }
    lease_anew(key, alone)
}

/// Leases a connection that is idle, if there is one.
fn lease_again(key: Key, alone: bool) -> Result<bool> {
    let known = with_sessions(|sessions| {
        let session = sessions.get(&key)?;
        let last = session.last.filter(|_| session.generation == servers_generation())?;
        Some((last, session.pool, session.settings_hash))
    });
    let Some((last, pool, hash)) = known else { return Ok(false) };
    let name = || with_sessions(|sessions| sessions.get(&key).map(|s| s.name.clone()).unwrap_or_default());
    let Some(connection) = lease::again(last, &pool, name, alone)? else { return Ok(false) };
    // Somebody else may have set the same.
    let likely = (lease::settings_at(connection.place()) != hash).then(Settings::current);
    with_sessions(|sessions| {
        let session = sessions.get_mut(&key).ok_or_else(gone)?;
        session.begin_lease(connection, likely);
        Ok(true)
    })
}

/// Leases any connection of the pool.
fn lease_anew(key: Key, alone: bool) -> Result<()> {
    let generation = servers_generation();
    let endpoint = endpoint_of(key.node)?;
    let pool = lease::key_of(key.node, key.mapped.mapping, key.outside, &endpoint);
    let settings = Settings::current();
    let connection = lease::lease(&pool, &endpoint, &settings, alone)?;
    begin_with(key, connection, endpoint, pool, settings, generation);
    Ok(())
}

/// The session goes on with a connection of this pool; it is made if there is none yet.
pub(super) fn begin_with(
    key: Key,
    connection: Box<Connection>,
    endpoint: Endpoint,
    pool: PoolKey,
    settings: Rc<Settings>,
    generation: u64,
) {
    with_sessions(|sessions| {
        let session = sessions.entry(key).or_insert_with(|| Session {
            name: endpoint.name.clone(),
            connection: None,
            last: None,
            pool,
            levels: Levels::default(),
            prepared: None,
            fixed_snapshot: false,
            exported: false,
            holds: false,
            lost: None,
            task_levels: CheapMap::default(),
            settings: None,
            settings_hash: 0,
            tainted: false,
            settings_unsure: false,
            settings_sent: false,
            errors_at_lease: 0,
            errors_seen: 0,
            last_loss: None,
            generation,
        });
        if session.pool != pool {
            // The server or the mapping was altered: nobody shall use what leads elsewhere.
            lease::abandon(&session.pool);
            session.pool = pool;
        }
        session.name = endpoint.name;
        session.generation = generation;
        session.task_levels.clear();
        session.begin_lease(connection, Some(settings));
    });
}

enum Usable {
    Yes,
    /// A result that nobody wants is still coming in.
    Busy,
    No,
}

impl Session {
    /// Takes a connection and finds out what settings it has: those that this session set last, or
    /// `likely`, or unknown ones.
    fn begin_lease(&mut self, mut connection: Box<Connection>, likely: Option<Rc<Settings>>) {
        let place = connection.place();
        lease::with_facts(place, |facts| connection.learn(facts));
        let hash = lease::settings_at(place);
        if hash == 0 || hash != self.settings_hash {
            self.settings = likely.filter(|settings| hash == settings.hash());
            self.settings_hash = if self.settings.is_some() { hash } else { 0 };
        }
        self.settings_unsure = false;
        self.tainted = false;
        self.settings_sent = false;
        self.errors_seen = connection.talk.errors_seen();
        self.errors_at_lease = self.errors_seen;
        self.last = Some(place);
        self.connection = Some(connection);
    }

    /// Whether [`Session::end_lease`] can give the connection back as it is; also if there is none.
    pub fn may_end_lease(&self) -> bool {
        self.connection.as_ref().is_none_or(|connection| connection.talk.is_clean() && !self.tainted)
    }

    /// Gives the connection back: reset if it may bear traces, closed if it is not at rest. It must
    /// be in no transaction.
    pub fn end_lease(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        let talk = &mut connection.talk;
        talk.take_stray();
        talk.forget_portals();
        if !talk.is_clean() || talk.fatal().is_some() {
            // Dropped, it is closed.
            return;
        }
        // SAFETY: a variable of this backend, which the transaction that ends has set.
        if talk.read_only_seen() && !unsafe { pg_sys::XactReadOnly } {
            // The server has come to be a standby, or never was the right one: look for the primary.
            lease::abandon(&self.pool);
            return;
        }
        if self.settings_sent && talk.errors_seen() != self.errors_at_lease {
            // An error may have taken them back.
            self.set_settings(None);
        }
        lease::give_back(connection, self.settings_hash);
    }

    pub(super) fn set_settings(&mut self, settings: Option<Rc<Settings>>) {
        self.settings_hash = settings.as_ref().map_or(0, |settings| settings.hash());
        self.settings = settings;
    }

    /// What the connection has to do before somebody else gets it; `None` if it is as it was.
    pub fn reset_command(&mut self) -> Option<&'static str> {
        let tainted = std::mem::take(&mut self.tainted);
        if !tainted || self.connection.is_none() {
            return None;
        }
        self.set_settings(None);
        if let Some(connection) = &mut self.connection {
            connection.talk.prepared.clear();
        }
        Some("DISCARD ALL")
    }

    /// Hears what the node has said since the connection was last used; a connection that turned
    /// out dead, or whose server was altered, is closed if the node is not in the transaction.
    fn freshen(&mut self) -> Usable {
        if self.levels.is_inside() || self.prepared.is_some() {
            return Usable::Yes;
        }
        let Some(connection) = &mut self.connection else { return Usable::No };
        if connection.talk.has_wanted() {
            // Another statement of this transaction is reading from it.
            return Usable::Yes;
        }
        let alive = loop {
            match connection.pump() {
                Ok(true) => {}
                Ok(false) => break connection.talk.fatal().is_none(),
                Err(_) => break false,
            }
        };
        let talk = &connection.talk;
        let stuck = talk.is_quiet() && talk.block() != Block::Outside;
        if !alive || stuck || self.generation != servers_generation() {
            self.connection = None;
            return Usable::No;
        }
        connection.talk.take_stray();
        let errors_seen = connection.talk.errors_seen();
        let unsure = self.settings_unsure && errors_seen != self.errors_seen;
        self.errors_seen = errors_seen;
        let has_unwanted = connection.talk.has_unwanted();
        if connection.talk.is_quiet() {
            self.settings_unsure = false;
        }
        if unsure {
            self.set_settings(None);
        }
        if has_unwanted { Usable::Busy } else { Usable::Yes }
    }
}
