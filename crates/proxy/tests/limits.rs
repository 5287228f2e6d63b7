//! What happens when descriptors run out. The process's limit is changed, so all of it is one test.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    io::{Read, Write},
    net::TcpStream,
    num::NonZeroUsize,
    os::fd::AsRawFd,
    thread,
    time::{Duration, Instant},
};

use common::*;
use l4way_proxy::{Proxy, ProxySettings};
use l4way_session::CloseReason;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

fn accept_pauses(proxy: &Proxy) -> u64 {
    proxy.counters().snapshot().workers.iter().map(|worker| worker.accept_pauses).sum()
}

fn limit_pauses(proxy: &Proxy) -> u64 {
    proxy.counters().snapshot().workers.iter().map(|worker| worker.limit_pauses).sum()
}

#[test]
fn shortages_slow_accepting_down_and_end() {
    the_session_limit_holds_connections_back();
    silent_clients_make_room();
    a_burst_stays_within_the_limit();
    without_descriptors_connections_wait();
    without_descriptors_for_endpoints_accepting_slows_down();
}

fn the_session_limit_holds_connections_back() {
    let session_descriptors = NonZeroUsize::new(8);
    let settings = ProxySettings { session_descriptors, ..settings() };
    let (proxy, address) = proxy_with(settings, vec![echo()]);
    assert_eq!(proxy.limits().tcp_sessions(), 4);
    let mut clients: Vec<_> = (0..4).map(|_| connect(address)).collect();
    clients.iter().for_each(|client| ping(client, "hello"));
    let waiting = connect(address);
    eventually("the limit is noticed", || limit_pauses(&proxy) > 0);
    assert_eq!(total(&proxy, |row| row.opened), 4);
    clients.pop();
    ping(&waiting, "my turn");
}

/// Who has never sent a byte leaves, the longest silent first, and only where somebody waits.
fn silent_clients_make_room() {
    // It speaks first, as a mail server does.
    let endpoint = serve(|mut connection| {
        let _ = connection.write_all(b"220 ready\r\n");
        echo_all(connection);
    });
    let silence = Duration::from_millis(400);
    let session_descriptors = NonZeroUsize::new(12);
    let workers = NonZeroUsize::MIN;
    let settings = ProxySettings { workers, session_descriptors, silence, ..settings() };
    let (proxy, address) = proxy_with(settings, vec![endpoint]);
    let greeted = || {
        let client = connect(address);
        let mut greeting = [0; 11];
        (&client).read_exact(&mut greeting).unwrap();
        client
    };
    let used: Vec<_> = (0..2).map(|_| greeted()).collect();
    used.iter().for_each(|client| ping(client, "hello"));
    let silent: Vec<_> = (0..4).map(|_| greeted()).collect();
    // They would have to leave now, if anybody waited.
    thread::sleep(2 * silence);
    assert_eq!(ended(&proxy, CloseReason::EvictedUnused), 0);
    let first = greeted();
    assert_reset(&silent[0]);
    assert_eq!(ended(&proxy, CloseReason::EvictedUnused), 1);
    ping(&first, "served");
    let others: Vec<_> = (0..3).map(|_| greeted()).collect();
    others.iter().for_each(|client| ping(client, "served"));
    silent[1..].iter().for_each(assert_reset);
    // Those that were used stay, however long they are silent, and the next one waits.
    thread::sleep(2 * silence);
    let waiting = connect(address);
    eventually("the limit is noticed", || limit_pauses(&proxy) > 0);
    for client in used.iter().chain([&first]).chain(&others) {
        ping(client, "still here");
    }
    drop(others);
    ping_after_greeting(&waiting);
}

fn ping_after_greeting(mut client: &TcpStream) {
    let mut greeting = [0; 11];
    client.read_exact(&mut greeting).unwrap();
    ping(client, "my turn");
}

/// Connections on their way from one worker to another count.
fn a_burst_stays_within_the_limit() {
    let session_descriptors = NonZeroUsize::new(40);
    let settings = ProxySettings { session_descriptors, ..settings() };
    let (proxy, address) = proxy_with(settings, vec![echo()]);
    let clients: Vec<_> = (0..200).map(|_| connect(address)).collect();
    eventually("the limit is noticed", || limit_pauses(&proxy) > 0);
    eventually("every worker is full", || total(&proxy, |row| row.opened) >= 20);
    assert_eq!(total(&proxy, |row| row.opened), 20);
    // In no particular order: those of one worker's queue may all be before the other's.
    thread::scope(|scope| {
        for client in clients {
            scope.spawn(move || ping(&client, "my turn"));
        }
    });
    assert_eq!(total(&proxy, |row| row.opened), 200);
}

fn without_descriptors_connections_wait() {
    let (proxy, address) = proxy_to(vec![echo()]);
    // So that the endpoint waits in accept(2), with a descriptor reserved.
    ping(&connect(address), "hello");
    let address = socket2::SockAddr::from(address);
    let new = |_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let mut clients: Vec<_> = (0..10).map(new).collect();
    let before = getrlimit(Resource::Nofile);
    set_soft_limit(0, before);
    clients.iter().for_each(|client| client.connect(&address).unwrap());
    let start = Instant::now();
    eventually("accepting pauses", || accept_pauses(&proxy) > 0);
    eventually("it is tried again", || accept_pauses(&proxy) >= 6);
    // Six of two workers are three of one at least: a pause of 100 ms has gone by.
    assert!(start.elapsed() >= Duration::from_millis(100), "it spins");
    setrlimit(Resource::Nofile, before).unwrap();
    for client in &mut clients {
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(b"hello").unwrap();
        let mut reply = [0; 5];
        client.read_exact(&mut reply).unwrap();
        assert_eq!(reply, *b"hello");
    }
    assert_eq!(total(&proxy, |row| row.opened), 11);
}

/// What is accepted while there are none for the endpoint's side is lost, and no more than that.
fn without_descriptors_for_endpoints_accepting_slows_down() {
    let (proxy, address) = proxy_to(vec![echo()]);
    ping(&connect(address), "hello");
    eventually("it is over", || total(&proxy, |row| row.active()) == 0);
    let address = socket2::SockAddr::from(address);
    let new = |_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let clients: Vec<_> = (0..100).map(new).collect();
    let before = getrlimit(Resource::Nofile);
    let free = std::fs::File::open("/dev/null").unwrap();
    let room_for_one = free.as_raw_fd() as u64 + 1;
    drop(free);
    set_soft_limit(room_for_one, before);
    clients.iter().for_each(|client| client.connect(&address).unwrap());
    eventually("accepting pauses", || accept_pauses(&proxy) >= 2);
    let lost = total(&proxy, |row| row.opened) - 1;
    setrlimit(Resource::Nofile, before).unwrap();
    assert!((1..50).contains(&lost), "{lost} connections are lost");
    eventually("the others are served", || total(&proxy, |row| row.opened) == 101);
}

fn set_soft_limit(current: u64, before: Rlimit) {
    let limit = Rlimit { current: Some(current), maximum: before.maximum };
    setrlimit(Resource::Nofile, limit).unwrap();
}
