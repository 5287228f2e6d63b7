//! A route that leads back to its own listener takes no more than a moment and a few descriptors, and a chain of
//! listeners that ends elsewhere is none of these.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    fs,
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    num::NonZeroUsize,
    time::Duration,
};

use common::*;
use l4way_model::{Listener, Transport};
use l4way_proxy::{Proxy, ProxySettings};
use l4way_session::CloseReason;

/// A listener for each address, each with the endpoint beside it.
fn chained(transport: Transport, workers: usize, chain: &[(SocketAddr, SocketAddr)]) -> Proxy {
    let workers = NonZeroUsize::new(workers).unwrap();
    let mut proxy = Proxy::start(ProxySettings { workers, ..ProxySettings::default() }).unwrap();
    let names: Vec<_> = (0..chain.len()).map(|number| format!("l{number}")).collect();
    let listeners = names.iter().zip(chain).map(|(name, (address, _))| Listener {
        transport,
        ..listener(name, *address, Some(route_to(name)))
    });
    let rows = names.iter().zip(chain).map(|(name, (_, endpoint))| (&**name, vec![*endpoint]));
    all_bound(&proxy.apply(config(listeners), &endpoints(rows)));
    proxy
}

fn active(proxy: &Proxy) -> u64 {
    total(proxy, |row| row.active())
}

/// The client's bytes go nowhere, and it is told.
fn assert_refused(proxy: &Proxy, address: SocketAddr) {
    let client = connect(address);
    assert!(read_all(&client).is_err(), "a reset");
    eventually("the sessions end", || active(proxy) == 0);
    assert!(ended(proxy, CloseReason::Loop) > 0);
}

#[test]
fn connections_that_come_back_are_refused() {
    for workers in [1, 2, 3] {
        let address = free_address();
        let proxy = chained(Transport::Tcp, workers, &[(address, address)]);
        for _ in 0..5 {
            assert_refused(&proxy, address);
        }
        let opened = total(&proxy, |row| row.opened);
        assert!(opened < 5 * 2_000, "{opened}");
    }
}

#[test]
fn they_are_however_many_listeners_there_are_between() {
    let [one, two, three] = [free_address(), free_address(), free_address()];
    let ring = [(one, two), (two, three), (three, one)];
    let proxy = chained(Transport::Tcp, 2, &ring);
    for address in [one, two, three] {
        assert_refused(&proxy, address);
    }
}

#[test]
fn they_are_on_every_address_however_it_is_written() {
    let bind = free_address();
    let everywhere = |ip: &str| SocketAddr::new(ip.parse::<IpAddr>().unwrap(), bind.port());
    for endpoint in ["0.0.0.0", "127.0.0.1", "127.3.3.3", "::ffff:127.0.0.1"] {
        let proxy = chained(Transport::Tcp, 2, &[(everywhere("0.0.0.0"), everywhere(endpoint))]);
        assert_refused(&proxy, bind);
    }
}

#[test]
fn a_chain_that_ends_elsewhere_is_none() {
    let [one, two, three] = [free_address(), free_address(), free_address()];
    let chain = [(one, two), (two, three), (three, echo())];
    let proxy = chained(Transport::Tcp, 2, &chain);
    let clients: Vec<_> = (0..100).map(|_| connect(one)).collect();
    for client in &clients {
        ping(client, "hello");
    }
    drop(clients);
    eventually("the sessions end", || active(&proxy) == 0);
    assert_eq!(ended(&proxy, CloseReason::Loop), 0);
}

#[test]
fn datagrams_that_come_back_are_dropped() {
    let address = free_address();
    let proxy = chained(Transport::Udp, 2, &[(address, address)]);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(b"round", address).unwrap();
    eventually("it is noticed", || ended(&proxy, CloseReason::Loop) > 0);
    let opened = total(&proxy, |row| row.opened);
    assert!(opened < 1_000, "{opened}");
    client.send_to(b"again", address).unwrap();
    eventually("it is noticed again", || ended(&proxy, CloseReason::Loop) > 1);
    assert_eq!(total(&proxy, |row| row.opened), opened, "the same sessions");
}

#[test]
fn a_chain_of_udp_that_ends_elsewhere_is_none() {
    let endpoint = UdpSocket::bind("127.0.0.1:0").unwrap();
    endpoint.set_read_timeout(Some(PATIENCE)).unwrap();
    let [one, two] = [free_address(), free_address()];
    let chain = [(one, two), (two, endpoint.local_addr().unwrap())];
    let proxy = chained(Transport::Udp, 2, &chain);
    for _ in 0..50 {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.send_to(b"there", one).unwrap();
        let (_, from) = endpoint.recv_from(&mut [0; 10]).unwrap();
        endpoint.send_to(b"back", from).unwrap();
        assert_eq!(client.recv_from(&mut [0; 10]).unwrap(), (4, one));
    }
    assert_eq!(ended(&proxy, CloseReason::Loop), 0);
}

#[test]
fn other_listeners_take_clients_meanwhile_and_descriptors_come_back() {
    let [round, good] = [free_address(), free_address()];
    let proxy = chained(Transport::Tcp, 2, &[(round, round), (good, echo())]);
    ping(&connect(good), "before");
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    let held: Vec<TcpStream> = (0..20).map(|_| connect(round)).collect();
    for client in &held {
        assert!(read_all(client).is_err());
        ping(&connect(good), "meanwhile");
    }
    drop(held);
    eventually("the sessions end", || active(&proxy) == 0);
    // Other tests of this process have descriptors, too.
    eventually("descriptors are given back", || descriptors() < 1_000);
    assert!(!proxy.wait(Duration::ZERO));
}
