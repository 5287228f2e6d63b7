use std::sync::LazyLock;

use serde_json::Value;

use super::command;

/// Runs kubectl, and returns what it prints.
pub(crate) fn kubectl(args: &[&str]) -> String {
    try_kubectl(args).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs kubectl.
///
/// # Errors
/// With the command and what it says, if it fails.
pub(crate) fn try_kubectl(args: &[&str]) -> Result<String, String> {
    run(args, "")
}

/// Applies manifests, given as text, in a namespace.
pub(crate) fn apply(namespace: &str, manifests: &str) {
    run(&["apply", "--namespace", namespace, "--filename", "-"], manifests)
        .unwrap_or_else(|error| panic!("{error}\n{manifests}"));
}

/// Has the API server say whether it would take a manifest from this user, as it merges it.
///
/// # Errors
/// With what it says against it.
pub(crate) fn would_take(user: &str, manifest: &str) -> Result<String, String> {
    let user = format!("--as={user}");
    let args =
        ["apply", "--server-side", "--force-conflicts", "--dry-run=server", &user, "-f", "-"];
    run(&args, manifest)
}

/// Applies manifests as the API server merges them, and as nobody's last but these.
pub(crate) fn apply_server_side(manifests: &str) {
    run(&["apply", "--server-side", "--force-conflicts", "--filename", "-"], manifests)
        .unwrap_or_else(|error| panic!("{error}"));
}

/// An object, or a list of them, as the API server has it.
pub(crate) fn get(namespace: &str, what: &[&str]) -> Value {
    let mut args = vec!["get", "--namespace", namespace, "--output", "json"];
    args.extend(what);
    serde_json::from_str(&kubectl(&args)).expect("JSON")
}

/// Whether there is such an object.
pub(crate) fn exists(namespace: &str, kind: &str, name: &str) -> bool {
    let args = ["get", kind, name, "--namespace", namespace, "--ignore-not-found", "-o", "name"];
    !kubectl(&args).is_empty()
}

/// The version of the Gateway API in which the cluster serves a kind of route, the tutorial's
/// `v1alpha2` if it does. Only the experimental channel's CRDs have that for TCPRoute and UDPRoute.
pub(crate) fn api_version() -> &'static str {
    static VERSION: LazyLock<&str> = LazyLock::new(|| {
        let served = "jsonpath={.spec.versions[?(@.served==true)].name}";
        let crd = "tcproutes.gateway.networking.k8s.io";
        let versions = kubectl(&["get", "crd", crd, "--output", served]);
        let tutorials = versions.split(' ').any(|version| version == "v1alpha2");
        if tutorials {
            "gateway.networking.k8s.io/v1alpha2"
        } else {
            "gateway.networking.k8s.io/v1"
        }
    });
    &VERSION
}

fn run(args: &[&str], input: &str) -> Result<String, String> {
    let output = command::run("kubectl", args, input);
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout).expect("text"));
    }
    Err(format!("kubectl {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr)))
}
