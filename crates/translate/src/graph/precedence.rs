//! Which of the routes that are attached to a listener carries its sessions.
//!
//! A TCP or UDP listener has nothing by which to tell its routes apart, so the one with precedence
//! has it to itself: the oldest, and among those the first by namespace and name (Gateway API,
//! "API conventions: conflicts"). The others stay attached and accepted.

use std::{cmp::Ordering, collections::BTreeMap};

use l4way_resources::{Severity, api::ObjectKey};

use super::{
    GatewayNode, ListenerNode, ListenerSetNode, Protocol, RouteKey, RouteNode, parent::Parent,
};
use crate::conditions;

/// Tells each listener its routes, and each route that another one keeps from a listener.
pub(crate) fn settle(
    routes: &mut BTreeMap<RouteKey, RouteNode>,
    gateways: &mut BTreeMap<ObjectKey, GatewayNode>,
    listener_sets: &mut BTreeMap<ObjectKey, ListenerSetNode>,
) {
    let mut listeners = Listeners { gateways, listener_sets };
    let mut by_precedence: Vec<_> = routes.values().collect();
    by_precedence.sort_by(|a, b| order(a, b));
    for route in by_precedence {
        for parent in &route.parents {
            for index in &parent.listeners {
                let Some(listener) = listeners.get_mut(&parent.parent, *index) else { continue };
                // Two references of one route may lead to the same listener.
                if listener.routes.last() != Some(&route.key()) {
                    listener.routes.push(route.key());
                }
            }
        }
    }
    let superseded = find_superseded(routes, &mut listeners);
    for Superseded { route, parent, entirely, message } in superseded {
        let Some(route) = routes.get_mut(&route) else { continue };
        let parent = &mut route.parents[parent];
        let outcome = conditions::route::superseded(message);
        let severity = if entirely { Severity::Error } else { Severity::Warning };
        parent.findings.tell(severity, parent.pointer("name"), outcome);
    }
}

fn order(left: &RouteNode, right: &RouteNode) -> Ordering {
    let (a, b) = (&left.object.metadata, &right.object.metadata);
    a.age_order().cmp(&b.age_order()).then(left.kind.cmp(&right.kind))
}

/// Whether routes can't share a listener of this protocol.
pub(crate) fn is_exclusive(protocol: Option<Protocol>) -> bool {
    matches!(protocol, Some(Protocol::Tcp | Protocol::Udp))
}

/// A route that is kept from listeners of one of its parents.
struct Superseded {
    route: RouteKey,
    /// The parent's place in the route.
    parent: usize,
    /// Whether the route has no other listener, of any parent.
    entirely: bool,
    message: String,
}

fn find_superseded(
    routes: &BTreeMap<RouteKey, RouteNode>,
    listeners: &mut Listeners<'_>,
) -> Vec<Superseded> {
    let mut superseded = Vec::new();
    for (key, route) in routes {
        let of_route = superseded.len();
        let mut lost_listeners = 0;
        for (place, parent) in route.parents.iter().enumerate() {
            let lost = parent.listeners.iter().filter_map(|index| {
                let listener = listeners.get_mut(&parent.parent, *index)?;
                let winner = listener.routes.first().filter(|winner| *winner != key)?;
                is_exclusive(listener.protocol)
                    .then(|| describe(route, routes.get(winner)?, listener))?
            });
            let lost: Vec<_> = lost.collect();
            lost_listeners += lost.len();
            if !lost.is_empty() {
                superseded.push(Superseded {
                    route: key.clone(),
                    parent: place,
                    entirely: false,
                    message: lost.join("; "),
                });
            }
        }
        let attached: usize = route.parents.iter().map(|parent| parent.listeners.len()).sum();
        if lost_listeners == attached {
            superseded[of_route..].iter_mut().for_each(|superseded| superseded.entirely = true);
        }
    }
    superseded
}

fn describe(loser: &RouteNode, winner: &RouteNode, listener: &ListenerNode) -> Option<String> {
    let (lost, won) = (&loser.object.metadata, &winner.object.metadata);
    let why = if lost.creation_timestamp == won.creation_timestamp {
        "comes first by namespace and name"
    } else {
        "is older"
    };
    Some(format!(
        "listener {} carries {} {} instead, which {why}",
        listener.id,
        winner.kind,
        won.key()
    ))
}

/// Every listener that a route can be attached to.
struct Listeners<'a> {
    gateways: &'a mut BTreeMap<ObjectKey, GatewayNode>,
    listener_sets: &'a mut BTreeMap<ObjectKey, ListenerSetNode>,
}

impl Listeners<'_> {
    fn get_mut(&mut self, parent: &Parent, index: usize) -> Option<&mut ListenerNode> {
        let listeners = match parent {
            Parent::Gateway(key) => &mut self.gateways.get_mut(key)?.listeners,
            Parent::ListenerSet(key) => &mut self.listener_sets.get_mut(key)?.listeners,
        };
        listeners.get_mut(index)
    }
}
