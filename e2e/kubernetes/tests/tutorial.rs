//! The tutorial, word for word where a cluster allows it. What differs:
//!
//! - the class is l4way's, as the text says it has to be the installed controller's;
//! - `hashicorp/http-echo` is the project's own image of that name, which answers as the text says;
//!   the real one speaks HTTP only, and has no flag `-udp`;
//! - where the cluster's CRDs don't serve `v1alpha2` of TCPRoute and UDPRoute, as those of the
//!   standard channel don't, the routes say `v1`;
//! - `kubectl get deploy,svc -l app=tcp-echo` shows no Service, as the text's manifests give Services
//!   no labels.

use std::{collections::BTreeMap, fs, net::SocketAddr, thread};

use serde_json::json;

use crate::support::{
    CONTROLLER, Gateway, api_version, apply, ask, explain, get, kubectl, nc, project, route,
    server, shell, try_kubectl, wait_for, wait_for_condition,
};

const NAME: &str = "tcp-udp-gateway";

const ASK_TCP: &str = r#"
GATEWAY_IP=$(kubectl get gateway tcp-udp-gateway -o jsonpath='{.status.addresses[0].value}')
echo "Hello TCP" | nc -w 1 $GATEWAY_IP 9000
"#;

const ASK_UDP: &str = r#"
GATEWAY_IP=$(kubectl get gateway tcp-udp-gateway -o jsonpath='{.status.addresses[0].value}')
echo "Hello UDP" | nc -u -w 1 $GATEWAY_IP 9001
"#;

const ASK_TEN_TIMES: &str = r#"
GATEWAY_IP=$(kubectl get gateway tcp-udp-gateway -o jsonpath='{.status.addresses[0].value}')
for i in $(seq 1 10); do echo "Hello TCP" | nc -w 1 $GATEWAY_IP 9000; done
"#;

/// A file of the text, as this cluster takes it.
fn manifest(file: &str) -> String {
    let text = fs::read_to_string(project("examples").join(file)).expect("the tutorial's file");
    text.replace("gatewayClassName: istio", "gatewayClassName: l4way").replace(
        "apiVersion: gateway.networking.k8s.io/v1alpha2",
        &format!("apiVersion: {}", api_version()),
    )
}

/// What the reader has made, which goes when the test ends.
struct Reader;

impl Reader {
    fn apply(file: &str) {
        apply("default", &manifest(file));
    }

    /// Takes away what is there of the text's objects, in the order of its section "Clean up".
    fn clean_up() {
        for object in [
            "tcproute/tcp-echo-route",
            "udproute/udp-echo-route",
            "httproute/http-echo-route",
            "gateway/tcp-udp-gateway",
            "deployment/tcp-echo-server",
            "deployment/udp-echo-server",
            "deployment/tcp-echo-server-v2",
            "deployment/http-echo",
            "service/tcp-echo-service",
            "service/udp-echo-service",
            "service/tcp-echo-service-v2",
            "service/http-echo",
        ] {
            let delete = ["delete", "--namespace", "default", object, "--ignore-not-found"];
            let _ = try_kubectl(&delete);
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if thread::panicking() {
            explain("default");
        }
        Self::clean_up();
    }
}

#[test]
fn the_tutorial_from_its_first_step_to_its_clean_up() {
    Reader::clean_up();
    let gateway = Gateway::new("default", NAME);
    gateway.leaves_nothing();
    let reader = Reader;

    define_a_gateway(gateway);
    deploy_sample_backend_services();
    Reader::apply("tutorial/tcp-route.yaml");
    is_accepted("tcproute", "tcp-echo-route", "tcp-listener");
    prints(ASK_TCP, "Hello from TCP Echo!\n");
    Reader::apply("tutorial/udp-route.yaml");
    is_accepted("udproute", "udp-echo-route", "udp-listener");
    prints(ASK_UDP, "Hello from UDP Echo!\n");
    split_traffic();
    add_http(gateway);

    drop(reader);
    gateway.leaves_nothing();
}

/// Runs lines of the text until they print what it says: a route that was accepted this very moment
/// may be on its way to the proxies.
fn prints(lines: &str, expected: &str) {
    wait_for(format_args!("what the text expects of {lines}"), || match shell(lines) {
        printed if printed == expected => Ok(()),
        other => Err(other),
    });
}

/// Step 2.
fn define_a_gateway(gateway: Gateway<'_>) {
    Reader::apply("tutorial/tcp-udp-gateway.yaml");
    let address = gateway.programmed().to_string();
    let status = &gateway.object()["status"];
    assert_eq!(status["addresses"], json!([{"type": "IPAddress", "value": address}]));
    gateway.wait("Accepted", "True", "Accepted");

    let table = shell("kubectl get gateway tcp-udp-gateway");
    let rows: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "CLASS", "ADDRESS", "PROGRAMMED", "AGE"]);
    assert_eq!(rows[1][..4], [NAME, "l4way", &address, "True"]);
}

/// Step 3.
fn deploy_sample_backend_services() {
    Reader::apply("tutorial/backend-services.yaml");
    for (deployment, command) in [
        ("tcp-echo-server", "kubectl get deploy,svc -l app=tcp-echo"),
        ("udp-echo-server", "kubectl get deploy,svc -l app=udp-echo"),
    ] {
        available(deployment);
        let table = shell(command);
        let row = table
            .lines()
            .find_map(|line| line.strip_prefix("deployment.apps/")?.strip_prefix(deployment));
        let columns: Vec<_> = row.expect("the Deployment's row").split_whitespace().collect();
        assert_eq!(columns[..3], ["1/1", "1", "1"], "{table}");
    }
}

/// Steps 4 and 5.
fn is_accepted(kind: &str, name: &str, listener: &str) {
    let accepted = ("Accepted", "True", "Accepted");
    let message = wait_for_condition("default", kind, name, accepted);
    assert_eq!(message, "Route is accepted by the Gateway.");
    let parents = &get("default", &[kind, name])["status"]["parents"];
    assert_eq!(parents.as_array().map(Vec::len), Some(1), "{parents:#}");
    assert_eq!(parents[0]["controllerName"], CONTROLLER);
    assert_eq!(
        parents[0]["parentRef"],
        json!({
            "group": "gateway.networking.k8s.io",
            "kind": "Gateway",
            "name": NAME,
            "namespace": "default",
            "sectionName": listener,
        })
    );
}

/// Step 6.
fn split_traffic() {
    Reader::apply("tutorial-split/tcp-echo-v2.yaml");
    available("tcp-echo-server-v2");
    Reader::apply("tutorial-split/tcp-route.yaml");
    prints(ASK_TCP, "Hello from TCP Echo V2!\n");

    let printed = shell(ASK_TEN_TIMES);
    assert_eq!(printed.lines().count(), 10, "{printed}");
    for expected in ["Hello from TCP Echo!", "Hello from TCP Echo V2!"] {
        assert!(printed.lines().any(|line| line == expected), "no {expected:?} in\n{printed}");
    }

    let to = SocketAddr::new(Gateway::new("default", NAME).programmed(), 9000);
    let mut counts = BTreeMap::new();
    for _ in 0..200 {
        *counts.entry(ask(to).expect("a connection")).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 2, "two answers and nothing else: {counts:?}");
    assert!(counts.values().all(|count| (80..=120).contains(count)), "about half each: {counts:?}");
}

/// Question 2 of its FAQ: HTTP beside them on the same Gateway.
fn add_http(gateway: Gateway<'_>) {
    let listener = json!([{"op": "add", "path": "/spec/listeners/-", "value": {
        "name": "http", "protocol": "HTTP", "port": 80,
        "allowedRoutes": {"namespaces": {"from": "All"}},
    }}]);
    let patch = listener.to_string();
    kubectl(&[
        "patch",
        "gateway",
        NAME,
        "--namespace",
        "default",
        "--type=json",
        "--patch",
        &patch,
    ]);
    let page = "HTTP/1.1 200 OK\r\nContent-Length: 16\r\nConnection: close\r\n\r\nHello from HTTP";
    let backend = server("http-echo", "TCP", 5000, page);
    let route =
        route("HTTPRoute", "http-echo-route", &format!("{NAME}/http"), &[("http-echo", 5000, 1)]);
    apply("default", &(backend + &route));
    available("http-echo");
    let ip = gateway.programmed().to_string();
    let request = format!("GET / HTTP/1.1\r\nHost: {ip}\r\nConnection: close\r\n\r\n");
    wait_for("an answer by HTTP", || match nc(&["-w", "5", &ip, "80"], &request) {
        answer
            if answer.starts_with("HTTP/1.1 200")
                && answer.ends_with("\r\n\r\nHello from HTTP\n") =>
        {
            Ok(())
        }
        other => Err(other),
    });
    prints(ASK_TCP, "Hello from TCP Echo!\n");
    prints(ASK_UDP, "Hello from UDP Echo!\n");
}

fn available(deployment: &str) {
    let deployment = format!("deployment/{deployment}");
    kubectl(&[
        "wait",
        "--namespace",
        "default",
        "--for=condition=Available",
        "--timeout=120s",
        &deployment,
    ]);
}

#[test]
fn the_manifests_of_the_documentation_are_taken() {
    for path in ["examples/kubernetes", "examples/kubernetes-split", "deploy/l4way.yaml"] {
        let path = project(path);
        let path = path.to_str().expect("text");
        kubectl(&[
            "apply",
            "--server-side",
            "--force-conflicts",
            "--dry-run=server",
            "--filename",
            path,
        ]);
    }
}
