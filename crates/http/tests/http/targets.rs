//! Paths, and the forms of request targets.

use hyper::{Method, Request, StatusCode, Uri, http::uri::PathAndQuery};
use l4way_http::{ErrorReason, HttpProxy};
use l4way_model::PathMatch;

use crate::{
    client::{Answer, Body, connect, http2, raw},
    endpoint::mirror,
    support::{all_to, backend, errors, invalid, listener, proxy_with, rule},
};

/// A proxy that has a rule for `/public` only.
async fn public() -> (HttpProxy, std::net::SocketAddr) {
    let rules = vec![rule("/public", [(1, backend("b"))])];
    proxy_with(vec![listener("", rules)], [("b", vec![mirror().await])])
}

/// The answer to a request with just this first line.
async fn ask(address: std::net::SocketAddr, line: &str) -> Arrived {
    let request = format!("{line}\r\nHost: any\r\nConnection: close\r\n\r\n");
    Arrived::read(&raw(address, &request).await)
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
enum Arrived {
    /// The target that the endpoint got.
    With(String),
    /// It was answered by the proxy.
    Not(u16),
}

impl Arrived {
    fn read(answer: &str) -> Self {
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
        match head.split(' ').nth(1).unwrap().parse().unwrap() {
            200 => Self::With(body.lines().next().unwrap().split_once(' ').unwrap().1.to_owned()),
            status => Self::Not(status),
        }
    }
}

fn with(target: &str) -> Arrived {
    Arrived::With(target.to_owned())
}

#[tokio::test]
async fn nothing_outside_of_a_rule_reaches_its_backend() {
    let (proxy, address) = public().await;
    for path in [
        "/public",
        "/public/a%2Fb",
        "/public/a%2F%5cb/..c",
        "/public//a",
        "/public/%252e%252e/admin",
        "/public/...",
        "/public/x?to=/../b%2F..%2Fc",
        "/public/\\a%",
    ] {
        assert_eq!(ask(address, &format!("GET {path} HTTP/1.1")).await, with(path));
    }
    for (path, arrives) in [
        ("/public/x/../y", "/public/y"),
        ("/public/x/%2E%2e/y?a=/./b", "/public/y?a=/./b"),
        ("/public/./y", "/public/y"),
        ("/x/../public/%2e/y", "/public/y"),
        ("/public/x/..", "/public/"),
    ] {
        assert_eq!(ask(address, &format!("GET {path} HTTP/1.1")).await, with(arrives), "{path}");
    }
    for path in ["/public/../admin", "/public/.%2E/admin", "/public//../../admin", "/public/.."] {
        assert_eq!(
            ask(address, &format!("GET {path} HTTP/1.1")).await,
            Arrived::Not(404),
            "{path}"
        );
    }
    let hidden =
        ["/public/..%2fadmin", "/public/x%5C%2e%2E/admin", "/public/..\\admin", "/public/%2e%2F"];
    for path in hidden {
        assert_eq!(
            ask(address, &format!("GET {path} HTTP/1.1")).await,
            Arrived::Not(400),
            "{path}"
        );
    }
    assert_eq!(errors(&proxy, ErrorReason::BadTarget), hidden.len() as u64);
}

#[tokio::test]
async fn http_2_has_the_same_paths() {
    let (_proxy, address) = public().await;
    let mut client = http2(connect(address).await).await;
    for (path, arrives) in [
        ("/public/x/../y?z", Ok("/public/y?z")),
        ("/public/a%2Fb", Ok("/public/a%2Fb")),
        ("/public/../admin", Err(404)),
        ("/public/..%2fadmin", Err(400)),
        ("?a", Err(400)),
        ("*", Err(400)),
    ] {
        let uri = Uri::builder().scheme("http").authority("any");
        let uri = uri.path_and_query(PathAndQuery::from_static(path)).build().unwrap();
        let request = Request::get(uri).body(Body::new()).unwrap();
        let answer = Answer::read(client.send_request(request).await.unwrap()).await.unwrap();
        match arrives {
            Ok(target) => assert_eq!(answer.name(), format!("GET {target}"), "{path}"),
            Err(status) => assert_eq!(answer.status.as_u16(), status, "{path}"),
        }
    }
}

#[tokio::test]
async fn rules_see_what_a_path_means_and_endpoints_what_was_sent() {
    let mut exact = rule("/exact", [(1, backend("b"))]);
    exact.path = PathMatch::Exact("/caf%c3%a9".into());
    let rules = vec![rule("/admin", [(1, invalid())]), exact, rule("/~a", [(1, backend("b"))])];
    let (_proxy, address) = proxy_with(vec![listener("", rules)], [("b", vec![mirror().await])]);
    for (path, arrived) in [
        ("/admin", Arrived::Not(500)),
        ("/%61dmin/x", Arrived::Not(500)),
        ("/x/%2e%2e/%61%64min", Arrived::Not(500)),
        ("/caf%C3%A9", with("/caf%C3%A9")),
        ("/%63af%c3%a9", with("/%63af%c3%a9")),
        ("/%7Ea/%62", with("/%7Ea/%62")),
        ("/%2561dmin", Arrived::Not(404)),
    ] {
        assert_eq!(ask(address, &format!("GET {path} HTTP/1.1")).await, arrived, "{path}");
    }
}

#[tokio::test]
async fn a_target_has_one_of_four_forms() {
    let (proxy, address) =
        proxy_with(vec![listener("", all_to("b"))], [("b", vec![mirror().await])]);
    for (line, arrived) in [
        ("GET /a?b HTTP/1.1", with("/a?b")),
        ("GET http://any/a?b HTTP/1.1", with("/a?b")),
        ("GET https://other:443?b HTTP/1.1", with("/?b")),
        ("GET HTTP://any#a HTTP/1.1", with("/")),
        ("OPTIONS * HTTP/1.1", with("*")),
        ("OPTIONS /a HTTP/1.1", with("/a")),
        ("GET * HTTP/1.1", Arrived::Not(400)),
        ("GET any:80 HTTP/1.1", Arrived::Not(400)),
        ("GET any HTTP/1.1", Arrived::Not(400)),
        ("GET ftp://any/ HTTP/1.1", Arrived::Not(400)),
        ("GET http:///a HTTP/1.1", Arrived::Not(400)),
        ("GET http://any:65536/ HTTP/1.1", Arrived::Not(400)),
        ("GET http://any:x/ HTTP/1.1", Arrived::Not(400)),
        ("GET http://user@any/ HTTP/1.1", Arrived::Not(400)),
        ("OPTIONS http://any/* HTTP/1.1", with("/*")),
        ("CONNECT any:80 HTTP/1.1", Arrived::Not(501)),
    ] {
        assert_eq!(ask(address, line).await, arrived, "{line}");
    }
    let before = errors(&proxy, ErrorReason::BadHost);
    for head in [
        "GET / HTTP/1.1\r\nHost: any:80x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: any:65536\r\n\r\n",
        "GET http://any/ HTTP/1.1\r\nConnection: close\r\n\r\n",
    ] {
        let answer = raw(address, &head.replacen("\r\n", "\r\nConnection: close\r\n", 1)).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{head:?}: {answer}");
    }
    assert_eq!(errors(&proxy, ErrorReason::BadHost), before + 3);
}

#[tokio::test]
async fn the_whole_server_is_asked_by_a_rule_for_all_paths_only() {
    let (_proxy, address) = public().await;
    assert_eq!(ask(address, "OPTIONS * HTTP/1.1").await, Arrived::Not(404));
    let mut client = http2(connect(address).await).await;
    let request = Request::builder().method(Method::OPTIONS).uri("http://any/public");
    let request = request.body(Body::new()).unwrap();
    let answer = client.send_request(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
}
