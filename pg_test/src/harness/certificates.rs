//! Certificates made by a test: an authority, servers with their names, clients with theirs.

use super::Installation;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
    date_time_ymd,
};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Who signs certificates.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, both in PEM.
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        Authority { issuer: CertifiedIssuer::self_signed(params, key).expect("a certificate") }
    }

    pub fn certificate(&self) -> String {
        self.issuer.pem()
    }

    /// For a server with these names.
    pub fn server(&self, names: &[&str]) -> Issued {
        self.issue(Authority::server_params(names))
    }

    /// The same, out of date.
    pub fn expired_server(&self, names: &[&str]) -> Issued {
        let mut params = Authority::server_params(names);
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
        self.issue(params)
    }

    /// The same, with a serial number by which it can be revoked.
    pub fn numbered_server(&self, names: &[&str], serial: u64) -> Issued {
        let mut params = Authority::server_params(names);
        params.serial_number = Some(SerialNumber::from(serial));
        self.issue(params)
    }

    /// For a client called `name`.
    pub fn client(&self, name: &str) -> Issued {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params)
    }

    /// A revocation list of these serial numbers.
    pub fn revoke(&self, serials: &[u64]) -> String {
        let date = date_time_ymd(2020, 1, 1);
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date,
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date,
            next_update: date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).and_then(|list| list.pem()).expect("a list")
    }

    fn server_params(names: &[&str]) -> CertificateParams {
        let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params
    }

    fn issue(&self, params: CertificateParams) -> Issued {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Issued { certificate, key: key.serialize_pem() }
    }
}

impl Issued {
    /// Writes `name.crt` and `name.key`, as the servers' user.
    pub fn write(&self, folder: &Path, name: &str) {
        write_as_server(&folder.join(format!("{name}.crt")), &self.certificate);
        write_as_server(&folder.join(format!("{name}.key")), &self.key);
    }
}

/// Writes a file of the servers' user that nobody else may read.
pub fn write_as_server(path: &Path, text: &str) {
    fs::write(path, text).expect("cannot write");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("cannot chmod");
    if let Some((user, group)) = Installation::get().run_as {
        std::os::unix::fs::chown(path, Some(user), Some(group)).expect("cannot chown");
    }
}
