use std::sync::Arc;

use serde::Deserialize;

use super::Object;

/// A class of Gateways, and which controller they belong to (cluster-scoped).
pub type GatewayClass = Object<GatewayClassSpec>;

/// The spec of a [`GatewayClass`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayClassSpec {
    /// The controller that owns the class's Gateways, such as `l4way.dev/gateway-controller`.
    pub controller_name: Arc<str>,
    /// An object with the controller's own parameters.
    pub parameters_ref: Option<ParametersRef>,
}

/// A reference to an object with implementation-specific parameters.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ParametersRef {
    /// The object's API group.
    pub group: Arc<str>,
    /// The object's kind.
    pub kind: Arc<str>,
    /// The object's name.
    pub name: Arc<str>,
    /// The object's namespace: required for a namespaced kind where a GatewayClass refers to it,
    /// the Gateway's own otherwise.
    pub namespace: Option<Arc<str>>,
}
