use std::{collections::BTreeSet, net::IpAddr};

use l4way_model::ApplyReport;
use l4way_resources::status::{GatewayStatus, StatusAddress};

use super::{
    listener::{self, State, Summary},
    listener_set,
};
use crate::{
    Graph,
    conditions::{
        self, ACCEPTED, INSECURE_FRONTEND_VALIDATION_MODE, PROGRAMMED, RESOLVED_REFS, gateway,
        listeners,
    },
    finding::Outcome,
    graph::GatewayNode,
    suggest,
};

/// The status of a Gateway.
pub(super) fn status(graph: &Graph, node: &GatewayNode, report: &ApplyReport) -> GatewayStatus {
    let generation = node.object.metadata.generation;
    let own = Summary::of_one(node, &node.listeners, report);
    let all = Summary::of_all(graph, node, report);

    let (accepted, invalid) = accepted(node, &own, &all);
    let mut outcomes = vec![accepted, invalid.unwrap_or_else(|| programmed(node, &all))];
    outcomes.push(resolved_refs(node));
    outcomes.extend(node.findings.outcome(INSECURE_FRONTEND_VALIDATION_MODE).cloned());

    let listeners = node
        .listeners
        .iter()
        .map(|listener| listener::status(listener, State::of(node, listener, report), generation));
    let attached = node.listener_sets.iter().filter(|key| {
        let set = graph.listener_sets.get(key);
        set.is_some_and(|set| listener_set::is_accepted(node, set, report))
    });
    GatewayStatus {
        addresses: addresses(node, &all),
        conditions: outcomes.iter().map(|outcome| outcome.observed(generation)).collect(),
        listeners: listeners.collect(),
        attached_listener_sets: u32::try_from(attached.count()).unwrap_or(u32::MAX),
    }
}

/// `Accepted`, and `Programmed` too if that follows from it.
fn accepted(
    node: &GatewayNode,
    own: &Summary<'_>,
    all: &Summary<'_>,
) -> (Outcome, Option<Outcome>) {
    if let Some(found) = node.findings.outcome(ACCEPTED) {
        return (found.clone(), node.findings.outcome(PROGRAMMED).cloned());
    }
    match own.not_valid() {
        Some(message) if all.has_valid() => (listeners::some_not_valid(message), None),
        Some(message) => {
            let [accepted, programmed] = gateway::no_listener_valid(message);
            (accepted, Some(programmed))
        }
        None => (gateway::accepted(), None),
    }
}

fn programmed(node: &GatewayNode, all: &Summary<'_>) -> Outcome {
    if let Some(found) = node.findings.outcome(PROGRAMMED) {
        return found.clone();
    }
    if let Some(failure) = all.unusable_addresses().next() {
        return gateway::address_not_usable(failure.message.clone());
    }
    all.programmed()
}

fn resolved_refs(node: &GatewayNode) -> Outcome {
    if let Some(found) = node.findings.outcome(RESOLVED_REFS) {
        return found.clone();
    }
    let unresolved: Vec<_> = node
        .listeners
        .iter()
        .filter(|listener| listener.findings.outcome(RESOLVED_REFS).is_some())
        .map(|listener| &listener.id.name)
        .collect();
    if unresolved.is_empty() {
        return conditions::resolved_refs();
    }
    gateway::listeners_not_resolved(format!(
        "Listeners with references that can't be resolved: {}.",
        suggest::join(unresolved)
    ))
}

/// The addresses that the Gateway has; none if it runs nothing.
fn addresses(node: &GatewayNode, all: &Summary<'_>) -> Vec<StatusAddress> {
    if !node.may_run() {
        return Vec::new();
    }
    let unusable: BTreeSet<IpAddr> =
        all.unusable_addresses().map(|failure| failure.bind.ip()).collect();
    let usable = node.addresses.iter().filter(|address| !unusable.contains(address));
    usable
        .map(|address| StatusAddress { kind: "IPAddress".into(), value: address.to_string() })
        .collect()
}
