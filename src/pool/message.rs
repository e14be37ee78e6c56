//! What a backend asks of a pool worker, and its answers, over their private socket.
//!
//! One request per connection: its length in four bytes, then itself. The answer has the same form; a
//! descriptor comes with it as ancillary data where one is promised.
//!
//! ```
//! use sharding::pool::message::{Request, decode, encode};
//! let bytes = encode(&Request::Descriptor { slot: 3, generation: 9 }).unwrap();
//! let (request, used) = decode::<Request>(&bytes).unwrap().unwrap();
//! assert_eq!((request, used), (Request::Descriptor { slot: 3, generation: 9 }, bytes.len()));
//! assert!(decode::<Request>(&bytes[..3]).unwrap().is_none(), "not all of it is here");
//! ```

use crate::error::{Error, Result, sqlstate};
use crate::pool::keepalive::Keepalive;
use crate::pool::target::Target;
use crate::tls::options::TlsOptions;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Address {
    Inet(SocketAddr),
    /// The path of a Unix socket.
    Unix(String),
}

/// A host to try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The name that its certificate must have.
    pub name: String,
    /// How messages name the place: `10.0.0.1 port 5432`.
    pub place: String,
    /// To be tried in order.
    pub addresses: Vec<Address>,
    /// Why there is no address.
    pub trouble: Option<String>,
}

/// How to connect and as whom. Its `Debug` does not show the password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// To be tried in order.
    pub hosts: Vec<Candidate>,
    pub target: Target,
    pub tls: TlsOptions,
    pub user: String,
    pub password: Option<String>,
    /// The startup packet.
    pub parameters: Vec<(String, String)>,
    /// Hash of the settings among them.
    pub settings: u64,
    /// Time for each address.
    pub timeout_ms: u64,
    pub keepalive: Keepalive,
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening").field("hosts", &self.hosts).field("user", &self.user).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Connects; the slot is in state `Opening` with this generation.
    Open { slot: u32, generation: u64, opening: Box<Opening> },
    /// A duplicate of the descriptor of a slot that the asking backend has leased.
    Descriptor { slot: u32, generation: u64 },
    /// Cancels what runs on a connection that the asking backend has leased, over TLS.
    Cancel { slot: u32, generation: u64 },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The descriptor is with this message.
    Connected { address: Address, cancel_process: i32, cancel_secret: i32, encrypted: bool },
    /// The node could not be reached, or said no.
    Failed { reason: String, hint: Option<String> },
    /// The node has heard the request to cancel.
    Cancelled,
    /// The slot has no such connection any more.
    Gone,
}

/// More than any request needs.
const LARGEST: usize = 256 * 1024;

/// The message with its length in front.
pub fn encode(message: &impl Serialize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    bytes = postcard::to_extend(message, bytes).map_err(malformed)?;
    let length = (bytes.len() - 4) as u32;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    Ok(bytes)
}

/// The first message in `bytes` and what it takes; `None` if it is not here as a whole.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<Option<(T, usize)>> {
    let Some(length) = bytes.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    if length > LARGEST {
        return Err(Error::new(sqlstate::INTERNAL, "a message in the connection pool is too long"));
    }
    let Some(body) = bytes.get(4..4 + length) else { return Ok(None) };
    Ok(Some((postcard::from_bytes(body).map_err(malformed)?, 4 + length)))
}

fn malformed(_: postcard::Error) -> Error {
    Error::new(sqlstate::INTERNAL, "a message in the connection pool is malformed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_not_shown() {
        let opening = Opening {
            hosts: vec![Candidate {
                name: "localhost".into(),
                place: "here".into(),
                addresses: vec![Address::Inet(([127, 0, 0, 1], 5432).into()), Address::Unix("/s".into())],
                trouble: None,
            }],
            target: Target::Any,
            tls: TlsOptions::default(),
            user: "u".into(),
            password: Some("secret".into()),
            parameters: vec![("a".into(), "b".into())],
            settings: 3,
            timeout_ms: 1,
            keepalive: Keepalive::default(),
        };
        let request = Request::Open { slot: 1, generation: 2, opening: Box::new(opening) };
        assert!(!format!("{request:?}").contains("secret"));
        let bytes = encode(&request).unwrap();
        assert_eq!(decode::<Request>(&bytes).unwrap().unwrap().0, request);
    }

    #[test]
    fn nonsense_is_an_error() {
        assert!(decode::<Request>(&[255, 255, 255, 255]).is_err());
        assert!(decode::<Request>(&[0, 0, 0, 1, 9]).is_err());
    }
}
