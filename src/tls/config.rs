//! What rustls needs to know for connections with these options: roots, client certificate, versions.
//!
//! As in libpq, a node is verified if there is an `sslrootcert`, whatever else `sslmode` says; only `verify-full`
//! compares the host name. There are no default files.

use crate::error::{Error, Result, sqlstate};
use crate::tls::options::{MinVersion, SslMode, TlsOptions};
use crate::tls::verify::{Trust, Verifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::sync::Arc;

/// Where certificates and keys come from.
pub trait Files {
    fn read(&self, path: &str) -> io::Result<Vec<u8>>;
    /// The same for a private key, which nobody else may be able to read.
    fn read_key(&self, path: &str) -> io::Result<Vec<u8>>;
    /// What the operating system trusts.
    fn system_roots(&self) -> io::Result<Vec<CertificateDer<'static>>>;
}

/// The configuration for these options. The error says which file or option is at fault.
pub fn client_config(options: &TlsOptions, files: &impl Files) -> Result<Arc<ClientConfig>> {
    if let Some((problem, hint)) = options.conflict() {
        return Err(invalid(problem).hint(hint));
    }
    let provider = Arc::new(default_provider());
    let trust = match &options.root_cert {
        None => None,
        Some(_) => Some(trust(options, files)?),
    };
    let verifier = Verifier { algorithms: provider.signature_verification_algorithms, trust };
    let versions = match options.min_version {
        MinVersion::Tls12 => rustls::ALL_VERSIONS,
        MinVersion::Tls13 => &[&rustls::version::TLS13],
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|error| invalid(format!("TLS cannot be set up: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match (&options.cert, &options.key) {
        (Some(cert), Some(key)) => {
            let chain = certificates(cert, "sslcert", files)?;
            let key = private_key(key, files)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| invalid(format!("sslcert \"{cert}\" and its sslkey cannot be used: {error}")))?
        }
        (None, None) => builder.with_no_client_auth(),
        (Some(_), None) => {
            return Err(invalid("the user mapping has sslcert but no sslkey".into()).hint("Set both or neither."));
        }
        (None, Some(_)) => {
            return Err(invalid("the user mapping has sslkey but no sslcert".into()).hint("Set both or neither."));
        }
    };
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

fn trust(options: &TlsOptions, files: &impl Files) -> Result<Trust> {
    let path = options.root_cert.as_deref().unwrap_or_default();
    let roots = if options.trusts_system() {
        files.system_roots().map_err(|error| invalid(format!("the system's authorities cannot be read: {error}")))?
    } else {
        certificates(path, "sslrootcert", files)?
    };
    let mut store = RootCertStore::empty();
    // As with other programs, an authority that cannot be understood is one that is not trusted.
    let (added, _) = store.add_parsable_certificates(roots.iter().cloned());
    if added == 0 {
        return Err(invalid(format!("sslrootcert \"{path}\" has no certificate that can be used")));
    }
    let mut builder = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::new(default_provider()));
    if let Some(path) = &options.crl {
        let bytes = files.read(path).map_err(|error| unreadable("sslcrl", path, &error))?;
        let lists: Vec<CertificateRevocationListDer<'static>> = CertificateRevocationListDer::pem_slice_iter(&bytes)
            .collect::<std::result::Result<_, _>>()
            .map_err(|error| invalid(format!("sslcrl \"{path}\" is malformed: {error}")))?;
        builder = builder.with_crls(lists);
    }
    let chain = builder.build().map_err(|error| invalid(format!("sslrootcert \"{path}\" cannot be used: {error}")))?;
    Ok(Trust { chain, roots, check_name: options.mode() == SslMode::VerifyFull })
}

fn certificates(path: &str, option: &str, files: &impl Files) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = files.read(path).map_err(|error| unreadable(option, path, &error))?;
    let all: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| invalid(format!("{option} \"{path}\" is malformed: {error}")))?;
    if all.is_empty() {
        return Err(invalid(format!("{option} \"{path}\" has no certificate")));
    }
    Ok(all)
}

fn private_key(path: &str, files: &impl Files) -> Result<PrivateKeyDer<'static>> {
    let bytes = files.read_key(path).map_err(|error| unreadable("sslkey", path, &error))?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| {
        invalid(format!("sslkey \"{path}\" has no private key that can be used"))
            .hint("It must be a PEM file without a passphrase.")
    })
}

fn unreadable(option: &str, path: &str, error: &io::Error) -> Error {
    invalid(format!("{option} \"{path}\" cannot be read: {error}"))
        .hint("The file is read by the pool worker of the coordinator; relative paths begin in its data directory.")
}

fn invalid(message: String) -> Error {
    Error::new(sqlstate::INVALID_PARAMETER_VALUE, message)
}
