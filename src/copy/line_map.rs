//! Which line of the input a node's line was.
//!
//! A node counts the lines that it got. With rows 1 and 3 of the input on a node, behind a header that every node
//! gets, its line 3 is the input's line 3, its line 2 the input's line 1:
//!
//! ```
//! use sharding::copy::line_map::LineMap;
//! let mut map = LineMap::new(1);
//! map.push(1, 1);
//! map.push(3, 1);
//! assert_eq!((map.line(2), map.line(3)), (Some(1), Some(3)));
//! assert_eq!(map.translate("COPY t, line 3, column v: \"x\"", "COPY t, line "), "COPY t, line 3, column v: \"x\"");
//! ```
//!
//! A record takes two bytes or so, and only the last [`KEPT`] bytes' worth are kept: a node reports on what it has in
//! hand, which is what is in the sockets and in its buffers.

/// Bytes kept at least, of about two per record.
pub const KEPT: usize = 4 << 20;

/// Records as (distance of the last line to the one before, lines), from a known place on.
#[derive(Debug, Default)]
struct Stretch {
    /// The last line before it, of the input and of the node.
    input: u64,
    node: u64,
    deltas: Vec<u8>,
}

/// The lines of one node.
#[derive(Debug)]
pub struct LineMap {
    older: Stretch,
    newer: Stretch,
    /// The last lines.
    input: u64,
    node: u64,
}

impl LineMap {
    /// `header`: the lines that the node gets first.
    pub fn new(header: u64) -> LineMap {
        let newer = Stretch { input: 0, node: header, deltas: Vec::new() };
        LineMap { older: Stretch::default(), newer, input: 0, node: header }
    }

    /// A record whose last line is `line` of the input and which takes `lines`.
    pub fn push(&mut self, line: u64, lines: u32) {
        if self.newer.deltas.len() >= KEPT {
            let next = Stretch { input: self.input, node: self.node, deltas: Vec::new() };
            self.older = std::mem::replace(&mut self.newer, next);
        }
        put(&mut self.newer.deltas, line.saturating_sub(self.input));
        put(&mut self.newer.deltas, u64::from(lines));
        self.input = line;
        self.node += u64::from(lines);
    }

    /// The input's line, if it is known still.
    pub fn line(&self, node_line: u64) -> Option<u64> {
        let stretch = if node_line > self.newer.node { &self.newer } else { &self.older };
        if node_line <= stretch.node {
            return None;
        }
        let (mut input, mut node) = (stretch.input, stretch.node);
        let mut deltas = stretch.deltas.as_slice();
        while let (Some(distance), Some(lines)) = (take(&mut deltas), take(&mut deltas)) {
            input += distance;
            node += lines;
            if node_line <= node {
                return Some(input - (node - node_line).min(input));
            }
        }
        None
    }

    /// A node's CONTEXT with the input's line numbers where a line of it begins with `prefix` and a number.
    pub fn translate(&self, context: &str, prefix: &str) -> String {
        let translated = context.lines().map(|text| self.translated(text, prefix).unwrap_or_else(|| text.to_string()));
        translated.collect::<Vec<_>>().join("\n")
    }

    fn translated(&self, text: &str, prefix: &str) -> Option<String> {
        let rest = text.strip_prefix(prefix)?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let line = self.line(rest[..digits].parse().ok()?)?;
        Some(format!("{prefix}{line}{}", &rest[digits..]))
    }
}

/// The line that a CONTEXT names behind `prefix`.
pub fn line_in(context: &str, prefix: &str) -> Option<u64> {
    let rest = context.lines().find_map(|text| text.strip_prefix(prefix))?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    rest[..digits].parse().ok()
}

/// A number in groups of seven bits, the lowest first.
fn put(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let (mut number, mut shift) = (0, 0);
    loop {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
        shift += 7;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_lines_of_the_table_are_translated() {
        let mut map = LineMap::new(0);
        map.push(700, 3);
        let context = "PL/pgSQL function f() line 2 at RAISE\nCOPY t, line 2: \"COPY t, line 1\"";
        let expected = "PL/pgSQL function f() line 2 at RAISE\nCOPY t, line 699: \"COPY t, line 1\"";
        assert_eq!(map.translate(context, "COPY t, line "), expected);
        assert_eq!(map.translate("COPY t, line 4", "COPY t, line "), "COPY t, line 4");
    }

    #[test]
    fn old_lines_are_forgotten() {
        let mut map = LineMap::new(0);
        for line in 1..=2 * KEPT as u64 {
            map.push(2 * line, 1);
        }
        assert_eq!(map.line(1), None);
        assert_eq!(map.line(2 * KEPT as u64), Some(4 * KEPT as u64));
    }

    proptest! {
        #[test]
        fn every_line_is_found(records in proptest::collection::vec((1u64..300, 1u32..4), 1..50), header in 0u64..3) {
            let mut map = LineMap::new(header);
            let mut expected = Vec::new();
            let mut input = 0;
            for (skipped, lines) in records {
                input += skipped + u64::from(lines);
                map.push(input, lines);
                for line in (0..u64::from(lines)).rev() {
                    expected.push(input - line);
                }
            }
            for (index, line) in expected.into_iter().enumerate() {
                prop_assert_eq!(map.line(header + 1 + index as u64), Some(line));
            }
        }
    }
}
