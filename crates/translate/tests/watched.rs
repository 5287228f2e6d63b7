//! Where only some namespaces are watched, nothing in others can be used, and that is told.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use l4way_model::ApplyReport;
use l4way_resources::{AnyObject, CONTROLLER_NAME, L4WAY_GROUP, Snapshot};
use l4way_translate::{Observed, Settings, graph, problems, provisions, status};
use serde_json::{Value, json};

fn object(kind: &str, namespace: &str, name: &str, mut value: Value) -> AnyObject {
    value["metadata"] = json!({"name": name, "namespace": namespace});
    AnyObject::from_value(kind, &value).unwrap().unwrap()
}

fn class(parameters: Value) -> AnyObject {
    let value = json!({
        "metadata": {"name": "l4way"},
        "spec": {"controllerName": CONTROLLER_NAME, "parametersRef": parameters},
    });
    AnyObject::from_value("GatewayClass", &value).unwrap().unwrap()
}

fn gateway(from: Value) -> AnyObject {
    let certificates = json!([{"name": "tls", "namespace": "unwatched"}]);
    let listeners = json!([
        {"name": "tcp", "protocol": "TCP", "port": 9000, "allowedRoutes": {"namespaces": from}},
        {"name": "tls", "protocol": "TLS", "port": 443, "tls": {"certificateRefs": certificates}},
    ]);
    let spec = json!({"gatewayClassName": "l4way", "listeners": listeners});
    object("Gateway", "team", "edge", json!({ "spec": spec }))
}

fn route(name: &str, parent: Value, backend: Value) -> AnyObject {
    let rules = json!([{"backendRefs": [backend]}]);
    object("TCPRoute", "team", name, json!({"spec": {"parentRefs": [parent], "rules": rules}}))
}

fn settings() -> Settings {
    Settings { watched: Some(["team".into()].into()), ..Settings::in_cluster() }
}

/// What is said of these objects in status.
fn said(objects: Vec<AnyObject>) -> String {
    let graph = graph(&objects.into_iter().collect(), &settings());
    let statuses = status(&graph, &ApplyReport::default(), &Observed::default());
    serde_json::to_string(&statuses).unwrap()
}

const WHY: &str = "is in a namespace that l4way doesn't watch, so it can't be used";

#[test]
fn references_to_others_are_refused_and_told() {
    let text = said(vec![
        class(Value::Null),
        gateway(json!({"from": "All"})),
        route(
            "away",
            json!({"name": "edge", "sectionName": "tcp"}),
            json!({"name": "db", "namespace": "unwatched", "port": 80}),
        ),
    ]);
    for object in ["Service unwatched/db", "Secret unwatched/tls"] {
        assert!(text.contains(&format!("{object} {WHY}")), "{object}: {text}");
    }
    assert!(text.contains("RefNotPermitted"), "{text}");
}

#[test]
fn a_class_whose_parameters_are_elsewhere_runs_nothing() {
    let parameters = json!({
        "group": L4WAY_GROUP, "kind": "GatewayParameters", "name": "p", "namespace": "unwatched",
    });
    let objects = vec![class(parameters), gateway(json!({"from": "Same"}))];
    let snapshot: Snapshot = objects.iter().cloned().collect();
    assert!(provisions(&graph(&snapshot, &settings())).iter().all(|provision| !provision.may_run));
    let text = said(objects);
    assert!(text.contains(&format!("GatewayParameters unwatched/p {WHY}")), "{text}");
}

#[test]
fn a_parent_elsewhere_is_told_to_who_checks() {
    let parent = json!({"name": "edge", "namespace": "unwatched"});
    let backend = json!({"name": "db", "port": 80});
    let objects = [class(Value::Null), route("lost", parent, backend)];
    let graph = graph(&objects.into_iter().collect(), &settings());
    let found = problems(&graph);
    let wanted = format!("Gateway unwatched/edge {WHY}");
    assert!(found.iter().any(|problem| problem.message.contains(&wanted)), "{found:?}");
}

#[test]
fn a_selector_does_not_choose_a_namespace_of_which_nothing_is_known() {
    let selector = json!({"matchExpressions": [{"key": "untrusted", "operator": "DoesNotExist"}]});
    let from = json!({"from": "Selector", "selector": selector});
    let objects = |namespace: Option<AnyObject>| {
        let mut objects = vec![class(Value::Null), gateway(from.clone())];
        let parent = json!({"name": "edge", "sectionName": "tcp"});
        objects.push(route("near", parent, json!({"name": "db", "port": 80})));
        objects.extend(namespace);
        objects
    };
    let refused = "NotAllowedByListeners";
    assert!(said(objects(None)).contains(refused));
    let known = AnyObject::from_value("Namespace", &json!({"metadata": {"name": "team"}}));
    let text = said(objects(Some(known.unwrap().unwrap())));
    assert!(!text.contains(refused), "{text}");
}
