//! An attempt to connect to a node and to authenticate there, which never waits.
//!
//! [`Attempt::step`] goes as far as it can; its worker calls it again when [`Attempt::source`] is ready.
//! What is tried in which order is [`Route`]'s business.

use crate::error::{Error, Result, sqlstate};
use crate::pg::pool::dial::{Dial, Seal};
use crate::pg::pool::files::ServerFiles;
use crate::pg::pool::link::{Link, broken};
use crate::pg::pool::poll::Interest;
use crate::pool::message::{Address, Opening};
use crate::pool::route::{Failure, Route, Try};
use crate::tls::config::client_config;
use crate::tls::options::{Encryption, SslMode};
use crate::wire::startup::{CancelKey, Channel, Startup};
use bytes::Buf;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub struct Attempt {
    opening: Opening,
    route: Route,
    /// How to encrypt, once that is asked for.
    config: Option<Arc<ClientConfig>>,
    stage: Stage,
    /// How many connections were begun.
    dials: u64,
    /// Why what was tried did not do.
    reasons: Vec<String>,
    hint: Option<String>,
    not_before: Instant,
    /// For the address that is tried.
    deadline: Instant,
}

enum Stage {
    Waiting,
    Dialling(Dial),
    Authenticating(Link, Box<Startup>),
}

pub enum Progress {
    Pending,
    Connected(Connected),
    Failed { reason: String, hint: Option<String> },
}

/// A connection that is ready for queries.
pub struct Connected {
    pub link: Link,
    pub address: Address,
    /// How messages name the server.
    pub place: String,
    /// How to encrypt a second connection to the same server; `None` if this one is in clear text.
    pub seal: Option<Seal>,
    pub cancel_key: CancelKey,
}

impl Attempt {
    /// What was asked for.
    pub fn opening(&self) -> &Opening {
        &self.opening
    }

    /// To be begun after a pause. Its time runs from then.
    pub fn new(opening: Opening, pause: Duration) -> Attempt {
        let not_before = Instant::now() + pause;
        let deadline = not_before + Duration::from_millis(opening.timeout_ms);
        let hosts: Vec<Vec<bool>> = opening
            .hosts
            .iter()
            .map(|host| host.addresses.iter().map(|address| matches!(address, Address::Inet(_))).collect())
            .collect();
        let route = Route::new(&hosts, opening.tls.mode(), opening.target);
        let reasons = opening
            .hosts
            .iter()
            .filter_map(|host| Some(format!("{}: {}.", host.place, host.trouble.as_ref()?)))
            .collect();
        Attempt {
            opening,
            route,
            config: None,
            stage: Stage::Waiting,
            dials: 0,
            reasons,
            hint: None,
            not_before,
            deadline,
        }
    }

    /// When to call [`Attempt::step`] even if nothing has happened.
    pub fn due(&self) -> Instant {
        if matches!(self.stage, Stage::Waiting) { self.not_before } else { self.deadline }
    }

    /// Changes whenever [`Attempt::source`] is another socket, even if it has the same number.
    pub fn dials(&self) -> u64 {
        self.dials
    }

    /// What it waits for.
    pub fn source(&mut self) -> Option<(RawFd, Interest)> {
        match &mut self.stage {
            Stage::Waiting => None,
            Stage::Dialling(dial) => dial.source(),
            Stage::Authenticating(link, startup) => Some((link.fd(), link.interest(!startup.output().is_empty()))),
        }
    }

    /// Goes on as far as it can.
    pub fn step(&mut self) -> Progress {
        let now = Instant::now();
        if matches!(self.stage, Stage::Waiting) && now < self.not_before {
            return Progress::Pending;
        }
        loop {
            let Some(current) = self.route.current().copied() else { return self.failed() };
            let outcome = if Instant::now() >= self.deadline {
                let seconds = self.opening.timeout_ms / 1000;
                let error = Error::new(sqlstate::CONNECTION_FAILURE, format!("no answer within {seconds} s"));
                Err((Failure::Unreachable, error))
            } else {
                self.go_on(&current)
            };
            match outcome {
                Ok(None) => return Progress::Pending,
                Ok(Some(connected)) => return Progress::Connected(connected),
                Err((failure, error)) => {
                    self.stage = Stage::Waiting;
                    self.note(&current, error);
                    if !self.route.advance(failure) {
                        return self.failed();
                    }
                    let next = self.route.current();
                    if next.is_none_or(|next| (next.host, next.address) != (current.host, current.address)) {
                        self.deadline = Instant::now() + Duration::from_millis(self.opening.timeout_ms);
                    }
                }
            }
        }
    }

    /// Goes on with one try.
    fn go_on(&mut self, current: &Try) -> std::result::Result<Option<Connected>, (Failure, Error)> {
        loop {
            match std::mem::replace(&mut self.stage, Stage::Waiting) {
                Stage::Waiting => {
                    let seal = self.seal(current).map_err(|error| (Failure::RefusedInClear, error))?;
                    let address = &self.opening.hosts[current.host].addresses[current.address];
                    let dial = Dial::new(address, &self.opening.keepalive, seal)
                        .map_err(|error| (Failure::Unreachable, broken(error)))?;
                    self.dials += 1;
                    self.stage = Stage::Dialling(dial);
                    return Ok(None);
                }
                Stage::Dialling(mut dial) => match dial.step() {
                    Err(error) if error.code == sqlstate::CONNECTION_FAILURE => {
                        return Err((Failure::Unreachable, error));
                    }
                    Err(error) => return Err((Failure::Insecure, error)),
                    Ok(None) => {
                        self.stage = Stage::Dialling(dial);
                        return Ok(None);
                    }
                    Ok(Some(link)) => {
                        let startup = self.startup(current, &link).map_err(|error| (Failure::RefusedInClear, error))?;
                        self.stage = Stage::Authenticating(link, Box::new(startup));
                    }
                },
                Stage::Authenticating(mut link, mut startup) => match exchange(&mut link, &mut startup) {
                    Err(error) => return Err((kind_of(&error, &link, current), error)),
                    Ok(false) => {
                        self.stage = Stage::Authenticating(link, startup);
                        return Ok(None);
                    }
                    Ok(true) => return self.ready(current, link, &startup).map(Some),
                },
            }
        }
    }

    /// How to encrypt this try.
    fn seal(&mut self, current: &Try) -> Result<Option<Seal>> {
        if current.encryption == Encryption::Clear {
            return Ok(None);
        }
        let config = match &self.config {
            Some(config) => config.clone(),
            None => self.config.insert(client_config(&self.opening.tls, &ServerFiles)?).clone(),
        };
        let host = &self.opening.hosts[current.host];
        let name = match (ServerName::try_from(host.name.clone()), &host.addresses[current.address]) {
            (Ok(name), _) => name,
            // Nobody will ask for the name.
            (Err(_), Address::Inet(address)) if self.opening.tls.mode() != SslMode::VerifyFull => {
                ServerName::from(address.ip())
            }
            (Err(_), _) => {
                let message = format!("\"{}\" is no name that a certificate can have", host.name);
                return Err(Error::new(sqlstate::INVALID_PARAMETER_VALUE, message)
                    .hint("Name the node in option host as its certificate does."));
            }
        };
        Ok(Some(Seal { config, name, required: current.encryption == Encryption::Tls }))
    }

    fn startup(&self, current: &Try, link: &Link) -> Result<Startup> {
        let Opening { parameters, user, password, tls, .. } = &self.opening;
        let parameters: Vec<(&str, &str)> = parameters.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let channel = Channel {
            local: matches!(self.opening.hosts[current.host].addresses[current.address], Address::Unix(_)),
            tls: link.tls.is_some(),
            end_point: link.end_point(),
            binding: tls.binding,
        };
        Startup::new(&parameters, user, password.as_deref(), channel)
    }

    /// The node is ready for queries; whether it is the one that is looked for.
    fn ready(
        &mut self,
        current: &Try,
        link: Link,
        startup: &Startup,
    ) -> std::result::Result<Connected, (Failure, Error)> {
        let parameter = |name: &str| startup.parameters().get(name).map(String::as_str);
        if let Some(objection) = current.target.objection(parameter) {
            link.socket.say_goodbye();
            let message = format!("{objection}, and target_session_attrs is {}", self.opening.target.name());
            return Err((
                Failure::WrongServer,
                Error::new(sqlstate::CONNECTION_UNABLE, message)
                    .hint("Name all servers of the node in its options host and port, or change target_session_attrs."),
            ));
        }
        let seal = match link.tls {
            None => None,
            Some(_) => self.seal(current).map_err(|error| (Failure::RefusedInClear, error))?,
        };
        let host = &self.opening.hosts[current.host];
        Ok(Connected {
            link,
            address: host.addresses[current.address].clone(),
            place: host.place.clone(),
            seal: seal.map(|seal| Seal { required: true, ..seal }),
            cancel_key: startup.cancel_key(),
        })
    }

    fn note(&mut self, current: &Try, error: Error) {
        let reason = format!("{}: {}.", self.opening.hosts[current.host].place, error.message);
        if !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
        self.hint = error.hint.or(self.hint.take());
    }

    fn failed(&mut self) -> Progress {
        Progress::Failed { reason: self.reasons.join("\n"), hint: self.hint.take() }
    }
}

fn kind_of(error: &Error, link: &Link, current: &Try) -> Failure {
    match error.code {
        sqlstate::CANNOT_CONNECT_NOW => Failure::NotNow,
        sqlstate::CONNECTION_FAILURE => Failure::Unreachable,
        _ if link.tls.is_none() && current.encryption == Encryption::IfOffered => Failure::RefusedInClear,
        _ => Failure::Refused,
    }
}

/// Sends and receives what it can; `true` when the node is ready for queries.
fn exchange(link: &mut Link, startup: &mut Startup) -> Result<bool> {
    let mut buffer = [0; 8192];
    loop {
        while !startup.output().is_empty() {
            match link.send(startup.output())? {
                0 => break,
                count => startup.output().advance(count),
            }
        }
        match link.receive(&mut buffer)? {
            None => return Ok(false),
            Some(0) => return Err(broken(io::ErrorKind::UnexpectedEof.into())),
            Some(count) => {
                if startup.receive(&buffer[..count])? {
                    return Ok(true);
                }
            }
        }
    }
}
