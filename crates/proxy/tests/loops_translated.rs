//! Sessions that come back by translated addresses: no address of the configuration tells.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    fs::File,
    net::{SocketAddr, UdpSocket},
    os::fd::AsFd,
    process::Command,
    thread,
};

use common::*;
use l4way_model::{Listener, Transport};
use l4way_proxy::Proxy;
use l4way_session::CloseReason;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

const LISTENER: &str = "192.0.2.1:7000";
const SECOND: &str = "192.0.2.1:7001";
/// Translated to the listener.
const VIRTUAL: &str = "198.51.100.1:80";

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Puts this thread, and those that it starts, on a host of its own, which is gone with the last of
/// them. Who connects to the virtual address there reaches the listener.
fn enter_new_host(name: &str) {
    let name = format!("l4way-loops-{}-{name}", std::process::id());
    let run = |program: &str, args: &[&str]| {
        let status = Command::new(program).args(args).status();
        let status = status.unwrap_or_else(|error| panic!("{program} is needed: {error}"));
        assert!(status.success(), "{program} {}: it needs root", args.join(" "));
    };
    run("ip", &["netns", "add", &name]);
    run("ip", &["-n", &name, "link", "set", "lo", "up"]);
    run("ip", &["-n", &name, "addr", "add", "192.0.2.1/32", "dev", "lo"]);
    run("ip", &["-n", &name, "route", "add", "198.51.100.1", "dev", "lo", "src", "192.0.2.1"]);
    let namespace = File::open(format!("/run/netns/{name}")).unwrap();
    run("ip", &["netns", "del", &name]);
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    let rules = "add table ip t; add chain ip t c { type nat hook output priority -100; }; \
                 add rule ip t c ip daddr 198.51.100.1 meta l4proto { tcp, udp } dnat to 192.0.2.1:7000";
    run("nft", &[rules]);
}

fn proxy(transport: Transport, chain: &[(&str, &str)]) -> Proxy {
    let mut proxy = Proxy::start(settings()).unwrap();
    let listeners = chain.iter().map(|(here, _)| Listener {
        transport,
        ..listener(here, address(here), Some(route_to(here)))
    });
    let rows = chain.iter().map(|(here, there)| (*here, vec![address(there)]));
    all_bound(&proxy.apply(config(listeners), &endpoints(rows)));
    proxy
}

/// Runs a test on a host of its own.
fn on_new_host(name: &'static str, test: impl FnOnce() + Send + 'static) {
    let run = move || {
        enter_new_host(name);
        test();
    };
    thread::spawn(run).join().unwrap();
}

#[test]
fn connections_that_come_back_are_refused() {
    on_new_host("tcp", || {
        for chain in [&[(LISTENER, VIRTUAL)][..], &[(LISTENER, SECOND), (SECOND, VIRTUAL)]] {
            let proxy = proxy(Transport::Tcp, chain);
            for _ in 0..3 {
                assert!(read_all(&connect(address(LISTENER))).is_err(), "a reset");
                eventually("the sessions end", || total(&proxy, |row| row.active()) == 0);
            }
            assert!(ended(&proxy, CloseReason::Loop) >= 3);
        }
    });
}

#[test]
fn datagrams_that_come_back_are_dropped() {
    on_new_host("udp", || {
        let proxy = proxy(Transport::Udp, &[(LISTENER, VIRTUAL)]);
        let client = UdpSocket::bind("192.0.2.1:0").unwrap();
        client.send_to(b"round", address(LISTENER)).unwrap();
        eventually("it is noticed", || ended(&proxy, CloseReason::Loop) > 0);
        assert!(total(&proxy, |row| row.opened) < 1_000);
    });
}

#[test]
fn a_chain_by_a_translated_address_that_ends_elsewhere_is_none() {
    on_new_host("chain", || {
        let echo = serve_on(address("192.0.2.1:6000"), echo_all).to_string();
        let proxy = proxy(Transport::Tcp, &[(SECOND, VIRTUAL), (LISTENER, &echo)]);
        let clients: Vec<_> = (0..100).map(|_| connect(address(SECOND))).collect();
        for client in &clients {
            ping(client, "hello");
        }
        assert_eq!(ended(&proxy, CloseReason::Loop), 0);
    });
}
