//! The only folder with `unsafe`: what touches Postgres, thin and without decisions.

pub mod bulk;
pub mod catalog_cache;
pub mod codec;
pub mod compat;
pub mod connection;
pub mod endpoint;
pub mod fdw;
pub mod foreign_scan;
pub mod function;
pub mod guard;
pub mod hash;
pub mod pending;
pub mod preload;
pub mod report;
pub mod session;
pub mod settings;
pub mod socket;
pub mod transaction;
pub mod transaction_log;
pub mod utility;
pub mod wait;
