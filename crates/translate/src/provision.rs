//! What has to be there in a cluster for a Gateway to run.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use l4way_model::{AtLimit, BackendSource, HttpTerms, SessionTerms, Transport};
use l4way_resources::api::{GatewayParametersSpec, ObjectKey};

use crate::{
    Compiled, Graph,
    compile::compile_gateways,
    graph::{GatewayNode, ListenerNode},
};

/// What has to be there for one Gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct Provision {
    /// The Gateway.
    pub gateway: ObjectKey,
    /// Its UID, for owner references.
    pub uid: Option<Arc<str>>,
    /// Its generation.
    pub generation: i64,
    /// The name of its class.
    pub class: Arc<str>,
    /// Labels for all that is made for it (GEP-1867).
    pub labels: BTreeMap<String, String>,
    /// Annotations for what is made for it (GEP-1867).
    pub annotations: BTreeMap<String, String>,
    /// How its proxies run: its own parameters, and where they say nothing those of its class.
    pub parameters: GatewayParametersSpec,
    /// The addresses that it asks for by value.
    pub addresses: Vec<IpAddr>,
    /// The ports of its listeners that can run.
    pub ports: BTreeSet<(u16, Transport)>,
    /// What its proxies carry; would carry, if the Gateway isn't accepted.
    pub compiled: Compiled,
    /// The namespaces whose EndpointSlices its proxies follow.
    pub endpoint_namespaces: BTreeSet<Arc<str>>,
    /// Whether the Gateway is accepted. If not, what there is stays as it is, but for what isn't permitted
    /// any more.
    pub may_run: bool,
}

/// What has to be there for each Gateway that is ours.
pub fn provisions(graph: &Graph) -> Vec<Provision> {
    graph.gateways.values().map(|gateway| provision(graph, gateway)).collect()
}

fn provision(graph: &Graph, gateway: &GatewayNode) -> Provision {
    let metadata = &gateway.object.metadata;
    let infrastructure = gateway.object.spec.infrastructure.clone().unwrap_or_default();
    let mut compiled = compile_gateways(graph, [gateway], terms(graph.terms, &gateway.parameters));
    // Both are for requests only; others' configurations stay as they were.
    if compiled.config.http_rules().next().is_some() {
        let http_terms = http_terms(&graph.http_terms, &gateway.parameters);
        let config = compiled.config.with_gateway_uid(metadata.uid.clone());
        compiled.config = config.with_http_terms(http_terms);
    }
    let followed = compiled.backends.iter();
    let followed = followed.filter(|(_, source)| matches!(source, BackendSource::Slices(_)));
    let port = |listener: &ListenerNode| Some((listener.port, listener.runs_on()?));
    Provision {
        gateway: metadata.key(),
        uid: metadata.uid.clone(),
        generation: metadata.generation,
        class: gateway.object.spec.gateway_class_name.clone(),
        labels: infrastructure.labels,
        annotations: infrastructure.annotations,
        parameters: gateway.parameters.clone(),
        addresses: gateway.asked_addresses.clone(),
        ports: graph.listeners_of(gateway).filter_map(port).collect(),
        endpoint_namespaces: followed.map(|(id, _)| id.namespace.clone()).collect(),
        compiled,
        may_run: gateway.may_run(),
    }
}

/// What holds for the sessions of a Gateway's proxies.
fn terms(defaults: SessionTerms, parameters: &GatewayParametersSpec) -> SessionTerms {
    let seconds = |asked: Option<u32>| asked.map(|seconds| Duration::from_secs(seconds.into()));
    SessionTerms {
        connect_timeout: seconds(parameters.connect_timeout_seconds)
            .unwrap_or(defaults.connect_timeout),
        udp_session_timeout: seconds(parameters.udp_session_timeout_seconds)
            .unwrap_or(defaults.udp_session_timeout),
        at_limit: match parameters.at_limit.as_deref() {
            Some("Evict") => AtLimit::Evict,
            Some(_) => AtLimit::Wait,
            None => defaults.at_limit,
        },
    }
}

/// What holds for the requests of a Gateway's proxies.
fn http_terms(defaults: &HttpTerms, parameters: &GatewayParametersSpec) -> HttpTerms {
    let trusted = parameters.http.as_ref().and_then(|http| http.trusted_proxies.as_ref());
    HttpTerms {
        trusted_proxies: match trusted {
            Some(networks) => networks.iter().copied().collect(),
            None => defaults.trusted_proxies.clone(),
        },
    }
}
