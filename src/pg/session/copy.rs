//! COPY ... FROM STDIN on several nodes at once, the data coming piece by piece.
//!
//! ```ignore
//! let stream = CopyStream::open(node, "COPY public.t FROM STDIN")?;
//! stream.push(b"1\tone\n")?;
//! if make_room(&[&stream])? { ... } // a node has said what is wrong
//! let rows = finish(&[&stream], Ending::Done);
//! ```
//!
//! A stream queues at most `QUEUE` bytes or the largest piece that it was given: its node sets the pace.
//!
//! As long as a stream is open, its connection serves nothing else. Where rows are read from the same nodes meanwhile,
//! [`Pieces`] sends them as one short COPY after the other, in between which a node sends on what is read of it.

use crate::catalog::NodeId;
use crate::error::{Error, Result};
use crate::pg::pool::taint::Work;
use crate::pg::session::command::{collect_each, is_finished};
use crate::pg::session::leases::ensure_connected;
use crate::pg::session::registry::{
    Access, Key, Running, gone, join, key_of, pump, send, start, wait_for, with_sessions,
};
use crate::pg::wait::{Patience, check_interrupts};

/// Bytes that may wait for a node before more input is read.
const QUEUE: usize = 512 * 1024;

/// A COPY under way on a node.
#[derive(Debug)]
pub struct CopyStream {
    running: Running,
}

/// How the data end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Done,
    /// The node shall forget what it has got.
    Failed,
}

impl CopyStream {
    /// Begins a `COPY ... FROM STDIN`.
    pub fn open(node: NodeId, sql: &str) -> Result<CopyStream> {
        ensure_connected(key_of(node)?)?;
        let joined = join(node, Access::Write, Work::Statement(sql))?;
        Ok(CopyStream { running: start(joined, |talk, prelude| talk.copy(prelude, sql))? })
    }

    /// Queues data; nothing once the node has answered, which is with an error.
    pub fn push(&self, data: &[u8]) -> Result<()> {
        with_sessions(|sessions| {
            sessions.get_mut(&self.running.key).ok_or_else(gone)?.talk(self.running.serial)?.copy_data(data)
        })
    }

    /// The same with many records.
    pub fn push_records<'a>(&self, records: impl Iterator<Item = &'a [u8]>) -> Result<()> {
        with_sessions(|sessions| {
            let session = sessions.get_mut(&self.running.key).ok_or_else(gone)?;
            session.talk(self.running.serial)?.copy_records(records);
            Ok(())
        })
    }

    /// Whether the node has said how it ended.
    pub fn has_answered(&self) -> bool {
        is_finished(&self.running)
    }

    fn queued(&self) -> usize {
        queued(&self.running)
    }
}

/// Bytes that wait for the node.
fn queued(running: &Running) -> usize {
    with_sessions(|sessions| {
        let talk = sessions.get_mut(&running.key).map(|session| session.talk(running.serial));
        talk.and_then(Result::ok).map_or(0, |talk| talk.output().len())
    })
}

/// Sends until no stream has more than its queue takes. Whether a node has answered, which is with an error.
pub fn make_room(streams: &[&CopyStream]) -> bool {
    let keys: Vec<Key> = streams.iter().map(|stream| stream.running.key).collect();
    loop {
        let heard = pump(&keys);
        check_interrupts();
        if heard && streams.iter().any(|stream| is_finished(&stream.running)) {
            return true;
        }
        if streams.iter().all(|stream| stream.queued() < QUEUE) {
            return false;
        }
        if !heard {
            wait_for(&keys, Patience::STATEMENT);
        }
    }
}

/// Ends all streams; the rows that each node has copied.
pub fn finish(streams: &[&CopyStream], ending: Ending) -> Vec<Result<u64>> {
    let ended = streams.iter().map(|stream| {
        with_sessions(|sessions| {
            let talk = sessions.get_mut(&stream.running.key).ok_or_else(gone)?.talk(stream.running.serial)?;
            match ending {
                Ending::Done => talk.copy_done(),
                Ending::Failed => talk.copy_fail()?,
            }
            Ok(())
        })
    });
    let ended: Vec<Result<()>> = ended.collect();
    let running: Vec<Running> = streams.iter().map(|stream| stream.running).collect();
    let answers = collect_each(&running, Patience::STATEMENT);
    ended.into_iter().zip(answers).map(|(ended, answer)| ended.and(answer.map(|task| task.affected))).collect()
}

/// COPYs whose data are known when they begin: those of one node run one after the other, the nodes at once. Their
/// answers are looked at when there is something else to do.
#[derive(Debug)]
pub struct Pieces {
    keys: Vec<Key>,
    under_way: Vec<Running>,
    rows: u64,
}

impl Pieces {
    /// Connects these nodes, in their order: two that need several must not wait for each other.
    pub fn open(nodes: &[NodeId]) -> Result<Pieces> {
        let keys = nodes.iter().map(|node| key_of(*node)).collect::<Result<Vec<Key>>>()?;
        keys.iter().try_for_each(|key| ensure_connected(*key))?;
        Ok(Pieces { keys, under_way: Vec::new(), rows: 0 })
    }

    /// Sends one of these nodes a `COPY ... FROM STDIN` with its data. Waits while there is much in its queue; fails if any
    /// COPY before has failed.
    pub fn send<'a>(&mut self, node: NodeId, sql: &str, data: impl Iterator<Item = &'a [u8]>) -> Result<()> {
        self.make_room(node)?;
        let joined = join(node, Access::Write, Work::Statement(sql))?;
        let key = joined.key;
        let running = start(joined, |talk, prelude| {
            let task = talk.copy(prelude, sql)?;
            talk.copy_records(data);
            talk.copy_done();
            Ok(task)
        })?;
        self.under_way.push(running);
        send(key);
        Ok(())
    }

    fn make_room(&mut self, node: NodeId) -> Result<()> {
        loop {
            let heard = pump(&self.keys);
            check_interrupts();
            if heard {
                self.look()?;
            }
            let last = self.under_way.iter().rfind(|running| running.key.node == node);
            if last.is_none_or(|running| queued(running) < QUEUE) {
                return Ok(());
            }
            if !heard {
                wait_for(&self.keys, Patience::STATEMENT);
            }
        }
    }

    /// What a COPY that has ended says is wrong. Whatever was asked of its node after it has failed with 25P02.
    pub fn failure(&mut self) -> Option<Error> {
        let (ended, under_way): (Vec<Running>, Vec<Running>) =
            std::mem::take(&mut self.under_way).into_iter().partition(is_finished);
        self.under_way = under_way;
        self.take(&ended)
    }

    /// Counts the rows of the COPYs that have ended.
    fn look(&mut self) -> Result<()> {
        match self.failure() {
            None => Ok(()),
            // No connection shall be left in the middle of something.
            Some(error) => {
                let rest = std::mem::take(&mut self.under_way);
                collect_each(&rest, Patience::STATEMENT);
                Err(error)
            }
        }
    }

    /// Takes the answers; the first error among them.
    fn take(&mut self, running: &[Running]) -> Option<Error> {
        let mut failed = None;
        for answer in collect_each(running, Patience::STATEMENT) {
            match answer {
                Ok(task) => self.rows += task.affected,
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed
    }

    /// Waits for all; the rows that they have copied.
    pub fn finish(mut self) -> Result<u64> {
        let rest = std::mem::take(&mut self.under_way);
        match self.take(&rest) {
            None => Ok(self.rows),
            Some(error) => Err(error),
        }
    }
}
