//! How long a side may be silent.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use http_body_util::{BodyExt, Channel, Either};
use hyper::{Request, Response, body::Bytes, client::conn::http2 as client_http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use l4way_http::{ErrorReason, HttpProxy, HttpSettings, Timeouts};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    sync::{Semaphore, mpsc},
    time::sleep,
};

use crate::{
    client::{Answer, Body, connect, http2, raw, request, send},
    endpoint::{connections, named, patient, requests},
    support::{all_to, errors, eventually, listener, proxy_with_settings},
};

const LONG: Duration = Duration::from_secs(3_600);
const SHORT: Duration = Duration::from_millis(200);
const HEAD: &str = "GET / HTTP/1.1\r\nHost: any\r\n\r\n";
const NEVER: Timeouts = Timeouts {
    head: LONG,
    body_idle: LONG,
    keep_alive_idle: LONG,
    stream_idle: LONG,
    stalled: LONG,
};

fn proxy(timeouts: Timeouts, endpoint: SocketAddr) -> (HttpProxy, SocketAddr) {
    let settings = HttpSettings { timeouts, ..HttpSettings::default() };
    proxy_with_settings(settings, vec![listener("", all_to("b"))], [("b", vec![endpoint])])
}

/// An endpoint that sends these bytes on each connection, whatever it is asked, and then nothing.
async fn says(bytes: Vec<u8>) -> SocketAddr {
    connections(move |mut stream| {
        let bytes = bytes.clone();
        async move {
            let _ = stream.read(&mut [0; 1_024]).await;
            let _ = stream.write_all(&bytes).await;
            std::future::pending().await
        }
    })
    .await
}

#[tokio::test]
async fn a_head_that_does_not_come_is_answered_408() {
    let (_proxy, address) = proxy(Timeouts { head: SHORT, ..NEVER }, named("b").await);
    let answer = raw(address, "GET / HTTP/1.1\r\nHo").await;
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");

    // After another request, the time begins with the first byte.
    let mut stream = connect(address).await;
    stream.write_all(HEAD.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4_096];
    let read = stream.read(&mut answer).await.unwrap();
    assert!(answer[..read].starts_with(b"HTTP/1.1 200 OK"));
    sleep(SHORT * 3).await;
    stream.write_all(b"GET /").await.unwrap();
    let begun = Instant::now();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    let text = String::from_utf8_lossy(&rest);
    assert!(text.contains("HTTP/1.1 408 Request Timeout\r\n"), "{text}");
    assert!(begun.elapsed() >= SHORT - Duration::from_millis(1), "the time is the head's own");
}

#[tokio::test]
async fn who_asks_nothing_is_told_nothing() {
    let timeouts = Timeouts { head: SHORT, keep_alive_idle: SHORT, ..NEVER };
    let (proxy, address) = proxy(timeouts, named("b").await);
    assert_eq!(raw(address, "").await, "");
    let answer = raw(address, HEAD).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && !answer.contains("408"), "{answer}");
    let mut client = http2(connect(address).await).await;
    let ask = Request::get("http://any/").body(Body::new()).unwrap();
    Answer::read(client.send_request(ask).await.unwrap()).await.unwrap();
    let counters = proxy.counters();
    eventually("HTTP/2 ends too", || counters.active_connections() == 0).await;
}

#[tokio::test]
async fn a_connection_may_rest_between_requests() {
    let (_proxy, address) = proxy(Timeouts { head: SHORT, ..NEVER }, named("b").await);
    let mut stream = connect(address).await;
    for _ in 0..2 {
        stream.write_all(HEAD.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4_096];
        let read = stream.read(&mut answer).await.unwrap();
        assert!(answer[..read].starts_with(b"HTTP/1.1 200 OK"));
        sleep(SHORT * 3).await;
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_answered_408() {
    let (proxy, address) = proxy(Timeouts { body_idle: SHORT, ..NEVER }, named("b").await);
    let head = "POST / HTTP/1.1\r\nHost: any\r\nContent-Length: 9\r\n\r\n1234";
    let answer = raw(address, head).await;
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    assert_eq!(errors(&proxy, ErrorReason::RequestTimeout), 1);

    let mut client = http2(connect(address).await).await;
    let (mut sender, body) = Channel::<Bytes>::new(1);
    let stream = TokioIo::new(connect(address).await);
    let (mut upload, connection) =
        client_http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    sender.send_data(Bytes::from_static(b"1234")).await.unwrap();
    let response = upload.send_request(Request::post("http://any/").body(body).unwrap()).await;
    assert_eq!(response.unwrap().status(), 408);
    drop(sender);
    let ask = Request::get("http://any/").body(Body::new()).unwrap();
    let answer = Answer::read(client.send_request(ask).await.unwrap()).await.unwrap();
    assert_eq!(answer.name(), "b");
}

#[tokio::test]
async fn a_body_may_take_longer_than_any_silence_in_it() {
    let timeouts = Timeouts { head: SHORT, body_idle: 4 * SHORT, stream_idle: LONG, ..NEVER };
    let (_proxy, address) = proxy(timeouts, named("b").await);
    let mut stream = connect(address).await;
    let head = "POST / HTTP/1.1\r\nHost: any\r\nConnection: close\r\nContent-Length: 10\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..10 {
        sleep(SHORT / 2).await;
        stream.write_all(b"x").await.unwrap();
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

#[tokio::test]
async fn a_silent_endpoint_is_answered_for_504() {
    let (endpoint, _arrivals, _may_answer) = patient().await;
    let (proxy, address) = proxy(Timeouts { stream_idle: SHORT, ..NEVER }, endpoint);
    assert_eq!(send(address, request("any", "/")).await.status, 504);
    let mut client = http2(connect(address).await).await;
    let ask = || Request::get("http://any/").body(Body::new()).unwrap();
    assert_eq!(client.send_request(ask()).await.unwrap().status(), 504);
    assert_eq!(client.send_request(ask()).await.unwrap().status(), 504, "the connection goes on");
    assert_eq!(errors(&proxy, ErrorReason::AnswerTimeout), 3);
}

#[tokio::test]
async fn an_answer_may_be_awaited_longer_than_a_body() {
    let (endpoint, mut arrivals, may_answer) = patient().await;
    let (_proxy, address) = proxy(Timeouts { body_idle: SHORT, head: SHORT, ..NEVER }, endpoint);
    let asked = tokio::spawn(send(address, request("any", "/")));
    arrivals.recv().await.unwrap();
    sleep(SHORT * 4).await;
    may_answer.add_permits(1);
    assert_eq!(asked.await.unwrap().name(), "patient");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_reset_and_events_may_be_rare() {
    let part = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n";
    let endpoint = says(part.to_vec()).await;
    let (proxy, address) = proxy(Timeouts { body_idle: SHORT, ..NEVER }, endpoint);
    let mut stream = connect(address).await;
    stream.write_all(HEAD.as_bytes()).await.unwrap();
    sleep(SHORT * 4).await;
    assert_eq!(proxy.counters().active_connections(), 1, "the client waits for more");

    let (proxy, address) = self::proxy(Timeouts { stream_idle: SHORT, ..NEVER }, endpoint);
    let mut stream = connect(address).await;
    stream.write_all(HEAD.as_bytes()).await.unwrap();
    let mut got = Vec::new();
    let error = stream.read_to_end(&mut got).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(errors(&proxy, ErrorReason::AnswerTimeout), 1);
}

/// An answer that no socket's buffer holds.
async fn big() -> SocketAddr {
    let bytes = Bytes::from(vec![b'x'; 16 << 20]);
    requests(move |_| {
        let bytes = bytes.clone();
        async move { crate::endpoint::text(bytes) }
    })
    .await
}

#[tokio::test]
async fn who_takes_nothing_of_an_answer_is_reset() {
    let (proxy, address) = proxy(Timeouts { body_idle: SHORT, ..NEVER }, big().await);
    let mut stream = connect(address).await;
    stream.write_all(HEAD.as_bytes()).await.unwrap();
    let counters = proxy.counters();
    eventually("it is reset", || errors(&proxy, ErrorReason::DownstreamStalled) == 1).await;
    eventually("it is gone", || counters.active_connections() == 0).await;

    // Of HTTP/2, one stream is, and the others go on.
    let mut client = http2(connect(address).await).await;
    let ask = || Request::get("http://any/").body(Body::new()).unwrap();
    let mut stalled = client.send_request(ask()).await.unwrap().into_body();
    eventually("it is reset", || errors(&proxy, ErrorReason::DownstreamStalled) == 2).await;
    let broken = loop {
        match stalled.frame().await {
            Some(Ok(_)) => {}
            end => break end,
        }
    };
    assert!(matches!(broken, Some(Err(_))), "{broken:?}");
    let answer = Answer::read(client.send_request(ask()).await.unwrap()).await.unwrap();
    assert_eq!(answer.text.len(), 16 << 20);
}

#[tokio::test]
async fn an_endpoint_that_takes_nothing_is_answered_for_504() {
    let endpoint = connections(|stream| async {
        let _stream = stream;
        std::future::pending().await
    })
    .await;
    let (proxy, address) = proxy(Timeouts { body_idle: SHORT, ..NEVER }, endpoint);
    let stream = connect(address).await;
    let (mut read, mut write) = stream.into_split();
    tokio::spawn(async move {
        let head = format!("POST / HTTP/1.1\r\nHost: any\r\nContent-Length: {}\r\n\r\n", 64 << 20);
        let _ = write.write_all(head.as_bytes()).await;
        while write.write_all(&[b'x'; 64 << 10]).await.is_ok() {}
        std::future::pending::<()>().await;
    });
    let mut answer = vec![0; 4_096];
    let read = read.read(&mut answer).await.unwrap();
    assert!(answer[..read].starts_with(b"HTTP/1.1 504 Gateway Timeout"));
    assert_eq!(errors(&proxy, ErrorReason::UpstreamStalled), 1);
}

#[tokio::test]
async fn streams_of_grpc_may_be_silent() {
    let (endpoint, mut arrivals, may_answer) = patient().await;
    let timeouts = Timeouts { body_idle: SHORT, stream_idle: SHORT, ..NEVER };
    let (_proxy, address) = proxy(timeouts, endpoint);
    let mut wanted = request("any", "/");
    wanted.headers_mut().insert("content-type", "application/grpc+proto".parse().unwrap());
    let asked = tokio::spawn(send(address, wanted));
    arrivals.recv().await.unwrap();
    sleep(SHORT * 4).await;
    may_answer.add_permits(1);
    assert_eq!(asked.await.unwrap().name(), "patient");
}

#[tokio::test]
async fn an_upgraded_connection_may_be_silent() {
    let endpoint = connections(|mut stream| async move {
        let agreed = "HTTP/1.1 101 Switching Protocols\r\n\
                      connection: upgrade\r\nupgrade: chat\r\n\r\n";
        let _ = stream.read(&mut [0; 1_024]).await;
        let _ = stream.write_all(agreed.as_bytes()).await;
        let (mut read, mut write) = stream.split();
        let _ = copy(&mut read, &mut write).await;
    })
    .await;
    let timeouts = Timeouts {
        head: SHORT,
        body_idle: SHORT,
        keep_alive_idle: SHORT,
        stream_idle: SHORT,
        ..NEVER
    };
    let (proxy, address) = proxy(timeouts, endpoint);
    let mut stream = connect(address).await;
    let wanted = "GET / HTTP/1.1\r\nHost: any\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n";
    stream.write_all(wanted.as_bytes()).await.unwrap();
    let read = stream.read(&mut [0; 1_024]).await.unwrap();
    assert!(read > 0);
    for message in [b"one", b"two"] {
        sleep(SHORT * 4).await;
        stream.write_all(message).await.unwrap();
        let mut echo = [0; 3];
        stream.read_exact(&mut echo).await.unwrap();
        assert_eq!(&echo, message);
    }
    assert_eq!(proxy.counters().active_connections(), 1);
}

#[tokio::test]
async fn an_echo_in_both_directions_may_go_on() {
    let echo =
        requests(|request| async { Response::new(Either::Right(request.into_body())) }).await;
    let timeouts = Timeouts { body_idle: 4 * SHORT, stream_idle: 4 * SHORT, ..NEVER };
    let (_proxy, address) = proxy(timeouts, echo);
    let (mut sender, body) = Channel::<Bytes>::new(1);
    let stream = TokioIo::new(connect(address).await);
    let (mut client, connection) =
        client_http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let wanted = Request::post("http://any/").body(body).unwrap();
    let mut answer = client.send_request(wanted).await.unwrap().into_body();
    for _ in 0..10 {
        sender.send_data(Bytes::from_static(b"x")).await.unwrap();
        answer.frame().await.unwrap().unwrap();
        sleep(SHORT).await;
    }
}

/// The last of an answer may still be held for a client when the connection that it came by has another
/// request.
#[tokio::test]
async fn a_stalled_client_ends_nobody_elses_exchange() {
    const ANSWER: usize = 8_000;
    let may_answer = Arc::new(Semaphore::new(0));
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let connected = Arc::new(AtomicUsize::new(0));
    let (permits, count) = (may_answer.clone(), connected.clone());
    let endpoint = connections(move |mut stream| {
        count.fetch_add(1, Relaxed);
        let (permits, arrived) = (permits.clone(), arrived.clone());
        async move {
            let mut request = [0; 4_096];
            while let Ok(read @ 1..) = stream.read(&mut request).await {
                if !request[..read].starts_with(b"GET /big") {
                    arrived.send(()).unwrap();
                    permits.acquire().await.unwrap().forget();
                }
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {ANSWER}\r\n\r\n");
                let _ = stream.write_all(head.as_bytes()).await;
                let _ = stream.write_all(&[b'x'; ANSWER]).await;
            }
        }
    })
    .await;
    let (proxy, address) = proxy(Timeouts { body_idle: SHORT, ..NEVER }, endpoint);
    let stream = TokioIo::new(connect(address).await);
    let mut narrow = client_http2::Builder::new(TokioExecutor::new());
    narrow.initial_stream_window_size(1_024);
    let (mut client, connection) = narrow.handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let ask = Request::get("http://any/big").body(Body::new()).unwrap();
    let _stalled = client.send_request(ask).await.unwrap();
    let asked = tokio::spawn(send(address, request("any", "/")));
    arrivals.recv().await.unwrap();
    eventually("it is reset", || errors(&proxy, ErrorReason::DownstreamStalled) == 1).await;
    may_answer.add_permits(1);
    assert_eq!(asked.await.unwrap().text.len(), ANSWER);
    assert_eq!(connected.load(Relaxed), 1, "one connection had both");
}
