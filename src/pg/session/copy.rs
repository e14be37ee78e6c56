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

use crate::catalog::NodeId;
use crate::error::Result;
use crate::pg::pool::taint::Work;
use crate::pg::session::command::{collect_each, is_finished};
use crate::pg::session::leases::ensure_connected;
use crate::pg::session::registry::{Access, Key, Running, gone, join, key_of, pump, start, wait_for, with_sessions};
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

    /// Whether the node has said how it ended.
    pub fn has_answered(&self) -> bool {
        is_finished(&self.running)
    }

    fn queued(&self) -> usize {
        with_sessions(|sessions| {
            let talk = sessions.get_mut(&self.running.key).map(|session| session.talk(self.running.serial));
            talk.and_then(Result::ok).map_or(0, |talk| talk.output().len())
        })
    }
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
