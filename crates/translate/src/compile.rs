//! From the graph to what a proxy runs.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use l4way_model::{
    BackendId, BackendSource, BackendTls, Config, Hostname, HttpListener, HttpPort, HttpRule,
    Listener, Parts, RefusedReason, Route, RouteId, SessionTerms, Target, TlsListener, TlsMode,
    TlsPort, TlsRoute, WeightedTarget,
};
use l4way_resources::api;

use crate::graph::{
    ClientCertificate, GatewayNode, Graph, HttpMatch, HttpRuleNode, ListenerNode, PolicyNode,
    Protocol, RouteNode, Share, TargetNode, common_hostnames,
};

/// What a proxy runs, and where its backends' endpoints are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// The listeners and routes.
    pub config: Config,
    /// The endpoints of every backend that the configuration names.
    pub backends: BTreeMap<BackendId, BackendSource>,
}

/// Takes from the graph what can run: the valid listeners, each with the routes that have
/// precedence. A share of a route whose backend can't be used stays, and refuses sessions; so does a
/// TLS listener that isn't valid, beside others on its port, as its names are nobody else's. All
/// Gateways are on one host; of a cluster, [`provisions`] has what each Gateway's own proxies run.
///
/// [`provisions`]: crate::provisions
///
/// # Panics
/// If the graph is of a cluster, where two Gateways may have the same port.
pub fn compile(graph: &Graph) -> Compiled {
    let accepted = graph.gateways.values().filter(|gateway| gateway.may_run());
    compile_gateways(graph, accepted, graph.terms)
}

/// The same, of some Gateways, on these terms, as though they were accepted.
pub(crate) fn compile_gateways<'a>(
    graph: &'a Graph,
    gateways: impl IntoIterator<Item = &'a GatewayNode>,
    terms: SessionTerms,
) -> Compiled {
    let mut listeners = Vec::new();
    let mut tls = Ports::new();
    let mut http = Ports::new();
    for gateway in gateways.into_iter().filter(|gateway| !gateway.addresses.is_empty()) {
        let compiler = Compiler { graph, gateway };
        for listener in graph.listeners_of(gateway) {
            let Some(protocol) = listener.protocol else { continue };
            let key = (gateway.addresses.clone(), listener.port);
            match protocol {
                Protocol::Tls(_) | Protocol::Https if !listener.is_conflicted() => {
                    let port = tls.entry(key).or_insert_with(Vec::new);
                    port.push(compiler.tls_listener(listener, protocol));
                }
                _ if !listener.is_valid() => {}
                Protocol::Http => {
                    let port = http.entry(key).or_insert_with(Vec::new);
                    port.push(compiler.http_listener(listener));
                }
                _ => listeners.push(compiler.listener(listener, protocol)),
            }
        }
    }
    let is_served = |listeners: &Vec<TlsListener>| {
        listeners.iter().any(|listener| listener.mode != TlsMode::Refused)
    };
    let tls = tls.into_iter().filter(|(_, listeners)| is_served(listeners));
    let tls = tls.map(|((addresses, port), listeners)| TlsPort { addresses, port, listeners });
    let http = http.into_iter();
    let http = http.map(|((addresses, port), listeners)| HttpPort { addresses, port, listeners });
    let parts = Parts {
        listeners,
        tls: tls.collect(),
        http: http.collect(),
        terms,
        http_terms: graph.http_terms.clone(),
        ..Parts::default()
    };
    let config =
        Config::try_from(parts).expect("the graph refused listeners whose socket another one has");
    let targets = config.routes().flat_map(|route| &route.targets);
    let named: BTreeSet<_> = targets.filter_map(|weighted| weighted.target.backend()).collect();
    let backends = named
        .into_iter()
        .filter_map(|id| Some((id.clone(), graph.backends.get(id)?.source.clone())))
        .collect();
    Compiled { config, backends }
}

/// Listeners by where they are bound.
type Ports<L> = BTreeMap<(Vec<IpAddr>, u16), Vec<L>>;

/// Compiles the listeners of a Gateway.
struct Compiler<'a> {
    graph: &'a Graph,
    gateway: &'a GatewayNode,
}

impl Compiler<'_> {
    fn listener(&self, listener: &ListenerNode, protocol: Protocol) -> Listener {
        let route = listener.shares.get(&Share::Rest);
        let route = route.and_then(|route| self.graph.routes.get(route));
        Listener {
            id: listener.id.clone(),
            transport: protocol.transport(),
            addresses: self.gateway.addresses.clone(),
            port: listener.port,
            route: route.map(|route| self.route(route)),
        }
    }

    fn tls_listener(&self, listener: &ListenerNode, protocol: Protocol) -> TlsListener {
        let tls = || Arc::new(listener.tls.server());
        let mode = match protocol {
            _ if !listener.is_valid() => TlsMode::Refused,
            Protocol::Https => TlsMode::Https { tls: tls(), rules: self.rules(listener) },
            Protocol::Tls(api::TlsMode::Terminate) => TlsMode::Terminate {
                tls: tls(),
                routes: self.tls_routes(listener, |route| self.route(route)),
            },
            _ => TlsMode::Passthrough {
                routes: self.tls_routes(listener, |route| self.untouched(route)),
            },
        };
        TlsListener {
            id: listener.id.clone(),
            hostname: listener.hostname.as_deref().map(Hostname::new),
            handshake_timeout: listener.tls.handshake_timeout,
            mode,
        }
    }

    /// The routes of a TLS listener: by name, the more specific ones first, and what takes the rest.
    fn tls_routes(
        &self,
        listener: &ListenerNode,
        compiled: impl Fn(&RouteNode) -> Route,
    ) -> Vec<TlsRoute> {
        let taken = listener.shares.iter();
        let taken = taken.filter(|(share, route)| listener.taker(share) == Some(*route));
        let mut routes: Vec<_> = taken
            .filter_map(|(share, route)| {
                let hostname = match share {
                    Share::Name(name) => name.clone(),
                    Share::Rest => None,
                };
                let route = compiled(self.graph.routes.get(route)?);
                Some((*share == Share::Rest, TlsRoute { hostname, route }))
            })
            .collect();
        routes.sort_by_key(|(is_rest, route)| {
            (*is_rest, Reverse(route.hostname.as_ref().map(Hostname::specificity)))
        });
        routes.into_iter().map(|(_, route)| route).collect()
    }

    fn http_listener(&self, listener: &ListenerNode) -> HttpListener {
        HttpListener {
            id: listener.id.clone(),
            hostname: listener.hostname.as_deref().map(Hostname::new),
            rules: self.rules(listener),
        }
    }

    fn route(&self, route: &RouteNode) -> Route {
        Route { id: route_id(route), targets: self.targets(&route.targets) }
    }

    /// The route of sessions that endpoints get as they are, in the client's own TLS.
    fn untouched(&self, route: &RouteNode) -> Route {
        let targets = route.targets.iter().map(|target| WeightedTarget {
            weight: target.weight,
            target: self.backend(target).map_or(REFUSED, Target::Backend),
        });
        Route { id: route_id(route), targets: targets.collect() }
    }

    fn targets(&self, targets: &[TargetNode]) -> Vec<WeightedTarget> {
        let targets = targets
            .iter()
            .map(|target| WeightedTarget { weight: target.weight, target: self.target(target) });
        targets.collect()
    }

    fn target(&self, target: &TargetNode) -> Target {
        let Some(backend) = self.backend(target) else { return REFUSED };
        let policy = target.policies.in_force.as_ref();
        match policy.and_then(|policy| self.graph.policies.get(policy)) {
            None => Target::Backend(backend),
            Some(policy) => match self.backend_tls(policy) {
                Some(tls) => Target::TlsBackend(backend, tls),
                None => REFUSED,
            },
        }
    }

    /// How TLS is spoken to backends that have this policy, if it can be as the policy wants.
    fn backend_tls(&self, policy: &PolicyNode) -> Option<Arc<BackendTls>> {
        let tls = policy.tls.as_ref()?;
        match &self.gateway.client_certificate {
            ClientCertificate::None => Some(tls.clone()),
            ClientCertificate::This(certificate) => {
                let client_certificate = Some(certificate.pair.clone());
                Some(Arc::new(BackendTls { client_certificate, ..(**tls).clone() }))
            }
            ClientCertificate::Unusable => None,
        }
    }

    /// The backend of a target, if the Gateway's routes may use it.
    fn backend(&self, target: &TargetNode) -> Option<BackendId> {
        let allowed = target.external.is_none_or(|external| self.gateway.allows(external));
        target.backend.clone().filter(|_| allowed)
    }

    fn rules(&self, listener: &ListenerNode) -> Vec<HttpRule> {
        let routes = listener.routes.iter().filter_map(|route| self.graph.routes.get(route));
        let mut rules: Vec<_> = routes.flat_map(|route| self.rules_of(listener, route)).collect();
        // What is left equal keeps the order of routes' precedence, then of rules and matches.
        rules.sort_by_key(|rule| {
            let host = rule.hostname.as_ref().map(Hostname::specificity);
            Reverse((host, rule.path.specificity(), rule.headers.len()))
        });
        rules
    }

    /// The rules of a route on a listener: one for each of its hostnames there and each match.
    fn rules_of(&self, listener: &ListenerNode, route: &RouteNode) -> Vec<HttpRule> {
        let hostnames =
            common_hostnames(listener.hostname.as_deref(), &route.object.spec.hostnames);
        let mut rules = Vec::new();
        for rule in &route.http_rules {
            let compiled = Route { id: route_id(route), targets: self.http_targets(route, rule) };
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

    fn http_targets(&self, route: &RouteNode, rule: &HttpRuleNode) -> Vec<WeightedTarget> {
        if rule.refused {
            return vec![WeightedTarget { weight: 1, target: REFUSED }];
        }
        self.targets(&route.targets[rule.targets.clone()])
    }
}

/// What becomes of sessions to a backend that can't be used.
const REFUSED: Target = Target::Refused(RefusedReason::InvalidBackend);

fn route_id(route: &RouteNode) -> RouteId {
    let metadata = &route.object.metadata;
    RouteId {
        kind: route.kind.as_str().into(),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
    }
}
