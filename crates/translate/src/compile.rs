//! From the graph to what a proxy runs.

use std::collections::{BTreeMap, BTreeSet};

use l4way_model::{
    BackendId, BackendSource, Config, Listener, RefusedReason, Route, RouteId, Target,
    WeightedTarget,
};

use crate::graph::{GatewayNode, Graph, ListenerNode, RouteNode};

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
/// and refuses sessions.
pub fn compile(graph: &Graph) -> Compiled {
    let listeners = graph
        .gateways
        .values()
        .filter(|gateway| gateway.may_run() && !gateway.addresses.is_empty())
        .flat_map(|gateway| {
            graph.listeners_of(gateway).filter_map(|listener| compiled(graph, gateway, listener))
        });
    let config =
        Config::new(listeners).expect("the graph refused listeners whose socket another one has");
    let named: BTreeSet<_> = config
        .listeners()
        .filter_map(|listener| listener.route.as_ref())
        .flat_map(|route| &route.targets)
        .filter_map(|target| match &target.target {
            Target::Backend(id) => Some(id),
            Target::Refused(_) => None,
        })
        .collect();
    let backends = named
        .into_iter()
        .filter_map(|id| {
            Some((id.clone(), BackendSource::Known(graph.backends.get(id)?.endpoints.clone())))
        })
        .collect();
    Compiled { config, backends }
}

fn compiled(graph: &Graph, gateway: &GatewayNode, listener: &ListenerNode) -> Option<Listener> {
    let route = listener.routes.first().and_then(|winner| graph.routes.get(winner));
    Some(Listener {
        id: listener.id.clone(),
        transport: listener.carried_on()?,
        addresses: gateway.addresses.clone(),
        port: listener.port,
        route: route.map(compiled_route),
    })
}

fn compiled_route(route: &RouteNode) -> Route {
    let metadata = &route.object.metadata;
    let targets = route.targets.iter().map(|target| WeightedTarget {
        weight: target.weight,
        target: target
            .backend
            .clone()
            .map_or(Target::Refused(RefusedReason::InvalidBackend), Target::Backend),
    });
    Route {
        id: RouteId {
            kind: route.kind.as_str().into(),
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
        },
        targets: targets.collect(),
    }
}
