//! Rows of results as the lines of COPY TO.
//!
//! ```
//! use sharding::copy::output::Output;
//! let output = Output { delimiter: b'\t', null: b"\\N".to_vec(), csv: None };
//! let row = b"\0\x03\0\0\0\x017\xff\xff\xff\xff\0\0\0\x03a\tb";    // the body of a DataRow: 7, NULL, a<tab>b
//! let mut sent = Vec::new();
//! output.write_row(row, &mut sent).unwrap();
//! assert_eq!(sent, b"d\0\0\0\x0e7\t\\N\ta\\tb\n");                 // a CopyData message
//! ```
//!
//! One message per row, as Postgres sends it. The values are in text already, in the encoding of the database, which is
//! the client's; no byte of a longer character is ASCII there.

/// How the lines are written; all marks are single bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    pub delimiter: u8,
    pub null: Vec<u8>,
    /// `None` is the text format.
    pub csv: Option<Marks>,
}

/// What CSV encloses values in, and puts in front of this and itself within them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    pub quote: u8,
    pub escape: u8,
}

/// A body that is not one of a `DataRow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Bytes that are looked through at once.
const CHUNK: usize = 32;

impl Output {
    /// Appends the message of a row, given as the body of its `DataRow` with all values in text.
    pub fn write_row(&self, body: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
        let (count, mut rest) = body.split_first_chunk::<2>().ok_or(Malformed)?;
        let count = u16::from_be_bytes(*count);
        out.push(b'd');
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        for field in 0..count {
            if field > 0 {
                out.push(self.delimiter);
            }
            let (length, behind) = rest.split_first_chunk::<4>().ok_or(Malformed)?;
            let length = i32::from_be_bytes(*length);
            if length < 0 {
                rest = behind;
                out.extend_from_slice(&self.null);
                continue;
            }
            let (value, behind) = behind.split_at_checked(length as usize).ok_or(Malformed)?;
            rest = behind;
            match self.csv {
                None => write_escaped(value, self.delimiter, out),
                Some(marks) => self.write_quoted(value, marks, count == 1, out),
            }
        }
        if !rest.is_empty() {
            return Err(Malformed);
        }
        out.push(b'\n');
        let length = (out.len() - start) as u32;
        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }

    fn write_quoted(&self, value: &[u8], marks: Marks, alone: bool, out: &mut Vec<u8>) {
        let is_special = |byte: u8| byte == self.delimiter || byte == marks.quote || byte == b'\n' || byte == b'\r';
        // What looks like NULL is quoted, and what would end the data.
        if first(value, is_special).is_none() && value != self.null && !(alone && value == b"\\.") {
            out.extend_from_slice(value);
            return;
        }
        out.push(marks.quote);
        for byte in value {
            if *byte == marks.quote || *byte == marks.escape {
                out.push(marks.escape);
            }
            out.push(*byte);
        }
        out.push(marks.quote);
    }
}

/// A value of the text format.
fn write_escaped(value: &[u8], delimiter: u8, out: &mut Vec<u8>) {
    let mut rest = value;
    while let Some(at) = first(rest, |byte| byte < 0x20 || byte == b'\\' || byte == delimiter) {
        out.extend_from_slice(&rest[..at]);
        let letter = match rest[at] {
            0x08 => b'b',
            0x0c => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x0b => b'v',
            byte => byte,
        };
        if letter != rest[at] || letter == b'\\' || letter == delimiter {
            out.push(b'\\');
        }
        out.push(letter);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// Where the first byte is of which `f` is true. `f` is asked of many at once, without branches.
fn first(value: &[u8], f: impl Fn(u8) -> bool) -> Option<usize> {
    let clean = |chunk: &&[u8]| !chunk.iter().fold(false, |any, byte| any | f(*byte));
    let start = value.chunks_exact(CHUNK).take_while(clean).count() * CHUNK;
    value[start..].iter().position(|byte| f(*byte)).map(|at| start + at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::{Csv, Style, reference};
    use proptest::prelude::*;

    fn body(values: &[Option<Vec<u8>>]) -> Vec<u8> {
        let mut body = (values.len() as u16).to_be_bytes().to_vec();
        for value in values {
            body.extend(value.as_ref().map_or(-1, |value| value.len() as i32).to_be_bytes());
            body.extend(value.iter().flatten());
        }
        body
    }

    fn line(output: &Output, values: &[Option<&str>]) -> String {
        let values: Vec<_> = values.iter().map(|value| value.map(|value| value.as_bytes().to_vec())).collect();
        let mut out = Vec::new();
        output.write_row(&body(&values), &mut out).unwrap();
        assert_eq!(u32::from_be_bytes(out[1..5].try_into().unwrap()) as usize, out.len() - 1);
        String::from_utf8(out[5..].to_vec()).unwrap()
    }

    #[test]
    fn marks_are_hidden() {
        let text = Output { delimiter: b'|', null: b"\\N".to_vec(), csv: None };
        assert_eq!(line(&text, &[Some("a|b\\"), None, Some("\t\x01\x7f\x0b")]), "a\\|b\\\\|\\N|\\t\x01\x7f\\v\n");
        assert_eq!(line(&text, &[]), "\n");
        let marks = Marks { quote: b'"', escape: b'\\' };
        let csv = Output { delimiter: b',', null: b"-".to_vec(), csv: Some(marks) };
        assert_eq!(line(&csv, &[Some("-"), None, Some("a\\b"), Some("\"\\")]), "\"-\",-,a\\b,\"\\\"\\\\\"\n");
        assert_eq!(line(&csv, &[Some("\\.")]), "\"\\\\.\"\n");
        assert_eq!(line(&csv, &[Some("\\."), Some("")]), "\\.,\n");
        let long = "a line that is longer than a short value\rand has no end";
        assert_eq!(line(&csv, &[Some(long)]), format!("\"{long}\"\n"));
    }

    #[test]
    fn bodies_that_do_not_add_up_are_refused() {
        let output = Output { delimiter: b'\t', null: Vec::new(), csv: None };
        let whole = body(&[Some(b"abc".to_vec()), None]);
        for end in 0..whole.len() {
            assert_eq!(output.write_row(&whole[..end], &mut Vec::new()), Err(Malformed));
        }
        assert_eq!(output.write_row(&[&whole[..], b"x"].concat(), &mut Vec::new()), Err(Malformed));
    }

    proptest! {
        #[test]
        fn a_reader_gets_the_values_back(
            values in proptest::collection::vec(proptest::option::of(proptest::collection::vec(prop_oneof![
                Just(b'\n'), Just(b'\r'), Just(b'\t'), Just(b'\\'), Just(b'.'), Just(b'"'), Just(b'\''), Just(b','),
                Just(b'N'), Just(b'a'), 1u8..=255,
            ], 0..24)), 1..4),
            which in 0..3,
        ) {
            let csv = |quote, escape| Some(Csv { quote, escape, key_force_not_null: false, key_force_null: false });
            let style = [
                Style { delimiter: b'\t', null: b"\\N".to_vec(), csv: None },
                Style { delimiter: b',', null: Vec::new(), csv: csv(b'"', b'"') },
                Style { delimiter: b',', null: b"N".to_vec(), csv: csv(b'\'', b'\\') },
            ][which as usize].clone();
            let marks = style.csv.map(|csv| Marks { quote: csv.quote, escape: csv.escape });
            let output = Output { delimiter: style.delimiter, null: style.null.clone(), csv: marks };
            let mut out = Vec::new();
            output.write_row(&body(&values), &mut out).unwrap();
            let record = out[5..].strip_suffix(b"\n").unwrap();
            prop_assert_eq!(reference::fields(&style, record), Some(values));
        }
    }
}
