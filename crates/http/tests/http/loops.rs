//! Requests that come back (RFC 8586).

use hyper::StatusCode;
use l4way_http::ErrorReason;

use crate::{
    client::{get, raw, request, send},
    endpoint::named,
    support::{
        all_to, apply, backend, endpoints, errors, free_address, listener, port, proxy_with, rule,
        start,
    },
};

/// What an endpoint saw of the header.
fn seen(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("cdn-loop: ")).collect()
}

#[tokio::test]
async fn a_request_that_comes_back_is_answered_with_an_error() {
    let address = free_address();
    let mut proxy = start();
    let port = port(address, vec![listener("", all_to("self"))]);
    apply(&mut proxy, [port], &endpoints([("self", vec![address])]));
    for _ in 0..3 {
        assert_eq!(get(address, "any", "/").await.status, StatusCode::LOOP_DETECTED);
    }
    assert_eq!(errors(&proxy, ErrorReason::Loop), 3);
    // Nobody can have it forgotten where a request has been.
    let answer = raw(
        address,
        "GET / HTTP/1.1\r\nhost: any\r\nconnection: close, cdn-loop\r\ncdn-loop: a; b=\"\r\n\r\n",
    );
    assert!(answer.await.starts_with("HTTP/1.1 508 "));
    assert_eq!(errors(&proxy, ErrorReason::Loop), 4);
}

#[tokio::test]
async fn a_request_may_come_through_several_listeners_and_rules() {
    let [first, second] = [free_address(), free_address()];
    let end = named("end").await;
    let mut proxy = start();
    let rules = vec![rule("/a", [(1, backend("end"))]), rule("/", [(1, backend("second"))])];
    let ports = [
        port(first, vec![listener("", all_to("second"))]),
        port(second, vec![listener("*.example", rules.clone()), listener("a.example", rules)]),
    ];
    let all = endpoints([("end", vec![end]), ("second", vec![second])]);
    apply(&mut proxy, ports, &all);
    let answer = get(first, "a.example", "/a").await;
    assert_eq!(answer.name(), "end");
    let names = seen(&answer.text);
    assert_eq!(names.len(), 2);
    assert_ne!(names[0], names[1]);
    // Another rule leads back.
    assert_eq!(get(first, "b.example", "/b").await.status, StatusCode::LOOP_DETECTED);
    assert_eq!(errors(&proxy, ErrorReason::Loop), 1);
}

#[tokio::test]
async fn who_else_has_forwarded_a_request_is_passed_on_and_means_nothing() {
    let end = named("end").await;
    let (proxy, address) = proxy_with(vec![listener("", all_to("end"))], [("end", vec![end])]);
    let mut others = request("any", "/");
    let lines = ["cdn; a=\"b, c\"", "l4way-0000000000000000, other", "", "  ,,;\"\\"];
    for line in lines {
        others.headers_mut().append("cdn-loop", line.parse().unwrap());
    }
    let answer = send(address, others).await;
    assert_eq!(answer.name(), "end");
    let seen = seen(&answer.text);
    assert_eq!((&seen[..2], seen.len()), (&lines[..2], lines.len() + 1));
    let ours = seen[lines.len()];

    for spelled in [
        ours.to_owned(),
        ours.to_uppercase(),
        format!("cdn; a=\"b, c\", {ours}"),
        format!("{ours}; a=b, cdn"),
        format!("{}{ours}", "cdn, ".repeat(2_000)),
    ] {
        let mut back = request("any", "/");
        back.headers_mut().append("cdn-loop", "cdn".parse().unwrap());
        back.headers_mut().append("cdn-loop", spelled.parse().unwrap());
        assert_eq!(send(address, back).await.status, StatusCode::LOOP_DETECTED, "{spelled}");
    }
    for spelled in [format!("cdn; a=\"{ours}\""), format!("{ours}0"), format!("cdn; {ours}")] {
        let mut other = request("any", "/");
        other.headers_mut().append("cdn-loop", spelled.parse().unwrap());
        assert_eq!(send(address, other).await.name(), "end", "{spelled}");
    }
    assert_eq!(errors(&proxy, ErrorReason::Loop), 5);
}

#[tokio::test]
async fn proxies_of_one_gateway_know_what_the_others_have_forwarded() {
    let [first, second] = [free_address(), free_address()];
    let proxies = |uids: [&'static str; 2]| {
        let mut proxies = [start(), start()];
        let around = [(first, second), (second, first)];
        for ((proxy, uid), (here, there)) in proxies.iter_mut().zip(uids).zip(around) {
            let config = crate::support::config([port(here, vec![listener("", all_to("next"))])]);
            let config = (*config).clone().with_gateway_uid(Some(uid.into()));
            proxy.prepare(&config.into(), &endpoints([("next", vec![there])]));
            proxy.listen();
        }
        proxies
    };
    let [one, two] = proxies(["u", "u"]);
    assert_eq!(get(first, "any", "/").await.status, StatusCode::LOOP_DETECTED);
    assert_eq!((errors(&one, ErrorReason::Loop), errors(&two, ErrorReason::Loop)), (0, 1));
    drop((one, two));
    // Gateways of the same name in two clusters are two.
    let [one, two] = proxies(["u", "v"]);
    assert_eq!(get(first, "any", "/").await.status, StatusCode::LOOP_DETECTED);
    assert_eq!((errors(&one, ErrorReason::Loop), errors(&two, ErrorReason::Loop)), (1, 0));
}
