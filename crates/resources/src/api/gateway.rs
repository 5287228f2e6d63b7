use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{LabelSelector, LocalObjectRef, Object, ParametersRef, SecretRef, refs};

/// A set of listeners on the same addresses.
pub type Gateway = Object<GatewaySpec>;

/// More listeners for a Gateway, kept in an object of their own (GEP-1713).
pub type ListenerSet = Object<ListenerSetSpec>;

/// The spec of a [`Gateway`].
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewaySpec {
    /// The name of the GatewayClass.
    pub gateway_class_name: Arc<str>,
    /// The listeners, each with a name of its own. Only the experimental channel allows none.
    #[serde(default)]
    pub listeners: Vec<Listener>,
    /// The addresses that are asked for.
    #[serde(default)]
    pub addresses: Vec<GatewayAddress>,
    /// Labels, annotations and parameters of what runs the Gateway.
    pub infrastructure: Option<GatewayInfrastructure>,
    /// Which namespaces' ListenerSets may attach; none if missing.
    pub allowed_listeners: Option<AllowedListeners>,
    /// Certificates in either direction that are the whole Gateway's.
    pub tls: Option<GatewayTls>,
    /// Whether the Gateway is a default one, for routes that name no parent (GEP-3793).
    pub default_scope: Option<Arc<str>>,
}

/// An address that a Gateway asks for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct GatewayAddress {
    /// `IPAddress`, `Hostname`, or a domain-prefixed type.
    #[serde(rename = "type", default = "ip_address")]
    pub kind: Arc<str>,
    /// The address; empty for any of that type.
    #[serde(default)]
    pub value: Option<Arc<str>>,
}

fn ip_address() -> Arc<str> {
    "IPAddress".into()
}

/// What [`GatewaySpec::infrastructure`] holds (GEP-1867).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayInfrastructure {
    /// Labels for what is made for the Gateway.
    pub labels: BTreeMap<String, String>,
    /// Annotations for what is made for the Gateway.
    pub annotations: BTreeMap<String, String>,
    /// An object with the controller's own parameters, in the Gateway's namespace.
    pub parameters_ref: Option<ParametersRef>,
}

/// Which ListenerSets may attach to a Gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AllowedListeners {
    /// Of which namespaces; of none if missing.
    pub namespaces: Option<RouteNamespaces>,
}

/// A port to listen on, and what may come through it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    /// The listener's name.
    pub name: Arc<str>,
    /// The hostname that it is for; any if missing.
    #[serde(default)]
    pub hostname: Option<Arc<str>>,
    /// The port.
    pub port: u16,
    /// `TCP`, `UDP`, `TLS`, `HTTP`, `HTTPS`, or a domain-prefixed one.
    pub protocol: Arc<str>,
    /// Required for `HTTPS` and `TLS`.
    #[serde(default)]
    pub tls: Option<ListenerTls>,
    /// Which routes may attach.
    #[serde(default)]
    pub allowed_routes: AllowedRoutes,
}

/// How a listener handles TLS.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerTls {
    /// Who ends the TLS session.
    #[serde(default)]
    pub mode: TlsMode,
    /// The certificates to show.
    #[serde(default)]
    pub certificate_refs: Vec<SecretRef>,
    /// Implementation-specific options.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// Who ends a TLS session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TlsMode {
    /// The Gateway.
    #[default]
    Terminate,
    /// The backend: the Gateway only reads the server name.
    Passthrough,
}

/// Which routes may attach to a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AllowedRoutes {
    /// From which namespaces.
    pub namespaces: RouteNamespaces,
    /// Of which kinds; if empty, of those that the protocol calls for.
    pub kinds: Vec<RouteGroupKind>,
}

/// A choice of namespaces, relative to the object that makes it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RouteNamespaces {
    /// The kind of choice.
    pub from: Option<FromNamespaces>,
    /// The labels of the namespaces, for [`FromNamespaces::Selector`].
    pub selector: Option<LabelSelector>,
}

/// A kind of choice of namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum FromNamespaces {
    /// Every namespace.
    All,
    /// The one of the object that chooses.
    Same,
    /// Those with certain labels.
    Selector,
    /// None.
    None,
}

/// A kind of route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RouteGroupKind {
    /// The kind's API group.
    #[serde(default = "refs::gateway_group")]
    pub group: Arc<str>,
    /// The kind.
    pub kind: Arc<str>,
}

/// The spec of a [`ListenerSet`].
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerSetSpec {
    /// The Gateway that the listeners are for.
    pub parent_ref: ListenerSetParentRef,
    /// The listeners.
    pub listeners: Vec<Listener>,
}

/// The parent of a [`ListenerSet`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ListenerSetParentRef {
    /// The parent's API group.
    #[serde(default = "refs::gateway_group")]
    pub group: Arc<str>,
    /// The parent's kind; only `Gateway` has a meaning.
    #[serde(default = "refs::gateway_kind")]
    pub kind: Arc<str>,
    /// The parent's name.
    pub name: Arc<str>,
    /// The parent's namespace; the ListenerSet's own if missing.
    #[serde(default)]
    pub namespace: Option<Arc<str>>,
}

/// A Gateway's own TLS settings (GEP-91, GEP-3155).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct GatewayTls {
    /// Towards backends.
    pub backend: Option<GatewayBackendTls>,
    /// Towards clients.
    pub frontend: Option<GatewayFrontendTls>,
}

/// What the Gateway shows to backends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayBackendTls {
    /// The certificate that it shows.
    pub client_certificate_ref: Option<SecretRef>,
}

/// What the Gateway asks of clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayFrontendTls {
    /// On every port that has no setting of its own.
    pub default: TlsPeerConfig,
    /// On single ports.
    pub per_port: Vec<PortTls>,
}

/// What is asked of clients on one port.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PortTls {
    /// The port.
    pub port: u16,
    /// What is asked.
    pub tls: TlsPeerConfig,
}

/// How a client proves who it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct TlsPeerConfig {
    /// How its certificate is checked; it needs none if missing.
    pub validation: Option<TlsValidation>,
}

/// How a client's certificate is checked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TlsValidation {
    /// The authorities that may have signed it.
    pub ca_certificate_refs: Vec<LocalObjectRef>,
    /// `AllowValidOnly` or `AllowInsecureFallback`.
    #[serde(default)]
    pub mode: Option<Arc<str>>,
}
