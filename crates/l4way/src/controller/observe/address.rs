//! The addresses that a Gateway is reached on.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use l4way_resources::{
    Store,
    api::{Gateway, ObjectKey},
    status::StatusAddress,
};
use l4way_translate::ProxyAddresses;
use serde_json::Value;

use super::{
    is_ready,
    pod::{is_live, is_true},
    pods,
};
use crate::controller::{
    cluster::Cluster,
    objects::ServiceType,
    ownership::{Owned, Owner},
};

/// An address, as what it is.
fn address(value: &str) -> StatusAddress {
    let kind = if value.parse::<IpAddr>().is_ok() { "IPAddress" } else { "Hostname" };
    StatusAddress { kind: kind.into(), value: value.to_owned() }
}

/// What a load balancer has given the Service.
pub(super) fn of_ingress(service: &Value) -> Vec<StatusAddress> {
    let ingress = service["status"]["loadBalancer"]["ingress"].as_array();
    let given = ingress.into_iter().flatten();
    given
        .filter_map(|given| given["ip"].as_str().or(given["hostname"].as_str()))
        .map(address)
        .collect()
}

/// The addresses that the Service has inside of the cluster.
pub(super) fn of_cluster(service: &Value) -> Vec<StatusAddress> {
    let ips = service["spec"]["clusterIPs"].as_array().into_iter().flatten();
    ips.filter_map(Value::as_str).filter(|ip| *ip != "None").map(address).collect()
}

/// The nodes' addresses: of all of them, or of those with a ready proxy among these objects. The
/// address for the outside wins where a node has one.
pub(super) fn of_nodes(
    nodes: &BTreeMap<ObjectKey, Arc<Value>>,
    with_proxies: Option<&Owned>,
) -> Vec<StatusAddress> {
    let with_proxies: Option<BTreeSet<_>> = with_proxies.map(|owned| {
        let ready = pods(owned).filter(|(_, pod)| is_ready(pod));
        ready.filter_map(|(_, pod)| pod["spec"]["nodeName"].as_str()).collect()
    });
    let nodes = nodes.iter().filter(|(key, node)| match &with_proxies {
        Some(names) => names.contains(&*key.name),
        None => is_true(node, "Ready"),
    });
    let mut addresses: Vec<_> = nodes.flat_map(|(_, node)| of_node(node)).collect();
    addresses.dedup();
    addresses
}

fn of_node(node: &Value) -> Vec<StatusAddress> {
    let all = node["status"]["addresses"].as_array();
    let of_type = |kind: &str| {
        let of_type = all.into_iter().flatten().filter(|each| each["type"] == kind);
        of_type.filter_map(|each| each["address"].as_str()).map(address).collect::<Vec<_>>()
    };
    let external = of_type("ExternalIP");
    if external.is_empty() { of_type("InternalIP") } else { external }
}

/// Where the proxies of Gateways are: what routes could lead back to.
pub(crate) fn of_proxies(gateways: &Store<Gateway>, cluster: &Cluster) -> ProxyAddresses {
    let pods = gateways.iter().filter_map(|(key, gateway)| {
        let owned = cluster.of(&Owner::of(&gateway.metadata));
        let live = pods(owned).filter(|(_, pod)| is_live(pod));
        let addresses: BTreeSet<_> =
            live.flat_map(|(_, pod)| of_pod(pod, &cluster.nodes)).collect();
        (!addresses.is_empty()).then(|| (key.clone(), addresses))
    });
    ProxyAddresses {
        pods: pods.collect(),
        nodes: cluster.nodes.values().flat_map(|node| all_of_node(node)).collect(),
    }
}

/// The addresses of a pod; in the host network all those of its node.
fn of_pod(pod: &Value, nodes: &BTreeMap<ObjectKey, Arc<Value>>) -> Vec<IpAddr> {
    let ips = pod["status"]["podIPs"].as_array().into_iter().flatten();
    let ips = ips.filter_map(|each| each["ip"].as_str()?.parse().ok());
    let node = pod["spec"]["nodeName"].as_str().filter(|_| pod["spec"]["hostNetwork"] == true);
    let node = node.and_then(|name| nodes.get(&ObjectKey::new("", name)));
    ips.chain(node.into_iter().flat_map(|node| all_of_node(node))).collect()
}

/// All addresses of a node, whoever they are for.
fn all_of_node(node: &Value) -> impl Iterator<Item = IpAddr> {
    let all = node["status"]["addresses"].as_array().into_iter().flatten();
    all.filter_map(|each| each["address"].as_str()?.parse().ok())
}

/// Why the Service has no address, and what to do.
pub(super) fn why_pending(kind: ServiceType, key: &ObjectKey, why_not: Option<&str>) -> String {
    match (kind, why_not) {
        (ServiceType::LoadBalancer, Some(why_not)) => {
            format!("Service {key} has no address: {why_not}")
        }
        (ServiceType::LoadBalancer, None) => format!(
            "Service {key} has no address yet. If this lasts, nothing in the cluster gives out \
             addresses for Services of type LoadBalancer: install a load balancer such as MetalLB, \
             run `minikube tunnel`, or choose spec.service.type NodePort in GatewayParameters."
        ),
        (ServiceType::NodePort, _) => format!(
            "Service {key} is on its nodes' addresses, and no node has a proxy that is ready."
        ),
        (ServiceType::ClusterIp | ServiceType::HostNetwork, _) => {
            format!("Service {key} has no address yet.")
        }
    }
}
