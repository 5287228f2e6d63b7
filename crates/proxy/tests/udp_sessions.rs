//! When UDP sessions begin, end and change their endpoint.

mod udp_support;

use std::{net::UdpSocket, num::NonZeroUsize, path::PathBuf, time::Duration};

use l4way_model::{Endpoint, EndpointAddress, RefusedReason};
use l4way_proxy::ProxySettings;
use l4way_session::CloseReason;
use udp_support::*;

/// Sends until a datagram arrives at `endpoint`; whatever arrived elsewhere before doesn't matter.
fn send_until_received(client: &UdpSocket, endpoint: &UdpSocket) {
    eventually("a datagram comes to the endpoint", || {
        client.send(b"anybody?").expect("sent");
        !is_silent(endpoint)
    });
}

#[test]
fn a_silent_session_times_out_and_is_recorded() {
    let (mut bench, endpoint) = Bench::with_backend(settings());
    bench.set_session_timeout(Duration::from_millis(50));
    let client = bench.client();
    round_trip(&client, &endpoint, b"hello");
    let record = bench.record();
    assert_eq!(record.reason, CloseReason::SessionTimeout);
    assert_eq!((record.bytes_upstream, record.datagrams_upstream), (5, 1));
    assert_eq!((record.bytes_downstream, record.datagrams_downstream), (5, 1));
    assert_eq!(record.downstream, client.local_addr().expect("bound"));
    assert_eq!(record.local, bench.address());
    let endpoint_address = endpoint.local_addr().expect("bound").to_string();
    assert_eq!(record.endpoint.map(|e| e.to_string()), Some(endpoint_address));
    assert!(record.connect_time.is_some() && record.duration >= Duration::from_millis(50));
    assert_eq!((bench.active(), bench.sum(|row| row.unanswered)), (0, 0));
    round_trip(&client, &endpoint, b"a new session");
    assert_eq!(bench.opened(), 2);
}

#[test]
fn another_timeout_holds_for_the_sessions_that_there_are() {
    let (mut bench, endpoint) = Bench::with_backend(settings());
    let client = bench.client();
    round_trip(&client, &endpoint, b"hello");
    bench.set_session_timeout(Duration::from_millis(200));
    // The client isn't silent for so long.
    for _ in 0..10 {
        std::thread::sleep(Duration::from_millis(50));
        round_trip(&client, &endpoint, b"still here");
    }
    bench.set_session_timeout(Duration::from_secs(60));
    std::thread::sleep(Duration::from_millis(300));
    round_trip(&client, &endpoint, b"and still");
    assert_eq!((bench.opened(), bench.active()), (1, 1));
    bench.set_session_timeout(Duration::from_millis(1));
    assert_eq!(bench.record().reason, CloseReason::SessionTimeout);
    bench.set_session_timeout(Duration::from_secs(60));
    round_trip(&client, &endpoint, b"a new session");
    assert_eq!((bench.opened(), bench.active()), (2, 1));
}

#[test]
fn a_session_without_a_reply_is_counted_as_unanswered() {
    let (mut bench, endpoint) = Bench::with_backend(settings());
    bench.set_session_timeout(Duration::from_millis(20));
    carry(&bench.client(), &endpoint, b"hello?");
    assert_eq!(bench.record().connect_time, None);
    assert_eq!(bench.sum(|row| row.unanswered), 1);
}

#[test]
fn a_full_table_evicts_the_longest_idle_session() {
    let limit = NonZeroUsize::new(2);
    let settings =
        ProxySettings { workers: NonZeroUsize::MIN, udp_session_limit: limit, ..settings() };
    let (bench, endpoint) = Bench::with_backend(settings);
    let (first, second, third) = (bench.client(), bench.client(), bench.client());
    round_trip(&first, &endpoint, b"1");
    round_trip(&second, &endpoint, b"2");
    round_trip(&first, &endpoint, b"1 again");
    round_trip(&third, &endpoint, b"3");
    let record = bench.record();
    assert_eq!(record.reason, CloseReason::Evicted);
    assert_eq!(record.downstream, second.local_addr().expect("bound"));
    assert_eq!(bench.active(), 2);
    round_trip(&first, &endpoint, b"1 once more");
    assert_eq!(bench.opened(), 3);
}

#[test]
fn without_descriptors_for_more_the_longest_idle_session_makes_room() {
    let one = NonZeroUsize::new(1);
    let settings =
        ProxySettings { workers: NonZeroUsize::MIN, session_descriptors: one, ..settings() };
    let (bench, endpoint) = Bench::with_backend(settings);
    round_trip(&bench.client(), &endpoint, b"1");
    round_trip(&bench.client(), &endpoint, b"2");
    assert_eq!((bench.count(CloseReason::Evicted), bench.active()), (1, 1));
}

#[test]
fn an_icmp_error_ends_the_session_and_not_the_listener() {
    let (mut bench, endpoint) = Bench::with_backend(settings());
    let client = bench.client();
    round_trip(&client, &endpoint, b"hello");
    drop(endpoint);
    client.send(b"nobody there").expect("sent");
    eventually("an ICMP error ends it", || bench.count(CloseReason::IcmpUnreachable) >= 1);
    let successor = socket(LOCALHOST);
    bench.set_endpoints("a", &[&successor]);
    send_until_received(&client, &successor);
}

#[test]
fn a_session_that_cannot_reach_its_endpoint_ends_at_once() {
    let mut bench = Bench::new(LOCALHOST, settings());
    let address = EndpointAddress::Unix(PathBuf::from("/not/for/datagrams").into());
    bench.set_addresses("a", vec![Endpoint { address: address.clone() }]);
    bench.client().send(b"hello?").expect("sent");
    let record = bench.record();
    assert_eq!((record.reason, record.endpoint), (CloseReason::ConnectFailed, Some(address)));
    assert_eq!((bench.opened(), bench.active()), (1, 0));
}

#[test]
fn a_session_whose_endpoint_is_gone_gets_another_with_the_next_datagram() {
    let (mut bench, endpoint) = Bench::with_backend(settings());
    let client = bench.client();
    round_trip(&client, &endpoint, b"hello");
    let successor = socket(LOCALHOST);
    bench.set_endpoints("a", &[&successor]);
    send_until_received(&client, &successor);
    assert_eq!(bench.record().reason, CloseReason::EndpointRemoved);
    assert_eq!(bench.active(), 1);
}

#[test]
fn endpoints_that_come_and_go_leave_other_sessions_alone() {
    let (mut bench, endpoint) = Bench::with_backend(settings());
    let client = bench.client();
    let from = carry(&client, &endpoint, b"hello");
    let other = socket(LOCALHOST);
    bench.set_endpoints("a", &[&other, &endpoint]);
    eventually("a new client reaches the new endpoint", || {
        bench.client().send(b"hi").expect("sent");
        !is_silent(&other)
    });
    bench.set_endpoints("a", &[&endpoint]);
    client.send(b"still me").expect("sent");
    eventually("the session goes on", || receive(&endpoint) == (b"still me".to_vec(), from));
}

#[test]
fn without_endpoints_datagrams_are_refused_until_there_is_one() {
    let (mut bench, endpoint) = Bench::with_backend(settings());
    let client = bench.client();
    round_trip(&client, &endpoint, b"hello");
    bench.set_endpoints("a", &[]);
    eventually("a datagram is refused", || {
        client.send(b"hello?").expect("sent");
        bench.count(CloseReason::NoEndpoint) > 0
    });
    assert_eq!((bench.active(), bench.opened()), (0, 1));
    while !is_silent(&endpoint) {}
    bench.set_endpoints("a", &[&endpoint]);
    send_until_received(&client, &endpoint);
}

#[test]
fn what_the_configuration_refuses_is_dropped_and_counted() {
    let (mut bench, endpoint) = Bench::with_backend(settings());
    let client = bench.client();
    let invalid = refused(RefusedReason::InvalidBackend, 1);
    for (route, reason) in [
        (None, CloseReason::NoRoute),
        (Some(route(&[])), CloseReason::NoWeight),
        (Some(route(&[to("a", 0)])), CloseReason::NoWeight),
        (Some(route(&[invalid])), CloseReason::InvalidBackend),
    ] {
        bench.set_route(route);
        let before = bench.count(reason);
        client.send(b"hello?").expect("sent");
        eventually("it is refused", || bench.count(reason) == before + 1);
    }
    assert_eq!(bench.opened(), 0);
    assert!(is_silent(&endpoint));
}

#[test]
fn a_client_whose_share_is_refused_stays_refused() {
    let (mut bench, _endpoint) = Bench::with_backend(settings());
    bench.set_route(Some(route(&[to("a", 1), refused(RefusedReason::InvalidBackend, 1)])));
    let clients: Vec<_> = (0..100).map(|_| bench.client()).collect();
    for _ in 0..3 {
        clients.iter().for_each(|client| assert_eq!(client.send(b"hello").ok(), Some(5)));
    }
    let seen =
        || bench.sum(|row| row.datagrams_upstream) + bench.count(CloseReason::InvalidBackend);
    eventually("all datagrams are through or refused", || seen() == 300);
    let (opened, refused) = (bench.opened(), bench.count(CloseReason::InvalidBackend));
    assert!((45..=55).contains(&opened), "{opened} of 100 sessions");
    assert_eq!(refused, (100 - opened) * 3);
}

#[test]
fn weights_change_for_new_sessions_only() {
    let (a, b) = (socket(LOCALHOST), socket(LOCALHOST));
    let mut bench = Bench::new(LOCALHOST, settings());
    bench.set_endpoints("a", &[&a]);
    bench.set_endpoints("b", &[&b]);
    bench.set_route(Some(route(&[to("a", 100), to("b", 0)])));
    let client = bench.client();
    let from = carry(&client, &a, b"to a");
    bench.set_route(Some(route(&[to("a", 0), to("b", 100)])));
    eventually("a new client goes to b", || {
        bench.client().send(b"hi").expect("sent");
        !is_silent(&b)
    });
    while !is_silent(&a) {}
    assert_eq!(carry(&client, &a, b"still to a"), from);
}

#[test]
fn a_session_stays_when_its_route_leads_elsewhere() {
    let (a, b) = (socket(LOCALHOST), socket(LOCALHOST));
    let mut bench = Bench::new(LOCALHOST, settings());
    bench.set_endpoints("a", &[&a]);
    bench.set_endpoints("b", &[&b]);
    bench.set_route(Some(route(&[to("a", 1)])));
    let client = bench.client();
    let from = carry(&client, &a, b"to a");
    bench.set_route(Some(route(&[to("b", 1)])));
    eventually("a new client goes to b", || {
        bench.client().send(b"hi").expect("sent");
        !is_silent(&b)
    });
    bench.forget_endpoints("a");
    assert_eq!(carry(&client, &a, b"still to a"), from);
    bench.set_endpoints("a", &[]);
    eventually("the session ends with its endpoint", || {
        client.send(b"now to b").expect("sent");
        bench.count(CloseReason::EndpointRemoved) == 1
    });
    // What other clients sent may still wait there.
    while receive(&b).0 != b"now to b" {}
}

#[test]
fn a_session_with_a_deleted_backend_moves_with_the_next_datagram() {
    let (a, b) = (socket(LOCALHOST), socket(LOCALHOST));
    let mut bench = Bench::new(LOCALHOST, settings());
    bench.set_endpoints("a", &[&a]);
    bench.set_endpoints("b", &[&b]);
    bench.set_route(Some(route(&[to("a", 1)])));
    let client = bench.client();
    round_trip(&client, &a, b"to a");
    // At once with the route, and after it.
    bench.delete_backend("a");
    bench.set_route(Some(route(&[to("b", 1)])));
    bench.proxy.settle();
    round_trip(&client, &b, b"to b");
    assert_eq!(bench.record().reason, CloseReason::EndpointRemoved);
    bench.set_endpoints("a", &[&a]);
    bench.set_route(Some(route(&[to("a", 1)])));
    bench.proxy.settle();
    round_trip(&client, &b, b"still to b");
    bench.delete_backend("b");
    bench.apply();
    bench.proxy.settle();
    round_trip(&client, &a, b"to a again");
    assert!(is_silent(&b));
}

#[test]
fn a_thousand_sessions_at_50_50_are_halves() {
    let (a, b) = (socket(LOCALHOST), socket(LOCALHOST));
    let mut bench = Bench::new(LOCALHOST, settings());
    bench.set_endpoints("a", &[&a]);
    bench.set_endpoints("b", &[&b]);
    bench.set_route(Some(route(&[to("a", 50), to("b", 50)])));
    let clients: Vec<_> = (0..1_000).map(|_| bench.client()).collect();
    for (n, client) in clients.iter().enumerate() {
        client.send(b"hello").expect("sent");
        // Not more at a time than a receive buffer holds.
        if n % 100 == 99 {
            eventually("sessions are begun", || bench.opened() == n as u64 + 1);
        }
    }
    let opened = opened_by_backend(&bench);
    assert!(opened.values().all(|n| (450..=550).contains(n)), "{opened:?}");
    assert_eq!(opened.values().sum::<u64>(), 1_000);
}

#[test]
fn every_client_reaches_the_one_of_two_endpoints_that_lives() {
    let (mut bench, lives) = Bench::with_backend(settings());
    let dead = socket(LOCALHOST);
    bench.set_endpoints("a", &[&lives, &dead]);
    drop(dead);
    lives.set_nonblocking(true).unwrap();
    let clients: Vec<_> = (0..20).map(|_| bench.client()).collect();
    for client in &clients {
        let mut buffer = [0; 16];
        // Its first datagrams may bring the ICMP error that tells.
        eventually("it is served", || {
            client.send(b"ping").unwrap();
            lives.recv(&mut buffer).is_ok()
        });
        while lives.recv(&mut buffer).is_ok() {}
    }
    assert!(bench.count(CloseReason::IcmpUnreachable) <= 3, "few flows went to the dead one");
}
