//! The proxies themselves. Nothing in a pod's template depends on listeners, routes or labels of the
//! Gateway, nor on parameters that a running proxy can follow: a change of the template ends every session.

use l4way_resources::api::GatewayParametersSpec;
use l4way_translate::POD_ADMIN_PORT;
use serde_json::{Value, json};

use super::{Common, Kind, Object, Settings};

/// The name of the proxy's container.
pub(crate) const CONTAINER: &str = "proxy";

/// How long sessions may go on when a pod ends, unless parameters say so.
const DRAIN_SECONDS: u32 = 60;

/// How much longer a pod is given before it is killed.
const AFTER_DRAIN_SECONDS: u32 = 15;

/// The user and group of the proxy, who have no name in the image.
const NOBODY: u32 = 65_532;

/// What a proxy asks of its node, unless parameters say so. Without a limit of memory, for it is
/// the sessions that take it.
fn default_resources() -> Value {
    json!({"requests": {"cpu": "50m", "memory": "32Mi"}})
}

pub(super) fn deployment(common: &Common<'_>, settings: &Settings) -> Object {
    let parameters = &common.provision.parameters;
    let host_network = parameters.host_network == Some(true);
    // On the host's network a new proxy can have the ports only when the old one is gone.
    let (surge, unavailable) = if host_network { (0, 1) } else { (1, 0) };
    let mut spec = json!({
        "selector": {"matchLabels": common.selector()},
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable},
        },
        "template": {
            "metadata": {"labels": common.own_labels()},
            "spec": pod(common, settings, host_network),
        },
    });
    // Without a number there may be an autoscaler that owns it.
    if let Some(replicas) = parameters.replicas {
        spec["replicas"] = replicas.into();
    }
    common.named(Kind::Deployment, json!({ "spec": spec }))
}

fn pod(common: &Common<'_>, settings: &Settings, host_network: bool) -> Value {
    let parameters = &common.provision.parameters;
    let drain = parameters.drain_seconds.unwrap_or(DRAIN_SECONDS);
    let mut pod = json!({
        "serviceAccountName": common.names.of(Kind::ServiceAccount),
        "automountServiceAccountToken": true,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": drain.saturating_add(AFTER_DRAIN_SECONDS),
        "securityContext": pod_security(host_network, DataPath::of(parameters)),
        "containers": [container(common, settings, host_network, drain)],
        "topologySpreadConstraints": topology_spread(common),
    });
    if host_network {
        pod["hostNetwork"] = true.into();
        pod["dnsPolicy"] = "ClusterFirstWithHostNet".into();
    }
    if let Some(selector) = &parameters.node_selector {
        pod["nodeSelector"] = json!(selector);
    }
    if let Some(tolerations) = &parameters.tolerations {
        pod["tolerations"] = json!(tolerations);
    }
    pod
}

fn container(
    common: &Common<'_>,
    settings: &Settings,
    host_network: bool,
    drain_seconds: u32,
) -> Value {
    let parameters = &common.provision.parameters;
    let mut container = json!({
        "name": CONTAINER,
        "image": parameters.image.as_deref().unwrap_or(&settings.image),
        "command": ["/l4way"],
        "args": arguments(common, drain_seconds),
        "env": environment(),
        "ports": [{"name": "admin", "containerPort": POD_ADMIN_PORT, "protocol": "TCP"}],
        "readinessProbe": {
            "httpGet": {"path": "/readyz", "port": "admin"},
            "periodSeconds": 1,
        },
        "livenessProbe": {
            "httpGet": {"path": "/healthz", "port": "admin"},
            "periodSeconds": 10,
        },
        "resources": parameters.resources.clone().unwrap_or_else(default_resources),
        "securityContext": container_security(host_network, DataPath::of(parameters)),
    });
    let policy = parameters.image_pull_policy.as_deref().or(settings.image_pull_policy.as_deref());
    if let Some(policy) = policy {
        container["imagePullPolicy"] = policy.into();
    }
    container
}

/// What a proxy is told but by its configuration, which says all that may change while it runs.
fn arguments(common: &Common<'_>, drain_seconds: u32) -> Vec<String> {
    let mut arguments = vec![
        "proxy".to_owned(),
        format!("--name={}", common.names.documents.base),
        format!("--admin-address=0.0.0.0:{POD_ADMIN_PORT}"),
        format!("--drain-timeout={drain_seconds}"),
    ];
    if let Some(path) = &common.provision.parameters.data_path {
        arguments.push(format!("--data-path={}", path.to_lowercase()));
    }
    arguments
}

/// What the proxy has to know of its pod.
fn environment() -> Value {
    let fields = [
        ("L4WAY_POD_NAME", "metadata.name"),
        ("L4WAY_POD_UID", "metadata.uid"),
        ("L4WAY_NAMESPACE", "metadata.namespace"),
        ("L4WAY_POD_IPS", "status.podIPs"),
    ];
    fields
        .iter()
        .map(|(name, path)| {
            json!({
                "name": name,
                "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}},
            })
        })
        .collect()
}

/// Who carries sessions, as far as a pod has to be made for it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DataPath {
    Proxy,
    /// The kernel, if the pod happens to have what that takes.
    Auto,
    /// The kernel.
    Kernel,
}

impl DataPath {
    fn of(parameters: &GatewayParametersSpec) -> Self {
        match parameters.data_path.as_deref() {
            Some("Kernel") => Self::Kernel,
            Some("Auto") => Self::Auto,
            _ => Self::Proxy,
        }
    }
}

fn pod_security(host_network: bool, data_path: DataPath) -> Value {
    // A capability helps only root past no_new_privs, so a proxy that needs one is root with that one
    // and no other. A pod in its node's network can't have sysctls.
    let is_root = host_network || data_path != DataPath::Proxy;
    let user = if is_root { 0 } else { NOBODY };
    let mut security = json!({
        "runAsUser": user,
        "runAsGroup": user,
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    if !is_root {
        security["runAsNonRoot"] = true.into();
    }
    if !host_network {
        let unprivileged_ports = ("net.ipv4.ip_unprivileged_port_start", "0");
        let of_kernel_path =
            [("net.ipv4.ip_forward", "1"), ("net.netfilter.nf_conntrack_acct", "1")];
        let more = of_kernel_path.into_iter().filter(|_| data_path == DataPath::Kernel);
        let sysctls = [unprivileged_ports].into_iter().chain(more);
        security["sysctls"] =
            sysctls.map(|(name, value)| json!({"name": name, "value": value})).collect();
    }
    security
}

fn container_security(host_network: bool, data_path: DataPath) -> Value {
    let mut security = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": true,
    });
    let needs = [(host_network, "NET_BIND_SERVICE"), (data_path != DataPath::Proxy, "NET_ADMIN")];
    let added: Vec<_> =
        needs.into_iter().filter(|(needed, _)| *needed).map(|(_, name)| name).collect();
    if !added.is_empty() {
        security["capabilities"]["add"] = json!(added);
    }
    security
}

/// Proxies on different nodes, as far as there are any, unless parameters say so.
fn topology_spread(common: &Common<'_>) -> Value {
    let own = json!({"matchLabels": common.selector()});
    let Some(asked) = &common.provision.parameters.topology_spread_constraints else {
        return json!([{
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": own,
        }]);
    };
    let constraints = asked.iter().cloned().map(|mut constraint| {
        if let Some(constraint) = constraint.as_object_mut() {
            constraint.entry("labelSelector").or_insert_with(|| own.clone());
        }
        constraint
    });
    constraints.collect()
}
