//! The tutorial, word for word, with real `nc`, on a host of its own.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::Ipv4Addr,
    process::Command,
};

use super::{
    client::{ask, connect, nc},
    l4way::{BINARY, L4way, own_address, wait_for},
    manifests::Manifests,
    namespaces::Host,
};

const TCP: [&str; 4] = ["-w", "1", "127.0.0.1", "9000"];
const UDP: [&str; 5] = ["-u", "-w", "1", "127.0.0.1", "9001"];

/// Runs the tutorial's manifests as `make demo` does.
fn run(manifests: &Manifests) -> L4way {
    let mut command = Command::new(BINARY);
    command.arg("run").arg("-f").arg(manifests.path()).arg("--demo-backends");
    let l4way = L4way::start(command);
    l4way.wait("the listeners", |report| report["phase"] == "serving");
    l4way
}

#[test]
fn the_tutorials_commands_give_the_tutorials_answers() {
    Host::new().enter(|| {
        let manifests = Manifests::copy_of("examples/tutorial");
        let l4way = run(&manifests);
        assert_eq!(nc(&TCP, "Hello TCP\n"), "Hello from TCP Echo!\n");
        assert_eq!(nc(&UDP, "Hello UDP\n"), "Hello from UDP Echo!\n");

        let printed = wait_for("the table", || {
            let printed = l4way.stdout();
            printed.contains("UDPRoute").then_some(printed)
        });
        for row in [
            "default/tcp-udp-gateway   istio   127.0.0.1   True       True",
            "default/tcp-udp-gateway/tcp-listener   TCP        9000   1        True",
            "default/tcp-udp-gateway/udp-listener   UDP        9001   1        True",
            "TCPRoute default/tcp-echo-route   default/tcp-udp-gateway/tcp-listener   True",
        ] {
            assert!(printed.contains(row), "no {row:?} in\n{printed}");
        }

        let report = l4way.report();
        let route = object(&report, "TCPRoute", "tcp-echo-route");
        let accepted = condition(&route["status"]["parents"][0]["conditions"], "Accepted");
        assert_eq!(accepted["status"], "True");
        assert_eq!(accepted["reason"], "Accepted");
        assert_eq!(accepted["message"], "Route is accepted by the Gateway.");
        let gateway = object(&report, "Gateway", "tcp-udp-gateway");
        assert_eq!(gateway["status"]["addresses"][0]["value"], "127.0.0.1");
        for kind in ["Accepted", "Programmed"] {
            assert_eq!(condition(&gateway["status"]["conditions"], kind)["status"], "True");
        }
    });
}

#[test]
fn the_split_takes_effect_without_a_restart_or_a_cut_connection() {
    Host::new().enter(|| {
        let manifests = Manifests::copy_of("examples/tutorial");
        let l4way = run(&manifests);
        let gateway = "127.0.0.1:9000".parse().expect("an address");
        let mut early = connect(gateway).expect("a connection before the split");

        manifests.add_all("examples/tutorial-split");
        wait_for("an answer of the second version", || {
            ask(gateway).ok().filter(|answer| answer.contains("V2"))
        });

        early.write_all(b"Hello TCP\n").expect("the early connection is still there");
        let mut answer = [0; 21];
        early.read_exact(&mut answer).expect("and answers");
        assert_eq!(&answer, b"Hello from TCP Echo!\n", "from where it was connected to");
        early.write_all(b"still here\n").expect("and stays");

        let mut counts = BTreeMap::new();
        for _ in 0..1_000 {
            *counts.entry(ask(gateway).expect("an answer")).or_insert(0) += 1;
        }
        for (answer, count) in &counts {
            assert!((450..=550).contains(count), "{answer:?}: {count} of 1,000");
        }
        assert_eq!(counts.len(), 2, "{counts:?}");
        assert_eq!(l4way.metric("l4way_sessions_ended_total", &["_reset\""]), 0.0);
    });
}

#[test]
fn the_split_by_nc_is_mixed() {
    let manifests = Manifests::copy_of("examples/tutorial");
    manifests.add_all("examples/tutorial-split");
    let address = own_address();
    let l4way = L4way::run(&manifests, address, &["--demo-backends"]);
    l4way.wait("the listeners", |report| report["phase"] == "serving");
    let answers: Vec<String> = (0..10)
        .map(|_| nc(&["-N", "-w", "5", &address.to_string(), "9000"], "Hello TCP\n"))
        .collect();
    for text in ["Hello from TCP Echo!\n", "Hello from TCP Echo V2!\n"] {
        assert!(answers.iter().any(|answer| answer == text), "no {text:?} in {answers:?}");
    }
}

#[test]
fn the_same_object_in_two_places_is_told_and_the_first_stays() {
    let manifests = Manifests::copy_of("examples/tutorial");
    let address: Ipv4Addr = own_address();
    let l4way = L4way::run(&manifests, address, &["--demo-backends"]);
    manifests.write(
        "zz-second.yaml",
        "apiVersion: gateway.networking.k8s.io/v1\nkind: TCPRoute\n\
         metadata: {name: tcp-echo-route, namespace: default}\n\
         spec: {parentRefs: [{name: tcp-udp-gateway}], rules: [{backendRefs: []}]}\n",
    );
    l4way.wait("the error that names both places", |report| {
        let problems = report["problems"].to_string();
        problems.contains("tcp-route.yaml") && problems.contains("zz-second.yaml")
    });
    assert_eq!(ask((address, 9000).into()).expect("an answer"), "Hello from TCP Echo!\n");
}

fn object<'a>(report: &'a serde_json::Value, kind: &str, name: &str) -> &'a serde_json::Value {
    let objects = report["objects"].as_array().expect("a list of objects");
    let found = objects.iter().find(|object| object["kind"] == kind && object["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name} in {report:#}"))
}

fn condition<'a>(conditions: &'a serde_json::Value, kind: &str) -> &'a serde_json::Value {
    let conditions = conditions.as_array().expect("a list of conditions");
    conditions.iter().find(|condition| condition["type"] == kind).expect("the condition")
}
