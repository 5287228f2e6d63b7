//! What belongs to a Gateway: not what somebody else labels so, nor what has the name that it would have.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{Gateway, Namespace, echo, gateway, get, kubectl, route, wait_for};

/// The Gateway's objects of this kind, by their labels and owner.
fn owned(gateway: Gateway<'_>, kind: &str) -> Vec<Value> {
    let uid = gateway.object()["metadata"]["uid"].clone();
    let selector = gateway.selector();
    let list = get(gateway.namespace(), &[kind, "--selector", &selector]);
    let objects = list["items"].as_array().cloned().unwrap_or_default();
    objects
        .into_iter()
        .filter(|each| each["metadata"]["ownerReferences"][0]["uid"] == uid)
        .collect()
}

fn names(objects: &[Value]) -> BTreeSet<&str> {
    objects.iter().filter_map(|object| object["metadata"]["name"].as_str()).collect()
}

/// A Gateway of this class with a TCP listener, and a route from there to `app`.
fn served(name: &str, class: &str) -> String {
    let route = route("TCPRoute", name, &format!("{name}/tcp"), &[("app", 5000, 1)]);
    gateway(name, &[("tcp", "TCP", 9000)], "").replace("l4way\n", &format!("{class}\n")) + &route
}

#[test]
fn what_strangers_label_as_a_gateways_changes_nothing() {
    let namespace = Namespace::new("victim");
    let stranger = Namespace::new("stranger");
    let labels = json!({
        "app.kubernetes.io/managed-by": "l4way",
        "app.kubernetes.io/name": "l4way-proxy",
        "gateway.networking.k8s.io/gateway-name": "gw",
        "gateway.networking.k8s.io/gateway-class-name": "l4way",
        "l4way.dev/gateway-namespace": namespace.name(),
        "app": "forged",
    });
    stranger.apply(
        &echo("forged", "TCP").replace("labels: {app: forged}", &format!("labels: {labels}")),
    );
    stranger.available(&["forged"]);
    let pods = get(stranger.name(), &["pods", "--selector", "app=forged"]);
    let uid = pods["items"][0]["metadata"]["uid"].as_str().expect("its UID");
    let says = json!({"hash": "0", "bound": 0, "refusedBackends": []}).to_string();
    let metadata = |name: &str| json!({"name": name, "labels": labels});
    let mut lease = metadata(&format!("gw-l4way-{uid}"));
    lease["annotations"] = json!({"l4way.dev/applied": says});
    let version = "rbac.authorization.k8s.io/v1";
    let view =
        json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"});
    for object in [
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": lease}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata("labelled"),
            "spec": {"ports": [{"port": 80}]}}),
        json!({"apiVersion": version, "kind": "RoleBinding", "metadata": metadata("labelled"),
            "roleRef": view}),
    ] {
        stranger.apply(&object.to_string());
    }
    let kinds = "services,rolebindings,leases,pods,deployments";
    // What the cluster itself changes of them isn't of interest.
    let versions = || -> Vec<_> {
        let list = get(stranger.name(), &[kinds, "--selector", "app=forged"]);
        let items = list["items"].as_array().cloned().unwrap_or_default();
        items
            .iter()
            .map(|o| [&o["metadata"]["uid"], &o["metadata"]["labels"]].map(Value::clone))
            .collect()
    };
    let before = versions();

    // Labels of the infrastructure are put on its pods.
    let gw = namespace.serving("infrastructure: {labels: {team: victim}}");
    let role = gw.owned("role").to_string();
    assert!(!role.contains(uid), "{role}");
    let leases = get(namespace.name(), &["leases"]).to_string();
    assert!(!leases.contains(uid), "{leases}");
    assert_eq!(versions(), before);

    namespace.kubectl(&["delete", "gateway", "gw"]);
    gw_leaves(namespace.name());
    assert_eq!(versions(), before, "nor when the Gateway goes");
}

/// Waits until nothing is left in the namespace that has a Gateway's label.
fn gw_leaves(namespace: &str) {
    wait_for("the Gateway's objects to go", || {
        let kinds = "deployments,services,pods,roles,secrets";
        let selector = "gateway.networking.k8s.io/gateway-name=gw";
        let left = kubectl(&["get", kinds, "-n", namespace, "-o", "name", "-l", selector]);
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
}

#[test]
fn a_gateway_that_is_made_again_at_once_has_the_names_that_it_had() {
    let namespace = Namespace::new("again");
    let gw = namespace.serving("");
    let before = gw.object()["metadata"]["uid"].clone();
    for _ in 0..2 {
        namespace.kubectl(&["delete", "gateway", "gw"]);
        namespace.apply(&gateway("gw", &[("tcp", "TCP", 9000)], ""));
        wait_for("its Service and its Deployment", || {
            let found = ["service", "deployment"].map(|kind| owned(gw, kind));
            if found.iter().all(|found| names(found) == [&*gw.base()].into()) {
                Ok(())
            } else {
                Err(format!("{found:?}"))
            }
        });
        gw.serves(9000);
    }
    assert_ne!(gw.object()["metadata"]["uid"], before);
    for kind in ["service", "deployment", "serviceaccount", "role", "pdb"] {
        assert_eq!(names(&owned(gw, kind)), [&*gw.base()].into(), "{kind}");
    }
    assert!(names(&owned(gw, "secret")).contains("gw-l4way-config"));
}

#[test]
fn gateways_whose_names_no_service_can_have_are_served() {
    let namespace = Namespace::new("names");
    let gateways = ["3cx", "voip.example"];
    let manifests: String = gateways.iter().map(|name| served(name, "l4way")).collect();
    namespace.apply(&(echo("app", "TCP") + &manifests));
    namespace.available(&["app"]);
    for (name, begins) in [("3cx", "gw-3cx-l4way-"), ("voip.example", "voip-example-l4way-")] {
        let gw = Gateway::new(namespace.name(), name);
        gw.serves(9000);
        let services = owned(gw, "service");
        let found = names(&services);
        assert!(found.len() == 1 && found.iter().all(|n| n.starts_with(begins)), "{found:?}");
        assert_eq!(names(&owned(gw, "deployment")), [&*gw.base()].into());
    }
}

#[test]
fn gateways_whose_names_run_together_are_both_served() {
    let namespace = Namespace::new("together");
    let class = |name: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {{name: \
             {name}}}\nspec: {{controllerName: l4way.dev/gateway-controller}}\n---\n"
        )
    };
    namespace.apply(
        &(class("e2e-together")
            + &class("together")
            + &echo("app", "TCP")
            + &served("web", "e2e-together")
            + &served("web-e2e", "together")),
    );
    namespace.available(&["app"]);
    let both = ["web", "web-e2e"].map(|name| Gateway::new(namespace.name(), name));
    for gw in both {
        gw.serves(9000);
    }
    for kind in ["service", "deployment", "serviceaccount", "role", "pdb", "secret"] {
        let [one, other] = both.map(|gw| owned(gw, kind));
        let (one, other) = (names(&one), names(&other));
        assert!(!one.is_empty() && !other.is_empty(), "{kind}: {one:?}, {other:?}");
        assert!(one.is_disjoint(&other), "{kind}: {one:?}, {other:?}");
    }
    kubectl(&["delete", "gatewayclass", "e2e-together", "together"]);
}

#[test]
fn somebody_elses_object_of_the_same_name_is_left_alone() {
    let namespace = Namespace::new("foreign");
    let foreign = "apiVersion: v1\nkind: Service\nmetadata: {name: gw-l4way}\nspec: {selector: {app: \
                   mine}, ports: [{port: 80}]}\n";
    namespace.apply(foreign);
    let gw = Gateway::new(namespace.name(), "gw");
    let before = gw.owned("service");
    namespace.serving("");
    let services = owned(gw, "service");
    let found = names(&services);
    let is_hashed = |name: &&str| name.starts_with("gw-l4way-");
    assert!(found.len() == 1 && found.iter().all(is_hashed), "{found:?}");
    assert_eq!(names(&owned(gw, "deployment")), ["gw-l4way"].into());
    wait_for("kubectl describe to tell of it", || {
        let text = namespace.kubectl(&["describe", "gateway", "gw"]);
        let words = ["gw-l4way is somebody else's", found.first().copied().unwrap_or_default()];
        if words.iter().all(|word| text.contains(word)) { Ok(()) } else { Err(text) }
    });
    assert_eq!(gw.owned("service"), before);

    // What is there keeps its name.
    namespace.kubectl(&["delete", "service", "gw-l4way"]);
    namespace.kubectl(&["annotate", "gateway", "gw", "step=1"]);
    gw.serves(9000);
    assert_eq!(owned(gw, "service")[0]["metadata"]["uid"], services[0]["metadata"]["uid"]);
    namespace.kubectl(&["delete", "gateway", "gw"]);
    gw.leaves_nothing();
}
