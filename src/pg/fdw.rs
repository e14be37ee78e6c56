//! The foreign-data wrapper `sharding`: its handler, and the options that servers and user mappings
//! may have.

use crate::error::{Error, Result, SqlState, sqlstate};
use crate::pg::foreign_scan;
use crate::pg::function::{Answer, Call};
use crate::pg::preload;
use crate::pool::hosts::hosts;
use crate::pool::keepalive::{self, Keepalive};
use crate::pool::target::Target;
use crate::tls::options::{self, TlsOptions};
use pgrx::pg_sys;
use std::ffi::CStr;

crate::sql_function!(sharding_fdw_handler, pg_finfo_sharding_fdw_handler, handler);
crate::sql_function!(sharding_fdw_validator, pg_finfo_sharding_fdw_validator, validator);
crate::sql_function!(sharding_require_preload, pg_finfo_sharding_require_preload, require_preload);

const INVALID_OPTION_NAME: SqlState = SqlState::new("HV00D");

const SERVER_OPTIONS: [&str; 16] = [
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
    "target_session_attrs",
    "sslmode",
    "sslrootcert",
    "sslcrl",
    "ssl_min_protocol_version",
    "channel_binding",
];
const MAPPING_OPTIONS: [&str; 4] = ["user", "password", "sslcert", "sslkey"];

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
    check_options(holder, &options)?;
    // SAFETY: looks the current user up.
    if !unsafe { pg_sys::superuser() } {
        refuse_paths(&options)?;
    }
    Ok(Answer::from(()))
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
    check_together(holder, options)
}

/// The server reads the files with its own rights, whoever uses the node.
fn refuse_paths(options: &[(String, String)]) -> Result<()> {
    let is_path = |(name, value): &&(String, String)| {
        options::PATHS.contains(&name.as_str()) && !(name == "sslrootcert" && value == options::SYSTEM)
    };
    match options.iter().find(is_path) {
        None => Ok(()),
        Some((name, _)) => {
            let message = format!("permission denied to set option \"{name}\"");
            Err(Error::new(sqlstate::INSUFFICIENT_PRIVILEGE, message)
                .hint("Servers and user mappings with paths may only be created or altered by superusers."))
        }
    }
}

/// What the options of a server or user mapping say together.
fn check_together(holder: Holder, options: &[(String, String)]) -> Result<()> {
    let invalid = |problem: String| Error::new(sqlstate::INVALID_PARAMETER_VALUE, problem);
    let option = |wanted: &str| options.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    match holder {
        Holder::Server => {
            hosts(option("host"), option("hostaddr"), option("port")).map_err(|problem| {
                invalid(problem).hint("The lists must name the same number of hosts, port also one.")
            })?;
            let tls = options::SERVER_OPTIONS
                .iter()
                .filter_map(|name| Some((name, option(name)?)))
                .try_fold(TlsOptions::default(), |all, (name, value)| all.with(name, value));
            match tls.and_then(|tls| tls.conflict()) {
                Some((problem, hint)) => Err(invalid(problem).hint(hint)),
                None => Ok(()),
            }
        }
        Holder::Mapping if option("sslcert").is_some() != option("sslkey").is_some() => {
            Err(invalid("a client certificate needs both sslcert and sslkey".into())
                .hint("Set both options in one statement."))
        }
        _ => Ok(()),
    }
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
        "port" => list(value).all(|port| port.is_empty() || port.parse::<u16>().is_ok_and(|port| port > 0)),
        "connect_timeout" => value.parse::<u32>().is_ok_and(|seconds| (1..=3600).contains(&seconds)),
        "hostaddr" => list(value).all(|address| address.is_empty() || address.parse::<std::net::IpAddr>().is_ok()),
        "host" | "dbname" | "user" => !value.is_empty(),
        "target_session_attrs" => Target::parse(value).is_some(),
        option if keepalive::OPTIONS.contains(&option) => Keepalive::default().with(option, value).is_some(),
        option if options::SERVER_OPTIONS.contains(&option) || options::MAPPING_OPTIONS.contains(&option) => {
            TlsOptions::default().with(option, value).is_some()
        }
        _ => true,
    };
    if valid {
        return Ok(());
    }
    let error =
        Error::new(sqlstate::INVALID_PARAMETER_VALUE, format!("invalid value for option \"{name}\": \"{value}\""));
    Err(match name {
        "port" => error.hint("A port is a number from 1 to 65535, or a list of them."),
        "connect_timeout" => error.hint("It is a number of seconds from 1 to 3600."),
        "keepalives" => error.hint("It is 1 or 0."),
        "tcp_user_timeout" => error.hint("It is a number of milliseconds; 0 is the system's default."),
        option if keepalive::OPTIONS.contains(&option) => {
            error.hint("It is a number of seconds, or of questions; 0 is the system's default.")
        }
        "hostaddr" => error.hint("It is an IP address or a list of them; a name goes into the option host."),
        "target_session_attrs" => error.hint("It is any, read-write, read-only, primary, standby or prefer-standby."),
        "sslmode" => error.hint("It is disable, allow, prefer, require, verify-ca or verify-full."),
        "ssl_min_protocol_version" => error.hint("It is TLSv1.2 or TLSv1.3."),
        "channel_binding" => error.hint("It is disable, prefer or require."),
        _ => error,
    })
}

/// The parts of a list.
fn list(value: &str) -> impl Iterator<Item = &str> {
    value.split(',').map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(holder: Holder, name: &str, value: &str) -> std::result::Result<(), String> {
        check_options(holder, &[(name.into(), value.into())]).map_err(|e| e.code.as_str().to_string())
    }

    #[test]
    fn only_paths_are_refused() {
        let pair = |name: &str, value: &str| [(name.to_string(), value.to_string())];
        assert!(refuse_paths(&pair("sslrootcert", "/ca")).is_err());
        assert!(refuse_paths(&pair("sslkey", "/key")).is_err());
        assert!(refuse_paths(&pair("sslrootcert", "system")).is_ok());
        assert!(refuse_paths(&pair("sslmode", "require")).is_ok());
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
        assert!(check(Holder::Server, "port", "5433,5434").is_err(), "two ports for no host");
        assert!(check(Holder::Server, "hostaddr", "10.0.0.1, ::1").is_ok());
        assert_eq!(check(Holder::Server, "hostaddr", "10.0.0.1,db"), Err("22023".into()));
        assert_eq!(check(Holder::Server, "target_session_attrs", "master"), Err("22023".into()));
        assert!(check(Holder::Server, "sslmode", "require").is_ok());
        assert_eq!(check(Holder::Server, "sslmode", "verify-full"), Err("22023".into()), "no sslrootcert");
        assert_eq!(check(Holder::Server, "sslcert", "/c"), Err("HV00D".into()));
        assert_eq!(check(Holder::Mapping, "sslcert", "/c"), Err("22023".into()), "no sslkey");
        assert!(check_options(Holder::ForeignTable, &[]).is_err());
        assert!(check_options(Holder::Wrapper, &[]).is_ok());
    }
}
