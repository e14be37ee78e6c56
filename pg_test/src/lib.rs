//! Integration tests of `sharding`, on real servers that the tests start themselves.
//!
//! [`harness`] starts clusters and plain Postgres servers and compares what they answer; [`cases`]
//! reads and runs the case files and makes random queries. The tests
//! talk to the extension only as any client does, over the wire: this crate does not link it.
//!
//! ```no_run
//! use pg_test::harness::{Cluster, Pair, Plain};
//!
//! let cluster = Cluster::start(3);
//! let plain = Plain::start();
//! let mut pair = Pair::new(plain.server(), cluster.coordinator());
//! pair.both("CREATE TABLE t (k int PRIMARY KEY, v text)");
//! pair.right("SELECT sharding.distribute_table('t', 'k')");
//! pair.same("INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 100) i");
//! pair.same_ordered("SELECT * FROM t ORDER BY k LIMIT 5");
//! ```

#![forbid(unsafe_code)]

pub mod cases;
pub mod harness;
pub mod history;
