//! The admin endpoint and `l4way status`.

use std::process::Command;

use super::{
    client::ask,
    l4way::{BINARY, L4way, own_address, wait_for},
    manifests::Manifests,
};

fn status(l4way: &L4way, args: &[&str]) -> (Option<i32>, String, String) {
    let admin = l4way.admin.to_string();
    let output = Command::new(BINARY)
        .args(["status", "--admin-address", &admin])
        .args(args)
        .output()
        .expect("l4way status");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn status_prints_what_run_printed() {
    let manifests = Manifests::copy_of("examples/tutorial");
    let l4way = L4way::run(&manifests, own_address(), &["--demo-backends"]);
    l4way.wait("the listeners", |report| report["phase"] == "serving");
    let (code, table, _) = status(&l4way, &[]);
    assert_eq!(code, Some(0), "{table}");
    let printed = l4way.stdout();
    for line in table.lines().filter(|line| line.starts_with("default/")) {
        assert!(printed.contains(line), "{line:?} isn't in\n{printed}");
    }

    let (_, json, _) = status(&l4way, &["-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json, l4way.report());
    let (_, yaml, _) = status(&l4way, &["-o", "yaml"]);
    assert!(yaml.contains("message: Route is accepted by the Gateway."), "{yaml}");
}

#[test]
fn status_tells_what_is_wrong_by_its_exit_code_and_in_words() {
    let manifests = Manifests::copy_of("examples/tutorial");
    let l4way = L4way::run(&manifests, own_address(), &["--demo-backends"]);
    manifests.write(
        "typo.yaml",
        "apiVersion: gateway.networking.k8s.io/v1\nkind: TCPRoute\nmetadata: {name: typo}\n\
         spec:\n  parentRefs: [{name: tcp-udp-gateway, sectionName: tcp-listner}]\n  \
         rules: [{backendRefs: [{name: tcp-echo-service, port: 5000}]}]\n",
    );
    l4way.wait("the new route", |report| report["overview"].to_string().contains("typo"));
    let (code, table, _) = status(&l4way, &[]);
    assert_eq!(code, Some(1), "{table}");
    assert!(table.contains("NoMatchingParent") && table.contains("tcp-listener"), "{table}");
}

#[test]
fn status_without_a_running_l4way_says_what_to_do() {
    let output = Command::new(BINARY)
        .args(["status", "--admin-address", "127.0.0.1:1"])
        .output()
        .expect("l4way status");
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8(output.stderr).expect("text");
    assert!(error.contains("l4way run"), "{error}");
}

#[test]
fn health_readiness_and_metrics() {
    let manifests = Manifests::copy_of("examples/tutorial");
    let address = own_address();
    let l4way = L4way::run(&manifests, address, &["--demo-backends"]);
    l4way.wait("the listeners", |report| report["phase"] == "serving");
    assert_eq!(l4way.get("/healthz").0, 200);
    assert_eq!(l4way.get("/readyz").0, 200);
    assert_eq!(l4way.get("/nothing").0, 404);

    ask((address, 9000).into()).expect("an answer");
    let labels = [
        "gateway=\"default/tcp-udp-gateway\"",
        "listener=\"tcp-listener\"",
        "route=\"TCPRoute/default/tcp-echo-route\"",
        "backend=\"Service/default/tcp-echo-service:5000\"",
    ];
    wait_for("the session's end to be counted", || {
        let ended = l4way.metric("l4way_sessions_ended_total", &labels);
        (ended == 1.0).then_some(())
    });
    assert_eq!(l4way.metric("l4way_sessions_opened_total", &labels), 1.0);
    assert_eq!(l4way.metric("l4way_sessions_active", &labels), 0.0);
    assert_eq!(l4way.metric("l4way_session_bytes_total", &labels), (10 + 21) as f64);
    assert_eq!(l4way.metric("l4way_connect_seconds_count", &labels), 1.0);
}
