//! The coordinator's log of two-phase commits: rows of `sharding.transaction`.
//!
//! A row is written by the transaction whose decision it is and becomes visible with its commit. It
//! is written directly, not by SQL: no privileges, no triggers, at a point where the transaction
//! cannot run user code any more.

use crate::error::{Error, Result, sqlstate};
use crate::pg::catalog_cache::catalog_oid;
use crate::transaction::gid::{Coordinator, GlobalTransaction};
use crate::transaction::recovery::LogRow;
use pgrx::{FromDatum, IntoDatum, pg_sys};
use std::ffi::CString;

/// Columns of `sharding.transaction`.
const COLUMNS: usize = 3;

/// This database, as the gids name it.
pub fn coordinator() -> Coordinator {
    // SAFETY: reads what the backend knows since it started.
    unsafe { Coordinator { system_identifier: pg_sys::GetSystemIdentifier(), database: pg_sys::MyDatabaseId.to_u32() } }
}

/// The current transaction, which gets an xid if it has none.
pub fn current_transaction() -> GlobalTransaction {
    let mut nonce = [0u8; 8];
    // SAFETY: called inside a transaction; the buffer has the length that is passed.
    let xid = unsafe {
        if !pg_sys::pg_strong_random(nonce.as_mut_ptr().cast(), nonce.len()) {
            // Without a source of randomness: the time, which moves on over a crash.
            nonce = pg_sys::GetCurrentTimestamp().to_ne_bytes();
        }
        pg_sys::GetTopFullTransactionId().value
    };
    GlobalTransaction { coordinator: coordinator(), xid, nonce: u64::from_ne_bytes(nonce) }
}

/// Whether the transaction is still being worked on here. An xid that this server has not reached
/// was given before a crash (which lost it), unless the transaction began after this call.
pub fn is_in_progress(transaction: GlobalTransaction) -> bool {
    // SAFETY: reads shared counters and the shared list of running transactions.
    unsafe {
        let next = pg_sys::ReadNextFullTransactionId().value;
        let age = next.saturating_sub(transaction.xid);
        (1..1 << 31).contains(&age)
            && pg_sys::TransactionIdIsInProgress(pg_sys::TransactionId::from(transaction.xid as u32))
    }
}

fn log_relation() -> Result<pg_sys::Oid> {
    match catalog_oid(c"transaction") {
        pg_sys::InvalidOid => {
            Err(Error::new(sqlstate::UNDEFINED_TABLE, "the log of distributed transactions does not exist")
                .hint("Use CREATE EXTENSION sharding."))
        }
        oid => Ok(oid),
    }
}

/// Writes the decision of the current transaction, and makes its commit wait for the disk: nodes
/// are told to commit as soon as it returns.
pub fn insert(gid: &str, nodes: &[String]) -> Result<()> {
    let relation = log_relation()?;
    let names: Vec<CString> = nodes.iter().map(|node| CString::new(node.as_str()).unwrap_or_default()).collect();
    // SAFETY: arrays have one element per column of sql/catalog.sql; the relation stays locked
    // until the transaction ends; `name` datums are 64 bytes that live until the tuple is formed.
    unsafe {
        pg_sys::ForceSyncCommit();
        pg_sys::PushActiveSnapshot(pg_sys::GetTransactionSnapshot());
        let mut elements: Vec<pg_sys::Datum> = names
            .iter()
            .map(|name| {
                let padded = pg_sys::palloc0(pg_sys::NAMEDATALEN as usize);
                pg_sys::namestrcpy(padded.cast(), name.as_ptr());
                pg_sys::Datum::from(padded)
            })
            .collect();
        let array = pg_sys::construct_array(
            elements.as_mut_ptr(),
            elements.len() as i32,
            pg_sys::NAMEOID,
            pg_sys::NAMEDATALEN as i32,
            false,
            b'c' as _,
        );
        let mut values = [
            gid.into_datum().unwrap_or(pg_sys::Datum::from(0)),
            pg_sys::Datum::from(array),
            pg_sys::Datum::from(pg_sys::GetCurrentTransactionStopTimestamp()),
        ];
        let mut nulls = [false; COLUMNS];
        let rel = pg_sys::table_open(relation, pg_sys::RowExclusiveLock as _);
        let tuple = pg_sys::heap_form_tuple((*rel).rd_att, values.as_mut_ptr(), nulls.as_mut_ptr());
        pg_sys::CatalogTupleInsert(rel, tuple);
        pg_sys::table_close(rel, pg_sys::NoLock as _);
        pg_sys::PopActiveSnapshot();
    }
    Ok(())
}

/// Calls `visit` with each committed row and when it was decided, under a snapshot taken now.
fn scan(relation: pg_sys::Oid, lock: u32, mut visit: impl FnMut(pg_sys::Relation, pg_sys::HeapTuple, LogRow, i64)) {
    // SAFETY: systable_beginscan takes a new snapshot for a relation that is no system catalog;
    // values are copied out of each tuple before the next is fetched.
    unsafe {
        let rel = pg_sys::table_open(relation, lock as _);
        let scan =
            pg_sys::systable_beginscan(rel, pg_sys::InvalidOid, false, std::ptr::null_mut(), 0, std::ptr::null_mut());
        loop {
            let tuple = pg_sys::systable_getnext(scan);
            if tuple.is_null() {
                break;
            }
            let mut values = [pg_sys::Datum::from(0); COLUMNS];
            let mut nulls = [false; COLUMNS];
            pg_sys::heap_deform_tuple(tuple, (*rel).rd_att, values.as_mut_ptr(), nulls.as_mut_ptr());
            let gid = String::from_datum(values[0], nulls[0]).unwrap_or_default();
            let nodes = Vec::<String>::from_name_array(values[1], nulls[1]);
            visit(rel, tuple, LogRow { gid, nodes }, values[2].value() as i64);
        }
        pg_sys::systable_endscan(scan);
        pg_sys::table_close(rel, pg_sys::NoLock as _);
    }
}

trait FromNameArray {
    unsafe fn from_name_array(datum: pg_sys::Datum, null: bool) -> Self;
}

impl FromNameArray for Vec<String> {
    unsafe fn from_name_array(datum: pg_sys::Datum, null: bool) -> Vec<String> {
        if null {
            return Vec::new();
        }
        // SAFETY: the datum is a name[]; deconstruct_array palloc's the arrays it returns.
        unsafe {
            let array = pg_sys::pg_detoast_datum(datum.cast_mut_ptr()) as *mut pg_sys::ArrayType;
            let mut elements = std::ptr::null_mut();
            let mut nulls = std::ptr::null_mut();
            let mut count = 0;
            pg_sys::deconstruct_array(
                array,
                pg_sys::NAMEOID,
                pg_sys::NAMEDATALEN as i32,
                false,
                b'c' as _,
                &mut elements,
                &mut nulls,
                &mut count,
            );
            (0..count as usize)
                .map(|i| {
                    let name = (*elements.add(i)).cast_mut_ptr::<std::ffi::c_char>();
                    std::ffi::CStr::from_ptr(name).to_string_lossy().into_owned()
                })
                .collect()
        }
    }
}

/// The committed rows.
pub fn rows() -> Result<Vec<LogRow>> {
    let mut rows = Vec::new();
    scan(log_relation()?, pg_sys::AccessShareLock, |_, _, row, _| rows.push(row));
    Ok(rows)
}

/// The committed rows and when each was written, as text.
pub fn rows_with_time() -> Result<Vec<(LogRow, String)>> {
    let mut rows = Vec::new();
    scan(log_relation()?, pg_sys::AccessShareLock, |_, _, row, decided| {
        // SAFETY: returns a static buffer, which is copied.
        let text = unsafe { std::ffi::CStr::from_ptr(pg_sys::timestamptz_to_str(decided)) };
        rows.push((row, text.to_string_lossy().into_owned()));
    });
    Ok(rows)
}

/// Deletes the rows with these names; leaves one that somebody else is deleting.
pub fn delete(gids: &[String]) -> Result<()> {
    if gids.is_empty() {
        return Ok(());
    }
    scan(log_relation()?, pg_sys::RowExclusiveLock, |rel, tuple, row, _| {
        if !gids.contains(&row.gid) {
            return;
        }
        // SAFETY: the tuple was just read under a lock on the relation; a concurrent deletion is
        // reported in the result, which does not matter here.
        unsafe {
            let mut failure = pg_sys::TM_FailureData::default();
            pg_sys::heap_delete(
                rel,
                &mut (*tuple).t_self,
                pg_sys::GetCurrentCommandId(true),
                std::ptr::null_mut(),
                false,
                &mut failure,
                false,
            );
        }
    });
    Ok(())
}
