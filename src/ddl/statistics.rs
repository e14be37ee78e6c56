//! The nodes' column statistics as one.
//!
//! Each node has analyzed its part of a table: node 1 says that of its 300 rows a third have
//! `country = 'de'`, node 2 that of its 100 rows all do. Together: half of 400. What can be weighted
//! by rows is; distinct values of the shard key add up, since no key is on two nodes; other columns
//! are taken to repeat their values everywhere, unless every node finds them nearly unique.
//! Histograms are merged by the weight of rows that each bucket stands for.

use std::cmp::Ordering;
use std::collections::HashMap;

/// Statistics of one column on one node, as in `pg_stats`; values as text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ColumnStatistics {
    /// Rows of the table there.
    pub rows: f64,
    pub null_fraction: f64,
    /// Bytes.
    pub width: f64,
    /// As `pg_stats.n_distinct`: a number, or minus a fraction of the rows.
    pub distinct: f64,
    /// Most common values with their frequencies.
    pub common: Vec<(String, f64)>,
    /// Bounds of buckets that hold equally many of the other values.
    pub histogram: Vec<String>,
    pub correlation: Option<f64>,
}

/// Whether a value of the column is on one node only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// The shard key.
    OnOneNode,
    Anywhere,
}

/// Distinct values are kept as a fraction if there are more of them than this part of the rows
/// (as in Postgres's analyze.c).
const FRACTION_FROM: f64 = 0.1;

/// One column's statistics over all nodes, but for the histogram ([`merged_histogram`]); `None`
/// without rows.
pub fn merged(parts: &[ColumnStatistics], values: Values) -> Option<ColumnStatistics> {
    let rows: f64 = parts.iter().map(|p| p.rows).sum();
    if rows <= 0.0 {
        return None;
    }
    let weighted = |of: &dyn Fn(&ColumnStatistics) -> f64| parts.iter().map(|p| p.rows * of(p)).sum::<f64>() / rows;
    let correlations: Vec<_> = parts.iter().filter_map(|p| Some((p.rows, p.correlation?))).collect();
    let correlated: f64 = correlations.iter().map(|(r, _)| r).sum();
    Some(ColumnStatistics {
        rows,
        null_fraction: weighted(&|p| p.null_fraction),
        width: weighted(&|p| p.width),
        distinct: merged_distinct(parts, rows, values),
        common: merged_common(parts, rows),
        histogram: Vec::new(),
        correlation: (correlated > 0.0).then(|| correlations.iter().map(|(r, c)| r * c).sum::<f64>() / correlated),
    })
}

fn merged_distinct(parts: &[ColumnStatistics], rows: f64, values: Values) -> f64 {
    let present: Vec<_> = parts.iter().filter(|p| p.rows > 0.0).collect();
    let count = |p: &ColumnStatistics| if p.distinct < 0.0 { -p.distinct * p.rows } else { p.distinct };
    let counts = present.iter().map(|p| count(p));
    let grows_with_rows = present.iter().all(|p| p.distinct < 0.0);
    let total: f64 = match values {
        Values::OnOneNode => counts.sum(),
        Values::Anywhere if grows_with_rows => counts.sum(),
        Values::Anywhere => counts.fold(0.0, f64::max),
    };
    if total > FRACTION_FROM * rows { -(total / rows).min(1.0) } else { total }
}

fn merged_common(parts: &[ColumnStatistics], rows: f64) -> Vec<(String, f64)> {
    let keep = parts.iter().map(|p| p.common.len()).max().unwrap_or(0);
    let mut sums: HashMap<&str, f64> = HashMap::new();
    for part in parts {
        for (value, frequency) in &part.common {
            *sums.entry(value).or_default() += part.rows * frequency / rows;
        }
    }
    let mut common: Vec<(String, f64)> = sums.into_iter().map(|(v, f)| (v.to_owned(), f)).collect();
    common.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    common.truncate(keep);
    common
}

/// The weight of one bucket of a node's histogram, in rows.
pub fn bucket_weight(part: &ColumnStatistics) -> f64 {
    let common: f64 = part.common.iter().map(|(_, f)| f).sum();
    let buckets = part.histogram.len().saturating_sub(1).max(1);
    part.rows * (1.0 - part.null_fraction - common).max(0.0) / buckets as f64
}

/// One histogram from the bounds of several, each with the weight of its buckets.
///
/// The result has as many bounds as the largest part, from the least to the greatest of all.
pub fn merged_histogram<T: Clone>(parts: &[(f64, Vec<T>)], compare: impl Fn(&T, &T) -> Ordering) -> Vec<T> {
    let bounds = parts.iter().map(|(_, b)| b.len()).max().unwrap_or(0);
    if bounds < 2 {
        return Vec::new();
    }
    // A part's first bound opens its first bucket; each other one closes a bucket.
    let mut points: Vec<(&T, f64)> = Vec::new();
    for (weight, part) in parts {
        points.extend(part.iter().enumerate().map(|(i, b)| (b, if i == 0 { 0.0 } else { *weight })));
    }
    points.sort_by(|a, b| compare(a.0, b.0));
    let total: f64 = points.iter().map(|(_, w)| w).sum();
    let mut out = Vec::with_capacity(bounds);
    let (mut next, mut passed) = (0, 0.0);
    for n in 0..bounds {
        let wanted = total * n as f64 / (bounds - 1) as f64;
        while next + 1 < points.len() && passed + points[next].1 < wanted - total * 1e-9 {
            passed += points[next].1;
            next += 1;
        }
        let point = if n + 1 == bounds { points.len() - 1 } else { next };
        out.push(points[point].0.clone());
    }
    out
}

/// The elements of an array's text, `{a,"b c",NULL}`; `None` if it is not of one dimension.
pub fn array_elements(text: &str) -> Option<Vec<String>> {
    let inner = text.strip_prefix('{')?.strip_suffix('}')?;
    let mut out = Vec::new();
    let mut chars = inner.chars().peekable();
    while chars.peek().is_some() {
        let mut element = String::new();
        if chars.next_if_eq(&'"').is_some() {
            loop {
                match chars.next()? {
                    '"' => break,
                    '\\' => element.push(chars.next()?),
                    c => element.push(c),
                }
            }
        } else {
            while let Some(c) = chars.next_if(|c| *c != ',') {
                match c {
                    '{' | '"' => return None,
                    '\\' => element.push(chars.next()?),
                    c => element.push(c),
                }
            }
        }
        out.push(element);
        match chars.next() {
            None => break,
            Some(',') if chars.peek().is_some() => {}
            _ => return None,
        }
    }
    Some(out)
}

/// The text of an array of these elements, none of them NULL.
pub fn array_text<S: AsRef<str>>(elements: impl IntoIterator<Item = S>) -> String {
    let quoted = elements
        .into_iter()
        .map(|e| format!("\"{}\"", e.as_ref().replace('\\', "\\\\").replace('"', "\\\"")))
        .collect::<Vec<_>>();
    format!("{{{}}}", quoted.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn part(rows: f64, distinct: f64, common: &[(&str, f64)]) -> ColumnStatistics {
        let common = common.iter().map(|(v, f)| ((*v).to_owned(), *f)).collect();
        ColumnStatistics { rows, distinct, common, width: 4.0, ..ColumnStatistics::default() }
    }

    #[test]
    fn frequencies_are_weighted_by_rows() {
        let parts = [part(300.0, 3.0, &[("de", 1.0 / 3.0)]), part(100.0, 1.0, &[("de", 1.0)])];
        let all = merged(&parts, Values::Anywhere).unwrap();
        assert_eq!(all.rows, 400.0);
        assert_eq!(all.common.len(), 1);
        assert!((all.common[0].1 - 0.5).abs() < 1e-9);
        assert_eq!(all.distinct, 3.0);
        assert_eq!(merged(&[part(0.0, 0.0, &[])], Values::Anywhere), None);
    }

    #[test]
    fn distinct_keys_add_up() {
        let parts = [part(1000.0, 20.0, &[]), part(1000.0, 30.0, &[])];
        assert_eq!(merged(&parts, Values::OnOneNode).unwrap().distinct, 50.0);
        assert_eq!(merged(&parts, Values::Anywhere).unwrap().distinct, 30.0);
        let unique = [part(1000.0, -1.0, &[]), part(500.0, -1.0, &[])];
        assert_eq!(merged(&unique, Values::Anywhere).unwrap().distinct, -1.0);
    }

    #[test]
    fn histograms_merge_by_weight() {
        let equal = [(1.0, vec![0, 10, 20, 30, 40]), (1.0, vec![0, 10, 20, 30, 40])];
        assert_eq!(merged_histogram(&equal, Ord::cmp), [0, 10, 20, 30, 40]);
        let apart = [(1.0, vec![0, 1, 2, 3, 4]), (3.0, vec![10, 11, 12, 13, 14])];
        let all = merged_histogram(&apart, Ord::cmp);
        assert_eq!((all[0], all[4]), (0, 14));
        assert!(all[2] >= 10, "most rows are in the second part: {all:?}");
    }

    proptest! {
        #[test]
        fn arrays_survive_text(elements in proptest::collection::vec(".*", 0..8)) {
            prop_assert_eq!(array_elements(&array_text(&elements)), Some(elements));
        }

        #[test]
        fn merged_histograms_are_sorted(a in proptest::collection::vec(0..1000i32, 2..20),
                                        b in proptest::collection::vec(0..1000i32, 2..20),
                                        w in 0.1..10.0f64) {
            let (mut a, mut b) = (a, b);
            a.sort();
            b.sort();
            let all = merged_histogram(&[(w, a.clone()), (1.0, b.clone())], Ord::cmp);
            prop_assert!(all.is_sorted());
            prop_assert_eq!(all.len(), a.len().max(b.len()));
            prop_assert_eq!(all[0], a[0].min(b[0]));
            prop_assert_eq!(all.last().copied(), a.last().copied().max(b.last().copied()));
        }
    }

    #[test]
    fn array_text_of_postgres_is_read() {
        assert_eq!(array_elements("{a,\"b, c\",\"d\\\"e\"}"), Some(vec!["a".into(), "b, c".into(), "d\"e".into()]));
        assert_eq!(array_elements("{}"), Some(vec![]));
        assert_eq!(array_elements("{{1,2},{3,4}}"), None);
    }
}
