//! The built-in kinds, as far as l4way reads them.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use serde::Deserialize;
use zeroize::Zeroizing;

use super::{LabelSelector, Object, ObjectMeta};

/// A namespace, whose labels selectors match (cluster-scoped).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Namespace {
    /// Names and labels.
    pub metadata: ObjectMeta,
}

/// A set of pods behind one name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Service {
    /// Names, labels and times.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What it is.
    pub spec: ServiceSpec,
    /// What others gave it.
    #[serde(default)]
    pub status: ServiceStatus,
}

impl Service {
    /// The addresses at which its ports are: those inside of the cluster, those that it names itself, and
    /// those that a load balancer gave it. They may repeat.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let ServiceSpec { cluster_ip, cluster_ips, external_ips, .. } = &self.spec;
        let given = self.status.load_balancer.ingress.iter().filter_map(|given| given.ip.as_ref());
        let all = cluster_ip.iter().chain(cluster_ips).chain(external_ips).chain(given);
        all.filter_map(|address| address.parse().ok())
    }
}

/// The status of a [`Service`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceStatus {
    /// What a load balancer gave it.
    pub load_balancer: LoadBalancerStatus,
}

/// What a load balancer gave a [`Service`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct LoadBalancerStatus {
    /// Where clients come in.
    pub ingress: Vec<LoadBalancerIngress>,
}

/// Where clients of a load balancer come in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct LoadBalancerIngress {
    /// The address; missing if it is known by a name.
    pub ip: Option<Arc<str>>,
}

/// The spec of a [`Service`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    /// `ClusterIP` if missing; `ExternalName` has a name in place of endpoints.
    #[serde(rename = "type")]
    pub kind: Option<Arc<str>>,
    /// The name that an `ExternalName` Service stands for.
    pub external_name: Option<Arc<str>>,
    /// The labels of its pods. Without a selector somebody else writes its EndpointSlices.
    pub selector: BTreeMap<String, String>,
    /// The ports; a headless or ExternalName Service may have none.
    pub ports: Vec<ServicePort>,
    /// `None` for a headless Service.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Option<Arc<str>>,
    /// `cluster_ip`, and that of the other family where there are two.
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Vec<Arc<str>>,
    /// Other addresses at which nodes take its sessions.
    #[serde(rename = "externalIPs")]
    pub external_ips: Vec<Arc<str>>,
    /// Whether pods count as ready however they are.
    pub publish_not_ready_addresses: bool,
}

/// One port of a [`Service`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// The port's name, by which EndpointSlices know it; empty for an only port.
    #[serde(default)]
    pub name: Arc<str>,
    /// `TCP`, `UDP` or `SCTP`.
    #[serde(default = "tcp")]
    pub protocol: Arc<str>,
    /// What clients connect to.
    pub port: u16,
    /// The pod's port, by number or name; the same as `port` if missing.
    #[serde(default)]
    pub target_port: Option<IntOrString>,
    /// The port at which it is on all nodes' addresses.
    #[serde(default)]
    pub node_port: Option<u16>,
}

fn tcp() -> Arc<str> {
    "TCP".into()
}

/// A port by number or by name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum IntOrString {
    /// A number.
    Int(u16),
    /// A name.
    String(Arc<str>),
}

/// Some of a Service's endpoints: all slices of the Service together are its endpoints
/// (`discovery.k8s.io/v1`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSlice {
    /// The label `kubernetes.io/service-name` names the Service.
    pub metadata: ObjectMeta,
    /// `IPv4`, `IPv6` or `FQDN`.
    pub address_type: Arc<str>,
    /// The endpoints.
    #[serde(default)]
    pub endpoints: Vec<SliceEndpoint>,
    /// The ports of each of them.
    #[serde(default)]
    pub ports: Vec<EndpointPort>,
}

impl EndpointSlice {
    /// The label that names a slice's Service.
    pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

    /// The name of the Service that the slice belongs to.
    pub fn service_name(&self) -> Option<&str> {
        self.metadata.labels.get(Self::SERVICE_NAME_LABEL).map(String::as_str)
    }
}

/// One endpoint of an [`EndpointSlice`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SliceEndpoint {
    /// Addresses that mean the same; the first is used, as kube-proxy does.
    pub addresses: Vec<Arc<str>>,
    /// Its state.
    #[serde(default)]
    pub conditions: EndpointConditions,
    /// The zone that it is in.
    #[serde(default)]
    pub zone: Option<Arc<str>>,
    /// The zones that should use it.
    #[serde(default)]
    pub hints: Option<EndpointHints>,
}

/// The state of an endpoint. What is missing is to be read as the API says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct EndpointConditions {
    /// Takes new sessions; true if missing.
    pub ready: Option<bool>,
    /// Answers, even if it is about to end; the same as `ready` if missing.
    pub serving: Option<bool>,
    /// About to end; false if missing.
    pub terminating: Option<bool>,
}

/// Hints on who should use an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointHints {
    /// The zones.
    pub for_zones: Vec<ForZone>,
}

/// A zone that should use an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ForZone {
    /// The zone's name.
    pub name: Arc<str>,
}

/// One port of the endpoints of an [`EndpointSlice`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointPort {
    /// The Service port's name.
    pub name: Option<Arc<str>>,
    /// `TCP` if missing.
    pub protocol: Option<Arc<str>>,
    /// The number; every port if missing.
    pub port: Option<u16>,
}

impl SliceEndpoint {
    /// The address to connect to, if it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        self.addresses.first()?.parse().ok()
    }
}

/// Data that nobody else should see: wiped from memory when it isn't needed any more, and `Debug` shows its
/// keys only.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Secret {
    /// The Secret's name.
    pub metadata: ObjectMeta,
    /// Such as `kubernetes.io/tls`.
    #[serde(rename = "type", default)]
    pub kind: Option<Arc<str>>,
    /// The values, in base64.
    #[serde(default)]
    pub data: BTreeMap<String, Zeroizing<String>>,
    /// Values as they are; they win over `data`.
    #[serde(rename = "stringData", default)]
    pub string_data: BTreeMap<String, Zeroizing<String>>,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secret")
            .field("metadata", &self.metadata.key())
            .field("kind", &self.kind)
            .field("keys", &self.data.keys().chain(self.string_data.keys()).collect::<Vec<_>>())
            .finish()
    }
}

/// Data.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ConfigMap {
    /// The ConfigMap's name.
    pub metadata: ObjectMeta,
    /// The values.
    #[serde(default)]
    pub data: BTreeMap<String, String>,
}

/// Pods of one template. Only read to answer in their place.
pub type Deployment = Object<DeploymentSpec>;

/// The spec of a [`Deployment`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct DeploymentSpec {
    /// How many pods; 1 if missing.
    #[serde(default)]
    pub replicas: Option<u32>,
    /// Which pods are the Deployment's.
    pub selector: LabelSelector,
    /// What a pod is made of.
    pub template: PodTemplate,
}

/// What a pod is made of.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PodTemplate {
    /// The pod's labels.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// The pod's containers.
    pub spec: PodSpec,
}

/// The containers of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PodSpec {
    /// The containers.
    #[serde(default)]
    pub containers: Vec<Container>,
}

/// A container of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Container {
    /// The container's name.
    pub name: Arc<str>,
    /// The program, in the image's place.
    #[serde(default)]
    pub command: Vec<String>,
    /// The program's arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// The ports that it names.
    #[serde(default)]
    pub ports: Vec<ContainerPort>,
}

/// A port of a container.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerPort {
    /// The name, which a Service's `targetPort` may be.
    #[serde(default)]
    pub name: Option<Arc<str>>,
    /// The number.
    pub container_port: u16,
    /// `TCP` if missing.
    #[serde(default = "tcp")]
    pub protocol: Arc<str>,
}
