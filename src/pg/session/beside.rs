//! Further connections to a node, over which parts of a scan run beside that of the transaction's own connection.
//!
//! ```text
//! own connection   BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_export_snapshot() -> '00000003-1B-1'; SELECT ... part 1
//! beside it, 1     BEGIN ISOLATION LEVEL REPEATABLE READ; SET TRANSACTION SNAPSHOT '00000003-1B-1';       SELECT ... part 2
//! ```
//!
//! All of them see one state of the node: that of the snapshot which the own connection has for its whole transaction there.
//! What the transaction has written nobody else sees, and a transaction that has exported a snapshot cannot be prepared:
//! so who cuts a scan has written nothing ([`may_share`]), and does not before that transaction ends.
//!
//! A further connection is taken only if it is free at once; its transaction ends with the scan. All else is as with the
//! others: errors, cancels, what is left behind by a rollback.

use crate::catalog::NodeId;
use crate::error::{Error, Result, sqlstate};
use crate::pg::catalog_cache::servers_generation;
use crate::pg::endpoint::endpoint_of;
use crate::pg::pool::lease;
use crate::pg::pool::taint::{self, Work};
use crate::pg::session::command::{collect, wait_finished};
use crate::pg::session::leases::begin_with;
use crate::pg::session::registry::{
    Access, Joined, Key, Running, begin, current_level, has_fixed_snapshot, holds, is_repeatable_read, is_serializable,
    join, key_of, send, start, try_with_sessions, with_sessions,
};
use crate::pg::session::{Fetch, Statement, Stream};
use crate::pg::settings::Settings;
use crate::pg::wait::Patience;
use crate::pg::{report, transaction};
use crate::transaction::levels::Levels;
use crate::wire::row::Row;

const EXPORT: &str = "SELECT pg_catalog.pg_export_snapshot()";

/// Whether others may see what a statement sees on these nodes: in the transaction's outermost level, where nothing was
/// written or locked, and the snapshot is the transaction's there, or will be with this access.
pub fn may_share(nodes: &[NodeId], access: Access) -> bool {
    let is_fixed = |node| access == Access::ReadSnapshot || is_repeatable_read() || has_fixed_snapshot(node);
    current_level() == 1 && !is_serializable() && nodes.iter().all(|node| !holds(*node) && is_fixed(*node))
}

/// Snapshots that nodes were asked to export. Dropped, nobody wants them any more.
#[derive(Debug)]
pub struct Exports {
    asked: Vec<Running>,
}

impl Exports {
    /// Asks each node for the snapshot of its transaction, which begins if it has not yet.
    pub fn ask(nodes: &[NodeId], access: Access) -> Result<Exports> {
        let mut exports = Exports { asked: Vec::new() };
        for node in nodes {
            let joined = join(*node, access, Work::Statement(EXPORT))?;
            let running = start(joined, |talk, prelude| talk.query(prelude, EXPORT))?;
            with_sessions(|sessions| {
                if let Some(session) = sessions.get_mut(&running.key) {
                    session.exported = true;
                }
            });
            send(running.key);
            exports.asked.push(running);
        }
        Ok(exports)
    }

    /// Waits until all are taken; whether they are.
    pub fn wait(&self, patience: Patience) -> bool {
        wait_finished(&self.asked, patience)
    }

    /// The name of each node's snapshot; waits for it.
    pub fn collect(mut self) -> Result<Vec<String>> {
        let asked = std::mem::take(&mut self.asked);
        let missing = || Error::new(sqlstate::PROTOCOL_VIOLATION, "node did not name the snapshot that it exported");
        let name = |row: Row| row.get(0).map(|name| String::from_utf8_lossy(name).into_owned());
        collect(&asked, Patience::STATEMENT)?
            .into_iter()
            .map(|mut task| {
                let row = task.rows.front_mut().and_then(|run| run.pop()).map(Row::parse).transpose()?;
                row.and_then(name).ok_or_else(missing)
            })
            .collect()
    }
}

impl Drop for Exports {
    fn drop(&mut self) {
        try_with_sessions(|sessions| {
            for running in &self.asked {
                if let Some(session) = sessions.get_mut(&running.key)
                    && let Ok(talk) = session.talk(running.serial)
                {
                    talk.abandon(running.task);
                }
            }
        });
    }
}

/// Takes a further connection to a node; `None` if there is none to spare, or none can be opened.
pub fn take(node: NodeId) -> Result<Option<Key>> {
    let own = key_of(node)?;
    let unused = with_sessions(|sessions| {
        let mut keys = (1..=u8::MAX).map(|beside| Key { beside, ..own });
        keys.find(|key| sessions.get(key).is_none_or(|session| session.connection.is_none()))
    });
    let Some(key) = unused else { return Ok(None) };
    let generation = servers_generation();
    let endpoint = endpoint_of(node)?;
    let pool = lease::key_of(node, key.mapped.mapping, key.outside, &endpoint);
    let last = with_sessions(|sessions| sessions.get(&key).and_then(|session| session.last));
    let settings = Settings::current();
    match lease::beside(&pool, &endpoint, &settings, last) {
        Ok(Some(connection)) => {
            begin_with(key, connection, endpoint, pool, settings, generation);
            Ok(Some(key))
        }
        Ok(None) => Ok(None),
        Err(error) => {
            // The node may have no room: what can be done with those that there are is done with them.
            report::log(&error);
            Ok(None)
        }
    }
}

/// Sends a statement over a further connection, in a transaction that sees `snapshot`; `first` is SQL that it is told before.
pub fn open(key: Key, snapshot: &str, first: &str, statement: &Statement, fetch: Fetch) -> Result<Stream> {
    let settings = Settings::current();
    let taints = taint::taints(Work::Statement(statement.sql), false);
    let joined = with_sessions(|sessions| {
        let session = sessions.get_mut(&key)?;
        session.tainted |= taints;
        let mut levels = Levels::default();
        levels.enter(1);
        let changes = settings.changes(session.settings.as_deref());
        let begin = begin(Access::ReadSnapshot);
        let prelude = format!("{begin}SET TRANSACTION SNAPSHOT '{snapshot}';{changes}{first}");
        Some(Joined { key, prelude, levels, fixed_snapshot: true, settings })
    });
    Stream::start(joined.ok_or_else(super::registry::gone)?, statement, fetch)
}

/// Ends the transactions of further connections and gives these back; what still runs is cancelled.
pub fn end(keys: &[Key]) {
    if !keys.is_empty() {
        transaction::end_beside(keys);
    }
}
