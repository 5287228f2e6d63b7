//! References to certificates and keys: of listeners, of a Gateway towards backends, and of the
//! authorities that clients' certificates are checked against.

use base64::{Engine, prelude::BASE64_STANDARD};
use l4way_resources::{
    GATEWAY_GROUP, Snapshot,
    api::{LocalObjectRef, ObjectKey, Secret, SecretRef},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

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

/// Looks up what certificate references refer to.
pub(crate) struct Certificates<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) grants: &'a Grants<'a>,
}

impl Certificates<'_> {
    /// Whether the reference leads to a certificate and its key.
    pub(crate) fn key_pair(
        &self,
        referrer: Referrer<'_>,
        reference: &SecretRef,
    ) -> Result<(), Defect> {
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
        check_key_pair(secret).map_err(|why| Defect::Invalid(format!("Secret {key} {why}")))
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
        let pem = config_map.data.get("ca.crt");
        match pem.map(|pem| CertificateDer::from_pem_slice(pem.as_bytes())) {
            Some(Ok(_)) => Ok(()),
            Some(Err(_)) => {
                Err(Defect::Invalid(format!("ConfigMap {key} has no PEM certificate in ca.crt")))
            }
            None => Err(Defect::Invalid(format!("ConfigMap {key} lacks the key ca.crt"))),
        }
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
        if self.grants.permit(reference) {
            return Ok(());
        }
        Err(Defect::NotPermitted(format!(
            "no ReferenceGrant permits the reference to {} {to_namespace}/{to_name}; {}",
            to.1,
            reference.cure()
        )))
    }
}

fn check_key_pair(secret: &Secret) -> Result<(), String> {
    let certificate = value(secret, "tls.crt")?;
    CertificateDer::from_pem_slice(&certificate)
        .map_err(|_| "has no PEM certificate in tls.crt".to_owned())?;
    let key = value(secret, "tls.key")?;
    PrivateKeyDer::from_pem_slice(&key)
        .map(drop)
        .map_err(|_| "has no PEM private key in tls.key".to_owned())
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
