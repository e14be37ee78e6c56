//! Rows that arrived together: whole `DataRow` messages, one behind the other as they came over the wire.
//!
//! ```text
//! D length body | D length body | D length body      one piece of memory, cut only where somebody wants a single row
//! ```
//!
//! A run shares the memory of the block that was read from the socket. Who sends rows on sends the whole run; who decodes
//! them takes one body after the other.

use bytes::{Buf, Bytes, BytesMut};

/// Tag and length of a message.
pub const HEADER: usize = 5;

/// One or more rows; see the module's text.
#[derive(Clone, Debug)]
pub struct Run {
    messages: Bytes,
    rows: usize,
}

impl Run {
    /// `messages` are `rows` whole messages.
    pub fn new(messages: Bytes, rows: usize) -> Run {
        Run { messages, rows }
    }

    /// Takes the rows that are whole off what was read; `None` if there is none.
    pub fn split_from(input: &mut BytesMut) -> Option<Run> {
        let (mut end, mut rows) = (0, 0);
        while let Some(total) = message_length(&input[end..]).filter(|total| *total <= input.len() - end) {
            end += total;
            rows += 1;
        }
        (rows > 0).then(|| Run::new(input.split_to(end).freeze(), rows))
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The messages as they came.
    pub fn messages(&self) -> &[u8] {
        &self.messages
    }

    /// Takes the body of the first row off.
    pub fn pop(&mut self) -> Option<Bytes> {
        let total = self.first()?;
        let mut row = self.messages.split_to(total);
        row.advance(HEADER);
        self.rows = self.rows.saturating_sub(1);
        Some(row)
    }

    /// Takes the first rows off, at most so many.
    pub fn take(&mut self, most: usize) -> Run {
        if most >= self.rows {
            return std::mem::replace(self, Run::new(Bytes::new(), 0));
        }
        let end: usize = self.bodies().take(most).map(|body| HEADER + body.len()).sum();
        let taken = Run::new(self.messages.split_to(end), most);
        self.rows -= most;
        taken
    }

    /// The rows' bodies.
    pub fn bodies(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.messages();
        std::iter::from_fn(move || {
            let total = message_length(rest)?;
            let (message, behind) = rest.split_at_checked(total)?;
            rest = behind;
            message.get(HEADER..)
        })
    }

    fn first(&self) -> Option<usize> {
        message_length(&self.messages).filter(|total| (HEADER..=self.messages.len()).contains(total))
    }
}

/// Reads the rows of a run one after the other, where they lie: nothing is taken apart or counted.
#[derive(Debug, Default)]
pub struct Cursor {
    messages: Bytes,
    at: usize,
}

impl Cursor {
    pub fn new(run: Run) -> Cursor {
        Cursor { messages: run.messages, at: 0 }
    }

    /// The body of the next row; `None` behind the last one, whose memory is given back then.
    #[inline]
    pub fn next_body(&mut self) -> Option<&[u8]> {
        let start = self.at;
        let end = message_length(self.messages.get(start..)?).and_then(|total| start.checked_add(total));
        match end {
            Some(end) if end <= self.messages.len() => {
                self.at = end;
                self.messages.get(start + HEADER..end)
            }
            _ => {
                *self = Cursor::default();
                None
            }
        }
    }
}

/// The length of the message at the start, with its tag.
pub fn message_length(input: &[u8]) -> Option<usize> {
    let [_, length @ ..] = input.first_chunk::<HEADER>()?;
    Some(u32::from_be_bytes(*length) as usize + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(bodies: &[&[u8]]) -> Run {
        let mut messages = Vec::new();
        for body in bodies {
            messages.push(b'D');
            messages.extend((body.len() as u32 + 4).to_be_bytes());
            messages.extend(*body);
        }
        Run::new(messages.into(), bodies.len())
    }

    #[test]
    fn rows_are_taken_one_by_one_or_together() {
        let mut rows = run(&[b"a", b"", b"ccc", b"dd"]);
        assert_eq!(rows.bodies().collect::<Vec<_>>(), [&b"a"[..], b"", b"ccc", b"dd"]);
        assert_eq!(rows.pop().unwrap(), &b"a"[..]);
        let two = rows.take(2);
        assert_eq!((two.rows(), two.bodies().collect::<Vec<_>>()), (2, vec![&b""[..], b"ccc"]));
        assert_eq!(rows.rows(), 1);
        let rest = rows.take(10);
        assert_eq!((rest.rows(), rest.messages()), (1, &b"D\0\0\0\x06dd"[..]));
        assert_eq!(rows.rows(), 0);
        assert!(rows.pop().is_none());
    }

    #[test]
    fn a_cursor_reads_all_rows_in_place() {
        let mut cursor = Cursor::new(run(&[b"a", b"", b"ccc"]));
        for body in [&b"a"[..], b"", b"ccc"] {
            assert_eq!(cursor.next_body(), Some(body));
        }
        assert_eq!(cursor.next_body(), None);
        assert_eq!(cursor.next_body(), None);
        assert_eq!(Cursor::default().next_body(), None);
    }

    #[test]
    fn rows_are_taken_off_what_was_read_whole() {
        let all = run(&[b"one", b"", b"three"]);
        let mut input = BytesMut::from(all.messages());
        let last = input.split_off(input.len() - 1);
        let two = Run::split_from(&mut input).unwrap();
        assert_eq!((two.rows(), two.bodies().collect::<Vec<_>>()), (2, vec![&b"one"[..], b""]));
        assert!(Run::split_from(&mut input).is_none());
        input.unsplit(last);
        assert_eq!(Run::split_from(&mut input).unwrap().pop().unwrap(), &b"three"[..]);
        assert!(input.is_empty());
    }
}
