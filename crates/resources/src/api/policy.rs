use std::{collections::BTreeMap, sync::Arc};

use serde::Deserialize;

use super::{LocalObjectRef, Object};

/// How to speak TLS to a backend.
pub type BackendTlsPolicy = Object<BackendTlsPolicySpec>;

/// The spec of a [`BackendTlsPolicy`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendTlsPolicySpec {
    /// The backends.
    pub target_refs: Vec<PolicyTargetRef>,
    /// What the backend has to prove.
    pub validation: BackendTlsValidation,
    /// Implementation-specific options.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// An object that a policy is for, in the policy's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyTargetRef {
    /// The object's API group; empty for core.
    pub group: Arc<str>,
    /// The object's kind.
    pub kind: Arc<str>,
    /// The object's name.
    pub name: Arc<str>,
    /// A part of it: a Service's port by name.
    #[serde(default)]
    pub section_name: Option<Arc<str>>,
}

/// What a backend's certificate has to prove.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendTlsValidation {
    /// The authorities that may have signed it.
    #[serde(default)]
    pub ca_certificate_refs: Vec<LocalObjectRef>,
    /// `System` for the host's own authorities.
    #[serde(default, rename = "wellKnownCACertificates")]
    pub well_known_ca_certificates: Option<Arc<str>>,
    /// The server name to ask for, and to find in the certificate.
    pub hostname: Arc<str>,
    /// Other names, one of which has to be in the certificate in the hostname's place.
    #[serde(default)]
    pub subject_alt_names: Vec<SubjectAltName>,
}

/// A name in a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SubjectAltName {
    /// `Hostname` or `URI`.
    #[serde(rename = "type")]
    pub kind: Arc<str>,
    /// The name, for `Hostname`.
    #[serde(default)]
    pub hostname: Option<Arc<str>>,
    /// The name, for `URI`.
    #[serde(default)]
    pub uri: Option<Arc<str>>,
}
