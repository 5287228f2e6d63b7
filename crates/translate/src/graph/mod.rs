//! How the objects relate to each other.
//!
//! Every object that is ours, or asks to be, becomes a node. What is found out about it hangs on
//! the node as findings: the outcomes that its conditions tell, and the notes that a check prints.
//! Nothing is left out for being invalid; who reads the graph decides what to make of it. Where
//! objects compete, the order is always age, then namespace and name, never the order of reading.

mod address;
mod backend;
mod certificate;
mod class;
mod conflict;
mod cycle;
mod door;
mod endpoint;
mod gateway;
mod grant;
mod hostname;
mod http_rule;
mod listener;
mod listener_set;
mod loops;
mod namespace;
mod overlap;
mod parameters;
mod parent;
mod policy;
mod precedence;
mod protocol;
mod refused;
mod reserved;
mod route;
mod stray;
mod tls;
mod tls_options;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use l4way_model::{BackendId, BackendSource, GatewayId, HttpTerms, SessionTerms};
use l4way_resources::{
    Snapshot,
    api::{ObjectKey, ObjectRef},
};

use crate::{Addresses, Settings};

pub use endpoint::service_endpoints;

pub(crate) use backend::{BackendNode, Backends};
pub(crate) use certificate::{Certificate, Certificates, Referrer};
pub(crate) use class::ClassNode;
pub(crate) use gateway::{ClientCertificate, GatewayNode};
pub(crate) use grant::{CrossReference, Grants};
pub(crate) use hostname::common as common_hostnames;
pub(crate) use http_rule::{HttpMatch, HttpRuleNode};
pub(crate) use listener::ListenerNode;
pub(crate) use listener_set::ListenerSetNode;
pub(crate) use namespace::Namespaces;
pub(crate) use parent::Parent;
pub(crate) use policy::{Policies, PolicyNode};
pub(crate) use precedence::Share;
pub(crate) use protocol::{Protocol, transport_name};
pub(crate) use route::{RouteKey, RouteNode, TargetNode};
pub(crate) use stray::Stray;

/// The objects and how they relate to each other.
#[derive(Clone, Debug)]
pub struct Graph {
    pub(crate) controller_name: Arc<str>,
    pub(crate) in_cluster: bool,
    pub(crate) classless: bool,
    /// What holds for all sessions, where no GatewayParameters say otherwise.
    pub(crate) terms: SessionTerms,
    /// What holds for all HTTP requests, where no GatewayParameters say otherwise.
    pub(crate) http_terms: HttpTerms,
    /// In seconds of Unix time, if it is known.
    now: Option<i64>,
    pub(crate) classes: BTreeMap<Arc<str>, ClassNode>,
    pub(crate) gateways: BTreeMap<ObjectKey, GatewayNode>,
    pub(crate) listener_sets: BTreeMap<ObjectKey, ListenerSetNode>,
    pub(crate) routes: BTreeMap<RouteKey, RouteNode>,
    pub(crate) backends: BTreeMap<BackendId, BackendNode>,
    pub(crate) policies: BTreeMap<ObjectKey, PolicyNode>,
    pub(crate) strays: Vec<Stray>,
    contents: BTreeSet<ObjectRef>,
}

impl Graph {
    /// Whether there is no GatewayClass at all, so that every Gateway is ours.
    pub fn claims_every_gateway(&self) -> bool {
        self.classless
    }

    /// How many routes get no traffic, because each listener that they are attached to has another one.
    pub fn superseded_routes(&self) -> usize {
        self.routes.values().filter(|route| route.superseded && !route.is_refused).count()
    }

    /// The address that each of our Gateways has, for [`Addresses::Pool`] to keep.
    pub fn assignments(&self) -> BTreeMap<GatewayId, IpAddr> {
        self.gateways
            .values()
            .filter_map(|gateway| Some((gateway.id(), *gateway.addresses.first()?)))
            .collect()
    }

    /// Where a backend's endpoints are, if it is there: one that a route refers to and may use, or one of
    /// the settings' [former] ones.
    ///
    /// [former]: Settings::former
    pub fn source(&self, backend: &BackendId) -> Option<&BackendSource> {
        self.backends.get(backend).map(|node| &node.source)
    }

    /// The Secrets and ConfigMaps of whose contents the graph is made, or would be if they were there:
    /// those that our Gateways, their ListenerSets, and BackendTLSPolicies refer to, and may. No other
    /// contents are needed.
    pub fn contents(&self) -> &BTreeSet<ObjectRef> {
        &self.contents
    }

    /// When something will be else about a certificate though no object changes, in seconds of Unix
    /// time: it becomes valid, expires, or begins to do so soon. `None` without such a time, or if the
    /// settings didn't say what time it was.
    pub fn next_time(&self) -> Option<i64> {
        let now = self.now?;
        let sets = self.listener_sets.values().flat_map(|set| &set.listeners);
        let listeners = self.gateways.values().flat_map(|gateway| &gateway.listeners).chain(sets);
        let shown = listeners.flat_map(|listener| &listener.tls.certificates);
        let to_backends = self.gateways.values().filter_map(|gateway| gateway.certificate());
        let turns = shown.chain(to_backends).flat_map(Certificate::turns);
        turns.filter(|time| *time > now).min()
    }

    /// Takes the targets out that lead back to their own listeners.
    fn refuse_loops(&mut self, snapshot: &Snapshot, settings: &Settings) {
        for loops::Refused { route, target, outcome } in loops::find(self, snapshot, settings) {
            let Some(route) = self.routes.get_mut(&route) else { continue };
            let target = &mut route.targets[target];
            target.backend = None;
            route.findings.error(&*target.pointer, [outcome]);
        }
    }

    /// The listener at a place of a parent.
    pub(crate) fn listener(&self, parent: &Parent, index: usize) -> Option<&ListenerNode> {
        let listeners = match parent {
            Parent::Gateway(key) => &self.gateways.get(key)?.listeners,
            Parent::ListenerSet(key) => &self.listener_sets.get(key)?.listeners,
        };
        listeners.get(index)
    }

    /// The listeners that a Gateway would run: its own, and those of the ListenerSets that it
    /// allows, the ones with precedence first.
    pub(crate) fn listeners_of<'a>(
        &'a self,
        gateway: &'a GatewayNode,
    ) -> impl Iterator<Item = &'a ListenerNode> {
        let sets = gateway.listener_sets.iter().filter_map(|key| self.listener_sets.get(key));
        gateway.listeners.iter().chain(sets.flat_map(|set| &set.listeners))
    }
}

/// Relates the objects of a snapshot to each other.
pub fn graph(snapshot: &Snapshot, settings: &Settings) -> Graph {
    let namespaces = Namespaces::new(snapshot, settings);
    let grants = Grants::new(&snapshot.reference_grants, settings);
    let certificates = Certificates::new(snapshot, &grants, settings.now);

    let classes = class::build(snapshot, settings);
    let mut gateways = gateway::build(snapshot, settings, &classes, &certificates);
    let mut listener_sets =
        listener_set::build(snapshot, &mut gateways, &namespaces, &certificates);
    if settings.in_cluster {
        let own = gateways.values_mut().flat_map(|gateway| &mut gateway.listeners);
        reserved::refuse(own);
        reserved::refuse(listener_sets.values_mut().flat_map(|set| &mut set.listeners));
    }
    settle_listeners(&mut gateways, &mut listener_sets, &settings.addresses);

    let refused_policies = refused::policies(snapshot);
    let policies = Policies::new(snapshot, &refused_policies, &certificates);
    let mut backends = Backends::new(snapshot, &grants, &policies, settings);
    let mut routes = BTreeMap::new();
    for ((kind, key), route) in &snapshot.routes {
        routes.insert((*kind, key.clone()), RouteNode::new(*kind, route, &mut backends));
    }
    for (kind, route, http_rules) in refused::routes(snapshot) {
        let key = (kind, route.metadata.key());
        routes.insert(key, RouteNode::refused(kind, route, http_rules));
    }
    settings.former.iter().for_each(|backend| backends.look_up(backend));
    let parents = parent::Parents {
        gateways: &gateways,
        listener_sets: &listener_sets,
        namespaces: &namespaces,
    };
    for route in routes.values_mut() {
        route.parents = parents.attach(route);
    }
    precedence::settle(&mut routes, &mut gateways, &mut listener_sets);

    let backends = backends.into_nodes();
    let policies = policies.relate(&mut routes, &gateways, &listener_sets);

    let strays =
        stray::find(snapshot, settings, &classes, &gateways, &listener_sets, &policies, &routes);
    let mut graph = Graph {
        controller_name: settings.controller_name.clone(),
        in_cluster: settings.in_cluster,
        terms: settings.terms,
        http_terms: settings.http_terms.clone(),
        now: certificates.now,
        classless: class::are_missing(snapshot, settings),
        classes,
        gateways,
        listener_sets,
        routes,
        backends,
        policies,
        strays,
        contents: certificates.sought(),
    };
    graph.refuse_loops(snapshot, settings);
    graph
}

/// Settles who gets which address and port.
fn settle_listeners(
    gateways: &mut BTreeMap<ObjectKey, GatewayNode>,
    listener_sets: &mut BTreeMap<ObjectKey, ListenerSetNode>,
    addresses: &Addresses,
) {
    for gateway in gateways.values_mut() {
        let mut sets: Vec<_> = gateway
            .listener_sets
            .iter()
            .filter_map(|key| listener_sets.remove_entry(key))
            .collect();
        let mut objects = vec![&mut gateway.listeners[..]];
        objects.extend(sets.iter_mut().map(|(_, set)| &mut set.listeners[..]));
        conflict::refuse(objects.iter_mut().map(|listeners| &mut **listeners));
        overlap::mark(objects.into_iter().flatten());
        listener_sets.extend(sets);
    }
    let mut oldest_first: Vec<_> = gateways.values_mut().collect();
    oldest_first.sort_by(|a, b| a.object.metadata.age_order().cmp(&b.object.metadata.age_order()));
    address::assign(&mut oldest_first, addresses);
    // With a host each, none is in another's way.
    if *addresses != Addresses::Unspecified {
        address::refuse_held(&mut oldest_first, listener_sets);
    }
}
