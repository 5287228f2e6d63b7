use l4way_resources::status::{ConditionStatus, ListenerSetStatus};

use super::{
    Seen,
    listener::{self, State, Summary},
};
use crate::{
    conditions::{ACCEPTED, PROGRAMMED, listener_set, listeners},
    finding::Outcome,
    graph::{GatewayNode, ListenerSetNode},
};

/// The status of a ListenerSet. One that its Gateway doesn't let in has no listeners in it.
pub(super) fn status(seen: Seen<'_>, set: &ListenerSetNode) -> Option<ListenerSetStatus> {
    let gateway = seen.graph.gateways.get(&set.gateway)?;
    let generation = set.object.metadata.generation;
    let listeners =
        set.listeners.iter().filter(|_| set.is_allowed()).map(|listener| {
            listener::status(listener, State::of(seen, gateway, listener), generation)
        });
    let outcomes = outcomes(seen, gateway, set);
    Some(ListenerSetStatus {
        conditions: outcomes.iter().map(|outcome| outcome.observed(generation)).collect(),
        listeners: listeners.collect(),
    })
}

/// Whether it is attached to its Gateway, in the API's sense: allowed and accepted.
pub(super) fn is_accepted(seen: Seen<'_>, gateway: &GatewayNode, set: &ListenerSetNode) -> bool {
    let [accepted, _] = outcomes(seen, gateway, set);
    accepted.status == ConditionStatus::True
}

/// `Accepted` and `Programmed`.
fn outcomes(seen: Seen<'_>, gateway: &GatewayNode, set: &ListenerSetNode) -> [Outcome; 2] {
    let found = |kind| set.findings.outcome(kind).cloned();
    if let (Some(accepted), Some(programmed)) = (found(ACCEPTED), found(PROGRAMMED)) {
        return [accepted, programmed];
    }
    if !gateway.may_run() {
        let message = format!("Gateway {} is not accepted.", set.gateway);
        return listener_set::parent_not_accepted(message);
    }
    let summary = Summary::of_one(seen, gateway, &set.listeners);
    let accepted = match summary.not_valid() {
        Some(message) if summary.has_valid() => listeners::some_not_valid(message),
        Some(message) => return listener_set::no_listener_valid(message),
        None => listener_set::accepted(),
    };
    [accepted, summary.programmed()]
}
