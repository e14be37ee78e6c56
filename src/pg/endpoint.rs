//! Where a node is and as whom to go there: the options of its SERVER and of the USER MAPPING.
//!
//! `CREATE SERVER n1 FOREIGN DATA WRAPPER sharding OPTIONS (host '10.0.0.1', dbname 'app')` with
//! `CREATE USER MAPPING FOR PUBLIC SERVER n1 OPTIONS (user 'app', password '...')`. What is left out
//! has libpq's defaults: port 5432, the name of this database, the name of the current user. A host
//! that begins with `/` is the folder of a Unix socket; `hostaddr` spares the look-up of the name. Each of the three
//! may be a list: the node is where a server answers that is what `target_session_attrs` says.

use crate::catalog::NodeId;
use crate::error::{Error, Result, sqlstate};
use crate::pg::catalog_cache::servers_generation;
use crate::pg::raw;
use crate::pool::hosts::{Host, hosts};
use crate::pool::keepalive::{self, Keepalive};
use crate::pool::message::{Address, Candidate};
use crate::pool::target::Target;
use crate::tls::options::{self, TlsOptions};
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, pg_sys};
use std::cell::{Cell, RefCell};
use std::ffi::CStr;
use std::net::ToSocketAddrs;
use std::time::Duration;

static CONNECT_TIMEOUT: GucSetting<i32> = GucSetting::<i32>::new(5);

/// Defines `sharding.connect_timeout`; called once from `_PG_init`.
pub fn install() {
    GucRegistry::define_int_guc(
        c"sharding.connect_timeout",
        c"Time to wait for a connection to a node.",
        c"A node's server option connect_timeout takes precedence.",
        &CONNECT_TIMEOUT,
        1,
        3600,
        GucContext::Userset,
        GucFlags::UNIT_S,
    );
}

/// Everything needed to connect. Not `Debug`: it holds the password.
pub struct Endpoint {
    pub name: String,
    /// To be tried in order.
    pub hosts: Vec<Host>,
    pub target: Target,
    pub tls: TlsOptions,
    pub dbname: String,
    pub user: String,
    pub password: Option<String>,
    /// For each address.
    pub timeout: Duration,
    pub keepalive: Keepalive,
}

/// As whom the current user goes to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mapped {
    /// The OID of the user mapping, his own or PUBLIC's.
    pub mapping: u32,
    /// The role's own OID where the mapping names no user of the node, else 0.
    role: u32,
}

/// What was looked up, as of a generation of servers and mappings.
struct MappedUsers {
    generation: u64,
    all: Vec<(pg_sys::Oid, NodeId, Mapped)>,
}

thread_local! {
    /// A process that has others to care for waits no longer than this.
    static CONNECT_LIMIT: Cell<Option<Duration>> = const { Cell::new(None) };
    static MAPPED: RefCell<MappedUsers> = const { RefCell::new(MappedUsers { generation: 0, all: Vec::new() }) };
}

/// As whom the current user goes to a node. 42704 if there is no mapping.
pub fn mapped(node: NodeId) -> Result<Mapped> {
    let user = raw::GetUserId();
    let generation = servers_generation();
    let known = MAPPED.with_borrow(|known| {
        let mut all = known.all.iter().filter(|_| known.generation == generation);
        all.find(|(u, n, _)| *u == user && *n == node).map(|(.., mapped)| *mapped)
    });
    if let Some(mapped) = known {
        return Ok(mapped);
    }
    let mapping = mapping_of(node, user)?;
    // SAFETY: the mapping was just found; its options are read before anything else is called.
    let options = unsafe { read_options((*pg_sys::GetUserMapping(user, pg_sys::Oid::from(node.0))).options) };
    let named = options.iter().any(|(name, _)| name == "user");
    let mapped = Mapped { mapping, role: if named { 0 } else { user.to_u32() } };
    MAPPED.with_borrow_mut(|known| {
        if known.generation != generation {
            known.all.clear();
            known.generation = generation;
        }
        known.all.push((user, node, mapped));
    });
    Ok(mapped)
}

/// The OID of the user mapping that a user has on a node.
fn mapping_of(node: NodeId, user: pg_sys::Oid) -> Result<u32> {
    for user in [user, pg_sys::InvalidOid] {
        // SAFETY: the keys have the types of the cache's index.
        let mapping = unsafe {
            pg_sys::GetSysCacheOid(
                pg_sys::SysCacheIdentifier::USERMAPPINGUSERSERVER as _,
                pg_sys::Anum_pg_user_mapping_oid as _,
                pg_sys::Datum::from(user),
                pg_sys::Datum::from(pg_sys::Oid::from(node.0)),
                pg_sys::Datum::from(0),
                pg_sys::Datum::from(0),
            )
        };
        if mapping != pg_sys::InvalidOid {
            return Ok(mapping.to_u32());
        }
    }
    let name = server_name(node)?;
    Err(Error::new(
        sqlstate::UNDEFINED_OBJECT,
        format!("no user mapping for \"{}\" on node \"{name}\"", user_name(user)),
    )
    .hint(format!("Use CREATE USER MAPPING FOR PUBLIC SERVER \"{name}\" OPTIONS (user '...', password '...').")))
}

/// The endpoint of a node for the current user.
pub fn endpoint_of(node: NodeId) -> Result<Endpoint> {
    mapped(node)?;
    let name = server_name(node)?;
    // SAFETY: server and mapping exist, as just looked up; their options are lists of DefElem that
    // are read before anything else is called.
    let (server, mapping, user) = unsafe {
        let user = pg_sys::GetUserId();
        let server = pg_sys::GetForeignServer(pg_sys::Oid::from(node.0));
        let mapping = pg_sys::GetUserMapping(user, pg_sys::Oid::from(node.0));
        (read_options((*server).options), read_options((*mapping).options), user)
    };
    let find = |options: &[(String, String)], wanted: &str| {
        options.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone())
    };
    let option = |wanted: &str| find(&server, wanted);
    let hosts = hosts(option("host").as_deref(), option("hostaddr").as_deref(), option("port").as_deref())
        .map_err(|problem| Error::new(sqlstate::INVALID_PARAMETER_VALUE, format!("server \"{name}\": {problem}")))?;
    let target = match find(&server, "target_session_attrs") {
        None => Target::default(),
        Some(text) => Target::parse(&text).ok_or_else(|| invalid(&name, "target_session_attrs", &text))?,
    };
    let mut tls = TlsOptions::default();
    for (option, value) in server.iter().chain(&mapping) {
        if options::SERVER_OPTIONS.contains(&option.as_str()) || options::MAPPING_OPTIONS.contains(&option.as_str()) {
            tls = tls.with(option, value).ok_or_else(|| invalid(&name, option, value))?;
        }
    }
    let timeout = match find(&server, "connect_timeout") {
        None => CONNECT_TIMEOUT.get() as u64,
        Some(text) => text.parse().map_err(|_| invalid(&name, "connect_timeout", &text))?,
    };
    let mut keepalive = Keepalive::default();
    for (option, value) in server.iter().filter(|(option, _)| keepalive::OPTIONS.contains(&option.as_str())) {
        keepalive = keepalive.with(option, value).ok_or_else(|| invalid(&name, option, value))?;
    }
    Ok(Endpoint {
        hosts,
        target,
        tls,
        dbname: find(&server, "dbname").unwrap_or_else(database_name),
        user: find(&mapping, "user").unwrap_or_else(|| user_name(user)),
        password: find(&mapping, "password"),
        timeout: Duration::from_secs(timeout.max(1)).min(CONNECT_LIMIT.get().unwrap_or(Duration::MAX)),
        keepalive,
        name,
    })
}

impl Endpoint {
    /// The hosts with their addresses. Looking up a name blocks; `hostaddr` avoids it.
    pub fn candidates(&self) -> Vec<Candidate> {
        let mut all = Vec::new();
        for host in &self.hosts {
            let (addresses, trouble) = match addresses(host) {
                Ok(addresses) => (addresses, None),
                Err(error) => (Vec::new(), Some(error.to_string())),
            };
            all.push(Candidate { name: host.name.clone(), place: host.place(), addresses, trouble });
        }
        all
    }
}

fn addresses(host: &Host) -> std::io::Result<Vec<Address>> {
    if host.is_local() {
        return Ok(vec![Address::Unix(format!("{}/.s.PGSQL.{}", host.name, host.port))]);
    }
    let name = host.address.as_ref().unwrap_or(&host.name);
    Ok((name.as_str(), host.port).to_socket_addrs()?.map(Address::Inet).collect())
}

fn invalid(server: &str, option: &str, value: &str) -> Error {
    Error::new(
        sqlstate::INVALID_PARAMETER_VALUE,
        format!("invalid value for option \"{option}\" of server \"{server}\": \"{value}\""),
    )
}

/// How many of these nodes are on the machine of each one, as far as the options of their servers tell. A node with
/// several hosts is taken to be on the first.
pub fn nodes_on_machines(nodes: &[NodeId]) -> Result<Vec<usize>> {
    let machines = nodes
        .iter()
        .map(|node| {
            server_name(*node)?;
            // SAFETY: the server exists; its options are read before anything else is called.
            let options = unsafe { read_options((*pg_sys::GetForeignServer(pg_sys::Oid::from(node.0))).options) };
            let option = |wanted| options.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
            let hosts = hosts(option("host"), option("hostaddr"), option("port")).unwrap_or_default();
            Ok(hosts.first().and_then(Host::machine).map(str::to_string))
        })
        .collect::<Result<Vec<Option<String>>>>()?;
    Ok(machines.iter().map(|machine| machines.iter().filter(|other| *other == machine).count()).collect())
}

/// From now on this process waits at most so long for a connection, whatever the settings say.
pub fn limit_connecting(limit: Duration) {
    CONNECT_LIMIT.set(Some(limit));
}

/// The name of a node's server. 42704 if it is gone.
pub fn server_name(node: NodeId) -> Result<String> {
    // SAFETY: with MISSING_OK a null pointer is returned for an unknown OID; the struct is palloc'd.
    unsafe {
        let server = pg_sys::GetForeignServerExtended(pg_sys::Oid::from(node.0), pg_sys::FSV_MISSING_OK as _);
        if server.is_null() {
            return Err(Error::new(sqlstate::UNDEFINED_OBJECT, format!("node {} does not exist any more", node.0)));
        }
        Ok(text((*server).servername))
    }
}

/// The name of a role, or its number if it is gone.
pub fn user_name(user: pg_sys::Oid) -> String {
    // SAFETY: with `noerr` a null pointer is returned for an unknown role.
    unsafe {
        let name = pg_sys::GetUserNameFromId(user, true);
        if name.is_null() { user.to_u32().to_string() } else { text(name) }
    }
}

/// The name of this database.
pub fn database_name() -> String {
    // SAFETY: a backend that runs statements is in a database, which cannot be dropped meanwhile.
    unsafe {
        let name = pg_sys::get_database_name(pg_sys::MyDatabaseId);
        if name.is_null() { String::new() } else { text(name) }
    }
}

unsafe fn text(cstr: *const std::ffi::c_char) -> String {
    // SAFETY: the caller hands over a NUL-terminated string.
    unsafe { CStr::from_ptr(cstr) }.to_string_lossy().into_owned()
}

/// The names and values of a list of DefElem.
unsafe fn read_options(list: *mut pg_sys::List) -> Vec<(String, String)> {
    let mut options = Vec::new();
    if list.is_null() {
        return options;
    }
    // SAFETY: `elements` has `length` cells, each a DefElem with a string value.
    unsafe {
        for i in 0..(*list).length {
            let element = (*(*list).elements.add(i as usize)).ptr_value as *mut pg_sys::DefElem;
            options.push((text((*element).defname), text(pg_sys::defGetString(element))));
        }
    }
    options
}
