//! Where bodies end, and answers that come before the answer.

use std::{net::SocketAddr, time::Duration};

use http_body_util::{BodyExt, Channel};
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    client::conn::{http1 as client_http1, http2 as client_http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use l4way_http::{ErrorReason, HttpProxy};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::{
    client::{Answer, connect, get, http1, http2, raw, request, upgrade_request},
    endpoint::{answering, connections, mirror, upgrading},
    support::{all_to, errors, eventually, listener, proxy_with},
};

fn proxy(endpoint: SocketAddr) -> (HttpProxy, SocketAddr) {
    proxy_with(vec![listener("", all_to("b"))], [("b", vec![endpoint])])
}

/// The body that the endpoint got, and what it was told of its end.
fn arrived(text: &str) -> (&str, Vec<&str>) {
    let (head, body) = text.split_once("\n\n").unwrap_or_else(|| panic!("{text:?}"));
    let is_framing = |line: &&str| {
        ["content-length", "transfer-encoding"].iter().any(|name| line.starts_with(name))
    };
    (body, head.lines().filter(is_framing).collect())
}

#[tokio::test]
async fn a_body_arrives_whatever_the_method() {
    let (_proxy, address) = proxy(mirror().await);
    for method in [Method::GET, Method::DELETE, Method::OPTIONS, Method::POST] {
        let (mut sender, body) = Channel::<Bytes>::new(1);
        let stream = TokioIo::new(connect(address).await);
        let (mut client, connection) =
            client_http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        let ask = Request::builder().method(&method).uri("http://any/").body(body).unwrap();
        let answer = client.send_request(ask);
        sender.send_data(Bytes::from_static(b"abc")).await.unwrap();
        drop(sender);
        let answer = Answer::read(answer.await.unwrap()).await.unwrap();
        let expected = ("abc", vec!["transfer-encoding: chunked"]);
        assert_eq!(arrived(&answer.text), expected, "{method} by HTTP/2");

        let head = format!("{method} / HTTP/1.1\r\nHost: any\r\nConnection: close\r\n");
        let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
        let answer = raw(address, &chunked).await;
        let text = answer.split_once("\r\n\r\n").unwrap().1;
        assert_eq!(arrived(text), expected, "{method} by HTTP/1.1");
    }
    // Who has none isn't said to have one.
    let answer = get(address, "any", "/").await;
    assert_eq!(arrived(&answer.text), ("", vec![]));
}

#[tokio::test]
async fn several_lengths_become_one_or_an_error() {
    let (_proxy, address) = proxy(mirror().await);
    let stream = TokioIo::new(connect(address).await);
    let (mut client, connection) =
        client_http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let ask = |lengths: [&str; 2]| {
        let post = Request::post("http://any/").header("content-length", lengths[0]);
        let body = http_body_util::Full::new(Bytes::from_static(b"abc"));
        post.header("content-length", lengths[1]).body(body).unwrap()
    };
    let answer = client.send_request(ask(["3", "3"])).await.unwrap();
    let answer = Answer::read(answer).await.unwrap();
    assert_eq!(arrived(&answer.text), ("abc", vec!["content-length: 3"]));
    let different = client.send_request(ask(["3", "4"])).await;
    assert!(different.is_err_and(|error| error.to_string().contains("http2 error")));

    let head = "POST / HTTP/1.1\r\nHost: any\r\nConnection: close\r\nContent-Length: 3\r\n";
    let answer = raw(address, &format!("{head}Content-Length: 3\r\n\r\nabc")).await;
    let text = answer.split_once("\r\n\r\n").unwrap().1;
    assert_eq!(arrived(text), ("abc", vec!["content-length: 3"]));
    for bad in ["Content-Length: 4\r\n", "Content-Length: +3\r\n", "Content-Length: 3, 3\r\n"] {
        let answer = raw(address, &format!("{head}{bad}\r\nabc")).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{bad}: {answer}");
    }
}

#[tokio::test]
async fn a_transfer_coding_is_chunked_or_an_error() {
    let (proxy, address) = proxy(mirror().await);
    let head = "POST / HTTP/1.1\r\nHost: any\r\n";
    let body = "3\r\nabc\r\n0\r\n\r\n";
    // The coding goes before the length, and the connection ends, as what follows may be smuggled (RFC 9112,
    // section 6.3).
    for both in [
        "Content-Length: 2\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 2",
    ] {
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: any\r\n\r\n";
        let answer = raw(address, &format!("{head}{both}\r\n\r\n{body}{smuggled}")).await;
        let (_, text) = answer.split_once("\r\n\r\n").unwrap();
        assert_eq!(arrived(text), ("abc", vec!["transfer-encoding: chunked"]), "{both}");
    }
    for (coding, status) in [
        ("gzip, chunked", "501"),
        ("chunked, chunked", "501"),
        ("chunked\r\nTransfer-Encoding: chunked", "501"),
        ("chunked, gzip", "400"),
        ("identity", "400"),
        ("xchunked", "400"),
    ] {
        let ask = format!("{head}Connection: close\r\nTransfer-Encoding: {coding}\r\n\r\n{body}");
        let answer = raw(address, &ask).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{coding}: {answer}");
    }
    assert_eq!(errors(&proxy, ErrorReason::CodingNotSupported), 3);
    let old = raw(address, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.1 400 ") || old.starts_with("HTTP/1.0 400 "), "{old}");
}

#[tokio::test]
async fn broken_chunks_are_answered_400_and_end_the_connection() {
    let (proxy, address) = proxy(mirror().await);
    let head = "POST / HTTP/1.1\r\nHost: any\r\nTransfer-Encoding: chunked\r\n\r\n";
    let broken = [
        "x\r\nabc\r\n0\r\n\r\n",
        "3\r\nabcX0\r\n\r\n",
        "3\nabc\n0\n\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "3 3\r\nabc\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0\r\nno trailer\r\n\r\n",
    ];
    for body in broken {
        // `raw` waits for the end of the connection.
        let next = "GET / HTTP/1.1\r\nHost: any\r\n\r\n";
        let answer = raw(address, &format!("{head}{body}{next}")).await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{body:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{body:?}: {answer}");
    }
    assert_eq!(errors(&proxy, ErrorReason::BadBody), broken.len() as u64);
    assert_eq!(errors(&proxy, ErrorReason::UpstreamFailed), 0, "the endpoint isn't to blame");
}

#[tokio::test]
async fn who_breaks_off_in_a_body_is_gone_and_the_endpoint_is_not_to_blame() {
    let (proxy, address) = proxy(mirror().await);
    let mut stream = connect(address).await;
    let head = "POST / HTTP/1.1\r\nHost: any\r\nContent-Length: 9\r\n\r\nabc";
    stream.write_all(head.as_bytes()).await.unwrap();
    // The other way is open yet.
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    eventually("it is counted", || errors(&proxy, ErrorReason::DownstreamGone) == 1).await;
    assert_eq!(errors(&proxy, ErrorReason::UpstreamFailed), 0);
}

#[tokio::test]
async fn an_answer_ends_where_its_endpoint_ends_it() {
    for (bytes, expected) in [
        (
            &b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"[..],
            Some(("abc", "transfer-encoding: chunked")),
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
            Some(("abc", "content-length: 3")),
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\nabc", Some(("abc", "content-length: 3"))),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", None),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", None),
    ] {
        let shown = String::from_utf8_lossy(bytes);
        let (_proxy, address) = proxy(answering(bytes).await);
        let answer = raw(address, "GET / HTTP/1.1\r\nHost: any\r\nConnection: close\r\n\r\n").await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let Some((wanted, framing)) = expected else {
            assert!(head.starts_with("HTTP/1.1 502 "), "{shown}: {answer}");
            continue;
        };
        let is_framing = |line: &&str| {
            line.starts_with("content-length") || line.starts_with("transfer-encoding")
        };
        assert_eq!(head.lines().filter(is_framing).collect::<Vec<_>>(), [framing], "{shown}");
        assert!(body.contains(wanted), "{shown}: {answer}");

        let mut client = http2(connect(address).await).await;
        let ask = Request::get("http://any/").body(crate::client::Body::new()).unwrap();
        let answer = client.send_request(ask).await.unwrap();
        assert!(answer.headers().get_all("content-length").iter().count() <= 1);
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), wanted, "{shown}");
    }
}

const INTERIM: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
    HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\nHTTP/1.1 199 What\r\nX-A: b\r\n\r\n\
    HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";

#[tokio::test]
async fn what_comes_before_an_answer_is_not_the_answer() {
    let (proxy, address) = proxy(answering(INTERIM).await);
    let mut client = http1(connect(address).await).await;
    let mut client2 = http2(connect(address).await).await;
    for _ in 0..3 {
        client.ready().await.unwrap();
        let answer = client.send_request(request("any", "/")).await.unwrap();
        assert!(!answer.headers().contains_key("link"));
        assert_eq!(Answer::read(answer).await.unwrap().name(), "abc");
        let ask = Request::get("http://any/").body(crate::client::Body::new()).unwrap();
        let answer = client2.send_request(ask).await.unwrap();
        assert_eq!(Answer::read(answer).await.unwrap().name(), "abc");
    }
    let old = raw(address, "GET / HTTP/1.0\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200 OK\r\n") && old.ends_with("\r\n\r\nabc"), "{old}");
    let head = raw(address, "HEAD / HTTP/1.1\r\nHost: any\r\nConnection: close\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert_eq!(errors(&proxy, ErrorReason::UpstreamFailed), 0);
}

#[tokio::test]
async fn what_comes_before_an_answer_may_come_in_parts() {
    let slow = connections(|mut stream| async move {
        let _ = stream.read(&mut [0; 1_024]).await;
        for byte in INTERIM {
            let _ = stream.write_all(&[*byte]).await;
            tokio::task::yield_now().await;
        }
        let _ = stream.read(&mut [0; 1_024]).await;
    })
    .await;
    let (_proxy, address) = proxy(slow);
    assert_eq!(get(address, "any", "/").await.name(), "abc");
}

#[tokio::test]
async fn an_answer_has_to_follow() {
    let hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n";
    let ends = connections(move |mut stream| async move {
        let _ = stream.read(&mut [0; 1_024]).await;
        let _ = stream.write_all(hints).await;
    })
    .await;
    let (proxy, address) = proxy(ends);
    assert_eq!(get(address, "any", "/").await.status, StatusCode::BAD_GATEWAY);
    assert_eq!(errors(&proxy, ErrorReason::UpstreamFailed), 1);
}

#[tokio::test]
async fn a_body_that_waits_to_be_wanted_arrives() {
    let (_proxy, address) = proxy(mirror().await);
    let mut stream = connect(address).await;
    let head = "POST / HTTP/1.1\r\nHost: any\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"abc").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "once is enough: {answer}");
    assert_eq!(arrived(text).0, "abc");
}

#[tokio::test]
async fn nobody_is_switched_who_did_not_ask_for_it() {
    let switches =
        answering(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    let (proxy, address) = proxy(switches.await);
    let mut client = http1(connect(address).await).await;
    for _ in 0..2 {
        client.ready().await.unwrap();
        let answer = client.send_request(request("any", "/")).await.unwrap();
        assert_eq!(Answer::read(answer).await.unwrap().status, StatusCode::BAD_GATEWAY);
    }
    assert_eq!(errors(&proxy, ErrorReason::UpstreamFailed), 2);
    // HTTP/1.0 has no upgrades.
    let (_proxy, address) =
        proxy_with(vec![listener("", all_to("b"))], [("b", vec![upgrading().await])]);
    let old = "GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert!(raw(address, old).await.ends_with("none"));
    let stream = TokioIo::new(connect(address).await);
    let (mut client, connection) = client_http1::handshake(stream).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let answer =
        timeout(Duration::from_secs(30), client.send_request(upgrade_request("websocket")));
    assert_eq!(answer.await.unwrap().unwrap().status(), StatusCode::SWITCHING_PROTOCOLS);
}
