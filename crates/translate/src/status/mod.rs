//! What is said about each object: what the graph found, and what the proxy reported.
//!
//! A listener is programmed if the proxy reports it bound. A Gateway or ListenerSet is programmed
//! if one of its listeners is, as the API has it generate "some configuration"; its message names
//! the others. `Unknown` means that the proxy hasn't reported yet.

mod gateway;
mod listener;
mod listener_set;
mod policy;
mod route;

use std::{collections::BTreeMap, sync::LazyLock};

use l4way_model::ApplyReport;
use l4way_resources::{
    api::{ObjectKey, ObjectRef},
    status::{GatewayClassStatus, Status, StatusAddress, StatusUpdate, SupportedFeature},
};

use crate::{
    Graph,
    conditions::{self, ACCEPTED},
    graph::{ClassNode, GatewayNode},
};

/// What is seen in a cluster, beside what proxies report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// By Gateway. One that is missing has nothing there yet.
    pub gateways: BTreeMap<ObjectKey, GatewayObserved>,
}

/// What is seen of the proxies of one Gateway, and of the Service in front of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayObserved {
    /// The addresses that clients can reach them on.
    pub addresses: Vec<StatusAddress>,
    /// Why there is no address yet, and what to do, if there is none.
    pub address_pending: Option<String>,
    /// Whether the proxies carry what they should.
    pub proxies: Proxies,
    /// What else a person should know.
    pub note: Option<String>,
}

/// Whether the proxies of a Gateway carry what they should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proxies {
    /// Each that is ready has reported its latest configuration.
    Confirmed,
    /// Not yet, and why.
    Waiting(String),
    /// One can't take it and carries what was before: who, and why.
    Refusing(String),
}

impl Default for Proxies {
    fn default() -> Self {
        Self::Waiting("Waiting for the Gateway's proxies.".to_owned())
    }
}

/// The Gateway API's features that are supported in a cluster, sorted, as the API has it
/// (`GatewayClassStatus.supportedFeatures`). HTTPRoute isn't among them until all its core is, nor is
/// what the conformance suite tests by HTTPRoutes only: clients' certificates, TLS to backends.
const SUPPORTED_FEATURES: [&str; 11] = [
    "Gateway",
    "GatewayAddressEmpty",
    "GatewayInfrastructurePropagation",
    "GatewayStaticAddresses",
    "ListenerSet",
    "ReferenceGrant",
    "TCPRoute",
    "TLSRoute",
    "TLSRouteModeMixed",
    "TLSRouteModeTerminate",
    "UDPRoute",
];

/// The status of each object that is ours, in the order of kinds and names. Without a cluster
/// nothing is `observed`.
pub fn status(graph: &Graph, report: &ApplyReport, observed: &Observed) -> Vec<StatusUpdate> {
    let seen = Seen { graph, report, observed };
    let classes = graph.classes.values().map(|class| class_status(graph, class));
    let gateways = graph.gateways.values().filter(|gateway| !gateway.is_refused);
    let gateways = gateways.map(|gateway| {
        let status = Status::Gateway(gateway::status(seen, gateway));
        update("Gateway", &gateway.object.metadata, status)
    });
    let listener_sets = graph.listener_sets.values().filter(|set| !set.is_refused);
    let listener_sets = listener_sets.filter_map(|set| {
        let status = Status::ListenerSet(listener_set::status(seen, set)?);
        Some(update("ListenerSet", &set.object.metadata, status))
    });
    let routes = graph.routes.values().filter(|route| !route.is_refused);
    let routes = routes.filter(|route| !route.parents.is_empty()).map(|route| {
        let status = Status::Route(route::status(graph, route, report));
        update(route.kind.as_str(), &route.object.metadata, status)
    });
    let policies = graph.policies.values().filter(|policy| !policy.is_refused);
    let policies = policies.filter(|policy| !policy.gateways.is_empty());
    let policies = policies.map(|policy| {
        let status = Status::BackendTlsPolicy(policy::status(graph, policy));
        update("BackendTLSPolicy", &policy.object.metadata, status)
    });
    classes.chain(gateways).chain(listener_sets).chain(routes).chain(policies).collect()
}

fn update(kind: &str, metadata: &l4way_resources::api::ObjectMeta, status: Status) -> StatusUpdate {
    StatusUpdate { object: ObjectRef::new(kind, metadata.key()), status }
}

/// All that statuses are made of.
#[derive(Clone, Copy)]
struct Seen<'a> {
    graph: &'a Graph,
    report: &'a ApplyReport,
    observed: &'a Observed,
}

impl<'a> Seen<'a> {
    /// What is seen of a Gateway in a cluster; `None` without one.
    fn gateway(self, gateway: &GatewayNode) -> Option<&'a GatewayObserved> {
        static NOTHING: LazyLock<GatewayObserved> = LazyLock::new(GatewayObserved::default);
        let seen = self.observed.gateways.get(&gateway.object.metadata.key());
        self.graph.in_cluster.then(|| seen.unwrap_or(&NOTHING))
    }
}

fn class_status(graph: &Graph, class: &ClassNode) -> StatusUpdate {
    let metadata = &class.object.metadata;
    let accepted = class.findings.outcome(ACCEPTED).cloned();
    let accepted = accepted.unwrap_or_else(conditions::class::accepted);
    let conditions = vec![accepted.observed(metadata.generation)];
    let features: &[_] = if graph.in_cluster { &SUPPORTED_FEATURES } else { &[] };
    let supported_features =
        features.iter().map(|name| SupportedFeature { name: (*name).into() }).collect();
    let status = GatewayClassStatus { conditions, supported_features };
    update("GatewayClass", metadata, Status::GatewayClass(status))
}
