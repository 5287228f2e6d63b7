use std::{collections::BTreeSet, net::IpAddr};

use l4way_resources::status::{ConditionStatus, GatewayStatus, StatusAddress};

use super::{
    GatewayObserved, Seen,
    listener::{self, State, Summary},
    listener_set,
};
use crate::{
    conditions::{
        self, ACCEPTED, INSECURE_FRONTEND_VALIDATION_MODE, PROGRAMMED, RESOLVED_REFS, gateway,
        listeners,
    },
    finding::Outcome,
    graph::GatewayNode,
    suggest,
};

/// The status of a Gateway.
pub(super) fn status(seen: Seen<'_>, node: &GatewayNode) -> GatewayStatus {
    let generation = node.object.metadata.generation;
    let own = Summary::of_one(seen, node, &node.listeners);
    let all = Summary::of_all(seen, node);
    let observed = seen.gateway(node);

    let (accepted, invalid) = accepted(node, &own, &all);
    let mut outcomes = vec![accepted, invalid.unwrap_or_else(|| programmed(node, observed, &all))];
    outcomes.push(resolved_refs(node));
    outcomes.extend(node.findings.outcome(INSECURE_FRONTEND_VALIDATION_MODE).cloned());

    let listeners = node
        .listeners
        .iter()
        .map(|listener| listener::status(listener, State::of(seen, node, listener), generation));
    let attached = node.listener_sets.iter().filter(|key| {
        let set = seen.graph.listener_sets.get(key);
        set.is_some_and(|set| listener_set::is_accepted(seen, node, set))
    });
    GatewayStatus {
        addresses: addresses(node, observed, &all),
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

fn programmed(
    node: &GatewayNode,
    observed: Option<&GatewayObserved>,
    all: &Summary<'_>,
) -> Outcome {
    if let Some(found) = node.findings.outcome(PROGRAMMED) {
        return found.clone();
    }
    let Some(observed) = observed else { return programmed_here(all) };
    if let Some(outcome) = address_missing(node, observed) {
        return outcome;
    }
    let mut outcome = all.programmed();
    if let Some(note) = observed.note.as_ref().filter(|_| outcome.status == ConditionStatus::True) {
        outcome.message = format!("{} {note}", outcome.message).into();
    }
    outcome
}

/// Why clients can't reach the Gateway on all the addresses that it is to have.
fn address_missing(node: &GatewayNode, observed: &GatewayObserved) -> Option<Outcome> {
    let has = |address: &IpAddr| {
        let address = address.to_string();
        observed.addresses.iter().any(|given| given.value == address)
    };
    let pending = observed.address_pending.as_deref();
    let missing: Vec<_> = node.asked_addresses.iter().filter(|address| !has(address)).collect();
    if !missing.is_empty() {
        let message = match pending {
            Some(pending) => pending.to_owned(),
            None => format!("The Gateway isn't given: {}.", suggest::join(missing)),
        };
        return Some(gateway::address_not_usable(message));
    }
    let pending = pending.filter(|_| observed.addresses.is_empty());
    pending.map(|pending| gateway::address_not_assigned(pending.to_owned()))
}

fn programmed_here(all: &Summary<'_>) -> Outcome {
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
fn addresses(
    node: &GatewayNode,
    observed: Option<&GatewayObserved>,
    all: &Summary<'_>,
) -> Vec<StatusAddress> {
    if !node.may_run() {
        return Vec::new();
    }
    if let Some(observed) = observed {
        return observed.addresses.clone();
    }
    let unusable: BTreeSet<IpAddr> =
        all.unusable_addresses().map(|failure| failure.bind.ip()).collect();
    let usable = node.addresses.iter().filter(|address| !unusable.contains(address));
    usable
        .map(|address| StatusAddress { kind: "IPAddress".into(), value: address.to_string() })
        .collect()
}
