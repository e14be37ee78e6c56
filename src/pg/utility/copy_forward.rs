//! COPY FROM of raw bytes: the input is cut into records, each goes to the node of its key without Postgres's reading it.
//!
//! ```text
//! source -> records with their keys -> shards, a batch at a time -> a COPY per node, all at once
//! ```
//!
//! What makes the answer right is on the nodes: their COPY reads every field, routes the row by its own partitions and
//! refuses what is not theirs. A node's error gets the input's line number; of several nodes' errors that of the first
//! line is raised. [`copy_remote`](super::copy_remote) says when this is done.
//!
//! Text and CSV are put into binary on the way as far as that is simple. Then the COPYs end, and others go on with the
//! text as it is: whatever is unusual or wrong is the nodes' to read.

use crate::catalog::{ClusterMap, NodeId, TableId};
use crate::copy::encode::{Encoder, valid_up_to};
use crate::copy::lanes::Lanes;
use crate::copy::line_map::{LineMap, line_in};
use crate::copy::lines::{Lines, Step, malformed};
use crate::copy::recent::Recent;
use crate::copy::{Key, binary, field};
use crate::error::{Error, Result, SqlState, sqlstate};
use crate::pg::endpoint::nodes_on_machines;
use crate::pg::guard::boundary;
use crate::pg::session::copy::{CopyStream, Ending, finish, make_room};
use crate::pg::utility::copy_from::Target;
use crate::pg::utility::copy_keys::{Batch, Entry, Keys};
use crate::pg::utility::copy_remote::{Format, Header, Remote};
use crate::pg::utility::copy_source::Source;
use crate::pg::utility::{raw, tree};
use pgrx::pg_sys;
use std::ffi::{c_int, c_void};
use std::ops::Range;

/// What is read before it is sent on: enough for large messages, little enough to stay in the processor's cache.
const WINDOW: usize = 512 * 1024;
/// Up to so many machines with nodes text goes on in binary. That takes the coordinator 0.4 microseconds for a row of six
/// columns where 0.2 do without, and saves a node a quarter of one (PostgreSQL 15): many nodes would wait for it.
const FEW_MACHINES: usize = 2;
/// Of the input, what is kept for each node to be shown in errors: as much as may be on its way.
const RECENT: usize = 4 << 20;
/// The largest record, as for Postgres's own buffers.
const LARGEST: usize = 0x3fff_ffff;

/// Copies the rows on; their number, or `None` if they have to be parsed here.
///
/// # Safety
/// The statement lives, the target is open.
pub unsafe fn forward(
    map: &ClusterMap,
    table: TableId,
    statement: *mut pg_sys::CopyStmt,
    target: &Target,
) -> Result<Option<u64>> {
    // SAFETY: as the caller promises; closures own nothing.
    unsafe {
        let Some((group, key_attno)) = map.distribution(table) else { return Ok(None) };
        let Some(remote) = Remote::of(statement, target, table, key_attno)? else { return Ok(None) };
        let keys = Keys::new(target.rel, group, key_attno, matches!(remote.format, Format::Binary))?;
        // Postgres checks what is left to check, and shows the progress.
        let (parse, rel, none) = (target.parse, target.rel, std::ptr::null_mut());
        let (names, options) = ((*statement).attlist, (*statement).options);
        let checked = boundary(|| {
            raw::BeginCopyFrom(parse, rel, none, std::ptr::null(), false, Some(empty_input), names, options)
        });
        let binary = matches!(remote.format, Format::Binary);
        let Some(source) = Source::open(statement, remote.columns.len() as i16, binary)? else {
            boundary(|| raw::EndCopyFrom(checked));
            return Ok(None);
        };
        pg_sys::pgstat_progress_update_param(pg_sys::PROGRESS_COPY_TYPE as i32, i64::from(source.progress_type()));
        pg_sys::pgstat_progress_update_param(pg_sys::PROGRESS_COPY_BYTES_TOTAL as i32, source.size() as i64);
        let table = tree::text(pg_sys::get_rel_name((*rel).rd_id));
        let nodes = group.nodes();
        let lane = |node: &NodeId| nodes.iter().position(|n| n == node).unwrap_or(0);
        let cut = match &remote.format {
            Format::Text(style, marker) => Cut::Text(Lines::new(style, *marker)),
            Format::Binary => Cut::Binary,
        };
        let encoding = match (&remote.format, &remote.binary) {
            (Format::Text(style, _), Some((sql, forms))) if machines(&nodes)? <= FEW_MACHINES => Some(Encoding {
                sql: sql.clone(),
                encoder: Encoder::new(style.clone(), forms.clone()),
                recent: Recent::new(style.clone(), remote.columns.clone(), RECENT * nodes.len()),
                bytes: Vec::new(),
                ends: Vec::new(),
            }),
            _ => None,
        };
        let copy = Forwarding {
            encoding,
            rows_in_binary: 0,
            of_lane: Lanes::new(group.shards.iter().map(lane).collect(), nodes.len()),
            lanes: nodes.iter().map(|node| Lane { node: *node, open: None }).collect(),
            remote,
            source,
            cut,
            keys,
            batch: Batch::default(),
            records: Vec::new(),
            prefix: format!("COPY {table}, line "),
            first: None,
            line: 0,
            rows: 0,
            bytes: 0,
            more: true,
        };
        let rows = copy.run()?;
        boundary(|| raw::EndCopyFrom(checked));
        Ok(Some(rows))
    }
}

/// How many machines these nodes are on.
fn machines(nodes: &[NodeId]) -> Result<usize> {
    let shares: f64 = nodes_on_machines(nodes)?.into_iter().map(|together| 1.0 / together as f64).sum();
    Ok(shares.round() as usize)
}

/// An input for checks: in binary, the header is read at once.
unsafe extern "C-unwind" fn empty_input(out: *mut c_void, _least: c_int, most: c_int) -> c_int {
    let count = binary::HEADER.len().min(most.max(0) as usize);
    // SAFETY: there is room for `most` bytes.
    unsafe { std::ptr::copy_nonoverlapping(binary::HEADER.as_ptr(), out.cast(), count) };
    count as c_int
}

struct Forwarding {
    remote: Remote,
    source: Source,
    cut: Cut,
    /// As long as text goes on in binary.
    encoding: Option<Encoding>,
    rows_in_binary: u64,
    keys: Keys,
    /// The records of the piece of input at hand, and their keys.
    records: Vec<Record>,
    batch: Batch,
    lanes: Vec<Lane>,
    of_lane: Lanes,
    /// How a CONTEXT that names a line begins.
    prefix: String,
    /// What every node gets before its rows, once that is known, and the lines of it.
    first: Option<(Vec<u8>, u64)>,
    /// The last line read.
    line: u64,
    rows: u64,
    bytes: u64,
    /// The source is not at its end.
    more: bool,
}

/// How the input is cut.
enum Cut {
    Text(Lines),
    Binary,
}

/// A node's part.
struct Lane {
    node: NodeId,
    open: Option<(CopyStream, LineMap)>,
}

/// A record of the piece of input, and the lines it takes.
struct Record {
    bytes: Range<usize>,
    /// Its length without its newline.
    length: usize,
    lines: u32,
}

impl Record {
    /// Where it is, without its newline.
    fn content(&self) -> Range<usize> {
        self.bytes.start..self.bytes.start + self.length
    }
}

/// The conversion to binary, as long as all can be converted.
struct Encoding {
    /// The nodes' statement.
    sql: String,
    encoder: Encoder,
    recent: Recent,
    /// The records, converted, and where each ends.
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Encoding {
    fn record(&self, number: usize) -> &[u8] {
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.bytes[start..self.ends[number]]
    }
}

impl Forwarding {
    fn run(mut self) -> Result<u64> {
        let mut input = Vec::new();
        let (mut used, mut ended) = (0, false);
        while !ended {
            input.drain(..used);
            if input.len() > LARGEST {
                return Err(self.placed(Error::new(SqlState::new("54000"), "a row of the input is too long")));
            }
            let before = input.len();
            while self.more && input.len() < before + WINDOW {
                self.more = self.source.read(&mut input)?;
            }
            self.bytes += (input.len() - before) as u64;
            (used, ended) = self.cut(&input, !self.more).map_err(|error| self.placed(error))?;
            if !self.send(&input)? {
                return Err(self.nodes_error(Ending::Failed));
            }
            self.report();
        }
        if self.remote.header == Header::Matched && self.lanes.iter().all(|lane| lane.open.is_none()) {
            // A node compares the names also if no row follows.
            self.open(0)?;
        }
        self.source.close(!self.more)?;
        let rows = self.finish()?;
        self.keys.close();
        Ok(self.rows_in_binary + rows)
    }

    /// Notes the records of a piece of input. How much of it they take, and whether the data are at their end.
    fn cut(&mut self, input: &[u8], eof: bool) -> Result<(usize, bool)> {
        self.records.clear();
        self.batch.clear();
        match self.cut {
            Cut::Text(_) => self.cut_text(input, eof),
            Cut::Binary => self.cut_binary(input, eof),
        }
    }

    fn cut_text(&mut self, input: &[u8], eof: bool) -> Result<(usize, bool)> {
        let (Cut::Text(lines), Format::Text(style, _)) = (&mut self.cut, &self.remote.format) else {
            return Ok((input.len(), true));
        };
        let mut at = 0;
        loop {
            let rest = &input[at..];
            let record = match lines.next(rest, eof)? {
                Step::Record(record) => record,
                Step::More => return Ok((at, false)),
                Step::End => return Ok((at, true)),
            };
            self.line += u64::from(record.counted);
            let is_header = self.first.is_none() && self.remote.header != Header::None;
            if self.first.is_none() {
                // An empty line where the input has no header: it says how lines end.
                let mut first = if is_header { rest[..record.content].to_vec() } else { Vec::new() };
                first.extend_from_slice(lines.newline().bytes());
                self.first = Some((first, if is_header { u64::from(record.counted) } else { 1 }));
            }
            if !is_header {
                let start = self.batch.bytes.len();
                let key = field::key(style, &rest[..record.content], self.remote.key, &mut self.batch.bytes);
                let length = self.batch.bytes.len() - start;
                self.batch.bytes.push(0);
                // A malformed record goes where NULL goes, to be refused.
                let value = (key == Key::Value).then_some((start, length));
                self.batch.entries.push(Entry { value, line: self.line });
                let (bytes, length) = (at..at + record.end, record.content);
                self.records.push(Record { bytes, length, lines: record.lines });
            }
            at += record.end;
        }
    }

    fn cut_binary(&mut self, input: &[u8], eof: bool) -> Result<(usize, bool)> {
        let mut at = 0;
        if self.first.is_none() {
            let Some(header) = binary::header(input, eof)? else { return Ok((0, false)) };
            self.first = Some((binary::HEADER.to_vec(), 0));
            at = header;
        }
        let fields = self.remote.columns.len() as i16;
        loop {
            let (end, key) =
                match binary::next(&input[at..], eof, fields, self.remote.key).map_err(|f| self.faulty(f))? {
                    binary::Step::Record { end, key } => (end, key),
                    binary::Step::More => return Ok((at, false)),
                    binary::Step::End if eof || input.len() > at + binary::TRAILER.len() => {
                        return if input.len() <= at + binary::TRAILER.len() {
                            Ok((at, true))
                        } else {
                            Err(malformed("received copy data after EOF marker"))
                        };
                    }
                    // Nothing may follow the trailer.
                    binary::Step::End => return Ok((at, false)),
                };
            self.line += 1;
            self.batch.push(key.map(|key| &input[at + key.start..at + key.end]), self.line);
            self.records.push(Record { bytes: at..at + end, length: end, lines: 1 });
            at += end;
        }
    }

    /// Sends the records to their nodes; `false` if a node has answered, which is with an error.
    fn send(&mut self, input: &[u8]) -> Result<bool> {
        let mut shards = Vec::new();
        let refused = self.keys.shards(&self.batch, &mut shards).err();
        // What is wrong in the lines up to the refused one comes first, and with this one, what Postgres looks at earlier.
        // The nodes know, once they have them.
        self.records.truncate(shards.len());
        let in_binary = self.encode(input);
        if !self.spread(input, &shards, 0..in_binary)? {
            return Ok(false);
        }
        if in_binary < self.records.len() {
            self.go_on_as_it_is()?;
            if !self.spread(input, &shards, in_binary..shards.len())? {
                return Ok(false);
            }
        }
        match refused {
            None => Ok(true),
            Some(refused) => self.finish().and_then(|_| Err(refused.raise())),
        }
    }

    /// Converts the records up to the first that cannot be; how many.
    fn encode(&mut self, input: &[u8]) -> usize {
        let (Some(encoding), Cut::Text(lines)) = (&mut self.encoding, &self.cut) else { return 0 };
        let records = self.records.iter().zip(&self.batch.entries);
        encoding.recent.keep(input, records.map(|(record, key)| (key.line, record.content())));
        encoding.bytes.clear();
        encoding.ends.clear();
        let valid = valid_up_to(input);
        for record in &self.records {
            let content = record.content();
            let newline = &input[content.end..record.bytes.end];
            let as_others = newline.is_empty() || newline == lines.newline().bytes();
            if !as_others || content.end > valid || !encoding.encoder.record(&input[content], &mut encoding.bytes) {
                break;
            }
            encoding.ends.push(encoding.bytes.len());
        }
        encoding.ends.len()
    }

    /// Ends what went in binary: the rest goes as it is.
    fn go_on_as_it_is(&mut self) -> Result<()> {
        if self.encoding.is_none() {
            return Ok(());
        }
        self.rows_in_binary = self.finish()?;
        self.lanes.iter_mut().for_each(|lane| lane.open = None);
        self.encoding = None;
        Ok(())
    }

    /// Ends the data; the number of rows that the nodes took.
    fn finish(&mut self) -> Result<u64> {
        let trailer = if matches!(self.cut, Cut::Binary) || self.encoding.is_some() { binary::TRAILER } else { b"" };
        for stream in self.streams() {
            stream.push(trailer)?;
        }
        let answers = finish(&self.streams(), Ending::Done);
        match answers.iter().any(Result::is_err) {
            true => Err(self.first_error(answers)),
            false => Ok(answers.iter().flatten().sum()),
        }
    }

    /// Sends some of the records, each to the node of its shard.
    fn spread(&mut self, input: &[u8], shards: &[u32], part: Range<usize>) -> Result<bool> {
        self.of_lane.assign(&shards[part.clone()]);
        // In the order of the nodes: two that need several must not wait for each other.
        for index in 0..self.lanes.len() {
            if self.of_lane.records(index).is_empty() {
                continue;
            }
            self.open(index)?;
            let Some((stream, map)) = &mut self.lanes[index].open else { continue };
            let numbers = || self.of_lane.records(index).iter().map(|number| part.start + *number as usize);
            match &self.encoding {
                Some(encoding) => stream.push_records(numbers().map(|number| encoding.record(number)))?,
                None => stream.push_records(numbers().map(|number| &input[self.records[number].bytes.clone()]))?,
            }
            for number in numbers() {
                let lines = if self.encoding.is_some() { 1 } else { self.records[number].lines };
                map.push(self.batch.entries[number].line, lines);
            }
        }
        self.rows += part.len() as u64;
        Ok(!make_room(&self.streams()))
    }

    fn open(&mut self, index: usize) -> Result<()> {
        let lane = &mut self.lanes[index];
        if lane.open.is_none() {
            let first = self.first.as_ref().map_or((&b""[..], 0), |(first, lines)| (first, *lines));
            let (sql, first, lines) = match &self.encoding {
                Some(encoding) => (&encoding.sql, binary::HEADER, 0),
                None => (&self.remote.sql, first.0, first.1),
            };
            let stream = CopyStream::open(lane.node, sql)?;
            stream.push(first)?;
            lane.open = Some((stream, LineMap::new(lines)));
        }
        Ok(())
    }

    fn streams(&self) -> Vec<&CopyStream> {
        self.lanes.iter().filter_map(|lane| lane.open.as_ref().map(|(stream, _)| stream)).collect()
    }

    /// What the nodes that have answered say is wrong; the others are stopped.
    fn nodes_error(&self, ending: Ending) -> Error {
        let streams = self.streams();
        let answered: Vec<bool> = streams.iter().map(|stream| stream.has_answered()).collect();
        let answers = finish(&streams, ending).into_iter().zip(answered);
        self.first_error(answers.map(|(answer, counts)| if counts { answer } else { Ok(0) }).collect())
    }

    /// Of the nodes' errors the one of the earliest line, with the input's line numbers.
    fn first_error(&self, answers: Vec<Result<u64>>) -> Error {
        let maps = self.lanes.iter().filter_map(|lane| lane.open.as_ref().map(|(_, map)| map));
        let errors = answers.into_iter().zip(maps).filter_map(|(answer, map)| {
            let mut error = answer.err()?;
            error.context = error.context.map(|context| map.translate(&context, &self.prefix));
            if let Some(encoding) = &self.encoding {
                // The row is looked at with its line at hand, but for unique keys.
                let with_record = [sqlstate::NOT_NULL_VIOLATION, sqlstate::CHECK_VIOLATION].contains(&error.code);
                let complete = |context: String| encoding.recent.complete(&context, &self.prefix, with_record);
                error.context = error.context.map(complete);
            }
            Some(error)
        });
        let line = |error: &Error| error.context.as_deref().and_then(|c| line_in(c, &self.prefix)).unwrap_or(u64::MAX);
        errors
            .min_by_key(line)
            .unwrap_or_else(|| Error::new(sqlstate::INTERNAL, "a node ended COPY before its data did"))
    }

    /// An error in the line after the last one read.
    fn placed(&self, error: Error) -> Error {
        if self.first.is_none() && matches!(self.cut, Cut::Binary) {
            return error;
        }
        let context = error.context.clone().unwrap_or_else(|| format!("{}{}", self.prefix, self.line + 1));
        error.context(context)
    }

    /// The error of a binary record, with its column.
    fn faulty(&self, fault: binary::Fault) -> Error {
        let error = malformed(&fault.message);
        match fault.field.and_then(|field| self.remote.columns.get(field)) {
            Some(column) => error.context(format!("{}{}, column {column}", self.prefix, self.line + 1)),
            None => error,
        }
    }

    fn report(&self) {
        // SAFETY: writes to this backend's slot.
        unsafe {
            pg_sys::pgstat_progress_update_param(pg_sys::PROGRESS_COPY_BYTES_PROCESSED as i32, self.bytes as i64);
            pg_sys::pgstat_progress_update_param(pg_sys::PROGRESS_COPY_TUPLES_PROCESSED as i32, self.rows as i64);
        }
    }
}
