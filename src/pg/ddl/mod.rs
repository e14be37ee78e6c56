//! Turning tables into distributed and reference tables, and back.
//!
//! `distribute_table('orders', 'id')` reads top to bottom in [`distribute`]: [`eligible`] and
//! [`foreign_keys`] refuse what cannot be kept, [`dependencies`] and [`describe`] write the DDL that
//! the nodes need, [`nodes`] runs it there, [`rows`] moves the rows, [`convert`] turns the local
//! table into the empty parent in place, [`catalog_rows`] records it. [`undistribute`] is the way
//! back. What people call is in `api::table`.

pub mod catalog_rows;
pub mod compat;
pub mod convert;
pub mod dependencies;
pub mod describe;
pub mod distribute;
pub mod eligible;
pub mod foreign_keys;
pub mod nodes;
pub mod rows;
pub mod spi;
pub mod undistribute;
