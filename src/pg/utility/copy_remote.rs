//! Whether a COPY FROM can go on unparsed, and the COPY that each node gets.
//!
//! ```text
//! COPY orders (id, note) FROM '/data/orders.csv' (FORMAT csv, NULL '-')
//!   -> COPY public.orders (id, note) FROM STDIN (FORMAT csv, HEADER true, DELIMITER ',', NULL '-', QUOTE '"',
//!        ESCAPE '"', ENCODING 'UTF8')
//! ```
//!
//! A node reads text just as Postgres does here: types, settings and constraints are the same. Not so where the
//! coordinator has something to add or to look at: WHERE, defaults that are not constants (sequences, `now()`),
//! options that skip rows or put values in, another encoding, types that name objects of the database by OID. Those
//! rows are parsed here.
//!
//! Text nodes always get a header, if only an empty line: it fixes the style of newlines.
//!
//! Where the columns' types allow, records go on in binary, which costs a node much less to read, as far as they are
//! written as they mostly are ([`crate::copy::encode`]); from the first one on that is not, they go as they are.

use crate::catalog::TableId;
use crate::catalog::{quote_identifier, quote_literal};
use crate::copy::binary_form::Form;
use crate::copy::{Csv, Marker, Style};
use crate::error::Result;
use crate::pg::ddl::describe;
use crate::pg::guard::boundary;
use crate::pg::utility::copy_from::Target;
use crate::pg::utility::{compat, raw, tree};
use crate::pg::{gucs, tuple};
use pgrx::pg_sys;
use std::ffi::CStr;

/// Options whose meaning survives.
const KNOWN: [&str; 10] = [
    "format",
    "delimiter",
    "null",
    "header",
    "quote",
    "escape",
    "force_not_null",
    "force_null",
    "encoding",
    "log_verbosity",
];

/// regproc, regprocedure, regoper, regoperator, regclass, regtype, regconfig, regdictionary, regnamespace, regrole,
/// regcollation.
const OBJECT_NAMES: [u32; 11] = [24, 2202, 2203, 2204, 2205, 2206, 3734, 3769, 4089, 4096, 4191];

/// How the data are written.
#[derive(Debug)]
pub enum Format {
    Text(Style, Marker),
    Binary,
}

/// What the first line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    None,
    Skipped,
    /// It has the names of the columns; nodes compare them.
    Matched,
}

/// A COPY FROM that goes on unparsed.
#[derive(Debug)]
pub struct Remote {
    pub format: Format,
    pub header: Header,
    /// The nodes' statement.
    pub sql: String,
    /// The same for binary records, and how values get that form, where text can be converted.
    pub binary: Option<(String, Vec<Form>)>,
    pub columns: Vec<String>,
    /// The key's place among them, from 0.
    pub key: usize,
}

impl Remote {
    /// `None` if the rows have to be parsed here.
    ///
    /// # Safety
    /// The statement lives, the target is open.
    pub unsafe fn of(
        statement: *mut pg_sys::CopyStmt,
        target: &Target,
        table: TableId,
        key_attno: i16,
    ) -> Result<Option<Remote>> {
        // SAFETY: as the caller promises; closures own nothing.
        unsafe {
            let options: Vec<*mut pg_sys::DefElem> = tree::items((*statement).options);
            let named = |name: &str| options.iter().copied().find(|o| tree::text((**o).defname) == name);
            if !target.filter.is_null() || options.iter().any(|o| !KNOWN.contains(&tree::text((**o).defname).as_str()))
            {
                return Ok(None);
            }
            let mut read: pg_sys::CopyFormatOptions = std::mem::zeroed();
            read.file_encoding = -1;
            let (parse, given, out) = (target.parse, (*statement).options, &raw mut read);
            boundary(|| raw::ProcessCopyOptions(parse, out, true, given));
            let encoding = if read.file_encoding < 0 { pg_sys::pg_get_client_encoding() } else { read.file_encoding };
            if encoding != pg_sys::GetDatabaseEncoding() {
                return Ok(None);
            }
            let (rel, names) = (target.rel, (*statement).attlist);
            let chosen = tree::integers(boundary(|| raw::CopyGetAttnums((*rel).rd_att, rel, names)));
            let Some(key) = chosen.iter().position(|attno| *attno == i32::from(key_attno)) else { return Ok(None) };
            if !columns_mean_the_same(rel, &chosen) {
                return Ok(None);
            }
            let column = |attno: &i32| tree::text(pg_sys::get_attname((*rel).rd_id, *attno as i16, false));
            let columns: Vec<String> = chosen.iter().map(column).collect();
            let forced = |name: &str| named(name).map_or_else(Vec::new, |option| listed((*option).arg, &columns));
            let (not_null, null) = (forced("force_not_null"), forced("force_null"));
            let bytes = |text: *const std::ffi::c_char| CStr::from_ptr(text).to_bytes();
            let first = |text: *const std::ffi::c_char| bytes(text).first().copied().unwrap_or_default();
            let format = if read.binary {
                Format::Binary
            } else {
                let csv = read.csv_mode.then(|| Csv {
                    quote: first(read.quote),
                    escape: first(read.escape),
                    key_force_not_null: not_null.contains(&columns[key]),
                    key_force_null: null.contains(&columns[key]),
                });
                let style = Style { delimiter: first(read.delim), null: bytes(read.null_print).to_vec(), csv };
                Format::Text(style, compat::COPY_MARKER)
            };
            let header = match read.header_line {
                pg_sys::CopyHeaderChoice::COPY_HEADER_FALSE => Header::None,
                pg_sys::CopyHeaderChoice::COPY_HEADER_MATCH => Header::Matched,
                _ => Header::Skipped,
            };
            let quoted: Vec<String> = columns.iter().map(|name| quote_identifier(name)).collect();
            let encoding = tree::text(pg_sys::GetDatabaseEncodingName());
            let options = match &format {
                Format::Binary => format!("FORMAT binary, ENCODING {}", quote_literal(&encoding)),
                Format::Text(style, _) => text_options(style, header, &not_null, &null, &encoding),
            };
            let start = format!("COPY {} ({}) FROM STDIN", describe::qualified_name(table)?, quoted.join(", "));
            let convertible = gucs::BINARY_COPY.get()
                && !matches!(format, Format::Binary)
                && header != Header::Matched
                && not_null.is_empty()
                && null.is_empty()
                && pg_sys::GetDatabaseEncoding() == pg_sys::pg_enc::PG_UTF8 as i32
                && !tuple::is_watched(rel)
                && (*rel).trigdesc.is_null();
            let binary = convertible.then(|| forms(rel, &chosen)).flatten();
            let binary = binary.map(|forms| (format!("{start} (FORMAT binary)"), forms));
            Ok(Some(Remote { format, header, sql: format!("{start} ({options})"), binary, columns, key }))
        }
    }
}

/// How the columns' values get their binary form; `None` if one cannot be converted.
unsafe fn forms(rel: pg_sys::Relation, columns: &[i32]) -> Option<Vec<Form>> {
    let form = |attno: &i32| {
        // SAFETY: look-ups in an open relation.
        let base = unsafe { pg_sys::getBaseType(pg_sys::get_atttype((*rel).rd_id, *attno as i16)) };
        Some(match base {
            pg_sys::BOOLOID => Form::Bool,
            pg_sys::BYTEAOID => Form::Bytea,
            pg_sys::INT2OID => Form::Int2,
            pg_sys::INT4OID => Form::Int4,
            pg_sys::INT8OID => Form::Int8,
            pg_sys::FLOAT4OID => Form::Float4,
            pg_sys::FLOAT8OID => Form::Float8,
            pg_sys::NUMERICOID => Form::Numeric,
            pg_sys::TEXTOID | pg_sys::VARCHAROID | pg_sys::BPCHAROID | pg_sys::JSONOID => Form::Text,
            pg_sys::JSONBOID => Form::Jsonb,
            pg_sys::UUIDOID => Form::Uuid,
            pg_sys::DATEOID => Form::Date,
            pg_sys::TIMEOID => Form::Time,
            pg_sys::TIMESTAMPOID => Form::Timestamp,
            pg_sys::TIMESTAMPTZOID => Form::Timestamptz,
            // SAFETY: a look-up.
            _ if unsafe { pg_sys::type_is_enum(base) } => Form::Text,
            _ => return None,
        })
    };
    columns.iter().map(form).collect()
}

/// The options of text and CSV, spelt out.
fn text_options(style: &Style, header: Header, not_null: &[String], null: &[String], encoding: &str) -> String {
    let text = |bytes: &[u8]| quote_literal(&String::from_utf8_lossy(bytes));
    let names = |names: &[String]| names.iter().map(|name| quote_identifier(name)).collect::<Vec<_>>().join(", ");
    let mut options = format!(
        "FORMAT {}, HEADER {}, DELIMITER {}, NULL {}, ENCODING {}",
        if style.csv.is_some() { "csv" } else { "text" },
        if header == Header::Matched { "match" } else { "true" },
        text(&[style.delimiter]),
        text(&style.null),
        quote_literal(encoding)
    );
    if let Some(csv) = style.csv {
        options += &format!(", QUOTE {}, ESCAPE {}", text(&[csv.quote]), text(&[csv.escape]));
        for (option, columns) in [("FORCE_NOT_NULL", not_null), ("FORCE_NULL", null)] {
            if !columns.is_empty() {
                options += &format!(", {option} ({})", names(columns));
            }
        }
    }
    options
}

/// The columns of a FORCE_NULL: by name, or `*` for all.
unsafe fn listed(arg: *mut pg_sys::Node, all: &[String]) -> Vec<String> {
    // SAFETY: the options were checked: a list of names or `*`.
    unsafe {
        match tree::cast::<pg_sys::List>(arg, pg_sys::NodeTag::T_List) {
            Some(list) => tree::strings(list),
            None => all.to_vec(),
        }
    }
}

/// Whether a node makes the same row of these columns' texts: their types read the same there, and what is left
/// out is constant.
unsafe fn columns_mean_the_same(rel: pg_sys::Relation, chosen: &[i32]) -> bool {
    // SAFETY: look-ups in an open relation; closures own nothing.
    unsafe {
        let relid = (*rel).rd_id;
        (1..=(*(*rel).rd_att).natts).all(|attno| {
            let kind = pg_sys::get_atttype(relid, attno as i16);
            if kind == pg_sys::InvalidOid || pg_sys::get_attgenerated(relid, attno as i16) != 0 {
                return true;
            }
            if chosen.contains(&attno) {
                let element = pg_sys::get_element_type(kind);
                let element = if element == pg_sys::InvalidOid { kind } else { element };
                return !OBJECT_NAMES.contains(&pg_sys::getBaseType(element).to_u32());
            }
            let default = boundary(|| raw::build_column_default(rel, attno));
            default.is_null() || tree::tag(default) == pg_sys::NodeTag::T_Const
        })
    }
}
