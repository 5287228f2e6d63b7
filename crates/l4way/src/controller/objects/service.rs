//! The Service in front of a Gateway's proxies, which has the Gateway's address.

use l4way_resources::api::GatewayParametersSpec;
use serde_json::{Value, json};

use super::{Common, Kind, Object};

/// The annotation by which MetalLB takes several addresses; `spec.loadBalancerIP` holds one.
const METALLB_ADDRESSES: &str = "metallb.io/loadBalancerIPs";

/// How the Gateway's ports are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServiceType {
    LoadBalancer,
    NodePort,
    ClusterIp,
    /// On the nodes' own addresses, without a Service.
    HostNetwork,
}

/// What the parameters ask for.
pub(crate) fn service_type(parameters: &GatewayParametersSpec) -> ServiceType {
    if parameters.host_network == Some(true) {
        return ServiceType::HostNetwork;
    }
    let kind = parameters.service.as_ref().and_then(|service| service.kind.as_deref());
    match kind {
        Some("NodePort") => ServiceType::NodePort,
        Some("ClusterIP") => ServiceType::ClusterIp,
        _ => ServiceType::LoadBalancer,
    }
}

/// Whether the Service keeps to the node where a session arrives, so that the proxies see the
/// clients' addresses.
pub(crate) fn is_local(parameters: &GatewayParametersSpec) -> bool {
    let service = parameters.service.as_ref();
    service.and_then(|service| service.external_traffic_policy.as_deref()) != Some("Cluster")
}

/// The Service, if the Gateway has ports that want one.
pub(super) fn service(common: &Common<'_>) -> Option<Object> {
    let provision = common.provision;
    let parameters = &provision.parameters;
    let kind = match service_type(parameters) {
        ServiceType::LoadBalancer => "LoadBalancer",
        ServiceType::NodePort => "NodePort",
        ServiceType::ClusterIp => "ClusterIP",
        ServiceType::HostNetwork => return None,
    };
    if provision.ports.is_empty() {
        return None;
    }
    let ports = provision.ports.iter().map(|(port, transport)| {
        let protocol = transport.to_string();
        json!({
            "name": format!("{}-{port}", protocol.to_lowercase()),
            "port": port,
            "protocol": protocol,
            "targetPort": port,
        })
    });
    let mut spec = json!({
        "type": kind,
        "selector": common.selector(),
        "ports": ports.collect::<Vec<_>>(),
    });
    if kind != "ClusterIP" {
        spec["externalTrafficPolicy"] =
            if is_local(parameters) { "Local" } else { "Cluster" }.into();
    }
    let asked = parameters.service.as_ref();
    let mut annotations = asked.and_then(|asked| asked.annotations.clone()).unwrap_or_default();
    if kind == "LoadBalancer" {
        if let Some(class) = asked.and_then(|asked| asked.load_balancer_class.as_deref()) {
            spec["loadBalancerClass"] = class.into();
        }
        match &*provision.addresses {
            [] => {}
            [address] => spec["loadBalancerIP"] = address.to_string().into(),
            // MetalLB refuses a Service that has both.
            addresses => {
                let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                annotations.insert(METALLB_ADDRESSES.to_owned(), addresses.join(","));
            }
        }
    }
    let mut service = common.named(Kind::Service, json!({ "spec": spec }));
    for (key, value) in annotations {
        service.value["metadata"]["annotations"][key] = Value::String(value);
    }
    Some(service)
}
