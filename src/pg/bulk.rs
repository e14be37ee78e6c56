//! Many rows to the nodes: rows in, COPY batches out.
//!
//! A distributed table's row goes to the node of its key's shard, a reference table's to every node.
//! Rows are encoded straight into one buffer per node; when about 8 MB are waiting in all, the
//! buffers go out together as one `COPY ... FROM STDIN` per node. Binary when every column travels
//! in binary ([`Codec`]), else text. COPY addresses the parent: the node routes the row to its shard
//! and rejects what is not its own.

use crate::catalog::{ClusterMap, ColocationGroup, NodeId, Spread, TableId};
use crate::error::{Error, Result, sqlstate};
use crate::pg::codec::{Codec, TransmissionMode};
use crate::pg::ddl::describe;
use crate::pg::hash::KeyHasher;
use crate::pg::session;
use pgrx::pg_sys;

/// Bytes waiting for all nodes together before they are sent.
const BATCH_BYTES: usize = 8 << 20;
/// Rows between two clean-ups of what the output functions left in memory.
const ROWS_PER_RESET: u32 = 256;

const BINARY_HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const BINARY_TRAILER: &[u8] = &[0xff, 0xff];

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

/// Node, COPY command, bytes that wait.
type Lane = (NodeId, String, Vec<u8>);

/// Sends rows of one table; see the module's text.
pub struct BulkLoader {
    route: Route,
    lanes: Vec<Lane>,
    /// Index into a row's arrays, and how the value travels.
    columns: Vec<(usize, Codec)>,
    binary: bool,
    /// Text forms depend on settings such as DateStyle, which have to be pinned while they are made.
    pin_settings: bool,
    waiting: usize,
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
        let lanes = nodes.iter().map(|n| (*n, copy.clone(), Vec::new())).collect();
        Ok(BulkLoader {
            route,
            lanes,
            columns: codecs,
            binary,
            pin_settings,
            waiting: 0,
            rows: 0,
            since_reset: 0,
            memory,
            scratch: Vec::new(),
        })
    }

    /// Takes a row: `values[attno - 1]`, `nulls[attno - 1]`. May send everything that waits.
    ///
    /// # Safety
    /// The datums are of the table's column types.
    pub unsafe fn push(&mut self, values: &[pg_sys::Datum], nulls: &[bool]) -> Result<()> {
        // SAFETY: the context is this loader's; what the output functions leave there is reset.
        unsafe {
            let previous = pg_sys::MemoryContextSwitchTo(self.memory);
            match &mut self.route {
                Route::Hash { hasher, group, key_attno, lane_of_shard } => {
                    let key = (*key_attno > 0).then(|| *key_attno as usize - 1).filter(|i| !nulls[*i]);
                    let shard = hasher.shard(group, key.map(|i| values[i]));
                    let lane = &mut self.lanes[lane_of_shard[shard.0 as usize]].2;
                    let before = lane.len();
                    encode_row(
                        lane,
                        &mut self.columns,
                        self.binary,
                        self.pin_settings,
                        &mut self.scratch,
                        values,
                        nulls,
                    );
                    self.waiting += lane.len() - before;
                }
                Route::Everywhere => {
                    // One buffer serves all nodes; the others get their copies when it is sent.
                    let copies = self.lanes.len();
                    if let Some((_, _, lane)) = self.lanes.first_mut() {
                        let before = lane.len();
                        encode_row(
                            lane,
                            &mut self.columns,
                            self.binary,
                            self.pin_settings,
                            &mut self.scratch,
                            values,
                            nulls,
                        );
                        self.waiting += (lane.len() - before) * copies;
                    }
                }
            }
            pg_sys::MemoryContextSwitchTo(previous);
            self.rows += 1;
            self.since_reset += 1;
            if self.since_reset >= ROWS_PER_RESET {
                self.since_reset = 0;
                pg_sys::MemoryContextReset(self.memory);
            }
        }
        if self.waiting >= BATCH_BYTES { self.flush() } else { Ok(()) }
    }

    /// Sends what waits; the number of rows taken.
    pub fn finish(mut self) -> Result<u64> {
        self.flush()?;
        // SAFETY: nothing refers to the context any more.
        unsafe { pg_sys::MemoryContextDelete(self.memory) };
        Ok(self.rows)
    }

    fn flush(&mut self) -> Result<()> {
        if self.waiting == 0 {
            return Ok(());
        }
        self.waiting = 0;
        if matches!(self.route, Route::Everywhere)
            && let Some(((_, _, first), rest)) = self.lanes.split_first_mut()
        {
            for (_, _, lane) in rest {
                lane.clone_from(first);
            }
        }
        if self.binary {
            for (_, _, lane) in self.lanes.iter_mut().filter(|l| !l.2.is_empty()) {
                lane.extend_from_slice(BINARY_TRAILER);
            }
        }
        // The order of the lanes matters to the shards: the filled ones leave it only for the sending.
        let (filled, empty): (Vec<_>, Vec<_>) =
            self.lanes.drain(..).enumerate().partition(|(_, (_, _, bytes))| !bytes.is_empty());
        let (positions, mut batch): (Vec<usize>, Vec<Lane>) = filled.into_iter().unzip();
        session::copy_in(&batch)?;
        for (_, _, bytes) in &mut batch {
            bytes.clear();
        }
        let mut lanes: Vec<(usize, Lane)> = positions.into_iter().zip(batch).chain(empty).collect();
        lanes.sort_by_key(|(i, _)| *i);
        self.lanes = lanes.into_iter().map(|(_, lane)| lane).collect();
        Ok(())
    }
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

fn encode_row(
    out: &mut Vec<u8>,
    columns: &mut [(usize, Codec)],
    binary: bool,
    pin_settings: bool,
    scratch: &mut Vec<u8>,
    values: &[pg_sys::Datum],
    nulls: &[bool],
) {
    if !binary {
        let _pinned = pin_settings.then(TransmissionMode::enter);
        for (n, (i, codec)) in columns.iter_mut().enumerate() {
            if n > 0 {
                out.push(b'\t');
            }
            if nulls[*i] {
                out.extend_from_slice(b"\\N");
            } else {
                scratch.clear();
                codec.encode_into(values[*i], scratch);
                escape_into(scratch, out);
            }
        }
        out.push(b'\n');
        return;
    }
    if out.is_empty() {
        out.extend_from_slice(BINARY_HEADER);
    }
    out.extend_from_slice(&(columns.len() as i16).to_be_bytes());
    for (i, codec) in columns {
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
