//! What is made in the cluster.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::cluster::Kind;

/// The port of every application, and of its Service.
pub(crate) const APPLICATION_PORT: u16 = 5000;

/// How an application is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }

    pub(crate) fn route(self) -> Kind {
        match self {
            Self::Tcp => Kind::TCP_ROUTE,
            Self::Udp => Kind::UDP_ROUTE,
        }
    }
}

/// An application that answers with its text or, without one, with what it is sent.
pub(crate) fn application(name: &str, transport: Transport, text: &str) -> Value {
    let mut args = vec![format!("-listen=:{APPLICATION_PORT}"), format!("-text={text}")];
    if transport == Transport::Udp {
        args.push("-udp".to_owned());
    }
    let container = json!({
        "name": "echo",
        "image": "docker.io/hashicorp/http-echo:latest",
        "imagePullPolicy": "IfNotPresent",
        "args": args,
    });
    let pod = json!({ "terminationGracePeriodSeconds": 1, "containers": [container] });
    Kind::DEPLOYMENT.object(
        name,
        json!({ "spec": {
            "replicas": 1,
            "selector": { "matchLabels": { "app": name } },
            "template": { "metadata": { "labels": { "app": name } }, "spec": pod },
        }}),
    )
}

/// A Service in front of the application of this name, or of nothing that has a label.
pub(crate) fn service(name: &str, transport: Transport, selects: bool) -> Value {
    let port = json!({ "protocol": transport.name(), "port": APPLICATION_PORT });
    let mut spec = json!({ "ports": [port] });
    if selects {
        spec["selector"] = json!({ "app": name });
    }
    Kind::SERVICE.object(name, json!({ "spec": spec }))
}

/// The endpoint of a Service that selects nothing.
pub(crate) fn slice(name: &str, service: &str, endpoint: IpAddr) -> Value {
    Kind::SLICE.object(
        name,
        json!({
            "metadata": { "labels": { "kubernetes.io/service-name": service } },
            "addressType": if endpoint.is_ipv4() { "IPv4" } else { "IPv6" },
            "endpoints": [{ "addresses": [endpoint], "conditions": { "ready": true } }],
            "ports": [{ "name": "", "protocol": "TCP", "port": APPLICATION_PORT }],
        }),
    )
}

/// A listener.
pub(crate) fn listener(name: &str, transport: Transport, port: u16) -> Value {
    json!({ "name": name, "protocol": transport.name(), "port": port })
}

/// A Gateway with these listeners.
pub(crate) fn gateway(name: &str, class: &str, listeners: &[Value]) -> Value {
    let spec = json!({ "gatewayClassName": class, "listeners": listeners });
    Kind::GATEWAY.object(name, json!({ "spec": spec }))
}

/// A route from all of a Gateway's listeners of its protocol to Services with these weights.
pub(crate) fn route(
    name: &str,
    transport: Transport,
    gateway: &str,
    services: &[(&str, u32)],
) -> Value {
    let mut spec = rules(services);
    spec["parentRefs"] = json!([{ "name": gateway }]);
    transport.route().object(name, json!({ "spec": spec }))
}

/// The rules of a route's spec.
pub(crate) fn rules(services: &[(&str, u32)]) -> Value {
    let backends = services
        .iter()
        .map(|(name, weight)| json!({ "name": name, "port": APPLICATION_PORT, "weight": weight }));
    let backends: Vec<_> = backends.collect();
    json!({ "rules": [{ "backendRefs": backends }] })
}
