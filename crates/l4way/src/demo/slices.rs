use std::{collections::BTreeMap, sync::Arc};

use l4way_model::Transport;
use l4way_resources::{
    Snapshot,
    api::{
        Deployment, EndpointConditions, EndpointPort, EndpointSlice, IntOrString, ObjectKey,
        ObjectMeta, Service, ServicePort, SliceEndpoint,
    },
};

use super::pod::Pod;

/// The label by which a controller knows its own slices, and the value for ours.
const MANAGED_BY: (&str, &str) = ("endpointslice.kubernetes.io/managed-by", "demo.l4way.dev");

/// Adds EndpointSlices that lead the snapshot's Services to the pods, as the cluster's controller
/// would: for Services with a selector, by the labels of the pods' template. A Service that has a
/// slice already is left alone.
pub(super) fn add(snapshot: &mut Snapshot, pods: &BTreeMap<(ObjectKey, u32), Pod>) {
    let slices: Vec<EndpointSlice> = snapshot
        .services
        .iter()
        .filter(|(key, service)| wants_slices(service) && !has_slices(snapshot, key))
        .flat_map(|(key, service)| slices(key, service, snapshot, pods))
        .collect();
    for slice in slices {
        snapshot.endpoint_slices.insert(slice.metadata.key(), Arc::new(slice));
    }
}

fn wants_slices(service: &Service) -> bool {
    !service.spec.selector.is_empty() && service.spec.kind.as_deref() != Some("ExternalName")
}

fn has_slices(snapshot: &Snapshot, service: &ObjectKey) -> bool {
    snapshot.endpoint_slices.iter().any(|(key, slice)| {
        key.namespace == service.namespace && slice.service_name() == Some(&service.name)
    })
}

/// The Service's slices: one for each set of ports that its pods have.
fn slices(
    key: &ObjectKey,
    service: &Service,
    snapshot: &Snapshot,
    pods: &BTreeMap<(ObjectKey, u32), Pod>,
) -> Vec<EndpointSlice> {
    let mut by_ports: Vec<(Vec<EndpointPort>, Vec<SliceEndpoint>)> = Vec::new();
    for ((owner, _), pod) in pods {
        let Some(deployment) = snapshot.deployments.get(owner) else { continue };
        if owner.namespace != key.namespace || !selects(service, deployment) {
            continue;
        }
        let ports = ports(service, deployment, pod);
        let endpoint = endpoint(pod);
        match by_ports.iter_mut().find(|(known, _)| *known == ports) {
            Some((_, endpoints)) => endpoints.push(endpoint),
            None => by_ports.push((ports, vec![endpoint])),
        }
    }
    by_ports
        .into_iter()
        .enumerate()
        .map(|(index, (ports, endpoints))| EndpointSlice {
            metadata: metadata(key, index),
            address_type: "IPv4".into(),
            endpoints,
            ports,
        })
        .collect()
}

fn selects(service: &Service, deployment: &Deployment) -> bool {
    let labels = &deployment.spec.template.metadata.labels;
    service.spec.selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Where the Service's ports are in the pod; without those that it names otherwise, or not at all.
fn ports(service: &Service, deployment: &Deployment, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service.spec.ports.iter().filter_map(|port| {
        let transport = match &*port.protocol {
            "TCP" => Transport::Tcp,
            "UDP" => Transport::Udp,
            _ => return None,
        };
        let target = target_port(port, deployment)?;
        Some(EndpointPort {
            name: Some(port.name.clone()),
            protocol: Some(port.protocol.clone()),
            port: Some(pod.bound_port(transport, target)),
        })
    });
    ports.collect()
}

/// The pod's port that a Service's port is for: by number, or by the name that a container of the
/// pod gives a port of the same protocol.
fn target_port(port: &ServicePort, deployment: &Deployment) -> Option<u16> {
    let name = match &port.target_port {
        None => return Some(port.port),
        Some(IntOrString::Int(number)) => return Some(*number),
        Some(IntOrString::String(name)) => name,
    };
    let containers = &deployment.spec.template.spec.containers;
    containers
        .iter()
        .flat_map(|container| &container.ports)
        .find(|named| named.name.as_ref() == Some(name) && named.protocol == port.protocol)
        .map(|named| named.container_port)
}

fn endpoint(pod: &Pod) -> SliceEndpoint {
    SliceEndpoint {
        addresses: vec![pod.address().to_string().into()],
        conditions: EndpointConditions {
            ready: Some(true),
            serving: Some(true),
            terminating: Some(false),
        },
        zone: None,
        hints: None,
    }
}

fn metadata(service: &ObjectKey, index: usize) -> ObjectMeta {
    let labels = [(EndpointSlice::SERVICE_NAME_LABEL, &*service.name), MANAGED_BY];
    ObjectMeta {
        name: format!("{}-l4way-demo-{index}", service.name).into(),
        namespace: service.namespace.clone(),
        labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        ..ObjectMeta::default()
    }
}
