//! Manifests, and pieces of them.

use std::path::{Path, PathBuf};

use super::api_version;

/// A file or folder of the project.
pub(crate) fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// A Gateway of l4way's class with these listeners, as name, protocol and port. `more` goes into its
/// spec.
pub(crate) fn gateway(name: &str, listeners: &[(&str, &str, u16)], more: &str) -> String {
    let mut manifest = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\n\
         spec:\n  gatewayClassName: l4way\n"
    );
    for line in more.lines() {
        manifest += &format!("  {line}\n");
    }
    manifest += "  listeners:\n";
    for (name, protocol, port) in listeners {
        manifest += &format!(
            "  - {{name: {name}, protocol: {protocol}, port: {port}, allowedRoutes: {{namespaces: \
             {{from: All}}}}}}\n"
        );
    }
    manifest + "---\n"
}

/// What a Gateway's spec says to have the GatewayParameters that follow, and these. They have the
/// Gateway's name.
pub(crate) fn parameters(name: &str, spec: &str) -> (String, String) {
    let reference = format!(
        "infrastructure: {{parametersRef: {{group: l4way.dev, kind: GatewayParameters, name: {name}}}}}"
    );
    let object = format!(
        "apiVersion: l4way.dev/v1alpha1\nkind: GatewayParameters\nmetadata: {{name: {name}}}\n\
         spec: {spec}\n---\n"
    );
    (reference, object)
}

/// A route to Services, as name, port and weight. `parent` is a Gateway, or a Gateway and its
/// listener: `gw/tcp`.
pub(crate) fn route(kind: &str, name: &str, parent: &str, backends: &[(&str, u16, u32)]) -> String {
    let (gateway, section) = parent.split_once('/').unwrap_or((parent, ""));
    let section =
        if section.is_empty() { String::new() } else { format!(", sectionName: {section}") };
    let backends: Vec<_> = backends
        .iter()
        .map(|(name, port, weight)| format!("{{name: {name}, port: {port}, weight: {weight}}}"))
        .collect();
    let version = if kind == "HTTPRoute" { "gateway.networking.k8s.io/v1" } else { api_version() };
    format!(
        "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n  parentRefs: \
         [{{name: {gateway}{section}}}]\n  rules: [{{backendRefs: [{}]}}]\n---\n",
        backends.join(", ")
    )
}

/// The tutorial's application and its Service, which have this name: it answers on port 5000, by TCP
/// or UDP, with `Hello from NAME!`.
pub(crate) fn echo(name: &str, protocol: &str) -> String {
    server(name, protocol, 5000, &format!("Hello from {name}!"))
}

/// The application's manifests, so that it has no pod.
pub(crate) fn scaled_to_0(manifests: &str) -> String {
    manifests.replace(
        "spec:\n  selector: {matchLabels",
        "spec:\n  replicas: 0\n  selector: {matchLabels",
    )
}

/// An application that answers on port 5000 with this text, and its Service, which takes it to answer
/// on `port`.
pub(crate) fn server(name: &str, protocol: &str, port: u16, text: &str) -> String {
    let udp = if protocol == "UDP" { ", \"-udp\"" } else { "" };
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 1
      securityContext: {{runAsNonRoot: true, runAsUser: 65532, seccompProfile: {{type: RuntimeDefault}}}}
      containers:
      - name: echo
        image: hashicorp/http-echo:latest
        args: [\"-listen\", \":5000\", \"-text\", {text:?}{udp}]
        securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  selector: {{app: {name}}}
  ports: [{{protocol: {protocol}, port: 5000, targetPort: {port}}}]
---
"
    )
}

/// An application of two pods that answer with their names whenever something comes.
pub(crate) fn server_saying_who(name: &str, protocol: &str) -> String {
    let each = if protocol == "UDP" { "-udp" } else { "-each" };
    server(name, protocol, 5000, "$(POD_NAME)")
        .replacen("spec:\n  selector", "spec:\n  replicas: 2\n  selector", 1)
        .replace(
            "        args: [",
            &format!(
                "        env: [{{name: POD_NAME, valueFrom: {{fieldRef: {{fieldPath: \
             metadata.name}}}}}}]\n        args: [{each:?}, "
            ),
        )
}
