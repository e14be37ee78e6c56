//! libpq's options for TLS, as a node's SERVER and USER MAPPING give them.
//!
//! ```
//! use sharding::tls::options::{SslMode, TlsOptions};
//! let options = TlsOptions::default().with("sslmode", "verify-full").unwrap();
//! assert_eq!(options.mode(), SslMode::VerifyFull);
//! assert!(options.with("sslmode", "maybe").is_none());
//! assert_eq!(TlsOptions::default().mode(), SslMode::Prefer);
//! ```

use serde::{Deserialize, Serialize};

/// Whether a connection is encrypted, and whether the node must prove who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SslMode {
    Disable,
    /// Only if the node wants it.
    Allow,
    /// If the node can.
    Prefer,
    Require,
    /// The certificate must come from a known authority.
    VerifyCa,
    /// And be for the host that was asked for.
    VerifyFull,
}

/// Whether SCRAM must be tied to the TLS connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Binding {
    Disable,
    #[default]
    Prefer,
    Require,
}

/// The oldest version of the protocol. Older ones than 1.2 are never spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MinVersion {
    #[default]
    Tls12,
    Tls13,
}

/// How one try to connect is to be encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {
    Clear,
    /// In clear text if the node has no TLS.
    IfOffered,
    Tls,
}

/// See the module. Paths are those of the coordinator's server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsOptions {
    mode: Option<SslMode>,
    pub root_cert: Option<String>,
    pub crl: Option<String>,
    pub cert: Option<String>,
    pub key: Option<String>,
    pub min_version: MinVersion,
    pub binding: Binding,
}

/// Of a server, and of a user mapping.
pub const SERVER_OPTIONS: [&str; 5] =
    ["sslmode", "sslrootcert", "sslcrl", "ssl_min_protocol_version", "channel_binding"];
pub const MAPPING_OPTIONS: [&str; 2] = ["sslcert", "sslkey"];
/// Those that name files, which the server reads with its own rights.
pub const PATHS: [&str; 4] = ["sslrootcert", "sslcrl", "sslcert", "sslkey"];

/// The `sslrootcert` that stands for what the operating system trusts.
pub const SYSTEM: &str = "system";

impl SslMode {
    fn parse(text: &str) -> Option<SslMode> {
        Some(match text {
            "disable" => SslMode::Disable,
            "allow" => SslMode::Allow,
            "prefer" => SslMode::Prefer,
            "require" => SslMode::Require,
            "verify-ca" => SslMode::VerifyCa,
            "verify-full" => SslMode::VerifyFull,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        match self {
            SslMode::Disable => "disable",
            SslMode::Allow => "allow",
            SslMode::Prefer => "prefer",
            SslMode::Require => "require",
            SslMode::VerifyCa => "verify-ca",
            SslMode::VerifyFull => "verify-full",
        }
    }

    /// What to try in turn at an address over TCP.
    pub fn encryptions(self) -> &'static [Encryption] {
        match self {
            SslMode::Disable => &[Encryption::Clear],
            SslMode::Allow => &[Encryption::Clear, Encryption::Tls],
            SslMode::Prefer => &[Encryption::IfOffered, Encryption::Clear],
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[Encryption::Tls],
        }
    }
}

impl TlsOptions {
    /// The same with an option set; `None` if the value is not valid for it.
    pub fn with(mut self, option: &str, value: &str) -> Option<TlsOptions> {
        let path = || (!value.is_empty()).then(|| value.to_string());
        match option {
            "sslmode" => self.mode = Some(SslMode::parse(value)?),
            "sslrootcert" => self.root_cert = Some(path()?),
            "sslcrl" => self.crl = Some(path()?),
            "sslcert" => self.cert = Some(path()?),
            "sslkey" => self.key = Some(path()?),
            "ssl_min_protocol_version" => {
                self.min_version = match value {
                    "TLSv1" | "TLSv1.1" | "TLSv1.2" => MinVersion::Tls12,
                    "TLSv1.3" => MinVersion::Tls13,
                    _ => return None,
                }
            }
            "channel_binding" => {
                self.binding = match value {
                    "disable" => Binding::Disable,
                    "prefer" => Binding::Prefer,
                    "require" => Binding::Require,
                    _ => return None,
                }
            }
            _ => return None,
        }
        Some(self)
    }

    /// What `sslmode` says; trusting the whole system's authorities makes sense with the strictest only.
    pub fn mode(&self) -> SslMode {
        let default = if self.trusts_system() { SslMode::VerifyFull } else { SslMode::Prefer };
        self.mode.unwrap_or(default)
    }

    pub fn trusts_system(&self) -> bool {
        self.root_cert.as_deref() == Some(SYSTEM)
    }

    /// What does not fit together: the problem and what to do.
    pub fn conflict(&self) -> Option<(String, &'static str)> {
        let mode = self.mode();
        if self.trusts_system() && mode != SslMode::VerifyFull {
            return Some((
                format!("sslmode \"{}\" is too weak for sslrootcert \"system\"", mode.name()),
                "Use sslmode 'verify-full', or name a file in sslrootcert.",
            ));
        }
        if self.root_cert.is_none() && matches!(mode, SslMode::VerifyCa | SslMode::VerifyFull) {
            return Some((
                format!("sslmode \"{}\" needs the option sslrootcert", mode.name()),
                "Set sslrootcert to the file with the certificate of the nodes' authority, or to 'system'.",
            ));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(options: &[(&str, &str)]) -> TlsOptions {
        options.iter().fold(TlsOptions::default(), |all, (option, value)| all.with(option, value).unwrap())
    }

    #[test]
    fn values_are_checked() {
        for (option, good, bad) in [
            ("sslmode", "verify-ca", "Require"),
            ("sslrootcert", "system", ""),
            ("sslcrl", "/a", ""),
            ("ssl_min_protocol_version", "TLSv1.3", "1.3"),
            ("channel_binding", "require", "on"),
            ("sslcert", "/a", ""),
            ("sslkey", "/a", ""),
        ] {
            assert!(TlsOptions::default().with(option, good).is_some(), "{option}");
            assert!(TlsOptions::default().with(option, bad).is_none(), "{option}");
        }
        assert!(TlsOptions::default().with("host", "a").is_none());
    }

    #[test]
    fn the_systems_authorities_ask_for_the_strictest_mode() {
        assert_eq!(of(&[("sslrootcert", "system")]).mode(), SslMode::VerifyFull);
        assert!(of(&[("sslrootcert", "system")]).conflict().is_none());
        assert!(of(&[("sslrootcert", "system"), ("sslmode", "require")]).conflict().is_some());
    }

    #[test]
    fn verifying_needs_somebody_to_trust() {
        assert!(of(&[("sslmode", "verify-ca")]).conflict().is_some());
        assert!(of(&[("sslmode", "verify-ca"), ("sslrootcert", "/ca")]).conflict().is_none());
        assert!(of(&[("sslmode", "require")]).conflict().is_none());
    }

    #[test]
    fn allow_begins_in_the_clear_and_prefer_with_tls() {
        assert_eq!(SslMode::Allow.encryptions()[0], Encryption::Clear);
        assert_eq!(SslMode::Prefer.encryptions()[0], Encryption::IfOffered);
        for strict in [SslMode::Require, SslMode::VerifyCa, SslMode::VerifyFull] {
            assert_eq!(strict.encryptions(), [Encryption::Tls]);
        }
    }
}
