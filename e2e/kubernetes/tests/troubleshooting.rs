//! The tutorial's section "Troubleshooting": each of its cases is told, in words that name the cure.

use std::{collections::BTreeMap, net::SocketAddr, process::Command};

use crate::support::{
    Ask, Gateway, Namespace, ask, ask_udp, check, echo, gateway, kubectl, l4way, parameters,
    problems_of, route, scaled_to_0, server, wait_for, wait_for_condition,
};

const REFUSED: &str = "l4way_sessions_refused_total";
const ENDED: &str = "l4way_sessions_ended_total";

/// Asserts that a text has all of these words.
#[track_caller]
fn says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
}

/// Waits until `kubectl describe` of an object has all of these words.
fn is_described(namespace: &Namespace, object: &str, words: &[&str]) {
    wait_for(format_args!("kubectl describe {object} to say {words:?}"), || {
        let text = namespace.kubectl(&["describe", object]);
        if words.iter().all(|word| text.contains(word)) { Ok(()) } else { Err(text) }
    });
}

/// Waits until `l4way check --kube` says something of an object that has all of these words.
fn is_checked(namespace: &Namespace, kind: &str, name: &str, words: &[&str]) {
    wait_for(format_args!("l4way check to say {words:?} of {kind} {name}"), || {
        let problems = problems_of(kind, namespace.name(), name);
        let told = problems.iter().any(|problem| words.iter().all(|word| problem.contains(word)));
        if told { Ok(()) } else { Err(format!("{problems:?}")) }
    });
}

// Issue 1: status.addresses is pending or empty.

#[test]
fn an_address_that_nobody_gives_is_pending_with_what_to_install() {
    let namespace = Namespace::new("pending");
    let (reference, object) =
        parameters("gw", "{service: {loadBalancerClass: example.com/nobody}}");
    namespace.apply(&(object + &gateway("gw", &[("tcp", "TCP", 9000)], &reference)));
    let gw = Gateway::new(namespace.name(), "gw");
    let words = ["gw-l4way has no address", "MetalLB", "minikube tunnel", "NodePort"];
    gw.not_programmed("AddressNotAssigned", &words);
    assert_eq!(gw.object()["status"]["addresses"].as_array().map_or(0, Vec::len), 0);
    is_described(&namespace, "gateway/gw", &["Warning", "AddressNotAssigned", "minikube tunnel"]);
    let table = namespace.kubectl(&["get", "gateway", "gw"]);
    says(table.lines().nth(1).expect("its row"), &["l4way", "False"]);
}

#[test]
fn an_address_that_cant_be_had_is_told_with_the_load_balancers_reason() {
    let namespace = Namespace::new("unusable");
    let address = "addresses: [{type: IPAddress, value: 192.0.2.1}]";
    namespace.apply(&gateway("gw", &[("tcp", "TCP", 9000)], address));
    let gw = Gateway::new(namespace.name(), "gw");
    gw.not_programmed("AddressNotUsable", &["AllocationFailed", "192.0.2.1"]);
    is_described(&namespace, "gateway/gw", &["AddressNotUsable", "192.0.2.1"]);
}

#[test]
fn a_class_that_no_controller_owns_is_told_by_check() {
    let namespace = Namespace::new("class");
    let of_class = |name: &str, class: &str| {
        gateway(name, &[("tcp", "TCP", 9000)], "")
            .replace("gatewayClassName: l4way", &format!("gatewayClassName: {class}"))
    };
    let class = "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: {name: \
                 e2e-other}\nspec: {controllerName: example.com/other}\n---\n";
    namespace.apply(&(of_class("nobodys", "istio") + class + &of_class("others", "e2e-other")));
    is_checked(
        &namespace,
        "Gateway",
        "nobodys",
        &["error: ", "GatewayClass istio doesn't exist", "l4way's classes are", "l4way"],
    );
    is_checked(
        &namespace,
        "Gateway",
        "others",
        &["warning: ", "GatewayClass e2e-other belongs to controller example.com/other"],
    );
    let output = check();
    assert_eq!(output.code, Some(1), "{}", output.out);
    says(&output.out, &["GatewayClass istio doesn't exist"]);
    kubectl(&["delete", "gatewayclass", "e2e-other"]);
}

// Issue 2: status.parents shows "Not Accepted" or "No Ready Listeners".

#[test]
fn a_section_name_that_no_listener_has_is_told_with_those_there_are() {
    let namespace = Namespace::new("section");
    namespace.apply(
        &(gateway("gw", &[("tcp-listener", "TCP", 9000), ("udp-listener", "UDP", 9001)], "")
            + &echo("app", "TCP")
            + &route("TCPRoute", "typo", "gw/tcp-listner", &[("app", 5000, 1)])),
    );
    let condition = ("Accepted", "False", "NoMatchingParent");
    let message = wait_for_condition(namespace.name(), "tcproute", "typo", condition);
    says(&message, &["\"tcp-listner\"", "did you mean", "tcp-listener", "udp-listener"]);
    is_described(&namespace, "tcproute/typo", &["Warning", "NoMatchingParent", "tcp-listner"]);
    is_checked(&namespace, "TCPRoute", "typo", &["error: ", "did you mean"]);
}

#[test]
fn a_route_of_the_wrong_protocol_is_told_what_the_listener_takes() {
    let namespace = Namespace::new("protocol");
    namespace.apply(
        &(gateway("gw", &[("udp", "UDP", 9001)], "")
            + &echo("app", "TCP")
            + &route("TCPRoute", "wrong", "gw/udp", &[("app", 5000, 1)])),
    );
    let condition = ("Accepted", "False", "NotAllowedByListeners");
    let message = wait_for_condition(namespace.name(), "tcproute", "wrong", condition);
    says(&message, &["no listener takes TCPRoutes", "\"udp\" takes UDPRoute"]);
    is_described(&namespace, "tcproute/wrong", &["NotAllowedByListeners", "takes UDPRoute"]);
}

#[test]
fn listeners_that_want_the_same_port_are_told_of_each_other() {
    let namespace = Namespace::new("conflict");
    let listeners = [("tcp", "TCP", 9000), ("http", "HTTP", 9000), ("fine", "TCP", 9100)];
    namespace.apply(&gateway("gw", &listeners, ""));
    let gw = Gateway::new(namespace.name(), "gw");
    let message = gw.wait("Accepted", "True", "ListenersNotValid");
    says(&message, &["tcp", "http"]);
    let status = gw.object()["status"].clone();
    let of = |name: &str, condition: &str| {
        let listeners = status["listeners"].as_array().expect("listeners");
        let listener = listeners.iter().find(|listener| listener["name"] == name);
        let conditions = listener.expect("the listener")["conditions"].as_array();
        let found = conditions.expect("conditions").iter().find(|found| found["type"] == condition);
        found.cloned().expect("the condition")
    };
    for (name, other) in [("tcp", "http"), ("http", "tcp")] {
        assert_eq!(of(name, "Conflicted")["reason"], "ProtocolConflict", "{status:#}");
        let accepted = of(name, "Accepted");
        assert_eq!(accepted["status"], "False");
        let message = accepted["message"].as_str().expect("a message");
        says(message, &["port 9000 is also wanted by", other, "change the port"]);
    }
    assert_eq!(of("fine", "Accepted")["status"], "True", "the others are left alone");
    is_described(&namespace, "gateway/gw", &["Warning", "ProtocolConflict", "change the port"]);
}

#[test]
fn proxies_that_cant_start_are_told_with_kubernetes_reason() {
    let namespace = Namespace::new("image");
    let (reference, object) = parameters("gw", "{image: 'docker.io/l4way/nowhere:1'}");
    namespace.apply(&(object + &gateway("gw", &[("tcp", "TCP", 9000)], &reference)));
    let gw = Gateway::new(namespace.name(), "gw");
    let words = ["No proxy is ready", "Pod", "ImagePullBackOff", "docker.io/l4way/nowhere:1"];
    gw.not_programmed("Pending", &words);
    let listener = &gw.object()["status"]["listeners"][0]["conditions"];
    let listener = listener.as_array().expect("conditions");
    let programmed = listener.iter().find(|found| found["type"] == "Programmed");
    assert_eq!(programmed.expect("Programmed")["status"], "False");
}

#[test]
fn a_route_that_another_has_superseded_is_told_which() {
    let namespace = Namespace::new("superseded");
    namespace.apply(
        &(gateway("gw", &[("tcp", "TCP", 9000)], "")
            + &echo("app", "TCP")
            + &route("TCPRoute", "a-first", "gw/tcp", &[("app", 5000, 1)])),
    );
    // Of routes made in the same second, the name decides.
    namespace.apply(&route("TCPRoute", "b-second", "gw/tcp", &[("app", 5000, 1)]));
    let condition = ("l4way.dev/Superseded", "True", "OtherRouteHasPrecedence");
    let message = wait_for_condition(namespace.name(), "tcproute", "b-second", condition);
    says(&message, &["a-first"]);
    is_described(
        &namespace,
        "tcproute/b-second",
        &["Warning", "OtherRouteHasPrecedence", "a-first"],
    );
}

// Issue 3: connectivity fails though Gateway and route are accepted.

#[test]
fn a_missing_backend_is_told_with_the_name_that_may_be_meant() {
    let namespace = Namespace::new("backend");
    namespace.apply(
        &(gateway("gw", &[("tcp", "TCP", 9000)], "")
            + &echo("tcp-echo-service", "TCP")
            + &route("TCPRoute", "typo", "gw/tcp", &[("tcp-echo-servce", 5000, 1)])),
    );
    let condition = ("ResolvedRefs", "False", "BackendNotFound");
    let message = wait_for_condition(namespace.name(), "tcproute", "typo", condition);
    says(&message, &["tcp-echo-servce doesn't exist", "did you mean", "tcp-echo-service"]);
    is_described(&namespace, "tcproute/typo", &["Warning", "BackendNotFound", "did you mean"]);
    let gw = Gateway::new(namespace.name(), "gw");
    gw.refuses(9000);
    gw.counts(REFUSED, &["reason=\"invalid_backend\""], 1.0);
}

#[test]
fn a_selector_that_matches_no_pod_is_told_by_check_and_counted() {
    let namespace = Namespace::new("selector");
    let lost = echo("app", "TCP").replace("selector: {app: app}", "selector: {app: ap}");
    namespace.apply(
        &(gateway("gw", &[("tcp", "TCP", 9000)], "")
            + &lost
            + &route("TCPRoute", "route", "gw/tcp", &[("app", 5000, 1)])),
    );
    let gw = Gateway::new(namespace.name(), "gw");
    gw.refuses(9000);
    gw.counts(REFUSED, &["reason=\"no_endpoint\"", "/app:5000\""], 1.0);
    let words = ["warning: ", "no pod has the labels of its selector (app=ap)", "your pods"];
    is_checked(&namespace, "TCPRoute", "route", &words);
}

#[test]
fn an_application_that_refuses_is_counted_as_such() {
    let namespace = Namespace::new("refuses");
    namespace.apply(
        &(gateway("gw", &[("tcp", "TCP", 9000)], "")
            + &server("app", "TCP", 5999, "nobody asks here")
            + &route("TCPRoute", "route", "gw/tcp", &[("app", 5000, 1)])),
    );
    namespace.available(&["app"]);
    let gw = Gateway::new(namespace.name(), "gw");
    gw.refuses(9000);
    wait_for("a refused connection to be counted", || {
        gw.refuses(9000);
        match gw.metric(ENDED, &["reason=\"connect_refused\"", "class=\"error\""]) {
            0.0 => Err("none"),
            count => Ok(count),
        }
    });
}

#[test]
fn a_backend_at_which_nobody_answers_is_told_on_its_service() {
    let namespace = Namespace::new("unanswered");
    namespace.apply(
        &(gateway("gw", &[("tcp", "TCP", 9000)], "")
            + &server("app", "TCP", 5999, "Hello from app!")
            + &route("TCPRoute", "route", "gw/tcp", &[("app", 5000, 1)])),
    );
    namespace.available(&["app"]);
    let gw = Gateway::new(namespace.name(), "gw");
    gw.refuses(9000);
    gw.counts("l4way_backend_failed_attempts_total", &["reason=\"refused\""], 1.0);
    let words = ["Warning", "NoEndpointAnswers", "1 of 1 endpoints of port 5000", "(refused)"];
    is_described(&namespace, "service/app", &words);
    let status = l4way(&["status", "--kube"]);
    assert_eq!(status.code, Some(1), "{}", status.out);
    says(&status.out, &[&format!("nobody answers at Service/{}/app:5000", namespace.name())]);
    namespace.apply(&server("app", "TCP", 5000, "Hello from app!"));
    gw.serves(9000);
    is_described(&namespace, "service/app", &["Normal", "EndpointsTaken"]);
}

/// An address that swallows what is sent to it, as a firewall would.
struct BlackHole;

impl BlackHole {
    const ADDRESS: &str = "198.51.100.1";

    fn new() -> Self {
        let _ = Self::route("del");
        assert!(Self::route("add"), "ip route add blackhole, as root in the cluster's namespace");
        Self
    }

    fn route(verb: &str) -> bool {
        let mut ip = Command::new("ip");
        ip.args(["route", verb, "blackhole", Self::ADDRESS]).stderr(std::process::Stdio::null());
        ip.status().expect("iproute2").success()
    }
}

impl Drop for BlackHole {
    fn drop(&mut self) {
        Self::route("del");
    }
}

#[test]
fn an_application_that_doesnt_answer_is_counted_as_such() {
    let _black_hole = BlackHole::new();
    let namespace = Namespace::new("silent");
    let (reference, object) = parameters("gw", "{connectTimeoutSeconds: 1}");
    let address = BlackHole::ADDRESS;
    let service = format!(
        "apiVersion: v1
kind: Service
metadata: {{name: app}}
spec: {{ports: [{{port: 5000}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: app-1, labels: {{kubernetes.io/service-name: app}}}}
addressType: IPv4
ports: [{{port: 5000, protocol: TCP, name: ''}}]
endpoints: [{{addresses: [{address}]}}]
---
"
    );
    namespace.apply(
        &(object
            + &gateway("gw", &[("tcp", "TCP", 9000)], &reference)
            + &service
            + &route("TCPRoute", "route", "gw/tcp", &[("app", 5000, 1)])),
    );
    let gw = Gateway::new(namespace.name(), "gw");
    wait_for("a connection without an answer to be counted", || {
        gw.refuses(9000);
        match gw.metric(ENDED, &["reason=\"connect_timeout\"", "class=\"error\""]) {
            0.0 => Err("none"),
            count => Ok(count),
        }
    });
}

// Issue 4: traffic splitting is not working as expected.

#[test]
fn a_side_without_ready_endpoints_has_its_share_refused_and_told() {
    let namespace = Namespace::new("split");
    namespace.apply(
        &(gateway("gw", &[("tcp", "TCP", 9000)], "")
            + &echo("up", "TCP")
            + &scaled_to_0(&echo("down", "TCP"))
            + &route("TCPRoute", "route", "gw/tcp", &[("up", 5000, 50), ("down", 5000, 50)])),
    );
    namespace.available(&["up"]);
    let gw = Gateway::new(namespace.name(), "gw");
    gw.answers(9000, "Hello from up!");
    let labels = ["reason=\"no_endpoint\"", "/down:5000\""];
    let to = SocketAddr::new(gw.programmed(), 9000);
    let before = gw.metric(REFUSED, &labels);
    let mut counts = BTreeMap::new();
    for _ in 0..60 {
        *counts.entry(ask(to).expect("a connection")).or_insert(0_u32) += 1;
    }
    let answered = counts.get(&Ask::Answer("Hello from up!\n".to_owned())).copied().unwrap_or(0);
    let refused = counts.get(&Ask::Refused).copied().unwrap_or(0);
    assert_eq!(answered + refused, 60, "{counts:?}");
    assert!((20..=40).contains(&refused), "about half is refused: {counts:?}");
    gw.counts(REFUSED, &labels, before + f64::from(refused));
    let words = ["warning: ", "/down has no endpoint", "refused"];
    is_checked(&namespace, "TCPRoute", "route", &words);
}

// Issue 5: UDP traffic is unreliable or lost.

#[test]
fn lost_datagrams_are_counted_by_reason() {
    let namespace = Namespace::new("datagrams");
    let listeners = [
        ("fine", "UDP", 9001),
        ("empty", "UDP", 9002),
        ("closed", "UDP", 9003),
        ("typo", "UDP", 9004),
    ];
    namespace.apply(
        &(gateway("gw", &listeners, "")
            + &echo("fine", "UDP")
            + &echo("empty", "UDP").replace("selector: {app: empty}", "selector: {app: nobody}")
            + &server("closed", "UDP", 5999, "nobody asks here")
            + &route("UDPRoute", "fine", "gw/fine", &[("fine", 5000, 1)])
            + &route("UDPRoute", "empty", "gw/empty", &[("empty", 5000, 1)])
            + &route("UDPRoute", "closed", "gw/closed", &[("closed", 5000, 1)])
            + &route("UDPRoute", "typo", "gw/typo", &[("nothing", 5000, 1)])),
    );
    namespace.available(&["fine", "closed"]);
    let gw = Gateway::new(namespace.name(), "gw");
    gw.answers_udp(9001, "Hello from fine!");
    let ip = gw.programmed();
    for (port, metric, labels) in [
        (9002, REFUSED, ["reason=\"no_endpoint\"", "listener=\"empty\""]),
        (9003, ENDED, ["reason=\"icmp_unreachable\"", "listener=\"closed\""]),
        (9004, REFUSED, ["reason=\"invalid_backend\"", "listener=\"typo\""]),
    ] {
        wait_for(format_args!("{metric} {labels:?}"), || {
            assert!(ask_udp((ip, port).into()).is_err(), "nobody answers on {port}");
            let count = gw.metric(metric, &[&labels[..], &["protocol=\"UDP\""]].concat());
            if count > 0.0 { Ok(()) } else { Err(count) }
        });
    }
    assert_eq!(gw.metric(REFUSED, &["listener=\"fine\""]), 0.0, "and nothing else");
}
