//! A statement's rows from one node, as they come.

use crate::catalog::NodeId;
use crate::error::{Error, Result, sqlstate};
use crate::pg::guard::caught;
use crate::pg::maintenance::long_wait::Watch;
use crate::pg::pool::taint::Work;
use crate::pg::session::registry::{
    Access, Joined, Key, Running, Session, join, pump, send, start, try_with_sessions, wait_for, with_sessions,
};
use crate::pg::session::settle::{self, CANCEL_BOUND};
use crate::pg::session::{aside, outcome};
use crate::pg::wait::{Patience, Woken, check_interrupts, is_cancel_pending};
use crate::wire::conversation::Task;
use crate::wire::report::on_node;
use crate::wire::row::Row;
use crate::wire::run::Run;
use crate::wire::statement::{Fetch, Statement};
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Instant;

/// One statement on one node. Dropped early, the rest of its rows is discarded.
#[derive(Debug)]
pub struct Stream {
    running: Running,
    /// Rows that have arrived; while they are read, the next page may be on its way.
    rows: VecDeque<Run>,
    affected: u64,
    ended: bool,
    /// Just sent: an answer cannot be here yet.
    fresh: bool,
}

enum Next {
    Rows,
    End,
    Later,
}

impl Stream {
    /// Sends a statement to a node. Waits for a connection if there is none, not for the result.
    pub fn open(node: NodeId, statement: &Statement, access: Access, fetch: Fetch) -> Result<Stream> {
        Stream::open_after(node, "", statement, access, fetch)
    }

    /// As [`Stream::open`]; `first` is SQL that the transaction on the node is told before.
    pub fn open_after(
        node: NodeId,
        first: &str,
        statement: &Statement,
        access: Access,
        fetch: Fetch,
    ) -> Result<Stream> {
        // A portal lives in a transaction block: outside of one, it would end with its first page.
        let access = match (access, fetch) {
            (Access::ReadAlone, Fetch::Pages) => Access::ReadSnapshot,
            (Access::WriteAlone, Fetch::Pages) => Access::Write,
            _ => access,
        };
        let mut joined = join(node, access, Work::Statement(statement.sql))?;
        joined.prelude.push_str(first);
        Stream::start(joined, statement, fetch)
    }

    /// Sends a statement over a connection that is ready for it.
    pub(super) fn start(joined: Joined, statement: &Statement, fetch: Fetch) -> Result<Stream> {
        let running = start(joined, |talk, prelude| talk.statement(prelude, statement, fetch))?;
        send(running.key);
        Ok(Stream { running, rows: VecDeque::new(), affected: 0, ended: false, fresh: true })
    }

    /// Waits until the node has taken the statement's snapshot, or time is up; whether it has.
    pub fn wait_bound(&mut self, deadline: Option<Instant>) -> Result<bool> {
        while !self.ended && !self.look(|task| task.bound || task.is_ready())? {
            let keys = [self.running.key];
            if !std::mem::take(&mut self.fresh) && pump(&keys) {
                check_interrupts();
            } else if wait_for(&keys, Patience { deadline, interruptible: true }) == Woken::TimedOut {
                return Ok(false);
            }
        }
        self.error().map_or(Ok(true), Err)
    }

    /// Waits until a statement that commits by itself has committed or failed: its rows are here then. A
    /// cancel, and the word that this is a deadlock, is passed on to the node, whose answer counts.
    pub fn wait_outcome(&mut self) -> Result<()> {
        let keys = [self.running.key];
        let mut deadline = None;
        let mut watch = Watch::default();
        let mut deadlock = None;
        while !self.look(Task::is_answered).map_err(|error| self.unknown_outcome(error))? {
            // There may be no room for all the rows that come: then what has happened is not known either.
            let pumped = |fresh: bool| caught(|| Ok(!fresh && pump(&keys)));
            if pumped(std::mem::take(&mut self.fresh)).map_err(|error| self.unknown_outcome(error))? {
                continue;
            }
            let until = deadline.or_else(|| watch.until());
            let patience = Patience { deadline: until, interruptible: false };
            let woken = caught(|| Ok(wait_for(&keys, patience))).map_err(|error| self.unknown_outcome(error))?;
            if deadline.is_none() {
                deadlock = watch.verdict();
                if deadlock.is_some() || is_cancel_pending() {
                    deadline = Some(Instant::now() + CANCEL_BOUND);
                    settle::request_cancel(&keys, Instant::now() + CANCEL_BOUND);
                }
            } else if woken == Woken::TimedOut {
                with_sessions(|sessions| sessions.get_mut(&self.running.key).map(Session::give_up));
            }
        }
        if let Some(error) = self.error() {
            return Err(deadlock.filter(|_| error.code == sqlstate::QUERY_CANCELED).unwrap_or(error));
        }
        outcome::hold_cancels();
        Ok(())
    }

    fn unknown_outcome(&self, error: Error) -> Error {
        let name = with_sessions(|sessions| sessions.get(&self.running.key).map(|s| s.name.clone()));
        Error::new(
            sqlstate::TRANSACTION_RESOLUTION_UNKNOWN,
            format!("it is not known whether the statement on node \"{}\" was committed", name.unwrap_or_default()),
        )
        .detail(error.detail.unwrap_or(error.message))
        .hint("Look at the data before you repeat it.")
    }

    /// The next row; waits for it. `None` at the end.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Row>> {
        self.next_body()?.map(Row::parse).transpose()
    }

    /// As [`Stream::next`], the row not taken apart.
    pub fn next_body(&mut self) -> Result<Option<Bytes>> {
        while self.has_rows()? {
            if let Some(run) = self.rows.front_mut()
                && let Some(row) = run.pop()
            {
                if run.rows() == 0 {
                    self.rows.pop_front();
                }
                return Ok(Some(row));
            }
            self.rows.pop_front();
        }
        Ok(None)
    }

    /// The next rows, as many as came together, at most `most`.
    pub fn next_run(&mut self, most: usize) -> Result<Option<Run>> {
        if !self.has_rows()? {
            return Ok(None);
        }
        let run = self.rows.front_mut().map(|run| run.take(most));
        if self.rows.front().is_some_and(|run| run.rows() == 0) {
            self.rows.pop_front();
        }
        Ok(run)
    }

    /// Waits for rows; `false` at the end.
    fn has_rows(&mut self) -> Result<bool> {
        while self.rows.is_empty() {
            match self.step()? {
                Next::Rows => {}
                Next::End => return Ok(false),
                Next::Later => self.progress()?,
            }
        }
        Ok(true)
    }

    /// Whether [`Stream::next`] would not wait.
    pub fn ready(&self) -> bool {
        self.ended || !self.rows.is_empty() || aside::has(&self.running) || self.look(Task::is_ready).unwrap_or(true)
    }

    /// The rows touched, from the command tag; known at the end.
    pub fn rows_affected(&self) -> u64 {
        self.affected
    }

    pub fn node(&self) -> NodeId {
        self.running.key.node
    }

    /// The number of its connection to the node, 0 for the transaction's own.
    pub fn beside(&self) -> u8 {
        self.running.key.beside
    }

    /// What `f` says of the task; the error if its connection is gone.
    fn look<T>(&self, f: impl FnOnce(&Task) -> T) -> Result<T> {
        with_sessions(|sessions| {
            let running = self.running;
            let session = sessions.get_mut(&running.key).ok_or_else(over)?;
            session.talk(running.serial)?.task(running.task).map(f).ok_or_else(over)
        })
    }

    fn error(&self) -> Option<Error> {
        if self.ended {
            return None;
        }
        match self.look(|task| task.error.clone()) {
            Ok(error) => error.map(|error| self.placed(error)),
            Err(error) => Some(error),
        }
    }

    fn placed(&self, error: Error) -> Error {
        let name =
            with_sessions(|sessions| sessions.get(&self.running.key).map_or_else(String::new, |s| s.name.clone()));
        on_node(error, &name)
    }

    /// Takes the rows that are here; else asks for the next page where that is due.
    fn step(&mut self) -> Result<Next> {
        if self.ended {
            return Ok(Next::End);
        }
        let running = self.running;
        aside::read(&running, &mut self.rows)?;
        if !self.rows.is_empty() {
            return Ok(Next::Rows);
        }
        let mut asked = false;
        let next = with_sessions(|sessions| {
            let session = sessions.get_mut(&running.key).ok_or_else(over)?;
            let talk = session.talk(running.serial)?;
            let task = talk.task(running.task).ok_or_else(over)?;
            if let Some(error) = task.error.clone() {
                return Err(on_node(error, &session.name));
            }
            talk.take_rows(running.task, &mut self.rows);
            let task = talk.task(running.task).ok_or_else(over)?;
            if !self.rows.is_empty() {
                if task.wants_page() {
                    talk.next_page(running.task)?;
                    asked = true;
                }
                return Ok(Next::Rows);
            }
            if task.is_finished() {
                self.affected = task.affected;
                talk.abandon(running.task);
                session.task_levels.remove(&running.task);
                return Ok(Next::End);
            }
            if task.wants_page() {
                talk.next_page(running.task)?;
            }
            Ok(Next::Later)
        })?;
        if asked {
            send(running.key);
        }
        self.ended = matches!(next, Next::End);
        Ok(next)
    }

    /// Waits until something has happened on the connection.
    fn progress(&mut self) -> Result<()> {
        let keys = [self.running.key];
        if !std::mem::take(&mut self.fresh) && pump(&keys) {
            check_interrupts();
        } else {
            wait_for(&keys, Patience::STATEMENT);
        }
        Ok(())
    }
}

fn over() -> Error {
    Error::new(sqlstate::INTERNAL, "the rows of a statement were read after its transaction had ended")
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let running = self.running;
        aside::leave(&running);
        try_with_sessions(|sessions| {
            if let Some(session) = sessions.get_mut(&running.key)
                && let Ok(talk) = session.talk(running.serial)
            {
                talk.abandon(running.task);
            }
        });
    }
}

/// Waits until one of the streams is ready (a row, the end or an error) and says which.
pub fn wait_any(streams: &mut [&mut Stream]) -> Result<usize> {
    loop {
        if let Some(index) = streams.iter().position(|stream| stream.ready()) {
            return Ok(index);
        }
        for stream in streams.iter() {
            let running = stream.running;
            with_sessions(|sessions| {
                let Some(session) = sessions.get_mut(&running.key) else { return Ok(()) };
                let Ok(talk) = session.talk(running.serial) else { return Ok(()) };
                match talk.task(running.task) {
                    Some(task) if task.wants_page() => talk.next_page(running.task),
                    _ => Ok(()),
                }
            })?;
        }
        let mut keys: Vec<Key> = streams.iter().map(|stream| stream.running.key).collect();
        keys.sort();
        keys.dedup();
        if pump(&keys) {
            check_interrupts();
        } else {
            wait_for(&keys, Patience::STATEMENT);
        }
    }
}
