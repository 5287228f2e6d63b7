//! Objects with a mistake in them, from the start on.

use std::{net::SocketAddr, process::Command};

use super::{
    client::{ask, echo_server},
    l4way::{BINARY, L4way, own_address},
    manifests::{Manifests, backend, gateway, route},
};

/// A route of one listener of the Gateway `gw` to a Backend.
fn route_of(name: &str, listener: &str, backend: &str) -> String {
    route("TCPRoute", &[(backend, 1)])
        .replace("{name: route}", &format!("{{name: {name}}}"))
        .replace("{name: gw}", &format!("{{name: gw, sectionName: {listener}}}"))
}

/// A BackendTLSPolicy for a Backend, with this beside its hostname.
fn policy(backend: &str, beside: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {{name: p}}\n\
         spec:\n  targetRefs: [{{group: l4way.dev, kind: Backend, name: {backend}}}]\n  validation: \
         {{hostname: b.example, wellKnownCACertificates: System{beside}}}\n"
    )
}

/// What clients get of a backend that echoes in plain text, whose policy has this beside its hostname, and of
/// one that no policy is for.
fn answers(beside: &str) -> [Option<String>; 2] {
    let address = own_address();
    let manifests = Manifests::of(&[
        gateway(&[("a", "TCP", 9000), ("b", "TCP", 9001)]),
        route_of("a", "a", "a"),
        route_of("b", "b", "b"),
        backend("a", echo_server(address)),
        backend("b", echo_server(address)),
        policy("a", beside),
    ]);
    let l4way = L4way::run(&manifests, address, &[]);
    l4way.wait("the listeners", |report| report["phase"] == "serving");
    [9000, 9001].map(|port| {
        let answer = ask(SocketAddr::from((address, port))).ok();
        answer.filter(|answer| !answer.is_empty())
    })
}

#[test]
fn a_backend_of_an_invalid_policy_gets_no_plain_text() {
    for beside in [", hostnme: x", ", ["] {
        let [with_policy, without] = answers(beside);
        assert_eq!(with_policy, None, "{beside}");
        assert_eq!(without.as_deref(), Some("Hello TCP\n"), "{beside}");
    }
}

#[test]
fn an_invalid_class_is_one() {
    let address = own_address();
    let class = "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: l4way}\n\
                 spec: {controllerName: example.org/other, descripton: x}\n";
    let manifests = Manifests::of(&[
        gateway(&[("a", "TCP", 9000)]),
        route_of("a", "a", "a"),
        backend("a", echo_server(address)),
        class.to_owned(),
    ]);
    let mut command = Command::new(BINARY);
    command.arg("run").arg("-f").arg(manifests.path()).args(["--admin-address", "127.0.0.1:0"]);
    command.args(["--address", &address.to_string()]);
    let l4way = L4way::start(command);
    let report = l4way.wait("the error", |report| report["problems"] != serde_json::json!([]));
    assert_eq!(report["notes"].as_array().map(Vec::len), Some(0), "{report:#}");
    assert!(ask(SocketAddr::from((address, 9000))).is_err());
}

#[test]
fn names_that_lead_nowhere_are_told_with_their_route() {
    let address = own_address();
    let manifests = Manifests::of(&[
        gateway(&[("a", "TCP", 9000)]),
        route_of("a", "a", "a"),
        "apiVersion: l4way.dev/v1alpha1\nkind: Backend\nmetadata: {name: a}\n\
         spec: {endpoints: [{fqdn: {hostname: does-not-exist.invalid, port: 1}}]}\n"
            .to_owned(),
    ]);
    let l4way = L4way::run(&manifests, address, &[]);
    l4way.wait("the listener", |report| report["phase"] == "serving");
    let (code, text) = l4way.status(&[]);
    assert_eq!(code, Some(1), "{text}");
    let told = text.lines().find(|line| line.contains("does-not-exist.invalid"));
    assert!(told.is_some_and(|line| line.contains("TCPRoute/default/a")), "{text}");
}
