use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hyper::StatusCode;
use l4way_http::ErrorReason;
use l4way_model::{BindFailureKind, Config, ListenerReport, SessionTerms};

use crate::{
    client::{Answer, connect, get, http1, request},
    endpoint::{named, patient},
    support::{
        all_to, apply, config, endpoints, errors, eventually, free_address, listener, listener_id,
        port, proxy_with, start,
    },
};

#[tokio::test]
async fn changes_under_running_requests_lose_none() {
    let (a, b) = (named("a").await, named("b").await);
    let table = endpoints([("a", vec![a]), ("b", vec![b])]);
    let address = free_address();
    let ports = |backend| [port(address, vec![listener("", all_to(backend))])];
    let mut proxy = start();
    apply(&mut proxy, ports("a"), &table);
    let enough = Arc::new(AtomicBool::new(false));
    let done = enough.clone();
    let requests = tokio::spawn(async move {
        let mut answers = [0_u32; 2];
        let mut client = http1(connect(address).await).await;
        while !done.load(Ordering::Relaxed) || answers.contains(&0) {
            let response = client.send_request(request("any", "/")).await.unwrap();
            let answer = Answer::read(response).await.unwrap();
            answers[usize::from(answer.name() == "b")] += 1;
        }
        answers
    });
    // A backend comes and goes with the configuration that names it.
    for round in 0..100 {
        let (name, endpoint) = if round % 2 == 0 { ("b", b) } else { ("a", a) };
        apply(&mut proxy, ports(name), &endpoints([(name, vec![endpoint])]));
        assert_eq!(get(address, "any", "/").await.name(), name);
    }
    enough.store(true, Ordering::Relaxed);
    requests.await.unwrap();
}

#[tokio::test]
async fn a_request_ends_as_it_began_when_its_listener_goes() {
    let (endpoint, mut arrivals, may_answer) = patient().await;
    let (mut proxy, address) = proxy_with(vec![listener("", all_to("b"))], [("b", vec![endpoint])]);
    let mut client = http1(connect(address).await).await;
    let response = client.send_request(request("any", "/"));
    let asked = tokio::spawn(async { Answer::read(response.await.unwrap()).await.unwrap() });
    arrivals.recv().await.unwrap();
    proxy.prepare(&config([]), &endpoints([]));
    let _taken = TcpListener::bind(address).expect("the port is free on return");
    may_answer.add_permits(1);
    assert_eq!(asked.await.unwrap().name(), "patient");
    assert!(client.ready().await.is_err(), "and then the connection ends");
}

#[tokio::test]
async fn a_taken_port_is_told_and_tried_again() {
    let endpoint = named("b").await;
    let (address, free) = (free_address(), free_address());
    let holder = TcpListener::bind(address).unwrap();
    let ports = [
        port(address, vec![listener("taken", all_to("b"))]),
        port(free, vec![listener("free", all_to("b"))]),
    ];
    let mut proxy = start();
    proxy.prepare(&config(ports), &endpoints([("b", vec![endpoint])]));
    let report = proxy.listen();
    assert_eq!(report[&listener_id("free")], ListenerReport::Bound);
    let ListenerReport::Failed(failure) = &report[&listener_id("taken")] else {
        panic!("{report:?}");
    };
    assert_eq!((failure.bind, failure.kind), (address, BindFailureKind::PortTaken));
    assert!(failure.message.contains(&std::process::id().to_string()), "{}", failure.message);
    assert!(proxy.retry_failed().is_none(), "it is as it was");
    assert_eq!(get(free, "free", "/").await.name(), "b");
    drop(holder);
    let report = proxy.retry_failed().expect("it is free now");
    assert_eq!(report[&listener_id("taken")], ListenerReport::Bound);
    assert_eq!(get(address, "taken", "/").await.name(), "b");
}

#[tokio::test]
async fn one_address_that_is_taken_keeps_a_port_from_all() {
    let (taken, other) = (free_address(), free_address());
    let mut both = port(taken, vec![listener("l", all_to("b"))]);
    both.addresses.insert(0, other.ip());
    let _holder = TcpListener::bind(taken).unwrap();
    let mut proxy = start();
    proxy.prepare(&config([both]), &endpoints([]));
    let report = proxy.listen();
    assert!(matches!(report[&listener_id("l")], ListenerReport::Failed(_)), "{report:?}");
    TcpListener::bind((other.ip(), taken.port())).expect("it isn't listened on");
}

#[tokio::test]
async fn requests_go_where_the_endpoints_are_now() {
    let (old, new) = (named("old").await, named("new").await);
    let (mut proxy, address) = proxy_with(vec![listener("", all_to("b"))], [("b", vec![old])]);
    let mut client = http1(connect(address).await).await;
    for (endpoint, name) in [(old, "old"), (new, "new"), (old, "old")] {
        proxy.update_endpoints(&endpoints([("b", vec![endpoint])]));
        let response = client.send_request(request("any", "/")).await.unwrap();
        assert_eq!(Answer::read(response).await.unwrap().name(), name);
    }
    proxy.update_endpoints(&endpoints([("b", vec![])]));
    let response = client.send_request(request("any", "/")).await.unwrap();
    assert_eq!(response.status(), 503);
}

#[tokio::test]
async fn another_connect_timeout_holds_for_the_next_request() {
    // Nobody accepts there, so that what doesn't fit into the queue is not answered.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listening = socket.listen(1).unwrap();
    let full = listening.local_addr().unwrap();
    let waiting: Vec<_> = (0..8).map(|_| tokio::spawn(connect(full))).collect();
    let table = endpoints([("b", vec![full])]);
    let ports = [port(free_address(), vec![listener("", all_to("b"))])];
    let address = ports[0].binds().next().unwrap();
    let mut proxy = start();
    apply(&mut proxy, ports.clone(), &table);
    let terms = SessionTerms { connect_timeout: Duration::from_millis(50), ..Default::default() };
    let config = Config::clone(&config(ports)).with_terms(terms);
    proxy.prepare(&Arc::new(config), &table);
    proxy.listen();
    // As Linux has it, one more than was asked for.
    let queued = || waiting.iter().filter(|client| client.is_finished()).count();
    eventually("the queue is full", || queued() == 2).await;
    assert_eq!(get(address, "any", "/").await.status, StatusCode::GATEWAY_TIMEOUT);
    assert!(errors(&proxy, ErrorReason::ConnectTimeout) > 0);
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}
