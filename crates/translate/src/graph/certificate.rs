//! References to certificates and keys: of listeners, of a Gateway towards backends, and of the
//! authorities that clients' certificates are checked against.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use l4way_model::KeyPair;
use l4way_resources::{
    GATEWAY_GROUP, Snapshot,
    api::{LocalObjectRef, ObjectKey, Secret, SecretRef},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

use super::{CrossReference, Grants};

/// Why a reference can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    /// It is to another namespace, and no ReferenceGrant permits it.
    NotPermitted(String),
    /// It is to a kind of object that can't hold what is needed.
    Kind(String),
    /// The object isn't there or isn't what it should be.
    Invalid(String),
}

/// The object that refers: a Gateway or a ListenerSet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Referrer<'a> {
    pub(crate) kind: &'a str,
    pub(crate) namespace: &'a str,
}

/// A certificate with its key.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    /// The DNS names that it is for.
    pub(crate) names: Vec<Arc<str>>,
    pub(crate) pair: Arc<KeyPair>,
}

/// Looks up what certificate references refer to.
pub(crate) struct Certificates<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) grants: &'a Grants<'a>,
}

impl Certificates<'_> {
    /// The certificate and key that the reference leads to.
    pub(crate) fn key_pair(
        &self,
        referrer: Referrer<'_>,
        reference: &SecretRef,
    ) -> Result<Certificate, Defect> {
        if (&*reference.group, &*reference.kind) != ("", "Secret") {
            return Err(Defect::Kind(format!(
                "{} of group {:?} can't hold a certificate; refer to a Secret of type \
                 kubernetes.io/tls",
                reference.kind, reference.group
            )));
        }
        let namespace = reference.namespace.as_deref().unwrap_or(referrer.namespace);
        self.permit(referrer, ("", "Secret"), namespace, &reference.name)?;
        let key = ObjectKey::new(namespace, &*reference.name);
        let secret = self
            .snapshot
            .secrets
            .get(&key)
            .ok_or_else(|| Defect::Invalid(format!("Secret {key} doesn't exist")))?;
        read_key_pair(secret).map_err(|why| Defect::Invalid(format!("Secret {key} {why}")))
    }

    /// Whether the reference leads to certificates of authorities.
    pub(crate) fn authorities(
        &self,
        referrer: Referrer<'_>,
        reference: &LocalObjectRef,
    ) -> Result<(), Defect> {
        if (&*reference.group, &*reference.kind) != ("", "ConfigMap") {
            return Err(Defect::Kind(format!(
                "{} of group {:?} can't hold certificates of authorities; refer to a ConfigMap \
                 with the key ca.crt",
                reference.kind, reference.group
            )));
        }
        let namespace = reference.namespace.as_deref().unwrap_or(referrer.namespace);
        self.permit(referrer, ("", "ConfigMap"), namespace, &reference.name)?;
        let key = ObjectKey::new(namespace, &*reference.name);
        let config_map = self
            .snapshot
            .config_maps
            .get(&key)
            .ok_or_else(|| Defect::Invalid(format!("ConfigMap {key} doesn't exist")))?;
        let pem = config_map.data.get("ca.crt").ok_or_else(|| "lacks the key ca.crt".to_owned());
        pem.and_then(|pem| names(pem.as_bytes(), "ca.crt"))
            .map(drop)
            .map_err(|why| Defect::Invalid(format!("ConfigMap {key} {why}")))
    }

    fn permit(
        &self,
        referrer: Referrer<'_>,
        to: (&str, &str),
        to_namespace: &str,
        to_name: &str,
    ) -> Result<(), Defect> {
        let reference = CrossReference {
            from: (GATEWAY_GROUP, referrer.kind),
            from_namespace: referrer.namespace,
            to,
            to_namespace,
            to_name,
        };
        self.grants.check(reference).map_err(Defect::NotPermitted)
    }
}

fn read_key_pair(secret: &Secret) -> Result<Certificate, String> {
    let certificate = value(secret, "tls.crt")?;
    let names = names(&certificate, "tls.crt")?;
    let key = value(secret, "tls.key")?;
    PrivateKeyDer::from_pem_slice(&key)
        .map_err(|_| "has no PEM private key in tls.key".to_owned())?;
    // PEM is ASCII; what else may stand around it means nothing.
    let text = |pem: &[u8]| Arc::from(String::from_utf8_lossy(pem));
    let pair = KeyPair { certificate_chain: text(&certificate), private_key: text(&key) };
    Ok(Certificate { names, pair: Arc::new(pair) })
}

/// The DNS names that the first certificate of a PEM text is for. Its common name is not one
/// (RFC 9525, section 2).
fn names(pem: &[u8], key: &str) -> Result<Vec<Arc<str>>, String> {
    let der = CertificateDer::from_pem_slice(pem)
        .map_err(|_| format!("has no PEM certificate in {key}"))?;
    let malformed = |error| format!("has a malformed certificate in {key}: {error}");
    let (_, certificate) = parse_x509_certificate(&der).map_err(|error| malformed(error.into()))?;
    let alternatives = certificate.subject_alternative_name().map_err(malformed)?;
    let names = alternatives.iter().flat_map(|alternatives| &alternatives.value.general_names);
    let dns_names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase().into()),
        _ => None,
    });
    Ok(dns_names.collect())
}

/// The decoded value of one of a Secret's keys.
fn value(secret: &Secret, key: &str) -> Result<Vec<u8>, String> {
    if let Some(text) = secret.string_data.get(key) {
        return Ok(text.as_bytes().to_vec());
    }
    let encoded = secret.data.get(key).ok_or_else(|| format!("lacks the key {key}"))?;
    // As in YAML block scalars, which the API server accepts.
    let encoded: String = encoded.split_ascii_whitespace().collect();
    BASE64_STANDARD.decode(encoded).map_err(|error| format!("has bad base64 in {key}: {error}"))
}
