//! What a node says, and to which task it belongs.

use crate::error::{Error, Result, sqlstate};
use crate::wire::conversation::task::{Kept, Task, Unit, UnitKind};
use crate::wire::conversation::{Block, Conversation};
use crate::wire::prepared::Name;
use crate::wire::protocol_error;
use crate::wire::report::{Report, Severity, read_report};
use crate::wire::run::{HEADER, Run, message_length};
use crate::wire::tag::rows_affected;
use bytes::{Buf, Bytes};
use postgres_protocol::message::backend::{
    BIND_COMPLETE_TAG, COMMAND_COMPLETE_TAG, DATA_ROW_TAG, Message, PARSE_COMPLETE_TAG, READY_FOR_QUERY_TAG,
};
use postgres_protocol::message::frontend;

/// What is received at once and is not longer than this is copied rather than shared.
const SHORT_ANSWER: usize = 1024;

/// What has arrived, with its length.
enum Next {
    /// Rows: their length together, their number.
    Rows(usize, usize),
    Completed(usize),
    Plain(usize, Plain),
    Other,
}

/// A message that says one thing.
enum Plain {
    Parsed,
    Bound,
    Ready(u8),
}

impl Conversation {
    /// Takes bytes from the node. An error means that the conversation cannot go on.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<()> {
        self.input.extend_from_slice(bytes);
        // Rows share the memory of what is received, unless that is little: a copy is cheaper then.
        let shared = self.input.len() > SHORT_ANSWER;
        while let Some(next) = self.next_message()? {
            match next {
                Next::Rows(total, rows) if shared => {
                    let messages = self.input.split_to(total).freeze();
                    self.accept_rows(Run::new(messages, rows));
                }
                Next::Rows(total, rows) => {
                    let messages = Bytes::copy_from_slice(&self.input[..total]);
                    self.input.advance(total);
                    self.accept_rows(Run::new(messages, rows));
                }
                Next::Plain(total, plain) => {
                    self.input.advance(total);
                    self.accept_plain(plain);
                }
                Next::Completed(total) => {
                    let tag = tag_in(&self.input[HEADER..total])?;
                    let affected = rows_affected(tag);
                    let is_simple = self.units.front().is_some_and(|unit| unit.kind == UnitKind::Simple);
                    let tag = is_simple.then(|| tag.to_string());
                    self.input.advance(total);
                    self.complete(affected, tag);
                }
                Next::Other => match Message::parse(&mut self.input).map_err(protocol_error)? {
                    Some(message) => self.accept(message)?,
                    None => break,
                },
            }
        }
        Ok(())
    }

    /// What is next in the input; `None` if the next message has not arrived as a whole. The commonest do not take
    /// the way over `Message`.
    fn next_message(&mut self) -> Result<Option<Next>> {
        let Some(header) = self.input.first_chunk::<HEADER>() else { return Ok(None) };
        let [tag, length @ ..] = *header;
        let total = u32::from_be_bytes(length) as usize + 1;
        if total < HEADER {
            return Err(Error::new(sqlstate::PROTOCOL_VIOLATION, "malformed message: length"));
        }
        if self.input.len() < total {
            self.input.reserve(total - self.input.len());
            return Ok(None);
        }
        Ok(Some(match (tag, self.input.get(HEADER)) {
            (DATA_ROW_TAG, _) => rows_in(&self.input, total),
            (COMMAND_COMPLETE_TAG, _) => Next::Completed(total),
            (PARSE_COMPLETE_TAG, _) => Next::Plain(total, Plain::Parsed),
            (BIND_COMPLETE_TAG, _) => Next::Plain(total, Plain::Bound),
            (READY_FOR_QUERY_TAG, Some(status)) if total == HEADER + 1 => Next::Plain(total, Plain::Ready(*status)),
            _ => Next::Other,
        }))
    }

    /// The task that owns what arrives now.
    fn owner(&mut self) -> Option<(&mut Task, UnitKind)> {
        let unit = self.units.front()?;
        Some((self.tasks.get_mut(&unit.owner?)?, unit.kind))
    }

    fn accept_rows(&mut self, run: Run) {
        let Some((task, kind)) = self.owner() else { return };
        if let Some(page) = &mut task.page {
            page.rows += run.rows();
            page.bytes += run.messages().len();
        }
        if kind != UnitKind::Prelude && !task.abandoned && task.error.is_none() {
            task.keep(run);
        }
    }

    fn accept_plain(&mut self, plain: Plain) {
        match plain {
            Plain::Parsed => {
                if let Some(unit) = self.units.front_mut() {
                    unit.kept = None;
                }
            }
            Plain::Bound => {
                if let Some((task, UnitKind::Portal)) = self.owner() {
                    task.bound = true;
                }
            }
            Plain::Ready(status) => {
                self.block = match status {
                    b'T' => Block::Inside,
                    b'E' => Block::Failed,
                    _ => Block::Outside,
                };
                self.end_unit();
            }
        }
    }

    fn complete(&mut self, affected: u64, tag: Option<String>) {
        let Some((task, kind)) = self.owner() else { return };
        if kind == UnitKind::Prelude {
            return;
        }
        task.affected = task.affected.saturating_add(affected);
        task.finished |= kind == UnitKind::Portal;
        task.tags.extend(tag);
    }

    fn accept(&mut self, message: Message) -> Result<()> {
        match message {
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
                task.drop_rows();
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
            Some(Kept::Uses { hash, repeatable }) if is_stale(error) => {
                self.prepared.remove(hash);
                if repeatable {
                    unit.kept = Some(Kept::Repeats(hash));
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
        if let Some(Kept::Repeats(hash)) = unit.kept {
            // A statement of the old form may still have the name.
            if frontend::close(b'S', Name::of(hash).as_str(), &mut self.output).is_ok() {
                self.output.extend_from_slice(&self.again);
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
}

/// The rows at the start of the input, of which the first is `first` bytes long.
fn rows_in(input: &[u8], first: usize) -> Next {
    let (mut end, mut rows) = (first, 1);
    while input.get(end) == Some(&DATA_ROW_TAG)
        && let Some(total) = message_length(&input[end..])
        && total >= HEADER
        && total <= input.len() - end
    {
        end += total;
        rows += 1;
    }
    Next::Rows(end, rows)
}

/// The tag in the body of a CommandComplete.
fn tag_in(body: &[u8]) -> Result<&str> {
    let tag = body.strip_suffix(&[0]).and_then(|tag| std::str::from_utf8(tag).ok());
    tag.ok_or_else(|| Error::new(sqlstate::PROTOCOL_VIOLATION, "malformed message: command tag"))
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
