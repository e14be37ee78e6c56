//! A statement's own words within the string that the client sent.
//!
//! `"CREATE TABLE a (); ALTER TABLE b ADD UNIQUE (x)"`: the second statement is the part at its
//! location; the nodes get it with the constraint name that the coordinator chose:
//! `ALTER TABLE b ADD CONSTRAINT "b_x_key" UNIQUE (x)`. Offsets are bytes, as in Postgres's parse tree,
//! and belong to the whole string until [`Words::cut`] has made them the statement's own.

use crate::catalog::quote_identifier;

/// One statement, and where it begins in the client's string.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    pub text: String,
    start: usize,
}

impl Words {
    /// The statement at `location` (`-1`: unknown, then everything) of `length` bytes (0: to the end).
    pub fn cut(source: &str, location: i32, length: i32) -> Words {
        let start = usize::try_from(location).unwrap_or(0).min(source.len());
        let end = match usize::try_from(length) {
            Ok(length) if length > 0 => (start + length).min(source.len()),
            _ => source.len(),
        };
        let text = source.get(start..end).unwrap_or(source);
        Words { text: text.trim_end_matches(|c: char| c == ';' || c.is_whitespace()).to_owned(), start }
    }

    /// The offset in `text` of a parse location, if it lies there on a character's border.
    fn offset(&self, location: i32) -> Option<usize> {
        let at = usize::try_from(location).ok()?.checked_sub(self.start)?;
        self.text.is_char_boundary(at).then_some(at)
    }

    /// With `CONSTRAINT name` before each constraint that was written without one.
    ///
    /// `names` pairs the location of the constraint's first word with the name.
    pub fn with_constraint_names(&self, names: &[(i32, String)]) -> String {
        let mut places: Vec<(usize, &str)> =
            names.iter().filter_map(|(l, n)| Some((self.offset(*l)?, n.as_str()))).collect();
        places.sort_unstable();
        let mut out = String::with_capacity(self.text.len() + 32 * places.len());
        let mut done = 0;
        for (at, name) in places {
            out.push_str(&self.text[done..at]);
            out.push_str(&format!("CONSTRAINT {} ", quote_identifier(name)));
            done = at;
        }
        out.push_str(&self.text[done..]);
        out
    }

    /// Without the `ONLY` in front of the table whose name is at `name_location`.
    ///
    /// `None` if it is not found as a word of its own right before the name (it stands in
    /// parentheses, or a comment intervenes).
    pub fn without_only(&self, name_location: i32) -> Option<Words> {
        let name = self.offset(name_location)?;
        let before = self.text[..name].trim_end();
        let only = before.len().checked_sub(4)?;
        if !before.get(only..)?.eq_ignore_ascii_case("only") || !before[..only].ends_with(char::is_whitespace) {
            return None;
        }
        let mut text = self.text.clone();
        text.replace_range(only..only + 4, "    ");
        Some(Words { text, start: self.start })
    }
}

/// A list of SQL names or clauses, comma-separated.
pub fn commas<S: AsRef<str>>(parts: impl IntoIterator<Item = S>) -> String {
    let mut out = String::new();
    for part in parts {
        if !out.is_empty() {
            out.push_str(", ");
        }
        out.push_str(part.as_ref());
    }
    out
}

/// A type's name as `CREATE` would quote it, from pieces that may be qualified.
pub fn dotted<S: AsRef<str>>(parts: impl IntoIterator<Item = S>) -> String {
    let mut out = String::new();
    for part in parts {
        if !out.is_empty() {
            out.push('.');
        }
        out.push_str(&quote_identifier(part.as_ref()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_cut_out_of_several() {
        let all = "SELECT 1; ALTER TABLE \u{e9} ADD x int ; SELECT 2";
        let length = all.rfind(';').unwrap() - 9;
        assert_eq!(Words::cut(all, 9, length as i32).text, " ALTER TABLE \u{e9} ADD x int");
        assert_eq!(Words::cut(all, -1, 0).text, all);
        assert_eq!(Words::cut("VACUUM;", 0, 0).text, "VACUUM");
    }

    #[test]
    fn names_are_put_before_the_constraints_words() {
        let all = "SELECT 1; ALTER TABLE b ADD UNIQUE (x), ADD c int CHECK (c > 0)";
        let words = Words::cut(all, 10, 0);
        let (unique, check) = (all.find("UNIQUE").unwrap() as i32, all.find("CHECK").unwrap() as i32);
        assert_eq!(
            words.with_constraint_names(&[(check, "b_c_check".into()), (unique, "b\"x".into())]),
            "ALTER TABLE b ADD CONSTRAINT \"b\"\"x\" UNIQUE (x), ADD c int CONSTRAINT \"b_c_check\" CHECK (c > 0)"
        );
        assert_eq!(words.with_constraint_names(&[(3, "elsewhere".into())]), words.text);
    }

    #[test]
    fn only_is_blanked() {
        let words = Words::cut("alter table Only\n b add x int", 0, 0);
        assert_eq!(words.without_only(18).unwrap().text, "alter table     \n b add x int");
        assert_eq!(Words::cut("alter table only (b) add x int", 0, 0).without_only(18), None);
        assert_eq!(Words::cut("alter table lonely add x int", 0, 0).without_only(18), None);
    }
}
