//! Values on the wire: a `Datum` to bytes and back.
//!
//! Binary where both sides agree on the form by construction: types of Postgres itself whose
//! OIDs are fixed (below 10,000) and whose values hold no OIDs of objects. Everything else (enums,
//! composites, arrays of them, `regclass`) travels as text. A domain travels as its base type: its
//! constraints were checked where the value was made.

use crate::error::{Error, Result, sqlstate};
use crate::pg::guard::boundary;
use crate::pg::session::Param;
use pgrx::pg_sys;
use std::ffi::CString;

/// First OID that initdb assigns by itself; below it, an OID means the same on every server.
const FIRST_UNFIXED_OID: u32 = 10_000;

/// How values of one column or parameter travel.
pub struct Codec {
    /// The type whose form is on the wire (a domain's base type).
    pub wire_type: pg_sys::Oid,
    typmod: i32,
    pub binary: bool,
    /// Looked up when first needed: the commonest types need neither.
    decode: Option<(pg_sys::FmgrInfo, pg_sys::Oid)>,
    encode: Option<pg_sys::FmgrInfo>,
    /// Where the functions keep what they remember.
    memory: pg_sys::MemoryContext,
}

/// Whether values of a type have the same binary form on every node.
pub fn travels_in_binary(wire_type: pg_sys::Oid) -> bool {
    // record, record[], cstring, the reg* types and their arrays (their values are OIDs), acl.
    const NOT: [u32; 31] = [
        2249, 2287, 2275, 24, 1008, 2202, 2207, 2203, 2208, 2204, 2209, 2205, 2210, 2206, 2211, 3734, 3735, 3769, 3770,
        4089, 4090, 4096, 4097, 4191, 4192, 1033, 1034, 194, 2276, 2277, 2278,
    ];
    let oid = wire_type.to_u32();
    oid < FIRST_UNFIXED_OID && !NOT.contains(&oid)
}

impl Codec {
    /// For values of `type_oid`, a domain being taken as its base type.
    pub fn new(type_oid: pg_sys::Oid, typmod: i32) -> Codec {
        Codec::with_form(type_oid, typmod, true)
    }

    /// As [`Codec::new`], but in text whatever the type.
    pub fn textual(type_oid: pg_sys::Oid, typmod: i32) -> Codec {
        Codec::with_form(type_oid, typmod, false)
    }

    fn with_form(type_oid: pg_sys::Oid, typmod: i32, may_be_binary: bool) -> Codec {
        let mut typmod = typmod;
        let wire_type = if type_oid.to_u32() < FIRST_UNFIXED_OID {
            type_oid
        } else {
            // SAFETY: a syscache look-up.
            unsafe { pg_sys::getBaseTypeAndTypmod(type_oid, &mut typmod) }
        };
        let binary = may_be_binary && travels_in_binary(wire_type);
        // SAFETY: the codec lives no longer than the memory context in which it is made.
        let memory = unsafe { pg_sys::CurrentMemoryContext };
        Codec { wire_type, typmod, binary, decode: None, encode: None, memory }
    }

    unsafe fn decoder(&mut self) -> (&mut pg_sys::FmgrInfo, pg_sys::Oid) {
        let Codec { wire_type, binary, memory, decode, .. } = self;
        let (function, param) = decode.get_or_insert_with(|| {
            let (mut function, mut param) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
            // SAFETY: syscache look-ups.
            unsafe {
                if *binary {
                    pg_sys::getTypeBinaryInputInfo(*wire_type, &mut function, &mut param);
                } else {
                    pg_sys::getTypeInputInfo(*wire_type, &mut function, &mut param);
                }
                (function_info(function, *memory), param)
            }
        });
        (function, *param)
    }

    unsafe fn encoder(&mut self) -> &mut pg_sys::FmgrInfo {
        let Codec { wire_type, binary, memory, encode, .. } = self;
        encode.get_or_insert_with(|| {
            let (mut function, mut varlena) = (pg_sys::InvalidOid, false);
            // SAFETY: syscache look-ups.
            unsafe {
                if *binary {
                    pg_sys::getTypeBinaryOutputInfo(*wire_type, &mut function, &mut varlena);
                } else {
                    pg_sys::getTypeOutputInfo(*wire_type, &mut function, &mut varlena);
                }
                function_info(function, *memory)
            }
        })
    }

    /// The value in the current memory context.
    #[inline]
    pub fn decode(&mut self, bytes: &[u8]) -> Result<pg_sys::Datum> {
        match self.binary.then(|| fixed_width(self.wire_type.to_u32(), bytes)).flatten() {
            Some(datum) => Ok(datum),
            None => self.decode_by_function(bytes),
        }
    }

    fn decode_by_function(&mut self, bytes: &[u8]) -> Result<pg_sys::Datum> {
        // SAFETY: the buffer is NUL-terminated and outlives the call; receive functions copy.
        unsafe {
            if !self.binary {
                let text = CString::new(bytes)
                    .map_err(|_| Error::new(sqlstate::PROTOCOL_VIOLATION, "node sent a text value with a zero byte"))?;
                let typmod = self.typmod;
                let (function, param) = self.decoder();
                return Ok(boundary(|| pg_sys::InputFunctionCall(function, text.as_ptr().cast_mut(), param, typmod)));
            }
            let buffer = pg_sys::palloc(bytes.len() + 1).cast::<u8>();
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), buffer, bytes.len());
            *buffer.add(bytes.len()) = 0;
            let mut info = pg_sys::StringInfoData {
                data: buffer.cast(),
                len: bytes.len() as i32,
                maxlen: bytes.len() as i32 + 1,
                cursor: 0,
            };
            let _encoding = ServerEncoding::enter();
            let typmod = self.typmod;
            let (function, param) = self.decoder();
            let datum = boundary(|| pg_sys::ReceiveFunctionCall(function, &mut info, param, typmod));
            if info.cursor != info.len {
                return Err(Error::new(sqlstate::PROTOCOL_VIOLATION, "node sent a value with trailing bytes"));
            }
            pg_sys::pfree(buffer.cast());
            Ok(datum)
        }
    }

    /// The value's bytes.
    pub fn encode(&mut self, datum: pg_sys::Datum) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.encode_into(datum, &mut bytes);
        bytes
    }

    /// Appends the value's bytes to `out`: no function call for the commonest types.
    pub fn encode_into(&mut self, datum: pg_sys::Datum, out: &mut Vec<u8>) {
        if self.binary && plain_into(self.wire_type.to_u32(), datum, out) {
            return;
        }
        // SAFETY: the datum is of this codec's type; the result is copied, then freed.
        unsafe {
            if self.binary {
                let _encoding = ServerEncoding::enter();
                let function = self.encoder();
                let sent = boundary(|| pg_sys::SendFunctionCall(function, datum));
                out.extend_from_slice(pgrx::varlena::varlena_to_byte_slice(sent));
                pg_sys::pfree(sent.cast());
            } else {
                let function = self.encoder();
                let text = boundary(|| pg_sys::OutputFunctionCall(function, datum));
                out.extend_from_slice(std::ffi::CStr::from_ptr(text).to_bytes());
                pg_sys::pfree(text.cast());
            }
        }
    }

    /// A parameter holding the value (`None`: NULL).
    pub fn param(&mut self, datum: Option<pg_sys::Datum>) -> Param {
        Param {
            oid: if self.binary { self.wire_type.to_u32() } else { 0 },
            binary: self.binary,
            value: datum.map(|d| self.encode(d)),
        }
    }
}

/// What is needed to call a function, which keeps its state in `memory`.
unsafe fn function_info(function: pg_sys::Oid, memory: pg_sys::MemoryContext) -> pg_sys::FmgrInfo {
    // SAFETY: filled in at once.
    unsafe {
        let mut info: pg_sys::FmgrInfo = std::mem::zeroed();
        pg_sys::fmgr_info_cxt(function, &mut info, memory);
        info
    }
}

/// The by-value types that most columns have, without a function call.
#[inline]
fn fixed_width(oid: u32, bytes: &[u8]) -> Option<pg_sys::Datum> {
    match (oid, bytes.len()) {
        (16, 1) => Some(pg_sys::Datum::from(bytes[0] != 0)),
        (21, 2) => Some(pg_sys::Datum::from(i16::from_be_bytes(bytes.try_into().ok()?))),
        (23 | 700 | 1082, 4) => Some(pg_sys::Datum::from(i32::from_be_bytes(bytes.try_into().ok()?))),
        (20 | 1083 | 1114 | 1184, 8) => Some(pg_sys::Datum::from(i64::from_be_bytes(bytes.try_into().ok()?))),
        (701, 8) => Some(pg_sys::Datum::from(u64::from_be_bytes(bytes.try_into().ok()?) as i64)),
        _ => None,
    }
}

/// Integers, floats, booleans, dates, timestamps and text as their send functions write them (text in
/// the server's encoding); `false` for any other type.
fn plain_into(oid: u32, datum: pg_sys::Datum, out: &mut Vec<u8>) -> bool {
    match oid {
        16 => out.push(u8::from(datum.value() != 0)),
        21 => out.extend_from_slice(&(datum.value() as i16).to_be_bytes()),
        23 | 26 | 700 | 1082 => out.extend_from_slice(&(datum.value() as i32).to_be_bytes()),
        20 | 701 | 1083 | 1114 | 1184 => out.extend_from_slice(&(datum.value() as i64).to_be_bytes()),
        25 | 114 | 1042 | 1043 => {
            // SAFETY: a varlena of the caller's; a detoasted copy goes with the memory context.
            unsafe {
                let value = pg_sys::pg_detoast_datum_packed(datum.cast_mut_ptr());
                out.extend_from_slice(pgrx::varlena::varlena_to_byte_slice(value));
            }
        }
        _ => return false,
    }
    true
}

/// While it lives, send and receive functions do not convert text to and from the client's encoding:
/// nodes have the database's.
struct ServerEncoding(Option<i32>);

impl ServerEncoding {
    fn enter() -> ServerEncoding {
        // SAFETY: the server's own encoding needs no conversion and is always accepted.
        unsafe {
            let client = pg_sys::pg_get_client_encoding();
            let server = pg_sys::GetDatabaseEncoding();
            if client == server {
                return ServerEncoding(None);
            }
            pg_sys::SetClientEncoding(server);
            ServerEncoding(Some(client))
        }
    }
}

impl Drop for ServerEncoding {
    fn drop(&mut self) {
        if let Some(client) = self.0 {
            // SAFETY: the encoding was in use before, so its conversion is cached; raises no error.
            unsafe { pg_sys::SetClientEncoding(client) };
        }
    }
}

/// While it lives, text made here means the same to any session: ISO dates, `postgres` intervals,
/// floats to the last digit, names qualified.
pub struct TransmissionMode(i32);

impl TransmissionMode {
    pub fn enter() -> TransmissionMode {
        // SAFETY: a nest level of its own, closed on drop (or by the transaction's abort).
        unsafe {
            let level = pg_sys::NewGUCNestLevel();
            for (name, value) in [
                (c"datestyle", c"ISO"),
                (c"intervalstyle", c"postgres"),
                (c"extra_float_digits", c"3"),
                (c"search_path", c"pg_catalog"),
            ] {
                pg_sys::set_config_option(
                    name.as_ptr(),
                    value.as_ptr(),
                    pg_sys::GucContext::PGC_USERSET,
                    pg_sys::GucSource::PGC_S_SESSION,
                    pg_sys::GucAction::GUC_ACTION_SAVE,
                    true,
                    0,
                    false,
                );
            }
            TransmissionMode(level)
        }
    }
}

impl Drop for TransmissionMode {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // SAFETY: the level was opened by `enter`.
            unsafe { pg_sys::AtEOXact_GUC(true, self.0) }
        }
    }
}
