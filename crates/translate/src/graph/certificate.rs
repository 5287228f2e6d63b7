//! References to certificates and keys: of listeners, of a Gateway towards backends, and of the
//! authorities that certificates are checked against.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::DateTime;
use l4way_model::KeyPair;
use l4way_resources::{
    GATEWAY_GROUP, Snapshot,
    api::{ConfigMap, LocalObjectRef, ObjectKey, ObjectRef, Secret, SecretRef},
};
use l4way_tls::{ENDS_SOON, inspect_authorities, inspect_key_pair};
use zeroize::Zeroizing;

use super::{CrossReference, Grants, refused};
use crate::suggest;

/// The type of Secrets that hold a certificate and its key.
const TLS_SECRET: &str = "kubernetes.io/tls";

/// Why a reference can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    /// It is to another namespace, and no ReferenceGrant permits it.
    NotPermitted(String),
    /// It is to a kind of object that can't hold what is needed.
    Kind(String),
    /// The object isn't there or isn't what it should be.
    Invalid(String),
    /// The object is there and can't be used, which has been told.
    Refused(String),
}

/// The object that refers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Referrer<'a> {
    pub(crate) kind: &'a str,
    pub(crate) namespace: &'a str,
}

/// A certificate with its key.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    pub(crate) pair: Arc<KeyPair>,
    /// What there is to know of it.
    pub(crate) details: Arc<l4way_tls::Certificate>,
}

/// How a certificate stands to the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Validity {
    Good,
    /// It is valid, but not for long.
    EndsSoon(String),
    /// It isn't valid yet, or any more.
    Invalid(String),
}

impl Certificate {
    /// How it stands to this time; good if the time isn't known.
    pub(crate) fn validity(&self, now: Option<i64>) -> Validity {
        let Some(now) = now else { return Validity::Good };
        let l4way_tls::Certificate { not_before, not_after, .. } = *self.details;
        let name = &self.pair.name;
        if now < not_before {
            let from = time(not_before);
            Validity::Invalid(format!("Secret {name} has a certificate that is valid from {from}"))
        } else if now > not_after {
            let since = time(not_after);
            Validity::Invalid(format!(
                "Secret {name} has a certificate that expired at {since}; renew it"
            ))
        } else if now >= not_after - ENDS_SOON {
            let date = time(not_after);
            let date = date.split('T').next().unwrap_or_default();
            Validity::EndsSoon(format!(
                "Secret {name} has a certificate that expires on {date}; renew it"
            ))
        } else {
            Validity::Good
        }
    }

    /// When there will be something else to say of it.
    pub(crate) fn turns(&self) -> [i64; 3] {
        let l4way_tls::Certificate { not_before, not_after, .. } = *self.details;
        [not_before, not_after - ENDS_SOON, not_after + 1]
    }
}

/// A time as RFC 3339 has it.
fn time(seconds: i64) -> String {
    let time = DateTime::from_timestamp(seconds, 0);
    time.map_or_else(|| seconds.to_string(), |time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// Looks up what certificate references refer to.
pub(crate) struct Certificates<'a> {
    pub(crate) snapshot: &'a Snapshot,
    grants: &'a Grants<'a>,
    /// In seconds of Unix time, if it is known.
    pub(crate) now: Option<i64>,
    /// The Secrets that have been looked into: many listeners may have the same.
    read: RefCell<HashMap<ObjectKey, Result<Certificate, String>>>,
    /// The objects that were looked for, by references that are permitted.
    sought: RefCell<BTreeSet<ObjectRef>>,
}

impl<'a> Certificates<'a> {
    /// Looks among the objects of `snapshot`. The time is that of the settings.
    pub(crate) fn new(snapshot: &'a Snapshot, grants: &'a Grants<'a>, now: i64) -> Self {
        let now = Some(now).filter(|now| *now != 0);
        Self { snapshot, grants, now, read: RefCell::default(), sought: RefCell::default() }
    }

    /// The Secrets and ConfigMaps that were looked for, whether or not they are there.
    pub(crate) fn sought(&self) -> BTreeSet<ObjectRef> {
        self.sought.borrow().clone()
    }

    /// The certificate and key that the reference leads to.
    pub(crate) fn key_pair(
        &self,
        referrer: Referrer<'_>,
        reference: &SecretRef,
    ) -> Result<Certificate, Defect> {
        if (&*reference.group, &*reference.kind) != ("", "Secret") {
            return Err(Defect::Kind(format!(
                "{} of group {:?} can't hold a certificate; refer to a Secret of type {TLS_SECRET}{}",
                reference.kind,
                reference.group,
                suggest::of_group(&reference.group)
            )));
        }
        let namespace = reference.namespace.as_deref().unwrap_or(referrer.namespace);
        self.permit(referrer, "Secret", namespace, &reference.name)?;
        let key = ObjectKey::new(namespace, &*reference.name);
        self.check_refused("Secret", &key, self.snapshot.secrets.contains_key(&key))?;
        let mut read = self.read.borrow_mut();
        let certificate =
            read.entry(key.clone()).or_insert_with(|| read_key_pair(&key, self.secret(&key)?));
        certificate.clone().map_err(|why| Defect::Invalid(format!("Secret {key} {why}")))
    }

    /// The certificates of authorities that some of the references lead to, in PEM, and why others, by
    /// their places, can't be used. None if nothing can be.
    pub(crate) fn all_authorities(
        &self,
        referrer: Referrer<'_>,
        references: &[LocalObjectRef],
    ) -> (Option<Arc<str>>, Vec<(usize, Defect)>) {
        let mut usable = Vec::new();
        let mut defects = Vec::new();
        for (index, reference) in references.iter().enumerate() {
            match self.authorities(referrer, reference) {
                Ok(pem) => usable.push(pem),
                Err(defect) => defects.push((index, defect)),
            }
        }
        let all = (!usable.is_empty()).then(|| usable.join("\n").into());
        (all, defects)
    }

    fn authorities(
        &self,
        referrer: Referrer<'_>,
        reference: &LocalObjectRef,
    ) -> Result<String, Defect> {
        let kind = match (&*reference.group, &*reference.kind) {
            ("", kind @ ("ConfigMap" | "Secret")) => kind,
            (group, kind) => {
                return Err(Defect::Kind(format!(
                    "{kind} of group {group:?} can't hold certificates of authorities; refer to a \
                     ConfigMap or Secret with the key ca.crt{}",
                    suggest::of_group(group)
                )));
            }
        };
        let namespace = reference.namespace.as_deref().unwrap_or(referrer.namespace);
        self.permit(referrer, kind, namespace, &reference.name)?;
        let key = ObjectKey::new(namespace, &*reference.name);
        let is_there = match kind {
            "Secret" => self.snapshot.secrets.contains_key(&key),
            _ => self.snapshot.config_maps.contains_key(&key),
        };
        self.check_refused(kind, &key, is_there)?;
        let pem = if kind == "Secret" {
            let pem = self.secret(&key).and_then(|secret| text(secret, "ca.crt"));
            pem.map(|pem| pem.to_string())
        } else {
            let pem = self.config_map(&key).map(|map| map.data.get("ca.crt"));
            pem.and_then(|pem| pem.cloned().ok_or_else(|| "lacks the key ca.crt".to_owned()))
        };
        pem.and_then(|pem| inspect_authorities(&pem).map(|()| pem))
            .map_err(|why| Defect::Invalid(format!("{kind} {key} {why}")))
    }

    fn check_refused(&self, kind: &str, key: &ObjectKey, is_there: bool) -> Result<(), Defect> {
        match self.snapshot.refused(kind, key).filter(|_| !is_there) {
            Some(refused) => {
                Err(Defect::Refused(format!("{kind} {key} {}", refused::invalid(refused))))
            }
            None => Ok(()),
        }
    }

    fn secret(&self, key: &ObjectKey) -> Result<&'a Secret, String> {
        let secret = self.snapshot.secrets.get(key);
        secret.map(|secret| &**secret).ok_or_else(|| self.why_missing("Secret", key))
    }

    fn config_map(&self, key: &ObjectKey) -> Result<&'a ConfigMap, String> {
        let map = self.snapshot.config_maps.get(key);
        map.map(|map| &**map).ok_or_else(|| self.why_missing("ConfigMap", key))
    }

    fn why_missing(&self, kind: &str, key: &ObjectKey) -> String {
        match self.snapshot.unread.get(&ObjectRef::new(kind, key.clone())) {
            Some(why) => format!("can't be read: {why}"),
            None => "doesn't exist".to_owned(),
        }
    }

    /// Checks that the reference is permitted, and notes that its object is looked for.
    fn permit(
        &self,
        referrer: Referrer<'_>,
        to_kind: &str,
        to_namespace: &str,
        to_name: &str,
    ) -> Result<(), Defect> {
        let reference = CrossReference {
            from: (GATEWAY_GROUP, referrer.kind),
            from_namespace: referrer.namespace,
            to: ("", to_kind),
            to_namespace,
            to_name,
        };
        self.grants.check(reference).map_err(Defect::NotPermitted)?;
        let object = ObjectRef::new(to_kind, ObjectKey::new(to_namespace, to_name));
        self.sought.borrow_mut().insert(object);
        Ok(())
    }
}

fn read_key_pair(key: &ObjectKey, secret: &Secret) -> Result<Certificate, String> {
    if secret.kind.as_deref() != Some(TLS_SECRET) {
        let kind = secret.kind.as_deref().unwrap_or("Opaque");
        return Err(format!("is of type {kind}, not {TLS_SECRET}"));
    }
    let pair = KeyPair {
        name: key.to_string().into(),
        certificate_chain: text(secret, "tls.crt")?.as_str().into(),
        private_key: text(secret, "tls.key")?,
    };
    let details = inspect_key_pair(&pair)?;
    Ok(Certificate { pair: Arc::new(pair), details: Arc::new(details) })
}

/// The decoded value of one of a Secret's keys. It is to be PEM, which is ASCII; what else may stand
/// around it means nothing.
fn text(secret: &Secret, key: &str) -> Result<Zeroizing<String>, String> {
    if let Some(text) = secret.string_data.get(key) {
        return Ok(text.clone());
    }
    let value = secret.data.get(key).ok_or_else(|| format!("lacks the key {key}"))?;
    // As in YAML block scalars, which the API server accepts. A string that grows leaves copies behind.
    let mut encoded = Zeroizing::new(String::with_capacity(value.len()));
    encoded.extend(value.split_ascii_whitespace());
    let decoded = BASE64_STANDARD
        .decode(&*encoded)
        .map_err(|error| format!("has bad base64 in {key}: {error}"))?;
    // What isn't UTF-8 is copied, and the original wiped.
    let decoded = String::from_utf8(decoded).unwrap_or_else(|error| {
        let bytes = Zeroizing::new(error.into_bytes());
        String::from_utf8_lossy(&bytes).into_owned()
    });
    Ok(decoded.into())
}
