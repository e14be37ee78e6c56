//! TPC-H answers of a 3-node cluster equal those of a plain server, under two layouts.
//!
//! ```text
//! cargo test -p pg_test --test tpch                               scale 0.01
//! cargo test -p pg_test --test tpch -- --include-ignored          also scale 0.1
//! SHARDING_TPCH_SCALE=0.1 cargo test -p pg_test --test tpch       scale 0.1 only
//! ```

use pg_test::cases::servers::{Pool, start};
use pg_test::cases::tpch;
use std::sync::Mutex;

/// One at a time: the times that are printed mean more, and the memory is bounded.
static ONE: Mutex<()> = Mutex::new(());

fn check(layout: &str, scale: f64) {
    let _one = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let (servers, _running) = start(3, Pool::Default).expect("servers");
    let (report, _timings) = tpch::run(&servers, layout, scale).expect("connections");
    assert!(report.differences.is_empty(), "{report}");
}

#[test]
fn orders_with_lines_and_the_rest_everywhere() {
    check("layout_a.sql", tpch::scale());
}

#[test]
fn every_large_table_by_its_own_key() {
    check("layout_b.sql", tpch::scale());
}

#[test]
#[ignore = "takes minutes: make test-long"]
fn orders_with_lines_and_the_rest_everywhere_full() {
    check("layout_a.sql", 0.1);
}

#[test]
#[ignore = "takes minutes: make test-long"]
fn every_large_table_by_its_own_key_full() {
    check("layout_b.sql", 0.1);
}
