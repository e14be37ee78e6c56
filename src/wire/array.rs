//! Arrays as they go over the wire, written one element after the other: no array is made here first.
//!
//! ```
//! use sharding::wire::array::Array;
//! let mut names = Array::textual(b',');
//! names.push(Some(b"a \"b\""));
//! names.push(None);
//! assert_eq!(names.finish(), br#"{"a \"b\"",NULL}"#);
//! ```
//!
//! The binary form (`array_send`, arrayfuncs.c): dimensions, whether there are NULLs, the elements' type; of the one
//! dimension its length and lower bound; each element's length, -1 for NULL, and bytes. No element, no dimension.

/// An array of one dimension in the making.
pub struct Array {
    form: Form,
    bytes: Vec<u8>,
    count: i32,
    has_nulls: bool,
}

enum Form {
    Binary { element: u32 },
    Text { delimiter: u8 },
}

const HEADER: usize = 20;

impl Array {
    /// Of elements in the binary form of the type with this OID.
    pub fn binary(element: u32) -> Array {
        Array { form: Form::Binary { element }, bytes: vec![0; HEADER], count: 0, has_nulls: false }
    }

    /// Of elements as text, of a type with this delimiter (`pg_type.typdelim`).
    pub fn textual(delimiter: u8) -> Array {
        Array { form: Form::Text { delimiter }, bytes: vec![b'{'], count: 0, has_nulls: false }
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds an element, or NULL.
    pub fn push(&mut self, value: Option<&[u8]>) {
        self.has_nulls |= value.is_none();
        match (&self.form, value) {
            (Form::Binary { .. }, Some(value)) => {
                self.bytes.extend_from_slice(&(value.len() as i32).to_be_bytes());
                self.bytes.extend_from_slice(value);
            }
            (Form::Binary { .. }, None) => self.bytes.extend_from_slice(&(-1i32).to_be_bytes()),
            (Form::Text { delimiter }, value) => {
                if self.count > 0 {
                    self.bytes.push(*delimiter);
                }
                match value {
                    Some(value) => quote(value, &mut self.bytes),
                    None => self.bytes.extend_from_slice(b"NULL"),
                }
            }
        }
        self.count += 1;
    }

    /// The value.
    pub fn finish(mut self) -> Vec<u8> {
        let Form::Binary { element } = self.form else {
            self.bytes.push(b'}');
            return self.bytes;
        };
        let dimensions = i32::from(self.count > 0);
        let words = [dimensions, i32::from(self.has_nulls), element as i32, self.count, 1];
        for (at, word) in words.into_iter().enumerate() {
            self.bytes[at * 4..at * 4 + 4].copy_from_slice(&word.to_be_bytes());
        }
        if self.count == 0 {
            self.bytes.truncate(12);
        }
        self.bytes
    }
}

fn quote(value: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in value {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_array_has_its_dimension_before_its_elements() {
        let mut array = Array::binary(23);
        array.push(Some(&7i32.to_be_bytes()));
        array.push(None);
        assert_eq!(
            array.finish(),
            [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 23, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 7, 255, 255, 255, 255]
        );
        assert_eq!(Array::binary(25).finish(), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 25]);
    }

    #[test]
    fn text_elements_are_always_quoted() {
        let mut array = Array::textual(b';');
        for value in [Some(&b""[..]), Some(b"NULL"), None, Some(b"a\\b\"c;{}")] {
            array.push(value);
        }
        assert_eq!(array.finish(), br#"{"";"NULL";NULL;"a\\b\"c;{}"}"#);
        assert_eq!(Array::textual(b',').finish(), b"{}");
    }
}
