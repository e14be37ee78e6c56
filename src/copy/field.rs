//! The shard key of a record of text or CSV, and its fields one after the other.
//!
//! ```
//! use sharding::copy::{Key, Style, field::key};
//! let style = Style { delimiter: b'\t', null: b"\\N".to_vec(), csv: None };
//! let mut value = Vec::new();
//! assert_eq!(key(&style, b"1\ta\\tb\t3", 1, &mut value), Key::Value);
//! assert_eq!(value, b"a\tb");
//! assert_eq!(key(&style, b"1\t\\N", 1, &mut value), Key::Null);
//! assert_eq!(key(&style, b"1", 1, &mut value), Key::Malformed);
//! ```

use crate::copy::{Csv, Key, Style};
use memchr::{memchr, memchr2};

/// Appends field `index` (from 0) of a record, without its newline, to `value`. A value with a zero byte is
/// malformed: Postgres takes none in text.
pub fn key(style: &Style, record: &[u8], index: usize, value: &mut Vec<u8>) -> Key {
    let start = value.len();
    let key = match style.csv {
        None => text_key(style, record, index, value),
        Some(csv) => csv_key(style, &csv, record, index, value),
    };
    if key == Key::Value && memchr(0, &value[start..]).is_none() {
        return Key::Value;
    }
    value.truncate(start);
    if key == Key::Value { Key::Malformed } else { key }
}

fn text_key(style: &Style, record: &[u8], index: usize, value: &mut Vec<u8>) -> Key {
    let mut rest = record;
    for _ in 0..index {
        let Some(end) = text_field(rest, style.delimiter).0 else { return Key::Malformed };
        rest = &rest[end + 1..];
    }
    let (end, escaped) = text_field(rest, style.delimiter);
    let raw = &rest[..end.unwrap_or(rest.len())];
    if raw == style.null {
        return Key::Null;
    }
    if escaped {
        unescape(raw, value)
    } else {
        value.extend_from_slice(raw)
    }
    Key::Value
}

/// The first of two bytes in a text where it is mostly near: `memchr2` costs more to begin than a short field.
fn near(first: u8, second: u8, text: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let (words, _) = text.as_chunks::<8>();
    for (index, word) in words.iter().take(NEAR).enumerate() {
        let word = u64::from_le_bytes(*word);
        // The highest bit of each byte that is zero, and perhaps of some behind it.
        let zeros = |word: u64| word.wrapping_sub(ONES) & !word & (ONES << 7);
        let found = zeros(word ^ (ONES * u64::from(first))) | zeros(word ^ (ONES * u64::from(second)));
        if found != 0 {
            return Some(index * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let searched = words.len().min(NEAR) * 8;
    memchr2(first, second, &text[searched..]).map(|at| searched + at)
}

/// Words of eight bytes.
const NEAR: usize = 2;

/// Where the first field ends, if there is one behind it, and whether it has escapes.
fn text_field(rest: &[u8], delimiter: u8) -> (Option<usize>, bool) {
    let mut at = 0;
    let mut escaped = false;
    while let Some(found) = rest.get(at..).and_then(|rest| near(delimiter, b'\\', rest)) {
        at += found;
        if rest[at] == delimiter {
            return (Some(at), escaped);
        }
        escaped = true;
        at += 2;
    }
    (None, escaped)
}

/// A field of the text format in the clear.
fn unescape(raw: &[u8], value: &mut Vec<u8>) {
    let mut bytes = raw.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            value.push(byte);
            continue;
        }
        // A backslash at the end stands for nothing.
        let Some(next) = bytes.next() else { return };
        let mut number = |radix: u32, digits: usize| {
            let mut number = None;
            for _ in 0..digits {
                let Some(digit) = bytes.peek().and_then(|b| (*b as char).to_digit(radix)) else { break };
                number = Some(number.unwrap_or(0) * radix + digit);
                bytes.next();
            }
            number
        };
        value.push(match next {
            b'0'..=b'7' => {
                let first = u32::from(next - b'0');
                // Up to two more digits; how many there are decides the weight of the first.
                let mut all = first;
                for _ in 0..2 {
                    let Some(digit) = number(8, 1) else { break };
                    all = all * 8 + digit;
                }
                all as u8
            }
            b'x' => number(16, 2).map_or(b'x', |n| n as u8),
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 0x0b,
            other => other,
        });
    }
}

fn csv_key(style: &Style, csv: &Csv, record: &[u8], index: usize, value: &mut Vec<u8>) -> Key {
    let mut at = 0;
    for _ in 0..index {
        match csv_field(style.delimiter, csv, record, at, None) {
            Some(field) if field.end < record.len() => at = field.end + 1,
            _ => return Key::Malformed,
        }
    }
    let start = value.len();
    let Some(field) = csv_field(style.delimiter, csv, record, at, Some(value)) else { return Key::Malformed };
    // The marker is compared with the value in the clear: with its quotes it may be as long and still differ.
    let is_marker = value[start..] == style.null[..];
    let null = if field.quoted { csv.key_force_null && is_marker } else { is_marker && !csv.key_force_not_null };
    if null { Key::Null } else { Key::Value }
}

/// A field of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken<'a> {
    Null,
    /// It stands there in the clear.
    Slice(&'a [u8]),
    /// It is in the buffer that the caller gave.
    Decoded,
}

/// The fields of a record, without its newline, one after the other. What Postgres may refuse ends them: newlines outside of
/// quotes, `\.`, quotes in the middle of a field.
#[derive(Debug)]
pub struct Fields<'a> {
    style: &'a Style,
    /// What is left; `None` behind the last one.
    rest: Option<&'a [u8]>,
    has_newlines: bool,
}

impl<'a> Fields<'a> {
    pub fn new(style: &'a Style, record: &'a [u8]) -> Fields<'a> {
        let has_newlines = memchr2(b'\n', b'\r', record).is_some();
        Fields { style, rest: (style.csv.is_some() || !has_newlines).then_some(record), has_newlines }
    }

    /// Whether there are no more.
    pub fn is_at_end(&self) -> bool {
        self.rest.is_none()
    }

    /// The next one; `None` if there is none, or it is not for here.
    pub fn next(&mut self, value: &mut Vec<u8>) -> Option<Taken<'a>> {
        let rest = self.rest?;
        value.clear();
        let (end, taken) = match &self.style.csv {
            None => self.text(rest, value)?,
            Some(csv) if rest.first() == Some(&csv.quote) => self.quoted(csv, rest, value)?,
            Some(csv) => self.unquoted(csv, rest)?,
        };
        self.rest = end.map(|end| &rest[end + 1..]);
        Some(taken)
    }

    fn text(&self, rest: &'a [u8], value: &mut Vec<u8>) -> Option<(Option<usize>, Taken<'a>)> {
        let (end, escaped) = text_field(rest, self.style.delimiter);
        let raw = &rest[..end.unwrap_or(rest.len())];
        if raw == self.style.null {
            return Some((end, Taken::Null));
        }
        if !escaped {
            return Some((end, Taken::Slice(raw)));
        }
        let is_marker = raw.windows(2).any(|pair| pair == b"\\.");
        unescape(raw, value);
        (!is_marker).then_some((end, Taken::Decoded))
    }

    fn unquoted(&self, csv: &Csv, rest: &'a [u8]) -> Option<(Option<usize>, Taken<'a>)> {
        let end = near(self.style.delimiter, csv.quote, rest);
        let raw = &rest[..end.unwrap_or(rest.len())];
        if end.is_some_and(|end| rest[end] != self.style.delimiter)
            || self.has_newlines && memchr2(b'\n', b'\r', raw).is_some()
        {
            return None;
        }
        Some((end, if raw == self.style.null { Taken::Null } else { Taken::Slice(raw) }))
    }

    fn quoted(&self, csv: &Csv, rest: &'a [u8], value: &mut Vec<u8>) -> Option<(Option<usize>, Taken<'a>)> {
        let mut start = 1;
        let mut at = 1;
        loop {
            at += memchr2(csv.quote, csv.escape, &rest[at..])?;
            let next = rest.get(at + 1).copied();
            if rest[at] == csv.escape && next.is_some_and(|next| next == csv.escape || next == csv.quote) {
                value.extend_from_slice(&rest[start..at]);
                start = at + 1;
                at += 2;
            } else if rest[at] == csv.quote {
                break;
            } else {
                at += 1;
            }
        }
        let taken = match start {
            1 => Taken::Slice(&rest[1..at]),
            _ => {
                value.extend_from_slice(&rest[start..at]);
                Taken::Decoded
            }
        };
        match rest.get(at + 1) {
            None => Some((None, taken)),
            Some(byte) => (*byte == self.style.delimiter).then_some((Some(at + 1), taken)),
        }
    }
}

struct Field {
    /// Where its delimiter is, or the record ends.
    end: usize,
    quoted: bool,
}

/// Reads a field; `None` if a quote is not closed.
fn csv_field(delimiter: u8, csv: &Csv, record: &[u8], start: usize, mut value: Option<&mut Vec<u8>>) -> Option<Field> {
    let mut take = |bytes: &[u8]| {
        if let Some(value) = &mut value {
            value.extend_from_slice(bytes);
        }
    };
    let (mut at, mut quoted) = (start, false);
    loop {
        let Some(found) = memchr2(delimiter, csv.quote, &record[at..]) else {
            take(&record[at..]);
            return Some(Field { end: record.len(), quoted });
        };
        take(&record[at..at + found]);
        at += found;
        if record[at] == delimiter {
            return Some(Field { end: at, quoted });
        }
        quoted = true;
        at += 1;
        // Within quotes.
        loop {
            let found = memchr2(csv.quote, csv.escape, &record[at..])?;
            take(&record[at..at + found]);
            at += found;
            let byte = record[at];
            let next = record.get(at + 1).copied();
            at += 1;
            if byte == csv.escape && next.is_some_and(|n| n == csv.escape || n == csv.quote) {
                take(&record[at..at + 1]);
                at += 1;
            } else if byte == csv.quote {
                break;
            } else {
                take(&[byte]);
            }
        }
    }
}

/// A decimal number as it is mostly written: up to 18 digits with or without a minus, nothing around them. `None` is
/// for the type's own input function.
pub fn plain_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    let mut number = 0i64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number * 10 + i64::from(digit - b'0');
    }
    Some(if negative { -number } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::reference;
    use proptest::prelude::*;

    fn found(style: &Style, record: &[u8], index: usize) -> Option<Option<Vec<u8>>> {
        let mut value = b"before".to_vec();
        match key(style, record, index, &mut value) {
            Key::Null => Some(None),
            Key::Value => Some(Some(value.split_off(6))),
            Key::Malformed => None,
        }
    }

    fn csv(quote: u8, escape: u8, not_null: bool, null: bool) -> Style {
        let csv = Csv { quote, escape, key_force_not_null: not_null, key_force_null: null };
        Style { delimiter: b',', null: Vec::new(), csv: Some(csv) }
    }

    #[test]
    fn forced_nulls() {
        for (not_null, null, plain, quoted) in [
            (false, false, false, true),
            (true, false, true, true),
            (false, true, false, false),
            (true, true, true, false),
        ] {
            let style = csv(b'"', b'"', not_null, null);
            assert_eq!(found(&style, b"1,,2", 1).unwrap().is_some(), plain);
            assert_eq!(found(&style, b"1,\"\",2", 1).unwrap().is_some(), quoted);
        }
    }

    #[test]
    fn escapes_of_text() {
        let style = Style { delimiter: b'|', null: b"-".to_vec(), csv: None };
        let value = |record: &[u8]| found(&style, record, 0).unwrap().unwrap();
        assert_eq!(value(br"\x41\102C\n\q\xg\|"), b"ABC\nqxg|");
        assert_eq!(value(br"\1234"), b"S4");
        assert_eq!(value(b"a\\"), b"a");
        assert_eq!(found(&style, br"\0", 0), None);
        assert_eq!(found(&style, b"a|-|b", 1), Some(None));
    }

    #[test]
    fn what_is_near_and_what_is_far() {
        for length in 0..40 {
            for at in 0..length {
                let mut text = vec![b'a' + 1; length];
                text[at] = b'\\';
                text[length - 1] = b'a';
                assert_eq!(near(b'a', b'\\', &text), Some(at.min(length - 1)));
                assert_eq!(near(b'x', b'y', &text), None);
            }
        }
    }

    #[test]
    fn integers() {
        assert_eq!(plain_integer(b"-42"), Some(-42));
        assert_eq!(plain_integer(b"007"), Some(7));
        for other in [&b""[..], b"-", b" 1", b"1_0", b"1e3", b"1234567890123456789"] {
            assert_eq!(plain_integer(other), None);
        }
    }

    proptest! {
        #[test]
        fn fields_are_those_of_a_slow_reader(
            record in proptest::collection::vec(prop_oneof![
                Just(b'\\'), Just(b'"'), Just(b'\''), Just(b','), Just(b'|'), Just(b'a'), Just(b'x'), Just(b'7'),
                Just(b'N'), Just(b'n'),
            ], 0..24),
            which in 0..3,
            index in 0usize..4,
        ) {
            let text = Style { delimiter: b'|', null: b"\\N".to_vec(), csv: None };
            let style = [text, csv(b'"', b'"', false, false), csv(b'\'', b'\\', false, false)][which as usize].clone();
            let expected = reference::fields(&style, &record);
            let actual = found(&style, &record, index);
            // A quote that is not closed may be in a later field.
            if let Some(fields) = expected {
                prop_assert_eq!(actual, fields.get(index).cloned());
            }
        }
    }
}
