use l4way_model::{Target, Transport};
use l4way_resources::{AnyObject, Snapshot};
use l4way_translate::{Provision, Settings, graph, provisions};
use serde_json::{Value, json};

use super::*;

/// A Gateway of these listeners. Its parameters aren't there, if it is said to be bad.
fn gateway(listeners: &Value, is_bad: bool) -> (&'static str, Value) {
    let mut gateway = json!({
        "metadata": {"name": "gw", "namespace": "team", "uid": "1"},
        "spec": {"gatewayClassName": "l4way", "listeners": listeners},
    });
    if is_bad {
        gateway["spec"]["infrastructure"] = json!({"parametersRef": {
            "group": "l4way.dev", "kind": "GatewayParameters", "name": "none",
        }});
    }
    ("Gateway", gateway)
}

fn listeners() -> Value {
    json!([
        {"name": "db", "protocol": "TCP", "port": 5432},
        {"name": "mail", "protocol": "TLS", "port": 993, "tls": {"mode": "Passthrough"}},
        {"name": "web", "protocol": "HTTP", "port": 80},
    ])
}

/// A route of this kind to a Service `owner/NAME`.
fn route(kind: &'static str, listener: &str, backend: &str) -> (&'static str, Value) {
    let route = json!({
        "metadata": {"name": listener, "namespace": "team"},
        "spec": {
            "parentRefs": [{"name": "gw", "sectionName": listener}],
            "rules": [{"backendRefs": [{"name": backend, "namespace": "owner", "port": 1}]}],
        },
    });
    (kind, route)
}

fn routes() -> Vec<(&'static str, Value)> {
    vec![
        route("TCPRoute", "db", "a"),
        route("TLSRoute", "mail", "a"),
        route("HTTPRoute", "web", "a"),
    ]
}

fn grant() -> (&'static str, Value) {
    let from = ["TCPRoute", "TLSRoute", "HTTPRoute"].map(
        |kind| json!({"group": "gateway.networking.k8s.io", "kind": kind, "namespace": "team"}),
    );
    let grant = json!({
        "metadata": {"name": "grant", "namespace": "owner"},
        "spec": {"from": from, "to": [{"group": "", "kind": "Service"}]},
    });
    ("ReferenceGrant", grant)
}

/// What is asked for, by these objects and those that are always there.
fn provision(objects: Vec<(&'static str, Value)>) -> Provision {
    let class = json!({
        "metadata": {"name": "l4way"},
        "spec": {"controllerName": "l4way.dev/gateway-controller"},
    });
    let service = |name: &str| {
        let spec = json!({"ports": [{"port": 1, "protocol": "TCP"}], "selector": {"a": "b"}});
        ("Service", json!({"metadata": {"name": name, "namespace": "owner"}, "spec": spec}))
    };
    let there = [("GatewayClass", class), service("a"), service("b")];
    let objects = there.into_iter().chain(objects);
    let objects =
        objects.map(|(kind, value)| AnyObject::from_value(kind, &value).unwrap().unwrap());
    let snapshot: Snapshot = objects.collect();
    provisions(&graph(&snapshot, &Settings::in_cluster())).swap_remove(0)
}

/// What was delivered before the Gateway's parameters went.
fn delivered() -> Config {
    let mut objects = routes();
    objects.extend([gateway(&listeners(), false), grant()]);
    let provision = provision(objects);
    assert!(provision.may_run);
    provision.compiled.config
}

/// What is kept of that when there are these objects.
fn kept_with(listeners: &Value, mut objects: Vec<(&'static str, Value)>) -> Compiled {
    objects.push(gateway(listeners, true));
    let provision = provision(objects);
    assert!(!provision.may_run);
    kept(delivered(), &provision.compiled)
}

fn backends(config: &Config) -> Vec<String> {
    let targets = config.routes().flat_map(|route| &route.targets);
    let name = |target: &Target| match target.backend() {
        Some(backend) => backend.name.to_string(),
        None => "refused".to_owned(),
    };
    targets.map(|weighted| name(&weighted.target)).collect()
}

fn names(config: &Config) -> Vec<&str> {
    config.listener_ids().map(|id| &*id.name).collect()
}

#[test]
fn what_nobody_withdraws_stays_as_it_is() {
    let mut objects = routes();
    objects.push(grant());
    let kept = kept_with(&listeners(), objects);
    assert_eq!(kept.config, delivered());
    assert_eq!(kept.backends.len(), 1);
}

#[test]
fn a_grant_that_is_taken_back_takes_the_backend_along() {
    let kept = kept_with(&listeners(), routes());
    assert_eq!(backends(&kept.config), ["refused"; 3]);
    assert!(kept.backends.is_empty(), "nobody follows its endpoints");
    assert_eq!(names(&kept.config), names(&delivered()), "listeners stay");
}

#[test]
fn a_route_that_is_deleted_takes_its_share_along() {
    let kept = kept_with(&listeners(), vec![grant()]);
    assert!(backends(&kept.config).is_empty());
    assert_eq!(kept.config.listeners().len(), 1, "its port stays open, and refuses");
}

#[test]
fn a_route_that_leads_elsewhere_is_followed() {
    let kept = kept_with(&listeners(), vec![route("TCPRoute", "db", "b"), grant()]);
    assert_eq!(backends(&kept.config), ["b"]);
    assert_eq!(kept.backends.len(), 1);
}

#[test]
fn no_listener_is_opened_and_one_that_is_gone_is_closed() {
    let changed = json!([
        {"name": "db", "protocol": "TCP", "port": 5433},
        {"name": "new", "protocol": "TCP", "port": 9999},
        {"name": "web", "protocol": "TCP", "port": 80},
    ]);
    let mut objects = routes();
    objects.push(grant());
    let kept = kept_with(&changed, objects);
    assert_eq!(names(&kept.config), ["db"], "of another protocol is another listener");
    let db = kept.config.listeners().next().unwrap();
    assert_eq!((db.transport, db.port), (Transport::Tcp, 5432), "ports are opened by nobody");
}

#[test]
fn a_listener_allows_no_more_than_it_does() {
    let mut closed = listeners();
    for listener in closed.as_array_mut().unwrap() {
        let selector = json!({"matchLabels": {"a": "b"}});
        let namespaces = json!({"from": "Selector", "selector": selector});
        listener["allowedRoutes"] = json!({ "namespaces": namespaces });
    }
    let mut objects = routes();
    objects.push(grant());
    assert!(backends(&kept_with(&closed, objects).config).is_empty());
}
