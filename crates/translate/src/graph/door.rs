//! Where sessions come in: the addresses and ports that lead to a Gateway's listeners.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use l4way_model::{EndpointAddress, EndpointSource, Transport, connected_to};
use l4way_resources::{
    Snapshot,
    api::{IntOrString, Service, ServicePort, SliceEndpoint},
};

use super::{GatewayNode, Graph, ListenerNode, endpoint::Slices, transport_name};
use crate::{POD_ADMIN_PORT, ProxyAddresses};

/// The longest name of a Gateway or class that is a label's value as it is.
const LONGEST_LABEL: usize = 63;

/// What leads to listeners, by transport and port.
pub(crate) struct Doors<'a> {
    doors: HashMap<(Transport, u16), Vec<Door<'a>>>,
    /// Addresses that all listeners are on that are on every address.
    own: BTreeSet<IpAddr>,
    /// What leads to listeners on the addresses of all nodes.
    node_ports: HashMap<(Transport, u16), Vec<&'a ListenerNode>>,
    nodes: &'a BTreeSet<IpAddr>,
    /// What leads to the admin endpoints of pods.
    admin: HashSet<SocketAddr>,
}

/// An address that leads to a listener.
struct Door<'a> {
    address: IpAddr,
    listener: &'a ListenerNode,
}

impl<'a> Doors<'a> {
    /// Of the Gateways of a graph. On one host each listener is at the addresses that it is bound on; in a
    /// cluster at those that the Gateway asks for, at its Services, and at its pods.
    pub(crate) fn new(
        graph: &'a Graph,
        snapshot: &'a Snapshot,
        slices: &Slices<'_>,
        proxies: &'a ProxyAddresses,
    ) -> Self {
        let mut doors = Self {
            doors: HashMap::new(),
            own: BTreeSet::new(),
            node_ports: HashMap::new(),
            nodes: &proxies.nodes,
            admin: HashSet::new(),
        };
        for gateway in graph.gateways.values().filter(|gateway| gateway.may_run()) {
            let addresses = match graph.in_cluster {
                true => &gateway.asked_addresses,
                false => &gateway.addresses,
            };
            doors.own.extend(addresses.iter().map(IpAddr::to_canonical));
            for listener in graph.listeners_of(gateway) {
                let Some(transport) = listener.runs_on() else { continue };
                for &address in addresses {
                    doors.add((transport, listener.port), address, listener);
                }
            }
            if graph.in_cluster {
                let mut pods: BTreeSet<_> =
                    proxies.pods.get(&gateway.object.metadata.key()).cloned().unwrap_or_default();
                let services = snapshot.services.values().map(|service| &**service);
                for service in services.filter(|service| selects(service, gateway)) {
                    doors.add_service(graph, gateway, service);
                    let endpoints = slices.of(service).iter().flat_map(|slice| &slice.endpoints);
                    pods.extend(endpoints.filter_map(SliceEndpoint::ip));
                }
                doors.add_pods(graph, gateway, &pods);
            }
        }
        doors
    }

    fn add(&mut self, port: (Transport, u16), address: IpAddr, listener: &'a ListenerNode) {
        let address = address.to_canonical();
        self.doors.entry(port).or_default().push(Door { address, listener });
    }

    fn add_service(&mut self, graph: &'a Graph, gateway: &'a GatewayNode, service: &Service) {
        let addresses: BTreeSet<_> = service.addresses().collect();
        for port in &service.spec.ports {
            if leads_to_admin(port) {
                let at = addresses.iter().map(|ip| (ip, port.port));
                let at_nodes = port
                    .node_port
                    .into_iter()
                    .flat_map(|port| self.nodes.iter().map(move |ip| (ip, port)));
                let all =
                    at.chain(at_nodes).map(|(ip, port)| SocketAddr::new(ip.to_canonical(), port));
                self.admin.extend(all);
            }
            for listener in behind(graph, gateway, port) {
                let Some(transport) = listener.runs_on() else { continue };
                for &address in &addresses {
                    self.add((transport, port.port), address, listener);
                }
                if let Some(port) = port.node_port {
                    self.node_ports.entry((transport, port)).or_default().push(listener);
                }
            }
        }
    }

    fn add_pods(&mut self, graph: &'a Graph, gateway: &'a GatewayNode, pods: &BTreeSet<IpAddr>) {
        let admin = pods.iter().map(|ip| SocketAddr::new(ip.to_canonical(), POD_ADMIN_PORT));
        self.admin.extend(admin);
        for listener in graph.listeners_of(gateway) {
            let Some(transport) = listener.runs_on() else { continue };
            for &address in pods {
                self.add((transport, listener.port), address, listener);
            }
        }
    }

    /// The listeners that sessions to an endpoint reach, and the address at which they do. A name counts as far
    /// as it says its address itself.
    pub(crate) fn at(
        &self,
        transport: Transport,
        endpoint: &EndpointSource,
    ) -> impl Iterator<Item = (SocketAddr, &'a ListenerNode)> {
        addresses(endpoint).flat_map(move |address| {
            let doors = self.doors.get(&(transport, address.port()));
            let doors = doors.map_or(&[][..], Vec::as_slice);
            let ip = address.ip();
            // A socket that is bound on the address itself goes before one that is on every address.
            let has_own = doors.iter().any(|door| door.address == ip);
            let here = move |door: &&Door<'_>| match has_own {
                true => door.address == ip,
                false => self.is_everywhere(door.address, ip),
            };
            let on_nodes = self.node_ports.get(&(transport, address.port()));
            let on_nodes = on_nodes.filter(|_| self.nodes.contains(&ip)).into_iter().flatten();
            let here = doors.iter().filter(here).map(|door| door.listener).chain(on_nodes.copied());
            here.map(move |listener| (address, listener))
        })
    }

    fn is_everywhere(&self, bind: IpAddr, ip: IpAddr) -> bool {
        let is_own = ip.is_loopback() || self.own.contains(&ip);
        bind.is_unspecified() && bind.is_ipv4() == ip.is_ipv4() && is_own
    }

    /// Whether sessions to an endpoint reach the admin endpoint of a pod.
    pub(crate) fn leads_to_pods_admin(&self, endpoint: &EndpointSource) -> bool {
        addresses(endpoint).any(|address| self.admin.contains(&address))
    }

    /// Whether sessions to an endpoint reach a socket of this address that isn't a listener's.
    pub(crate) fn leads_to(&self, endpoint: &EndpointSource, socket: SocketAddr) -> bool {
        let bind = socket.ip().to_canonical();
        addresses(endpoint).any(|address| {
            address.port() == socket.port()
                && (address.ip() == bind || self.is_everywhere(bind, address.ip()))
        })
    }
}

/// Whether a Service leads to a Gateway's proxies.
pub(crate) fn selects(service: &Service, gateway: &GatewayNode) -> bool {
    let selector = &service.spec.selector;
    let metadata = &gateway.object.metadata;
    let labels = pod_labels(gateway);
    service.metadata.namespace == metadata.namespace
        && !selector.is_empty()
        && selector.iter().all(|(label, value)| labels.get(&**label) == Some(&&**value))
}

/// The labels of a Gateway's pods, but for those whose value is shortened.
fn pod_labels(gateway: &GatewayNode) -> BTreeMap<&str, &str> {
    let spec = &gateway.object.spec;
    let asked = spec.infrastructure.iter().flat_map(|infrastructure| &infrastructure.labels);
    let mut labels: BTreeMap<&str, &str> =
        asked.map(|(label, value)| (label.as_ref(), value.as_ref())).collect();
    let own = [
        ("app.kubernetes.io/managed-by", "l4way"),
        ("app.kubernetes.io/name", "l4way-proxy"),
        ("gateway.networking.k8s.io/gateway-name", &*gateway.object.metadata.name),
        ("gateway.networking.k8s.io/gateway-class-name", &*spec.gateway_class_name),
    ];
    labels.extend(own.into_iter().filter(|(_, value)| value.len() <= LONGEST_LABEL));
    labels
}

/// The listeners that a port of a Gateway's Service leads to.
pub(crate) fn behind<'a>(
    graph: &'a Graph,
    gateway: &'a GatewayNode,
    port: &ServicePort,
) -> impl Iterator<Item = &'a ListenerNode> {
    let (number, protocol) = (target_port(port), port.protocol.clone());
    graph.listeners_of(gateway).filter(move |listener| {
        let transport = listener.runs_on().map(transport_name);
        number == Some(listener.port) && transport == Some(&*protocol)
    })
}

/// Whether a port of a Service that leads to proxies leads to their admin endpoints.
pub(crate) fn leads_to_admin(port: &ServicePort) -> bool {
    target_port(port) == Some(POD_ADMIN_PORT) && &*port.protocol == transport_name(Transport::Tcp)
}

/// The pod's port that a Service's leads to; `None` if it goes by a name, which the proxies' ports don't have.
fn target_port(port: &ServicePort) -> Option<u16> {
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(_)) => None,
    }
}

/// The addresses that an endpoint says itself, as they are connected to: the unspecified one means loopback.
fn addresses(endpoint: &EndpointSource) -> impl Iterator<Item = SocketAddr> {
    let (ips, port) = match endpoint {
        EndpointSource::Address(endpoint) => match &endpoint.address {
            EndpointAddress::Ip(address) => ([Some(address.ip()), None], address.port()),
            EndpointAddress::Unix(_) => ([None, None], 0),
        },
        EndpointSource::Dns { hostname, port } => {
            let hostname = hostname.trim_end_matches('.').to_ascii_lowercase();
            // RFC 6761, section 6.3.
            let is_localhost = hostname == "localhost" || hostname.ends_with(".localhost");
            match is_localhost {
                true => {
                    ([Some(Ipv4Addr::LOCALHOST.into()), Some(Ipv6Addr::LOCALHOST.into())], *port)
                }
                false => ([hostname.parse().ok(), None], *port),
            }
        }
    };
    ips.into_iter().flatten().map(move |ip| SocketAddr::new(connected_to(ip), port))
}
