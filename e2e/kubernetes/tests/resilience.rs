//! What goes on when something of the cluster goes.

use std::{
    fs, process,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{
    Gateway, Namespace, apply, apply_server_side, echo, gateway, get, kubectl, route, wait_for,
};

const SYSTEM: &str = "l4way-system";

/// Who leads among the controllers, by the Lease.
pub(crate) fn leader() -> String {
    let lease = get(SYSTEM, &["lease", "l4way-controller"]);
    lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
}

/// Kills what runs in a pod, which has no time to say good-bye.
pub(crate) fn kill(pod: &str) {
    signal(pod, Signal::KILL);
}

/// Sends a signal to what runs in a pod: this cluster's pods are processes of this machine. It is known by
/// the variable in which its pod's name is, l4way's or a backend's.
pub(crate) fn signal(pod: &str, signal: Signal) {
    let variables = ["L4WAY_POD_NAME", "POD_NAME"].map(|name| format!("{name}={pod}"));
    let mut found = 0;
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let environ = fs::read(entry.path().join("environ")).unwrap_or_default();
        let is_it = environ
            .split(|byte| *byte == 0)
            .any(|each| variables.iter().any(|variable| each == variable.as_bytes()));
        if is_it && pid.unsigned_abs() != process::id() {
            let pid = Pid::from_raw(pid).expect("a process");
            kill_process(pid, signal).expect("root may");
            found += 1;
        }
    }
    assert!(found > 0, "no process of pod {pod}");
}

#[test]
fn another_controller_leads_within_20_seconds_of_a_kill() {
    let namespace = Namespace::new("leader");
    let gw = namespace.serving("");
    let pods = gw.pods();

    let first = wait_for("a leader", || match leader() {
        none if none.is_empty() => Err("none"),
        first => Ok(first),
    });
    let killed_at = Instant::now();
    kill(&first);
    // Nor shall it come back under its name.
    kubectl(&["delete", "pod", &first, "--namespace", SYSTEM, "--force", "--grace-period=0"]);
    wait_for("another leader", || match leader() {
        other if other != first && !other.is_empty() => Ok(()),
        same => Err(same),
    });
    let took = killed_at.elapsed();
    assert!(took < Duration::from_secs(20), "another leads after {took:?}");

    let changed = route("TCPRoute", "route", "gw/tcp", &[("nothing", 5000, 1)]);
    namespace.apply(&changed);
    gw.refuses(9000);
    namespace.apply(&route("TCPRoute", "route", "gw/tcp", &[("app", 5000, 1)]));
    gw.serves(9000);
    assert_eq!(gw.pods(), pods, "the proxies are what they were");
    let rollout = ["rollout", "status", "deployment/l4way-controller", "--namespace", SYSTEM];
    kubectl(&[&rollout[..], &["--timeout=120s"]].concat());
}

/// A CRD that is taken away, and put back when the test ends.
struct Missing(String);

impl Missing {
    fn new(name: &str) -> Self {
        let mut crd: Value = get("default", &["crd", name]);
        for field in ["resourceVersion", "uid", "creationTimestamp", "generation", "managedFields"]
        {
            crd["metadata"].as_object_mut().expect("metadata").remove(field);
        }
        crd.as_object_mut().expect("an object").remove("status");
        let missing = Self(crd.to_string());
        kubectl(&["delete", "crd", name]);
        missing
    }
}

impl Drop for Missing {
    fn drop(&mut self) {
        // Its annotations may be too large for kubectl's client-side apply.
        apply_server_side(&self.0);
    }
}

#[test]
fn a_kind_may_be_missing_and_come_back() {
    let namespace = Namespace::new("missing");
    namespace.apply(&(gateway("gw", &[("tcp", "TCP", 9000)], "") + &echo("app", "TCP")));
    namespace.available(&["app"]);
    let gw = Gateway::new(namespace.name(), "gw");
    gw.programmed();
    let set = "listenersets.gateway.networking.k8s.io";
    let missing = Missing::new(set);
    namespace.apply(&route("TCPRoute", "route", "gw/tcp", &[("app", 5000, 1)]));
    gw.serves(9000);

    drop(missing);
    kubectl(&["wait", "--for=condition=Established", "--timeout=60s", &format!("crd/{set}")]);
    let allow = json!({"spec": {"allowedListeners": {"namespaces": {"from": "Same"}}}});
    let patch = allow.to_string();
    namespace.kubectl(&["patch", "gateway", "gw", "--type=merge", "--patch", &patch]);
    let path = "jsonpath={.spec.versions[?(@.storage==true)].name}";
    let version = kubectl(&["get", "crd", set, "--output", path]);
    let manifest = format!(
        "apiVersion: gateway.networking.k8s.io/{version}\nkind: ListenerSet\nmetadata: {{name: \
         more}}\nspec:\n  parentRef: {{name: gw}}\n  listeners: [{{name: extra, protocol: TCP, port: \
         9200}}]\n---\n"
    );
    let to_set = route("TCPRoute", "extra", "more/extra", &[("app", 5000, 1)]).replace(
        "parentRefs: [{",
        "parentRefs: [{group: gateway.networking.k8s.io, kind: ListenerSet, ",
    );
    apply(namespace.name(), &(manifest + &to_set));
    gw.serves(9200);
}
