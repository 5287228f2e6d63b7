use http_body_util::{BodyExt, Channel, Either};
use hyper::{Request, Response, StatusCode, Version, body::Bytes, client::conn::http1, upgrade};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    client::{Answer, Body, connect, http1, http2, send, upgrade_request},
    endpoint::{named, requests, upgrading},
    support::{all_to, eventually, listener, proxy_with},
};

#[tokio::test]
async fn http2_is_spoken_to_those_who_know() {
    let address = named("b").await;
    let (_proxy, address) =
        proxy_with(vec![listener("a.example.com", all_to("b"))], [("b", vec![address])]);
    let mut client = http2(connect(address).await).await;
    let ask = |uri: &str| Request::get(uri).body(Body::new()).unwrap();
    let response = client.send_request(ask("http://a.example.com/x")).await.unwrap();
    assert_eq!(response.version(), Version::HTTP_2);
    let answer = Answer::read(response).await.unwrap();
    assert_eq!(answer.name(), "b");
    assert!(answer.text.contains("GET /x\n") && answer.text.contains("host: a.example.com\n"));
    let response = client.send_request(ask("http://b.example.com/x")).await.unwrap();
    assert_eq!(response.status(), StatusCode::NOT_FOUND, "on the same connection");
}

#[tokio::test]
async fn bodies_pass_as_they_come() {
    let echo =
        requests(|request| async { Response::new(Either::Right(request.into_body())) }).await;
    let (_proxy, address) = proxy_with(vec![listener("", all_to("b"))], [("b", vec![echo])]);
    let (mut sender, body) = Channel::<Bytes>::new(1);
    let stream = TokioIo::new(connect(address).await);
    let (mut client, connection) = http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("/").header("host", "any").body(body).unwrap();
    let mut response = client.send_request(request).await.unwrap().into_body();
    for round in 0..3_u8 {
        sender.send_data(Bytes::copy_from_slice(&[round; 1_000])).await.unwrap();
        let mut got = Vec::new();
        while got.len() < 1_000 {
            let frame = response.frame().await.unwrap().unwrap();
            got.extend_from_slice(frame.data_ref().unwrap());
        }
        assert_eq!(got, [round; 1_000], "before the rest is sent");
    }
    drop(sender);
    assert!(response.frame().await.is_none());
}

#[tokio::test]
async fn a_connection_is_upgraded_when_both_sides_agree() {
    let echo = upgrading().await;
    let (proxy, address) = proxy_with(vec![listener("", all_to("b"))], [("b", vec![echo])]);
    let mut client = http1(connect(address).await).await;
    let response = client.send_request(upgrade_request("websocket")).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["upgrade"], "websocket");
    let mut stream = TokioIo::new(upgrade::on(response).await.unwrap());
    for _ in 0..3 {
        stream.write_all(b"ping").await.unwrap();
        let mut got = [0; 4];
        stream.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"ping");
    }
    let counters = proxy.counters();
    assert_eq!(counters.active_connections(), 1, "it goes on as another protocol");
    assert_eq!(counters.snapshot().rows.iter().map(|row| row.upgrades).sum::<u64>(), 1);
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    eventually("the connection ends", || counters.active_connections() == 0).await;

    // What is in an h2c connection would pass the routes by.
    assert_eq!(send(address, upgrade_request("h2c")).await.name(), "none");
}
