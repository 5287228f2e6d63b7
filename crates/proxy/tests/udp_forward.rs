//! Datagrams come through as they are, and replies come from where the client wrote to.

mod udp_support;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use udp_support::*;

#[test]
fn a_datagram_and_its_reply_come_through() {
    let (bench, endpoint) = Bench::with_backend(settings());
    round_trip(&bench.client(), &endpoint, b"hello");
    let counted = bench.sum(|row| row.datagrams_upstream);
    assert_eq!((counted, bench.opened(), bench.active()), (1, 1, 1));
    eventually("the reply is counted", || bench.sum(|row| row.bytes_downstream) == 5);
    assert_eq!(bench.sum(|row| row.first_reply.count()), 1);
}

#[test]
fn two_clients_are_kept_apart() {
    let (bench, endpoint) = Bench::with_backend(settings());
    let (first, second) = (bench.client(), bench.client());
    let first_from = carry(&first, &endpoint, b"1");
    let second_from = carry(&second, &endpoint, b"2");
    assert_ne!(first_from, second_from);
    endpoint.send_to(b"for 2", second_from).expect("sent");
    endpoint.send_to(b"for 1", first_from).expect("sent");
    assert_eq!(receive(&first).0, b"for 1");
    assert_eq!(receive(&second).0, b"for 2");
    assert_eq!(carry(&first, &endpoint, b"again"), first_from);
    assert_eq!(bench.opened(), 2);
}

#[test]
fn datagrams_of_every_length_come_through_unbroken() {
    let (bench, endpoint) = Bench::with_backend(settings());
    let client = bench.client();
    let payload: Vec<u8> = (0..65_507).map(|n| (n % 251) as u8).collect();
    for length in [0, 1, 512, 1_472, 1_473, 9_000, 65_506, 65_507] {
        round_trip(&client, &endpoint, &payload[..length]);
    }
    assert_eq!(bench.opened(), 1);
}

#[test]
fn a_burst_of_mixed_lengths_keeps_its_order() {
    let (bench, endpoint) = Bench::with_backend(settings());
    let client = bench.client();
    let lengths = [100, 100, 100, 40, 100, 0, 100, 100, 1_400, 1_400, 7, 7, 7, 9_000, 0, 0, 3];
    for round in 0..20 {
        for (n, length) in lengths.into_iter().enumerate() {
            client.send(&vec![(round + n) as u8; length]).expect("sent");
        }
        let mut from = None;
        for (n, length) in lengths.into_iter().enumerate() {
            let (received, sender) = receive(&endpoint);
            assert_eq!(received, vec![(round + n) as u8; length], "datagram {n} of round {round}");
            from = Some(sender);
        }
        let from = from.expect("there were datagrams");
        for (n, length) in lengths.into_iter().enumerate() {
            endpoint.send_to(&vec![(round + n) as u8; length], from).expect("sent");
        }
        for (n, length) in lengths.into_iter().enumerate() {
            let (received, _) = receive(&client);
            assert_eq!(received, vec![(round + n) as u8; length], "reply {n} of round {round}");
        }
    }
}

#[test]
fn a_listener_on_all_addresses_replies_from_the_one_that_was_written_to() {
    let endpoint = socket(LOCALHOST);
    let mut bench = Bench::new(IpAddr::from([0, 0, 0, 0]), settings());
    bench.set_endpoints("a", &[&endpoint]);
    let client = socket(LOCALHOST);
    let mut sessions = Vec::new();
    for host in [2, 3] {
        let to = SocketAddr::from(([127, 0, 0, host], bench.address().port()));
        client.send_to(b"hello", to).expect("sent");
        let (_, from) = receive(&endpoint);
        endpoint.send_to(b"reply", from).expect("sent");
        assert_eq!(receive(&client), (b"reply".to_vec(), to));
        sessions.push(from);
    }
    assert_ne!(sessions[0], sessions[1]);
    bench.proxy.stop();
    let mut local: Vec<_> = bench.records.iter().map(|record| record.local.ip()).collect();
    local.sort();
    assert_eq!(local, [IpAddr::from([127, 0, 0, 2]), IpAddr::from([127, 0, 0, 3])]);
}

#[test]
fn ipv6_clients_reach_ipv4_and_ipv6_endpoints() {
    for bind in [Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED] {
        for endpoint in [socket(LOCALHOST), socket(Ipv6Addr::LOCALHOST.into())] {
            let mut bench = Bench::new(bind.into(), settings());
            bench.set_endpoints("a", &[&endpoint]);
            let to = SocketAddr::from((Ipv6Addr::LOCALHOST, bench.address().port()));
            let client = client(to);
            round_trip(&client, &endpoint, b"hello");
            round_trip(&client, &endpoint, &[6; 60_000]);
        }
    }
}

#[test]
fn a_datagram_too_long_for_the_endpoints_ip_version_is_dropped_and_counted() {
    let endpoint = socket(LOCALHOST);
    let mut bench = Bench::new(Ipv6Addr::LOCALHOST.into(), settings());
    bench.set_endpoints("a", &[&endpoint]);
    let client = bench.client();
    client.send(&[0; 65_527]).expect("IPv6 takes 20 bytes more than IPv4");
    eventually("the datagram is dropped", || bench.sum(|row| row.dropped_upstream) == 1);
    round_trip(&client, &endpoint, b"still here");
    assert_eq!(bench.opened(), 1);
}
