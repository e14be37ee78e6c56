//! `sharding`: turns a set of ordinary Postgres servers into one database.
#![allow(clippy::missing_safety_doc)]

pub mod api;
pub mod catalog;
pub mod cheap_hash;
pub mod copy;
pub mod ddl;
pub mod error;
pub mod maintenance;
pub mod merge;
pub mod pg;
pub mod plan;
pub mod pool;
pub mod tls;
pub mod transaction;
pub mod wire;

::pgrx::pg_module_magic!(name, version);

pgrx::extension_sql_file!("../sql/catalog.sql", name = "catalog", bootstrap);
pgrx::extension_sql_file!("../sql/node.sql", name = "node", requires = ["catalog"]);
pgrx::extension_sql_file!("../sql/pool.sql", name = "pool", requires = ["catalog"]);
pgrx::extension_sql_file!("../sql/transaction.sql", name = "transaction", requires = ["catalog"]);
pgrx::extension_sql_file!("../sql/aggregate.sql", name = "aggregate", requires = ["catalog"]);
pgrx::extension_sql_file!("../sql/table.sql", name = "table", requires = ["catalog"]);

#[pgrx::pg_guard]
pub extern "C-unwind" fn _PG_init() {
    pg::preload::install();
    pg::gucs::install();
    pg::limits::install();
    pg::failpoint::install();
    pg::catalog_cache::install();
    pg::endpoint::install();
    pg::pool::install();
    pg::gate::install();
    pg::maintenance::install();
    pg::transaction::install();
    pg::session::outcome::install();
    pg::hooks::install();
    pg::modify::install();
    pg::lock_rows::install();
    pg::utility::install();
}
