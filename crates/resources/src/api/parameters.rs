use std::{collections::BTreeMap, sync::Arc};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Object;

/// How the proxies of a Gateway run (`l4way.dev/v1alpha1`).
pub type GatewayParameters = Object<GatewayParametersSpec>;

/// The spec of [`GatewayParameters`]. What is missing is the default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayParametersSpec {
    /// The proxies' image; the controller's own if missing.
    pub image: Option<Arc<str>>,
    /// `Always`, `IfNotPresent` or `Never`.
    pub image_pull_policy: Option<Arc<str>>,
    /// How many proxies; as many as there are if missing.
    pub replicas: Option<u32>,
    /// A container's `resources`.
    pub resources: Option<Value>,
    /// The labels that a node has to have.
    pub node_selector: Option<BTreeMap<String, String>>,
    /// A pod's `tolerations`.
    pub tolerations: Option<Vec<Value>>,
    /// A pod's `topologySpreadConstraints`.
    pub topology_spread_constraints: Option<Vec<Value>>,
    /// Whether the proxies are in their nodes' network, without a Service.
    pub host_network: Option<bool>,
    /// The Service in front of the proxies.
    pub service: Option<ServiceParameters>,
    /// The ServiceAccount of the proxies.
    pub service_account: Option<ServiceAccountParameters>,
    /// The proxies' own log.
    pub log: Option<LogParameters>,
    /// `Disabled` or `Stdout`.
    pub access_log: Option<Arc<str>>,
    /// What routes may name beside Services with pods.
    pub external_backends: Option<Vec<ExternalBackend>>,
    /// `Auto`, `Proxy` or `Kernel`.
    pub data_path: Option<Arc<str>>,
    /// How long sessions may go on when a proxy ends or a listener is gone, in seconds.
    pub drain_seconds: Option<u32>,
    /// How long to try to connect to an endpoint, in seconds.
    pub connect_timeout_seconds: Option<u32>,
    /// How long a UDP session may be silent, in seconds.
    pub udp_session_timeout_seconds: Option<u32>,
    /// `Wait` or `Evict`.
    pub at_limit: Option<Arc<str>>,
    /// How HTTP requests are forwarded.
    pub http: Option<HttpParameters>,
}

/// How HTTP requests are forwarded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpParameters {
    /// The networks of the proxies in front of the Gateway that are believed for whom they forward.
    pub trusted_proxies: Option<Vec<IpNet>>,
}

/// What a Gateway's Service is like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceParameters {
    /// `LoadBalancer`, `NodePort` or `ClusterIP`.
    #[serde(rename = "type")]
    pub kind: Option<Arc<str>>,
    /// Which of several load balancers is to serve it.
    pub load_balancer_class: Option<Arc<str>>,
    /// `Local` or `Cluster`.
    pub external_traffic_policy: Option<Arc<str>>,
    /// Annotations of the Service.
    pub annotations: Option<BTreeMap<String, String>>,
}

/// What the ServiceAccount of the proxies is like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceAccountParameters {
    /// `Omit` or `Copy`: whether it has the annotations of the Gateway's `spec.infrastructure`.
    pub infrastructure_annotations: Option<Arc<str>>,
}

/// What a proxy's log is like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogParameters {
    /// `Error`, `Warn`, `Info`, `Debug` or `Trace`.
    pub level: Option<Arc<str>>,
    /// `Text` or `Json`.
    pub format: Option<Arc<str>>,
}

/// A kind of backend that leads out of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExternalBackend {
    /// A [`Backend`](super::Backend).
    Backend,
    /// A Service of type ExternalName.
    ExternalName,
}

impl GatewayParametersSpec {
    /// These parameters, and for each field that is missing that of `other`.
    #[must_use]
    pub fn or(self, other: &Self) -> Self {
        let other = other.clone();
        Self {
            image: self.image.or(other.image),
            image_pull_policy: self.image_pull_policy.or(other.image_pull_policy),
            replicas: self.replicas.or(other.replicas),
            resources: self.resources.or(other.resources),
            node_selector: self.node_selector.or(other.node_selector),
            tolerations: self.tolerations.or(other.tolerations),
            topology_spread_constraints: self
                .topology_spread_constraints
                .or(other.topology_spread_constraints),
            host_network: self.host_network.or(other.host_network),
            service: merge(self.service, other.service, ServiceParameters::or),
            service_account: merge(
                self.service_account,
                other.service_account,
                ServiceAccountParameters::or,
            ),
            log: merge(self.log, other.log, LogParameters::or),
            access_log: self.access_log.or(other.access_log),
            data_path: self.data_path.or(other.data_path),
            external_backends: self.external_backends.or(other.external_backends),
            drain_seconds: self.drain_seconds.or(other.drain_seconds),
            connect_timeout_seconds: self.connect_timeout_seconds.or(other.connect_timeout_seconds),
            udp_session_timeout_seconds: self
                .udp_session_timeout_seconds
                .or(other.udp_session_timeout_seconds),
            at_limit: self.at_limit.or(other.at_limit),
            http: merge(self.http, other.http, HttpParameters::or),
        }
    }

    /// Whether routes may name a backend of this kind.
    pub fn allows(&self, backend: ExternalBackend) -> bool {
        self.external_backends.iter().flatten().any(|allowed| *allowed == backend)
    }
}

impl ServiceParameters {
    fn or(self, other: Self) -> Self {
        Self {
            kind: self.kind.or(other.kind),
            load_balancer_class: self.load_balancer_class.or(other.load_balancer_class),
            external_traffic_policy: self.external_traffic_policy.or(other.external_traffic_policy),
            annotations: self.annotations.or(other.annotations),
        }
    }
}

impl ServiceAccountParameters {
    fn or(self, other: Self) -> Self {
        Self {
            infrastructure_annotations: self
                .infrastructure_annotations
                .or(other.infrastructure_annotations),
        }
    }
}

impl HttpParameters {
    fn or(self, other: Self) -> Self {
        Self { trusted_proxies: self.trusted_proxies.or(other.trusted_proxies) }
    }
}

impl LogParameters {
    fn or(self, other: Self) -> Self {
        Self { level: self.level.or(other.level), format: self.format.or(other.format) }
    }
}

fn merge<T>(first: Option<T>, second: Option<T>, or: impl FnOnce(T, T) -> T) -> Option<T> {
    match (first, second) {
        (Some(first), Some(second)) => Some(or(first, second)),
        (first, second) => first.or(second),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_the_first_win_one_by_one() {
        let parameters = |value| serde_json::from_value::<GatewayParametersSpec>(value).unwrap();
        let gateway = parameters(serde_json::json!({
            "replicas": 3, "service": {"externalTrafficPolicy": "Cluster"},
        }));
        let class = parameters(serde_json::json!({
            "replicas": 2, "drainSeconds": 5, "service": {"type": "NodePort"},
            "externalBackends": ["Backend"], "http": {"trustedProxies": ["192.0.2.0/24"]},
        }));
        let merged = gateway.or(&class);
        let expected = parameters(serde_json::json!({
            "replicas": 3, "drainSeconds": 5, "externalBackends": ["Backend"],
            "http": {"trustedProxies": ["192.0.2.0/24"]},
            "service": {"type": "NodePort", "externalTrafficPolicy": "Cluster"},
        }));
        assert_eq!(merged, expected);
        assert!(merged.allows(ExternalBackend::Backend));
        assert!(!merged.allows(ExternalBackend::ExternalName));
    }
}
