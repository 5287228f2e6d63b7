//! From the graph to what a proxy runs.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use l4way_model::{
    BackendId, BackendSource, Config, Hostname, HttpListener, HttpPort, HttpRule, Listener,
    RefusedReason, Route, RouteId, Target, WeightedTarget,
};

use crate::graph::{
    GatewayNode, Graph, HttpMatch, HttpRuleNode, ListenerNode, Protocol, RouteNode, TargetNode,
    intersection,
};

/// What a proxy runs, and where its backends' endpoints are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// The listeners and routes.
    pub config: Config,
    /// The endpoints of every backend that the configuration names.
    pub backends: BTreeMap<BackendId, BackendSource>,
}

/// Takes from the graph what can run: the valid listeners of protocols that this version carries,
/// each with the route that has precedence. A share of a route whose backend can't be used stays,
/// and refuses sessions. All Gateways are on one host; of a cluster, [`provisions`] has what each
/// Gateway's own proxies run.
///
/// [`provisions`]: crate::provisions
///
/// # Panics
/// If the graph is of a cluster, where two Gateways may have the same port.
pub fn compile(graph: &Graph) -> Compiled {
    compile_gateways(graph, graph.gateways.values())
}

/// The same, of some Gateways.
pub(crate) fn compile_gateways<'a>(
    graph: &'a Graph,
    gateways: impl IntoIterator<Item = &'a GatewayNode>,
) -> Compiled {
    let mut listeners = Vec::new();
    let mut http = HttpPorts::new();
    let gateways = gateways.into_iter();
    for gateway in gateways.filter(|gateway| gateway.may_run() && !gateway.addresses.is_empty()) {
        for listener in graph.listeners_of(gateway) {
            match listener.protocol {
                Some(protocol) if protocol.is_http() && listener.carried_on().is_some() => {
                    let key = (gateway.addresses.clone(), listener.port);
                    let port = http.entry(key).or_insert_with(|| (protocol, Vec::new()));
                    port.1.push(compiled_http(graph, gateway, listener));
                }
                _ => listeners.extend(compiled(graph, gateway, listener)),
            }
        }
    }
    let http = http.into_iter().map(|((addresses, port), (protocol, listeners))| HttpPort {
        addresses,
        port,
        tls: protocol == Protocol::Https,
        listeners,
    });
    let config = Config::with_http(listeners, http)
        .expect("the graph refused listeners whose socket another one has");
    let named: BTreeSet<_> = config
        .routes()
        .flat_map(|route| &route.targets)
        .filter_map(|target| match &target.target {
            Target::Backend(id) => Some(id),
            Target::Refused(_) => None,
        })
        .collect();
    let backends = named
        .into_iter()
        .filter_map(|id| Some((id.clone(), graph.backends.get(id)?.source.clone())))
        .collect();
    Compiled { config, backends }
}

/// HTTP listeners by where they are bound, and how.
type HttpPorts = BTreeMap<(Vec<IpAddr>, u16), (Protocol, Vec<HttpListener>)>;

fn compiled(graph: &Graph, gateway: &GatewayNode, listener: &ListenerNode) -> Option<Listener> {
    let route = listener.routes.first().and_then(|winner| graph.routes.get(winner));
    Some(Listener {
        id: listener.id.clone(),
        transport: listener.carried_on()?,
        addresses: gateway.addresses.clone(),
        port: listener.port,
        route: route.map(|route| Route {
            id: route_id(route),
            targets: compiled_targets(gateway, &route.targets),
        }),
    })
}

fn route_id(route: &RouteNode) -> RouteId {
    let metadata = &route.object.metadata;
    RouteId {
        kind: route.kind.as_str().into(),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
    }
}

fn compiled_targets(gateway: &GatewayNode, targets: &[TargetNode]) -> Vec<WeightedTarget> {
    let targets = targets.iter().map(|target| {
        let allowed = target.external.is_none_or(|external| gateway.allows(external));
        let backend = target.backend.clone().filter(|_| allowed);
        WeightedTarget {
            weight: target.weight,
            target: backend.map_or(Target::Refused(RefusedReason::InvalidBackend), Target::Backend),
        }
    });
    targets.collect()
}

fn compiled_http(graph: &Graph, gateway: &GatewayNode, listener: &ListenerNode) -> HttpListener {
    let routes = listener.routes.iter().filter_map(|route| graph.routes.get(route));
    let mut rules: Vec<_> =
        routes.flat_map(|route| compiled_rules(gateway, listener, route)).collect();
    // What is left equal keeps the order of routes' precedence, then of rules and matches.
    rules.sort_by_key(|rule| {
        let host = rule.hostname.as_ref().map(Hostname::specificity);
        Reverse((host, rule.path.specificity(), rule.headers.len()))
    });
    HttpListener {
        id: listener.id.clone(),
        hostname: listener.hostname.as_deref().map(Hostname::new),
        certificates: listener.certificates.clone(),
        rules,
    }
}

/// The rules of a route on a listener: one for each of its hostnames there and each match.
fn compiled_rules(
    gateway: &GatewayNode,
    listener: &ListenerNode,
    route: &RouteNode,
) -> Vec<HttpRule> {
    let hostnames = hostnames(listener, route);
    let mut rules = Vec::new();
    for rule in &route.http_rules {
        let compiled = Route { id: route_id(route), targets: http_targets(gateway, route, rule) };
        for hostname in &hostnames {
            rules.extend(rule.matches.iter().map(|HttpMatch { path, headers }| HttpRule {
                hostname: hostname.clone(),
                path: path.clone(),
                headers: headers.clone(),
                route: compiled.clone(),
            }));
        }
    }
    rules
}

fn http_targets(
    gateway: &GatewayNode,
    route: &RouteNode,
    rule: &HttpRuleNode,
) -> Vec<WeightedTarget> {
    if rule.refused {
        let target = Target::Refused(RefusedReason::InvalidBackend);
        return vec![WeightedTarget { weight: 1, target }];
    }
    compiled_targets(gateway, &route.targets[rule.targets.clone()])
}

/// The hostnames of a route as far as they are the listener's, too. `None` is any of the listener's.
fn hostnames(listener: &ListenerNode, route: &RouteNode) -> Vec<Option<Hostname>> {
    let of_route = &route.object.spec.hostnames;
    if of_route.is_empty() {
        return vec![None];
    }
    let common = of_route.iter().filter_map(|of_route| match listener.hostname.as_deref() {
        Some(of_listener) => intersection(of_route, of_listener),
        None => Some(&**of_route),
    });
    common.map(|hostname| Some(Hostname::new(hostname))).collect()
}
