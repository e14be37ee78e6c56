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
use crate::wire::prepared::{self, Prepared};
use crate::wire::protocol_error;
use crate::wire::report::{Report, Severity, read_report};
use crate::wire::statement::{Fetch, Statement, write_bind, write_parse};
use crate::wire::tag::rows_affected;
use bytes::{Bytes, BytesMut};
use postgres_protocol::message::backend::{DATA_ROW_TAG, Message};
use postgres_protocol::message::frontend;
use std::collections::VecDeque;

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

/// Rows of the first page, when nothing is known of their width.
const FIRST_PAGE: i32 = 256;
/// What a page should take, in bytes.
const PAGE_BYTES: usize = 1 << 20;
/// A page holds at most so many rows, however narrow they are.
const LARGEST_PAGE: usize = 50_000;
/// A page holds at most so many times the rows of the one before.
const PAGE_GROWTH: usize = 16;
/// What a message with COPY data holds, about.
const COPY_MESSAGE: usize = 64 * 1024;

/// One thing asked of the node and what has come of it so far.
#[derive(Debug, Default)]
pub struct Task {
    /// Rows (the bodies of their `DataRow`s) that have arrived and nobody has taken.
    pub rows: VecDeque<Bytes>,
    /// The tag of each finished statement.
    pub tags: Vec<String>,
    /// The rows touched by all its statements.
    pub affected: u64,
    /// What went wrong first.
    pub error: Option<Error>,
    /// The node has handled Bind: a SELECT's snapshot is taken.
    pub bound: bool,
    /// The page is at its end, the result is not.
    suspended: bool,
    /// Nothing more will come.
    finished: bool,
    /// Nobody wants what comes.
    abandoned: bool,
    /// It is a COPY whose data come from here.
    copies: bool,
    units: u32,
    page: Option<Page>,
}

/// How far a result that is fetched in pages has come.
#[derive(Debug)]
struct Page {
    portal: String,
    size: i32,
    rows: usize,
    bytes: usize,
}

impl Task {
    /// Whether all that was asked is answered and no page is left.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether the node has nothing more to say of it: what commits by itself is committed or failed.
    pub fn is_answered(&self) -> bool {
        self.units == 0
    }

    /// Whether the next row has to be asked for with [`Conversation::next_page`].
    pub fn wants_page(&self) -> bool {
        self.suspended && self.units == 0 && self.rows.is_empty() && self.error.is_none()
    }

    /// Whether a row, the end or an error is here.
    pub fn is_ready(&self) -> bool {
        !self.rows.is_empty() || self.error.is_some() || self.finished
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UnitKind {
    /// Answers are of interest only if they are errors.
    Prelude,
    Simple,
    Portal,
}

#[derive(Debug)]
struct Unit {
    owner: Option<TaskId>,
    kind: UnitKind,
    /// The kept statement that it prepares or uses.
    kept: Option<Kept>,
}

/// A unit's part in keeping a statement prepared.
#[derive(Debug)]
enum Kept {
    /// It prepares the statement: unless the node says so, the connection does not have it.
    Prepares(u64),
    /// It uses the statement; the messages that prepare and use it, where the node may be asked again.
    Uses(u64, BytesMut),
    /// The node does not have the statement as it was: what to ask again.
    Repeats(u64, BytesMut),
}

/// The state of a connection's conversation.
#[derive(Debug)]
pub struct Conversation {
    input: BytesMut,
    output: BytesMut,
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
    pub fn take_rows(&mut self, id: TaskId, empty: &mut VecDeque<Bytes>) {
        if let Some(task) = self.tasks.get_mut(&id) {
            std::mem::swap(&mut task.rows, empty);
        }
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
        // Written before anything is queued: a statement that cannot be written leaves no trace.
        let mut parse = BytesMut::new();
        let mut rest = BytesMut::new();
        let portal = match fetch {
            Fetch::All => String::new(),
            Fetch::Pages => format!("p{}", self.last_task + 1),
        };
        let name = statement.keep.map_or_else(String::new, prepared::name);
        let known = statement.keep.is_some_and(|hash| self.prepared.uses(hash));
        // Where nothing is lost by an error, a statement that has become stale is prepared anew.
        let repeatable = known && prelude.is_empty() && self.is_quiet() && self.block == Block::Outside;
        check_text(statement.sql)?;
        if !known || repeatable {
            write_parse(statement, &name, &mut parse)?;
        }
        write_bind(statement, &name, &portal, &mut rest)?;
        if statement.report_bound {
            frontend::flush(&mut rest);
        }
        let size = if fetch == Fetch::All { 0 } else { FIRST_PAGE };
        frontend::execute(&portal, size, &mut rest).map_err(protocol_error)?;
        frontend::sync(&mut rest);

        let id = self.new_task(prelude)?;
        for unclosed in self.unclosed.drain(..) {
            frontend::close(b'P', &unclosed, &mut self.output).map_err(protocol_error)?;
        }
        let kept = match statement.keep {
            Some(hash) if known => {
                self.output.extend_from_slice(&rest);
                if repeatable {
                    parse.extend_from_slice(&rest);
                }
                Some(Kept::Uses(hash, parse))
            }
            keep => {
                if let Some(hash) = keep
                    && let Some(oldest) = self.prepared.add(hash)
                {
                    frontend::close(b'S', &prepared::name(oldest), &mut self.output).map_err(protocol_error)?;
                }
                self.output.extend_from_slice(&parse);
                self.output.extend_from_slice(&rest);
                keep.map(Kept::Prepares)
            }
        };
        self.push_unit(Some(id), UnitKind::Portal, kept);
        if let (Fetch::Pages, Some(task)) = (fetch, self.tasks.get_mut(&id)) {
            task.page = Some(Page { portal, size, rows: 0, bytes: 0 });
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
            task.rows.clear();
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

    /// Takes bytes from the node. An error means that the conversation cannot go on.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<()> {
        self.input.extend_from_slice(bytes);
        while let Some(row) = self.next_data_row()? {
            let Some(row) = row else {
                match Message::parse(&mut self.input).map_err(protocol_error)? {
                    Some(message) => self.accept(message)?,
                    None => break,
                }
                continue;
            };
            self.accept_row(row);
        }
        Ok(())
    }

    /// `Some(Some(row))` if a whole DataRow is next, `Some(None)` if something else is, `None` if
    /// the next message has not arrived as a whole. Rows do not take the way over `Message`.
    fn next_data_row(&mut self) -> Result<Option<Option<Bytes>>> {
        if self.input.first() != Some(&DATA_ROW_TAG) {
            return Ok(Some(None));
        }
        let Some(length) = self.input.get(1..).and_then(|rest| rest.first_chunk::<4>()) else {
            return Ok(None);
        };
        let total = u32::from_be_bytes(*length) as usize + 1;
        if total < 5 {
            return Err(Error::new(sqlstate::PROTOCOL_VIOLATION, "malformed message: length"));
        }
        if self.input.len() < total {
            self.input.reserve(total - self.input.len());
            return Ok(None);
        }
        let body = self.input.split_to(total).freeze().slice(5..);
        Ok(Some(Some(body)))
    }

    /// The task that owns what arrives now.
    fn owner(&mut self) -> Option<(&mut Task, UnitKind)> {
        let unit = self.units.front()?;
        Some((self.tasks.get_mut(&unit.owner?)?, unit.kind))
    }

    fn accept_row(&mut self, row: Bytes) {
        let Some((task, kind)) = self.owner() else { return };
        if let Some(page) = &mut task.page {
            page.rows += 1;
            page.bytes += row.len() + 5;
        }
        if kind != UnitKind::Prelude && !task.abandoned && task.error.is_none() {
            task.rows.push_back(row);
        }
    }

    fn accept(&mut self, message: Message) -> Result<()> {
        match message {
            Message::ParseComplete => {
                if let Some(unit) = self.units.front_mut() {
                    unit.kept = None;
                }
            }
            Message::BindComplete => {
                if let Some((task, UnitKind::Portal)) = self.owner() {
                    task.bound = true;
                }
            }
            Message::CommandComplete(body) => {
                let tag = body.tag().map_err(protocol_error)?;
                match self.owner() {
                    Some((task, UnitKind::Simple)) => task.complete(tag),
                    Some((task, UnitKind::Portal)) => {
                        task.complete(tag);
                        task.finished = true;
                    }
                    _ => {}
                }
            }
            Message::EmptyQueryResponse => {
                if let Some((task, UnitKind::Portal)) = self.owner() {
                    task.finished = true;
                }
            }
            Message::PortalSuspended => {
                if let Some((task, UnitKind::Portal)) = self.owner() {
                    task.suspended = true;
                    // The tag at the end counts the rows of the last page only.
                    task.affected += task.page.as_ref().map_or(0, |page| page.rows as u64);
                }
            }
            Message::CopyInResponse(_) => {
                // A COPY FROM STDIN that came in as a plain query: nobody has data for it.
                let copies = self.owner().is_some_and(|(task, _)| task.copies);
                if !copies {
                    frontend::copy_fail("no data were given", &mut self.output).map_err(protocol_error)?;
                }
            }
            Message::ErrorResponse(body) => self.fail(read_report(body.fields())?),
            Message::NoticeResponse(body) => {
                let report = read_report(body.fields())?;
                if let Some((_, UnitKind::Portal)) = self.owner() {
                    self.notices.push(report);
                }
            }
            Message::ReadyForQuery(body) => {
                self.block = match body.status() {
                    b'T' => Block::Inside,
                    b'E' => Block::Failed,
                    _ => Block::Outside,
                };
                self.end_unit();
            }
            _ => {}
        }
        Ok(())
    }

    fn fail(&mut self, report: Report) {
        self.errors_seen += 1;
        self.read_only_seen |= report.error.code == sqlstate::READ_ONLY_TRANSACTION;
        if report.severity == Severity::Fatal {
            self.fatal.get_or_insert_with(|| report.error.clone());
        }
        let asked = !self.units.is_empty();
        if self.must_prepare_again(&report.error) {
            return;
        }
        match self.owner() {
            Some((task, _)) => {
                task.error.get_or_insert(report.error);
                task.rows.clear();
            }
            None if asked => {
                self.stray.get_or_insert(report.error);
            }
            None => {}
        }
    }

    /// Takes note of what an error says of a kept statement; whether it is asked for again.
    fn must_prepare_again(&mut self, error: &Error) -> bool {
        let Some(unit) = self.units.front_mut() else { return false };
        match unit.kept.take() {
            Some(Kept::Prepares(hash)) => self.prepared.remove(hash),
            Some(Kept::Uses(hash, messages)) if is_stale(error) => {
                self.prepared.remove(hash);
                if !messages.is_empty() {
                    unit.kept = Some(Kept::Repeats(hash, messages));
                    return true;
                }
            }
            _ => {}
        }
        false
    }

    fn end_unit(&mut self) {
        let Some(unit) = self.units.pop_front() else { return };
        let Some(id) = unit.owner else { return };
        if let Some(Kept::Repeats(hash, messages)) = unit.kept {
            // A statement of the old form may still have the name.
            let mut again = BytesMut::new();
            if frontend::close(b'S', &prepared::name(hash), &mut again).is_ok() {
                self.output.extend_from_slice(&again);
                self.output.extend_from_slice(&messages);
                self.prepared.add(hash);
                self.units.push_back(Unit { owner: Some(id), kind: unit.kind, kept: Some(Kept::Prepares(hash)) });
                return;
            }
        }
        if self.copying == Some(id) && unit.kind == UnitKind::Simple {
            self.copying = None;
        }
        let Some(task) = self.tasks.get_mut(&id) else { return };
        task.units = task.units.saturating_sub(1);
        if unit.kind == UnitKind::Simple || task.error.is_some() && task.units == 0 {
            task.finished = true;
        }
        self.retire(id);
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

impl Task {
    fn complete(&mut self, tag: &str) {
        self.affected = self.affected.saturating_add(rows_affected(tag));
        self.tags.push(tag.to_string());
    }
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

/// Whether an error says that a prepared statement is gone, or that its columns have changed.
fn is_stale(error: &Error) -> bool {
    match error.code.as_str() {
        "26000" => true,
        // "cached plan must not change result type" has no code of its own.
        "0A000" => error.message.contains("cached plan"),
        _ => false,
    }
}

/// 08P01 if a text cannot be put into a message.
fn check_text(sql: &str) -> Result<()> {
    if sql.contains('\0') {
        return Err(Error::new(sqlstate::PROTOCOL_VIOLATION, "a statement contains a zero byte"));
    }
    Ok(())
}

/// The size of a page after one of `size` that had `rows` rows of `bytes` bytes.
fn next_page_size(size: i32, rows: usize, bytes: usize) -> i32 {
    let width = (bytes / rows.max(1)).max(1);
    let most = (size.max(1) as usize * PAGE_GROWTH).min(LARGEST_PAGE);
    (PAGE_BYTES / width).clamp(1, most) as i32
}

#[cfg(test)]
mod tests;
