//! Records of text or CSV to records of binary COPY.
//!
//! ```
//! use sharding::copy::{Style, binary_form::Form, encode::Encoder};
//! let style = Style { delimiter: b'\t', null: b"\\N".to_vec(), csv: None };
//! let mut encoder = Encoder::new(style, vec![Form::Int2, Form::Text]);
//! let mut out = Vec::new();
//! assert!(encoder.record(b"7\tab", &mut out) && encoder.record(b"\\N\t", &mut out));
//! assert_eq!(out, *b"\0\x02\0\0\0\x02\0\x07\0\0\0\x02ab\0\x02\xff\xff\xff\xff\0\0\0\0");
//! assert!(!encoder.record(b"x\tab", &mut out));
//! ```
//!
//! What is malformed, or has a value that [`Form`] leaves to Postgres, is not converted: such a record goes to
//! the node as it is, which says what is wrong.

use crate::copy::Style;
use crate::copy::binary_form::Form;
use crate::copy::field::{Fields, Taken};
use memchr::memchr;

/// Converts the records of one COPY.
#[derive(Debug)]
pub struct Encoder {
    style: Style,
    forms: Vec<Form>,
    value: Vec<u8>,
}

impl Encoder {
    /// `forms`: the columns'.
    pub fn new(style: Style, forms: Vec<Form>) -> Encoder {
        Encoder { style, forms, value: Vec::new() }
    }

    /// Appends a record, which is UTF-8 without zero bytes, given without its newline; or says that it is not for here.
    pub fn record(&mut self, record: &[u8], out: &mut Vec<u8>) -> bool {
        let before = out.len();
        let done = self.written(record, out).is_some();
        if !done {
            out.truncate(before);
        }
        done
    }

    fn written(&mut self, record: &[u8], out: &mut Vec<u8>) -> Option<()> {
        out.extend_from_slice(&i16::try_from(self.forms.len()).ok()?.to_be_bytes());
        let mut fields = Fields::new(&self.style, record);
        for form in &self.forms {
            let length = out.len();
            out.extend_from_slice(&[0xff; 4]);
            let text = match fields.next(&mut self.value)? {
                Taken::Null => continue,
                Taken::Slice(text) => text,
                Taken::Decoded => {
                    // An escape may stand for any byte.
                    (str::from_utf8(&self.value).is_ok() && memchr(0, &self.value).is_none()).then_some(())?;
                    &self.value
                }
            };
            form.encode(text, out).then_some(())?;
            let size = i32::try_from(out.len() - length - 4).ok()?;
            out[length..length + 4].copy_from_slice(&size.to_be_bytes());
        }
        fields.is_at_end().then_some(())
    }
}

/// How much of an input is text that Postgres takes: UTF-8 without zero bytes.
pub fn valid_up_to(input: &[u8]) -> usize {
    let valid = str::from_utf8(input).map_or_else(|error| error.valid_up_to(), str::len);
    memchr(0, &input[..valid]).unwrap_or(valid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::{Csv, reference};
    use proptest::prelude::*;

    #[test]
    fn what_is_wrong_is_left_to_the_node() {
        let text = Style { delimiter: b'\t', null: b"\\N".to_vec(), csv: None };
        let csv = Csv { quote: b'"', escape: b'"', key_force_not_null: false, key_force_null: false };
        let csv = Style { delimiter: b',', null: Vec::new(), csv: Some(csv) };
        let mut out = Vec::new();
        for record in [&b"1"[..], b"1\ta\tb", b"", b"1\ta\rb", b"1\ta\\.b", b"1\t\\0", b"1\t\\xff", b"+1\ta"] {
            assert!(!Encoder::new(text.clone(), vec![Form::Int4, Form::Text]).record(record, &mut out), "{record:?}");
        }
        for record in [&b"1"[..], b"1,a,b", b"1,\"a", b"1,a\"b\"", b"1,\"a\"b", b"1,a\nb", b"\"x\",a"] {
            assert!(!Encoder::new(csv.clone(), vec![Form::Int4, Form::Text]).record(record, &mut out), "{record:?}");
        }
        assert!(out.is_empty());
        assert!(Encoder::new(csv, vec![Form::Int4, Form::Text]).record(b"\"1\",\"a\n\"\"b\"", &mut out));
        assert_eq!(out, *b"\0\x02\0\0\0\x04\0\0\0\x01\0\0\0\x04a\n\"b");
        assert_eq!((valid_up_to(b"ab\xffc"), valid_up_to(b"a\0\xff"), valid_up_to("é".as_bytes())), (2, 1, 2));
    }

    proptest! {
        #[test]
        fn fields_are_those_of_a_slow_reader(
            record in proptest::collection::vec(prop_oneof![
                Just(b'\\'), Just(b'"'), Just(b'\''), Just(b','), Just(b'|'), Just(b'a'), Just(b'x'), Just(b'7'),
                Just(b'N'), Just(b'n'), Just(b'\n'),
            ], 0..24),
            which in 0..3,
        ) {
            let text = Style { delimiter: b'|', null: b"\\N".to_vec(), csv: None };
            let csv = |quote, escape| {
                let csv = Csv { quote, escape, key_force_not_null: false, key_force_null: false };
                Style { delimiter: b',', null: Vec::new(), csv: Some(csv) }
            };
            let style = [text, csv(b'"', b'"'), csv(b'\'', b'\\')][which as usize].clone();
            let expected = reference::fields(&style, &record);
            for count in 1..6 {
                let mut out = Vec::new();
                if !Encoder::new(style.clone(), vec![Form::Text; count]).record(&record, &mut out) {
                    continue;
                }
                let expected = expected.clone().expect("a well-formed record");
                let mut made = (count as i16).to_be_bytes().to_vec();
                for field in &expected {
                    made.extend(field.as_ref().map_or(-1, |field| field.len() as i32).to_be_bytes());
                    made.extend(field.iter().flatten());
                }
                prop_assert_eq!(expected.len(), count);
                prop_assert_eq!(&out, &made);
            }
        }
    }
}
