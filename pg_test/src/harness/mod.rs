//! Starts Postgres servers for tests and compares what they answer.
//!
//! | file | what |
//! |---|---|
//! | `installation` | which programs and which template, as `scripts/env` says |
//! | `scratch` | a short-named directory of the servers' user |
//! | `port` | a free TCP port |
//! | `server` | one server: start, stop, connect; it ends with this process, however that ends |
//! | `plain` | one plain Postgres |
//! | `cluster` | a coordinator and its nodes |
//! | `certificates` | certificates and keys for TLS |
//! | `proxy` | a bad network between a coordinator and a node |
//! | `settle` | waits until no node has a prepared transaction |
//! | `session` | a connection that keeps all that a simple query returns |
//! | `reply` | what one statement returned |
//! | `compare` | the same SQL on two servers |

mod certificates;
mod cluster;
mod compare;
mod installation;
mod plain;
mod port;
mod proxy;
mod reply;
mod scratch;
mod server;
mod session;
mod settle;

pub use certificates::{Authority, Issued, write_as_server};
pub use cluster::{Cluster, Settings};
pub use compare::{Order, Pair, difference};
pub use installation::Installation;
pub use plain::Plain;
pub use proxy::{Direction, Fault, Proxy};
pub use reply::{Answer, Column, Reply};
pub use scratch::Scratch;
pub use server::{Build, Server, Shutdown};
pub use session::Session;
pub use settle::{in_doubt, settle};
