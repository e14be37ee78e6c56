//! A slow reader of COPY's text and CSV formats, byte by byte, to compare with.

use crate::copy::Style;

/// The records of a well-formed input; `None` if a newline or an end marker is out of place.
pub fn records(style: &Style, input: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut newline: Option<&[u8]> = None;
    let mut records = Vec::new();
    let (mut at, mut start) = (0, 0);
    let (mut quoted, mut escaped) = (false, false);
    while at < input.len() {
        let byte = input[at];
        let mut width = 1;
        match style.csv {
            None if byte == b'\\' => {
                if input.get(at + 1) == Some(&b'.') {
                    let after = &input[at + 2..];
                    let fits = match newline {
                        Some(newline) => after.starts_with(newline),
                        None => after.starts_with(b"\n") || after.starts_with(b"\r"),
                    };
                    if !fits {
                        return None;
                    }
                    if at > start {
                        records.push(input[start..at].to_vec());
                    }
                    return Some(records);
                }
                at += 2;
                continue;
            }
            None => {}
            Some(csv) => {
                if byte == b'\\' && at == start && input.get(at + 1) == Some(&b'.') {
                    let after = &input[at + 2..];
                    if newline.map_or(after.starts_with(b"\n") || after.starts_with(b"\r"), |n| after.starts_with(n)) {
                        return Some(records);
                    }
                    if after.starts_with(b"\n") || after.starts_with(b"\r") {
                        return None;
                    }
                }
                let escape = if csv.escape == csv.quote { 0 } else { csv.escape };
                if quoted && byte == escape {
                    escaped = !escaped;
                }
                if byte == csv.quote && !escaped {
                    quoted = !quoted;
                }
                if byte != escape {
                    escaped = false;
                }
            }
        }
        if !quoted && matches!(byte, b'\r' | b'\n') {
            let found: &[u8] = match byte {
                b'\n' => b"\n",
                _ if newline != Some(b"\r") && input.get(at + 1) == Some(&b'\n') => b"\r\n",
                _ => b"\r",
            };
            if newline.is_some_and(|newline| newline != found) {
                return None;
            }
            newline = Some(found);
            width = found.len();
            records.push(input[start..at].to_vec());
            start = at + width;
        }
        at += width;
    }
    if start < input.len() {
        records.push(input[start..].to_vec());
    }
    Some(records)
}

/// The fields of a record as Postgres takes them apart; `None` if a quote is not closed.
pub fn fields(style: &Style, record: &[u8]) -> Option<Vec<Option<Vec<u8>>>> {
    let mut fields = Vec::new();
    let (mut raw, mut value) = (Vec::new(), Vec::new());
    let (mut quoted, mut saw_quote) = (false, false);
    let mut at = 0;
    loop {
        let byte = record.get(at).copied();
        at += 1;
        match (byte, style.csv) {
            (None, _) if quoted => return None,
            (None, _) => {
                fields.push((raw != style.null || saw_quote).then_some(value));
                return Some(fields);
            }
            (Some(byte), _) if byte == style.delimiter && !quoted => {
                fields.push((raw != style.null || saw_quote).then(|| std::mem::take(&mut value)));
                raw.clear();
                value.clear();
                saw_quote = false;
            }
            (Some(b'\\'), None) => {
                raw.push(b'\\');
                let Some(next) = record.get(at).copied() else { continue };
                raw.push(next);
                at += 1;
                let mut digits = |radix: u32, most: usize, first: Option<u8>| {
                    let mut text: Vec<u8> = first.into_iter().collect();
                    while text.len() < most && record.get(at).is_some_and(|b| (*b as char).is_digit(radix)) {
                        text.push(record[at]);
                        raw.push(record[at]);
                        at += 1;
                    }
                    let text = String::from_utf8(text).unwrap();
                    u32::from_str_radix(&text, radix).ok().map(|n| n as u8)
                };
                value.push(match next {
                    b'0'..=b'7' => digits(8, 3, Some(next)).unwrap(),
                    b'x' => digits(16, 2, None).unwrap_or(b'x'),
                    b'b' => 8,
                    b'f' => 12,
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'v' => 11,
                    other => other,
                });
            }
            (Some(byte), Some(csv)) if quoted && byte == csv.escape => match record.get(at) {
                Some(next) if *next == csv.escape || *next == csv.quote => {
                    value.push(*next);
                    at += 1;
                }
                _ if byte == csv.quote => quoted = false,
                _ => value.push(byte),
            },
            (Some(byte), Some(csv)) if byte == csv.quote => {
                quoted = !quoted;
                saw_quote = true;
            }
            (Some(byte), _) => {
                raw.push(byte);
                value.push(byte);
            }
        }
    }
}
