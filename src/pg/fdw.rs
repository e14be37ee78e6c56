//! The foreign-data wrapper `sharding`: its handler, and the options that servers and user mappings
//! may have.

use crate::error::{Error, Result, SqlState, sqlstate};
use crate::pg::foreign_scan;
use crate::pg::function::{Answer, Call};
use crate::pg::preload;
use crate::pool::keepalive::{self, Keepalive};
use pgrx::pg_sys;
use std::ffi::CStr;

crate::sql_function!(sharding_fdw_handler, pg_finfo_sharding_fdw_handler, handler);
crate::sql_function!(sharding_fdw_validator, pg_finfo_sharding_fdw_validator, validator);
crate::sql_function!(sharding_require_preload, pg_finfo_sharding_require_preload, require_preload);

const INVALID_OPTION_NAME: SqlState = SqlState::new("HV00D");

const SERVER_OPTIONS: [&str; 10] = [
    "host",
    "hostaddr",
    "port",
    "dbname",
    "connect_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
];
const MAPPING_OPTIONS: [&str; 2] = ["user", "password"];

/// What options are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Wrapper,
    Server,
    Mapping,
    ForeignTable,
}

fn require_preload(_: &Call) -> Result<Answer> {
    preload::require().map(Answer::from)
}

fn handler(_: &Call) -> Result<Answer> {
    // SAFETY: a zeroed node of the right size, as makeNode makes it.
    unsafe {
        let routine = pg_sys::palloc0(size_of::<pg_sys::FdwRoutine>()) as *mut pg_sys::FdwRoutine;
        (*routine).type_ = pg_sys::NodeTag::T_FdwRoutine;
        foreign_scan::fill_routine(&mut *routine);
        Ok(Answer::Datum(pg_sys::Datum::from(routine)))
    }
}

fn validator(call: &Call) -> Result<Answer> {
    let options = call.datum(0).map(options_of).unwrap_or_default();
    let catalog = call.datum(1).map_or(0, |datum| datum.value() as u32);
    let holder = match catalog {
        id if id == pg_sys::ForeignServerRelationId.to_u32() => Holder::Server,
        id if id == pg_sys::UserMappingRelationId.to_u32() => Holder::Mapping,
        id if id == pg_sys::ForeignTableRelationId.to_u32() => Holder::ForeignTable,
        _ => Holder::Wrapper,
    };
    check_options(holder, &options).map(Answer::from)
}

/// The `name=value` pairs of a `text[]` as the validator gets it.
fn options_of(datum: pg_sys::Datum) -> Vec<(String, String)> {
    let mut options = Vec::new();
    // SAFETY: the datum is a text[] of options; the list and its DefElems are palloc'd.
    unsafe {
        let list = pg_sys::untransformRelOptions(datum);
        if list.is_null() {
            return options;
        }
        for i in 0..(*list).length {
            let element = (*(*list).elements.add(i as usize)).ptr_value as *mut pg_sys::DefElem;
            let text = |p: *const std::ffi::c_char| CStr::from_ptr(p).to_string_lossy().into_owned();
            options.push((text((*element).defname), text(pg_sys::defGetString(element))));
        }
    }
    options
}

fn check_options(holder: Holder, options: &[(String, String)]) -> Result<()> {
    let valid: &[&str] = match holder {
        Holder::ForeignTable => {
            return Err(Error::unsupported("foreign tables cannot be made on a node")
                .hint("Create an ordinary table and use SELECT sharding.distribute_table('...', '...')."));
        }
        Holder::Wrapper => &[],
        Holder::Server => &SERVER_OPTIONS,
        Holder::Mapping => &MAPPING_OPTIONS,
    };
    for (name, value) in options {
        if !valid.contains(&name.as_str()) {
            return Err(unknown_option(holder, name, valid));
        }
        check_value(name, value)?;
    }
    Ok(())
}

fn unknown_option(holder: Holder, name: &str, valid: &[&str]) -> Error {
    let error = Error::new(INVALID_OPTION_NAME, format!("invalid option \"{name}\""));
    if holder == Holder::Server && MAPPING_OPTIONS.contains(&name) {
        return error.hint(
            "Credentials belong into the user mapping: CREATE USER MAPPING ... OPTIONS (user '...', password '...').",
        );
    }
    match valid {
        [] => error.hint("There are no valid options in this context."),
        _ => error.hint(format!("Valid options in this context are: {}.", valid.join(", "))),
    }
}

fn check_value(name: &str, value: &str) -> Result<()> {
    let valid = match name {
        "port" => value.parse::<u16>().is_ok_and(|port| port > 0),
        "connect_timeout" => value.parse::<u32>().is_ok_and(|seconds| (1..=3600).contains(&seconds)),
        "hostaddr" => value.parse::<std::net::IpAddr>().is_ok(),
        "host" | "dbname" | "user" => !value.is_empty(),
        option if keepalive::OPTIONS.contains(&option) => Keepalive::default().with(option, value).is_some(),
        _ => true,
    };
    if valid {
        return Ok(());
    }
    let error =
        Error::new(sqlstate::INVALID_PARAMETER_VALUE, format!("invalid value for option \"{name}\": \"{value}\""));
    Err(match name {
        "port" => error.hint("A port is a number from 1 to 65535."),
        "connect_timeout" => error.hint("It is a number of seconds from 1 to 3600."),
        "keepalives" => error.hint("It is 1 or 0."),
        "tcp_user_timeout" => error.hint("It is a number of milliseconds; 0 is the system's default."),
        option if keepalive::OPTIONS.contains(&option) => {
            error.hint("It is a number of seconds, or of questions; 0 is the system's default.")
        }
        "hostaddr" => error.hint("It is an IP address; a name goes into the option host."),
        _ => error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(holder: Holder, name: &str, value: &str) -> std::result::Result<(), String> {
        check_options(holder, &[(name.into(), value.into())]).map_err(|e| e.code.as_str().to_string())
    }

    #[test]
    fn options_are_checked_where_they_are_given() {
        assert!(check(Holder::Server, "port", "5433").is_ok());
        assert_eq!(check(Holder::Server, "port", "0"), Err("22023".into()));
        assert!(check(Holder::Server, "keepalives_idle", "10").is_ok());
        assert_eq!(check(Holder::Server, "tcp_user_timeout", "10s"), Err("22023".into()));
        assert_eq!(check(Holder::Server, "password", "x"), Err("HV00D".into()));
        assert!(check(Holder::Mapping, "password", "").is_ok());
        assert_eq!(check(Holder::Mapping, "host", "x"), Err("HV00D".into()));
        assert!(check_options(Holder::ForeignTable, &[]).is_err());
        assert!(check_options(Holder::Wrapper, &[]).is_ok());
    }
}
