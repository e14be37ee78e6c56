//! Text and CSV cut into records.
//!
//! ```
//! use sharding::copy::{Marker, Style, lines::{Lines, Step}};
//! let style = Style { delimiter: b'\t', null: b"\\N".to_vec(), csv: None };
//! let mut lines = Lines::new(&style, Marker { ends_csv: true, may_follow_data: true });
//! let input = b"1\tone\n2\ttwo\n\\.\n";
//! let Ok(Step::Record(first)) = lines.next(input, true) else { panic!() };
//! assert_eq!((first.content, first.end), (5, 6));
//! ```
//!
//! A newline's style is that of the first line, as for Postgres. Records end where Postgres ends them if the input is
//! well-formed; what is not is still cut somewhere, and refused by the node, which knows the style from its first line.
//! The search for the end goes on where it stopped when more input arrives: a record of any length is read once.

use crate::copy::{Csv, Marker, Style};
use crate::error::{Error, Result, SqlState};
use memchr::{memchr, memchr_iter, memchr2, memchr3};

/// How lines end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Newline {
    Lf,
    Cr,
    CrLf,
}

impl Newline {
    /// The bytes.
    pub fn bytes(self) -> &'static [u8] {
        match self {
            Newline::Lf => b"\n",
            Newline::Cr => b"\r",
            Newline::CrLf => b"\r\n",
        }
    }

    /// The byte that a line ends with.
    fn last(self) -> u8 {
        if self == Newline::Cr { b'\r' } else { b'\n' }
    }
}

/// A record at the start of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its length without the newline.
    pub content: usize,
    /// Its length.
    pub end: usize,
    /// The lines that it takes.
    pub lines: u32,
    /// The lines as Postgres counts them where it does not know yet how lines end: in the first record.
    pub counted: u32,
}

const NOT_ALONE: &str = "end-of-copy marker is not alone on its line";

/// What is at the start of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Record(Record),
    /// Nothing can be said before there is more input.
    More,
    /// The end of the data; what follows is to be ignored.
    End,
}

/// Where records begin and end; see the module's text.
#[derive(Debug)]
pub struct Lines {
    csv: Option<Csv>,
    marker: Marker,
    newline: Option<Newline>,
    /// No record has ended yet.
    at_start: bool,
    /// How far the record at the start of the input has been searched.
    searched: usize,
    in_quotes: bool,
    /// `a\.` was the last record.
    ended: bool,
}

impl Lines {
    pub fn new(style: &Style, marker: Marker) -> Lines {
        Lines { csv: style.csv, marker, newline: None, at_start: true, searched: 0, in_quotes: false, ended: false }
    }

    /// How lines end; `Lf` as long as that is not known.
    pub fn newline(&self) -> Newline {
        self.newline.unwrap_or(Newline::Lf)
    }

    /// What is next. `input` starts where the last record ended; `eof`: nothing will follow it.
    pub fn next(&mut self, input: &[u8], eof: bool) -> Result<Step> {
        if self.ended || (input.is_empty() && eof) {
            return Ok(Step::End);
        }
        let step = match self.csv {
            None => self.text(input, eof),
            Some(csv) => self.quoted(&csv, input, eof),
        }?;
        if step != Step::More {
            self.at_start = false;
            self.searched = 0;
            self.in_quotes = false;
        }
        Ok(step)
    }

    fn text(&mut self, input: &[u8], eof: bool) -> Result<Step> {
        loop {
            let rest = &input[self.searched..];
            let found = match self.newline {
                None => memchr3(b'\r', b'\n', b'\\', rest),
                Some(newline) => memchr2(newline.last(), b'\\', rest),
            };
            let Some(at) = found.map(|at| self.searched + at) else {
                self.searched = input.len();
                return Ok(self.rest(input, eof));
            };
            if input[at] != b'\\' {
                self.searched = at;
                return Ok(self.end_at(input, at, eof));
            }
            match input.get(at + 1) {
                Some(b'.') => {
                    self.searched = at;
                    return self.marker(input, at, eof);
                }
                Some(_) => self.searched = at + 2,
                None if eof => {
                    self.searched = input.len();
                    return Ok(self.rest(input, eof));
                }
                None => {
                    self.searched = at;
                    return Ok(Step::More);
                }
            }
        }
    }

    fn quoted(&mut self, csv: &Csv, input: &[u8], eof: bool) -> Result<Step> {
        if self.marker.ends_csv && self.searched == 0 && !self.in_quotes && input.first() == Some(&b'\\') {
            match self.csv_marker(input, eof)? {
                Some(step) => return Ok(step),
                None => self.searched = 0,
            }
        }
        loop {
            let rest = &input[self.searched..];
            if self.in_quotes {
                let found = if csv.escape == csv.quote {
                    memchr(csv.quote, rest)
                } else {
                    memchr2(csv.quote, csv.escape, rest)
                };
                let Some(at) = found.map(|at| self.searched + at) else {
                    self.searched = input.len();
                    return Ok(self.rest(input, eof));
                };
                if input[at] == csv.quote {
                    self.in_quotes = false;
                    self.searched = at + 1;
                    continue;
                }
                match input.get(at + 1) {
                    Some(next) if *next == csv.quote || *next == csv.escape => self.searched = at + 2,
                    Some(_) => self.searched = at + 1,
                    None => {
                        self.searched = at;
                        return Ok(if eof { self.rest(input, eof) } else { Step::More });
                    }
                }
                continue;
            }
            let found = match self.newline {
                None => memchr3(b'\r', b'\n', csv.quote, rest),
                Some(newline) => memchr2(newline.last(), csv.quote, rest),
            };
            let Some(at) = found.map(|at| self.searched + at) else {
                self.searched = input.len();
                return Ok(self.rest(input, eof));
            };
            if input[at] == csv.quote {
                self.in_quotes = true;
                self.searched = at + 1;
                continue;
            }
            self.searched = at;
            return Ok(self.end_at(input, at, eof));
        }
    }

    /// A newline is at `at`.
    fn end_at(&mut self, input: &[u8], at: usize, eof: bool) -> Step {
        if self.newline.is_none() {
            self.newline = Some(match (input[at], input.get(at + 1)) {
                (b'\n', _) => Newline::Lf,
                (_, Some(b'\n')) => Newline::CrLf,
                (_, None) if !eof => return Step::More,
                _ => Newline::Cr,
            });
        }
        let newline = self.newline();
        let end = if newline == Newline::CrLf && input[at] == b'\r' { at + 2 } else { at + 1 };
        // In an input of CR LF, an LF alone is for the node to refuse.
        let content = if newline == Newline::CrLf { input[..end].strip_suffix(b"\r\n") } else { Some(&input[..at]) };
        self.record(input, content.map_or(end - 1, <[u8]>::len), end)
    }

    /// What is left is the last record if the input is at its end.
    fn rest(&self, input: &[u8], eof: bool) -> Step {
        if eof { self.record(input, input.len(), input.len()) } else { Step::More }
    }

    fn record(&self, input: &[u8], content: usize, end: usize) -> Step {
        let quoted = self.csv.is_some_and(|csv| memchr(csv.quote, &input[..content]).is_some());
        // Lines within quotes are counted by the byte that ends lines, CR for CR LF.
        let count = |byte| if quoted { 1 + memchr_iter(byte, &input[..content]).count() as u32 } else { 1 };
        let lines = count(if self.newline() == Newline::Lf { b'\n' } else { b'\r' });
        let counted = if self.at_start { count(b'\r') } else { lines };
        Step::Record(Record { content, end, lines, counted })
    }

    /// `\.` is at `at` of a text.
    fn marker(&mut self, input: &[u8], at: usize, eof: bool) -> Result<Step> {
        let after = &input[at + 2..];
        if after.len() < 2 && !eof {
            return Ok(Step::More);
        }
        self.check_marker(after)?;
        if at == 0 {
            return Ok(Step::End);
        }
        if !self.marker.may_follow_data {
            return Err(malformed(NOT_ALONE));
        }
        self.ended = true;
        Ok(Step::Record(Record { content: at, end: at, lines: 1, counted: 1 }))
    }

    fn check_marker(&self, after: &[u8]) -> Result<()> {
        let style = "end-of-copy marker does not match previous newline style";
        match (self.newline, after) {
            (None, [b'\r' | b'\n', ..]) | (Some(Newline::CrLf), [b'\r', b'\n', ..]) => Ok(()),
            (Some(Newline::Lf), [b'\n', ..]) | (Some(Newline::Cr), [b'\r', ..]) => Ok(()),
            (_, [b'\r' | b'\n', ..]) => Err(malformed(style)),
            _ if self.marker.may_follow_data => Err(malformed("end-of-copy marker corrupt")),
            _ => Err(malformed(NOT_ALONE)),
        }
    }

    /// A line that begins with a backslash: `None` if it is not the marker.
    fn csv_marker(&self, input: &[u8], eof: bool) -> Result<Option<Step>> {
        if input.len() < 4 && !eof {
            return Ok(Some(Step::More));
        }
        let [b'\\', b'.', after @ ..] = input else { return Ok(None) };
        let ends = match self.newline {
            None => matches!(after, [b'\r' | b'\n', ..]),
            Some(Newline::CrLf) => matches!(after, [b'\r', b'\r' | b'\n', ..]),
            Some(_) => matches!(after, [b'\r' | b'\n', ..]),
        };
        if !ends {
            return Ok(None);
        }
        self.check_marker(after)?;
        Ok(Some(Step::End))
    }
}

/// SQLSTATE 22P04.
pub fn malformed(message: &str) -> Error {
    Error::new(SqlState::new("22P04"), message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::reference;
    use proptest::prelude::*;

    const MARKER: Marker = Marker { ends_csv: true, may_follow_data: true };

    /// All records, the input arriving in pieces of `piece` bytes.
    fn cut(style: &Style, input: &[u8], piece: usize) -> Result<Vec<(Vec<u8>, u32)>> {
        let mut lines = Lines::new(style, MARKER);
        let (mut start, mut known, mut records) = (0, 0, Vec::new());
        loop {
            let eof = known == input.len();
            match lines.next(&input[start..known], eof)? {
                Step::Record(record) => {
                    records.push((input[start..start + record.content].to_vec(), record.lines));
                    start += record.end;
                }
                Step::More => {
                    assert!(!eof, "more than all of {input:?}");
                    known = input.len().min(known + piece);
                }
                Step::End => return Ok(records),
            }
        }
    }

    fn text() -> Style {
        Style { delimiter: b'\t', null: b"\\N".to_vec(), csv: None }
    }

    fn csv(quote: u8, escape: u8) -> Style {
        let csv = Csv { quote, escape, key_force_not_null: false, key_force_null: false };
        Style { delimiter: b',', null: Vec::new(), csv: Some(csv) }
    }

    #[test]
    fn quotes_and_escapes_hide_newlines() {
        let records = |style: &Style, input: &[u8]| {
            let records = cut(style, input, 1000).unwrap();
            records.into_iter().map(|(r, n)| (String::from_utf8(r).unwrap(), n)).collect::<Vec<_>>()
        };
        let all = |expected: &[(&str, u32)]| expected.iter().map(|(r, n)| (r.to_string(), *n)).collect::<Vec<_>>();
        assert_eq!(records(&text(), b"a\\\nb\nc"), all(&[("a\\\nb", 1), ("c", 1)]));
        assert_eq!(records(&text(), b"a\r\nb\r\n\\.\r\nc"), all(&[("a", 1), ("b", 1)]));
        assert_eq!(records(&text(), b"a\nb\\.\nc"), all(&[("a", 1), ("b", 1)]));
        assert_eq!(records(&csv(b'"', b'"'), b"a,\"b\nc\"\n\\.x\n"), all(&[("a,\"b\nc\"", 2), ("\\.x", 1)]));
        assert_eq!(records(&csv(b'\'', b'\\'), b"'\\'\n'\nx\n"), all(&[("'\\'\n'", 2), ("x", 1)]));
        assert!(cut(&text(), b"a\n\\.x\n", 1000).is_err());
        assert!(cut(&text(), b"a\n\\.", 1000).is_err());
        assert!(cut(&text(), b"a\n\\.\r\n", 1000).is_err());
    }

    proptest! {
        #[test]
        fn records_are_those_of_a_slow_reader(
            input in proptest::collection::vec(prop_oneof![
                Just(b'\n'), Just(b'\n'), Just(b'\\'), Just(b'.'), Just(b'"'), Just(b'\''), Just(b','), Just(b'a'),
            ], 0..40),
            carriage in 0..3,
            piece in 1usize..9,
            which in 0..3,
        ) {
            // One style of newlines per input.
            let newline: &[u8] = [&b"\n"[..], b"\r", b"\r\n"][carriage as usize];
            let mut bytes = Vec::new();
            for byte in input {
                if byte == b'\n' { bytes.extend_from_slice(newline) } else { bytes.push(byte) }
            }
            let style = [text(), csv(b'"', b'"'), csv(b'\'', b'\\')][which as usize].clone();
            let expected = reference::records(&style, &bytes);
            match (cut(&style, &bytes, piece), expected) {
                (Ok(records), Some(expected)) => {
                    let records: Vec<Vec<u8>> = records.into_iter().map(|(record, _)| record).collect();
                    prop_assert_eq!(records, expected);
                }
                // A newline of another style, of which the slow reader says so at once and ours leaves it to the node.
                (Ok(_), None) | (Err(_), None) => {}
                (Err(error), Some(expected)) => prop_assert!(false, "{error}, not {expected:?}"),
            }
        }
    }
}
