//! The files with certificates and keys, as the pool worker reads them.

use crate::tls::config::Files;
use rustls::pki_types::CertificateDer;
use std::io;
use std::os::unix::fs::MetadataExt;

/// The coordinator's file system; relative paths begin in its data directory.
pub struct ServerFiles;

impl Files for ServerFiles {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    /// The rules are libpq's: the file is the server's own and nobody else may read it, or it is root's
    /// and at most its group may.
    fn read_key(&self, path: &str) -> io::Result<Vec<u8>> {
        let file = std::fs::metadata(path)?;
        let forbidden = if file.uid() == 0 { 0o027 } else { 0o077 };
        if file.is_file() && file.mode() & forbidden != 0 {
            let problem = "others may read it; use chmod 0600, or 0640 if it belongs to root";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem));
        }
        std::fs::read(path)
    }

    fn system_roots(&self) -> io::Result<Vec<CertificateDer<'static>>> {
        let found = rustls_native_certs::load_native_certs();
        match (found.certs.is_empty(), found.errors.into_iter().next()) {
            (true, Some(error)) => Err(io::Error::other(error)),
            (true, None) => Err(io::Error::new(io::ErrorKind::NotFound, "there are none")),
            (false, _) => Ok(found.certs),
        }
    }
}
