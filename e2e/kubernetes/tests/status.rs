//! How status is written: others' entries are theirs, and nothing is written when nothing has changed.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{
    CONTROLLER, Namespace, echo, gateway, get, route, scaled_to_0, wait_for, wait_for_condition,
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
    namespace.serving("");
    // What the controllers write of this Gateway and its route, beside Leases.
    let versions = || {
        let kinds = "gateways,tcproutes,deployments,services,serviceaccounts,roles,rolebindings,\
                     poddisruptionbudgets,secrets";
        let list = get(namespace.name(), &[kinds]);
        let items = list["items"].as_array().into_iter().flatten();
        let mut versions: Vec<_> = items
            .filter_map(|item| {
                let name = item["metadata"]["name"].as_str()?;
                let version = item["metadata"]["resourceVersion"].as_str()?;
                let is_ours = name.starts_with("gw") || name == "route";
                is_ours.then(|| format!("{} {name} {version}", item["kind"]))
            })
            .collect();
        versions.sort();
        versions
    };
    let before = wait_for("what follows the last change to settle", || {
        let first = versions();
        thread::sleep(Duration::from_secs(1));
        if first == versions() { Ok(first) } else { Err("it changes") }
    });
    assert!(before.len() >= 9, "one of each kind: {before:?}");

    let until = Instant::now() + Duration::from_secs(6);
    for round in 1.. {
        let name = format!("noise-{round}");
        namespace.apply(&scaled_to_0(&echo(&name, "TCP")));
        namespace.kubectl(&["label", "service", "app", &format!("round={round}"), "--overwrite"]);
        namespace.kubectl(&["delete", "service,deployment", &name]);
        assert_eq!(versions(), before, "after {round} rounds of noise");
        if Instant::now() > until {
            break;
        }
    }
}
