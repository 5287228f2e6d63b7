//! A generator of objects: any number of Gateways, with routes of several kinds and their backends.
//!
//! Nothing is random: the same size always gives the same objects.

use std::{net::Ipv4Addr, ops::Range};

use l4way_resources::{AnyObject, CONTROLLER_NAME, GATEWAY_GROUP, L4WAY_GROUP, Snapshot};
use serde_json::{Value, json};

/// How many objects there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Gateways, each with its share of the routes.
    pub gateways: usize,
    /// TCPRoutes, UDPRoutes and TLSRoutes, each with a backend of its own.
    pub routes: usize,
    /// Endpoints, which the backends have in equal parts.
    pub endpoints: usize,
}

impl Size {
    /// Of an installation with so many endpoints: ten for each route, ten routes for each Gateway.
    pub fn of_endpoints(endpoints: usize) -> Self {
        Self { gateways: endpoints.div_ceil(100), routes: endpoints.div_ceil(10), endpoints }
    }

    fn routes_of(self, gateway: usize) -> Range<usize> {
        part(self.routes, self.gateways, gateway)
    }

    fn endpoints_of(self, route: usize) -> Range<usize> {
        part(self.endpoints, self.routes, route)
    }
}

/// The `nth` of `parts` equal parts of `whole` things.
fn part(whole: usize, parts: usize, nth: usize) -> Range<usize> {
    nth * whole / parts..(nth + 1) * whole / parts
}

/// How many Gateways share a namespace.
const GATEWAYS_OF_A_NAMESPACE: usize = 10;
/// How many of a Gateway's routes are TCPRoutes, each with a listener of its own.
const TCP: usize = 4;
/// How many are UDPRoutes, likewise. All others are TLSRoutes on one listener.
const UDP: usize = 3;
/// The port of the first listener. No port is one that the system gives to clients by default.
const FIRST_PORT: usize = 10_000;
/// The port of every backend.
const BACKEND_PORT: u16 = 8000;
/// The most endpoints that Kubernetes puts into one EndpointSlice, if nobody says otherwise.
const SLICE: usize = 100;

/// An object as the API has it, with its defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Its kind.
    pub kind: &'static str,
    /// All of it.
    pub value: Value,
}

/// All objects of an installation of this size.
pub fn objects(size: Size) -> impl Iterator<Item = Object> {
    let namespaces = size.gateways.div_ceil(GATEWAYS_OF_A_NAMESPACE);
    let namespaces = (0..namespaces).map(|number| {
        let metadata = json!({ "name": format!("team-{number}") });
        object("v1", "Namespace", json!({ "metadata": metadata }))
    });
    class().into_iter().chain(namespaces).chain((0..size.gateways).flat_map(move |gateway| {
        let place = Place { namespace: namespace(gateway), gateway };
        let routes = size.routes_of(gateway);
        let of_routes = routes.clone().enumerate().flat_map({
            let place = place.clone();
            move |(nth, route)| place.route(nth, route, size.endpoints_of(route))
        });
        [place.gateway(routes.len())].into_iter().chain(of_routes)
    }))
}

/// The objects as l4way has read them.
///
/// # Errors
/// If l4way can't read one of them.
pub fn snapshot(size: Size) -> Result<Snapshot, String> {
    let read = |Object { kind, value }| match AnyObject::from_value(kind, &value) {
        Some(read) => read.map_err(|error| format!("a generated {kind} can't be read: {error}")),
        None => Err(format!("a {kind} is nothing that l4way reads")),
    };
    objects(size).map(read).collect()
}

/// The objects as manifests.
pub fn manifests(size: Size) -> impl Iterator<Item = String> {
    // JSON is YAML, too.
    objects(size).map(|object| format!("---\n{}\n", object.value))
}

fn object(version: &str, kind: &'static str, mut value: Value) -> Object {
    value["apiVersion"] = version.into();
    value["kind"] = kind.into();
    Object { kind, value }
}

fn gateway_api(kind: &'static str, value: Value) -> Object {
    object(&format!("{GATEWAY_GROUP}/v1"), kind, value)
}

/// A class whose Gateways' routes may use Backends.
fn class() -> [Object; 2] {
    let parameters = json!({
        "metadata": { "name": "l4way", "namespace": "l4way-system" },
        "spec": { "externalBackends": ["Backend"] },
    });
    let class = json!({
        "metadata": { "name": "l4way", "generation": 1 },
        "spec": {
            "controllerName": CONTROLLER_NAME,
            "parametersRef": {
                "group": L4WAY_GROUP, "kind": "GatewayParameters",
                "name": "l4way", "namespace": "l4way-system",
            },
        },
    });
    [
        object(&format!("{L4WAY_GROUP}/v1alpha1"), "GatewayParameters", parameters),
        gateway_api("GatewayClass", class),
    ]
}

fn namespace(gateway: usize) -> String {
    format!("team-{}", gateway / GATEWAYS_OF_A_NAMESPACE)
}

/// A Gateway, and where it is.
#[derive(Clone)]
struct Place {
    namespace: String,
    gateway: usize,
}

/// What a Gateway's route is, by its number there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Udp,
    Tls,
}

impl Kind {
    fn of(nth: usize) -> Self {
        match nth {
            0..TCP => Self::Tcp,
            nth if nth < TCP + UDP => Self::Udp,
            _ => Self::Tls,
        }
    }

    fn route(self) -> &'static str {
        match self {
            Self::Tcp => "TCPRoute",
            Self::Udp => "UDPRoute",
            Self::Tls => "TLSRoute",
        }
    }

    fn transport(self) -> &'static str {
        if self == Self::Udp { "UDP" } else { "TCP" }
    }
}

impl Place {
    fn metadata(&self, name: &str) -> Value {
        json!({
            "name": name, "namespace": self.namespace, "generation": 1,
            "creationTimestamp": "2026-01-01T00:00:00Z",
        })
    }

    fn name(&self) -> String {
        format!("gateway-{}", self.gateway)
    }

    fn gateway(&self, routes: usize) -> Object {
        let listeners = (0..routes.min(TCP + UDP + 1)).map(|nth| {
            let port = FIRST_PORT + self.gateway * (TCP + UDP + 1) + nth;
            match Kind::of(nth) {
                Kind::Tls => json!({
                    "name": section(nth), "protocol": "TLS", "port": port,
                    "tls": { "mode": "Passthrough" },
                }),
                kind => json!({ "name": section(nth), "protocol": kind.transport(), "port": port }),
            }
        });
        let spec =
            json!({ "gatewayClassName": "l4way", "listeners": listeners.collect::<Vec<_>>() });
        gateway_api("Gateway", json!({ "metadata": self.metadata(&self.name()), "spec": spec }))
    }

    /// A route, with its backend and the backend's endpoints.
    fn route(&self, nth: usize, number: usize, endpoints: Range<usize>) -> Vec<Object> {
        let (kind, name) = (Kind::of(nth), format!("app-{number}"));
        // One of a Gateway's routes goes to what no Service describes.
        let is_backend = nth == TCP - 1;
        let reference = if is_backend {
            json!({ "group": L4WAY_GROUP, "kind": "Backend", "name": name })
        } else {
            json!({ "name": name, "port": BACKEND_PORT })
        };
        let mut spec = json!({
            "parentRefs": [{ "name": self.name(), "sectionName": section(nth) }],
            "rules": [{ "backendRefs": [reference] }],
        });
        if kind == Kind::Tls {
            spec["hostnames"] = json!([format!("{name}.example.com")]);
        }
        let route = json!({ "metadata": self.metadata(&name), "spec": spec });
        let mut objects = vec![gateway_api(kind.route(), route)];
        if is_backend {
            objects.push(self.backend(&name, endpoints));
        } else {
            objects.push(self.service(&name, kind));
            let starts = endpoints.clone().step_by(SLICE);
            objects.extend(
                starts
                    .map(|start| self.slice(&name, kind, start..endpoints.end.min(start + SLICE))),
            );
        }
        objects
    }

    fn service(&self, name: &str, kind: Kind) -> Object {
        let port = json!({ "name": "main", "protocol": kind.transport(), "port": BACKEND_PORT });
        let spec = json!({ "selector": { "app": name }, "ports": [port] });
        object("v1", "Service", json!({ "metadata": self.metadata(name), "spec": spec }))
    }

    fn slice(&self, service: &str, kind: Kind, endpoints: Range<usize>) -> Object {
        let mut metadata = self.metadata(&format!("{service}-{}", endpoints.start));
        metadata["labels"] = json!({ "kubernetes.io/service-name": service });
        let endpoints = endpoints.map(|endpoint| {
            json!({
                "addresses": [address(endpoint)],
                "conditions": { "ready": true, "serving": true, "terminating": false },
            })
        });
        let port = json!({ "name": "main", "protocol": kind.transport(), "port": BACKEND_PORT });
        object(
            "discovery.k8s.io/v1",
            "EndpointSlice",
            json!({
                "metadata": metadata, "addressType": "IPv4", "ports": [port],
                "endpoints": endpoints.collect::<Vec<_>>(),
            }),
        )
    }

    fn backend(&self, name: &str, endpoints: Range<usize>) -> Object {
        let endpoints = endpoints
            .map(|number| json!({ "ip": { "address": address(number), "port": BACKEND_PORT } }));
        let spec = json!({ "endpoints": endpoints.collect::<Vec<_>>() });
        object(
            &format!("{L4WAY_GROUP}/v1alpha1"),
            "Backend",
            json!({ "metadata": self.metadata(name), "spec": spec }),
        )
    }
}

/// The name of the listener for a Gateway's route.
fn section(nth: usize) -> String {
    match Kind::of(nth) {
        Kind::Tcp => format!("tcp-{nth}"),
        Kind::Udp => format!("udp-{nth}"),
        Kind::Tls => "tls".to_owned(),
    }
}

/// The address of an endpoint, of a private network.
fn address(endpoint: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 1).to_bits() + endpoint as u32)
}

#[cfg(test)]
mod tests {
    use l4way_model::ApplyReport;
    use l4way_resources::{ReadOptions, SourceText, read};
    use l4way_translate::{Compiled, Observed, Settings, compile, graph, problems, status};

    use super::*;

    #[test]
    fn an_installation_is_of_its_size_and_without_problems() {
        let size = Size::of_endpoints(2_000);
        let snapshot = snapshot(size).unwrap();
        assert_eq!((snapshot.gateways.len(), snapshot.routes.len()), (20, 200));
        let graph = graph(&snapshot, &Settings::default());
        let Compiled { config, backends } = compile(&graph);
        assert_eq!(config.listener_ids().count(), 20 * (TCP + UDP + 1));
        assert_eq!(config.session_routes().count(), 200);
        assert_eq!(backends.len(), 200);
        assert!(problems(&graph).is_empty());
        assert_eq!(status(&graph, &ApplyReport::default(), &Observed::default()).len(), 1 + 220);
    }

    #[test]
    fn manifests_are_what_an_api_server_would_take() {
        let size = Size { gateways: 2, routes: 25, endpoints: 500 };
        let manifests: String = manifests(size).collect();
        let source = SourceText::new("generated", manifests);
        let result = read(&source, ReadOptions::default());
        assert!(result.diagnostics.is_empty(), "{:?}", result.diagnostics);
    }
}
