use std::net::TcpListener;

use hyper::{Request, StatusCode};
use l4way_http::ErrorReason;
use l4way_model::HeaderMatch;

use crate::{
    client::{Answer, Body, connect, get, http1, raw, request, send},
    endpoint::{connections, named},
    support::{all_to, backend, errors, invalid, listener, proxy_with, rule},
};

#[tokio::test]
async fn a_request_belongs_to_one_listener_and_takes_its_first_rule_that_matches() {
    let [a, b, c] = [named("a").await, named("b").await, named("c").await];
    let mut with_header = rule("/", [(1, backend("b"))]);
    with_header.headers.push(HeaderMatch { name: "x-b".into(), value: "yes".into() });
    let exact = vec![with_header, rule("/a", [(1, backend("a"))])];
    let listeners = vec![listener("*.example.com", all_to("c")), listener("a.example.com", exact)];
    let backends = [("a", vec![a]), ("b", vec![b]), ("c", vec![c])];
    let (proxy, address) = proxy_with(listeners, backends);

    assert_eq!(get(address, "a.example.com", "/a/x?y=z").await.name(), "a");
    assert_eq!(get(address, "A.Example.com:8080", "/a").await.name(), "a");
    let mut b = request("a.example.com", "/a");
    b.headers_mut().insert("x-b", "yes".parse().unwrap());
    assert_eq!(send(address, b).await.name(), "b");
    assert_eq!(get(address, "other.example.com", "/a").await.name(), "c");
    let nothing = get(address, "a.example.com", "/ab").await;
    assert_eq!(nothing.status, StatusCode::NOT_FOUND, "another listener has a rule for that");
    assert_eq!(errors(&proxy, ErrorReason::NoRoute), 1);
    assert_eq!(get(address, "example.com", "/").await.status, StatusCode::NOT_FOUND);
    assert_eq!(errors(&proxy, ErrorReason::NoListener), 1);
}

#[tokio::test]
async fn what_no_endpoint_answers_is_answered_with_the_reason() {
    let garbage = connections(|_| async {}).await;
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let rules = vec![
        rule("/invalid", [(1, invalid())]),
        rule("/weightless", [(0, backend("closed"))]),
        rule("/nothing", []),
        rule("/empty", [(1, backend("empty"))]),
        rule("/closed", [(1, backend("closed"))]),
        rule("/garbage", [(1, backend("garbage"))]),
    ];
    let backends = [("closed", vec![closed]), ("garbage", vec![garbage])];
    let (proxy, address) = proxy_with(vec![listener("", rules)], backends);
    for (path, status, reason) in [
        ("/invalid", 500, ErrorReason::InvalidBackend),
        ("/weightless", 500, ErrorReason::NoWeight),
        ("/nothing", 500, ErrorReason::NoWeight),
        ("/empty", 503, ErrorReason::NoEndpoint),
        ("/closed", 503, ErrorReason::ConnectFailed),
        ("/garbage", 502, ErrorReason::UpstreamFailed),
        ("/", 404, ErrorReason::NoRoute),
    ] {
        let before = errors(&proxy, reason);
        assert_eq!(get(address, "any", path).await.status.as_u16(), status, "{path}");
        assert_eq!(errors(&proxy, reason), before + 1, "{path}");
    }
    let connect = Request::connect("host:1").header("host", "host:1").body(Body::new()).unwrap();
    assert_eq!(send(address, connect).await.status, StatusCode::NOT_IMPLEMENTED);
}

#[tokio::test]
async fn a_request_that_could_be_read_two_ways_is_bad() {
    let (_proxy, address) = proxy_with(vec![listener("", all_to("a"))], []);
    for head in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    ] {
        let head = head.replacen("\r\n", "\r\nConnection: close\r\n", 1);
        let answer = raw(address, &head).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{head:?}: {answer:?}");
    }
}

#[tokio::test]
async fn backends_get_requests_by_weight() {
    let (one, three) = (named("one").await, named("three").await);
    let rules = vec![rule("/", [(1, backend("one")), (3, backend("three"))])];
    let backends = [("one", vec![one]), ("three", vec![three])];
    let (proxy, address) = proxy_with(vec![listener("", rules)], backends);
    let mut client = http1(connect(address).await).await;
    let mut ones = 0;
    for _ in 0..200 {
        let answer = client.send_request(request("any", "/")).await.unwrap();
        ones += u32::from(Answer::read(answer).await.unwrap().name() == "one");
    }
    assert!((45..=55).contains(&ones), "{ones} of 200 have one fourth of the weight");
    let snapshot = proxy.counters().snapshot();
    let mut answered: Vec<_> = snapshot.rows.iter().flat_map(|row| row.answered()).collect();
    answered.sort_unstable();
    assert_eq!(answered, [("2xx", ones.into()), ("2xx", u64::from(200 - ones))]);
}

#[tokio::test]
async fn another_endpoint_is_tried_when_one_refuses() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let open = named("open").await;
    let (_proxy, address) =
        proxy_with(vec![listener("", all_to("b"))], [("b", vec![closed, open])]);
    for _ in 0..20 {
        assert_eq!(get(address, "any", "/").await.name(), "open");
    }
}

#[tokio::test]
async fn an_endpoint_sees_the_request_and_who_sent_it() {
    let seen = named("b").await;
    let (_proxy, address) = proxy_with(vec![listener("", all_to("b"))], [("b", vec![seen])]);
    let request = Request::post("/a%2Fb?c=d")
        .header("host", "Some.Host:81")
        .header("connection", "x-private")
        .header("x-private", "1")
        .header("x-public", "2")
        .header("x-forwarded-for", "192.0.2.1")
        .body(Body::new())
        .unwrap();
    let answer = send(address, request).await;
    let mut lines: Vec<_> = answer.text.lines().collect();
    lines.sort_unstable();
    // Another one in each process.
    let ours = lines.extract_if(.., |line| line.starts_with("cdn-loop: l4way-"));
    assert_eq!(ours.count(), 1);
    let expected = [
        "POST /a%2Fb?c=d",
        "b",
        "host: Some.Host:81",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: Some.Host:81",
        "x-forwarded-proto: http",
        "x-public: 2",
    ];
    assert_eq!(lines, expected);
}
