//! The controllers watch one namespace, with rights in it alone, and then all again.

use std::process::Command;

use super::SYSTEM;
use crate::support::{
    Gateway, Namespace, gateway, get, kubectl, l4way, project, route, try_kubectl, wait_for,
};

const SERVICE_ACCOUNT: &str = "system:serviceaccount:l4way-system:l4way-controller";

/// Has the chart's value set until this is dropped.
struct Watching;

impl Watching {
    fn only(namespace: &str) -> Self {
        let watching = Self;
        upgrade(&format!("watchNamespaces=[{namespace:?}]")).unwrap_or_else(|e| panic!("{e}"));
        watching
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        if let Err(error) = upgrade("watchNamespaces=[]") {
            eprintln!("the controllers still watch one namespace: {error}");
        }
    }
}

fn upgrade(value: &str) -> Result<(), String> {
    let chart = project("charts/l4way");
    let chart = chart.to_str().expect("a path");
    let helm = ["helm", "upgrade", "l4way", chart, "--namespace", SYSTEM, "--reuse-values"];
    let done = Command::new(project("e2e/cluster/in"))
        .args(helm)
        .args(["--set-json", value, "--wait", "--timeout", "2m"])
        .output()
        .expect("helm runs");
    if done.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&done.stderr).into_owned())
}

/// Whether the controllers may do this in a namespace.
fn may(verb: &str, resource: &str, namespace: &str) -> bool {
    let account = format!("--as={SERVICE_ACCOUNT}");
    try_kubectl(&["auth", "can-i", verb, resource, "--namespace", namespace, &account]).is_ok()
}

#[test]
fn one_namespace_is_served_and_nothing_seen_of_others() {
    let watched = Namespace::new("watched");
    let other = Namespace::new("unwatched");
    assert!(may("get", "secrets", other.name()));
    {
        let _watching = Watching::only(watched.name());
        assert!(!may("get", "secrets", other.name()) && !may("list", "configmaps", other.name()));
        assert!(may("get", "secrets", watched.name()));
        assert!(!may("create", "deployments", other.name()));
        let everywhere = format!("--as={SERVICE_ACCOUNT}");
        let list = ["auth", "can-i", "list", "services", "--all-namespaces", &everywhere];
        assert!(try_kubectl(&list).is_err());

        // All that a Gateway needs is made, by rights that are given by Roles.
        let gw = watched.serving("");
        other.apply(&gateway("gw", &[("tcp", "TCP", 9000)], ""));
        watched.apply(
            &route("TCPRoute", "away", "gw/tcp", &[("app", 5000, 1)])
                .replace("{name: app,", &format!("{{name: app, namespace: {},", other.name())),
        );
        let why =
            format!("Service {}/app is in a namespace that l4way doesn't watch", other.name());
        wait_for("the route to say why", || {
            let route = get(watched.name(), &["tcproute", "away"]).to_string();
            if route.contains(&why) { Ok(()) } else { Err(route) }
        });
        gw.answers(9000, "Hello from app!");
        let theirs = get(other.name(), &["gateway", "gw"]);
        let conditions = theirs["status"]["conditions"].to_string();
        assert!(!conditions.contains("l4way"), "{conditions}");
        assert_eq!(kubectl(&["--namespace", other.name(), "get", "deployments", "-o", "name"]), "");
        let problems = l4way(&["check", "--kube", "--watch-namespace", watched.name()]).out;
        assert!(!problems.contains(&format!("Gateway {}/gw", other.name())), "{problems}");
    }
    // All are watched again.
    Gateway::new(other.name(), "gw").programmed();
}
