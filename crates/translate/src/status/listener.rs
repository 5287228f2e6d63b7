use l4way_model::{BindFailure, BindFailureKind, ListenerReport, PathReport};
use l4way_resources::{GATEWAY_GROUP, api::RouteGroupKind, status::ListenerStatus};

use super::{Proxies, Seen};
use crate::{
    conditions::{
        self, ACCEPTED, CONFLICTED, OVERLAPPING_TLS_CONFIG, PROGRAMMED, RESOLVED_REFS, listener,
        listeners,
    },
    finding::Outcome,
    graph::{GatewayNode, ListenerNode},
    suggest,
};

/// How far a listener has come.
#[derive(Clone, Copy, Debug)]
pub(super) enum State<'a> {
    /// Something about it is wrong.
    Invalid,
    /// Something about its Gateway is wrong.
    GatewayInvalid(&'static str),
    /// The proxy hasn't reported it.
    Waiting,
    /// The Gateway's proxies in the cluster can't take its sessions yet.
    ProxiesWaiting(&'a str),
    /// A proxy of the Gateway can't take what the listener is now.
    ProxyRefusing(&'a str),
    /// Its port can't be bound.
    PortUnavailable(&'a BindFailure),
    /// Its Gateway's address can't be bound.
    AddressNotUsable(&'a BindFailure),
    /// It takes sessions, which somebody carries: it isn't told who where only the proxy may.
    Bound(Option<&'a PathReport>),
}

impl<'a> State<'a> {
    /// How far `listener`, which `gateway` would run, has come.
    pub(super) fn of(seen: Seen<'a>, gateway: &GatewayNode, listener: &ListenerNode) -> Self {
        if !listener.is_valid() {
            return Self::Invalid;
        }
        if !gateway.may_run() {
            return Self::GatewayInvalid("The Gateway is not accepted.");
        }
        if gateway.addresses.is_empty() {
            return Self::GatewayInvalid("The Gateway has no address.");
        }
        match seen.gateway(gateway).map(|seen| &seen.proxies) {
            Some(Proxies::Waiting(why)) => return Self::ProxiesWaiting(why),
            Some(Proxies::Refusing(why)) => return Self::ProxyRefusing(why),
            Some(Proxies::Confirmed) | None => {}
        }
        match seen.report.listeners.get(&listener.id) {
            None => Self::Waiting,
            Some(ListenerReport::Bound) => Self::Bound(seen.report.paths.get(&listener.id)),
            Some(ListenerReport::Failed(failure)) => match failure.kind {
                BindFailureKind::AddressNotAvailable => Self::AddressNotUsable(failure),
                BindFailureKind::PortTaken
                | BindFailureKind::NotPermitted
                | BindFailureKind::Other => Self::PortUnavailable(failure),
            },
        }
    }

    /// Whether nothing is wrong with the listener itself.
    pub(super) fn is_valid(self) -> bool {
        !matches!(self, Self::Invalid | Self::PortUnavailable(_))
    }

    fn programmed(self) -> Outcome {
        match self {
            Self::Invalid => listener::invalid("The listener is not valid."),
            Self::GatewayInvalid(why) => listener::invalid(why),
            Self::Waiting => listener::programming(),
            Self::ProxiesWaiting(why) => listener::proxies_not_ready(why.to_owned()),
            Self::ProxyRefusing(why) => conditions::proxy_outdated(why.to_owned()),
            Self::PortUnavailable(failure) => {
                let [_, programmed] = listener::port_unavailable(failure.message.clone());
                programmed
            }
            Self::AddressNotUsable(failure) => {
                listener::address_not_usable(failure.message.clone())
            }
            Self::Bound(path) => listener::programmed(path),
        }
    }
}

/// The status of a listener, on an object of this generation.
pub(super) fn status(node: &ListenerNode, state: State<'_>, generation: i64) -> ListenerStatus {
    let found = |kind| node.findings.outcome(kind).cloned();
    let accepted = found(ACCEPTED).unwrap_or_else(|| match state {
        State::PortUnavailable(failure) => {
            let [accepted, _] = listener::port_unavailable(failure.message.clone());
            accepted
        }
        _ => listener::accepted(),
    });
    let mut outcomes = vec![
        accepted,
        found(PROGRAMMED).unwrap_or_else(|| state.programmed()),
        found(CONFLICTED).unwrap_or_else(listener::no_conflicts),
        found(RESOLVED_REFS).unwrap_or_else(conditions::resolved_refs),
    ];
    outcomes.extend(found(OVERLAPPING_TLS_CONFIG));
    let kinds = node
        .kinds
        .iter()
        .map(|kind| RouteGroupKind { group: GATEWAY_GROUP.into(), kind: kind.as_str().into() });
    ListenerStatus {
        name: node.id.name.clone(),
        supported_kinds: kinds.collect(),
        attached_routes: u32::try_from(node.routes.len()).unwrap_or(u32::MAX),
        conditions: outcomes.iter().map(|outcome| outcome.observed(generation)).collect(),
    }
}

/// How the listeners of a Gateway or ListenerSet stand, as its own conditions sum it up.
#[derive(Debug)]
pub(super) struct Summary<'a> {
    /// Each listener's name and state.
    listeners: Vec<(String, State<'a>)>,
}

impl<'a> Summary<'a> {
    /// Of the listeners of one object, known by their names.
    pub(super) fn of_one(
        seen: Seen<'a>,
        gateway: &GatewayNode,
        listeners: &[ListenerNode],
    ) -> Self {
        let listeners = listeners
            .iter()
            .map(|listener| (listener.id.name.to_string(), State::of(seen, gateway, listener)));
        Self { listeners: listeners.collect() }
    }

    /// Of all the listeners that a Gateway would run, where those of ListenerSets are known as
    /// `namespace/set/name`.
    pub(super) fn of_all(seen: Seen<'a>, gateway: &GatewayNode) -> Self {
        let listeners = seen.graph.listeners_of(gateway).map(|listener| {
            let id = &listener.id;
            let name = match id.listener_set {
                Some(_) => id.to_string(),
                None => id.name.to_string(),
            };
            (name, State::of(seen, gateway, listener))
        });
        Self { listeners: listeners.collect() }
    }

    pub(super) fn has_valid(&self) -> bool {
        self.listeners.iter().any(|(_, state)| state.is_valid())
    }

    /// The sockets that can't be bound as the host doesn't have their address.
    pub(super) fn unusable_addresses(&self) -> impl Iterator<Item = &'a BindFailure> {
        self.listeners.iter().filter_map(|(_, state)| match state {
            State::AddressNotUsable(failure) => Some(*failure),
            _ => None,
        })
    }

    /// Which listeners are not valid and which are, if some are not.
    pub(super) fn not_valid(&self) -> Option<String> {
        let (valid, invalid): (Vec<_>, Vec<_>) =
            self.listeners.iter().partition(|(_, state)| state.is_valid());
        if invalid.is_empty() {
            return None;
        }
        Some(format!("Listeners not valid: {}; valid: {}.", names(invalid), names(valid)))
    }

    /// `Programmed`: which listeners take sessions and which don't.
    pub(super) fn programmed(&self) -> Outcome {
        if self.listeners.iter().any(|(_, state)| matches!(state, State::Waiting)) {
            return listeners::programming();
        }
        let of_proxies = self.listeners.iter().find_map(|(_, state)| match state {
            State::ProxiesWaiting(why) => Some(listeners::proxies_not_ready((*why).to_owned())),
            State::ProxyRefusing(why) => Some(conditions::proxy_outdated((*why).to_owned())),
            _ => None,
        });
        if let Some(outcome) = of_proxies {
            return outcome;
        }
        let (bound, not): (Vec<_>, Vec<_>) =
            self.listeners.iter().partition(|(_, state)| matches!(state, State::Bound(_)));
        match (bound.is_empty(), not.is_empty()) {
            (true, true) => listeners::nothing_programmed("There is no listener."),
            (true, false) => listeners::nothing_programmed("No listener takes sessions."),
            (false, true) => listeners::programmed("All listeners take sessions."),
            (false, false) => listeners::programmed(format!(
                "Listeners taking sessions: {}; not: {}.",
                names(bound),
                names(not)
            )),
        }
    }
}

fn names(listeners: Vec<&(String, State<'_>)>) -> String {
    suggest::join(listeners.into_iter().map(|(name, _)| name))
}
