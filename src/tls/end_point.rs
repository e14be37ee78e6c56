//! Channel binding `tls-server-end-point` (RFC 5929): the hash of the node's certificate, which both sides of SCRAM
//! mix in, so that nobody can stand between them with a certificate of his own.
//!
//! The hash function is that of the certificate's signature, SHA-256 in place of MD5 and SHA-1. Of the
//! certificate, `SEQUENCE { tbs, SEQUENCE { algorithm OID, parameters }, signature }`, only the algorithm is read.
//! A signature that has no hash function of its own (Ed25519) gives nothing to bind to.
//!
//! ```
//! use sharding::tls::end_point::end_point;
//! assert_eq!(end_point(b"no certificate"), None);
//! ```

use ring::digest::{Algorithm, SHA256, SHA384, SHA512, digest};

const SEQUENCE: u8 = 0x30;
const OID: u8 = 0x06;
/// `[0] EXPLICIT`, as in the parameters of RSASSA-PSS.
const FIRST: u8 = 0xa0;

/// Below 1.2.840.113549.1.1.
const PKCS1: [u8; 8] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
/// Below 1.2.840.10045.4.
const ECDSA: [u8; 6] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04];
/// Below 2.16.840.1.101.3.4.2.
const HASHES: [u8; 8] = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];

/// The hash of a certificate in DER; `None` if its signature has no hash function that is known here.
pub fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let algorithm = signature_hash(certificate)?;
    Some(digest(algorithm, certificate).as_ref().to_vec())
}

fn signature_hash(certificate: &[u8]) -> Option<&'static Algorithm> {
    let (body, _) = element(certificate, SEQUENCE)?;
    let (_, rest) = element(body, SEQUENCE)?;
    let (algorithm, _) = element(rest, SEQUENCE)?;
    let (oid, parameters) = element(algorithm, OID)?;
    if let Some(rest) = oid.strip_prefix(&PKCS1) {
        return match rest {
            [4] | [5] | [11] => Some(&SHA256),
            [10] => pss_hash(parameters),
            [12] => Some(&SHA384),
            [13] => Some(&SHA512),
            _ => None,
        };
    }
    match oid.strip_prefix(&ECDSA)? {
        [1] | [3, 2] => Some(&SHA256),
        [3, 3] => Some(&SHA384),
        [3, 4] => Some(&SHA512),
        _ => None,
    }
}

/// `SEQUENCE { [0] SEQUENCE { hash OID } DEFAULT SHA-1, ... }`
fn pss_hash(parameters: &[u8]) -> Option<&'static Algorithm> {
    let (parameters, _) = element(parameters, SEQUENCE)?;
    let Some((hash, _)) = element(parameters, FIRST) else { return Some(&SHA256) };
    let (oid, _) = element(element(hash, SEQUENCE)?.0, OID)?;
    match oid.strip_prefix(&HASHES)? {
        [1] => Some(&SHA256),
        [2] => Some(&SHA384),
        [3] => Some(&SHA512),
        _ => None,
    }
}

/// The contents of the DER element at the beginning, which must have this tag, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[first, length], rest) = bytes.split_first_chunk::<2>()?;
    if first != tag {
        return None;
    }
    if length < 0x80 {
        return rest.split_at_checked(length.into());
    }
    let size = usize::from(length & 0x7f);
    if size == 0 || size > 4 {
        return None;
    }
    let (digits, rest) = rest.split_at_checked(size)?;
    let length = digits.iter().fold(0usize, |all, digit| all << 8 | usize::from(*digit));
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate of which only the algorithm is real.
    fn certificate(algorithm: &[u8]) -> Vec<u8> {
        let mut body = vec![SEQUENCE, 0x81, 1, 0];
        body.push(SEQUENCE);
        body.push(algorithm.len() as u8);
        body.extend(algorithm);
        let mut all = vec![SEQUENCE, 0x82, 0, body.len() as u8];
        all.extend(body);
        all
    }

    fn oid(prefix: &[u8], rest: &[u8]) -> Vec<u8> {
        [&[OID, (prefix.len() + rest.len()) as u8], prefix, rest].concat()
    }

    #[test]
    fn the_hash_is_that_of_the_signature() {
        for (prefix, rest, length) in [
            (&PKCS1[..], &[11][..], 32),
            (&PKCS1, &[5], 32),
            (&PKCS1, &[12], 48),
            (&PKCS1, &[13], 64),
            (&ECDSA, &[3, 2], 32),
            (&ECDSA, &[3, 3], 48),
            (&ECDSA, &[3, 4], 64),
        ] {
            let certificate = certificate(&oid(prefix, rest));
            assert_eq!(end_point(&certificate).unwrap().len(), length, "{rest:?}");
        }
        assert_eq!(end_point(&certificate(&oid(&[0x2b, 0x65], &[0x70]))), None, "Ed25519");
    }

    #[test]
    fn of_pss_it_is_in_the_parameters() {
        let hash = oid(&HASHES, &[2]);
        let inner = [&[SEQUENCE, hash.len() as u8], &hash[..]].concat();
        let first = [&[FIRST, inner.len() as u8], &inner[..]].concat();
        let parameters = [&[SEQUENCE, first.len() as u8], &first[..]].concat();
        let algorithm = [oid(&PKCS1, &[10]), parameters].concat();
        assert_eq!(end_point(&certificate(&algorithm)).unwrap().len(), 48);
    }

    #[test]
    fn a_real_certificate() {
        let key = rcgen::KeyPair::generate().unwrap();
        let made = rcgen::CertificateParams::new(vec!["a".into()]).unwrap().self_signed(&key).unwrap();
        let hash = end_point(made.der()).unwrap();
        assert_eq!(hash, digest(&SHA256, made.der()).as_ref());
        for length in 0..made.der().len() {
            end_point(&made.der()[..length]);
        }
    }
}
