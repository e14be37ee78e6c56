//! COPY FROM into a distributed table.
//!
//! Mostly the input goes on to the nodes unparsed ([`copy_forward`](super::copy_forward)). Where that would not
//! mean the same, Postgres reads the rows here, with all formats and options, and fills in defaults (so sequences
//! are the coordinator's); [`BulkLoader`] sends them to the nodes of their shards, where constraints and
//! row triggers do their work. An error in the input names its line as usual. COPY into a reference
//! table is Postgres's own: its trigger writes the copies.

use crate::catalog::{ClusterMap, TableId};
use crate::error::{Error, Result, SqlState, sqlstate};
use crate::pg::bulk::BulkLoader;
use crate::pg::guard::boundary;
use crate::pg::report;
use crate::pg::tuple;
use crate::pg::utility::compat;
use crate::pg::utility::copy_forward::forward;
use crate::pg::utility::{Call, raw, relation, tree};
use pgrx::pg_sys;
use std::ffi::CStr;

/// Rows between two updates of `pg_stat_progress_copy`.
const ROWS_PER_REPORT: u64 = 1000;

/// Whether the statement was one of this file's.
pub fn run(call: &Call, map: &ClusterMap) -> Result<bool> {
    let statement = call.node().cast::<pg_sys::CopyStmt>();
    // SAFETY: the tag was read; the statement outlives the call.
    unsafe {
        if !(*statement).is_from {
            return Ok(false);
        }
        let Some(table) = relation::named(map, (*statement).relation).filter(|t| t.is_distributed()) else {
            return Ok(false);
        };
        check_source(statement)?;
        let target = Target::open(call, statement)?;
        if let Some(rows) = forward(map, TableId(table.id.0), statement, &target)? {
            pg_sys::relation_close(target.rel, pg_sys::NoLock as _);
            complete(call, rows);
            return Ok(true);
        }
        let mut input = Input::open(statement, target)?;
        let columns = input.columns();
        let mut loader = BulkLoader::new(map, TableId(table.id.0), &columns)?;
        if tuple::is_watched(input.rel) {
            loader.hold();
        }
        while let Some((values, nulls)) = input.next()? {
            loader.push(values, nulls)?;
        }
        let rows = loader.finish()?;
        input.close();
        complete(call, rows);
    }
    Ok(true)
}

/// The command tag.
unsafe fn complete(call: &Call, rows: u64) {
    // SAFETY: where the caller wants to know, there is room for it.
    unsafe {
        if !call.completion.is_null() {
            (*call.completion).commandTag = pg_sys::CommandTag::CMDTAG_COPY;
            (*call.completion).nprocessed = rows;
        }
    }
}

/// Who may read files and run programs, in Postgres's words.
unsafe fn check_source(statement: *mut pg_sys::CopyStmt) -> Result<()> {
    // SAFETY: look-ups.
    unsafe {
        if (*statement).filename.is_null() {
            return Ok(());
        }
        let (role, what) = match (*statement).is_program {
            true => (pg_sys::ROLE_PG_EXECUTE_SERVER_PROGRAM, compat::COPY_PROGRAM_DENIED),
            false => (pg_sys::ROLE_PG_READ_SERVER_FILES, compat::COPY_FILE_DENIED),
        };
        if pg_sys::has_privs_of_role(pg_sys::GetUserId(), pg_sys::Oid::from(role)) {
            return Ok(());
        }
        let (message, detail) = what;
        let error = Error::new(sqlstate::INSUFFICIENT_PRIVILEGE, message)
            .hint("Anyone can COPY to stdout or from stdin. psql's \\copy command also works for anyone.");
        Err(if detail.is_empty() { error } else { error.detail(detail) })
    }
}

/// The table, with the lock and the rights that COPY takes.
pub struct Target {
    pub rel: pg_sys::Relation,
    pub parse: *mut pg_sys::ParseState,
    /// The WHERE clause.
    pub filter: *mut pg_sys::List,
}

/// The rows of the source, one by one.
struct Input {
    rel: pg_sys::Relation,
    state: pg_sys::CopyFromState,
    estate: *mut pg_sys::EState,
    econtext: *mut pg_sys::ExprContext,
    slot: *mut pg_sys::TupleTableSlot,
    filter: *mut pg_sys::ExprState,
    accepted: u64,
    excluded: i64,
    /// While the source is read, errors name the line.
    context: Box<pg_sys::ErrorContextCallback>,
}

impl Target {
    /// Checks what Postgres checks, in its order.
    unsafe fn open(call: &Call, statement: *mut pg_sys::CopyStmt) -> Result<Target> {
        // SAFETY: everything is palloc'd and lives as long as the statement; closures own nothing.
        unsafe {
            let (query, relation) = (call.query, (*statement).relation);
            let lock = pg_sys::RowExclusiveLock as i32;
            let rel = boundary(|| raw::table_openrv(relation, lock));
            let parse = pg_sys::make_parsestate(std::ptr::null_mut());
            (*parse).p_sourcetext = query;
            let item = pg_sys::addRangeTableEntryForRelation(parse, rel, lock, std::ptr::null_mut(), false, false);
            compat::require_insert(item);
            let filter = match (*statement).whereClause.is_null() {
                true => std::ptr::null_mut(),
                false => filter(parse, rel, item, (*statement).whereClause)?,
            };
            let names = (*statement).attlist;
            let chosen = boundary(|| raw::CopyGetAttnums((*rel).rd_att, rel, names));
            for attno in tree::integers(chosen) {
                compat::inserts_column(item, attno);
            }
            boundary(|| compat::check_permissions(parse, item));
            let row_security = boundary(|| raw::check_enable_rls((*rel).rd_id, pg_sys::InvalidOid, false));
            if row_security == pg_sys::CheckEnableRlsResult::RLS_ENABLED as i32 {
                return Err(Error::unsupported("COPY FROM not supported with row-level security")
                    .hint("Use INSERT statements instead."));
            }
            if pg_sys::XactReadOnly {
                boundary(|| raw::PreventCommandIfReadOnly(c"COPY FROM".as_ptr()));
            }
            Ok(Target { rel, parse, filter })
        }
    }
}

impl Input {
    /// Opens the source.
    unsafe fn open(statement: *mut pg_sys::CopyStmt, target: Target) -> Result<Input> {
        // SAFETY: everything is palloc'd and lives as long as the statement; closures own nothing.
        unsafe {
            let Target { rel, parse, filter } = target;
            let names = (*statement).attlist;
            let (file, program, options) = ((*statement).filename, (*statement).is_program, (*statement).options);
            let none = std::ptr::null_mut();
            let state = boundary(|| raw::BeginCopyFrom(parse, rel, none, file, program, None, names, options));
            if freezes(options) {
                return Err(Error::unsupported("cannot perform COPY FREEZE on a partitioned table"));
            }
            let estate = pg_sys::CreateExecutorState();
            let econtext = pg_sys::MakePerTupleExprContext(estate);
            let slot = pg_sys::MakeSingleTupleTableSlot((*rel).rd_att, &raw const pg_sys::TTSOpsVirtual);
            (*econtext).ecxt_scantuple = slot;
            let filter = match filter.is_null() {
                true => std::ptr::null_mut(),
                false => pg_sys::ExecInitQual(filter, std::ptr::null_mut()),
            };
            let mut context = Box::new(pg_sys::ErrorContextCallback {
                previous: pg_sys::error_context_stack,
                callback: Some(raw::CopyFromErrorCallback),
                arg: state.cast(),
            });
            pg_sys::error_context_stack = &raw mut *context;
            Ok(Input { rel, state, estate, econtext, slot, filter, accepted: 0, excluded: 0, context })
        }
    }

    /// The columns that rows have values for: all but generated ones.
    fn columns(&self) -> Vec<i16> {
        // SAFETY: the relation is open.
        unsafe {
            let relid = (*self.rel).rd_id;
            let natts = (*(*self.rel).rd_att).natts as i16;
            (1..=natts)
                .filter(|n| pg_sys::get_atttype(relid, *n) != pg_sys::InvalidOid)
                .filter(|n| pg_sys::get_attgenerated(relid, *n) == 0)
                .collect()
        }
    }

    /// The next row that the WHERE clause lets through.
    fn next(&mut self) -> Result<Option<(&[pg_sys::Datum], &[bool])>> {
        let (state, econtext, slot, filter) = (self.state, self.econtext, self.slot, self.filter);
        // SAFETY: the slot is virtual, its arrays have natts elements; rows live in the per-tuple
        // context, which is reset before the next one.
        unsafe {
            loop {
                pg_sys::MemoryContextReset((*econtext).ecxt_per_tuple_memory);
                let previous = pg_sys::MemoryContextSwitchTo((*econtext).ecxt_per_tuple_memory);
                let (values, nulls) = ((*slot).tts_values, (*slot).tts_isnull);
                let found = boundary(|| raw::NextCopyFrom(state, econtext, values, nulls));
                let natts = (*(*slot).tts_tupleDescriptor).natts;
                let skipped = found && compat::is_skipped(state)?;
                let passes = found
                    && !skipped
                    && (filter.is_null() || {
                        (*slot).tts_flags &= !(pg_sys::TTS_FLAG_EMPTY as u16);
                        (*slot).tts_nvalid = natts as i16;
                        let mut null = false;
                        let null_out = &raw mut null;
                        let evaluate = (*filter).evalfunc;
                        let datum = boundary(|| evaluate.map(|f| f(filter, econtext, null_out)));
                        datum.is_some_and(|d| d.value() != 0) && !null
                    });
                pg_sys::MemoryContextSwitchTo(previous);
                if !found {
                    return Ok(None);
                }
                if passes {
                    self.accepted += 1;
                    if self.accepted.is_multiple_of(ROWS_PER_REPORT) {
                        self.report();
                    }
                    let natts = natts as usize;
                    let (values, nulls) =
                        (std::slice::from_raw_parts(values, natts), std::slice::from_raw_parts(nulls, natts));
                    return Ok(Some((values, nulls)));
                }
                self.excluded += i64::from(!skipped);
            }
        }
    }

    fn report(&self) {
        // SAFETY: writes to this backend's slot.
        unsafe {
            pg_sys::pgstat_progress_update_param(pg_sys::PROGRESS_COPY_TUPLES_PROCESSED as i32, self.accepted as i64);
            pg_sys::pgstat_progress_update_param(pg_sys::PROGRESS_COPY_TUPLES_EXCLUDED as i32, self.excluded);
        }
    }

    fn close(self) {
        let (state, estate, slot, rel) = (self.state, self.estate, self.slot, self.rel);
        drop(self);
        // SAFETY: opened by `open`; the lock stays until the transaction ends.
        unsafe {
            let rows = compat::skipped_rows(state);
            if rows > 0 {
                let verb = if rows == 1 { "row was" } else { "rows were" };
                let message = format!("{rows} {verb} skipped due to data type incompatibility");
                report::notice(&Error::new(SqlState::new("00000"), message));
            }
            boundary(|| raw::EndCopyFrom(state));
            pg_sys::ExecDropSingleTupleTableSlot(slot);
            pg_sys::FreeExecutorState(estate);
            pg_sys::relation_close(rel, pg_sys::NoLock as _);
        }
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        // SAFETY: the stack must not point into freed memory, on whatever way out.
        unsafe {
            if pg_sys::error_context_stack == &raw mut *self.context {
                pg_sys::error_context_stack = self.context.previous;
            }
        }
    }
}

/// COPY's WHERE clause as an implicit AND list.
unsafe fn filter(
    parse: *mut pg_sys::ParseState,
    rel: pg_sys::Relation,
    item: *mut pg_sys::ParseNamespaceItem,
    clause: *mut pg_sys::Node,
) -> Result<*mut pg_sys::List> {
    // SAFETY: the nodes are palloc'd; closures own nothing.
    unsafe {
        pg_sys::addNSItemToQuery(parse, item, false, true, true);
        let kind = pg_sys::ParseExprKind::EXPR_KIND_COPY_WHERE;
        let expression = boundary(|| {
            let expression = raw::transformExpr(parse, clause, kind);
            let expression = raw::coerce_to_boolean(parse, expression, c"WHERE".as_ptr());
            raw::assign_expr_collations(parse, expression);
            expression
        });
        let mut used = std::ptr::null_mut();
        pg_sys::pull_varattnos(expression, 1, &mut used);
        let (first, relid) = (pg_sys::FirstLowInvalidHeapAttributeNumber, (*rel).rd_id);
        let whole_row = pg_sys::bms_is_member(-first, used);
        for attno in 1..=(*(*rel).rd_att).natts {
            let generated = pg_sys::get_attgenerated(relid, attno as i16) != 0;
            if generated && (whole_row || pg_sys::bms_is_member(attno - first, used)) {
                let column = tree::text(pg_sys::get_attname(relid, attno as i16, false));
                return Err(Error::new(
                    SqlState::new("42P10"),
                    "generated columns are not supported in COPY FROM WHERE conditions",
                )
                .detail(format!("Column \"{column}\" is a generated column.")));
            }
        }
        Ok(boundary(|| {
            let expression = raw::eval_const_expressions(std::ptr::null_mut(), expression);
            raw::make_ands_implicit(raw::canonicalize_qual(expression, false))
        }))
    }
}

/// Whether the options ask for FREEZE; they are known to be valid.
unsafe fn freezes(options: *mut pg_sys::List) -> bool {
    // SAFETY: the cells are DefElems.
    unsafe {
        tree::items::<pg_sys::DefElem>(options)
            .into_iter()
            .any(|o| CStr::from_ptr((*o).defname) == c"freeze" && pg_sys::defGetBoolean(o))
    }
}
