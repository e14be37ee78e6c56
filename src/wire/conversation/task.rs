//! What has been asked of a node: a task, and the stretches of messages that answer it.

use crate::error::Error;
use crate::wire::conversation::TaskId;
use crate::wire::run::Run;
use std::collections::VecDeque;

/// Rows of the first page, when nothing is known of their width.
pub(super) const FIRST_PAGE: i32 = 256;
/// What a page should take, in bytes.
pub(super) const PAGE_BYTES: usize = 1 << 20;
/// A page holds at most so many rows, however narrow they are.
pub(super) const LARGEST_PAGE: usize = 50_000;
/// A page holds at most so many times the rows of the one before.
pub(super) const PAGE_GROWTH: usize = 16;

/// One thing asked of the node and what has come of it so far.
#[derive(Debug, Default)]
pub struct Task {
    /// Rows that have arrived and nobody has taken; no run is empty.
    pub rows: VecDeque<Run>,
    /// The tag of each finished statement of a simple query.
    pub tags: Vec<String>,
    /// The rows touched by all its statements.
    pub affected: u64,
    /// What went wrong first.
    pub error: Option<Error>,
    /// The node has handled Bind: a SELECT's snapshot is taken.
    pub bound: bool,
    /// The page is at its end, the result is not.
    pub(super) suspended: bool,
    /// Nothing more will come.
    pub(super) finished: bool,
    /// Nobody wants what comes.
    pub(super) abandoned: bool,
    /// It is a COPY whose data come from here.
    pub(super) copies: bool,
    pub(super) units: u32,
    pub(super) page: Option<Page>,
    /// Its rows are taken as they come, not all at its end.
    pub(super) streamed: bool,
    /// What the rows that nobody has taken need, in bytes.
    pub(super) held: usize,
}

/// What rows that wait need beside their bytes.
const RUN_OVERHEAD: usize = size_of::<Run>() + 16;

/// How far a result that is fetched in pages has come.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) portal: String,
    pub(super) size: i32,
    pub(super) rows: usize,
    pub(super) bytes: usize,
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

    /// Whether the next row has to be asked for with [`next_page`](super::Conversation::next_page).
    pub fn wants_page(&self) -> bool {
        self.suspended && self.units == 0 && self.rows.is_empty() && self.error.is_none()
    }

    /// Takes rows that have arrived.
    pub(super) fn keep(&mut self, run: Run) {
        self.held += run.messages().len() + RUN_OVERHEAD;
        self.rows.push_back(run);
    }

    /// Takes out all rows, in exchange for an empty queue.
    pub(super) fn swap_rows(&mut self, empty: &mut VecDeque<Run>) {
        self.held = 0;
        std::mem::swap(&mut self.rows, empty);
    }

    pub(super) fn drop_rows(&mut self) {
        self.held = 0;
        self.rows = VecDeque::new();
    }

    /// Whether a row, the end or an error is here.
    pub fn is_ready(&self) -> bool {
        !self.rows.is_empty() || self.error.is_some() || self.finished
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UnitKind {
    /// Answers are of interest only if they are errors.
    Prelude,
    Simple,
    Portal,
}

#[derive(Debug)]
pub(super) struct Unit {
    pub(super) owner: Option<TaskId>,
    pub(super) kind: UnitKind,
    /// The kept statement that it prepares or uses.
    pub(super) kept: Option<Kept>,
}

/// A unit's part in keeping a statement prepared.
#[derive(Debug)]
pub(super) enum Kept {
    /// It prepares the statement: unless the node says so, the connection does not have it.
    Prepares(u64),
    /// It uses the statement. `repeatable`: the node may be asked again, with `Conversation::again`.
    Uses { hash: u64, repeatable: bool },
    /// The node does not have the statement as it was, and is asked again.
    Repeats(u64),
}

/// The size of a page after one of `size` that had `rows` rows of `bytes` bytes.
pub(super) fn next_page_size(size: i32, rows: usize, bytes: usize) -> i32 {
    let width = (bytes / rows.max(1)).max(1);
    let most = (size.max(1) as usize * PAGE_GROWTH).min(LARGEST_PAGE);
    (PAGE_BYTES / width).clamp(1, most) as i32
}
