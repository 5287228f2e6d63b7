//! Backends that lead back to where their sessions come from. A single client of such a route would take every
//! descriptor of its proxies, so that the share is refused. What only the proxy can know (translated
//! addresses, names) it finds out when sessions come back.

use std::{borrow::Cow, collections::BTreeMap, net::SocketAddr, ops::Range};

use l4way_model::{BackendId, BackendSource, EndpointSource, ListenerId, Transport};
use l4way_resources::{
    Snapshot,
    api::{ObjectKey, ServicePort, TlsMode},
};

use super::{
    GatewayNode, Graph, ListenerNode, Protocol, RouteKey, RouteNode, Share, TargetNode,
    cycle::on_cycle,
    door::{Doors, behind, leads_to_admin, selects},
    endpoint::Slices,
    service_endpoints, transport_name,
};
use crate::{Settings, conditions::route::unsupported_value, finding::Outcome};

/// A target of a route that can't be used.
pub(crate) struct Refused {
    pub(crate) route: RouteKey,
    /// The target's place in the route.
    pub(crate) target: usize,
    pub(crate) outcome: Outcome,
}

/// Finds the targets that lead to the proxies' own admin endpoint, and those that are on a cycle of listeners and
/// routes. A chain of listeners that ends elsewhere isn't one.
pub(crate) fn find(graph: &Graph, snapshot: &Snapshot, settings: &Settings) -> Vec<Refused> {
    let slices = Slices::new(&snapshot.endpoint_slices);
    let doors = Doors::new(graph, snapshot, &slices, &settings.proxies);
    let finder = Finder { graph, snapshot, doors, slices };
    let mut refused = Vec::new();
    let mut inward = Vec::new();
    for (key, route) in &graph.routes {
        let listeners = finder.listeners_of(route);
        for (place, target) in route.targets.iter().enumerate() {
            if target.backend.is_none() || target.weight == 0 || listeners.is_empty() {
                continue;
            }
            if let Some(message) = finder.to_admin(target, settings.admin) {
                let outcome = unsupported_value(message);
                refused.push(Refused { route: key.clone(), target: place, outcome });
                continue;
            }
            let reached = finder.reached(route, place, &listeners);
            if !reached.is_empty() {
                inward.push(Inward { route: key, place, reached });
            }
        }
    }
    refused.extend(finder.cycles(&inward));
    refused
}

struct Finder<'a> {
    graph: &'a Graph,
    snapshot: &'a Snapshot,
    doors: Doors<'a>,
    slices: Slices<'a>,
}

/// A target whose sessions come in again.
struct Inward<'a> {
    route: &'a RouteKey,
    place: usize,
    reached: Vec<Reached<'a>>,
}

/// Where sessions of a target come in again.
struct Reached<'a> {
    /// The endpoint, in words.
    endpoint: String,
    listener: &'a ListenerId,
    /// The route that takes them there, and its targets that do.
    route: RouteKey,
    targets: Range<usize>,
}

impl<'a> Finder<'a> {
    /// The listeners that a route is attached to.
    fn listeners_of(&self, route: &RouteNode) -> Vec<&'a ListenerNode> {
        let places = route
            .parents
            .iter()
            .flat_map(|parent| parent.listeners.iter().map(move |index| (&parent.parent, *index)));
        places.filter_map(|(parent, index)| self.graph.listener(parent, index)).collect()
    }

    /// Why a target may not be used, if it leads to the admin endpoint.
    fn to_admin(&self, target: &TargetNode, admin: Option<SocketAddr>) -> Option<String> {
        let backend = target.backend.as_ref().filter(|id| id.transport == Transport::Tcp)?;
        let why = |endpoint: String| {
            format!(
                "{endpoint} is the proxy's own admin endpoint, which serves its metrics and health and no \
                 clients of routes; use another backend"
            )
        };
        if self.own_service(target).is_some_and(|(_, port)| leads_to_admin(port)) {
            return Some(why(backend.to_string()));
        }
        let leads = |endpoint: &&EndpointSource| {
            admin.is_some_and(|admin| self.doors.leads_to(endpoint, admin))
                || self.doors.leads_to_pods_admin(endpoint)
        };
        let endpoints = self.endpoints(backend)?;
        let endpoint = endpoints.iter().find(leads)?;
        Some(why(format!("endpoint {endpoint} of {backend}")))
    }

    /// A backend's endpoints, as far as they are known.
    fn endpoints(&self, backend: &BackendId) -> Option<Cow<'a, [EndpointSource]>> {
        match &self.graph.backends.get(backend)?.source {
            BackendSource::Known(endpoints) => Some(endpoints.into()),
            BackendSource::Slices(port) => {
                let key = ObjectKey::new(backend.namespace.clone(), backend.name.clone());
                let slices = self.slices.of(self.snapshot.services.get(&key)?);
                Some(service_endpoints(port, backend.transport, slices, None).into())
            }
        }
    }

    /// The Gateway whose proxies a target's Service leads to, and the Service's port.
    fn own_service(&self, target: &TargetNode) -> Option<(&'a GatewayNode, &'a ServicePort)> {
        let backend = target.backend.as_ref().filter(|id| &*id.kind == "Service")?;
        if !matches!(self.graph.backends.get(backend)?.source, BackendSource::Slices(_)) {
            return None;
        }
        let key = ObjectKey::new(backend.namespace.clone(), backend.name.clone());
        let service = self.snapshot.services.get(&key)?;
        let transport = transport_name(backend.transport);
        let port = service
            .spec
            .ports
            .iter()
            .find(|port| Some(port.port) == backend.port && &*port.protocol == transport)?;
        let mut gateways = self.graph.gateways.values();
        Some((gateways.find(|gateway| selects(service, gateway))?, port))
    }

    /// Where sessions of a target come in again, as far as that is certain.
    fn reached(
        &self,
        route: &'a RouteNode,
        place: usize,
        from: &[&'a ListenerNode],
    ) -> Vec<Reached<'a>> {
        let target = &route.targets[place];
        let Some(backend) = &target.backend else { return Vec::new() };
        let listeners: Vec<_> = match self.own_service(target) {
            Some((gateway, port)) => {
                let behind = behind(self.graph, gateway, port);
                behind.map(|listener| (backend.to_string(), listener)).collect()
            }
            None => {
                let endpoints = self.endpoints(backend).unwrap_or_default();
                let at = |endpoint| self.doors.at(backend.transport, endpoint);
                let at = endpoints.iter().flat_map(at);
                at.map(|(address, listener)| (format!("endpoint {address} of {backend}"), listener))
                    .collect()
            }
        };
        let mut reached = Vec::new();
        for (endpoint, listener) in listeners {
            for (key, targets) in self.taken(route, place, from, listener) {
                let (endpoint, listener) = (endpoint.clone(), &listener.id);
                reached.push(Reached { endpoint, listener, route: key, targets });
            }
        }
        reached
    }

    /// The routes, and of each the targets, that take a target's sessions at a listener which they come to.
    /// Where the listener goes by what clients send, it is certain only if that was looked at before, and
    /// stays as it is.
    fn taken(
        &self,
        route: &RouteNode,
        place: usize,
        from: &[&ListenerNode],
        at: &ListenerNode,
    ) -> Vec<(RouteKey, Range<usize>)> {
        let is_untouched = route.targets[place].policies.in_force.is_none();
        match at.protocol {
            None => Vec::new(),
            Some(Protocol::Tcp | Protocol::Udp) => {
                let taker = at.taker(&Share::Rest);
                taker.and_then(|taker| self.all_of(taker)).into_iter().collect()
            }
            Some(Protocol::Tls(_) | Protocol::Https) => {
                // A name that was asked for here is asked for there.
                let passes = |listener: &&&ListenerNode| {
                    listener.protocol == Some(Protocol::Tls(TlsMode::Passthrough))
                };
                let mine = route.key();
                let names = from.iter().filter(passes).flat_map(|listener| {
                    listener.shares.iter().filter(|(_, taker)| **taker == mine)
                });
                let takers = names.filter_map(|(share, _)| at.shares.get(share));
                takers.filter_map(|taker| self.all_of(taker)).collect()
            }
            Some(Protocol::Http) => {
                // The request is the same, and takes the same rule on the same port.
                let same = from.iter().all(|listener| {
                    listener.port == at.port
                        && listener.id.gateway == at.id.gateway
                        && listener.protocol == Some(Protocol::Http)
                });
                let rule = route.http_rules.iter().find(|rule| rule.targets.contains(&place));
                match rule.filter(|rule| same && is_untouched && !rule.refused) {
                    Some(rule) => vec![(route.key(), rule.targets.clone())],
                    None => Vec::new(),
                }
            }
        }
    }

    fn all_of(&self, route: &RouteKey) -> Option<(RouteKey, Range<usize>)> {
        Some((route.clone(), 0..self.graph.routes.get(route)?.targets.len()))
    }

    /// The targets that are on a cycle.
    fn cycles(&self, inward: &[Inward<'a>]) -> Vec<Refused> {
        let mut places = BTreeMap::<&RouteKey, Vec<usize>>::new();
        for (node, Inward { route, .. }) in inward.iter().enumerate() {
            places.entry(route).or_default().push(node);
        }
        let next_of = |reached: &Reached<'_>| -> Vec<usize> {
            let nodes = places.get(&reached.route).map_or(&[][..], Vec::as_slice);
            let taken = nodes.iter().filter(|node| reached.targets.contains(&inward[**node].place));
            taken.copied().collect()
        };
        let next: Vec<Vec<_>> =
            inward.iter().map(|node| node.reached.iter().flat_map(next_of).collect()).collect();
        let on_cycle = on_cycle(&next);
        let refused = on_cycle.iter().filter_map(|&node| {
            let Inward { route, place, reached } = &inward[node];
            let back = |reached: &&Reached<'_>| {
                next_of(reached).iter().any(|next| on_cycle.binary_search(next).is_ok())
            };
            let outcome = unsupported_value(describe(route, reached.iter().find(back)?));
            Some(Refused { route: (*route).clone(), target: *place, outcome })
        });
        refused.collect()
    }
}

/// What is wrong with a target that leads back.
fn describe(route: &RouteKey, reached: &Reached<'_>) -> String {
    let Reached { endpoint, listener, route: (kind, key), .. } = reached;
    let through = match (*kind, key) == (route.0, &route.1) {
        true => "which carries this route again".to_owned(),
        false => format!("which carries {kind} {key}, and that leads back here"),
    };
    format!(
        "{endpoint} is listener {listener}, {through}: sessions would go round for ever, and their \
         share is refused; use the address of what is to serve them"
    )
}
