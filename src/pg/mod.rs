//! The only folder with `unsafe`: what touches Postgres, thin and without decisions.

pub mod bulk;
pub mod catalog_cache;
pub mod codec;
pub mod compat;
pub mod guard;
pub mod hash;
pub mod report;
pub mod session;
pub mod utility;
