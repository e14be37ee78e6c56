//! Changes of reference tables on their way to the copies on the nodes.
//!
//! The row trigger of a reference table ([`replicate`](crate::pg::replicate)) hands each changed row
//! to [`add`]; [`flush`] sends them, in order, to all nodes at once. That happens at the end of the
//! statement, before any other remote statement, and before commit.
//!
//! A change may be sent while a deeper subtransaction is open than the one that made it. If that
//! one is rolled back the node forgets the change, so it is kept until then and sent again.

use crate::catalog::NodeId;
use crate::error::{Error, Result, SqlState};
use crate::pg::session::{Access, Fetch, Param, Statement, Stream};
use crate::pg::{catalog_cache, readers};
use pgrx::pg_sys;
use std::cell::RefCell;

/// One statement for every copy of a reference table.
#[derive(Clone)]
pub struct Change {
    pub sql: String,
    pub params: Vec<Param>,
    /// The statement has to find its row on each node; 0 rows mean that the copy has diverged.
    pub must_match: bool,
    pub table: String,
}

struct Entry {
    change: Change,
    /// Nest level of the subtransaction that made the change, and of the one that sent it.
    made: i32,
    sent: Option<i32>,
}

thread_local! {
    static ENTRIES: RefCell<Vec<Entry>> = const { RefCell::new(Vec::new()) };
}

/// Changes after which [`add`] sends by itself.
const BATCH: usize = 1000;

fn level() -> i32 {
    // SAFETY: reads backend state.
    unsafe { pg_sys::GetCurrentTransactionNestLevel() }
}

/// Takes a change.
pub fn add(change: Change) -> Result<()> {
    let waiting = ENTRIES.with(|e| {
        let mut e = e.borrow_mut();
        e.push(Entry { change, made: level(), sent: None });
        e.iter().filter(|e| e.sent.is_none()).count()
    });
    if waiting >= BATCH { flush() } else { Ok(()) }
}

/// Whether anything waits.
pub fn is_empty() -> bool {
    ENTRIES.with(|e| e.borrow().iter().all(|e| e.sent.is_some()))
}

/// Sends what waits to every node.
pub fn flush() -> Result<()> {
    if is_empty() {
        return Ok(());
    }
    let now = level();
    let changes: Vec<Change> = ENTRIES.with(|e| {
        let mut e = e.borrow_mut();
        let waiting: Vec<Change> = e.iter().filter(|e| e.sent.is_none()).map(|e| e.change.clone()).collect();
        for entry in e.iter_mut() {
            entry.sent.get_or_insert(now);
        }
        e.retain(|e| e.sent.is_some_and(|sent| sent > e.made));
        waiting
    });
    let Some(map) = catalog_cache::cluster() else { return Ok(()) };
    readers::bind_all()?;
    let mut sent: Vec<(NodeId, usize, Stream)> = Vec::new();
    for (i, change) in changes.iter().enumerate() {
        for node in map.node_ids() {
            let statement = Statement { sql: &change.sql, params: &change.params, result_binary: &[] };
            sent.push((node, i, Stream::open(node, &statement, Access::Write, Fetch::All)?));
        }
    }
    for (node, i, mut stream) in sent {
        while stream.next()?.is_some() {}
        if changes[i].must_match && stream.rows_affected() == 0 {
            return Err(Error::new(
                SqlState::new("XX001"),
                format!(
                    "the copy of reference table {} on node \"{}\" has diverged",
                    changes[i].table,
                    map.node_name(node)
                ),
            )
            .detail("A row changed here was not found there.")
            .hint("Copy the table again with sharding.undistribute_table() and sharding.replicate_table()."));
        }
    }
    Ok(())
}

/// A subtransaction at this nest level has ended.
pub fn subtransaction_ended(ended: i32, committed: bool) {
    ENTRIES.with(|e| {
        let mut e = e.borrow_mut();
        if committed {
            for entry in e.iter_mut() {
                entry.made = entry.made.min(ended - 1);
                entry.sent = entry.sent.map(|s| s.min(ended - 1));
            }
            e.retain(|e| e.sent.is_none_or(|sent| sent > e.made));
        } else {
            e.retain(|e| e.made < ended);
            for entry in e.iter_mut() {
                if entry.sent.is_some_and(|s| s >= ended) {
                    entry.sent = None;
                }
            }
        }
    });
}

/// The transaction has ended.
pub fn transaction_ended() {
    ENTRIES.with(|e| e.borrow_mut().clear());
}
