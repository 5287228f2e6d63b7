//! Configurations that change while sessions go on.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use common::*;
use l4way_model::{BindFailureKind, Config, ListenerReport, Target};
use l4way_proxy::{Proxy, ProxySettings};
use l4way_session::{CloseReason, Tap};
use socket2::{Domain, Socket, Type};

fn split(address: SocketAddr, a: u32, b: u32) -> Arc<Config> {
    let targets = [(a, Target::Backend(backend("a"))), (b, Target::Backend(backend("b")))];
    config([listener("l", address, Some(route(targets)))])
}

#[test]
fn changes_of_weights_and_endpoints_leave_open_connections_alone() {
    let mut proxy = Proxy::start(settings()).unwrap();
    let address = free_address();
    let (a, b) = (echo(), echo());
    let table = endpoints([("a", vec![a]), ("b", vec![b])]);
    all_bound(&proxy.apply(split(address, 1, 1), &table));
    let clients: Vec<_> = (0..200).map(|_| connect(address)).collect();
    clients.iter().for_each(|client| ping(client, "hello"));
    let (stop, pings) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let talkers = clients.chunks(50).map(|clients| {
        let clients: Vec<TcpStream> = clients.iter().map(|c| c.try_clone().unwrap()).collect();
        let (stop, pings) = (stop.clone(), pings.clone());
        thread::spawn(move || {
            for client in clients.iter().cycle().take_while(|_| !stop.load(Ordering::Relaxed)) {
                ping(client, "still here?");
                pings.fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    let talkers: Vec<_> = talkers.collect();
    for n in 0..50 {
        all_bound(&proxy.apply(split(address, n, 50 - n), &table));
        proxy.update_endpoints(&endpoints([("a", vec![b]), ("b", vec![a])]));
        proxy.update_endpoints(&endpoints::<SocketAddr>([("a", vec![]), ("b", vec![])]));
        let enough = pings.load(Ordering::Relaxed) + 20;
        eventually("traffic", || pings.load(Ordering::Relaxed) >= enough);
    }
    stop.store(true, Ordering::Relaxed);
    talkers.into_iter().for_each(|talker| talker.join().unwrap());
    clients.iter().for_each(|client| ping(client, "and now?"));
    assert_eq!(total(&proxy, |row| row.active()), 200);
}

#[test]
fn new_sessions_follow_the_new_endpoints() {
    let (mut proxy, address) = proxy_to(vec![named("old")]);
    assert_eq!(read_all(&connect(address)).unwrap(), "old");
    let new = named("new");
    proxy.update_endpoints(&endpoints([("b", vec![new])]));
    eventually("it goes to the new one", || read_all(&connect(address)).unwrap() == "new");
    proxy.update_endpoints(&endpoints::<SocketAddr>([("b", vec![])]));
    eventually("there is none", || read_all(&connect(address)).is_err());
    proxy.update_endpoints(&endpoints([("b", vec![new])]));
    eventually("it is back", || read_all(&connect(address)).is_ok());
}

#[test]
fn new_sessions_follow_the_new_route() {
    let mut proxy = Proxy::start(settings()).unwrap();
    let address = free_address();
    let table = endpoints([("a", vec![named("a")]), ("b", vec![named("b")])]);
    all_bound(&proxy.apply(split(address, 1, 0), &table));
    assert_eq!(read_all(&connect(address)).unwrap(), "a");
    all_bound(&proxy.apply(split(address, 0, 1), &table));
    eventually("b answers", || read_all(&connect(address)).unwrap() == "b");
}

#[test]
fn a_route_that_leaves_a_deleted_backend_refuses_nobody() {
    let mut proxy = Proxy::start(settings()).unwrap();
    let address = free_address();
    let (a, b) = (named("a"), named("b"));
    let turns = ["a", "b"].map(|name| config([listener("l", address, Some(route_to(name)))]));
    let tables = [endpoints([("a", vec![a])]), endpoints([("b", vec![b])])];
    all_bound(&proxy.apply(turns[0].clone(), &tables[0]));
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (stopped, counted) = (stop.clone(), calls.clone());
    let caller = thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            read_all(&connect(address)).unwrap();
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    for n in 1..200 {
        all_bound(&proxy.apply(turns[n % 2].clone(), &tables[n % 2]));
        let before = calls.load(Ordering::Relaxed);
        eventually("a call", || caller.is_finished() || calls.load(Ordering::Relaxed) > before);
    }
    stop.store(true, Ordering::Relaxed);
    caller.join().unwrap();
}

#[test]
fn a_removed_listener_closes_and_its_sessions_go_on() {
    let (mut proxy, address) = proxy_to(vec![echo()]);
    let client = connect(address);
    ping(&client, "before");
    proxy.apply(config([]), &endpoints::<SocketAddr>([("b", vec![])]));
    assert!(TcpStream::connect(address).is_err(), "still listening");
    ping(&client, "after");
    assert_eq!(total(&proxy, |row| row.active()), 1);
}

#[test]
fn sessions_of_a_removed_listener_are_reset_at_the_deadline() {
    let deadline = Duration::from_millis(100);
    let settings = ProxySettings { drain_deadline: deadline, ..settings() };
    let mut proxy = Proxy::start(settings).unwrap();
    let (gone, stays) = (free_address(), free_address());
    let table = endpoints([("b", vec![echo()])]);
    let both = [("gone", gone), ("stays", stays)];
    let both = both.map(|(name, address)| listener(name, address, Some(route_to("b"))));
    all_bound(&proxy.apply(config(both.clone()), &table));
    let clients = [connect(gone), connect(stays)];
    clients.iter().for_each(|client| ping(client, "hello"));
    proxy.apply(config([both[1].clone()]), &table);
    assert_reset(&clients[0]);
    ping(&clients[1], "hello");
    eventually("its counters go too", || {
        let rows = proxy.counters().snapshot().rows;
        rows.iter().all(|row| row.labels.listener == listener_id("stays"))
    });
}

#[test]
fn connections_that_wait_to_be_accepted_are_served_when_their_listener_goes() {
    let (mut proxy, address) = proxy_to(vec![echo()]);
    for _ in 0..20 {
        let clients: Vec<_> = (0..20).map(|_| connect(address)).collect();
        proxy.apply(config([]), &endpoints([("b", vec![echo()])]));
        clients.iter().for_each(|client| ping(client, "hello"));
        let same = config([listener("l", address, Some(route_to("b")))]);
        all_bound(&proxy.apply(same, &endpoints([("b", vec![echo()])])));
    }
}

#[test]
fn a_socket_passes_to_a_listener_of_another_name_without_a_gap() {
    let (mut proxy, address) = proxy_to(vec![named("ok")]);
    let table = endpoints([("b", vec![named("ok")])]);
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (stopped, counted) = (stop.clone(), calls.clone());
    let caller = thread::spawn(move || {
        while !stopped.load(Ordering::Relaxed) {
            assert_eq!(read_all(&connect(address)).unwrap(), "ok");
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    for n in 0..50 {
        let next = listener(&format!("l{n}"), address, Some(route_to("b")));
        all_bound(&proxy.apply(config([next]), &table));
        let before = calls.load(Ordering::Relaxed);
        eventually("a call", || caller.is_finished() || calls.load(Ordering::Relaxed) > before);
    }
    stop.store(true, Ordering::Relaxed);
    caller.join().unwrap();
}

#[test]
fn a_listener_gains_and_loses_addresses() {
    let (mut proxy, first) = proxy_to(vec![echo()]);
    let client = connect(first);
    ping(&client, "hello");
    let second = SocketAddr::new(free_address().ip(), first.port());
    let table = endpoints([("b", vec![echo()])]);
    let mut changed = listener("l", first, Some(route_to("b")));
    changed.addresses.push(second.ip());
    all_bound(&proxy.apply(config([changed.clone()]), &table));
    ping(&connect(first), "hello");
    ping(&connect(second), "hello");
    changed.addresses.remove(0);
    all_bound(&proxy.apply(config([changed]), &table));
    assert!(TcpStream::connect(first).is_err(), "still listening");
    ping(&connect(second), "hello");
    ping(&client, "hello");
}

/// The kind and message of the listener's failure.
fn failure(report: &l4way_model::ApplyReport, name: &str) -> (BindFailureKind, String) {
    match &report.listeners[&listener_id(name)] {
        ListenerReport::Failed(failure) => (failure.kind, failure.message.clone()),
        ListenerReport::Bound => panic!("{name} is bound"),
    }
}

#[test]
fn a_taken_port_is_told_with_its_holder_and_retried() {
    let mut proxy = Proxy::start(settings()).unwrap();
    let (taken, free) = (free_address(), free_address());
    let holder = TcpListener::bind(taken).unwrap();
    let table = endpoints([("b", vec![named("ok")])]);
    let both = [("taken", taken), ("free", free)];
    let both = both.map(|(name, address)| listener(name, address, Some(route_to("b"))));
    let report = proxy.apply(config(both), &table);
    let (kind, message) = failure(&report, "taken");
    assert_eq!(kind, BindFailureKind::PortTaken);
    assert!(message.contains(&format!("(pid {})", std::process::id())), "{message}");
    assert_eq!(report.listeners[&listener_id("free")], ListenerReport::Bound);
    assert_eq!(read_all(&connect(free)).unwrap(), "ok");
    assert_eq!(proxy.retry_failed(), None, "nothing has changed");
    drop(holder);
    all_bound(&proxy.retry_failed().expect("a new report"));
    assert_eq!(read_all(&connect(taken)).unwrap(), "ok");
    assert_eq!(proxy.retry_failed(), None);
}

#[test]
fn a_port_is_not_shared_with_a_process_that_would() {
    let mut proxy = Proxy::start(settings()).unwrap();
    let address = free_address();
    let sharer = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    sharer.set_reuse_address(true).unwrap();
    sharer.set_reuse_port(true).unwrap();
    sharer.bind(&address.into()).unwrap();
    sharer.listen(1).unwrap();
    let config = config([listener("l", address, None)]);
    let report = proxy.apply(config, &endpoints::<SocketAddr>([("b", vec![])]));
    assert_eq!(failure(&report, "l").0, BindFailureKind::PortTaken);
}

#[test]
fn a_listener_is_bound_on_all_its_addresses_or_none() {
    let mut proxy = Proxy::start(settings()).unwrap();
    let good = free_address();
    let mut wanted = listener("l", good, None);
    wanted.addresses.push([192, 0, 2, 1].into());
    let report = proxy.apply(config([wanted]), &endpoints::<SocketAddr>([("b", vec![])]));
    let (kind, message) = failure(&report, "l");
    assert_eq!(kind, BindFailureKind::AddressNotAvailable);
    assert!(message.contains("192.0.2.1"), "{message}");
    assert!(TcpStream::connect(good).is_err(), "listening on one of two");
}

#[test]
fn a_bound_listener_that_wants_what_it_cannot_have_keeps_its_sessions() {
    let (mut proxy, address) = proxy_to(vec![echo()]);
    let client = connect(address);
    ping(&client, "hello");
    let table = endpoints([("b", vec![echo()])]);
    let mut wanted = listener("l", address, Some(route_to("b")));
    wanted.addresses.push([192, 0, 2, 1].into());
    failure(&proxy.apply(config([wanted.clone()]), &table), "l");
    assert!(TcpStream::connect(address).is_err(), "listening on one of two");
    ping(&client, "hello");
    wanted.addresses.pop();
    all_bound(&proxy.apply(config([wanted]), &table));
    ping(&connect(address), "hello");
    ping(&client, "hello");
}

#[test]
fn a_drain_waits_for_sessions_to_end() {
    let (mut proxy, address) = proxy_to(vec![echo()]);
    let mut client = connect(address);
    ping(&client, "hello");
    proxy.drain(PATIENCE);
    eventually("it takes no connection", || TcpStream::connect(address).is_err());
    ping(&client, "still here?");
    assert!(!proxy.wait(Duration::from_millis(10)), "a session is left");
    client.write_all(b"bye").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut last = String::new();
    client.read_to_string(&mut last).unwrap();
    assert_eq!(last, "bye");
    assert!(proxy.wait(PATIENCE), "no session is left");
    assert_eq!(ended(&proxy, CloseReason::Drained), 0);
}

#[test]
fn a_drain_resets_what_is_left_at_the_deadline() {
    let (mut proxy, address) = proxy_to(vec![echo()]);
    let client = connect(address);
    ping(&client, "hello");
    proxy.drain(Duration::from_millis(50));
    assert_reset(&client);
    assert!(proxy.wait(PATIENCE));
    assert_eq!(ended(&proxy, CloseReason::Drained), 1);
}

#[test]
fn stopping_resets_sessions_at_once_even_while_draining() {
    let (mut proxy, address) = proxy_to(vec![echo()]);
    let client = connect(address);
    ping(&client, "hello");
    let counters = proxy.counters();
    proxy.drain(PATIENCE);
    proxy.stop();
    assert_reset(&client);
    let rows = counters.snapshot().rows;
    assert_eq!(rows.iter().map(|row| row.count(CloseReason::Shutdown)).sum::<u64>(), 1);
}

#[test]
fn each_session_leaves_a_record() {
    let (send, records) = mpsc::sync_channel(16);
    let settings = ProxySettings { tap: Tap::to(send), ..settings() };
    let upstream = echo();
    let (mut proxy, address) = proxy_with(settings, vec![upstream]);
    let client = connect(address);
    ping(&client, "hello");
    let downstream = client.local_addr().unwrap();
    drop(client);
    let record = records.recv_timeout(PATIENCE).unwrap();
    assert_eq!(record.labels.listener, listener_id("l"));
    assert_eq!(record.labels.backend, Some(backend("b")));
    assert_eq!(record.endpoint.unwrap().to_string(), upstream.to_string());
    assert_eq!((record.downstream, record.local), (downstream, address));
    assert_eq!((record.bytes_upstream, record.bytes_downstream), (5, 5));
    assert!(record.connect_time.unwrap() <= record.duration);
    assert_eq!(record.reason, CloseReason::Closed);

    proxy.update_endpoints(&endpoints::<SocketAddr>([("b", vec![])]));
    assert_reset(&connect(address));
    let record = records.recv_timeout(PATIENCE).unwrap();
    assert_eq!((record.reason, record.endpoint), (CloseReason::NoEndpoint, None));
}

#[test]
fn records_are_switched_while_sessions_run() {
    let settings = settings();
    let switch = settings.tap.clone();
    let (proxy, address) = proxy_with(settings, vec![echo()]);
    let first = connect(address);
    ping(&first, "nobody asks");
    let seen = std::time::SystemTime::now();
    let (send, records) = mpsc::sync_channel(16);
    switch.switch_on(Some(send));
    drop(first);
    let record = records.recv_timeout(PATIENCE).unwrap();
    assert_eq!((record.reason, record.bytes_upstream), (CloseReason::Closed, 11));
    assert!(record.started <= seen && record.started + record.duration > seen, "{record:?}");

    let second = connect(address);
    ping(&second, "somebody asks");
    switch.switch_off();
    drop(second);
    eventually("the second ends", || ended(&proxy, CloseReason::Closed) == 2);
    proxy.settle();
    let third = connect(address);
    ping(&third, "somebody asks again");
    switch.switch_on(None);
    drop(third);
    assert_eq!(records.recv_timeout(PATIENCE).unwrap().bytes_upstream, 19);
}

#[test]
fn records_that_nobody_takes_are_dropped_and_counted() {
    let (send, _records) = mpsc::sync_channel(0);
    let settings = ProxySettings { tap: Tap::to(send), ..settings() };
    let (proxy, address) = proxy_with(settings, vec![named("ok")]);
    for _ in 0..5 {
        assert_eq!(read_all(&connect(address)).unwrap(), "ok");
    }
    eventually("five are counted", || {
        let workers = proxy.counters().snapshot().workers;
        workers.iter().map(|worker| worker.records_dropped).sum::<u64>() == 5
    });
}

#[test]
fn a_record_tells_the_address_the_client_wrote_to() {
    let (send, records) = mpsc::sync_channel(16);
    let mut proxy = Proxy::start(ProxySettings { tap: Tap::to(send), ..settings() }).unwrap();
    let any = TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap();
    let table = endpoints([("b", vec![named("ok")])]);
    all_bound(&proxy.apply(config([listener("l", any, Some(route_to("b")))]), &table));
    let address = SocketAddr::from(([127, 0, 0, 9], any.port()));
    assert_eq!(read_all(&connect(address)).unwrap(), "ok");
    assert_eq!(records.recv_timeout(PATIENCE).unwrap().local, address);
}
