//! How status is written: others' entries are theirs, and nothing is written when nothing has changed.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{
    CONTROLLER, Gateway, Namespace, echo, gateway, get, route, wait_for, wait_for_condition,
};

#[test]
fn another_controllers_entries_of_a_shared_route_are_left_alone() {
    let namespace = Namespace::new("shared");
    let shared = route("TCPRoute", "route", "gw/tcp", &[("app", 5000, 1)])
        .replace("parentRefs: [", "parentRefs: [{name: theirs}, ");
    let theirs = gateway("theirs", &[("tcp", "TCP", 9000)], "")
        .replace("gatewayClassName: l4way", "gatewayClassName: e2e-theirs");
    namespace.apply(
        &(gateway("gw", &[("tcp", "TCP", 9000)], "") + &theirs + &echo("app", "TCP") + &shared),
    );
    let ns = namespace.name();
    wait_for_condition(ns, "tcproute", "route", ("ResolvedRefs", "True", "ResolvedRefs"));

    let entry = json!({
        "controllerName": "example.com/theirs",
        "parentRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "theirs"},
        "conditions": [{
            "type": "Accepted", "status": "False", "reason": "Busy", "message": "Come back later.",
            "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z",
        }],
    });
    let add = json!([{"op": "add", "path": "/status/parents/-", "value": entry}]).to_string();
    let args = ["patch", "tcproute", "route", "--subresource=status", "--type=json", "--patch"];
    namespace.kubectl(&[&args[..], &[&add]].concat());

    let entries = || get(ns, &["tcproute", "route"])["status"]["parents"].clone();
    let of = |entries: &Value, controller: &str| {
        let all = entries.as_array().cloned().unwrap_or_default();
        all.into_iter().filter(|entry| entry["controllerName"] == controller).collect::<Vec<_>>()
    };
    namespace.apply(&shared.replace("{name: app,", "{name: nothing,"));
    wait_for_condition(ns, "tcproute", "route", ("ResolvedRefs", "False", "BackendNotFound"));
    assert_eq!(of(&entries(), "example.com/theirs"), std::slice::from_ref(&entry));
    assert_eq!(of(&entries(), CONTROLLER).len(), 1, "{:#}", entries());

    namespace.kubectl(&["delete", "gateway", "gw"]);
    wait_for("our entry to be gone", || match entries() {
        found if of(&found, CONTROLLER).is_empty() => Ok(()),
        found => Err(found),
    });
    assert_eq!(of(&entries(), "example.com/theirs"), [entry]);
}

#[test]
fn nothing_is_written_when_nothing_has_changed() {
    let namespace = Namespace::new("quiet");
    namespace.apply(
        &(gateway("gw", &[("tcp", "TCP", 9000)], "")
            + &echo("app", "TCP")
            + &route("TCPRoute", "route", "gw/tcp", &[("app", 5000, 1)])),
    );
    namespace.available(&["app"]);
    let gw = Gateway::new(namespace.name(), "gw");
    gw.answers(9000, "Hello from app!");
    // Of the objects that the controllers write, beside Leases.
    let versions = || -> Vec<Value> {
        let list = get(
            namespace.name(),
            &[
                "gateways,tcproutes,deployments,services,serviceaccounts,roles,rolebindings,pdb,secrets",
                "--selector=kubernetes.io/metadata.name!=nothing",
            ],
        );
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let version = |item: Value| {
            json!([item["kind"], item["metadata"]["name"], item["metadata"]["resourceVersion"]])
        };
        items.into_iter().map(version).collect()
    };
    let mut before = wait_for("what follows the last change to settle", || {
        let first = versions();
        thread::sleep(Duration::from_secs(1));
        let second = versions();
        if first == second { Ok(second) } else { Err("changes") }
    });
    before.sort_by_key(Value::to_string);

    let until = Instant::now() + Duration::from_secs(6);
    let mut round = 0;
    while Instant::now() < until {
        round += 1;
        let name = format!("noise-{round}");
        let noise = echo(&name, "TCP")
            .replace("spec:\n  selector: {match", "spec:\n  replicas: 0\n  selector: {match");
        namespace.apply(&noise);
        namespace.kubectl(&["label", "service", "app", &format!("round={round}"), "--overwrite"]);
        namespace.kubectl(&["delete", "service,deployment", &name]);
    }
    let ours = |versions: Vec<Value>| {
        let ours = versions.into_iter().filter(|each| {
            let name = each[1].as_str().unwrap_or_default();
            name.starts_with("gw") || name == "route"
        });
        let mut ours: Vec<_> = ours.collect();
        ours.sort_by_key(Value::to_string);
        ours
    };
    let before = ours(before);
    assert!(before.len() > 5, "{before:?}");
    assert_eq!(ours(versions()), before, "after {round} rounds of noise");
}
