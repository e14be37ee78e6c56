//! COPY TO.
//!
//! ```text
//! COPY orders TO STDOUT             -> COPY (SELECT its columns FROM orders) TO STDOUT
//! COPY (SELECT * FROM orders) TO .. -> Postgres's own, but where the rows of a scan are the result, as they are, the
//!                                      nodes send text, and lines are made of it without a value being decoded
//! ```
//!
//! Columns that are generated are left out, as COPY of a table does. What is written for the client here
//! ([`Lines`]) is text and CSV with options whose meaning is known; all else is left to Postgres: files, binary,
//! another encoding, FORCE_QUOTE.

use crate::catalog::{ClusterMap, quote_identifier};
use crate::copy::output::{Marks, Output};
use crate::ddl::text::commas;
use crate::error::Result;
use crate::pg::guard::boundary;
use crate::pg::utility::{Call, raw, relation, tree};
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString, c_char};
use std::rc::Rc;

/// Options whose meaning is known.
const KNOWN: [&str; 7] = ["format", "delimiter", "null", "header", "quote", "escape", "encoding"];

thread_local! {
    /// The lines of the COPY TO under way.
    static CURRENT: RefCell<Option<Rc<Lines>>> = const { RefCell::new(None) };
}

/// The lines of a COPY TO the client, for the scan whose rows they are.
#[derive(Debug)]
pub struct Lines {
    pub output: Output,
    /// The rows that the scan has sent, and their bytes: Postgres does not know of them.
    rows: Cell<u64>,
    bytes: Cell<u64>,
    /// COPY's query, once it runs.
    desc: Cell<*mut pg_sys::QueryDesc>,
}

impl Lines {
    fn new(output: Output) -> Lines {
        Lines { output, rows: Cell::default(), bytes: Cell::default(), desc: Cell::new(std::ptr::null_mut()) }
    }

    /// A query is executed: it may be that of the COPY TO under way.
    ///
    /// # Safety
    /// The descriptor is the executor's.
    pub unsafe fn run_begins(desc: *mut pg_sys::QueryDesc) {
        CURRENT.with_borrow(|current| {
            // SAFETY: as the caller promises.
            if let Some(lines) = current
                && unsafe { (*(*desc).dest).mydest } == pg_sys::CommandDest::DestCopyOut
            {
                lines.desc.set(desc);
            }
        });
    }

    /// Those of the COPY TO under way, if `node` is the root of its query.
    ///
    /// # Safety
    /// Called while the executor runs `node`.
    pub unsafe fn of_root(node: *mut pg_sys::PlanState) -> Option<Rc<Lines>> {
        CURRENT.with_borrow(|current| {
            // SAFETY: COPY's query lives as long as it is under way.
            let of_root =
                |lines: &&Rc<Lines>| unsafe { !lines.desc.get().is_null() && (*lines.desc.get()).planstate == node };
            current.as_ref().filter(of_root).cloned()
        })
    }

    /// So many have been sent.
    pub fn sent(&self, rows: u64, bytes: u64) {
        self.rows.set(self.rows.get() + rows);
        self.bytes.set(self.bytes.get() + bytes);
        // SAFETY: writes to this backend's slot.
        unsafe {
            let (rows, bytes) = (self.rows.get() as i64, self.bytes.get() as i64);
            pg_sys::pgstat_progress_update_param(pg_sys::PROGRESS_COPY_TUPLES_PROCESSED as i32, rows);
            pg_sys::pgstat_progress_update_param(pg_sys::PROGRESS_COPY_BYTES_PROCESSED as i32, bytes);
        }
    }
}

/// As long as it lives, a COPY TO is under way; one within a function of another's query has its own.
struct UnderWay(Option<Rc<Lines>>);

impl UnderWay {
    fn begin(lines: Option<Rc<Lines>>) -> UnderWay {
        UnderWay(CURRENT.replace(lines))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

/// Runs a COPY TO; a COPY FROM that is not the cluster's is Postgres's own.
pub fn run(call: &Call, map: &ClusterMap) -> Result<()> {
    let statement = call.node().cast::<pg_sys::CopyStmt>();
    // SAFETY: the tag was read; the statement outlives the call.
    unsafe {
        if (*statement).is_from {
            call.run();
            return Ok(());
        }
        let instead = select_of(statement, map).map(|copy| call.instead(copy.cast()));
        let call = instead.as_ref().unwrap_or(call);
        let lines = output_of(call, statement).map(|output| Rc::new(Lines::new(output)));
        let under_way = UnderWay::begin(lines.clone());
        call.run();
        drop(under_way);
        if let Some(lines) = lines
            && !call.completion.is_null()
        {
            (*call.completion).nprocessed += lines.rows.get();
        }
    }
    Ok(())
}

/// The COPY of a distributed table as one of a query.
unsafe fn select_of(statement: *mut pg_sys::CopyStmt, map: &ClusterMap) -> Option<*mut pg_sys::CopyStmt> {
    // SAFETY: as the caller; look-ups, and nodes in the current memory context.
    unsafe {
        relation::named(map, (*statement).relation).filter(|table| table.is_distributed())?;
        let (range, names) = ((*statement).relation, (*statement).attlist);
        let rel = boundary(|| raw::table_openrv(range, pg_sys::AccessShareLock as i32));
        let relid = (*rel).rd_id;
        let chosen = boundary(|| raw::CopyGetAttnums((*rel).rd_att, rel, names));
        let columns = commas(
            tree::integers(chosen)
                .into_iter()
                .map(|n| quote_identifier(&tree::text(pg_sys::get_attname(relid, n as i16, false)))),
        );
        pg_sys::relation_close(rel, pg_sys::NoLock as _);
        let sql = CString::new(format!("SELECT {columns} FROM {}", relation::qualified(relid))).unwrap_or_default();
        let parsed = pg_sys::pg_parse_query(sql.as_ptr());
        let query = tree::items::<pg_sys::RawStmt>(parsed).first().copied()?;
        let copy = pg_sys::copyObjectImpl(statement.cast()).cast::<pg_sys::CopyStmt>();
        (*copy).relation = std::ptr::null_mut();
        (*copy).attlist = std::ptr::null_mut();
        (*copy).query = (*query).stmt;
        Some(copy)
    }
}

/// How its lines are written; `None` if that is better left to Postgres.
unsafe fn output_of(call: &Call, statement: *mut pg_sys::CopyStmt) -> Option<Output> {
    // SAFETY: the statement lives; what is made here lives as long.
    unsafe {
        let options = tree::items::<pg_sys::DefElem>((*statement).options);
        if !(*statement).filename.is_null()
            || pg_sys::whereToSendOutput != pg_sys::CommandDest::DestRemote
            || options.iter().any(|option| !KNOWN.contains(&tree::text((**option).defname).as_str()))
        {
            return None;
        }
        let parse = pg_sys::make_parsestate(std::ptr::null_mut());
        (*parse).p_sourcetext = call.query;
        let mut read: pg_sys::CopyFormatOptions = std::mem::zeroed();
        read.file_encoding = -1;
        let (given, out) = ((*statement).options, &raw mut read);
        boundary(|| raw::ProcessCopyOptions(parse, out, false, given));
        let encoding = if read.file_encoding < 0 { pg_sys::pg_get_client_encoding() } else { read.file_encoding };
        if read.binary || encoding != pg_sys::GetDatabaseEncoding() {
            return None;
        }
        let bytes = |text: *const c_char| CStr::from_ptr(text).to_bytes();
        let first = |text: *const c_char| bytes(text).first().copied().unwrap_or_default();
        let csv = read.csv_mode.then(|| Marks { quote: first(read.quote), escape: first(read.escape) });
        Some(Output { delimiter: first(read.delim), null: bytes(read.null_print).to_vec(), csv })
    }
}
