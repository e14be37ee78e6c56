//! The only folder with `unsafe`: what touches Postgres, thin and without decisions.

pub mod catalog_cache;
pub mod codec;
pub mod compat;
pub mod explain;
pub mod finish;
pub mod foreign_scan;
pub mod guard;
pub mod hash;
pub mod hooks;
pub mod modify;
pub mod params;
pub mod pending;
pub mod planner;
pub mod print;
pub mod query_tree;
pub mod readers;
pub mod report;
pub mod route;
pub mod scan;
pub mod session;
pub mod shippable;
pub mod slot;
pub mod tree;
pub mod tuple;
