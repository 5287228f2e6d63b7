use std::{io, time::Duration};

use hyper::upgrade;
use hyper_util::rt::TokioIo;
use l4way_http::{HttpProxy, HttpSettings};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    client::{Answer, Body, connect, http1, http2, request, upgrade_request},
    endpoint::{patient, upgrading},
    support::{
        all_to, apply, endpoints, eventually, free_address, listener, port, proxy_with, rule,
    },
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

async fn ping(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    stream.write_all(b"ping").await?;
    stream.read_exact(&mut [0; 4]).await.map(drop)
}

#[tokio::test]
async fn a_port_that_comes_back_takes_its_connections_back() {
    let (waits, mut arrivals, may_answer) = patient().await;
    let table = endpoints([("waits", vec![waits]), ("upgrades", vec![upgrading().await])]);
    let [address, witness] = [free_address(), free_address()];
    let to = |path, name| rule(path, [(1, crate::support::backend(name))]);
    let rules = vec![to("/waits", "waits"), to("/", "upgrades")];
    // The second doesn't come back, so that its requests tell when the deadline has passed.
    let ports = [address, witness].map(|at| port(at, vec![listener("", rules.clone())]));
    let drain_deadline = Duration::from_secs(1);
    let settings = HttpSettings { drain_deadline, ..HttpSettings::default() };
    let mut proxy = HttpProxy::start(settings).unwrap();
    apply(&mut proxy, ports.clone(), &table);

    let mut client = http1(connect(address).await).await;
    let response = client.send_request(upgrade_request("websocket")).await.unwrap();
    let mut upgraded = TokioIo::new(upgrade::on(response).await.unwrap());
    ping(&mut upgraded).await.unwrap();
    let mut one = http1(connect(address).await).await;
    let mut two = http2(connect(address).await).await;
    let ask = hyper::Request::get("http://any/waits").body(Body::new()).unwrap();
    let asked = [
        tokio::spawn(one.send_request(request("any", "/waits"))),
        tokio::spawn(two.send_request(ask)),
    ];
    let waiting = async |at| {
        let mut stream = connect(at).await;
        stream.write_all(b"GET /waits HTTP/1.1\r\nHost: any\r\n\r\n").await.unwrap();
        stream
    };
    let mut waits = waiting(witness).await;
    for _ in 0..3 {
        arrivals.recv().await.unwrap();
    }

    apply(&mut proxy, [], &table);
    TcpStream::connect(address).await.expect_err("nothing new is taken");
    apply(&mut proxy, [ports[0].clone()], &table);
    let error = waits.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    ping(&mut upgraded).await.expect("it goes on");
    may_answer.add_permits(3);
    for asked in asked {
        let answer = Answer::read(asked.await.unwrap().unwrap()).await.unwrap();
        assert_eq!(answer.name(), "patient");
    }

    // Once more, and then for good.
    for _ in 0..2 {
        apply(&mut proxy, [], &table);
        ping(&mut upgraded).await.expect("it has its time");
        apply(&mut proxy, [ports[0].clone()], &table);
    }
    apply(&mut proxy, [], &table);
    upgraded.read(&mut [0]).await.expect_err("a reset");
    eventually("it is over", || proxy.counters().active_connections() == 0).await;
}
