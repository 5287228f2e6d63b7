//! Certificates and keys, as they are written down.

use std::sync::Arc;

use l4way_model::KeyPair;
use rustls::{
    Error, InconsistentKeys, RootCertStore, SignatureAlgorithm,
    crypto::aws_lc_rs::sign::any_supported_type, server::ParsedCertificate, sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, parse_x509_certificate};
use zeroize::Zeroizing;

/// How long before its end a certificate is complained of, in seconds: 14 days.
pub const ENDS_SOON: i64 = 14 * 24 * 60 * 60;

/// What there is to know of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The DNS names that it is for, in lower case. Its common name is not one (RFC 9525, section 2).
    pub names: Vec<Arc<str>>,
    /// From when on it is valid, in seconds of Unix time.
    pub not_before: i64,
    /// Until when it is valid, in seconds of Unix time.
    pub not_after: i64,
    /// What its key signs with.
    pub key: SignatureAlgorithm,
}

/// Looks into a certificate, and whether the key is its own.
///
/// # Errors
/// What is wrong, without showing any of it: a sentence that goes on after "Secret ns/name".
pub fn inspect_key_pair(pair: &KeyPair) -> Result<Certificate, String> {
    let certified = certified_key(pair)?;
    let first = certified.cert.first().ok_or("has no certificate in tls.crt")?;
    let certificate = parse(first).map_err(|why| format!("{why} in tls.crt"))?;
    Ok(Certificate {
        names: dns_names(&certificate),
        not_before: certificate.validity().not_before.timestamp(),
        not_after: certificate.validity().not_after.timestamp(),
        key: certified.key.algorithm(),
    })
}

/// Until when the certificate of a key pair is valid, in seconds of Unix time; nothing of one that can't
/// be read.
pub fn not_after(pair: &KeyPair) -> Option<i64> {
    let der = CertificateDer::from_pem_slice(pair.certificate_chain.as_bytes()).ok()?;
    Some(parse(&der).ok()?.validity().not_after.timestamp())
}

/// Looks into the certificates of authorities.
///
/// # Errors
/// What is wrong: a sentence that goes on after "ConfigMap ns/name".
pub fn inspect_authorities(pem: &str) -> Result<(), String> {
    authorities(pem).map(drop)
}

/// Reads the certificates of authorities.
pub(crate) fn authorities(pem: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for der in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let der = der.map_err(|_| "has no PEM certificate in ca.crt")?;
        parse(&der).map_err(|why| format!("{why} in ca.crt"))?;
        roots.add(der).map_err(|_| "has a certificate in ca.crt that can't be an authority's")?;
    }
    if roots.is_empty() {
        return Err("has no PEM certificate in ca.crt".to_owned());
    }
    Ok(roots)
}

/// Reads a key pair. What is wrong with it is said without showing any of it.
pub(crate) fn certified_key(pair: &KeyPair) -> Result<CertifiedKey, String> {
    let chain = CertificateDer::pem_slice_iter(pair.certificate_chain.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| "has no PEM certificate in tls.crt")?;
    let first = chain.first().ok_or("has no PEM certificate in tls.crt")?;
    parse(first).map_err(|why| format!("{why} in tls.crt"))?;
    ParsedCertificate::try_from(first)
        .map_err(|_| "has a certificate in tls.crt that is not X.509 version 3")?;
    const NOT_USABLE: &str = "has a private key in tls.key of a kind that can't be used";
    let der = PrivateKeyDer::from_pem_slice(pair.private_key.as_bytes())
        .map_err(|_| "has no PEM private key in tls.key")?;
    // rustls' own way from DER to a key takes the DER, and doesn't wipe it.
    let key = any_supported_type(&Zeroizing::new(der)).map_err(|_| NOT_USABLE)?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(Error::InconsistentKeys(_)) => {
            Err("has a private key in tls.key that isn't the one of \
                                                the certificate in tls.crt"
                .to_owned())
        }
        Err(_) => Err(NOT_USABLE.to_owned()),
    }
}

pub(crate) fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    let parsed = parse_x509_certificate(der);
    parsed.map(|(_, certificate)| certificate).map_err(|_| "has a malformed certificate".to_owned())
}

/// The alternative names of a certificate.
pub(crate) fn alternative_names<'a>(
    certificate: &'a X509Certificate<'_>,
) -> impl Iterator<Item = &'a GeneralName<'a>> {
    let extension = certificate.subject_alternative_name().ok().flatten();
    extension.into_iter().flat_map(|names| &names.value.general_names)
}

fn dns_names(certificate: &X509Certificate<'_>) -> Vec<Arc<str>> {
    let names = alternative_names(certificate).filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase().into()),
        _ => None,
    });
    names.collect()
}
