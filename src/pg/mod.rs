//! The only folder with `unsafe`: what touches Postgres, thin and without decisions.

pub mod catalog_cache;
pub mod guard;
pub mod report;
