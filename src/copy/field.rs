//! The shard key of a record of text or CSV.
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

/// Where the first field ends, if there is one behind it, and whether it has escapes.
fn text_field(rest: &[u8], delimiter: u8) -> (Option<usize>, bool) {
    let mut at = 0;
    let mut escaped = false;
    while let Some(found) = rest.get(at..).and_then(|rest| memchr2(delimiter, b'\\', rest)) {
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
