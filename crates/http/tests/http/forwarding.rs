//! What endpoints are told of who asked.

use std::net::SocketAddr;

use l4way_http::ErrorReason;
use l4way_model::{HeaderMatch, HttpTerms};

use crate::{
    client::{Answer, Body, connect, http1, http2, raw, request},
    endpoint::mirror,
    support::{
        all_to, backend, config, endpoints, errors, free_address, listener, port, proxy_with,
        proxy_with_terms, rule, start, trusting,
    },
};

/// What a client says of others.
const SAID: &str = "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: other\r\n\
    Forwarded: for=192.0.2.1\r\nX-Real-IP: 192.0.2.1\r\n";

/// What the endpoint sees of who asked, in the order of the names.
async fn seen(address: SocketAddr, headers: &str) -> Vec<String> {
    let head = format!("GET / HTTP/1.1\r\nHost: any:80\r\nConnection: close\r\n{headers}\r\n");
    let answer = raw(address, &head).await;
    told(answer.split_once("\r\n\r\n").unwrap().1)
}

fn told(text: &str) -> Vec<String> {
    let is_told =
        |line: &&str| ["x-f", "x_f", "forw", "x-r", "x_r"].iter().any(|p| line.starts_with(p));
    let mut told: Vec<_> = text.lines().filter(is_told).map(str::to_owned).collect();
    told.sort();
    told
}

const OURS: [&str; 3] =
    ["x-forwarded-for: 127.0.0.1", "x-forwarded-host: any:80", "x-forwarded-proto: http"];

#[tokio::test]
async fn an_endpoint_hears_only_what_is_known() {
    let (_proxy, address) =
        proxy_with(vec![listener("", all_to("b"))], [("b", vec![mirror().await])]);
    assert_eq!(seen(address, "").await, OURS);
    assert_eq!(seen(address, SAID).await, OURS);
    let spelled = "X_Forwarded_For: 192.0.2.1\r\nx-forwarded_proto: https\r\nX_Real_Ip: 192.0.2.1\r\n\
        X-Forwarded-Port: 443\r\nX-Forwarded-For: 192.0.2.2\r\nX-Forwarded-For: 192.0.2.3\r\n";
    assert_eq!(seen(address, spelled).await, OURS);
    // Nor can anybody have taken away what is known.
    let named = "Connection: X-Forwarded-For, x-forwarded-proto, X-Forwarded-Host\r\n";
    assert_eq!(seen(address, named).await, OURS);

    let mut client = http2(connect(address).await).await;
    let ask = hyper::Request::get("http://any:80/").header("x-forwarded-for", "192.0.2.1");
    let ask = ask.header("forwarded", "for=192.0.2.1").body(Body::new()).unwrap();
    let answer = Answer::read(client.send_request(ask).await.unwrap()).await.unwrap();
    assert_eq!(told(&answer.text), OURS);
}

#[tokio::test]
async fn nothing_is_claimed_behind_a_body() {
    let (_proxy, address) =
        proxy_with(vec![listener("", all_to("b"))], [("b", vec![mirror().await])]);
    let answer = raw(
        address,
        "POST / HTTP/1.1\r\nHost: any:80\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\
         Trailer: X-Forwarded-For, X-Sum\r\n\r\n1\r\na\r\n0\r\nX-Forwarded-For: 192.0.2.1\r\nX-Sum: 1\r\n\r\n",
    );
    let answer = answer.await;
    assert!(answer.contains("\nax-sum: 1"), "{answer}");
    assert_eq!(told(answer.split_once("\r\n\r\n").unwrap().1), OURS);
}

#[tokio::test]
async fn what_a_trusted_proxy_says_stays() {
    let backends = [("b", vec![mirror().await])];
    let terms = trusting(&["192.0.2.0/24", "127.0.0.0/8"]);
    let (_proxy, address) = proxy_with_terms(terms, vec![listener("", all_to("b"))], backends);
    assert_eq!(seen(address, "").await, OURS);
    let expected = [
        "forwarded: for=127.0.0.1",
        "forwarded: for=192.0.2.1",
        "x-forwarded-for: 192.0.2.1, 127.0.0.1",
        "x-forwarded-host: other",
        "x-forwarded-proto: https",
        "x-real-ip: 192.0.2.1",
    ];
    assert_eq!(seen(address, SAID).await, expected);
}

#[tokio::test]
async fn rules_match_what_is_known() {
    let mut secure = rule("/", [(1, backend("b"))]);
    secure.headers = vec![HeaderMatch { name: "x-forwarded-proto".into(), value: "https".into() }];
    let mirror = mirror().await;
    let listeners = || vec![listener("", vec![secure.clone()])];
    let claim =
        "GET / HTTP/1.1\r\nHost: any\r\nConnection: close\r\nX-Forwarded-Proto: https\r\n\r\n";
    let (proxy, address) = proxy_with(listeners(), [("b", vec![mirror])]);
    assert!(raw(address, claim).await.starts_with("HTTP/1.1 404 "));
    assert_eq!(errors(&proxy, ErrorReason::NoRoute), 1);
    let terms = trusting(&["127.0.0.1/32"]);
    let (_proxy, address) = proxy_with_terms(terms, listeners(), [("b", vec![mirror])]);
    assert!(raw(address, claim).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_change_of_trust_holds_for_the_next_request() {
    let (address, mirror) = (free_address(), mirror().await);
    let mut proxy = start();
    let config = config([port(address, vec![listener("", all_to("b"))])]);
    let mut trust = |terms: HttpTerms| {
        let config = (*config).clone().with_http_terms(terms);
        proxy.prepare(&config.into(), &endpoints([("b", vec![mirror])]));
        proxy.listen();
    };
    trust(HttpTerms::default());
    let mut client = http1(connect(address).await).await;
    for (networks, expected) in [
        (&[][..], "x-forwarded-for: 127.0.0.1"),
        (&["127.0.0.1/32"], "x-forwarded-for: 192.0.2.1, 127.0.0.1"),
        (&["192.0.2.0/24"], "x-forwarded-for: 127.0.0.1"),
    ] {
        trust(trusting(networks));
        let mut ask = request("any", "/");
        ask.headers_mut().insert("x-forwarded-for", "192.0.2.1".parse().unwrap());
        client.ready().await.unwrap();
        let answer = Answer::read(client.send_request(ask).await.unwrap()).await.unwrap();
        assert!(answer.text.lines().any(|line| line == expected), "{}", answer.text);
    }
}
