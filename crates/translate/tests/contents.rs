//! Of which Secrets and ConfigMaps the contents are needed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use l4way_model::ApplyReport;
use l4way_resources::{
    AnyObject, CONTROLLER_NAME, Snapshot,
    api::{ObjectKey, ObjectRef},
};
use l4way_translate::{Observed, Settings, graph, status};
use serde_json::{Value, json};

fn object(kind: &str, name: &str, mut value: Value) -> AnyObject {
    value["metadata"] = json!({"name": name, "namespace": "apps"});
    AnyObject::from_value(kind, &value).unwrap().unwrap()
}

fn class(name: &str, controller: &str) -> AnyObject {
    let value = json!({"metadata": {"name": name}, "spec": {"controllerName": controller}});
    AnyObject::from_value("GatewayClass", &value).unwrap().unwrap()
}

fn gateway(name: &str, class: &str, certificates: Value) -> AnyObject {
    let listener = json!({
        "name": "tls", "protocol": "TLS", "port": 443,
        "tls": {"mode": "Terminate", "certificateRefs": certificates},
    });
    object("Gateway", name, json!({"spec": {"gatewayClassName": class, "listeners": [listener]}}))
}

fn objects() -> Snapshot {
    let validation = json!({
        "hostname": "db.example",
        "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "authorities"}],
    });
    let target = json!({"group": "", "kind": "Service", "name": "db"});
    [
        class("ours", CONTROLLER_NAME),
        class("theirs", "example.com/other"),
        gateway(
            "edge",
            "ours",
            json!([{"name": "tls"}, {"name": "not-permitted", "namespace": "elsewhere"}]),
        ),
        gateway("other", "theirs", json!([{"name": "of-another-controller"}])),
        object(
            "BackendTLSPolicy",
            "db",
            json!({"spec": {"targetRefs": [target], "validation": validation}}),
        ),
    ]
    .into_iter()
    .collect()
}

fn reference(kind: &str, name: &str) -> ObjectRef {
    ObjectRef::new(kind, ObjectKey::new("apps", name))
}

#[test]
fn they_are_those_that_are_referred_to_and_may_be() {
    let graph = graph(&objects(), &Settings::in_cluster());
    let needed: Vec<_> = graph.contents().iter().cloned().collect();
    assert_eq!(needed, [reference("ConfigMap", "authorities"), reference("Secret", "tls")]);
}

#[test]
fn what_is_there_and_cannot_be_read_is_not_said_to_be_absent() {
    let mut objects = objects();
    objects.unread.insert(reference("Secret", "tls"), Arc::from("it is forbidden"));
    let graph = graph(&objects, &Settings::in_cluster());
    let statuses = status(&graph, &ApplyReport::default(), &Observed::default());
    let text = serde_json::to_string(&statuses).unwrap();
    assert!(text.contains("Secret apps/tls can't be read: it is forbidden"), "{text}");
    assert!(!text.contains("Secret apps/tls doesn't exist"), "{text}");
}
