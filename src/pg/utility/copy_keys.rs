//! Keys of many records to their shards, a batch at a time.
//!
//! The commonest keys are hashed from their bytes ([`KeyType`]). For others, one crossing into Postgres per batch, not
//! per row: the key's input function and the hash are all that is left of a row's parsing, and a crossing costs more than
//! both. A key that the input function refuses raises its ERROR with the
//! line that it stands in, as COPY says it; not at once ([`Refused`]): something may be wrong in an earlier line.
//!
//! ```text
//! ERROR:  invalid input syntax for type bigint: "x"
//! CONTEXT:  COPY orders, line 7, column id: "x"
//! ```

use crate::catalog::{ColocationGroup, TableId};
use crate::copy::binary::incorrect_value;
use crate::copy::key_hash::KeyType;
use crate::error::{Error, Result};
use crate::pg::bulk::column_type;
use crate::pg::guard::boundary;
use crate::pg::hash::KeyHasher;
use crate::pg::utility::{raw, tree};
use pgrx::pg_sys;
use std::any::Any;
use std::ffi::{CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

unsafe extern "C-unwind" {
    fn errcontext_msg(format: *const c_char, ...) -> c_int;
}

/// `compute_partition_hash_value` of a NULL.
const HASH_OF_NULL: u64 = 0;
/// Characters of a value that an error shows.
const SHOWN: usize = 100;

/// A key of the batch: where its bytes are, `None` for NULL, and its line in the input.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub value: Option<(usize, usize)>,
    pub line: u64,
}

/// Keys that wait for their shards.
#[derive(Debug, Default)]
pub struct Batch {
    /// The values, each with a zero behind it.
    pub bytes: Vec<u8>,
    pub entries: Vec<Entry>,
}

impl Batch {
    /// Adds a key; `line` is where it is from.
    pub fn push(&mut self, key: Option<&[u8]>, line: u64) {
        let start = self.bytes.len();
        let value = key.map(|key| {
            self.bytes.extend_from_slice(key);
            (start, key.len())
        });
        self.bytes.push(0);
        self.entries.push(Entry { value, line });
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }
}

/// Reads and hashes the keys of one table.
pub struct Keys {
    hasher: KeyHasher,
    group: ColocationGroup,
    input: pg_sys::FmgrInfo,
    io_param: pg_sys::Oid,
    typmod: i32,
    /// How raw keys are hashed, if they can be.
    key_type: Option<KeyType>,
    binary: bool,
    memory: pg_sys::MemoryContext,
    table: CString,
    column: CString,
}

/// A key that its type does not take.
pub struct Refused(Why);

enum Why {
    /// An ERROR on its way.
    Thrown(Box<dyn Any + Send>),
    /// A binary value of another length.
    Length(Error),
}

impl Refused {
    /// The error, or the ERROR goes on.
    pub fn raise(self) -> Error {
        match self.0 {
            Why::Thrown(panic) => resume_unwind(panic),
            Why::Length(error) => error,
        }
    }
}

/// What the error callback looks at while a batch is read.
struct Place {
    keys: *const Keys,
    index: usize,
    line: u64,
    value: *const c_char,
}

impl Keys {
    /// # Safety
    /// The relation is open.
    pub unsafe fn new(rel: pg_sys::Relation, group: &ColocationGroup, key_attno: i16, binary: bool) -> Result<Keys> {
        // SAFETY: look-ups; what they allocate lives as long as the statement.
        unsafe {
            let relid = (*rel).rd_id;
            let table = TableId(relid.to_u32());
            let (kind, typmod) = column_type(table, key_attno);
            let (mut function, mut io_param) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
            if binary {
                pg_sys::getTypeBinaryInputInfo(kind, &mut function, &mut io_param);
            } else {
                pg_sys::getTypeInputInfo(kind, &mut function, &mut io_param);
            }
            let mut input: pg_sys::FmgrInfo = std::mem::zeroed();
            pg_sys::fmgr_info(function, &mut input);
            let memory = pg_sys::AllocSetContextCreateInternal(
                pg_sys::CurrentMemoryContext,
                c"sharding copy keys".as_ptr(),
                pg_sys::ALLOCSET_DEFAULT_MINSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_INITSIZE as usize,
                pg_sys::ALLOCSET_DEFAULT_MAXSIZE as usize,
            );
            let name = |text: *const c_char| CString::new(tree::text(text)).unwrap_or_default();
            let table = name(pg_sys::get_rel_name(relid));
            let column = name(pg_sys::get_attname(relid, key_attno, false));
            let hasher = KeyHasher::new(TableId(relid.to_u32()))?;
            let key_type = hasher.key_type(kind, typmod);
            Ok(Keys { hasher, group: group.clone(), input, io_param, typmod, key_type, binary, memory, table, column })
        }
    }

    /// The shard of each key of the batch. If a key is refused, the shards up to it, and any for its own.
    pub fn shards(&mut self, batch: &Batch, shards: &mut Vec<u32>) -> std::result::Result<(), Refused> {
        shards.clear();
        shards.extend(batch.entries.iter().map_while(|entry| self.shard_of_raw(batch, entry)));
        let known = shards.len();
        if known == batch.entries.len() {
            return Ok(());
        }
        shards.resize(batch.entries.len(), 0);
        let out = shards.as_mut_ptr();
        let mut place = Place { keys: self, index: 0, line: 0, value: std::ptr::null() };
        let place = &raw mut place;
        let keys: *mut Keys = self;
        // SAFETY: the closure owns nothing; `keys`, `batch` and `out` outlive it, and nobody else uses them meanwhile.
        // The callback is taken off the stack again, on an ERROR by `boundary`.
        let read = catch_unwind(AssertUnwindSafe(|| unsafe {
            boundary(|| {
                let mut callback = pg_sys::ErrorContextCallback {
                    previous: pg_sys::error_context_stack,
                    callback: Some(say_place),
                    arg: place.cast(),
                };
                pg_sys::error_context_stack = &raw mut callback;
                let outer = pg_sys::MemoryContextSwitchTo((*keys).memory);
                let mut whole = true;
                for (index, entry) in batch.entries.iter().enumerate().skip(known) {
                    if let Some(shard) = (*keys).shard_of_raw(batch, entry) {
                        *out.add(index) = shard;
                        continue;
                    }
                    (*place).index = index;
                    (*place).line = entry.line;
                    let Some((start, length)) = entry.value else { continue };
                    let value = batch.bytes.as_ptr().add(start);
                    (*place).value = value.cast();
                    let datum = (*keys).datum(value, length, &mut whole);
                    if !whole {
                        break;
                    }
                    *out.add(index) = (*keys).hasher.shard_within(&(*keys).group, Some(datum)).0;
                }
                pg_sys::MemoryContextSwitchTo(outer);
                pg_sys::error_context_stack = callback.previous;
                pg_sys::MemoryContextReset((*keys).memory);
                whole
            })
        }));
        // SAFETY: `place` is a variable of this function.
        let (index, line) = unsafe { ((*place).index, (*place).line) };
        let why = match read {
            Ok(true) => return Ok(()),
            Ok(false) => {
                let (table, column) = (self.table.to_string_lossy(), self.column.to_string_lossy());
                Why::Length(incorrect_value().context(format!("COPY {table}, line {line}, column {column}")))
            }
            Err(panic) => Why::Thrown(panic),
        };
        shards.truncate(index + 1);
        Err(Refused(why))
    }

    /// The shard of a key, if that can be told from its bytes.
    fn shard_of_raw(&self, batch: &Batch, entry: &Entry) -> Option<u32> {
        let Some((start, length)) = entry.value else { return Some(self.group.shard_of_hash(HASH_OF_NULL).0) };
        let value = batch.bytes.get(start..start + length)?;
        let key_type = self.key_type?;
        let hash = if self.binary { key_type.of_binary(value) } else { key_type.of_text(value) };
        hash.map(|hash| self.group.shard_of_hash(hash).0)
    }

    /// The value, and whether its function took all of it.
    unsafe fn datum(&mut self, value: *const u8, length: usize, whole: &mut bool) -> pg_sys::Datum {
        // SAFETY: a zero follows the value; an ERROR jumps to the caller's boundary.
        unsafe {
            if self.binary {
                let mut buffer: pg_sys::StringInfoData = std::mem::zeroed();
                buffer.data = value.cast_mut().cast();
                buffer.len = length as i32;
                buffer.maxlen = length as i32 + 1;
                let datum = raw::ReceiveFunctionCall(&mut self.input, &mut buffer, self.io_param, self.typmod);
                *whole = buffer.cursor == buffer.len;
                return datum;
            }
            let text = value.cast_mut().cast();
            raw::InputFunctionCall(&mut self.input, text, self.io_param, self.typmod)
        }
    }

    /// Frees what the keys took.
    pub fn close(self) {
        // SAFETY: made by `new`; nothing refers to it any more.
        unsafe { pg_sys::MemoryContextDelete(self.memory) }
    }
}

/// The CONTEXT of an ERROR in a key.
unsafe extern "C-unwind" fn say_place(argument: *mut c_void) {
    // SAFETY: the place lives while the callback is on the stack; nothing here is dropped by a jump.
    unsafe {
        let place = argument.cast::<Place>();
        let keys = (*place).keys;
        let (table, column) = ((*keys).table.as_ptr(), (*keys).column.as_ptr());
        if (*keys).binary || (*place).value.is_null() {
            errcontext_msg(c"COPY %s, line %llu, column %s".as_ptr(), table, (*place).line, column);
            return;
        }
        let value = (*place).value;
        let length = libc::strlen(value);
        let shown = if length <= SHOWN {
            length as c_int
        } else {
            pg_sys::pg_mbcliplen(value, length as c_int, SHOWN as c_int)
        };
        let more = if length <= SHOWN { c"".as_ptr() } else { c"...".as_ptr() };
        let format = c"COPY %s, line %llu, column %s: \"%.*s%s\"".as_ptr();
        errcontext_msg(format, table, (*place).line, column, shown, value, more);
    }
}
