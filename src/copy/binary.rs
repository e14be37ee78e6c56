//! The binary format cut into records, and the key of each.
//!
//! ```text
//! PGCOPY\n\xff\r\n\0  flags  extension | fields  length value  length value ... | ff ff
//! \---------------- header -----------/ \--------------- record ---------------/
//! ```
//!
//! ```
//! use sharding::copy::binary::{Step, next};
//! let row = [0, 1, 0, 0, 0, 2, b'h', b'i'];
//! assert_eq!(next(&row, false, 1, 0).unwrap(), Step::Record { end: 8, key: Some(6..8) });
//! assert_eq!(next(&row[..5], false, 1, 0).unwrap(), Step::More);
//! ```

use crate::copy::lines::malformed;
use crate::error::{Error, Result, SqlState};
use std::ops::Range;

/// What the data begin with.
pub const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
/// A header without extension.
pub const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What ends the data.
pub const TRAILER: &[u8] = &[0xff, 0xff];

/// What is at the start of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A record of that length, and where its key is; `None` is NULL.
    Record { end: usize, key: Option<Range<usize>> },
    /// Nothing can be said before there is more input.
    More,
    /// The trailer, or the input ends without one.
    End,
}

/// What is wrong, and in which field, if it is in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub message: String,
    pub field: Option<usize>,
}

/// The length of the header, or `None` before all of it is there.
pub fn header(input: &[u8], eof: bool) -> Result<Option<usize>> {
    let known = input.len().min(SIGNATURE.len());
    if input[..known] != SIGNATURE[..known] || (eof && known < SIGNATURE.len()) {
        return Err(malformed("COPY file signature not recognized"));
    }
    let Some(flags) = number(input, 11) else {
        return if eof { Err(malformed("invalid COPY file header (missing flags)")) } else { Ok(None) };
    };
    if flags & (1 << 16) != 0 {
        return Err(malformed("invalid COPY file header (WITH OIDS)"));
    }
    if flags >> 16 != 0 {
        return Err(malformed("unrecognized critical flags in COPY file header"));
    }
    let length = match number(input, 15) {
        Some(length) if length >= 0 => length as usize,
        None if !eof => return Ok(None),
        _ => return Err(malformed("invalid COPY file header (missing length)")),
    };
    match input.len() >= HEADER.len() + length {
        true => Ok(Some(HEADER.len() + length)),
        false if eof => Err(malformed("invalid COPY file header (wrong length)")),
        false => Ok(None),
    }
}

/// What is next: a record has `fields` fields, and the one at `key` is its key.
pub fn next(input: &[u8], eof: bool, fields: i16, key: usize) -> std::result::Result<Step, Fault> {
    let fault = |message: &str, field| Err(Fault { message: message.to_string(), field });
    let more = |field| if eof { fault("unexpected EOF in COPY data", Some(field)) } else { Ok(Step::More) };
    let Some(count) = input.first_chunk::<2>().map(|b| i16::from_be_bytes(*b)) else {
        // A missing trailer is no fault, a byte of one is none either: that is how Postgres reads it.
        return if eof { Ok(Step::End) } else { Ok(Step::More) };
    };
    if count == -1 {
        return Ok(Step::End);
    }
    if count != fields {
        return fault(&format!("row field count is {count}, expected {fields}"), None);
    }
    let mut at = 2;
    let mut found = None;
    for field in 0..usize::try_from(count).unwrap_or(0) {
        let Some(length) = number(input, at) else { return more(field) };
        at += 4;
        if length == -1 {
            continue;
        }
        if length < 0 {
            return fault("invalid field size", Some(field));
        }
        let end = at + length as usize;
        if end > input.len() {
            return more(field);
        }
        if field == key {
            found = Some(at..end);
        }
        at = end;
    }
    Ok(Step::Record { end: at, key: found })
}

fn number(input: &[u8], at: usize) -> Option<i32> {
    input.get(at..)?.first_chunk::<4>().map(|b| i32::from_be_bytes(*b))
}

/// What a value of the wrong length is called.
pub fn incorrect_value() -> Error {
    Error::new(SqlState::new("22P03"), "incorrect binary data format")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(fields: &[Option<Vec<u8>>]) -> Vec<u8> {
        let mut row = (fields.len() as i16).to_be_bytes().to_vec();
        for field in fields {
            row.extend(field.as_ref().map_or(-1, |f| f.len() as i32).to_be_bytes());
            row.extend(field.iter().flatten());
        }
        row
    }

    #[test]
    fn headers_are_checked() {
        assert_eq!(header(HEADER, false).unwrap(), Some(19));
        assert_eq!(header(&HEADER[..14], false).unwrap(), None);
        for bad in [&b""[..], b"PGCOPY\n\xff\r\n", b"1\t2\n", &HEADER[..15], b"PGCOPY\n\xff\r\n\0\0\x01\0\0\0\0\0\0"] {
            assert!(header(bad, true).is_err());
        }
        assert!(header(b"1\t2\n", false).is_err());
    }

    #[test]
    fn malformed_rows() {
        assert!(next(&row(&[None]), false, 2, 0).is_err());
        assert!(next(&[0, 1, 0xff, 0xff, 0xff, 0xfe], false, 1, 0).is_err());
        assert!(next(&[0, 1, 0], true, 1, 0).is_err());
        assert_eq!(next(TRAILER, false, 1, 0).unwrap(), Step::End);
    }

    proptest! {
        #[test]
        fn keys_are_found(
            fields in proptest::collection::vec(proptest::option::of(proptest::collection::vec(any::<u8>(), 0..9)), 1..5),
            key in 0usize..5,
            tail in any::<u8>(),
        ) {
            let key = key % fields.len();
            let mut bytes = row(&fields);
            let end = bytes.len();
            for known in 0..end {
                prop_assert_eq!(next(&bytes[..known], false, fields.len() as i16, key).unwrap(), Step::More);
            }
            bytes.push(tail);
            let Step::Record { end: found, key: range } = next(&bytes, false, fields.len() as i16, key).unwrap() else {
                panic!("a record");
            };
            prop_assert_eq!(found, end);
            prop_assert_eq!(range.map(|r| bytes[r].to_vec()), fields[key].clone());
        }
    }
}
