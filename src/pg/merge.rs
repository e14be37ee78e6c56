//! Rows of several nodes in one order: each node sends its own sorted, here they are merged.
//!
//! ```text
//! SELECT id, name FROM people ORDER BY name;
//!
//! Foreign Scan                 Merge Key: people.name
//!   n1, n2, n3                 SELECT id, name FROM people ORDER BY name
//! ```
//!
//! Of each node one row is at hand; its sort keys are compared as Postgres's own Sort would ([`crate::merge`] is
//! the rule). A text's order is that of the server's C library or ICU, and two servers' may differ: where that
//! is possible, each row is compared with the one before it from the same node, and a node with another
//! order is an error rather than a wrong answer.

use crate::error::{Error, Result, sqlstate};
use crate::merge::Merge;
use crate::pg::guard::boundary;
use crate::pg::scan::Scan;
use crate::pg::tree;
use crate::plan::remote::MergeKey;
use crate::wire::row::Row;
use bytes::Bytes;
use pgrx::pg_sys;
use std::cmp::Ordering;
use std::ffi::CStr;

const C_COLLATIONS: [u32; 2] = [950, 951];
const FIRST_UNFIXED_OID: u32 = 10_000;

/// A merge under way.
pub(super) struct Merging {
    keys: Vec<Key>,
    heads: Merge<Head>,
    /// Whether the first head has been handed out.
    given: bool,
    /// Whether a node's order may be another than ours.
    checks: bool,
}

struct Key {
    column: usize,
    /// Boxed: Postgres keeps its address.
    support: Box<pg_sys::SortSupportData>,
}

/// The row that a node is at.
struct Head {
    stream: usize,
    row: Bytes,
    values: Vec<Option<pg_sys::Datum>>,
    /// Where the values are, and where those of the next row will be.
    memory: [pg_sys::MemoryContext; 2],
}

impl Key {
    unsafe fn new(key: &MergeKey, memory: pg_sys::MemoryContext) -> Key {
        // SAFETY: filled in by Postgres; `memory` lives as long as the query.
        unsafe {
            let mut support: Box<pg_sys::SortSupportData> = Box::new(std::mem::zeroed());
            support.ssup_cxt = memory;
            support.ssup_collation = pg_sys::Oid::from(key.collation);
            support.ssup_nulls_first = key.nulls_first;
            pg_sys::PrepareSortSupportFromOrderingOp(pg_sys::Oid::from(key.operator), &mut *support);
            Key { column: key.column, support }
        }
    }

    /// As `ApplySortComparator`.
    unsafe fn compare(&mut self, a: Option<pg_sys::Datum>, b: Option<pg_sys::Datum>) -> Ordering {
        let null = |is_null_first: bool| if is_null_first { Ordering::Less } else { Ordering::Greater };
        match (a, b) {
            (None, None) => Ordering::Equal,
            (None, Some(_)) => null(self.support.ssup_nulls_first),
            (Some(_), None) => null(self.support.ssup_nulls_first).reverse(),
            (Some(a), Some(b)) => {
                let support: *mut pg_sys::SortSupportData = &mut *self.support;
                // SAFETY: both are values of the key's type; the function is Postgres's and may raise an error.
                let order = unsafe { (*support).comparator.map_or(0, |compare| boundary(|| compare(a, b, support))) };
                if self.support.ssup_reverse { order.cmp(&0).reverse() } else { order.cmp(&0) }
            }
        }
    }
}

unsafe fn compare(keys: &mut [Key], a: &[Option<pg_sys::Datum>], b: &[Option<pg_sys::Datum>]) -> Ordering {
    // SAFETY: one value per key.
    unsafe {
        for (i, key) in keys.iter_mut().enumerate() {
            let order = key.compare(a[i], b[i]);
            if order != Ordering::Equal {
                return order;
            }
        }
    }
    Ordering::Equal
}

impl Merging {
    /// Waits for the first row of each node.
    unsafe fn start(scan: &mut Scan) -> Result<Merging> {
        // SAFETY: called by the executor while it runs the scan.
        unsafe {
            let memory = (*scan.estate()).es_query_cxt;
            let wanted = scan.plan.merge.clone();
            let mut keys: Vec<Key> = wanted.iter().map(|key| Key::new(key, memory)).collect();
            let checks = wanted.iter().any(|key| {
                let value_type = scan.columns[key.column].wire_type.to_u32();
                key.collation != 0 && !C_COLLATIONS.contains(&key.collation) || value_type >= FIRST_UNFIXED_OID
            });
            let mut heads = Vec::new();
            for stream in 0..scan.streams.len() {
                let new =
                    || pg_sys::AllocSetContextCreateExtended(memory, c"sharding merge".as_ptr(), 0, 1024, 1024 * 1024);
                let mut head = Head { stream, row: Bytes::new(), values: Vec::new(), memory: [new(), new()] };
                if head.advance(scan, &keys)? {
                    heads.push(head);
                }
            }
            let mut before = |a: &Head, b: &Head| compare(&mut keys, &a.values, &b.values) == Ordering::Less;
            let heads = Merge::of(heads, &mut before);
            Ok(Merging { keys, heads, given: false, checks })
        }
    }

    /// The next row of all.
    unsafe fn next(&mut self, scan: &mut Scan) -> Result<Option<Bytes>> {
        let Merging { keys, heads, given, checks } = self;
        // SAFETY: as above; comparing may allocate, in memory that goes with the next row.
        unsafe {
            if *given && let Some(head) = heads.first() {
                let last = if *checks { head.values.clone() } else { Vec::new() };
                let is_there = head.advance(scan, keys)?;
                if is_there && *checks && compare(keys, &head.values, &last) == Ordering::Less {
                    return Err(unordered(scan, head.stream));
                }
                let old = pg_sys::MemoryContextSwitchTo(head.memory[0]);
                let mut before = |a: &Head, b: &Head| compare(keys, &a.values, &b.values) == Ordering::Less;
                if is_there {
                    heads.moved(&mut before);
                } else {
                    heads.ended(&mut before);
                }
                pg_sys::MemoryContextSwitchTo(old);
            }
            *given = true;
            Ok(heads.first().map(|head| head.row.clone()))
        }
    }
}

impl Head {
    /// Reads the next row of the stream; `false` at its end. The values of the row before stay until then.
    unsafe fn advance(&mut self, scan: &mut Scan, keys: &[Key]) -> Result<bool> {
        // SAFETY: the contexts are the head's own; nothing but values of two rows ago is in the second.
        unsafe {
            let Some(body) = scan.next_of(self.stream)? else { return Ok(false) };
            self.memory.swap(0, 1);
            pg_sys::MemoryContextReset(self.memory[0]);
            let old = pg_sys::MemoryContextSwitchTo(self.memory[0]);
            let row = Row::parse_into(body.clone(), &mut scan.room)?;
            self.values.clear();
            for key in keys {
                let value = row.get(key.column).map(|bytes| scan.columns[key.column].decode(bytes)).transpose()?;
                self.values.push(value);
            }
            scan.room = row.into_room();
            pg_sys::MemoryContextSwitchTo(old);
            self.row = body;
            Ok(true)
        }
    }
}

impl Scan {
    /// The next row in order.
    pub(super) unsafe fn fetch_in_order(&mut self) -> Result<Option<Bytes>> {
        // SAFETY: called by the executor while it runs the scan.
        unsafe {
            let mut merging = match self.merging.take() {
                Some(merging) => merging,
                None => Merging::start(self)?,
            };
            let row = merging.next(self);
            self.merging = Some(merging);
            row
        }
    }

    /// Whether the values of merge keys are the same after a way through text.
    pub(super) fn merge_keys_survive_text(&self) -> bool {
        const SAME: [u32; 10] = [16, 20, 21, 23, 25, 1042, 1043, 1082, 1700, 2950];
        self.plan.merge.iter().all(|key| SAME.contains(&self.columns[key.column].wire_type.to_u32()))
    }
}

fn unordered(scan: &Scan, stream: usize) -> Error {
    let node = scan.streams.get(stream).map_or_else(String::new, |s| scan.cluster().node_name(s.node()).to_string());
    Error::new(sqlstate::DATA_CORRUPTED, format!("node \"{node}\" sorts values in another order than this server"))
        .detail("Text is sorted by the operating system's C library or by ICU, and their versions differ.")
        .hint("Give all servers the same version, or use COLLATE \"C\"; SET sharding.enable_sort_pushdown = off sorts here.")
}

/// The merge keys for EXPLAIN: `people.name, people.id DESC`.
pub unsafe fn describe(scan: &Scan, es: *mut pg_sys::ExplainState) -> String {
    // SAFETY: the plan and EXPLAIN's state live meanwhile.
    unsafe {
        let plan = (*scan.node).ss.ps.plan;
        let context = pg_sys::set_deparse_context_plan((*es).deparse_cxt, plan, std::ptr::null_mut());
        let entries = tree::items::<pg_sys::TargetEntry>((*plan.cast::<pg_sys::ForeignScan>()).fdw_scan_tlist);
        let qualified = (*es).verbose || tree::items::<pg_sys::Node>((*es).rtable).len() > 1;
        let text = |key: &MergeKey| {
            let Some(entry) = entries.get(key.column) else { return String::from("?") };
            let text = pg_sys::deparse_expression((**entry).expr.cast(), context, qualified, false);
            let text = CStr::from_ptr(text).to_string_lossy().into_owned();
            let mut reversed = false;
            pg_sys::get_equality_op_for_ordering_op(pg_sys::Oid::from(key.operator), &mut reversed);
            let nulls = match (reversed, key.nulls_first) {
                (false, true) => " NULLS FIRST",
                (true, false) => " NULLS LAST",
                _ => "",
            };
            format!("{text}{}{nulls}", if reversed { " DESC" } else { "" })
        };
        scan.plan.merge.iter().map(text).collect::<Vec<_>>().join(", ")
    }
}
