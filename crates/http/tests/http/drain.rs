use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    client::{Answer, Body, connect, http1, http2, request},
    endpoint::patient,
    support::{all_to, eventually, listener, proxy_with},
};

const LONG: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn requests_end_and_then_their_connections() {
    let (endpoint, mut arrivals, may_answer) = patient().await;
    let (mut proxy, address) = proxy_with(vec![listener("", all_to("b"))], [("b", vec![endpoint])]);
    let mut one = http1(connect(address).await).await;
    let mut two = http2(connect(address).await).await;
    let first = one.send_request(request("any", "/"));
    let ask = hyper::Request::get("http://any/").body(Body::new()).unwrap();
    let second = two.send_request(ask);
    let first = tokio::spawn(async { Answer::read(first.await.unwrap()).await.unwrap() });
    let second = tokio::spawn(async { Answer::read(second.await.unwrap()).await.unwrap() });
    for _ in 0..2 {
        arrivals.recv().await.unwrap();
    }
    proxy.drain(LONG);
    assert!(!proxy.is_drained());
    TcpStream::connect(address).await.expect_err("nothing new is taken");
    may_answer.add_permits(2);
    for answer in [first, second] {
        assert_eq!(answer.await.unwrap().name(), "patient");
    }
    eventually("it is drained", || proxy.is_drained()).await;
}

#[tokio::test]
async fn what_is_left_at_the_deadline_is_reset() {
    let (endpoint, mut arrivals, _may_answer) = patient().await;
    let (mut proxy, address) = proxy_with(vec![listener("", all_to("b"))], [("b", vec![endpoint])]);
    let mut stream = connect(address).await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: any\r\n\r\n").await.unwrap();
    arrivals.recv().await.unwrap();
    proxy.drain(LONG);
    proxy.drain(Duration::ZERO);
    let error = stream.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    eventually("it is drained", || proxy.is_drained()).await;
}
