//! The records that nodes may still complain of, for what COPY says of a faulty one.
//!
//! A node that gets a record in binary names its line and column, but has no text to show:
//!
//! ```
//! use sharding::copy::{Style, recent::Recent};
//! let style = Style { delimiter: b'\t', null: b"\\N".to_vec(), csv: None };
//! let mut recent = Recent::new(style, vec!["id".into(), "v".into()], 1000);
//! recent.keep(b"1\ta\n2\tb\\tc\n", [(1, 0..3), (2, 4..10)].into_iter());
//! assert_eq!(recent.complete("COPY t, line 2, column v", "COPY t, line ", true), "COPY t, line 2, column v: \"b\tc\"");
//! assert_eq!(recent.complete("COPY t, line 1", "COPY t, line ", true), "COPY t, line 1: \"1\ta\"");
//! ```

use crate::copy::field::{Fields, Taken};
use crate::copy::{Style, line_map::line_in};
use std::collections::VecDeque;
use std::ops::Range;

/// Bytes of a text that are shown.
const SHOWN: usize = 100;

/// The last pieces of the input; see the module's text.
#[derive(Debug)]
pub struct Recent {
    style: Style,
    columns: Vec<String>,
    most: usize,
    size: usize,
    pieces: VecDeque<Piece>,
}

#[derive(Debug, Default)]
struct Piece {
    bytes: Vec<u8>,
    /// The last line of each record, and where it is, without its newline.
    records: Vec<(u64, Range<usize>)>,
}

impl Recent {
    /// Keeps at most so many bytes, and always the last piece.
    pub fn new(style: Style, columns: Vec<String>, most: usize) -> Recent {
        Recent { style, columns, most, size: 0, pieces: VecDeque::new() }
    }

    /// Adds a piece of the input with its records.
    pub fn keep(&mut self, bytes: &[u8], records: impl Iterator<Item = (u64, Range<usize>)>) {
        let mut piece = Piece::default();
        while self.size + bytes.len() > self.most
            && let Some(oldest) = self.pieces.pop_front()
        {
            self.size -= oldest.bytes.len();
            piece = oldest;
        }
        piece.bytes.clear();
        piece.bytes.extend_from_slice(bytes);
        piece.records.clear();
        piece.records.extend(records);
        self.size += bytes.len();
        self.pieces.push_back(piece);
    }

    /// A CONTEXT with the text of the value, where a line of it names line and column, or of the record, if that is wanted,
    /// where it names the line only.
    pub fn complete(&self, context: &str, prefix: &str, with_record: bool) -> String {
        let completed = |text: &str| self.text_of(text, prefix, with_record).unwrap_or_else(|| text.to_string());
        context.lines().map(completed).collect::<Vec<_>>().join("\n")
    }

    fn text_of(&self, text: &str, prefix: &str, with_record: bool) -> Option<String> {
        let rest = text.strip_prefix(prefix)?.trim_start_matches(|c: char| c.is_ascii_digit());
        let record = self.record(line_in(text, prefix)?)?;
        if rest.is_empty() {
            return with_record.then(|| format!("{text}: {}", shown(record)));
        }
        let column = rest.strip_prefix(", column ")?;
        let index = self.columns.iter().position(|name| name == column)?;
        let (mut fields, mut value) = (Fields::new(&self.style, record), Vec::new());
        for _ in 0..index {
            fields.next(&mut value)?;
        }
        let value = match fields.next(&mut value)? {
            Taken::Null => "null input".to_string(),
            Taken::Slice(value) => shown(value),
            Taken::Decoded => shown(&value),
        };
        Some(format!("{text}: {value}"))
    }

    /// The record with this line, if it is there still.
    fn record(&self, line: u64) -> Option<&[u8]> {
        let last = |piece: &Piece| piece.records.last().map_or(0, |(line, _)| *line);
        let piece = self.pieces.get(self.pieces.partition_point(|piece| last(piece) < line))?;
        let is_first = self.pieces.front().is_some_and(|first| std::ptr::eq(first, piece));
        let index = piece.records.partition_point(|(last, _)| *last < line);
        // Of the first record that is kept nobody knows where its lines begin.
        let known = !is_first || index > 0 || piece.records.first().is_some_and(|(last, _)| *last == line);
        let (_, range) = piece.records.get(index).filter(|_| known)?;
        piece.bytes.get(range.clone())
    }
}

/// In quotes, and cut where it is long.
fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    match text.len() <= SHOWN {
        true => format!("\"{text}\""),
        false => format!("\"{}...\"", &text[..text.floor_char_boundary(SHOWN)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::Csv;

    const PREFIX: &str = "COPY t, line ";

    fn csv() -> Style {
        let csv = Csv { quote: b'"', escape: b'"', key_force_not_null: false, key_force_null: false };
        Style { delimiter: b',', null: Vec::new(), csv: Some(csv) }
    }

    #[test]
    fn old_pieces_are_forgotten() {
        let mut recent = Recent::new(csv(), vec!["a".into()], 6);
        for line in 1..=9u64 {
            recent.keep(format!("{line},\n").as_bytes(), std::iter::once((line, 0..2)));
        }
        assert_eq!(recent.pieces.len(), 2);
        for (line, text) in [(7, ""), (8, ": \"8,\""), (9, ": \"9,\""), (10, "")] {
            let context = format!("{PREFIX}{line}");
            assert_eq!(recent.complete(&context, PREFIX, true), format!("{context}{text}"));
        }
    }

    #[test]
    fn what_is_shown() {
        let mut recent = Recent::new(csv(), vec!["a".into(), "b".into()], 1000);
        let long = "é".repeat(70);
        let input = format!("1,\"x\ny\"\n2,\n3,{long}\n");
        let end = input.len() - 1;
        recent.keep(input.as_bytes(), [(2, 0..7), (3, 8..10), (4, 11..end)].into_iter());
        let column = |line: u64| recent.complete(&format!("{PREFIX}{line}, column b"), PREFIX, false);
        assert_eq!(column(2), "COPY t, line 2, column b: \"x\ny\"");
        assert_eq!(column(3), "COPY t, line 3, column b: null input");
        assert_eq!(column(4), format!("COPY t, line 4, column b: \"{}...\"", "é".repeat(50)));
        assert_eq!(recent.complete("COPY t, line 3", PREFIX, false), "COPY t, line 3");
        assert_eq!(recent.complete("COPY t, line 3, column c\nx", PREFIX, false), "COPY t, line 3, column c\nx");
    }
}
