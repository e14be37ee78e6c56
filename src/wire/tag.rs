//! Command tags: how many rows a statement touched.
//!
//! `INSERT 0 5` and `UPDATE 5` mean five rows, `CREATE TABLE` none.

/// The row count at the end of a command tag; 0 for commands without one.
pub fn rows_affected(tag: &str) -> u64 {
    tag.rsplit(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::rows_affected;

    #[test]
    fn the_last_word_of_a_tag_counts_rows() {
        for (tag, rows) in [
            ("INSERT 0 5", 5),
            ("UPDATE 3", 3),
            ("SELECT 0", 0),
            ("COPY 18446744073709551615", u64::MAX),
            ("CREATE TABLE", 0),
            ("", 0),
        ] {
            assert_eq!(rows_affected(tag), rows, "{tag}");
        }
    }
}
