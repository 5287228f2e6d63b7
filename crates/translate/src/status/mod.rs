//! What is said about each object: what the graph found, and what the proxy reported.
//!
//! A listener is programmed if the proxy reports it bound. A Gateway or ListenerSet is programmed
//! if one of its listeners is, as the API has it generate "some configuration"; its message names
//! the others. `Unknown` means that the proxy hasn't reported yet.

mod gateway;
mod listener;
mod listener_set;
mod route;

use l4way_model::ApplyReport;
use l4way_resources::{
    api::ObjectRef,
    status::{GatewayClassStatus, Status, StatusUpdate},
};

use crate::{
    Graph,
    conditions::{self, ACCEPTED},
    graph::ClassNode,
};

/// The status of each object that is ours, in the order of kinds and names.
pub fn status(graph: &Graph, report: &ApplyReport) -> Vec<StatusUpdate> {
    let classes = graph.classes.values().map(class_status);
    let gateways = graph.gateways.values().map(|gateway| {
        let status = Status::Gateway(gateway::status(graph, gateway, report));
        update("Gateway", &gateway.object.metadata, status)
    });
    let listener_sets = graph.listener_sets.values().filter_map(|set| {
        let status = Status::ListenerSet(listener_set::status(graph, set, report)?);
        Some(update("ListenerSet", &set.object.metadata, status))
    });
    let routes = graph.routes.values().filter(|route| !route.parents.is_empty()).map(|route| {
        let status = Status::Route(route::status(graph, route));
        update(route.kind.as_str(), &route.object.metadata, status)
    });
    classes.chain(gateways).chain(listener_sets).chain(routes).collect()
}

fn update(kind: &str, metadata: &l4way_resources::api::ObjectMeta, status: Status) -> StatusUpdate {
    StatusUpdate { object: ObjectRef::new(kind, metadata.key()), status }
}

fn class_status(class: &ClassNode) -> StatusUpdate {
    let metadata = &class.object.metadata;
    let accepted = class.findings.outcome(ACCEPTED).cloned();
    let accepted = accepted.unwrap_or_else(conditions::class::accepted);
    let conditions = vec![accepted.observed(metadata.generation)];
    update("GatewayClass", metadata, Status::GatewayClass(GatewayClassStatus { conditions }))
}
