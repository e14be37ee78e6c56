//! Many rows to the nodes: rows in, COPY out.
//!
//! A distributed table's row goes to the node of its key's shard, a reference table's to every node.
//! Rows are encoded straight into one buffer; when some megabytes are there, they go out as one `COPY ... FROM STDIN` per
//! node ([`Pieces`]). Binary when every column travels in binary ([`Codec`]), else text. COPY addresses the parent: the node routes the row to its shard
//! and rejects what is not its own.
//!
//! ```ignore
//! let mut loader = BulkLoader::new(map, table, &[1, 2])?;
//! loader.push(&values, &nulls)?;
//! let rows = loader.finish()?;
//! ```
//!
//! Where the rows must not be looked at before all are there, they are set aside first ([`BulkLoader::hold`]) and go out as
//! one COPY per node.
//!
//! Rows that come as another COPY's or a result's binary fields need no encoding: [`BulkLoader::push_fields`].

use crate::catalog::{ClusterMap, ColocationGroup, NodeId, Spread, TableId};
use crate::copy::binary::{HEADER, TRAILER};
use crate::copy::lanes::Lanes;
use crate::error::{Error, Result, sqlstate};
use crate::pg::codec::{Codec, TransmissionMode};
use crate::pg::ddl::describe;
use crate::pg::hash::KeyHasher;
use crate::pg::session::copy::{CopyStream, Ending, Pieces, finish, make_room};
use crate::pg::spill::Spill;
use crate::pg::utility::copy_keys::{Batch, Keys};
use crate::pg::{pending, readers};
use pgrx::pg_sys;

/// Bytes of rows for each node, and for all together, that go out at once. To begin a COPY costs a node about as much as
/// 200 rows (PostgreSQL 15, 16 shards).
const PIECE: usize = 2 << 20;
const MOST: usize = 16 << 20;
/// What is read back at once of rows that were set aside.
const HELD_PIECE: usize = 256 * 1024;
/// Rows between two clean-ups of what the output functions left in memory.
const ROWS_PER_RESET: u32 = 256;

/// Where a row goes.
pub enum Route {
    /// To the node of the key's shard. The column is 1-based; lanes are indexed by shard.
    Hash { hasher: KeyHasher, group: ColocationGroup, key_attno: i16, lane_of_shard: Vec<usize> },
    /// To every node.
    Everywhere,
}

impl Route {
    /// By the hash of a column. `nodes` are the loader's.
    pub fn hash(hasher: KeyHasher, group: &ColocationGroup, key_attno: i16) -> (Route, Vec<NodeId>) {
        let nodes = group.nodes();
        let lane = |node: &NodeId| nodes.iter().position(|n| n == node).unwrap_or(0);
        let lane_of_shard = group.shards.iter().map(lane).collect();
        (Route::Hash { hasher, group: group.clone(), key_attno, lane_of_shard }, nodes)
    }
}

/// Whether rows may follow.
#[derive(Clone, Copy, PartialEq, Eq)]
enum More {
    No,
    /// For any node.
    Comes,
}

/// Sends rows of one table; see the module's text.
pub struct BulkLoader {
    route: Route,
    nodes: Vec<NodeId>,
    /// The nodes' command.
    copy: String,
    /// Index into a row's arrays, and how the value travels.
    columns: Vec<(usize, Codec)>,
    binary: bool,
    /// Text forms depend on settings such as DateStyle, which have to be pinned while they are made.
    pin_settings: bool,
    /// The rows that wait, where each ends, and its shard.
    bytes: Vec<u8>,
    ends: Vec<usize>,
    shards: Vec<u32>,
    /// Keys that are hashed when their rows are sent.
    keys: Option<(Keys, Batch)>,
    lanes: Lanes,
    pieces: Option<Pieces>,
    /// Rows that are set aside, per node.
    held: Option<Vec<Spill>>,
    rows: u64,
    since_reset: u32,
    memory: pg_sys::MemoryContext,
    scratch: Vec<u8>,
}

impl BulkLoader {
    /// For a table of the cluster; `columns` are the attribute numbers that the rows have values for,
    /// generated ones never. A distributed table's row without its key column counts as a NULL key.
    pub fn new(map: &ClusterMap, table: TableId, columns: &[i16]) -> Result<BulkLoader> {
        let spread = map.table(table).map(|t| &t.spread);
        let (route, nodes) = match spread {
            Some(Spread::Reference) => (Route::Everywhere, map.node_ids()),
            Some(Spread::Distributed { .. }) => {
                let (group, key) = map.distribution(table).ok_or_else(|| not_spread(table))?;
                let key = if columns.contains(&key) { key } else { 0 };
                Route::hash(KeyHasher::new(table)?, group, key)
            }
            None => return Err(not_spread(table)),
        };
        BulkLoader::with_route(route, &nodes, table, columns)
    }

    /// For a table that the catalog does not have yet.
    pub fn with_route(route: Route, nodes: &[NodeId], table: TableId, columns: &[i16]) -> Result<BulkLoader> {
        // SAFETY: the context is a child of the caller's and goes with it at the latest.
        let memory = unsafe {
            pg_sys::AllocSetContextCreateInternal(
                pg_sys::CurrentMemoryContext,
                c"sharding bulk loader".as_ptr(),
                pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            )
        };
        let name = describe::qualified_name(table)?;
        let known = describe::columns(table)?;
        let mut names = Vec::with_capacity(columns.len());
        let mut codecs = Vec::with_capacity(columns.len());
        for attno in columns {
            let column = known
                .iter()
                .find(|c| c.attno == *attno && !c.generated)
                .ok_or_else(|| Error::new(sqlstate::INTERNAL, format!("column {attno} of {name} cannot be loaded")))?;
            names.push(column.name.as_str());
            codecs.push((*attno as usize - 1, column_codec(table, *attno)));
        }
        let binary = codecs.iter().all(|(_, c)| c.binary);
        let mut pin_settings = false;
        if !binary {
            for (attno, (_, codec)) in columns.iter().zip(&mut codecs) {
                if codec.binary {
                    *codec = text_codec(table, *attno);
                }
                pin_settings |= depends_on_settings(codec.wire_type);
            }
        }
        // COPY t () does not parse: a table whose columns are all absent gets its default columns' NULLs.
        let format = if binary { "binary" } else { "text" };
        let copy = format!("COPY {name} ({}) FROM STDIN (FORMAT {format})", names.join(", "));
        let lane_of_shard = match &route {
            Route::Hash { lane_of_shard, .. } => lane_of_shard.clone(),
            Route::Everywhere => vec![0],
        };
        Ok(BulkLoader {
            route,
            nodes: nodes.to_vec(),
            copy,
            columns: codecs,
            binary,
            pin_settings,
            bytes: Vec::new(),
            ends: Vec::new(),
            shards: Vec::new(),
            keys: None,
            lanes: Lanes::new(lane_of_shard, nodes.len()),
            pieces: None,
            held: None,
            rows: 0,
            since_reset: 0,
            memory,
            scratch: Vec::new(),
        })
    }

    /// Takes a row: `values[attno - 1]`, `nulls[attno - 1]`. May send what waits.
    ///
    /// # Safety
    /// The datums are of the table's column types.
    pub unsafe fn push(&mut self, values: &[pg_sys::Datum], nulls: &[bool]) -> Result<()> {
        // SAFETY: the context is this loader's; what the output functions leave there is reset.
        unsafe {
            let previous = pg_sys::MemoryContextSwitchTo(self.memory);
            let shard = match &mut self.route {
                Route::Hash { hasher, group, key_attno, .. } => {
                    let key = (*key_attno > 0).then(|| *key_attno as usize - 1).filter(|i| !nulls[*i]);
                    hasher.shard(group, key.map(|i| values[i])).0
                }
                Route::Everywhere => 0,
            };
            self.encode(values, nulls);
            self.shards.push(shard);
            pg_sys::MemoryContextSwitchTo(previous);
            self.since_reset += 1;
            if self.since_reset >= ROWS_PER_RESET {
                self.since_reset = 0;
                pg_sys::MemoryContextReset(self.memory);
            }
        }
        self.added()
    }

    /// No node gets anything before all rows are here: what looks at them at the end of a COPY sees them all.
    pub fn hold(&mut self) {
        self.held = Some(self.nodes.iter().map(|_| Spill::create()).collect());
    }

    /// Whether rows travel in binary: then their fields may be given as they came.
    pub fn is_binary(&self) -> bool {
        self.binary
    }

    /// From now on rows come by [`BulkLoader::push_fields`].
    ///
    /// # Safety
    /// The relation, the loader's table, is open as long as the loader lives.
    pub unsafe fn takes_fields(&mut self, rel: pg_sys::Relation) -> Result<()> {
        if let Route::Hash { group, key_attno, .. } = &self.route {
            // SAFETY: as the caller promises.
            self.keys = Some((unsafe { Keys::new(rel, group, *key_attno, true)? }, Batch::default()));
        }
        Ok(())
    }

    /// Takes a row of binary fields, each with its length, behind their number: as COPY and results have them.
    pub fn push_fields(&mut self, record: &[u8], key: Option<&[u8]>) -> Result<()> {
        self.bytes.extend_from_slice(record);
        match &mut self.keys {
            Some((_, batch)) => batch.push(key, self.rows),
            None => self.shards.push(0),
        }
        self.added()
    }

    /// What a node has said is wrong with the rows that it got, if the source of the rows fails: that may be the consequence.
    pub fn failure(&mut self) -> Option<Error> {
        self.pieces.as_mut()?.failure()
    }

    /// A row has come.
    fn added(&mut self) -> Result<()> {
        self.rows += 1;
        self.ends.push(self.bytes.len());
        if self.bytes.len() >= (PIECE * self.lanes.count()).min(MOST) { self.flush(More::Comes) } else { Ok(()) }
    }

    /// Sends what waits; the number of rows that the nodes took.
    pub fn finish(mut self) -> Result<u64> {
        self.flush(More::No)?;
        let taken = match self.held.take() {
            Some(held) => self.send_held(held)?,
            None => self.pieces.take().map_or(Ok(0), Pieces::finish)?,
        };
        if let Some((keys, _)) = self.keys {
            keys.close();
        }
        // SAFETY: nothing refers to the context any more.
        unsafe { pg_sys::MemoryContextDelete(self.memory) };
        Ok(if matches!(self.route, Route::Everywhere) { self.rows } else { taken })
    }

    fn flush(&mut self, more: More) -> Result<()> {
        if self.ends.is_empty() {
            return Ok(());
        }
        if let Some((keys, batch)) = &mut self.keys {
            keys.shards(batch, &mut self.shards).map_err(|refused| refused.raise())?;
            batch.clear();
        }
        self.lanes.assign(&self.shards);
        let everywhere = matches!(self.route, Route::Everywhere);
        let records = |lane: usize| self.lanes.records(if everywhere { 0 } else { lane });
        let lanes: Vec<usize> = (0..self.nodes.len()).filter(|lane| !records(*lane).is_empty()).collect();
        let rows = |lane: usize| {
            records(lane).iter().map(|record| {
                let record = *record as usize;
                let start = if record == 0 { 0 } else { self.ends[record - 1] };
                &self.bytes[start..self.ends[record]]
            })
        };
        if let Some(held) = &mut self.held {
            lanes.into_iter().for_each(|lane| rows(lane).for_each(|row| held[lane].write(row)));
            self.forget_sent();
            return Ok(());
        }
        begin_writing()?;
        let pieces = match &mut self.pieces {
            Some(pieces) => pieces,
            None => {
                let all = more == More::Comes;
                let used = self.nodes.iter().enumerate().filter(|(lane, _)| all || lanes.contains(lane));
                let nodes: Vec<NodeId> = used.map(|(_, node)| *node).collect();
                self.pieces.insert(Pieces::open(&nodes)?)
            }
        };
        let (header, trailer) = if self.binary { (HEADER, TRAILER) } else { (&b""[..], &b""[..]) };
        for lane in lanes {
            let data = std::iter::once(header).chain(rows(lane)).chain(std::iter::once(trailer));
            pieces.send(self.nodes[lane], &self.copy, data)?;
        }
        self.forget_sent();
        Ok(())
    }

    fn forget_sent(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.shards.clear();
    }

    /// Sends what was set aside; the number of rows that the nodes took.
    fn send_held(&self, held: Vec<Spill>) -> Result<u64> {
        begin_writing()?;
        let (header, trailer) = if self.binary { (HEADER, TRAILER) } else { (&b""[..], &b""[..]) };
        let mut buffer = vec![0; HELD_PIECE];
        let (mut streams, mut files) = (Vec::new(), Vec::new());
        for (node, mut file) in self.nodes.iter().zip(held) {
            file.rewind();
            let count = file.read(&mut buffer);
            if count > 0 {
                let stream = CopyStream::open(*node, &self.copy)?;
                stream.push_records([header, &buffer[..count]].into_iter())?;
                streams.push(stream);
                files.push(Some(file));
            } else {
                file.close();
            }
        }
        let streams: Vec<&CopyStream> = streams.iter().collect();
        let mut failed = make_room(&streams);
        while !failed && files.iter().any(Option::is_some) {
            for (stream, slot) in streams.iter().zip(&mut files) {
                let Some(file) = slot else { continue };
                let count = file.read(&mut buffer);
                stream.push(if count > 0 { &buffer[..count] } else { trailer })?;
                if count == 0
                    && let Some(file) = slot.take()
                {
                    file.close();
                }
            }
            failed = make_room(&streams);
        }
        let answered: Vec<bool> = streams.iter().map(|stream| failed && stream.has_answered()).collect();
        let mut answers = finish(&streams, if failed { Ending::Failed } else { Ending::Done });
        // The others were stopped because of the one that had something to say.
        if let Some(first) = answered.iter().position(|answered| *answered) {
            return answers.swap_remove(first);
        }
        answers.into_iter().sum()
    }

    /// Appends a row to those that wait.
    fn encode(&mut self, values: &[pg_sys::Datum], nulls: &[bool]) {
        let out = &mut self.bytes;
        if self.binary {
            out.extend_from_slice(&(self.columns.len() as i16).to_be_bytes());
            for (i, codec) in &mut self.columns {
                if nulls[*i] {
                    out.extend_from_slice(&(-1i32).to_be_bytes());
                    continue;
                }
                let at = out.len();
                out.extend_from_slice(&[0; 4]);
                codec.encode_into(values[*i], out);
                let length = (out.len() - at - 4) as i32;
                out[at..at + 4].copy_from_slice(&length.to_be_bytes());
            }
            return;
        }
        let _pinned = self.pin_settings.then(TransmissionMode::enter);
        for (n, (i, codec)) in self.columns.iter_mut().enumerate() {
            if n > 0 {
                out.push(b'\t');
            }
            if nulls[*i] {
                out.extend_from_slice(b"\\N");
            } else {
                self.scratch.clear();
                codec.encode_into(values[*i], &mut self.scratch);
                escape_into(&self.scratch, out);
            }
        }
        out.push(b'\n');
    }
}

/// All parts of a statement see the state before it.
fn begin_writing() -> Result<()> {
    pending::flush()?;
    readers::bind_all()
}

fn not_spread(table: TableId) -> Error {
    Error::new(sqlstate::WRONG_OBJECT_TYPE, format!("relation with OID {} is not distributed", table.0))
}

/// Type and modifier of a column.
pub fn column_type(table: TableId, attno: i16) -> (pg_sys::Oid, i32) {
    let (mut kind, mut typmod, mut collation) = (pg_sys::InvalidOid, -1, pg_sys::InvalidOid);
    // SAFETY: a syscache look-up.
    unsafe {
        pg_sys::get_atttypetypmodcoll(pg_sys::Oid::from(table.0), attno, &mut kind, &mut typmod, &mut collation);
    }
    (kind, typmod)
}

fn column_codec(table: TableId, attno: i16) -> Codec {
    let (kind, typmod) = column_type(table, attno);
    Codec::new(kind, typmod)
}

fn text_codec(table: TableId, attno: i16) -> Codec {
    let (kind, typmod) = column_type(table, attno);
    Codec::textual(kind, typmod)
}

/// Whether the text form of a type may depend on a session's settings.
fn depends_on_settings(kind: pg_sys::Oid) -> bool {
    // bool, bytea, "char", name, int8, int2, int4, text, oid, json, bpchar, varchar, numeric, uuid, jsonb
    const NOT: [u32; 15] = [16, 17, 18, 19, 20, 21, 23, 25, 26, 114, 1042, 1043, 1700, 2950, 3802];
    // SAFETY: syscache look-ups.
    unsafe {
        let element = pg_sys::get_element_type(kind);
        let kind = if element == pg_sys::InvalidOid { kind } else { element };
        !NOT.contains(&kind.to_u32()) && !pg_sys::type_is_enum(kind)
    }
}

/// A value as COPY's text format wants it.
fn escape_into(value: &[u8], out: &mut Vec<u8>) {
    for byte in value {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => out.push(*byte),
        }
    }
}
