//! Whether two servers' answers to one statement mean the same.
//!
//! Equal must be: the SQLSTATE; the command tag; names, types and modifiers of the columns; the
//! rows, as a multiset or in order; the lines of a COPY. Texts of messages may differ.
//!
//! Types of the tests' own (their OIDs differ between servers) are compared by name, which the caller
//! supplies.

use super::script::{Expectation, Values};
use super::session::{Answer, Column, Value};
use std::collections::BTreeMap;

/// Numbers count as equal under `@approx` if they differ by no more than this part of their size.
const TOLERANCE: f64 = 1e-9;

/// OIDs below this are the same on every server.
const FIRST_OWN_OID: u32 = 16384;

/// What differs between two answers, for a person to read; `None` if nothing.
pub fn difference(
    plain: &Answer,
    cluster: &Answer,
    expectation: &Expectation,
    type_names: &mut dyn FnMut(u32, u32) -> Option<(String, String)>,
) -> Option<String> {
    match (&plain.error, &cluster.error) {
        (None, None) => {}
        (Some(a), Some(b)) if a.code == b.code => return None,
        (a, b) => {
            let show = |error: &Option<_>| match error {
                None => "success".to_string(),
                Some(error) => show_error(error),
            };
            return Some(format!("plain:   {}\ncluster: {}", show(a), show(b)));
        }
    }
    if let Some(text) = column_difference(plain, cluster, expectation, type_names) {
        return Some(text);
    }
    if expectation.values == Values::ColumnsOnly {
        return None;
    }
    if plain.tag != cluster.tag {
        let show = |answer: &Answer| answer.tag.clone().unwrap_or_default();
        let rows = row_difference(&plain.rows, &cluster.rows, expectation).unwrap_or_default();
        return Some(format!("plain:   {}\ncluster: {}\n{rows}", show(plain), show(cluster)));
    }
    if expectation.values == Values::CountOnly {
        let counts = (plain.rows.len(), cluster.rows.len());
        return (counts.0 != counts.1).then(|| format!("plain:   {} rows\ncluster: {} rows", counts.0, counts.1));
    }
    let lines =
        |answer: &Answer| -> Vec<Vec<Value>> { answer.copied.iter().map(|line| vec![Some(line.clone())]).collect() };
    row_difference(&plain.rows, &cluster.rows, expectation)
        .or_else(|| row_difference(&lines(plain), &lines(cluster), expectation))
}

/// `23505 duplicate key ...` with detail and hint.
pub fn show_error(error: &super::session::ServerError) -> String {
    let mut text = format!("{} {}", error.code, error.message);
    for (label, more) in [("DETAIL", &error.detail), ("HINT", &error.hint)] {
        if !more.is_empty() {
            text.push_str(&format!(" | {label}: {more}"));
        }
    }
    text
}

fn column_difference(
    plain: &Answer,
    cluster: &Answer,
    expectation: &Expectation,
    type_names: &mut dyn FnMut(u32, u32) -> Option<(String, String)>,
) -> Option<String> {
    let show = |columns: &Option<Vec<Column>>| match columns {
        None => "no result columns".to_string(),
        Some(columns) => columns
            .iter()
            .map(|c| format!("{} (type {}, modifier {})", c.name, c.type_oid, c.typmod))
            .collect::<Vec<_>>()
            .join(", "),
    };
    let mut same_column = |a: &Column, b: &Column| {
        if a.name != b.name || a.typmod != b.typmod {
            return false;
        }
        if a.type_oid == b.type_oid || expectation.user_types {
            return true;
        }
        if a.type_oid < FIRST_OWN_OID || b.type_oid < FIRST_OWN_OID {
            return false;
        }
        type_names(a.type_oid, b.type_oid).is_none_or(|(a, b)| a == b)
    };
    let same = match (&plain.columns, &cluster.columns) {
        (None, None) => true,
        (Some(a), Some(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_column(a, b)),
        _ => false,
    };
    (!same).then(|| format!("plain:   {}\ncluster: {}", show(&plain.columns), show(&cluster.columns)))
}

/// What differs between two lists of rows; `None` if nothing.
pub fn row_difference(plain: &[Vec<Value>], cluster: &[Vec<Value>], expectation: &Expectation) -> Option<String> {
    if expectation.values == Values::Ordered {
        let mismatch = (0..plain.len().max(cluster.len()))
            .find(|&i| !same_row(plain.get(i), cluster.get(i), expectation.approx))?;
        let show = |rows: &[Vec<Value>]| match rows.get(mismatch) {
            None => "no row".to_string(),
            Some(row) => show_row(row),
        };
        return Some(format!(
            "row {} (of {}, {})\nplain:   {}\ncluster: {}",
            mismatch + 1,
            plain.len(),
            cluster.len(),
            show(plain),
            show(cluster),
        ));
    }
    let (mut only_plain, mut only_cluster) = multiset_difference(plain, cluster);
    if expectation.approx {
        only_plain.retain(|row| {
            let found = only_cluster.iter().position(|other| same_row(Some(row), Some(other), true));
            match found {
                None => true,
                Some(at) => {
                    only_cluster.swap_remove(at);
                    false
                }
            }
        });
    }
    if only_plain.is_empty() && only_cluster.is_empty() {
        return None;
    }
    let mut text = format!("{} rows, {} rows", plain.len(), cluster.len());
    for (label, rows) in [("plain:  ", only_plain), ("cluster:", only_cluster)] {
        for row in rows.iter().take(5) {
            text.push_str(&format!("\nonly in {label} {}", show_row(row)));
        }
        if rows.len() > 5 {
            text.push_str(&format!("\nonly in {label} ... {} in all", rows.len()));
        }
    }
    Some(text)
}

type Rows<'a> = Vec<&'a Vec<Value>>;

fn multiset_difference<'a>(plain: &'a [Vec<Value>], cluster: &'a [Vec<Value>]) -> (Rows<'a>, Rows<'a>) {
    let mut balance: BTreeMap<&Vec<Value>, i64> = BTreeMap::new();
    for row in plain {
        *balance.entry(row).or_default() += 1;
    }
    for row in cluster {
        *balance.entry(row).or_default() -= 1;
    }
    let (mut only_plain, mut only_cluster) = (Vec::new(), Vec::new());
    for (row, count) in balance {
        let side = if count > 0 { &mut only_plain } else { &mut only_cluster };
        for _ in 0..count.unsigned_abs() {
            side.push(row);
        }
    }
    (only_plain, only_cluster)
}

fn same_row(a: Option<&Vec<Value>>, b: Option<&Vec<Value>>, approx: bool) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a == b || approx && near(a, b)),
        (None, None) => true,
        _ => false,
    }
}

fn near(a: &Value, b: &Value) -> bool {
    let number = |value: &Value| value.as_ref().and_then(|text| text.parse::<f64>().ok());
    match (number(a), number(b)) {
        (Some(a), Some(b)) => (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()).max(1e-3),
        _ => false,
    }
}

fn show_row(row: &[Value]) -> String {
    let values: Vec<&str> = row.iter().map(|v| v.as_deref().unwrap_or("NULL")).collect();
    let text = format!("({})", values.join(", "));
    match text.char_indices().nth(400) {
        None => text,
        Some((at, _)) => format!("{}...", &text[..at]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(values: &[&str]) -> Answer {
        Answer {
            rows: values.iter().map(|v| vec![Some(v.to_string())]).collect(),
            tag: Some(format!("SELECT {}", values.len())),
            ..Answer::default()
        }
    }

    fn differ(plain: &[&str], cluster: &[&str], expectation: Expectation) -> bool {
        let mut names = |_, _| None;
        difference(&answer(plain), &answer(cluster), &expectation, &mut names).is_some()
    }

    #[test]
    fn order_counts_only_when_asked_for() {
        let ordered = Expectation { values: Values::Ordered, ..Expectation::default() };
        assert!(!differ(&["1", "2"], &["2", "1"], Expectation::default()));
        assert!(differ(&["1", "2"], &["2", "1"], ordered));
    }

    #[test]
    fn a_multiset_counts() {
        assert!(differ(&["1", "1", "2"], &["1", "2", "2"], Expectation::default()));
    }

    #[test]
    fn approx_forgives_the_last_digits() {
        let approx = Expectation { approx: true, ..Expectation::default() };
        assert!(!differ(&["0.30000000000000004"], &["0.3"], approx.clone()));
        assert!(differ(&["0.31"], &["0.3"], approx));
        assert!(differ(&["0.30000000000000004"], &["0.3"], Expectation::default()));
    }
}
