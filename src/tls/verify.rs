//! Whether a node's certificate is believed: not looked at, from a known authority (`verify-ca`), or for the right host
//! too (`verify-full`).
//!
//! A certificate that is itself in `sslrootcert` is believed as it is, also if it calls itself an authority, as
//! `openssl req -x509` makes them. The handshake's signature is checked in every mode.

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};
use std::sync::Arc;

/// See the module.
#[derive(Debug)]
pub struct Verifier {
    pub algorithms: WebPkiSupportedAlgorithms,
    /// `None`: every certificate will do.
    pub trust: Option<Trust>,
}

/// Who vouches for nodes.
#[derive(Debug)]
pub struct Trust {
    pub chain: Arc<WebPkiServerVerifier>,
    pub roots: Vec<CertificateDer<'static>>,
    pub check_name: bool,
}

impl Trust {
    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.chain.verify_server_cert(end_entity, intermediates, name, &[], now) {
            // The name is looked at last.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if !self.check_name => Ok(ServerCertVerified::assertion()),
            // Times are looked at before.
            Err(Error::InvalidCertificate(CertificateError::Other(other)))
                if matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
                    && self.roots.iter().any(|root| root == end_entity) =>
            {
                if self.check_name {
                    rustls::client::verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
                }
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.trust {
            None => Ok(ServerCertVerified::assertion()),
            Some(trust) => trust.verify(end_entity, intermediates, server_name, now),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// What is wrong, in words, and what to do about it.
pub fn explain(error: &Error) -> (String, Option<String>) {
    let hint = |text: &str| Some(text.to_string());
    match error {
        Error::InvalidCertificate(certificate) => match certificate {
            CertificateError::UnknownIssuer => (
                "the server's certificate is not from an authority in sslrootcert".into(),
                hint(
                    "Name the file with the certificate of the authority that signed the server's in option sslrootcert.",
                ),
            ),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                ("the server's certificate has expired".into(), hint("Give the server a new certificate."))
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                ("the server's certificate is not valid yet".into(), hint("Compare the clocks of the two servers."))
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
                "the server's certificate is for another host".into(),
                hint(
                    "Name the node in option host as its certificate does (subjectAltName), or use sslmode 'verify-ca'.",
                ),
            ),
            CertificateError::Revoked => ("the server's certificate has been revoked".into(), None),
            CertificateError::UnknownRevocationStatus => (
                "no list in sslcrl is from the authority of the server's certificate".into(),
                hint("Option sslcrl must name a file with the revocation lists of all authorities."),
            ),
            other => (format!("the server's certificate is not accepted: {other}"), None),
        },
        Error::AlertReceived(alert) => (
            format!("the server refused the TLS connection: {alert:?}"),
            hint(
                "The server's log says why; a client certificate is given by the user mapping's options sslcert and sslkey.",
            ),
        ),
        other => (format!("TLS failed: {other}"), None),
    }
}
