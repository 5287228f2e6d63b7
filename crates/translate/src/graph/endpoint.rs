//! Which addresses a backend's sessions may go to.

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use l4way_model::{Endpoint, EndpointAddress, EndpointSource, ServicePort, Transport};
use l4way_resources::{
    Store,
    api::{Backend, BackendEndpoint, EndpointSlice, Service, SliceEndpoint},
};

use super::transport_name;

/// EndpointSlices by the namespace and name of their Service.
pub(crate) struct Slices<'a>(HashMap<(&'a str, &'a str), Vec<&'a EndpointSlice>>);

impl<'a> Slices<'a> {
    pub(crate) fn new(slices: &'a Store<EndpointSlice>) -> Self {
        let mut by_service: HashMap<_, Vec<&EndpointSlice>> = HashMap::new();
        for slice in slices.values() {
            if let Some(service) = slice.service_name() {
                let key = (slice.metadata.namespace.as_ref(), service);
                by_service.entry(key).or_default().push(slice);
            }
        }
        Self(by_service)
    }

    /// The EndpointSlices of a Service.
    pub(crate) fn of(&self, service: &'a Service) -> &[&'a EndpointSlice] {
        let key = (service.metadata.namespace.as_ref(), service.metadata.name.as_ref());
        self.0.get(&key).map_or(&[], Vec::as_slice)
    }
}

/// The endpoints of one port of a Service that may take new sessions, as kube-proxy chooses them:
/// those that are ready, else those that still serve while they terminate. If each of them says
/// which zones should use it, those for `zone` if there are any.
pub fn service_endpoints(
    port: &ServicePort,
    transport: Transport,
    slices: &[&EndpointSlice],
    zone: Option<&str>,
) -> Vec<EndpointSource> {
    let all: Vec<_> = slices
        .iter()
        .flat_map(|slice| slice_ports(slice, port, transport).map(move |port| (*slice, port)))
        .flat_map(|(slice, port)| slice.endpoints.iter().map(move |e| (slice, port, e)))
        .collect();
    let mut usable: Vec<_> = all
        .iter()
        .filter(|(_, _, endpoint)| port.publish_not_ready || is_ready(endpoint))
        .collect();
    if usable.is_empty() {
        usable = all.iter().filter(|(_, _, endpoint)| still_serves(endpoint)).collect();
    }
    if let Some(zone) = zone.filter(|_| usable.iter().all(|(_, _, endpoint)| has_hints(endpoint))) {
        let near: Vec<_> =
            usable.iter().copied().filter(|(_, _, e)| is_hinted_for(e, zone)).collect();
        if !near.is_empty() {
            usable = near;
        }
    }
    let sources: BTreeSet<_> =
        usable.into_iter().filter_map(|(slice, port, e)| source(slice, *port, e)).collect();
    sources.into_iter().collect()
}

/// Whether the slice knows the Service's port.
pub(crate) fn has_port(slice: &EndpointSlice, port: &ServicePort, transport: Transport) -> bool {
    slice_ports(slice, port, transport).next().is_some()
}

/// The numbers of a Service's port in a slice, which knows it by its name. A slice already has
/// the number that `targetPort` comes to, which may differ from slice to slice.
fn slice_ports<'a>(
    slice: &'a EndpointSlice,
    port: &'a ServicePort,
    transport: Transport,
) -> impl Iterator<Item = u16> + 'a {
    let wanted = transport_name(transport);
    slice
        .ports
        .iter()
        .filter(move |candidate| {
            candidate.name.as_deref().unwrap_or_default() == &*port.name
                && candidate.protocol.as_deref().unwrap_or("TCP") == wanted
        })
        .filter_map(|port| port.port)
}

fn is_ready(endpoint: &SliceEndpoint) -> bool {
    endpoint.conditions.ready.unwrap_or(true)
}

fn still_serves(endpoint: &SliceEndpoint) -> bool {
    let conditions = &endpoint.conditions;
    conditions.serving.unwrap_or(true) && conditions.terminating.unwrap_or(false)
}

fn has_hints(endpoint: &SliceEndpoint) -> bool {
    endpoint.hints.as_ref().is_some_and(|hints| !hints.for_zones.is_empty())
}

fn is_hinted_for(endpoint: &SliceEndpoint, zone: &str) -> bool {
    endpoint.hints.iter().flat_map(|hints| &hints.for_zones).any(|hinted| &*hinted.name == zone)
}

fn source(slice: &EndpointSlice, port: u16, endpoint: &SliceEndpoint) -> Option<EndpointSource> {
    if &*slice.address_type == "FQDN" {
        let hostname = endpoint.addresses.first()?.clone();
        return Some(EndpointSource::Dns { hostname, port });
    }
    Some(address(endpoint.ip()?, port))
}

fn address(ip: IpAddr, port: u16) -> EndpointSource {
    EndpointSource::Address(SocketAddr::new(ip, port).into())
}

/// The endpoints of a Backend.
pub(crate) fn of_backend(backend: &Backend) -> Vec<EndpointSource> {
    let sources: BTreeSet<_> = backend
        .spec
        .endpoints
        .iter()
        .map(|endpoint| match endpoint {
            BackendEndpoint::Ip(ip) => address(ip.address, ip.port),
            BackendEndpoint::Fqdn(fqdn) => {
                EndpointSource::Dns { hostname: fqdn.hostname.clone(), port: fqdn.port }
            }
            BackendEndpoint::Unix(unix) => EndpointSource::Address(Endpoint {
                address: EndpointAddress::Unix(Arc::new(unix.path.clone())),
            }),
        })
        .collect();
    sources.into_iter().collect()
}
