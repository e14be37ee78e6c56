//! Changes of reference tables on their way to the copies on the nodes.
//!
//! The row trigger of a reference table ([`replicate`](crate::pg::replicate)) hands each changed row
//! to [`add`]; [`flush`] sends them, in order, to all nodes at once. That happens at the end of the
//! statement, before any other remote statement, and before commit.
//!
//! A change may be sent while a deeper subtransaction is open than the one that made it. If that
//! one is rolled back the node forgets the change, so it is kept until then and sent again.
//!
//! Rows inserted one after the other into one table travel as one statement.

use crate::catalog::NodeId;
use crate::error::{Error, Result, SqlState};
use crate::pg::session::{Access, Fetch, Param, Statement, Stream};
use crate::pg::{catalog_cache, readers};
use crate::plan::write::{self, Insert, OldRow, TargetColumn};
use pgrx::pg_sys;
use std::cell::RefCell;
use std::rc::Rc;

/// A change of one row, to be made in every copy of a reference table.
#[derive(Clone)]
pub struct Change {
    pub kind: Kind,
    pub params: Vec<Param>,
}

#[derive(Clone)]
pub enum Kind {
    /// A new row; the parameters are its values.
    Insert(Rc<Target>),
    /// A statement of its own. `must_match` names the table if a row has to be found on each node;
    /// 0 rows mean that the copy has diverged.
    Statement { sql: String, must_match: Option<String> },
}

/// Where rows are inserted.
pub struct Target {
    /// `INSERT INTO table (columns)`
    pub head: String,
    pub columns: Vec<TargetColumn>,
}

/// What is sent to each node: one change, or several rows of one table.
struct Batch {
    sql: String,
    params: Vec<Param>,
    must_match: Option<String>,
}

struct Entry {
    change: Change,
    /// Nest level of the subtransaction that made the change, and of the one that sent it.
    made: i32,
    sent: Option<i32>,
}

#[derive(Default)]
struct Queue {
    entries: Vec<Entry>,
    /// Of those not sent: how many, and the bytes of their values.
    waiting: usize,
    bytes: usize,
}

thread_local! {
    static QUEUE: RefCell<Queue> = const { RefCell::new(Queue { entries: Vec::new(), waiting: 0, bytes: 0 }) };
}

/// Changes, and bytes of their values, after which [`add`] sends by itself.
const MAX_CHANGES: usize = 1000;
const MAX_BYTES: usize = 4 * 1024 * 1024;

fn level() -> i32 {
    // SAFETY: reads backend state.
    unsafe { pg_sys::GetCurrentTransactionNestLevel() }
}

/// Takes a change.
pub fn add(change: Change) -> Result<()> {
    let full = QUEUE.with_borrow_mut(|queue| {
        queue.waiting += 1;
        queue.bytes += change.size();
        queue.entries.push(Entry { change, made: level(), sent: None });
        queue.waiting >= MAX_CHANGES || queue.bytes >= MAX_BYTES
    });
    if full { flush() } else { Ok(()) }
}

/// Whether anything waits.
pub fn is_empty() -> bool {
    QUEUE.with_borrow(|queue| queue.waiting == 0)
}

/// Whether the transaction has changed no reference table.
pub fn is_unused() -> bool {
    QUEUE.with_borrow(|queue| queue.entries.is_empty())
}

/// Sends what waits to every node.
pub fn flush() -> Result<()> {
    if is_empty() {
        return Ok(());
    }
    let changes = QUEUE.with_borrow_mut(|queue| queue.take(level()));
    let Some(map) = catalog_cache::cluster() else { return Ok(()) };
    readers::bind_all()?;
    let batches = batches(changes);
    let mut sent: Vec<(NodeId, &Batch, Stream)> = Vec::new();
    for batch in &batches {
        for node in map.node_ids() {
            let statement = Statement {
                sql: &batch.sql,
                params: &batch.params,
                result_binary: &[],
                keep: None,
                report_bound: false,
            };
            sent.push((node, batch, Stream::open(node, &statement, Access::Write, Fetch::All)?));
        }
    }
    for (node, batch, mut stream) in sent {
        while stream.next()?.is_some() {}
        if let Some(table) = &batch.must_match
            && stream.rows_affected() == 0
        {
            let node = map.node_name(node);
            return Err(Error::new(
                SqlState::new("XX001"),
                format!("the copy of reference table {table} on node \"{node}\" has diverged"),
            )
            .detail("A row changed here was not found there.")
            .hint("Copy the table again with sharding.undistribute_table() and sharding.replicate_table()."));
        }
    }
    Ok(())
}

/// The statements that make the changes, in order.
fn batches(changes: Vec<Change>) -> Vec<Batch> {
    let mut batches = Vec::new();
    let mut changes = changes.into_iter().peekable();
    while let Some(Change { kind, mut params }) = changes.next() {
        match kind {
            Kind::Statement { sql, must_match } => batches.push(Batch { sql, params, must_match }),
            Kind::Insert(target) => {
                let most = write::rows_per_statement(target.columns.len(), 0);
                let mut rows = 1;
                while rows < most
                    && let Some(next) =
                        changes.next_if(|next| matches!(&next.kind, Kind::Insert(t) if Rc::ptr_eq(t, &target)))
                {
                    params.extend(next.params);
                    rows += 1;
                }
                batches.push(Batch { sql: target.insert(rows), params, must_match: None });
            }
        }
    }
    batches
}

impl Target {
    fn insert(&self, rows: usize) -> String {
        let Target { head, columns } = self;
        let (tail, alias, wanted, old) = ("", "", &[][..], OldRow::Leave);
        write::insert(&Insert { head, columns, tail, reserved: 0, alias, wanted, old }, rows)
    }
}

impl Change {
    fn size(&self) -> usize {
        self.params.iter().map(|p| p.value.as_ref().map_or(0, Vec::len)).sum()
    }
}

impl Queue {
    /// What waits, which subtransaction `level` sends now.
    fn take(&mut self, level: i32) -> Vec<Change> {
        let mut waiting = Vec::with_capacity(self.waiting);
        let (sent, unsent): (Vec<Entry>, Vec<Entry>) =
            std::mem::take(&mut self.entries).into_iter().partition(|e| e.sent.is_some());
        self.entries = sent;
        for entry in unsent {
            if level > entry.made {
                self.entries.push(Entry { change: entry.change.clone(), made: entry.made, sent: Some(level) });
            }
            waiting.push(entry.change);
        }
        self.count();
        waiting
    }

    fn count(&mut self) {
        let unsent = || self.entries.iter().filter(|e| e.sent.is_none());
        (self.waiting, self.bytes) = (unsent().count(), unsent().map(|e| e.change.size()).sum());
    }
}

/// A subtransaction at this nest level has ended.
pub fn subtransaction_ended(ended: i32, committed: bool) {
    QUEUE.with_borrow_mut(|queue| {
        let entries = &mut queue.entries;
        if committed {
            for entry in entries.iter_mut() {
                entry.made = entry.made.min(ended - 1);
                entry.sent = entry.sent.map(|s| s.min(ended - 1));
            }
            entries.retain(|e| e.sent.is_none_or(|sent| sent > e.made));
        } else {
            entries.retain(|e| e.made < ended);
            for entry in entries.iter_mut() {
                if entry.sent.is_some_and(|s| s >= ended) {
                    entry.sent = None;
                }
            }
        }
        queue.count();
    });
}

/// The transaction has ended.
pub fn transaction_ended() {
    QUEUE.take();
}
