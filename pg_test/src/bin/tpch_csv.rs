//! Writes a table of TPC-H as CSV with a header, for `benches/cluster/tpch.sh`: `tpch_csv lineitem 0.1`.

use pg_test::cases::tpch;
use std::io::{self, Write};

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(table), Some(scale)) = (arguments.next(), arguments.next().and_then(|s| s.parse().ok())) else {
        return Err(io::Error::other("usage: tpch_csv TABLE SCALE"));
    };
    io::stdout().lock().write_all(tpch::csv(&table, scale)?.as_bytes())
}
