//! Session settings that travel with a statement, because they change what it means.
//!
//! A new connection gets them in the startup packet; later, what differs from what the connection
//! last got goes as `SET` in front of the next statement.
//!
//! `search_path` is resolved here: a node shall not look at its own `$user` or temporary schema,
//! and `pg_catalog` comes first, because statements are printed on that assumption.
//!
//! ```
//! use sharding::pg::settings::node_search_path;
//! assert_eq!(node_search_path("\"$user\", public", "ann"), "\"ann\", \"public\"");
//! assert_eq!(node_search_path("App, pg_catalog", "ann"), "\"pg_catalog\", \"app\"");
//! ```

use crate::catalog::{quote_identifier, quote_literal};
use crate::pg::endpoint::user_name;
use crate::pg::raw;
use pgrx::pg_sys;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::rc::Rc;

unsafe extern "C" {
    static mut bytea_output: c_int;
    static mut xmloption: c_int;
    static mut xmlbinary: c_int;
    static mut locale_monetary: *mut c_char;
    static mut locale_numeric: *mut c_char;
    static mut locale_time: *mut c_char;
}

const SEARCH_PATH: &str = "search_path";
const APPLICATION_NAME: &str = "application_name";

/// The settings, in the order in which they are sent.
const NAMES: [&str; 18] = [
    "TimeZone",
    "DateStyle",
    "IntervalStyle",
    SEARCH_PATH,
    "extra_float_digits",
    "bytea_output",
    "xmloption",
    "xmlbinary",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "standard_conforming_strings",
    "default_text_search_config",
    "array_nulls",
    "lock_timeout",
    "check_function_bodies",
    "transform_null_equals",
    APPLICATION_NAME,
];

/// The values of a session, in the order of `NAMES`.
#[derive(Clone, Debug)]
pub struct Settings {
    values: [String; NAMES.len()],
    hash: u64,
    reading: u64,
}

/// By their hash, as connections know them.
impl PartialEq for Settings {
    fn eq(&self, other: &Settings) -> bool {
        self.hash == other.hash
    }
}

impl Eq for Settings {}

thread_local! {
    /// The values as of the last look, and what stood in the variables then.
    static LAST: RefCell<Option<(Variables, Rc<Settings>)>> = const { RefCell::new(None) };
}

impl Settings {
    /// The values of this backend, as a node needs them.
    pub fn current() -> Rc<Settings> {
        let known = LAST.with_borrow(|last| last.as_ref().filter(|(seen, _)| seen.hold()).map(|(_, s)| s.clone()));
        known.unwrap_or_else(|| {
            let settings = Rc::new(Settings::read());
            LAST.set(Some((Variables::read(), settings.clone())));
            settings
        })
    }

    fn read() -> Settings {
        let values = NAMES.map(|name| {
            let value = setting(name);
            if name == SEARCH_PATH {
                node_search_path(&value, &user_name(raw::GetUserId()))
            } else if name == APPLICATION_NAME {
                application_name(&value)
            } else {
                value
            }
        });
        let hash = |fits: fn(&str) -> bool| {
            let mut hasher = xxhash_rust::xxh3::Xxh3Default::new();
            for (name, value) in NAMES.iter().zip(&values).filter(|(name, _)| fits(name)) {
                for part in [name.as_bytes(), &[0], value.as_bytes(), &[0]] {
                    hasher.update(part);
                }
            }
            hasher.digest().max(1)
        };
        let reading = hash(|name| !matches!(name, "lock_timeout" | APPLICATION_NAME));
        Settings { hash: hash(|_| true), reading, values }
    }

    /// The hash that tells connections what settings they have; never 0.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// A hash of those settings that say how a statement's text is read.
    pub fn reading_hash(&self) -> u64 {
        self.reading
    }

    /// Names and values for a startup packet.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        NAMES.into_iter().zip(self.values.iter().map(String::as_str))
    }

    /// `SET` commands that turn a session with settings `known` into one with these.
    pub fn changes(&self, known: Option<&Settings>) -> String {
        let mut sql = String::new();
        if known == Some(self) {
            return sql;
        }
        for (i, name) in NAMES.iter().enumerate() {
            let value = &self.values[i];
            if known.is_some_and(|known| known.values[i] == *value) {
                continue;
            }
            let value = match (*name, value.as_str()) {
                (SEARCH_PATH, "") => "''".to_string(),
                (SEARCH_PATH, list) => list.to_string(),
                (_, value) => quote_literal(value),
            };
            sql.push_str(&format!("SET {name} = {value};"));
        }
        sql
    }
}

/// What the settings' variables hold: quick to compare, where each value as text is a look-up and an
/// allocation. Strings are compared by what they say: a pointer may be used again.
struct Variables {
    numbers: [i64; 14],
    texts: [CString; 6],
}

impl Variables {
    fn read() -> Variables {
        // SAFETY: checked for null; Postgres's strings are NUL-terminated.
        let owned = |text: *const c_char| unsafe {
            if text.is_null() { CString::default() } else { CStr::from_ptr(text).to_owned() }
        };
        Variables { numbers: Variables::numbers(), texts: Variables::texts().map(owned) }
    }

    /// Whether the variables still hold this.
    fn hold(&self) -> bool {
        self.numbers == Variables::numbers()
            && self.texts.iter().zip(Variables::texts()).all(|(seen, now)| {
                // SAFETY: as in `read`.
                let now = unsafe { if now.is_null() { c"" } else { CStr::from_ptr(now) } };
                seen.as_c_str() == now
            })
    }

    fn numbers() -> [i64; 14] {
        // SAFETY: Postgres's own variables.
        unsafe {
            [
                i64::from(raw::GetUserId().to_u32()),
                pg_sys::session_timezone as i64,
                i64::from(pg_sys::DateStyle),
                i64::from(pg_sys::DateOrder),
                i64::from(pg_sys::IntervalStyle),
                i64::from(pg_sys::extra_float_digits),
                i64::from(bytea_output),
                i64::from(xmloption),
                i64::from(xmlbinary),
                i64::from(pg_sys::LockTimeout),
                i64::from(pg_sys::standard_conforming_strings),
                i64::from(pg_sys::Array_nulls),
                i64::from(pg_sys::check_function_bodies),
                i64::from(pg_sys::Transform_null_equals),
            ]
        }
    }

    fn texts() -> [*const c_char; 6] {
        // SAFETY: as above.
        unsafe {
            [
                pg_sys::namespace_search_path,
                locale_monetary,
                locale_numeric,
                locale_time,
                pg_sys::TSCurrentConfig,
                pg_sys::application_name,
            ]
        }
    }
}

/// What the node's administrator sees: that it is us, and for whom.
fn application_name(name: &str) -> String {
    match name {
        "" => "sharding".to_string(),
        name => format!("sharding: {name}"),
    }
}

/// The value of a setting as `current_setting` shows it.
pub fn setting(name: &str) -> String {
    let name = CString::new(name).unwrap_or_default();
    // SAFETY: the value may lie in a static buffer and is copied at once.
    unsafe {
        let value = pg_sys::GetConfigOption(name.as_ptr(), true, false);
        if value.is_null() { String::new() } else { CStr::from_ptr(value).to_string_lossy().into_owned() }
    }
}

/// The search path that a node is given for `path`, a list of schemas as in the setting.
pub fn node_search_path(path: &str, user: &str) -> String {
    let mut schemas = Vec::new();
    for schema in identifiers(path) {
        match schema.as_str() {
            "$user" => schemas.push(user.to_string()),
            "pg_temp" => {}
            "pg_catalog" => schemas.insert(0, schema),
            _ => schemas.push(schema),
        }
    }
    schemas.iter().map(|schema| quote_identifier(schema)).collect::<Vec<_>>().join(", ")
}

/// The identifiers of a comma-separated list, unquoted; what is not quoted is folded.
fn identifiers(list: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    let mut any = false;
    let mut chars = list.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                word.push('"');
            }
            '"' => {
                quoted = !quoted;
                any = true;
            }
            ',' if !quoted => {
                if any {
                    found.push(std::mem::take(&mut word));
                }
                any = false;
            }
            c if !quoted && c.is_ascii_whitespace() => {}
            c => {
                word.push(if quoted { c } else { c.to_ascii_lowercase() });
                any = true;
            }
        }
    }
    if any {
        found.push(word);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_path_is_resolved_for_the_node() {
        for (path, expected) in [
            ("", ""),
            ("\"\"", "\"\""),
            ("public", "\"public\""),
            ("\"A,\"\"b\", c", "\"A,\"\"b\", \"c\""),
            ("pg_temp, public, pg_catalog", "\"pg_catalog\", \"public\""),
            ("\"$user\",public", "\"u\", \"public\""),
        ] {
            assert_eq!(node_search_path(path, "u"), expected, "{path}");
        }
    }

    #[test]
    fn only_what_differs_is_set() {
        let known = Settings { values: std::array::from_fn(|i| i.to_string()), hash: 1, reading: 1 };
        let mut now = known.clone();
        assert_eq!(now.changes(Some(&known)), "");
        now.hash = 2;
        now.values[0] = "it's".to_string();
        now.values[3] = String::new();
        assert_eq!(now.changes(Some(&known)), "SET TimeZone = 'it''s';SET search_path = '';");
        assert_eq!(now.changes(None).matches("SET ").count(), NAMES.len());
    }
}
