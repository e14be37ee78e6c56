//! A table's rows to the nodes and back, streaming.

use crate::catalog::{NodeId, TableId};
use crate::error::{Error, Result, sqlstate};
use crate::pg::bulk::{BulkLoader, column_type};
use crate::pg::codec::Codec;
use crate::pg::ddl::describe::Column;
use crate::pg::session::{Access, Fetch, Statement, Stream};
use pgrx::pg_sys;

/// Rows between two clean-ups of per-row memory.
const ROWS_PER_RESET: u32 = 256;

unsafe extern "C-unwind" {
    fn find_all_inheritors(
        parent: pg_sys::Oid,
        lockmode: pg_sys::LOCKMODE,
        numparents: *mut *mut pg_sys::List,
    ) -> *mut pg_sys::List;
}

/// The local relations that hold a table's rows: itself, or its leaf partitions. Locks them.
unsafe fn row_holders(table: TableId) -> Vec<pg_sys::Oid> {
    // SAFETY: a list of OIDs in the current memory context.
    unsafe {
        let all = crate::pg::guard::boundary(|| {
            find_all_inheritors(pg_sys::Oid::from(table.0), pg_sys::AccessExclusiveLock as _, std::ptr::null_mut())
        });
        (0..(*all).length as usize)
            .map(|i| (*(*all).elements.add(i)).oid_value)
            .filter(|o| pg_sys::get_rel_relkind(*o) as u8 == pg_sys::RELKIND_RELATION)
            .collect()
    }
}

/// Pushes all local rows of a table, the newest committed ones, into the loader.
///
/// # Safety
/// The caller holds AccessExclusiveLock on the table.
pub unsafe fn send(table: TableId, loader: &mut BulkLoader) -> Result<()> {
    // SAFETY: relations, scans and slots are closed in the order of their opening; an error aborts.
    unsafe {
        let parent = pg_sys::table_open(pg_sys::Oid::from(table.0), pg_sys::NoLock as _);
        let parent_desc = pg_sys::CreateTupleDescCopy((*parent).rd_att);
        pg_sys::table_close(parent, pg_sys::NoLock as _);
        let natts = (*parent_desc).natts as usize;
        let context = pg_sys::AllocSetContextCreateInternal(
            pg_sys::CurrentMemoryContext,
            c"sharding rows".as_ptr(),
            pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
        );
        let snapshot = pg_sys::RegisterSnapshot(pg_sys::GetLatestSnapshot());
        for holder in row_holders(table) {
            let rel = pg_sys::table_open(holder, pg_sys::NoLock as _);
            let slot = pg_sys::table_slot_create(rel, std::ptr::null_mut());
            let map = pg_sys::convert_tuples_by_name((*rel).rd_att, parent_desc);
            let mapped = match map.is_null() {
                true => slot,
                false => pg_sys::MakeSingleTupleTableSlot(parent_desc, &pg_sys::TTSOpsVirtual),
            };
            let flags = pg_sys::ScanOptions::SO_TYPE_SEQSCAN
                | pg_sys::ScanOptions::SO_ALLOW_STRAT
                | pg_sys::ScanOptions::SO_ALLOW_PAGEMODE;
            // Only heap tables come here (`eligible`).
            let scan = pg_sys::heap_beginscan(rel, snapshot, 0, std::ptr::null_mut(), std::ptr::null_mut(), flags);
            let mut since_reset = 0;
            while pg_sys::heap_getnextslot(scan, pg_sys::ScanDirection::ForwardScanDirection, slot) {
                pgrx::check_for_interrupts!();
                let previous = pg_sys::MemoryContextSwitchTo(context);
                let row = match map.is_null() {
                    true => slot,
                    false => pg_sys::execute_attr_map_slot((*map).attrMap, slot, mapped),
                };
                if i32::from((*row).tts_nvalid) < natts as i32 {
                    pg_sys::slot_getsomeattrs_int(row, natts as i32);
                }
                let values = std::slice::from_raw_parts((*row).tts_values, natts);
                let nulls = std::slice::from_raw_parts((*row).tts_isnull, natts);
                loader.push(values, nulls)?;
                pg_sys::MemoryContextSwitchTo(previous);
                since_reset += 1;
                if since_reset >= ROWS_PER_RESET {
                    since_reset = 0;
                    pg_sys::MemoryContextReset(context);
                }
            }
            pg_sys::heap_endscan(scan);
            if !map.is_null() {
                pg_sys::ExecDropSingleTupleTableSlot(mapped);
            }
            pg_sys::ExecDropSingleTupleTableSlot(slot);
            pg_sys::table_close(rel, pg_sys::NoLock as _);
        }
        pg_sys::UnregisterSnapshot(snapshot);
        pg_sys::MemoryContextDelete(context);
        Ok(())
    }
}

/// Fetches all rows of a table from nodes into its local storage, which is empty.
///
/// # Safety
/// The caller holds AccessExclusiveLock; the table is a plain one again.
pub unsafe fn fetch(table: TableId, name: &str, columns: &[Column], nodes: &[NodeId]) -> Result<u64> {
    // SAFETY: the arrays have one element per attribute; tuples live in a context that is reset.
    unsafe {
        let rel = pg_sys::table_open(pg_sys::Oid::from(table.0), pg_sys::NoLock as _);
        let desc = (*rel).rd_att;
        let natts = (*desc).natts as usize;
        let mut codecs: Vec<(usize, Codec)> = columns
            .iter()
            .map(|c| {
                let (kind, typmod) = column_type(table, c.attno);
                (c.attno as usize - 1, Codec::new(kind, typmod))
            })
            .collect();
        let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
        let sql = format!("SELECT {} FROM {name}", names.join(", "));
        let binary: Vec<bool> = codecs.iter().map(|(_, c)| c.binary).collect();
        let context = pg_sys::AllocSetContextCreateInternal(
            pg_sys::CurrentMemoryContext,
            c"sharding rows".as_ptr(),
            pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
            pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
        );
        let bulk = pg_sys::GetBulkInsertState();
        let command = pg_sys::GetCurrentCommandId(true);
        let mut values = vec![pg_sys::Datum::from(0); natts];
        let mut nulls = vec![true; natts];
        let mut count = 0;
        for node in nodes {
            let statement =
                Statement { sql: &sql, params: &[], result_binary: &binary, keep: None, report_bound: false };
            let mut stream = Stream::open(*node, &statement, Access::Read, Fetch::Pages)?;
            while let Some(row) = stream.next()? {
                pgrx::check_for_interrupts!();
                if row.len() != codecs.len() {
                    return Err(Error::new(sqlstate::PROTOCOL_VIOLATION, "node sent a row of another shape"));
                }
                let previous = pg_sys::MemoryContextSwitchTo(context);
                for (n, (i, codec)) in codecs.iter_mut().enumerate() {
                    nulls[*i] = row.get(n).is_none();
                    if let Some(bytes) = row.get(n) {
                        values[*i] = codec.decode(bytes)?;
                    }
                }
                let tuple = pg_sys::heap_form_tuple(desc, values.as_mut_ptr(), nulls.as_mut_ptr());
                pg_sys::heap_insert(rel, tuple, command, 0, bulk);
                pg_sys::MemoryContextSwitchTo(previous);
                count += 1;
                if count % u64::from(ROWS_PER_RESET) == 0 {
                    pg_sys::MemoryContextReset(context);
                }
            }
        }
        pg_sys::FreeBulkInsertState(bulk);
        pg_sys::MemoryContextDelete(context);
        pg_sys::table_close(rel, pg_sys::NoLock as _);
        pg_sys::CommandCounterIncrement();
        Ok(count)
    }
}
