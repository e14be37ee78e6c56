//! TPC-H: its tables, data and queries, on a plain server and on a cluster.
//!
//! The data is that of `tpchgen-cli`, made by the crate under it in this process: the same bytes as
//! of `tpchgen-cli csv -s SCALE`. `SHARDING_TPCH_DATA` names a folder with such files to use instead.

use super::report::Report;
use super::script::{self, Statement, Step};
use super::session::{Answer, Session};
use super::suite::Servers;
use std::fmt::{Display, Write};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tpchgen::csv::{CustomerCsv, LineItemCsv, NationCsv, OrderCsv, PartCsv, PartSuppCsv, RegionCsv, SupplierCsv};
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};

/// The tables, small ones first.
pub const TABLES: &[&str] = &["region", "nation", "supplier", "customer", "part", "partsupp", "orders", "lineitem"];

/// How long one query took on each side.
#[derive(Clone, Debug)]
pub struct Timing {
    pub line: usize,
    pub plain: Duration,
    pub cluster: Duration,
}

/// The scale for everyday tests: `SHARDING_TPCH_SCALE`, else 0.01.
pub fn scale() -> f64 {
    std::env::var("SHARDING_TPCH_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(0.01)
}

/// A table's rows as CSV with a header.
pub fn csv(table: &str, scale: f64) -> io::Result<String> {
    if let Some(folder) = std::env::var_os("SHARDING_TPCH_DATA") {
        return std::fs::read_to_string(PathBuf::from(folder).join(format!("{table}.csv")));
    }
    let text = match table {
        "region" => lines(RegionCsv::header(), RegionGenerator::new(scale, 1, 1).iter().map(RegionCsv::new)),
        "nation" => lines(NationCsv::header(), NationGenerator::new(scale, 1, 1).iter().map(NationCsv::new)),
        "supplier" => lines(SupplierCsv::header(), SupplierGenerator::new(scale, 1, 1).iter().map(SupplierCsv::new)),
        "customer" => lines(CustomerCsv::header(), CustomerGenerator::new(scale, 1, 1).iter().map(CustomerCsv::new)),
        "part" => lines(PartCsv::header(), PartGenerator::new(scale, 1, 1).iter().map(PartCsv::new)),
        "partsupp" => lines(PartSuppCsv::header(), PartSuppGenerator::new(scale, 1, 1).iter().map(PartSuppCsv::new)),
        "orders" => lines(OrderCsv::header(), OrderGenerator::new(scale, 1, 1).iter().map(OrderCsv::new)),
        "lineitem" => lines(LineItemCsv::header(), LineItemGenerator::new(scale, 1, 1).iter().map(LineItemCsv::new)),
        _ => return Err(io::Error::other(format!("no TPC-H table {table}"))),
    };
    Ok(text)
}

fn lines<T: Display>(header: &str, rows: impl Iterator<Item = T>) -> String {
    let mut text = format!("{header}\n");
    for row in rows {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{row}");
    }
    text
}

/// Loads and queries both servers under a layout (`layout_a.sql`); the report has the differences.
pub fn run(servers: &Servers, layout: &str, scale: f64) -> io::Result<(Report, Vec<Timing>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tpch");
    let mut report = Report::new(layout);
    let connect = |endpoint| -> io::Result<Session> {
        let mut session = Session::connect_within(endpoint, Duration::from_secs(20))?;
        session.set_silence(Duration::from_secs(180))?;
        session.run("SET search_path = tpch; SET statement_timeout = '150s'")?;
        Ok(session)
    };
    let mut plain = connect(&servers.plain)?;
    let mut cluster = connect(&servers.coordinator)?;
    let schema = std::fs::read_to_string(folder.join("schema.sql"))?;
    for session in [&mut plain, &mut cluster] {
        session.run("DROP SCHEMA IF EXISTS tpch CASCADE; CREATE SCHEMA tpch")?;
        session.run(&schema)?;
    }
    if !servers.stand_in {
        for sql in cluster_statements(&std::fs::read_to_string(folder.join(layout))?)? {
            cluster.run(&sql)?;
        }
    }
    for table in TABLES {
        let data = csv(table, scale)?;
        let copy = format!("COPY {table} FROM STDIN (FORMAT csv, HEADER)");
        let start = Instant::now();
        let there = cluster.simple(&copy, Some(&data))?;
        let took = start.elapsed();
        let here = plain.simple(&copy, Some(&data))?;
        println!("{layout}: {table} loaded in {took:.2?}");
        compare(&mut report, 0, &copy, &here, &there, &Default::default());
    }
    plain.run("ANALYZE")?;
    cluster.run("ANALYZE")?;

    let mut timings = Vec::new();
    for statement in statements(&std::fs::read_to_string(folder.join("queries.sql"))?)? {
        let Statement { line, sql, expectation, .. } = &statement;
        report.statements += 1;
        let start = Instant::now();
        let here = plain.simple(sql, None)?;
        let middle = Instant::now();
        let there = cluster.simple(sql, None);
        let timing = Timing { line: *line, plain: middle - start, cluster: middle.elapsed() };
        println!("{layout}: line {line}: plain {:.2?}, cluster {:.2?}", timing.plain, timing.cluster);
        timings.push(timing);
        let there = match there {
            Ok(there) => there,
            Err(error) => {
                report.differ(*line, sql, format!("cluster: {error}"));
                cluster = connect(&servers.coordinator)?;
                continue;
            }
        };
        compare(&mut report, *line, sql, &here, &there, expectation);
    }
    Ok((report, timings))
}

fn compare(
    report: &mut Report,
    line: usize,
    sql: &str,
    plain: &[Answer],
    cluster: &[Answer],
    expectation: &script::Expectation,
) {
    if let Some(error) = plain.iter().find_map(|answer| answer.error.as_ref()) {
        report.differ(line, sql, format!("plain: {} {}", error.code, error.message));
    }
    for (a, b) in plain.iter().zip(cluster) {
        if let Some(text) = super::compare::difference(a, b, expectation, &mut |_, _| None) {
            report.differ(line, sql, text);
        }
    }
}

fn bad(error: script::BadScript) -> io::Error {
    io::Error::other(error.to_string())
}

fn cluster_statements(text: &str) -> io::Result<Vec<String>> {
    let steps = script::parse(text).map_err(bad)?.steps;
    Ok(steps
        .into_iter()
        .filter_map(|step| match step {
            Step::Cluster { sql, .. } => Some(sql),
            _ => None,
        })
        .collect())
}

fn statements(text: &str) -> io::Result<Vec<Statement>> {
    let steps = script::parse(text).map_err(bad)?.steps;
    Ok(steps
        .into_iter()
        .filter_map(|step| match step {
            Step::Compare(statement) => Some(statement),
            _ => None,
        })
        .collect())
}
