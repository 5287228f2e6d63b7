//! One budget of descriptors: nobody takes the last from others, and who is silent makes room for them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    net::{SocketAddr, TcpStream, UdpSocket},
    num::NonZeroUsize,
    sync::Arc,
    thread,
    time::Duration,
};

use common::*;
use l4way_model::{AtLimit, Config, Listener, SessionTerms, Transport};
use l4way_proxy::{Proxy, ProxySettings};
use l4way_session::{CloseReason, WorkerSnapshot};
use socket2::{Domain, Socket, Type};

const SILENCE: Duration = Duration::from_millis(300);

/// A proxy with this many descriptors and workers. It has a TCP listener and one of UDP, both toward
/// endpoints that send back what they get, and one of UDP whose endpoint never answers.
fn start(descriptors: usize, workers: usize, silence: Duration) -> (Proxy, [SocketAddr; 3]) {
    start_with(descriptors, workers, silence, AtLimit::Wait)
}

fn start_with(
    descriptors: usize,
    workers: usize,
    silence: Duration,
    at_limit: AtLimit,
) -> (Proxy, [SocketAddr; 3]) {
    let settings = ProxySettings {
        workers: NonZeroUsize::new(workers).unwrap(),
        session_descriptors: NonZeroUsize::new(descriptors),
        silence,
        ..settings()
    };
    let mut proxy = Proxy::start(settings).unwrap();
    let addresses = [free_address(), free_address(), free_address()];
    let udp = |name, address, backend| Listener {
        transport: Transport::Udp,
        ..listener(name, address, Some(route_to(backend)))
    };
    let config = Config::new([
        listener("tcp", addresses[0], Some(route_to("tcp"))),
        udp("udp", addresses[1], "udp"),
        udp("mute", addresses[2], "mute"),
    ]);
    let terms = SessionTerms { at_limit, ..SessionTerms::default() };
    let config = Arc::new(config.unwrap().with_terms(terms));
    let mute = UdpSocket::bind("127.0.0.1:0").unwrap();
    let endpoints = endpoints([
        ("tcp", vec![echo()]),
        ("udp", vec![udp_echo()]),
        ("mute", vec![mute.local_addr().unwrap()]),
    ]);
    // It is there to the end of the process, and reads nothing.
    std::mem::forget(mute);
    all_bound(&proxy.apply(config, &endpoints));
    (proxy, addresses)
}

fn udp_echo() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 100];
        while let Ok((n, from)) = socket.recv_from(&mut buffer) {
            socket.send_to(&buffer[..n], from).unwrap();
        }
    });
    address
}

fn udp_client(address: SocketAddr) -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(address).unwrap();
    client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    client
}

/// Whether the client is answered, if it asks some times.
fn is_answered(client: &UdpSocket) -> bool {
    (0..30).any(|_| {
        client.send(b"ask").unwrap();
        client.recv(&mut [0; 10]).is_ok()
    })
}

/// Clients that never say anything, until somebody waits.
fn silent_crowd(proxy: &Proxy, address: SocketAddr) -> Vec<TcpStream> {
    let paused = || proxy.counters().snapshot().workers.iter().any(|w| w.limit_pauses > 0);
    let mut crowd = Vec::new();
    eventually("the limit", || {
        crowd.push(connect(address));
        paused()
    });
    crowd
}

#[test]
fn tcp_does_not_take_the_last_from_udp_nor_udp_from_tcp() {
    let (proxy, [tcp, udp, _]) = start(100, 2, PATIENCE);
    let _crowd = silent_crowd(&proxy, tcp);
    let client = udp_client(udp);
    assert!(is_answered(&client));
    assert_eq!(ended(&proxy, CloseReason::Evicted), 0);

    let (proxy, [tcp, _, mute]) = start(100, 2, PATIENCE);
    let clients: Vec<_> = (0..200).map(|_| udp_client(mute)).collect();
    clients.iter().for_each(|client| assert_eq!(client.send(b"?").unwrap(), 1));
    let is_full =
        || ended(&proxy, CloseReason::Evicted) + ended(&proxy, CloseReason::EvictedUnanswered) > 0;
    eventually("UDP has what it may", is_full);
    ping(&connect(tcp), "served");
}

#[test]
fn a_udp_client_takes_the_place_of_a_silent_one_of_tcp() {
    let (proxy, [tcp, udp, mute]) = start(60, 1, SILENCE);
    let used = connect(tcp);
    ping(&used, "used");
    let _crowd = silent_crowd(&proxy, tcp);
    let answered: Vec<_> = (0..2).map(|_| udp_client(udp)).collect();
    answered.iter().for_each(|client| assert!(is_answered(client)));
    thread::sleep(2 * SILENCE);
    let freed = || ended(&proxy, CloseReason::EvictedUnused);
    let before = freed();
    let clients: Vec<_> = (0..10).map(|_| udp_client(mute)).collect();
    clients.iter().for_each(|client| assert_eq!(client.send(b"?").unwrap(), 1));
    eventually("TCP makes room", || freed() > before);
    assert_eq!(ended(&proxy, CloseReason::Evicted), 0);
    ping(&used, "still here");
}

#[test]
fn a_tcp_client_takes_the_place_of_udp_sessions_that_were_never_answered() {
    let (proxy, [tcp, udp, mute]) = start(60, 2, PATIENCE);
    let answered = udp_client(udp);
    assert!(is_answered(&answered));
    let clients: Vec<_> = (0..200).map(|_| udp_client(mute)).collect();
    clients.iter().for_each(|client| assert_eq!(client.send(b"?").unwrap(), 1));
    // More than its share: ten sessions, while a TCP listener's share is less.
    let sessions: Vec<_> = (0..10).map(|_| connect(tcp)).collect();
    sessions.iter().for_each(|client| ping(client, "served"));
    assert!(ended(&proxy, CloseReason::EvictedUnanswered) > 0);
    assert!(is_answered(&answered));
}

#[test]
fn a_session_that_was_never_answered_goes_before_one_that_was() {
    let (proxy, [_, udp, mute]) = start(40, 1, PATIENCE);
    let answered: Vec<_> = (0..10).map(|_| udp_client(udp)).collect();
    answered.iter().for_each(|client| assert!(is_answered(client)));
    // Each has been silent for longer than the ones that come after it.
    for _ in 0..6 {
        let clients: Vec<_> = (0..10).map(|_| udp_client(mute)).collect();
        clients.iter().for_each(|client| assert_eq!(client.send(b"?").unwrap(), 1));
        thread::sleep(Duration::from_millis(150));
    }
    eventually("sessions end", || ended(&proxy, CloseReason::EvictedUnanswered) > 0);
    assert_eq!(ended(&proxy, CloseReason::Evicted), 0);
}

#[test]
fn only_if_asked_for_a_used_session_makes_room_the_longest_silent_of_who_has_most() {
    for at_limit in [AtLimit::Wait, AtLimit::Evict] {
        let (proxy, [tcp, ..]) = start_with(60, 1, SILENCE, at_limit);
        let from = |ip: &str| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.bind(&SocketAddr::new(ip.parse().unwrap(), 0).into()).unwrap();
            socket.connect(&tcp.into()).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            TcpStream::from(socket)
        };
        let few: Vec<_> = (0..3).map(|_| from("127.0.0.2")).collect();
        few.iter().for_each(|client| ping(client, "used"));
        let first = from("127.0.0.3");
        ping(&first, "used");
        thread::sleep(SILENCE);
        // Of 60 descriptors three are kept for UDP.
        let many: Vec<_> = (0..24).map(|_| from("127.0.0.3")).collect();
        many.iter().for_each(|client| ping(client, "used"));
        let newcomer = from("127.0.0.4");
        let evicted = || ended(&proxy, CloseReason::EvictedSilent);
        match at_limit {
            AtLimit::Wait => {
                let pauses = |worker: &WorkerSnapshot| worker.limit_pauses > 0;
                let is_noticed = || proxy.counters().snapshot().workers.iter().any(pauses);
                eventually("the limit is noticed", is_noticed);
                thread::sleep(2 * SILENCE);
                assert_eq!(evicted(), 0);
                ping(&first, "still here");
            }
            AtLimit::Evict => {
                ping(&newcomer, "served");
                assert_reset(&first);
                assert_eq!(evicted(), 1);
            }
        }
        many.iter().for_each(|client| ping(client, "still here"));
        few.iter().for_each(|client| ping(client, "still here"));
    }
}
