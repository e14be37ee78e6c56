//! Guard rails: statements that read all shards, and results that are larger than anybody meant.
//!
//! ```sql
//! ALTER ROLE web SET sharding.cross_shard_queries = 'error';
//! SELECT * FROM orders WHERE customer = 7;
//! -- ERROR:  statement needs all shards of table "public.orders"
//! -- HINT:  Add a condition on the shard key "id", or set sharding.cross_shard_queries to "allow".
//! ALTER ROLE web SET sharding.max_result_rows = 100000;
//! ```
//!
//! Both are checked when a statement runs, also with a plan that is kept: EXPLAIN shows what it would do. Shards that
//! a list of keys leads to are not all shards. The rows of all scans of a statement count, whatever becomes of them.

use crate::catalog::{ClusterMap, TableId};
use crate::error::{Error, Result, sqlstate};
use crate::pg::{report, tuple};
use pgrx::pg_sys;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

/// What happens to a statement that needs all shards of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PostgresGucEnum)]
pub enum CrossShardQueries {
    #[name = c"allow"]
    Allow,
    #[name = c"warn"]
    Warn,
    #[name = c"error"]
    Error,
}

static CROSS_SHARD_QUERIES: GucSetting<CrossShardQueries> =
    GucSetting::<CrossShardQueries>::new(CrossShardQueries::Allow);
static MAX_RESULT_ROWS: GucSetting<i32> = GucSetting::<i32>::new(0);

/// Defines the settings; called once from `_PG_init`.
pub fn install() {
    GucRegistry::define_enum_guc(
        c"sharding.cross_shard_queries",
        c"What happens to a statement that needs all shards of a table.",
        c"allow, warn or error. Statements that name the shard key's value, or a list of them, need fewer.",
        &CROSS_SHARD_QUERIES,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"sharding.max_result_rows",
        c"How many rows the nodes may send for one statement.",
        c"One that gets more fails. 0 is no limit.",
        &MAX_RESULT_ROWS,
        0,
        i32::MAX,
        GucContext::Userset,
        GucFlags::default(),
    );
}

thread_local! {
    /// The statement that was warned of last: one warning each.
    static WARNED: Cell<i64> = const { Cell::new(0) };
}

/// A statement is about to need all shards of a table.
pub fn needs_all_shards(map: &ClusterMap, table: TableId) -> Result<()> {
    let setting = CROSS_SHARD_QUERIES.get();
    let Some((group, key)) = map.distribution(table) else { return Ok(()) };
    if setting == CrossShardQueries::Allow || group.shards.len() < 2 {
        return Ok(());
    }
    let relid = pg_sys::Oid::from(table.0);
    // SAFETY: the table is locked by the statement.
    let (name, columns) = unsafe { (tuple::qualified_name(relid).replace('"', ""), tuple::columns(relid)) };
    let key = columns.into_iter().find(|c| c.attno == key).map_or_else(String::new, |c| c.name);
    let message = format!("statement needs all shards of table \"{name}\"");
    let error = Error::unsupported(message)
        .hint(format!("Add a condition on the shard key \"{key}\", or set sharding.cross_shard_queries to \"allow\"."));
    if setting == CrossShardQueries::Error {
        return Err(error);
    }
    // SAFETY: reads a timestamp.
    let statement = unsafe { pg_sys::GetCurrentStatementStartTimestamp() };
    if WARNED.replace(statement) != statement {
        report::warning(&Error { code: sqlstate::WARNING, ..error });
    }
    Ok(())
}

/// The rows that a statement may still get.
#[derive(Clone)]
pub struct Allowance {
    left: Rc<Cell<u64>>,
    limit: u64,
}

thread_local! {
    /// The allowances of the statements under way, by their executor states.
    static ALLOWANCES: RefCell<Vec<(usize, Weak<Cell<u64>>)>> = const { RefCell::new(Vec::new()) };
}

impl Allowance {
    /// That of a statement, shared by all its scans; `None` without a limit.
    pub fn of(estate: *mut pg_sys::EState) -> Option<Allowance> {
        let limit = u64::try_from(MAX_RESULT_ROWS.get()).ok().filter(|limit| *limit > 0)?;
        let left = ALLOWANCES.with_borrow_mut(|all| {
            all.retain(|(_, left)| left.strong_count() > 0);
            if let Some(left) = all.iter().find(|(of, _)| *of == estate as usize).and_then(|(_, left)| left.upgrade()) {
                return left;
            }
            let left = Rc::new(Cell::new(limit));
            all.push((estate as usize, Rc::downgrade(&left)));
            left
        });
        Some(Allowance { left, limit })
    }

    /// So many rows more.
    pub fn take(&self, rows: u64) -> Result<()> {
        match self.left.get().checked_sub(rows) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => Err(Error::new(
                sqlstate::PROGRAM_LIMIT_EXCEEDED,
                format!("nodes send more than {} rows for one statement", self.limit),
            )
            .hint("Ask for fewer rows, or raise sharding.max_result_rows.")),
        }
    }
}
