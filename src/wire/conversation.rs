//! Requests to a node and their replies, pipelined.
//!
//! A *task* is one thing asked: a simple query, a statement with its rows, a COPY. A *unit* is a
//! stretch of messages that ends in one ReadyForQuery; a task takes one or more (a prelude such as
//! `BEGIN; SET ...`, then the statement, then each page of its rows). Units are answered in order,
//! so the unit at the front of the queue owns whatever arrives.
//!
//! ```text
//! task 1  query("BEGIN", "SELECT a")   -> units  [1: Prelude] [1: Simple]
//! task 2  statement("", ..., Pages)    -> units  ... [2: Portal]
//!         next_page(2)                 -> units  ... [2: Portal]
//! ```
//!
//! A task keeps its first error only: what follows it (25P02) is a consequence. An error that no
//! task owns is kept as `Conversation::stray`. Nothing here waits, retries or knows about
//! transactions beyond the status that the node reports.

use crate::cheap_hash::CheapMap;
use crate::error::{Error, Result, sqlstate};
use crate::wire::prepared::{Name, Prepared};
use crate::wire::protocol_error;
use crate::wire::report::Report;
use crate::wire::run::Run;
use crate::wire::statement::{Fetch, Statement, write_bind, write_parse};
use bytes::BytesMut;
use postgres_protocol::message::frontend;
use std::collections::VecDeque;

mod answers;
mod task;
#[cfg(test)]
mod tests;

pub use task::Task;
use task::{FIRST_PAGE, Kept, Page, Unit, UnitKind, next_page_size};

/// Names a task of one conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub u32);

/// What the node said about its transaction in the last ReadyForQuery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    Outside,
    Inside,
    /// Inside of a transaction that an error has ended: only ROLLBACK is accepted.
    Failed,
}

/// What a message with COPY data holds, about.
const COPY_MESSAGE: usize = 64 * 1024;

/// The state of a connection's conversation.
#[derive(Debug)]
pub struct Conversation {
    input: BytesMut,
    output: BytesMut,
    /// The messages that prepare and use the statement under way, the only one then, if it may be repeated.
    again: BytesMut,
    /// Room for messages until it is known that all of them can be written.
    draft: BytesMut,
    units: VecDeque<Unit>,
    tasks: CheapMap<TaskId, Task>,
    last_task: u32,
    block: Block,
    /// The statements that the node keeps for this connection.
    pub prepared: Prepared,
    /// Portals to close with the next statement.
    unclosed: Vec<String>,
    copying: Option<TaskId>,
    stray: Option<Error>,
    fatal: Option<Error>,
    notices: Vec<Report>,
    errors_seen: u64,
    read_only_seen: bool,
}

impl Default for Conversation {
    fn default() -> Self {
        Conversation::new()
    }
}

impl Conversation {
    pub fn new() -> Conversation {
        Conversation {
            input: BytesMut::new(),
            output: BytesMut::new(),
            again: BytesMut::new(),
            draft: BytesMut::new(),
            units: VecDeque::new(),
            tasks: CheapMap::default(),
            last_task: 0,
            block: Block::Outside,
            prepared: Prepared::default(),
            unclosed: Vec::new(),
            copying: None,
            stray: None,
            fatal: None,
            notices: Vec::new(),
            errors_seen: 0,
            read_only_seen: false,
        }
    }

    /// The bytes to send; the caller takes off what it has sent.
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// Whether bytes wait to be sent.
    pub fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Whether every unit is answered.
    pub fn is_quiet(&self) -> bool {
        self.units.is_empty()
    }

    /// Whether somebody else could go on with the connection: everything is answered, nothing is
    /// half sent or half received, and no transaction is open.
    pub fn is_clean(&self) -> bool {
        self.is_quiet() && self.output.is_empty() && self.input.is_empty() && self.block == Block::Outside
    }

    /// The node's transaction as of the last answer.
    pub fn block(&self) -> Block {
        self.block
    }

    /// The first error that no task owns, once.
    pub fn take_stray(&mut self) -> Option<Error> {
        self.stray.take()
    }

    /// Why the node said it closes the connection.
    pub fn fatal(&self) -> Option<&Error> {
        self.fatal.as_ref()
    }

    /// Notices and warnings since the last call.
    pub fn take_notices(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.notices)
    }

    /// Counts the errors the node has reported: who sees it rise knows that settings may be gone.
    pub fn errors_seen(&self) -> u64 {
        self.errors_seen
    }

    /// Whether the node has ever refused to write, as a standby does.
    pub fn read_only_seen(&self) -> bool {
        self.read_only_seen
    }

    /// The task, while somebody wants it.
    pub fn task(&self, id: TaskId) -> Option<&Task> {
        self.tasks.get(&id).filter(|task| !task.abandoned)
    }

    /// The rows of a task that have arrived, in exchange for an empty queue.
    pub fn take_rows(&mut self, id: TaskId, empty: &mut VecDeque<Run>) {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.swap_rows(empty);
        }
    }

    /// The task whose rows have to go elsewhere, because all that have arrived and nobody has taken need more than
    /// `limit` bytes: the one with the most. What came with one look at the socket stays, and what commands
    /// collect is theirs.
    pub fn overfull(&self, limit: usize) -> Option<TaskId> {
        let held: usize = self.tasks.values().map(|task| task.held).sum();
        let streamed = self.tasks.iter().filter(|(_, task)| task.streamed && task.rows.len() > 1);
        streamed.max_by_key(|(_, task)| task.held).filter(|_| held > limit).map(|(id, _)| *id)
    }

    /// Takes a finished task out.
    pub fn take(&mut self, id: TaskId) -> Option<Task> {
        self.tasks.remove(&id)
    }

    /// Whether a unit is under way whose task fits.
    pub fn any_under_way(&self, fits: impl Fn(Option<TaskId>) -> bool) -> bool {
        self.units.iter().any(|unit| fits(unit.owner))
    }

    /// Whether a result that nobody wants is still coming in.
    pub fn has_unwanted(&self) -> bool {
        self.units.iter().filter_map(|unit| self.tasks.get(&unit.owner?)).any(|task| task.abandoned)
    }

    /// Whether somebody has not yet taken all of a result.
    pub fn has_wanted(&self) -> bool {
        self.tasks.values().any(|task| !task.abandoned)
    }

    /// Asks for a simple query, which may hold several statements.
    pub fn query(&mut self, prelude: &str, sql: &str) -> Result<TaskId> {
        check_text(sql)?;
        let id = self.new_task(prelude)?;
        self.simple(Some(id), UnitKind::Simple, sql)?;
        Ok(id)
    }

    /// Sends a simple query whose success nobody waits for; its error becomes the stray one.
    pub fn tell(&mut self, sql: &str) -> Result<()> {
        self.simple(None, UnitKind::Prelude, sql)
    }

    /// Asks for a statement and the first of its rows.
    pub fn statement(&mut self, prelude: &str, statement: &Statement, fetch: Fetch) -> Result<TaskId> {
        let name = statement.keep.map(Name::of);
        let name = name.as_ref().map_or("", Name::as_str);
        let portal = match fetch {
            Fetch::All => String::new(),
            Fetch::Pages => format!("p{}", self.last_task + 1),
        };
        let size = if fetch == Fetch::All { 0 } else { FIRST_PAGE };
        let known = statement.keep.is_some_and(|hash| self.prepared.uses(hash));
        // Where nothing is lost by an error, a statement that has become stale is prepared anew.
        let repeatable = known && prelude.is_empty() && self.is_quiet() && self.block == Block::Outside;
        // Written before anything is queued: a statement that cannot be written leaves no trace.
        self.draft.clear();
        if !known || repeatable {
            check_text(statement.sql)?;
            write_parse(statement, name, &mut self.draft)?;
        }
        let parsed = self.draft.len();
        write_bind(statement, name, &portal, &mut self.draft)?;
        if statement.report_bound {
            frontend::flush(&mut self.draft);
        }
        frontend::execute(&portal, size, &mut self.draft).map_err(protocol_error)?;
        frontend::sync(&mut self.draft);

        let id = self.new_task(prelude)?;
        for unclosed in self.unclosed.drain(..) {
            frontend::close(b'P', &unclosed, &mut self.output).map_err(protocol_error)?;
        }
        if let (false, Some(hash)) = (known, statement.keep)
            && let Some(oldest) = self.prepared.add(hash)
        {
            frontend::close(b'S', Name::of(oldest).as_str(), &mut self.output).map_err(protocol_error)?;
        }
        self.output.extend_from_slice(if known { &self.draft[parsed..] } else { &self.draft });
        if repeatable {
            std::mem::swap(&mut self.again, &mut self.draft);
        }
        let kept = statement.keep.map(|hash| match known {
            true => Kept::Uses { hash, repeatable },
            false => Kept::Prepares(hash),
        });
        self.push_unit(Some(id), UnitKind::Portal, kept);
        if let Some(task) = self.tasks.get_mut(&id) {
            task.streamed = true;
            task.page = (fetch == Fetch::Pages).then_some(Page { portal, size, rows: 0, bytes: 0 });
        }
        Ok(id)
    }

    /// Asks for the next page of a suspended task.
    pub fn next_page(&mut self, id: TaskId) -> Result<()> {
        let Some(task) = self.tasks.get_mut(&id) else { return Ok(()) };
        let Some(page) = &mut task.page else { return Ok(()) };
        if !task.suspended || task.units > 0 {
            return Ok(());
        }
        task.suspended = false;
        page.size = next_page_size(page.size, page.rows, page.bytes);
        page.rows = 0;
        page.bytes = 0;
        frontend::execute(&page.portal, page.size, &mut self.output).map_err(protocol_error)?;
        frontend::sync(&mut self.output);
        self.push_unit(Some(id), UnitKind::Portal, None);
        Ok(())
    }

    /// Asks for a `COPY ... FROM STDIN`; its data follow with [`Conversation::copy_data`].
    pub fn copy(&mut self, prelude: &str, sql: &str) -> Result<TaskId> {
        let id = self.query(prelude, sql)?;
        if let Some(task) = self.tasks.get_mut(&id) {
            task.copies = true;
        }
        self.copying = Some(id);
        Ok(id)
    }

    /// Sends a piece of the data of the COPY under way; after its failure, nothing.
    pub fn copy_data(&mut self, data: &[u8]) -> Result<()> {
        if self.copying.is_some() {
            frontend::CopyData::new(data).map_err(protocol_error)?.write(&mut self.output);
        }
        Ok(())
    }

    /// The same with many small pieces, in messages that are as large as is good.
    pub fn copy_records<'a>(&mut self, records: impl Iterator<Item = &'a [u8]>) {
        if self.copying.is_none() {
            return;
        }
        let output = &mut self.output;
        let mut start = begin_copy_message(output);
        for piece in records.flat_map(|record| record.chunks(COPY_MESSAGE)) {
            if output.len() - start > COPY_MESSAGE {
                end_copy_message(output, start);
                start = begin_copy_message(output);
            }
            output.extend_from_slice(piece);
        }
        end_copy_message(output, start);
    }

    /// Ends the data of the COPY under way.
    pub fn copy_done(&mut self) {
        if self.copying.take().is_some() {
            frontend::copy_done(&mut self.output);
        }
    }

    /// Breaks off the COPY under way, if any, so that the node answers.
    pub fn copy_fail(&mut self) -> Result<()> {
        if self.copying.take().is_some() {
            frontend::copy_fail("canceled by the coordinator", &mut self.output).map_err(protocol_error)?;
        }
        Ok(())
    }

    /// Nobody wants the rest of a task: rows are discarded as they come, its portal is closed with
    /// the next statement.
    pub fn abandon(&mut self, id: TaskId) {
        if let Some(task) = self.tasks.get_mut(&id) {
            task.abandoned = true;
            task.drop_rows();
            self.retire(id);
        }
    }

    /// Abandons the tasks that fit.
    pub fn abandon_all(&mut self, fits: impl Fn(TaskId) -> bool) {
        let ids: Vec<TaskId> = self.tasks.keys().copied().filter(|id| fits(*id)).collect();
        for id in ids {
            self.abandon(id);
        }
    }

    /// The node's transaction is over, so are its portals.
    pub fn forget_portals(&mut self) {
        self.unclosed.clear();
    }

    /// The connection is gone: every task ends with this error.
    pub fn lost(&mut self, error: &Error) {
        for task in self.tasks.values_mut() {
            if !task.finished {
                task.error.get_or_insert_with(|| error.clone());
                task.finished = true;
            }
            task.units = 0;
        }
        self.tasks.retain(|_, task| !task.abandoned);
        self.units.clear();
        self.output.clear();
        self.input.clear();
        self.copying = None;
    }

    /// Drops an abandoned task once nothing more comes for it.
    fn retire(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get(&id) else { return };
        if !task.abandoned || task.units > 0 {
            return;
        }
        // Also one that ran to its end: while it exists, its tables count as in use.
        if let Some(task) = self.tasks.remove(&id)
            && task.error.is_none()
            && let Some(page) = task.page
        {
            self.unclosed.push(page.portal);
        }
    }

    fn new_task(&mut self, prelude: &str) -> Result<TaskId> {
        let id = TaskId(self.last_task + 1);
        self.tasks.insert(id, Task::default());
        self.last_task += 1;
        if !prelude.is_empty() {
            self.simple(Some(id), UnitKind::Prelude, prelude)?;
        }
        Ok(id)
    }

    fn simple(&mut self, owner: Option<TaskId>, kind: UnitKind, sql: &str) -> Result<()> {
        check_text(sql)?;
        for unclosed in self.unclosed.drain(..) {
            frontend::close(b'P', &unclosed, &mut self.output).map_err(protocol_error)?;
        }
        frontend::query(sql, &mut self.output).map_err(protocol_error)?;
        self.push_unit(owner, kind, None);
        Ok(())
    }

    fn push_unit(&mut self, owner: Option<TaskId>, kind: UnitKind, kept: Option<Kept>) {
        self.units.push_back(Unit { owner, kind, kept });
        if let Some(task) = owner.and_then(|id| self.tasks.get_mut(&id)) {
            task.units += 1;
        }
    }
}

/// 08P01 if a text cannot be put into a message.
fn check_text(sql: &str) -> Result<()> {
    if sql.contains('\0') {
        return Err(Error::new(sqlstate::PROTOCOL_VIOLATION, "a statement contains a zero byte"));
    }
    Ok(())
}

/// Begins a CopyData message; where its length will stand.
fn begin_copy_message(output: &mut BytesMut) -> usize {
    output.extend_from_slice(&[b'd', 0, 0, 0, 0]);
    output.len() - 4
}

fn end_copy_message(output: &mut BytesMut, start: usize) {
    let length = (output.len() - start) as i32;
    output[start..start + 4].copy_from_slice(&length.to_be_bytes());
}
