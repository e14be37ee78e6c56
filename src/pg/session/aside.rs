//! Rows set aside: those that arrive on a connection before their reader wants them.
//!
//! ```text
//! SELECT ... FROM (SELECT a, sum(b) FROM t GROUP BY a) x JOIN (SELECT a, sum(c) FROM u GROUP BY a) y USING (a)
//!
//! connection to n1   x: row row row ... row   y: row row ...     y's first row comes behind all of x's
//! ```
//!
//! A node answers one statement after the other, so who waits for the second one's rows takes in the first one's. Those
//! that nobody reads meanwhile stay in memory as long as they are few: at most `work_mem` for all connections together.
//! Beyond that they go to temporary files, from where their [`Stream`](super::Stream) reads them in the order in which they came.
//!
//! The files belong to the transaction. Who reads no further leaves its files behind here, to be closed when somebody may
//! raise an ERROR, at the latest before the commit; a rollback closes what is open by itself.

use crate::error::{Error, Result, sqlstate};
use crate::pg::session::registry::{Key, Running, with_sessions};
use crate::pg::spill::Spill;
use crate::wire::run::Run;
use bytes::BytesMut;
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};

/// What a connection may always keep: rows that came with one look at its socket.
const LEAST: usize = 128 * 1024;
/// What is written and read at once.
const BLOCK: usize = 64 * 1024;

/// The rows of one statement that are in files, in the order in which they came.
#[derive(Debug)]
enum Aside {
    /// `front` is read to its end; `back` is written to its end, then read.
    Here { front: Option<Reading>, back: Option<Spill> },
    /// What a file that is being read or written is meanwhile, and what it stays after an error: who catches that in a
    /// block of its own must not read on as if no rows were missing.
    Lost,
}

const NONE: Aside = Aside::Here { front: None, back: None };

#[derive(Debug)]
struct Reading {
    file: Spill,
    /// What was read last and is not a whole row yet.
    rest: BytesMut,
}

/// A connection's serial number and the task on it.
type Name = (u64, u32);

thread_local! {
    static ASIDE: RefCell<BTreeMap<Name, Aside>> = const { RefCell::new(BTreeMap::new()) };
    /// Files that nobody reads any more.
    static LEFT: RefCell<Vec<Spill>> = const { RefCell::new(Vec::new()) };
    static ANY: Cell<bool> = const { Cell::new(false) };
}

fn name(running: &Running) -> Name {
    (running.serial, running.task.0)
}

/// What each of so many connections may keep in memory, in bytes.
pub(super) fn limit(connections: usize) -> usize {
    // SAFETY: a variable of this backend.
    let all = unsafe { pg_sys::work_mem }.max(0) as usize * 1024;
    (all / connections.max(1)).max(LEAST)
}

/// Writes to files what these connections have too much of.
pub(super) fn make_room(keys: &[Key]) {
    close_left();
    for key in keys {
        while let Some((name, rows)) = take_overfull(*key) {
            ANY.set(true);
            // Nothing is borrowed while a file is written: that may raise an ERROR.
            let known = ASIDE.with_borrow_mut(|all| std::mem::replace(all.entry(name).or_insert(NONE), Aside::Lost));
            if let Aside::Here { front, back } = known {
                let mut file = back.unwrap_or_else(Spill::create_for_transaction);
                write(&mut file, &rows);
                ASIDE.with_borrow_mut(|all| all.insert(name, Aside::Here { front, back: Some(file) }));
            }
        }
    }
}

/// The rows of the statement that has the most of them.
fn take_overfull(key: Key) -> Option<(Name, VecDeque<Run>)> {
    with_sessions(|sessions| {
        let limit = limit(sessions.len());
        let connection = sessions.get_mut(&key)?.connection.as_mut()?;
        let task = connection.talk.overfull(limit)?;
        let mut rows = VecDeque::new();
        connection.talk.take_rows(task, &mut rows);
        Some(((connection.serial, task.0), rows))
    })
}

fn write(file: &mut Spill, rows: &VecDeque<Run>) {
    let mut block = Vec::with_capacity(BLOCK);
    for run in rows {
        block.extend_from_slice(run.messages());
        if block.len() >= BLOCK {
            file.write(&block);
            block.clear();
        }
    }
    file.write(&block);
}

/// Whether rows of this statement are set aside.
pub(super) fn has(running: &Running) -> bool {
    ANY.get() && ASIDE.with_borrow(|aside| aside.contains_key(&name(running)))
}

/// The next few of the rows that are set aside; none if there are no more.
pub(super) fn read(running: &Running, rows: &mut VecDeque<Run>) -> Result<()> {
    if !ANY.get() {
        return Ok(());
    }
    close_left();
    let name = name(running);
    while let Some(aside) =
        ASIDE.with_borrow_mut(|all| all.get_mut(&name).map(|aside| std::mem::replace(aside, Aside::Lost)))
    {
        let (reading, back) = match aside {
            Aside::Lost => return Err(lost()),
            Aside::Here { front: Some(front), back } => (front, back),
            Aside::Here { front: None, back: Some(mut file) } => {
                file.rewind();
                (Reading { file, rest: BytesMut::new() }, None)
            }
            Aside::Here { front: None, back: None } => {
                ASIDE.with_borrow_mut(|all| all.remove(&name));
                break;
            }
        };
        let front = reading.next(rows)?;
        ASIDE.with_borrow_mut(|all| all.insert(name, Aside::Here { front, back }));
        if !rows.is_empty() {
            break;
        }
    }
    Ok(())
}

fn lost() -> Error {
    Error::new(sqlstate::DATA_CORRUPTED, "rows that were set aside are lost")
        .detail("A temporary file of them could not be written or read before.")
}

impl Aside {
    fn files(self) -> impl Iterator<Item = Spill> {
        let (front, back) = match self {
            Aside::Here { front, back } => (front, back),
            Aside::Lost => (None, None),
        };
        front.map(|reading| reading.file).into_iter().chain(back)
    }
}

impl Reading {
    /// Reads at least one row; `None` at the end, where the file is closed.
    fn next(mut self, rows: &mut VecDeque<Run>) -> Result<Option<Reading>> {
        let mut block = vec![0; BLOCK];
        while rows.is_empty() {
            let count = self.file.read(&mut block);
            if count == 0 {
                self.file.close();
                if !self.rest.is_empty() {
                    return Err(Error::new(sqlstate::DATA_CORRUPTED, "a temporary file of rows ends too early"));
                }
                return Ok(None);
            }
            self.rest.extend_from_slice(&block[..count]);
            rows.extend(Run::split_from(&mut self.rest));
        }
        Ok(Some(self))
    }
}

/// Nobody wants the rest of the rows. Raises no ERROR.
pub(super) fn leave(running: &Running) {
    if !ANY.get() {
        return;
    }
    let _ = ASIDE.try_with(|aside| {
        if let Ok(mut aside) = aside.try_borrow_mut()
            && let Some(rows) = aside.remove(&name(running))
        {
            LEFT.with_borrow_mut(|left| left.extend(rows.files()));
        }
    });
}

/// Closes the files that were left behind.
fn close_left() {
    if ANY.get() {
        while let Some(file) = LEFT.with_borrow_mut(Vec::pop) {
            file.close();
        }
    }
}

/// The transaction is about to commit: closes all files.
pub fn before_commit() {
    if ANY.get() {
        let all = ASIDE.take().into_values();
        LEFT.with_borrow_mut(|left| left.extend(all.flat_map(Aside::files)));
        close_left();
        ANY.set(false);
    }
}

/// The transaction is over, and its files with it.
pub fn transaction_ended() {
    if ANY.replace(false) {
        ASIDE.take();
        LEFT.take();
    }
}
