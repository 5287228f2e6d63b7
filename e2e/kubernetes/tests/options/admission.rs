//! What the controller may do though its rights say nothing against it, asked in its name. That all that it has
//! to do is admitted is shown by the other tests, for which the policies are in force, too.

use serde_json::{Value, json};

use super::AS_EVER;
use crate::support::{Gateway, Namespace, try_kubectl, would_take};

const CONTROLLER: &str = "system:serviceaccount:l4way-system:l4way-controller";

/// One of the Gateway's objects as the controller might make another one.
fn another(gw: Gateway<'_>, kind: &str, name: &str) -> Value {
    let mut object = gw.owned(kind);
    let labels = object["metadata"]["labels"].clone();
    object["metadata"] = json!({"name": name, "namespace": gw.namespace(), "labels": labels});
    object.as_object_mut().expect("an object").remove("status");
    object
}

#[track_caller]
fn is_refused(object: &Value, because: &str) {
    match would_take(CONTROLLER, &object.to_string()) {
        Err(error) => assert!(error.contains(because), "not {because:?}: {error}"),
        Ok(_) => panic!("it would be taken, though {because:?}: {object:#}"),
    }
}

#[track_caller]
fn is_taken(object: &Value) {
    would_take(CONTROLLER, &object.to_string()).unwrap_or_else(|error| panic!("{error}"));
}

/// Refuses the object with a value at this place (RFC 6901).
#[track_caller]
fn is_refused_with(object: &Value, pointer: &str, value: Value, because: &str) {
    let mut object = object.clone();
    let (parent, field) = pointer.rsplit_once('/').expect("a place");
    object.pointer_mut(parent).expect("its parent")[field] = value;
    is_refused(&object, because);
}

#[test]
fn of_deployments_it_makes_proxies_only() {
    assert!(AS_EVER.iter().any(|option| option.contains("admissionPolicy.enabled=true")));
    let namespace = Namespace::new("admission-deployments");
    let gw = namespace.serving("");
    let mut deployment = another(gw, "deployment", "other");
    let pod = "/spec/template/spec";
    deployment["spec"]["template"]["spec"]["serviceAccountName"] = "other".into();
    deployment["spec"]["template"]["spec"]["serviceAccount"] = "other".into();
    is_taken(&deployment);
    let refused = |place: &str, value: Value, because: &str| {
        is_refused_with(&deployment, &format!("{pod}{place}"), value, because);
    };
    refused("/serviceAccountName", json!("default"), "the ServiceAccount of its own name");
    refused("/serviceAccountName", json!("other-l4way"), "the ServiceAccount of its own name");
    let first = "/containers/0";
    refused(&format!("{first}/image"), json!("docker.io/library/nginx"), "only these images");
    refused(&format!("{first}/image"), json!("docker.io/l4way/l4way-not"), "only these images");
    refused(&format!("{first}/command"), json!(["/bin/sh"]), "`/l4way proxy` only");
    refused(&format!("{first}/args"), json!(["controller"]), "`/l4way proxy` only");
    let security = format!("{first}/securityContext");
    let privileged = json!({"privileged": true});
    refused(&security, privileged, "may not be privileged");
    let capable = json!({"allowPrivilegeEscalation": false, "capabilities": {"add": ["NET_RAW"]}});
    refused(&security, capable, "nor have capabilities");
    refused("/hostPID", json!(true), "the host's processes");
    let host = json!([{"name": "host", "hostPath": {"path": "/"}}]);
    refused("/volumes", host, "only volumes of the kinds");
    is_refused_with(&deployment, "/metadata/labels", json!({}), "only objects with the label");
}

#[test]
fn it_touches_nothing_that_it_has_not_made() {
    let namespace = Namespace::new("admission-foreign");
    namespace.serving("");
    let of = |kind: &str, parts: Value| {
        let mut object = json!({"apiVersion": "v1", "kind": kind});
        let metadata = json!({
            "name": "app", "namespace": namespace.name(),
            "labels": {"app.kubernetes.io/managed-by": "l4way"},
            "annotations": {"kubernetes.io/service-account.name": "default"},
        });
        object["metadata"] = metadata;
        object
            .as_object_mut()
            .expect("an object")
            .extend(parts.as_object().cloned().expect("parts"));
        object
    };
    let selector = json!({"gateway.networking.k8s.io/gateway-name": "gw"});
    let service = of("Service", json!({"spec": {"selector": selector, "ports": [{"port": 5000}]}}));
    is_refused(&service, "only what it has made");
    // Valid ones of each type, as the API server looks at that first.
    let secret =
        |kind: &str| of("Secret", json!({"type": kind, "data": {"tls.crt": "", "tls.key": ""}}));
    for kind in ["Opaque", "kubernetes.io/tls", "kubernetes.io/service-account-token"] {
        is_refused(&secret(kind), "only Secrets of the types");
    }
    is_refused(&secret("l4way.dev/config"), "whose names end so");
    for (kind, name) in [("service", "app"), ("deployment", "app")] {
        let user = format!("--as={CONTROLLER}");
        let args =
            ["delete", kind, name, "--namespace", namespace.name(), "--dry-run=server", &user];
        let error = try_kubectl(&args).expect_err("it is somebody else's");
        assert!(error.contains("only what it has made"), "{error}");
    }
}

#[test]
fn what_it_gives_away_is_what_proxies_need() {
    let namespace = Namespace::new("admission-rights");
    let gw = namespace.serving("");
    let role = another(gw, "role", "other");
    is_taken(&role);
    let rules = |rule: Value| json!([rule]);
    let secrets = json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]});
    is_refused_with(&role, "/rules", rules(secrets), "by their names");
    let named = json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"],
        "resourceNames": ["database"]});
    is_refused_with(&role, "/rules", rules(named), "by their names");
    let deployments = json!({"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["create"],
        "resourceNames": ["x-config"]});
    is_refused_with(&role, "/rules", rules(deployments), "by their names");

    let mut binding = another(gw, "rolebinding", "other");
    binding["roleRef"]["name"] = "other".into();
    // The API server wants to know the Role that it gives.
    let by_controller = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
        "name": "l4way-controller"});
    is_refused_with(
        &binding,
        "/roleRef",
        by_controller,
        "or the ClusterRole l4way-proxy-endpoints",
    );
    let endpoints = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
        "name": "l4way-proxy-endpoints"});
    binding["roleRef"] = endpoints;
    is_taken(&binding);
    let group = json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group",
        "name": "system:authenticated"}]);
    is_refused_with(&binding, "/subjects", group, "for ServiceAccounts only");
}

#[test]
fn pods_services_and_selectors_are_those_of_proxies() {
    let namespace = Namespace::new("admission-pods");
    let gw = namespace.serving("");
    let name = &gw.pods()[0].name;
    let pod = |parts: Value| {
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace.name(), "labels": {"note": "yes"}}});
        pod.as_object_mut().expect("an object").extend(parts.as_object().cloned().expect("parts"));
        pod
    };
    is_taken(&pod(json!({})));
    let image =
        json!({"spec": {"containers": [{"name": "proxy", "image": "docker.io/library/nginx"}]}});
    is_refused(&pod(image), "labels and annotations of pods only");

    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "other",
        "namespace": namespace.name(), "labels": {"app.kubernetes.io/managed-by": "l4way"}},
        "spec": {"selector": {"gateway.networking.k8s.io/gateway-name": "gw"}, "ports": [{"port": 80}]}});
    is_taken(&service);
    is_refused_with(&service, "/spec/externalIPs", json!(["192.0.2.1"]), "no externalIPs");
    is_refused_with(
        &service,
        "/spec/selector",
        json!({"app": "app"}),
        "to the proxies of a Gateway",
    );

    let budget = another(gw, "pdb", "other");
    is_taken(&budget);
    let everything = json!({"matchLabels": {"app": "app"}});
    is_refused_with(&budget, "/spec/selector", everything, "select the proxies of a Gateway");
    let mut account = another(gw, "serviceaccount", "other");
    is_taken(&account);
    account["automountServiceAccountToken"] = true.into();
    is_refused(&account, "automountServiceAccountToken false");
}
