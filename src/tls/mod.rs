//! TLS to the nodes without any IO: libpq's options, whom to trust, channel binding, and the relay.
//!
//! ```text
//! backend ---- socketpair ---- relay in the pool worker ==== TLS ==== node
//! ```
//!
//! A backend speaks plain text with its end of a socketpair, as over a plain connection. The worker holds
//! the other end and the TLS connection and moves the bytes, see [`relay`]. Sockets and files are in
//! `pg::pool`.
//!
//! - [`options`]: `sslmode` and its kin
//! - [`config`], [`verify`]: certificates, keys and the rules by which a node is believed
//! - [`end_point`]: what ties SCRAM to the node's certificate
//! - [`relay`]: bytes in both directions, never more than fit into small buffers
#![forbid(unsafe_code)]

pub mod config;
pub mod end_point;
pub mod options;
pub mod relay;
pub mod verify;
