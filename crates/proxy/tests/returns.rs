//! Listeners that are away for a moment: what comes back before its sessions have had their time takes
//! them back.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    net::{SocketAddr, TcpStream},
    num::NonZeroUsize,
    time::Duration,
};

use common::*;
use l4way_model::{EndpointTable, Listener, Transport};
use l4way_proxy::{Proxy, ProxySettings};
use l4way_session::CloseReason;

/// A proxy with listeners that come and go, all to one backend. Its one worker looks at all deadlines
/// in turn.
struct Scene {
    proxy: Proxy,
    table: EndpointTable,
    /// A listener that goes with the others and doesn't come back: its session tells when the deadline
    /// has passed.
    witness: Listener,
}

impl Scene {
    fn new(drain_deadline: Duration) -> Self {
        let settings = ProxySettings { workers: NonZeroUsize::MIN, drain_deadline, ..settings() };
        let proxy = Proxy::start(settings).unwrap();
        let table = endpoints([("b", vec![echo()])]);
        let witness = listener("witness", free_address(), Some(route_to("b")));
        Self { proxy, table, witness }
    }

    fn apply(&mut self, listeners: impl IntoIterator<Item = Listener>) {
        all_bound(&self.proxy.apply(config(listeners), &self.table));
    }

    /// Has these listeners be away while the sessions wait, back until the deadline has passed, and
    /// returns a client of each from before.
    fn blink<const N: usize>(&mut self, listeners: [Listener; N]) -> [TcpStream; N] {
        self.apply(listeners.clone().into_iter().chain([self.witness.clone()]));
        let clients = listeners.each_ref().map(|l| connect(address_of(l)));
        let witness = connect(address_of(&self.witness));
        clients.iter().chain([&witness]).for_each(|client| ping(client, "before"));
        self.apply([]);
        clients.iter().for_each(|client| ping(client, "meanwhile"));
        self.apply(listeners);
        assert_reset(&witness);
        clients
    }
}

fn address_of(listener: &Listener) -> SocketAddr {
    listener.binds().next().unwrap()
}

/// Long enough for a test to be done before.
const SOON: Duration = Duration::from_secs(1);

fn l(address: SocketAddr) -> Listener {
    listener("l", address, Some(route_to("b")))
}

#[test]
fn a_listener_that_comes_back_takes_its_sessions_back() {
    let mut scene = Scene::new(SOON);
    let listeners = [l(free_address()), listener("m", free_address(), Some(route_to("b")))];
    let clients = scene.blink(listeners.clone());
    clients.iter().for_each(|client| ping(client, "after"));
    listeners.iter().for_each(|l| ping(&connect(address_of(l)), "a new client"));
    eventually("the new clients end", || total(&scene.proxy, |row| row.active()) == 2);
    let rows = scene.proxy.counters().snapshot().rows;
    let opened = rows.iter().filter(|row| row.labels.listener != listener_id("witness"));
    assert!(opened.filter(|row| row.opened > 0).all(|row| row.opened == 2), "counted on");
}

#[test]
fn it_does_so_as_often_as_it_comes_back_and_drains_when_it_does_not() {
    let mut scene = Scene::new(SOON);
    let listeners = [l(free_address())];
    let [first] = scene.blink(listeners.clone());
    let [second] = scene.blink(listeners.clone());
    for client in [&first, &second] {
        ping(client, "after");
    }
    scene.apply([]);
    assert_reset(&first);
    assert_reset(&second);
    let rows = scene.proxy.counters().snapshot().rows;
    let of_l = rows.iter().filter(|row| row.labels.listener == listener_id("l"));
    assert_eq!(of_l.map(|row| row.count(CloseReason::ListenerRemoved)).sum::<u64>(), 2);
}

#[test]
fn after_the_deadline_it_comes_back_without_them() {
    let mut scene = Scene::new(Duration::from_millis(50));
    let listener = l(free_address());
    scene.apply([listener.clone()]);
    let client = connect(address_of(&listener));
    ping(&client, "before");
    scene.apply([]);
    assert_reset(&client);
    scene.apply([listener.clone()]);
    ping(&connect(address_of(&listener)), "a new client");
}

#[test]
fn a_listener_that_comes_back_elsewhere_has_its_sessions() {
    let mut scene = Scene::new(SOON);
    let (before, after) = (l(free_address()), l(free_address()));
    scene.apply([before.clone(), scene.witness.clone()]);
    let [client, witness] = [&before, &scene.witness].map(|l| connect(address_of(l)));
    ping(&client, "before");
    ping(&witness, "before");
    scene.apply([]);
    scene.apply([after.clone()]);
    assert_reset(&witness);
    ping(&client, "after");
    ping(&connect(address_of(&after)), "a new client");
    TcpStream::connect(address_of(&before)).expect_err("it listens elsewhere now");
}

#[test]
fn a_listener_of_another_name_has_none_of_them_and_the_old_one_has_when_it_is_back() {
    let mut scene = Scene::new(SOON);
    let address = free_address();
    let other = listener("other", address, Some(route_to("b")));
    scene.apply([l(address)]);
    let of_l = connect(address);
    ping(&of_l, "before");
    scene.apply([other.clone()]);
    let of_other = connect(address);
    ping(&of_other, "hello");
    // Back in time, and then away for good.
    scene.apply([l(address)]);
    assert_reset(&of_other);
    ping(&of_l, "after");
    scene.apply([other]);
    assert_reset(&of_l);
}

#[test]
fn a_listener_that_was_of_udp_meanwhile_has_its_tcp_sessions() {
    let mut scene = Scene::new(SOON);
    let listener = l(free_address());
    let udp = Listener { transport: Transport::Udp, ..listener.clone() };
    scene.apply([listener.clone(), scene.witness.clone()]);
    let [client, witness] = [&listener, &scene.witness].map(|l| connect(address_of(l)));
    ping(&client, "before");
    ping(&witness, "before");
    scene.apply([udp]);
    ping(&client, "meanwhile");
    scene.apply([listener]);
    assert_reset(&witness);
    ping(&client, "after");
}

#[test]
fn a_drain_of_the_whole_proxy_is_not_taken_back() {
    let mut scene = Scene::new(PATIENCE);
    let listener = l(free_address());
    scene.apply([listener.clone()]);
    let client = connect(address_of(&listener));
    ping(&client, "before");
    scene.proxy.drain(Duration::from_millis(50));
    scene.apply([]);
    scene.apply([listener]);
    assert_reset(&client);
    assert!(scene.proxy.wait(PATIENCE), "the workers end");
}
