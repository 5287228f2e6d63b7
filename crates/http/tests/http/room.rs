//! Descriptors that are short.

use std::{net::SocketAddr, num::NonZeroUsize, sync::Arc, time::Duration};

use l4way_http::{HttpProxy, HttpSettings};
use l4way_proxy_core::{BudgetKind, DescriptorBudget};
use tokio::time::sleep;

use crate::{
    client::{Answer, Body, connect, get, http1, http2, request},
    endpoint::{named, patient},
    support::{all_to, apply, endpoints, eventually, free_address, listener, port},
};

const SILENCE: Duration = Duration::from_millis(200);

/// A proxy with so many descriptors and one port, toward this endpoint.
fn start(
    descriptors: usize,
    endpoint: SocketAddr,
) -> (HttpProxy, SocketAddr, Arc<DescriptorBudget>) {
    let budget = DescriptorBudget::new(descriptors, NonZeroUsize::MIN);
    let mut settings = HttpSettings { silence: SILENCE, ..HttpSettings::default() };
    settings.process.descriptors = Some(budget.clone());
    let mut proxy = HttpProxy::start(settings).unwrap();
    let address = free_address();
    let ports = [port(address, vec![listener("", all_to("b"))])];
    apply(&mut proxy, ports, &endpoints([("b", vec![endpoint])]));
    (proxy, address, budget)
}

#[tokio::test]
async fn an_idle_connection_makes_room_and_a_busy_one_stays() {
    let (endpoint, mut arrivals, may_answer) = patient().await;
    let (proxy, address, _) = start(4, endpoint);
    let [mut busy, mut idle] =
        [http1(connect(address).await).await, http1(connect(address).await).await];
    may_answer.add_permits(1);
    let answer = idle.send_request(request("any", "/")).await.unwrap();
    assert_eq!(Answer::read(answer).await.unwrap().name(), "patient");
    let answer = busy.send_request(request("any", "/"));
    let answer = tokio::spawn(async { Answer::read(answer.await.unwrap()).await.unwrap() });
    for _ in 0..2 {
        arrivals.recv().await.unwrap();
    }
    let next = tokio::spawn(get(address, "any", "/"));
    let another = tokio::spawn(get(address, "any", "/"));
    eventually("one leaves", || proxy.counters().snapshot().idle_evictions == 1).await;
    arrivals.recv().await.unwrap();
    sleep(2 * SILENCE).await;
    idle.send_request(request("any", "/")).await.expect_err("it has left");
    may_answer.add_permits(3);
    for answer in [answer, next, another] {
        assert_eq!(answer.await.unwrap().name(), "patient");
    }
}

#[tokio::test]
async fn silent_clients_that_were_answered_leave_for_new_ones() {
    let (proxy, address, budget) = start(8, named("n").await);
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = http1(connect(address).await).await;
        let answer = client.send_request(request("any", "/")).await.unwrap();
        assert_eq!(Answer::read(answer).await.unwrap().name(), "n");
        clients.push(client);
    }
    sleep(2 * SILENCE).await;
    let evicted = || proxy.counters().snapshot().idle_evictions;
    assert_eq!(evicted(), 0);
    // Two at the same time, as each that is done makes room.
    let (one, other) = tokio::join!(get(address, "any", "/"), get(address, "any", "/"));
    assert_eq!((one.name(), other.name()), ("n", "n"));
    assert!((1..=2).contains(&evicted()), "{}", evicted());
    drop(clients);
    drop(proxy);
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn requests_wait_for_descriptors_toward_endpoints() {
    let (endpoint, mut arrivals, may_answer) = patient().await;
    let (_proxy, address, budget) = start(5, endpoint);
    let client = http2(connect(address).await).await;
    let requests: Vec<_> = (0..6)
        .map(|_| {
            let mut client = client.clone();
            let ask = hyper::Request::get("http://any/").body(Body::new()).unwrap();
            tokio::spawn(async move {
                Answer::read(client.send_request(ask).await.unwrap()).await.unwrap()
            })
        })
        .collect();
    for _ in 0..4 {
        arrivals.recv().await.unwrap();
    }
    assert_eq!(budget.used(), 5);
    assert!(arrivals.try_recv().is_err());
    may_answer.add_permits(6);
    for request in requests {
        assert_eq!(request.await.unwrap().name(), "patient");
    }
}

#[tokio::test]
async fn others_leave_something_and_get_it_back() {
    let (proxy, address, budget) = start(32, named("n").await);
    let tcp = budget.allow(BudgetKind::Tcp);
    let held: Vec<_> = std::iter::from_fn(|| tcp.take(2)).collect();
    assert_eq!(get(address, "any", "/").await.name(), "n");
    drop((held, proxy));
    assert_eq!(budget.used(), 0);
}
