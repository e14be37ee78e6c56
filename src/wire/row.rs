//! One row as it came over the wire: the bytes of a `DataRow` and where each column lies.
//!
//! A row shares the bytes of the block that was read from the socket, so keeping one row keeps its
//! whole block (some 64 kB): copy the values out of rows that are kept for long.

use crate::error::{Error, Result, sqlstate};
use bytes::Bytes;

/// A row of a result, text or binary per column as the statement asked.
#[derive(Clone, Debug)]
pub struct Row {
    body: Bytes,
    columns: Vec<Column>,
}

/// Room for the columns of a row, to be used again for the next one.
#[derive(Debug, Default)]
pub struct Room(Vec<Column>);

/// Where a column's bytes lie in the body; `NULL` starts at `u32::MAX`.
#[derive(Clone, Copy, Debug)]
struct Column {
    start: u32,
    end: u32,
}

impl Row {
    /// Takes apart the body of a `DataRow` (without tag and length). 08P01 if it is malformed.
    pub fn parse(body: Bytes) -> Result<Row> {
        Row::parse_into(body, &mut Room::default())
    }

    /// As [`Row::parse`], with room that another row has left ([`Row::into_room`]).
    pub fn parse_into(body: Bytes, room: &mut Room) -> Result<Row> {
        let count = body.first_chunk::<2>().map(|b| u16::from_be_bytes(*b)).ok_or_else(malformed)?;
        let mut columns = std::mem::take(&mut room.0);
        columns.clear();
        columns.reserve(usize::from(count));
        let mut at = 2;
        for _ in 0..count {
            let length = body
                .get(at..)
                .and_then(|rest| rest.first_chunk::<4>())
                .map(|b| i32::from_be_bytes(*b))
                .ok_or_else(malformed)?;
            at += 4;
            if length < 0 {
                columns.push(Column { start: u32::MAX, end: u32::MAX });
                continue;
            }
            let end = at + length as usize;
            if end > body.len() {
                return Err(malformed());
            }
            columns.push(Column { start: at as u32, end: end as u32 });
            at = end;
        }
        if at != body.len() {
            return Err(malformed());
        }
        Ok(Row { body, columns })
    }

    /// The number of columns.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// Whether the row has no columns, as `SELECT FROM t` returns them.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// The bytes of column `i` (0-based); `None` is NULL, or a column that the row does not have.
    pub fn get(&self, i: usize) -> Option<&[u8]> {
        let column = self.columns.get(i)?;
        self.body.get(column.start as usize..column.end as usize)
    }

    /// What the next row can use.
    pub fn into_room(self) -> Room {
        Room(self.columns)
    }
}

fn malformed() -> Error {
    Error::new(sqlstate::PROTOCOL_VIOLATION, "malformed message: row data does not add up")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(columns: &[Option<&[u8]>]) -> Vec<u8> {
        let mut bytes = (columns.len() as u16).to_be_bytes().to_vec();
        for column in columns {
            match column {
                None => bytes.extend((-1i32).to_be_bytes()),
                Some(value) => {
                    bytes.extend((value.len() as i32).to_be_bytes());
                    bytes.extend(*value);
                }
            }
        }
        bytes
    }

    #[test]
    fn columns_come_back_as_they_were_sent() {
        let sent: [Option<&[u8]>; 4] = [Some(b"abc"), None, Some(b""), Some(b"\x00\xff")];
        let row = Row::parse(body(&sent).into()).unwrap();
        assert_eq!(row.len(), 4);
        for (i, value) in sent.iter().enumerate() {
            assert_eq!(row.get(i), *value);
        }
        assert_eq!(row.get(4), None);
        assert!(Row::parse(body(&[]).into()).unwrap().is_empty());
    }

    #[test]
    fn a_body_that_does_not_add_up_is_refused() {
        let whole = body(&[Some(b"abc"), None]);
        for cut in 0..whole.len() {
            assert!(Row::parse(Bytes::copy_from_slice(&whole[..cut])).is_err());
        }
        let mut longer = whole.clone();
        longer.push(0);
        assert!(Row::parse(longer.into()).is_err());
    }
}
