//! Readers of standard output and standard error that have stalled: pipes that nobody reads.

use std::process::Command;

use rustix::process::Signal;

use super::{
    client::ask,
    l4way::{BINARY, L4way, own_address, wait_for},
    manifests::Manifests,
};

/// What is said for one route more, which gets no traffic.
fn another_route(manifests: &Manifests, name: &str) {
    let route = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: TCPRoute\nmetadata: {{name: {name}}}\n\
         spec:\n  parentRefs: [{{name: tcp-udp-gateway, sectionName: none}}]\n  \
         rules: [{{backendRefs: [{{name: tcp-echo-service, port: 5000}}]}}]\n"
    );
    manifests.write(&format!("{name}.yaml"), &route);
}

/// Runs l4way until what it says waits in both pipes, and no more of it can, and then on.
fn goes_on(args: &[&str]) {
    let manifests = Manifests::copy_of("examples/tutorial");
    let address = own_address();
    let mut command = Command::new(BINARY);
    command.args(["run", "--demo-backends", "--log-level", "trace", "-f"]).arg(manifests.path());
    command.args(["--address", &address.to_string(), "--admin-address"]);
    command.arg(format!("{address}:9902")).args(args);
    let mut l4way = L4way::unread(command, (address, 9902).into());
    l4way.wait("the listeners", |report| report["phase"] == "serving");

    let mut last = (0, 0);
    let mut routes = 0..;
    wait_for("both pipes to be full", || {
        // As much as a pipe holds is said of these in the log, and in the tables or the access log.
        for name in routes.by_ref().take(10).map(|n| format!("route-{n}")) {
            another_route(&manifests, &name);
            l4way.wait(&name, |report| report["overview"].to_string().contains(&name));
            for _ in 0..10 {
                ask((address, 9000).into()).expect("an answer");
            }
        }
        let now = l4way.waiting();
        let is_full = now.0 > 32_768 && now.1 > 32_768 && now == last;
        last = now;
        is_full.then_some(())
    });

    l4way.signal(Signal::HUP);
    another_route(&manifests, "last");
    l4way.wait("the last route", |report| report["overview"].to_string().contains("last"));
    ask((address, 9000).into()).expect("an answer");
    assert_eq!(l4way.get("/healthz"), (200, "ok\n".to_owned()));
    l4way.signal(Signal::TERM);
    assert!(l4way.ended().success());
}

#[test]
fn a_log_and_tables_that_nobody_reads_stop_nothing() {
    goes_on(&[]);
}

#[test]
fn an_access_log_that_nobody_reads_stops_nothing() {
    goes_on(&["--access-log", "-"]);
}
