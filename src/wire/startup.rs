//! The start of a conversation: startup packet, authentication, until the node is ready.
//!
//! Trust, MD5, SCRAM-SHA-256 and, over TLS, SCRAM-SHA-256-PLUS are spoken. A clear-text password is given only where
//! nobody can listen (TLS, a Unix socket). The node must prove that it knows the password too: an
//! `AuthenticationOk` in the middle of SCRAM is refused, and so is one without channel binding if that is required.
//!
//! ```
//! use sharding::wire::startup::{Channel, Startup};
//! let channel = Channel::default();
//! let mut startup = Startup::new(&[("user", "app"), ("database", "db")], "app", None, channel).unwrap();
//! assert!(!startup.output().is_empty());
//! let ready = startup.receive(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").unwrap();
//! assert!(ready);
//! ```

use crate::error::{Error, Result, sqlstate};
use crate::tls::options::Binding;
use crate::wire::conversation::Conversation;
use crate::wire::protocol_error;
use crate::wire::report::read_report;
use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256};
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use std::collections::HashMap;

/// What a CancelRequest needs to name a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CancelKey {
    pub process_id: i32,
    pub secret_key: i32,
}

impl CancelKey {
    /// The whole of what is sent over a second connection.
    pub fn request(self) -> BytesMut {
        let mut buffer = BytesMut::new();
        frontend::cancel_request(self.process_id, self.secret_key, &mut buffer);
        buffer
    }
}

/// What the connection is like below the protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Channel {
    /// Whether it is a Unix socket.
    pub local: bool,
    pub tls: bool,
    /// What SCRAM can be bound to, see [`crate::tls::end_point`].
    pub end_point: Option<Vec<u8>>,
    pub binding: Binding,
}

/// A connection that is not ready yet.
pub struct Startup {
    user: String,
    password: Option<String>,
    channel: Channel,
    scram: Scram,
    /// Whether SCRAM was bound to the channel.
    bound: bool,
    input: BytesMut,
    output: BytesMut,
    parameters: HashMap<String, String>,
    cancel_key: CancelKey,
}

enum Scram {
    NotAsked,
    Running(Box<ScramSha256>),
    Verified,
}

impl Startup {
    /// Queues the startup packet with these parameters (`user`, `database`, settings).
    pub fn new(parameters: &[(&str, &str)], user: &str, password: Option<&str>, channel: Channel) -> Result<Startup> {
        let mut output = BytesMut::new();
        frontend::startup_message(parameters.iter().copied(), &mut output).map_err(protocol_error)?;
        Ok(Startup {
            user: user.to_string(),
            password: password.map(str::to_string),
            channel,
            scram: Scram::NotAsked,
            bound: false,
            input: BytesMut::new(),
            output,
            parameters: HashMap::new(),
            cancel_key: CancelKey::default(),
        })
    }

    /// The bytes to send; the caller takes off what it has sent.
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// Takes bytes from the node; `true` when it is ready for queries.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<bool> {
        self.input.extend_from_slice(bytes);
        while let Some(message) = Message::parse(&mut self.input).map_err(protocol_error)? {
            match message {
                Message::AuthenticationOk => {
                    if matches!(self.scram, Scram::Running(_)) {
                        return Err(refused("the node did not prove that it knows the password"));
                    }
                    self.demand_binding(self.bound)?;
                }
                Message::AuthenticationCleartextPassword => self.answer_cleartext()?,
                Message::AuthenticationMd5Password(body) => {
                    self.demand_binding(false)?;
                    let password = self.password()?;
                    let hash = md5_hash(self.user.as_bytes(), password.as_bytes(), body.salt());
                    frontend::password_message(hash.as_bytes(), &mut self.output).map_err(protocol_error)?;
                }
                Message::AuthenticationSasl(body) => {
                    let (mut plain, mut plus) = (false, false);
                    let mut mechanisms = body.mechanisms();
                    while let Some(mechanism) = mechanisms.next().map_err(protocol_error)? {
                        plain |= mechanism == SCRAM_SHA_256;
                        plus |= mechanism == SCRAM_SHA_256_PLUS;
                    }
                    let (mechanism, binding) = self.mechanism(plain, plus)?;
                    let scram = ScramSha256::new(self.password()?.as_bytes(), binding);
                    frontend::sasl_initial_response(mechanism, scram.message(), &mut self.output)
                        .map_err(protocol_error)?;
                    self.scram = Scram::Running(Box::new(scram));
                }
                Message::AuthenticationSaslContinue(body) => {
                    let Scram::Running(scram) = &mut self.scram else {
                        return Err(refused("the node continued a SASL exchange that was not begun"));
                    };
                    scram.update(body.data()).map_err(protocol_error)?;
                    frontend::sasl_response(scram.message(), &mut self.output).map_err(protocol_error)?;
                }
                Message::AuthenticationSaslFinal(body) => {
                    let Scram::Running(scram) = &mut self.scram else {
                        return Err(refused("the node ended a SASL exchange that was not begun"));
                    };
                    scram.finish(body.data()).map_err(protocol_error)?;
                    self.scram = Scram::Verified;
                }
                Message::AuthenticationGss
                | Message::AuthenticationKerberosV5
                | Message::AuthenticationScmCredential
                | Message::AuthenticationSspi => {
                    return Err(refused("the node asks for a method that is not spoken here"));
                }
                Message::BackendKeyData(body) => {
                    self.cancel_key = CancelKey { process_id: body.process_id(), secret_key: body.secret_key() };
                }
                Message::ParameterStatus(body) => {
                    let name = body.name().map_err(protocol_error)?.to_string();
                    let value = body.value().map_err(protocol_error)?.to_string();
                    self.parameters.insert(name, value);
                }
                Message::ErrorResponse(body) => return Err(read_report(body.fields())?.error),
                Message::NoticeResponse(_) => {}
                Message::ReadyForQuery(_) => return Ok(true),
                _ => {
                    return Err(Error::new(sqlstate::PROTOCOL_VIOLATION, "unexpected message while connecting"));
                }
            }
        }
        Ok(false)
    }

    /// How to cancel what runs on this connection.
    pub fn cancel_key(&self) -> CancelKey {
        self.cancel_key
    }

    /// What the node reported of itself (`server_version`, `server_encoding`, ...).
    pub fn parameters(&self) -> &HashMap<String, String> {
        &self.parameters
    }

    /// The conversation that the node is now ready for.
    pub fn into_conversation(self) -> Conversation {
        Conversation::new()
    }

    fn password(&self) -> Result<&str> {
        self.password.as_deref().ok_or_else(|| {
            refused("the node asks for a password and the user mapping has none")
                .hint("Use ALTER USER MAPPING ... OPTIONS (ADD password '...').")
        })
    }

    /// The mechanism to use of those that the node offers, and how to bind it to the channel.
    fn mechanism(&mut self, plain: bool, plus: bool) -> Result<(&'static str, ChannelBinding)> {
        let Channel { tls, end_point, binding, .. } = &self.channel;
        if plus && !tls {
            return Err(refused("the node offers channel binding over a connection without TLS"));
        }
        let usable = end_point.as_ref().filter(|_| *binding != Binding::Disable);
        match usable {
            Some(hash) if plus => {
                let binding = ChannelBinding::tls_server_end_point(hash.clone());
                self.bound = true;
                Ok((SCRAM_SHA_256_PLUS, binding))
            }
            _ if !plain => Err(refused("the node offers no SASL mechanism that is spoken here")),
            _ => {
                self.demand_binding(false)?;
                // The node is told that it could have been bound: one that offered it notices who took the offer away.
                let binding =
                    if usable.is_some() { ChannelBinding::unrequested() } else { ChannelBinding::unsupported() };
                Ok((SCRAM_SHA_256, binding))
            }
        }
    }

    /// Fails if channel binding is required and not what happens.
    fn demand_binding(&self, bound: bool) -> Result<()> {
        if bound || self.channel.binding != Binding::Require {
            return Ok(());
        }
        let hint = if self.channel.tls {
            "Use scram-sha-256 in the node's pg_hba.conf, or another channel_binding."
        } else {
            "Use sslmode 'require' or stricter, or another channel_binding."
        };
        Err(refused("channel binding is required, and the node authenticates without it").hint(hint))
    }

    fn answer_cleartext(&mut self) -> Result<()> {
        self.demand_binding(false)?;
        if !self.channel.local && !self.channel.tls {
            return Err(refused("the node asks for the password in clear text over an open connection")
                .hint("Use scram-sha-256 in the node's pg_hba.conf, or sslmode 'require'."));
        }
        let password = self.password()?.to_string();
        frontend::password_message(password.as_bytes(), &mut self.output).map_err(protocol_error)
    }
}

fn refused(message: &str) -> Error {
    Error::new(sqlstate::INVALID_AUTHORIZATION, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        bytes.extend((body.len() as u32 + 4).to_be_bytes());
        bytes.extend(body);
        bytes
    }

    fn authentication(kind: u32, rest: &[u8]) -> Vec<u8> {
        message(b'R', &[&kind.to_be_bytes()[..], rest].concat())
    }

    fn startup(password: Option<&str>, local: bool) -> Startup {
        over(password, Channel { local, ..Channel::default() })
    }

    fn over(password: Option<&str>, channel: Channel) -> Startup {
        let mut startup = Startup::new(&[("user", "u"), ("database", "d")], "u", password, channel).unwrap();
        startup.output().clear();
        startup
    }

    fn tls(binding: Binding) -> Channel {
        Channel { local: false, tls: true, end_point: Some(vec![7; 32]), binding }
    }

    #[test]
    fn trust_needs_no_password() {
        let mut s = startup(None, false);
        assert!(!s.receive(&authentication(0, b"")).unwrap());
        assert!(!s.receive(&message(b'K', &[0, 0, 0, 7, 0, 0, 0, 9])).unwrap());
        assert!(!s.receive(&message(b'S', b"server_version\x0015.3\0")).unwrap());
        assert!(s.receive(&message(b'Z', b"I")).unwrap());
        assert_eq!(s.cancel_key(), CancelKey { process_id: 7, secret_key: 9 });
        assert_eq!(s.parameters()["server_version"], "15.3");
    }

    #[test]
    fn a_clear_text_password_goes_only_over_a_unix_socket() {
        let ask = authentication(3, b"");
        assert_eq!(startup(Some("p"), false).receive(&ask).unwrap_err().code.as_str(), "28000");
        let mut local = startup(Some("secret"), true);
        assert!(!local.receive(&ask).unwrap());
        assert_eq!(&local.output()[..], &message(b'p', b"secret\0")[..]);
    }

    #[test]
    fn or_over_tls() {
        let mut s = over(Some("secret"), tls(Binding::Prefer));
        assert!(!s.receive(&authentication(3, b"")).unwrap());
        assert_eq!(&s.output()[..], &message(b'p', b"secret\0")[..]);
    }

    #[test]
    fn scram_is_bound_to_tls_where_both_sides_can() {
        let both = authentication(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0");
        let plain = authentication(10, b"SCRAM-SHA-256\0\0");
        for (channel, offer, expected) in [
            (tls(Binding::Prefer), &both, "SCRAM-SHA-256-PLUS\0....p=tls-server-end-point,"),
            (tls(Binding::Require), &both, "SCRAM-SHA-256-PLUS\0....p=tls-server-end-point,"),
            (tls(Binding::Disable), &both, "SCRAM-SHA-256\0....n,"),
            (tls(Binding::Prefer), &plain, "SCRAM-SHA-256\0....y,"),
            (Channel { end_point: None, ..tls(Binding::Prefer) }, &both, "SCRAM-SHA-256\0....n,"),
            (Channel::default(), &plain, "SCRAM-SHA-256\0....n,"),
        ] {
            let mut s = over(Some("p"), channel);
            assert!(!s.receive(offer).unwrap());
            let sent = String::from_utf8_lossy(&s.output()[5..]).into_owned();
            // The length of the message is in the fourth byte after the name.
            let (name, rest) = sent.split_once('\0').unwrap();
            let (expected_name, expected_rest) = expected.split_once('\0').unwrap();
            assert_eq!((name, &rest[4..][..expected_rest.len() - 4]), (expected_name, &expected_rest[4..]));
        }
        assert!(startup(Some("p"), false).receive(&both).is_err(), "PLUS without TLS");
    }

    #[test]
    fn required_channel_binding_is_insisted_upon() {
        for offer in [
            authentication(0, b""),
            authentication(3, b""),
            authentication(5, b"salt"),
            authentication(10, b"SCRAM-SHA-256\0\0"),
        ] {
            let mut s = over(Some("p"), tls(Binding::Require));
            let error = s.receive(&offer).unwrap_err();
            assert!(error.message.contains("channel binding is required"), "{error:?}");
            assert!(s.output().is_empty(), "no password is sent");
        }
    }

    #[test]
    fn a_missing_password_is_named_with_a_hint() {
        let error = startup(None, false).receive(&authentication(5, b"salt")).unwrap_err();
        assert!(error.hint.is_some());
    }

    #[test]
    fn md5_answers_with_the_salted_hash() {
        let mut s = startup(Some("p"), false);
        assert!(!s.receive(&authentication(5, b"salt")).unwrap());
        let expected = md5_hash(b"u", b"p", *b"salt");
        assert_eq!(&s.output()[5..], format!("{expected}\0").as_bytes());
    }

    #[test]
    fn success_in_the_middle_of_scram_is_refused() {
        let mut s = startup(Some("p"), false);
        assert!(!s.receive(&authentication(10, b"SCRAM-SHA-256\0\0")).unwrap());
        assert!(s.receive(&authentication(0, b"")).is_err());
    }

    #[test]
    fn an_unknown_sasl_mechanism_is_refused() {
        assert!(startup(Some("p"), false).receive(&authentication(10, b"OAUTHBEARER\0\0")).is_err());
    }
}
