//! Sessions outlive their listener, but not for ever.

mod udp_support;

use std::{
    net::UdpSocket,
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use l4way_proxy::ProxySettings;
use l4way_session::CloseReason;
use udp_support::*;

#[test]
fn a_removed_listener_serves_its_sessions_and_no_others() {
    let (mut bench, endpoint) = Bench::with_backend(settings());
    bench.set_session_timeout(Duration::from_millis(300));
    let client = bench.client();
    round_trip(&client, &endpoint, b"before");
    bench.remove_listener();
    round_trip(&client, &endpoint, b"after");
    bench.client().send(b"too late").expect("sent");
    round_trip(&client, &endpoint, b"the only one");
    assert_eq!(bench.record().reason, CloseReason::SessionTimeout);
    assert_eq!(bench.opened(), 1);
    eventually("the port is free", || UdpSocket::bind(bench.address()).is_ok());
}

#[test]
fn a_removed_listener_without_sessions_frees_its_port() {
    let (mut bench, _endpoint) = Bench::with_backend(settings());
    bench.remove_listener();
    eventually("the port is free", || UdpSocket::bind(bench.address()).is_ok());
}

#[test]
fn sessions_of_a_removed_listener_end_at_the_deadline() {
    let settings = ProxySettings { drain_deadline: Duration::from_millis(50), ..settings() };
    let (mut bench, endpoint) = Bench::with_backend(settings);
    round_trip(&bench.client(), &endpoint, b"hello");
    bench.remove_listener();
    assert_eq!(bench.record().reason, CloseReason::ListenerRemoved);
    eventually("the port is free", || UdpSocket::bind(bench.address()).is_ok());
}

/// With several workers each client's datagrams must keep going to the same one.
#[test]
fn a_listener_that_comes_back_takes_its_sessions_back() {
    let workers = NonZeroUsize::new(4).expect("not 0");
    let (mut bench, endpoint) = Bench::with_backend(ProxySettings { workers, ..settings() });
    let clients = [(); 20].map(|()| bench.client());
    clients.iter().for_each(|client| round_trip(client, &endpoint, b"before"));
    bench.remove_listener();
    clients.iter().for_each(|client| round_trip(client, &endpoint, b"meanwhile"));
    bench.apply();
    clients.iter().for_each(|client| round_trip(client, &endpoint, b"after"));
    assert_eq!((bench.opened(), bench.active()), (20, 20));
    let new_clients = [(); 20].map(|()| bench.client());
    new_clients.iter().for_each(|client| round_trip(client, &endpoint, b"a new client"));
    assert_eq!(bench.opened(), 40);
}

/// Some workers still have the socket then, which nobody needs any more.
#[test]
fn a_listener_without_sessions_comes_back_at_once() {
    let workers = NonZeroUsize::new(4).expect("not 0");
    let (mut bench, endpoint) = Bench::with_backend(ProxySettings { workers, ..settings() });
    for _ in 0..20 {
        bench.remove_listener();
        bench.apply();
    }
    round_trip(&bench.client(), &endpoint, b"hello");
}

#[test]
fn a_listener_on_another_address_leaves_what_drains_alone() {
    let (mut bench, endpoint) = Bench::with_backend(settings());
    let client = bench.client();
    round_trip(&client, &endpoint, b"before");
    bench.replace_listener("other", "127.0.0.2".parse().expect("an address"));
    round_trip(&client, &endpoint, b"meanwhile");
    bench.apply();
    round_trip(&client, &endpoint, b"after");
    assert_eq!((bench.opened(), bench.active()), (1, 1));
}

#[test]
fn what_drains_gives_way_to_a_listener_that_cannot_be_beside_it() {
    let (mut bench, endpoint) = Bench::with_backend(settings());
    let client = bench.client();
    round_trip(&client, &endpoint, b"before");
    bench.replace_listener("any", "0.0.0.0".parse().expect("an address"));
    assert_eq!(bench.record().reason, CloseReason::ListenerRemoved);
    round_trip(&client, &endpoint, b"a new session");
    assert_eq!((bench.opened(), bench.active()), (2, 1));
}

/// A single session keeps the sockets of all workers, lest its datagrams go to another worker.
#[test]
fn one_session_keeps_all_workers_sockets_open() {
    let workers = NonZeroUsize::new(4).expect("not 0");
    let (mut bench, endpoint) = Bench::with_backend(ProxySettings { workers, ..settings() });
    let client = bench.client();
    round_trip(&client, &endpoint, b"before");
    bench.remove_listener();
    let begun = Instant::now();
    // Longer than workers without sessions wait before they look again.
    while begun.elapsed() < Duration::from_millis(500) {
        round_trip(&client, &endpoint, b"after");
    }
    assert_eq!((bench.opened(), bench.active()), (1, 1));
}

#[test]
fn a_renamed_listener_keeps_its_sessions() {
    let (mut bench, endpoint) = Bench::with_backend(settings());
    let client = bench.client();
    round_trip(&client, &endpoint, b"before");
    bench.rename_listener("renamed");
    round_trip(&client, &endpoint, b"after");
    assert_eq!(bench.opened(), 1);
    round_trip(&bench.client(), &endpoint, b"a new client");
    let rows = bench.proxy.counters().snapshot().rows;
    let opened = rows.iter().map(|row| (&*row.labels.listener.name, row.opened));
    let opened = opened.filter(|(_, opened)| *opened > 0);
    assert_eq!(opened.collect::<Vec<_>>(), [("dns", 1), ("renamed", 1)]);
}

#[test]
fn a_proxy_that_drains_serves_its_sessions_to_their_end() {
    let (mut bench, endpoint) = Bench::with_backend(settings());
    bench.set_session_timeout(Duration::from_millis(200));
    let client = bench.client();
    round_trip(&client, &endpoint, b"before");
    bench.proxy.drain(PATIENCE);
    round_trip(&client, &endpoint, b"after");
    assert!(bench.proxy.wait(PATIENCE), "the session's timeout ends the drain");
    assert_eq!(bench.record().reason, CloseReason::SessionTimeout);
}

#[test]
fn a_drains_deadline_ends_what_is_left() {
    let (mut bench, endpoint) = Bench::with_backend(settings());
    round_trip(&bench.client(), &endpoint, b"hello");
    bench.proxy.drain(Duration::from_millis(50));
    assert!(bench.proxy.wait(PATIENCE), "the deadline ends the drain");
    assert_eq!(bench.record().reason, CloseReason::Drained);
}
