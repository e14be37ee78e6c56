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

/// The columns of a row from the first to the last, read where they lie.
#[derive(Debug)]
pub struct Columns<'a> {
    rest: &'a [u8],
    left: u16,
}

impl<'a> Columns<'a> {
    /// Those of the body of a `DataRow`. 08P01 if it is malformed, here as below.
    #[inline]
    pub fn of(body: &'a [u8]) -> Result<Columns<'a>> {
        let (count, rest) = body.split_first_chunk::<2>().ok_or_else(malformed)?;
        Ok(Columns { rest, left: u16::from_be_bytes(*count) })
    }

    /// How many are left.
    pub fn left(&self) -> usize {
        usize::from(self.left)
    }

    /// The bytes of the next one; `None` is NULL.
    #[inline]
    pub fn read(&mut self) -> Result<Option<&'a [u8]>> {
        self.left = self.left.checked_sub(1).ok_or_else(malformed)?;
        let (length, rest) = self.rest.split_first_chunk::<4>().ok_or_else(malformed)?;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            self.rest = rest;
            return Ok(None);
        };
        let (value, rest) = rest.split_at_checked(length).ok_or_else(malformed)?;
        self.rest = rest;
        Ok(Some(value))
    }

    /// Whether that was all.
    #[inline]
    pub fn end(self) -> Result<()> {
        if self.left == 0 && self.rest.is_empty() { Ok(()) } else { Err(malformed()) }
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

    fn read_all(body: &[u8]) -> Result<Vec<Option<Vec<u8>>>> {
        let mut columns = Columns::of(body)?;
        let mut values = Vec::new();
        while columns.left() > 0 {
            values.push(columns.read()?.map(<[u8]>::to_vec));
        }
        columns.end().map(|()| values)
    }

    #[test]
    fn columns_are_read_in_place() {
        let sent: [Option<&[u8]>; 4] = [Some(b"abc"), None, Some(b""), Some(b"\x00\xff")];
        let whole = body(&sent);
        let expected: Vec<_> = sent.iter().map(|value| value.map(<[u8]>::to_vec)).collect();
        assert_eq!(read_all(&whole).unwrap(), expected);
        for cut in 0..whole.len() {
            assert!(read_all(&whole[..cut]).is_err());
        }
        assert!(read_all(&[&whole[..], &[0]].concat()).is_err());
        assert!(Columns::of(&body(&[])).unwrap().read().is_err());
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
