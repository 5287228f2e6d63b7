use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use l4way_model::{BackendId, BackendSource, Endpoint, EndpointSource, ServicePort, Transport};
use l4way_resources::{
    GATEWAY_GROUP, L4WAY_GROUP, Snapshot, Store,
    api::{self, BackendEndpoint, BackendRef, ExternalBackend, ObjectKey, RouteKind, Service},
};

use super::{
    CrossReference, Grants, Policies,
    endpoint::{self, Slices},
    policy::OfBackend,
    refused, transport_name,
};
use crate::{
    Settings,
    conditions::{ref_not_permitted, route as conditions},
    finding::Outcome,
    suggest,
};

/// A backend that some route refers to and may use.
#[derive(Clone, Debug)]
pub(crate) struct BackendNode {
    /// Where its sessions may go.
    pub(crate) source: BackendSource,
    /// What it is, if it may lead out of the cluster.
    pub(crate) external: Option<ExternalBackend>,
    /// Why it has no endpoint, or fewer than there are, and what to do.
    pub(crate) warning: Option<String>,
}

/// Looks up what backendRefs refer to, and collects the backends.
pub(crate) struct Backends<'a> {
    snapshot: &'a Snapshot,
    grants: &'a Grants<'a>,
    slices: Slices<'a>,
    policies: &'a Policies<'a>,
    zone: Option<Arc<str>>,
    local_endpoints: bool,
    in_cluster: bool,
    knows_slices: bool,
    nodes: BTreeMap<BackendId, BackendNode>,
}

impl<'a> Backends<'a> {
    pub(crate) fn new(
        snapshot: &'a Snapshot,
        grants: &'a Grants<'a>,
        policies: &'a Policies<'a>,
        settings: &Settings,
    ) -> Self {
        Self {
            snapshot,
            grants,
            slices: Slices::new(&snapshot.endpoint_slices),
            policies,
            zone: settings.zone.clone(),
            local_endpoints: settings.local_endpoints,
            in_cluster: settings.in_cluster,
            knows_slices: settings.knows_slices,
            nodes: BTreeMap::new(),
        }
    }

    /// Every backend that was resolved.
    pub(crate) fn into_nodes(self) -> BTreeMap<BackendId, BackendNode> {
        self.nodes
    }

    /// What a backend that was resolved is, if it may lead out of the cluster.
    pub(crate) fn external(&self, id: &BackendId) -> Option<ExternalBackend> {
        self.nodes.get(id)?.external
    }

    /// Whether what a backendRef of a route in `namespace` refers to is there and can't be used, which
    /// has been told.
    pub(crate) fn is_refused(&self, namespace: &Arc<str>, reference: &BackendRef) -> bool {
        let namespace = reference.namespace.as_ref().unwrap_or(namespace);
        let key = ObjectKey { namespace: namespace.clone(), name: reference.name.clone() };
        let is_there = match &*reference.kind {
            "Service" => self.snapshot.services.contains_key(&key),
            _ => self.snapshot.backends.contains_key(&key),
        };
        !is_there && self.snapshot.refused(&reference.kind, &key).is_some()
    }

    /// What a backendRef of a route in `namespace` refers to.
    ///
    /// # Errors
    /// The outcome for the route if it can't be used.
    pub(crate) fn resolve(
        &mut self,
        kind: RouteKind,
        namespace: &Arc<str>,
        reference: &BackendRef,
    ) -> Result<BackendId, Outcome> {
        let target = (&*reference.group, &*reference.kind);
        if target != ("", "Service") && target != (L4WAY_GROUP, "Backend") {
            return Err(conditions::invalid_kind(format!(
                "{} of group {:?} can't be a backend; use a Service, or a Backend of group \
                 {L4WAY_GROUP}{}",
                reference.kind,
                reference.group,
                suggest::of_group(&reference.group)
            )));
        }
        let key = ObjectKey {
            namespace: reference.namespace.clone().unwrap_or_else(|| namespace.clone()),
            name: reference.name.clone(),
        };
        let crossing = CrossReference {
            from: (GATEWAY_GROUP, kind.as_str()),
            from_namespace: namespace,
            to: target,
            to_namespace: &key.namespace,
            to_name: &key.name,
        };
        self.grants.check(crossing).map_err(ref_not_permitted)?;
        if target.1 == "Service" {
            self.service(transport(kind), &key, reference.port)
        } else {
            self.backend(transport(kind), &key)
        }
    }

    /// Looks up a backend that no route need refer to.
    pub(crate) fn look_up(&mut self, id: &BackendId) {
        let key = ObjectKey { namespace: id.namespace.clone(), name: id.name.clone() };
        // If it can't be used, it isn't there.
        let _ = match &*id.kind {
            "Service" => self.service(id.transport, &key, id.port),
            _ => self.backend(id.transport, &key),
        };
    }

    fn service(
        &mut self,
        transport: Transport,
        key: &ObjectKey,
        port: Option<u16>,
    ) -> Result<BackendId, Outcome> {
        let service = find(self.snapshot, "Service", &self.snapshot.services, key)?;
        let number = port.ok_or_else(|| {
            conditions::unsupported_value(format!(
                "the reference to Service {key} needs a port; it has {}",
                ports(service)
            ))
        })?;
        let port = match service_port(service, number, transport) {
            Err(outcome) if !is_external(service) => return Err(outcome),
            // An ExternalName Service's ports are only hints.
            port => port.ok(),
        };
        let id = id("Service", key, Some(number), transport);
        if !self.nodes.contains_key(&id) {
            let node = match port.filter(|_| !is_external(service)) {
                Some(port) => self.service_node(service, port, transport),
                None => external_node(service, number),
            };
            self.check_local("Service", key, &node.source)?;
            self.nodes.insert(id.clone(), node);
        }
        Ok(id)
    }

    /// Refuses a backend on the proxy's own host, where sessions may not go there.
    fn check_local(
        &self,
        kind: &str,
        key: &ObjectKey,
        source: &BackendSource,
    ) -> Result<(), Outcome> {
        let BackendSource::Known(endpoints) = source else { return Ok(()) };
        let is_local = |endpoint: &&EndpointSource| match endpoint {
            EndpointSource::Address(endpoint) => endpoint.is_local(),
            EndpointSource::Dns { hostname, .. } => is_local_name(hostname),
        };
        match endpoints.iter().find(is_local) {
            Some(local) if !self.local_endpoints => Err(conditions::unsupported_value(format!(
                "endpoint {local} of {kind} {key} is on the proxy's own host, where routes may not \
                 send sessions; use addresses of other hosts"
            ))),
            _ => Ok(()),
        }
    }

    fn service_node(
        &self,
        service: &'a Service,
        port: &api::ServicePort,
        transport: Transport,
    ) -> BackendNode {
        let slices = self.slices.of(service);
        let zone = self.zone.as_deref();
        let port = ServicePort {
            name: port.name.clone(),
            publish_not_ready: service.spec.publish_not_ready_addresses,
        };
        let endpoints = endpoint::service_endpoints(&port, transport, slices, zone);
        let warning = (endpoints.is_empty() && self.knows_slices).then(|| {
            let key = service.metadata.key();
            if slices.is_empty() && !self.in_cluster {
                format!(
                    "Service {key} has no EndpointSlice: sessions to it are refused; add one, refer \
                     to a Backend, or run with --demo-backends if its pods are echoes"
                )
            } else if slices.iter().all(|slice| slice.endpoints.is_empty()) {
                no_pod(service)
            } else if !slices.iter().any(|slice| endpoint::has_port(slice, &port, transport)) {
                format!(
                    "no EndpointSlice of Service {key} has a {transport} port named {:?}: \
                     sessions to it are refused; a slice's port has the Service port's name",
                    port.name
                )
            } else {
                format!("no endpoint of Service {key} is ready: sessions to it are refused")
            }
        });
        let source = if self.in_cluster {
            BackendSource::Slices(port)
        } else {
            BackendSource::Known(endpoints)
        };
        BackendNode { source, external: None, warning }
    }

    fn backend(&mut self, transport: Transport, key: &ObjectKey) -> Result<BackendId, Outcome> {
        let backend = find(self.snapshot, "Backend", &self.snapshot.backends, key)?;
        let is_unix = |endpoint: &BackendEndpoint| matches!(endpoint, BackendEndpoint::Unix(_));
        if transport == Transport::Udp && backend.spec.endpoints.iter().any(is_unix) {
            return Err(conditions::unsupported_protocol(format!(
                "Backend {key} has a unix endpoint, which takes no datagrams; give it only ip and \
                 fqdn endpoints, or refer to it from a TCPRoute"
            )));
        }
        let id = id("Backend", key, None, transport);
        if !self.nodes.contains_key(&id) {
            let endpoints = endpoint::of_backend(backend);
            let warning = endpoints.is_empty().then(|| format!("Backend {key} has no endpoint"));
            let source = BackendSource::Known(endpoints);
            self.check_local("Backend", key, &source)?;
            let node = BackendNode { source, external: Some(ExternalBackend::Backend), warning };
            self.nodes.insert(id.clone(), node);
        }
        Ok(id)
    }

    /// The policies that are about what a backendRef of a route in `namespace` refers to, whether or
    /// not it is there.
    pub(crate) fn policies(
        &self,
        kind: RouteKind,
        namespace: &Arc<str>,
        reference: &BackendRef,
    ) -> OfBackend {
        let namespace = reference.namespace.as_ref().unwrap_or(namespace);
        let key = ObjectKey::new(namespace.clone(), reference.name.clone());
        match (&*reference.group, &*reference.kind) {
            _ if kind == RouteKind::Udp => OfBackend::default(),
            ("", "Service") => {
                let service = self.snapshot.services.get(&key);
                let port = service.zip(reference.port).and_then(|(service, number)| {
                    service_port(service, number, transport(kind)).ok()
                });
                self.policies.of("Service", &key, port.map(|port| &*port.name))
            }
            (L4WAY_GROUP, "Backend") => self.policies.of("Backend", &key, None),
            _ => OfBackend::default(),
        }
    }
}

fn is_external(service: &Service) -> bool {
    service.spec.kind.as_deref() == Some("ExternalName")
}

/// A Service that is another name for a host.
fn external_node(service: &Service, port: u16) -> BackendNode {
    let hostname = service.spec.external_name.clone().filter(|hostname| !hostname.is_empty());
    let key = service.metadata.key();
    let warning = match &hostname {
        None => Some(format!("ExternalName Service {key} has no externalName")),
        // Kubernetes takes it for a name that looks like one (`ServiceSpec.externalName`).
        Some(address) if address.trim_end_matches('.').parse::<IpAddr>().is_ok() => Some(format!(
            "the externalName of Service {key} is the address {address}, and DNS has no such name: \
             sessions to it are refused; use a Service with an EndpointSlice, or a Backend with ip"
        )),
        Some(_) => None,
    };
    let endpoints = hostname.map(|hostname| EndpointSource::Dns { hostname, port });
    BackendNode {
        source: BackendSource::Known(endpoints.into_iter().collect()),
        external: Some(ExternalBackend::ExternalName),
        warning,
    }
}

/// Whether the name, or address, of a host means the host that looks it up.
fn is_local_name(hostname: &str) -> bool {
    let hostname = hostname.trim_end_matches('.').to_ascii_lowercase();
    let address = hostname.parse::<IpAddr>().ok();
    hostname == "localhost"
        || hostname.ends_with(".localhost")
        || address.is_some_and(|ip| Endpoint::from(SocketAddr::new(ip, 0)).is_local())
}

/// What to say of a Service that has no endpoint, ready or not.
fn no_pod(service: &Service) -> String {
    let key = service.metadata.key();
    let selector = &service.spec.selector;
    if selector.is_empty() {
        return format!(
            "Service {key} has no endpoint and no selector: sessions to it are refused; give it a \
             selector, or EndpointSlices"
        );
    }
    let labels: Vec<_> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!(
        "Service {key} has no endpoint, as no pod has the labels of its selector ({}): sessions to \
         it are refused; compare them with the labels of your pods",
        labels.join(",")
    )
}

/// The object of this name. If there is none, those beside it may have the name that was meant.
fn find<'s, T>(
    snapshot: &Snapshot,
    kind: &str,
    store: &'s Store<T>,
    key: &ObjectKey,
) -> Result<&'s Arc<T>, Outcome> {
    store.get(key).ok_or_else(|| {
        let beside = store
            .range(ObjectKey::new(key.namespace.clone(), "")..)
            .take_while(|(other, _)| other.namespace == key.namespace)
            .map(|(other, _)| &*other.name);
        let why =
            refused::why_missing(snapshot, kind, key, || suggest::did_you_mean(&key.name, beside));
        conditions::backend_not_found(format!("{kind} {key} {why}"))
    })
}

/// The Service's port of this number and transport.
fn service_port(
    service: &Service,
    number: u16,
    transport: Transport,
) -> Result<&api::ServicePort, Outcome> {
    let mut numbered = service.spec.ports.iter().filter(|port| port.port == number).peekable();
    if numbered.peek().is_none() {
        return Err(conditions::backend_not_found(format!(
            "Service {} has no port {number}; it has {}",
            service.metadata.key(),
            ports(service)
        )));
    }
    numbered.find(|port| &*port.protocol == transport_name(transport)).ok_or_else(|| {
        conditions::unsupported_protocol(format!(
            "port {number} of Service {} doesn't speak {transport}; it has {}",
            service.metadata.key(),
            ports(service)
        ))
    })
}

fn ports(service: &Service) -> String {
    let ports: Vec<_> =
        service.spec.ports.iter().map(|port| format!("{}/{}", port.port, port.protocol)).collect();
    if ports.is_empty() { "no ports".into() } else { format!("ports {}", ports.join(", ")) }
}

fn transport(kind: RouteKind) -> Transport {
    match kind {
        RouteKind::Udp => Transport::Udp,
        RouteKind::Tcp | RouteKind::Tls | RouteKind::Http => Transport::Tcp,
    }
}

fn id(kind: &str, key: &ObjectKey, port: Option<u16>, transport: Transport) -> BackendId {
    BackendId {
        kind: kind.into(),
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        port,
        transport,
    }
}
