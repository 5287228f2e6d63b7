//! Which of the routes that are attached to a listener carries which of its sessions.
//!
//! A TCP or UDP listener has nothing by which to tell its routes apart, so the one with precedence
//! has it to itself: the oldest, and among those the first by namespace and name (Gateway API,
//! "API conventions: conflicts"). A TLS listener tells its TLSRoutes apart by the server name, each of
//! which is one route's; what they leave is a TCPRoute's. The others stay attached and accepted.

use std::{cmp::Ordering, collections::BTreeMap};

use l4way_model::Hostname;
use l4way_resources::{
    Severity,
    api::{ObjectKey, RouteKind},
};

use super::{
    GatewayNode, ListenerNode, ListenerSetNode, RouteKey, RouteNode, hostname, parent::Parent,
};
use crate::{conditions, suggest};

/// What of a listener's sessions is one route's alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Share {
    /// Those whose clients ask for such a name; any and none if missing.
    Name(Option<Hostname>),
    /// All that no TLSRoute takes.
    Rest,
}

/// What a route wants of the sessions of a listener that it is attached to. HTTP requests are told
/// apart otherwise.
fn shares(listener: &ListenerNode, route: &RouteNode) -> Vec<Share> {
    match route.kind {
        RouteKind::Tcp | RouteKind::Udp => vec![Share::Rest],
        RouteKind::Http => Vec::new(),
        RouteKind::Tls => {
            let own = listener.hostname.as_deref();
            let names = hostname::common(own, &route.object.spec.hostnames);
            let names = names.into_iter().map(|name| name.or_else(|| own.map(Hostname::new)));
            let mut shares: Vec<_> = names.map(Share::Name).collect();
            shares.sort();
            shares.dedup();
            shares
        }
    }
}

impl ListenerNode {
    /// The route that takes a share of its sessions. None are the rest where one takes all names.
    pub(crate) fn taker(&self, share: &Share) -> Option<&RouteKey> {
        let of_all_names = || {
            let all = self.hostname.as_deref().map(Hostname::new);
            self.shares.get(&Share::Name(all))
        };
        let of_all_names = if *share == Share::Rest { of_all_names() } else { None };
        of_all_names.or_else(|| self.shares.get(share))
    }
}

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
                    for share in shares(listener, route) {
                        listener.shares.entry(share).or_insert_with(|| route.key());
                    }
                }
            }
        }
    }
    let superseded = find_superseded(routes, &mut listeners);
    for Superseded { route, parent, entirely, message } in superseded {
        let Some(route) = routes.get_mut(&route) else { continue };
        route.superseded |= entirely;
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

/// A route that is kept from listeners of one of its parents, or from a part of their sessions.
struct Superseded {
    route: RouteKey,
    /// The parent's place in the route.
    parent: usize,
    /// Whether nothing is left to the route, at any parent.
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
        let mut has_some = false;
        for (place, parent) in route.parents.iter().enumerate() {
            let mut lost = Vec::new();
            for index in &parent.listeners {
                let Some(listener) = listeners.get_mut(&parent.parent, *index) else { continue };
                let wanted = shares(listener, route);
                let others: Vec<_> = wanted
                    .iter()
                    .filter_map(|share| Some((share, listener.taker(share)?)))
                    .filter(|(_, taker)| *taker != key)
                    .collect();
                has_some |= wanted.is_empty() || others.len() < wanted.len();
                lost.extend(others.into_iter().filter_map(|(share, taker)| {
                    Some(describe(route, routes.get(taker)?, listener, share))
                }));
            }
            if !lost.is_empty() {
                superseded.push(Superseded {
                    route: key.clone(),
                    parent: place,
                    entirely: false,
                    message: suggest::join_with("; ", lost),
                });
            }
        }
        superseded[of_route..].iter_mut().for_each(|superseded| superseded.entirely = !has_some);
    }
    superseded
}

fn describe(
    loser: &RouteNode,
    winner: &RouteNode,
    listener: &ListenerNode,
    share: &Share,
) -> String {
    let (lost, won) = (&loser.object.metadata, &winner.object.metadata);
    let why = if *share == Share::Rest && winner.kind == RouteKind::Tls {
        "is for all names that the listener is for"
    } else if lost.creation_timestamp == won.creation_timestamp {
        "comes first by namespace and name"
    } else {
        "is older"
    };
    let what = match share {
        Share::Name(Some(name)) => format!("to {name}, "),
        Share::Name(None) | Share::Rest => String::new(),
    };
    let (id, kind, key) = (&listener.id, winner.kind, won.key());
    if winner.is_refused {
        return format!(
            "{what}listener {id} is kept for {kind} {key}, which is invalid and {why}: sessions are \
             refused until it is corrected or removed"
        );
    }
    format!("{what}listener {id} carries {kind} {key} instead, which {why}")
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
