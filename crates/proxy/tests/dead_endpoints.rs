//! Endpoints at which nobody answers don't cost clients their sessions, and no client takes an endpoint
//! away from others.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use common::*;
use l4way_model::{EndpointAddress, EndpointPlace};
use l4way_proxy::Proxy;
use l4way_proxy_core::{EndpointFailure, EndpointOf, EndpointState, EndpointStore};
use socket2::{Domain, Socket, Type};

/// A proxy that leads to endpoints of one backend, and what it has found out of them.
struct Scene {
    proxy: Proxy,
    address: SocketAddr,
    addresses: Vec<SocketAddr>,
    store: Arc<EndpointStore>,
}

impl Scene {
    fn new(addresses: Vec<SocketAddr>) -> Self {
        let store = EndpointStore::new(Instant::now());
        let mut settings = settings();
        settings.process.endpoints = store.clone();
        let (proxy, address) = proxy_with(settings, addresses.clone());
        Self { proxy, address, addresses, store }
    }

    fn failures(&self, failure: EndpointFailure) -> u64 {
        let counted = self.store.failures().into_iter();
        counted.filter(|(_, why, _)| *why == failure).map(|(.., count)| count).sum()
    }

    fn is_passed_over(&self, address: SocketAddr) -> bool {
        let (backend, address) = (backend("b"), EndpointAddress::Ip(address));
        let endpoint = EndpointOf { backend: &backend, address: &address };
        self.store.view().state(endpoint, Instant::now()) != EndpointState::Taken
    }
}

/// A client at another address of this host.
fn connect_from(last: u8, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn endpoints_that_refuse_attract_nobody_though_they_have_no_sessions() {
    let dead = [closed_port(), closed_port(), closed_port()];
    let scene = Scene::new([&dead[..], &[echo()]].concat());
    // The sessions that are held make the living one the busiest of the four. The first client may meet all
    // of the dead ones.
    let mut held = Vec::new();
    eventually("every dead one is known", || {
        let client = connect(scene.address);
        let _ = (&client).write_all(b"hello");
        if (&client).read_exact(&mut [0; 5]).is_ok() {
            held.push(client);
        }
        dead.iter().all(|&address| scene.is_passed_over(address))
    });
    let met = scene.failures(EndpointFailure::Refused);
    for _ in 0..50 {
        ping(&connect(scene.address), "hello");
    }
    held.iter().for_each(|client| ping(client, "world"));
    assert_eq!(scene.failures(EndpointFailure::Refused), met, "no client tries a dead one again");
}

#[test]
fn one_client_waits_for_a_silent_endpoint_and_no_other() {
    let (_socket, _clients, hole) = black_hole();
    let mut scene = Scene::new(vec![hole, echo()]);
    let addresses = scene.addresses.clone();
    let soon = Duration::from_millis(300);
    set_connect_timeout(&mut scene.proxy, scene.address, soon, addresses);
    for _ in 0..20 {
        ping(&connect(scene.address), "hello");
    }
    assert!(scene.failures(EndpointFailure::Timeout) <= 1, "{:?}", scene.store.failures());
}

#[test]
fn if_nobody_answers_every_endpoint_is_tried() {
    let (dead, back) = (closed_port(), closed_port());
    let scene = Scene::new(vec![dead, back]);
    for _ in 0..3 {
        assert_reset(&connect(scene.address));
    }
    assert!(scene.is_passed_over(dead) && scene.is_passed_over(back));
    serve_on(back, echo_all);
    eventually("the one that is back is found by a client", || {
        let client = connect(scene.address);
        let sent = (&client).write_all(b"hello");
        sent.is_ok() && matches!((&client).read(&mut [0; 5]), Ok(5))
    });
    assert!(!scene.is_passed_over(back) && scene.is_passed_over(dead));
}

#[test]
fn a_client_takes_no_endpoint_away_from_others() {
    // It reads a line and hangs up, as a server does with who may not come in.
    let strict = serve(|mut connection| {
        let _ = connection.read(&mut [0; 64]);
    });
    let scene = Scene::new(vec![strict, echo()]);
    let visit = |last| {
        let client = connect_from(last, scene.address);
        let _ = (&client).write_all(b"password");
        let _ = (&client).read(&mut [0; 64]);
    };
    eventually("the endpoint hangs up ten times", || {
        visit(1);
        assert!(!scene.is_passed_over(strict), "by one client alone");
        scene.failures(EndpointFailure::Closed) >= 10
    });
    eventually("another one says the same", || {
        visit(2);
        scene.is_passed_over(strict)
    });
}

#[test]
fn an_endpoint_that_hangs_up_at_once_is_passed_over() {
    let closing = serve(drop);
    let speaking = named("hello");
    let scene = Scene::new(vec![closing, speaking]);
    eventually("it is met", || {
        let _ = read_all(&connect(scene.address));
        scene.is_passed_over(closing)
    });
    for _ in 0..10 {
        assert_eq!(read_all(&connect(scene.address)).unwrap(), "hello");
    }
}

#[test]
fn a_client_that_ends_first_says_nothing_of_the_endpoint() {
    let scene = Scene::new(vec![echo()]);
    for last in 1..6 {
        drop(connect_from(last, scene.address));
        reset(connect_from(last, scene.address));
    }
    eventually("they have ended", || total(&scene.proxy, |row| row.opened - row.active()) == 10);
    assert_eq!(scene.store.failures(), []);
}

#[test]
fn a_client_that_leaves_during_connect_says_nothing_of_the_endpoint() {
    let (_socket, _clients, hole) = black_hole();
    let scene = Scene::new(vec![hole]);
    for _ in 0..5 {
        reset(connect(scene.address));
    }
    eventually("they have ended", || total(&scene.proxy, |row| row.opened - row.active()) == 5);
    assert_eq!(scene.store.failures(), []);
}

#[test]
fn the_sessions_of_endpoints_are_counted_over_all_workers() {
    let scene = Scene::new(vec![echo(), echo()]);
    let counted = scene.proxy.endpoint_sessions();
    let place = |index: usize, of: usize| EndpointPlace {
        backend: backend("b"),
        index,
        address: EndpointAddress::Ip(scene.addresses[of]),
    };
    let places = [place(1, 1), place(0, 0), place(0, 1), place(7, 0)];
    let mut held: Vec<_> = (0..20).map(|_| connect(scene.address)).collect();
    held.iter().for_each(|client| ping(client, "hello"));
    let counts = counted.count(&places, PATIENCE).unwrap();
    assert_eq!(counts[0] + counts[1], 20, "{counts:?}");
    assert_eq!(counts[2..], [0, 0], "no other endpoint is counted in its place");
    held.truncate(1);
    eventually("only one is left", || {
        counted.count(&places, PATIENCE).unwrap().iter().sum::<u64>() == 1
    });
    let Scene { proxy, .. } = scene;
    proxy.stop();
    assert_eq!(counted.count(&places, PATIENCE), Some(vec![0; 4]), "nobody is there to ask");
}
