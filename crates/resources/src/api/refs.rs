//! References from one object to another, with the API's defaults filled in.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::HttpFilter;

pub(super) fn gateway_group() -> Arc<str> {
    crate::GATEWAY_GROUP.into()
}

pub(super) fn gateway_kind() -> Arc<str> {
    "Gateway".into()
}

fn service_kind() -> Arc<str> {
    "Service".into()
}

fn secret_kind() -> Arc<str> {
    "Secret".into()
}

fn weight_one() -> u32 {
    1
}

/// The Gateway or ListenerSet that a route wants to attach to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentRef {
    /// The parent's API group.
    #[serde(default = "gateway_group")]
    pub group: Arc<str>,
    /// The parent's kind.
    #[serde(default = "gateway_kind")]
    pub kind: Arc<str>,
    /// The parent's namespace; the route's own if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Arc<str>>,
    /// The parent's name.
    pub name: Arc<str>,
    /// Only the listener of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<Arc<str>>,
    /// Only the listeners on this port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// Where a rule's sessions go, and with which weight.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct BackendRef {
    /// The backend's API group; empty for core.
    #[serde(default)]
    pub group: Arc<str>,
    /// The backend's kind.
    #[serde(default = "service_kind")]
    pub kind: Arc<str>,
    /// The backend's namespace; the route's own if missing.
    #[serde(default)]
    pub namespace: Option<Arc<str>>,
    /// The backend's name.
    pub name: Arc<str>,
    /// The port: a Service's has to be named.
    #[serde(default)]
    pub port: Option<u16>,
    /// The share of the sessions, relative to the sum over the rule.
    #[serde(default = "weight_one")]
    pub weight: u32,
    /// What an HTTPRoute does to requests for this backend alone.
    #[serde(default)]
    pub filters: Vec<HttpFilter>,
}

/// A certificate for a listener.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SecretRef {
    /// The object's API group; empty for core.
    #[serde(default)]
    pub group: Arc<str>,
    /// The object's kind.
    #[serde(default = "secret_kind")]
    pub kind: Arc<str>,
    /// The object's name.
    pub name: Arc<str>,
    /// The object's namespace; the referrer's own if missing.
    #[serde(default)]
    pub namespace: Option<Arc<str>>,
}

/// An object, in the referrer's namespace unless another is named.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct LocalObjectRef {
    /// The object's API group; empty for core.
    #[serde(default)]
    pub group: Arc<str>,
    /// The object's kind.
    pub kind: Arc<str>,
    /// The object's name.
    pub name: Arc<str>,
    /// The object's namespace, where the API allows one.
    #[serde(default)]
    pub namespace: Option<Arc<str>>,
}
