//! The status that l4way writes, in the API's own shapes. Conditions carry no time: whoever stores
//! them knows when one last changed, and a computed status stays a pure function of its inputs.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::api::{ObjectRef, ParentRef, RouteGroupKind};

/// One observation on an object (Kubernetes API, `meta/v1 Condition`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What is observed, such as `Accepted`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, as one word that programs can compare.
    pub reason: String,
    /// Why, as a sentence for a person.
    pub message: String,
    /// The generation of the spec that was observed.
    pub observed_generation: i64,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It doesn't.
    False,
    /// It can't be told.
    Unknown,
}

impl ConditionStatus {
    /// The status as the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// The status of one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusUpdate {
    /// The object.
    #[serde(flatten)]
    pub object: ObjectRef,
    /// Its status.
    pub status: Status,
}

/// A status, by the kind of object that has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Status {
    /// Of a Gateway.
    Gateway(GatewayStatus),
    /// Of a ListenerSet.
    ListenerSet(ListenerSetStatus),
    /// Of a route of any kind.
    Route(RouteStatus),
    /// Of a GatewayClass.
    GatewayClass(GatewayClassStatus),
    /// Of a BackendTLSPolicy.
    BackendTlsPolicy(PolicyStatus),
}

/// The status of a GatewayClass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GatewayClassStatus {
    /// `Accepted`.
    pub conditions: Vec<Condition>,
    /// What the controller supports of the Gateway API, sorted; nothing without a cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub supported_features: Vec<SupportedFeature>,
}

/// A feature of the Gateway API that a controller supports (GEP-2162).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SupportedFeature {
    /// The feature's name, such as `TCPRoute`.
    pub name: Arc<str>,
}

/// The status of a Gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GatewayStatus {
    /// The addresses that it answers on.
    pub addresses: Vec<StatusAddress>,
    /// `Accepted` and `Programmed`.
    pub conditions: Vec<Condition>,
    /// Its own listeners.
    pub listeners: Vec<ListenerStatus>,
    /// How many ListenerSets are attached.
    pub attached_listener_sets: u32,
}

/// An address in a status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusAddress {
    /// `IPAddress` or `Hostname`.
    #[serde(rename = "type")]
    pub kind: Arc<str>,
    /// The address.
    pub value: String,
}

/// The status of a ListenerSet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListenerSetStatus {
    /// `Accepted` and `Programmed`.
    pub conditions: Vec<Condition>,
    /// Its listeners.
    pub listeners: Vec<ListenerStatus>,
}

/// The status of one listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerStatus {
    /// The listener's name.
    pub name: Arc<str>,
    /// The kinds of route that may attach.
    pub supported_kinds: Vec<RouteGroupKind>,
    /// How many routes are attached.
    pub attached_routes: u32,
    /// `Accepted`, `Conflicted`, `ResolvedRefs`, `Programmed`.
    pub conditions: Vec<Condition>,
}

/// The status of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteStatus {
    /// One entry for each parent that is ours.
    pub parents: Vec<RouteParentStatus>,
}

/// How a route stands with one parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteParentStatus {
    /// The reference, as the route has it.
    pub parent_ref: ParentRef,
    /// The controller that wrote the entry.
    pub controller_name: Arc<str>,
    /// `Accepted`, `ResolvedRefs`, and others.
    pub conditions: Vec<Condition>,
}

/// The status of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyStatus {
    /// One entry for each Gateway of ours that the policy is about, 16 at most.
    pub ancestors: Vec<PolicyAncestorStatus>,
}

/// How a policy stands with one Gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyAncestorStatus {
    /// The Gateway.
    pub ancestor_ref: ParentRef,
    /// The controller that wrote the entry.
    pub controller_name: Arc<str>,
    /// `Accepted` and `ResolvedRefs`.
    pub conditions: Vec<Condition>,
}
