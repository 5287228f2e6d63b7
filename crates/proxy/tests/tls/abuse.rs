//! Clients that stall, dribble and flood.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    num::NonZeroUsize,
    time::Duration,
};

use l4way_model::TlsListener;
use l4way_proxy::{Proxy, ProxySettings};
use l4way_session::CloseReason;

use crate::{
    common::{self, connect, echo, eventually, free_address, read_all, settings},
    support::*,
};

fn impatient(listener: TlsListener) -> TlsListener {
    TlsListener { handshake_timeout: Duration::from_millis(300), ..listener }
}

#[test]
fn a_client_that_waits_for_the_server_is_told_of_mysql() {
    let authority = Authority::new("ca");
    let own = authority.sign(&["a.test"]);
    let listener = impatient(terminate("a.test", server_tls(&[&own]), "e"));
    let (proxy, address) = proxy(vec![listener], [("e", echo())]);
    let mut client = connect(address);
    let mut packet = Vec::new();
    client.read_to_end(&mut packet).unwrap();
    let length = u32::from_le_bytes([packet[0], packet[1], packet[2], 0]) as usize;
    assert_eq!((length, packet[4]), (packet.len() - 4, 0xff));
    assert!(String::from_utf8_lossy(&packet).contains("MySQL"));
    expect_refusal(&proxy, CloseReason::SilentAsMysql);
}

#[test]
fn a_handshake_that_stalls_or_dribbles_ends_in_time() {
    let authority = Authority::new("ca");
    let own = authority.sign(&["a.test"]);
    let listener = impatient(terminate("a.test", server_tls(&[&own]), "e"));
    let (proxy, address) = proxy(vec![listener], [("e", echo())]);
    let name = rustls_pki_types::ServerName::try_from("a.test").unwrap();
    let mut hello = Vec::new();
    let mut client = rustls::ClientConnection::new(any_client(&authority), name).unwrap();
    client.write_tls(&mut hello).unwrap();
    // Half a hello; a hello, and nothing to the answer.
    for part in [&hello[..hello.len() / 2], &hello] {
        let mut client = connect(address);
        client.write_all(part).unwrap();
        let _ = client.read_to_end(&mut Vec::new());
    }
    // A byte at a time, which never comes to an end.
    let mut client = connect(address);
    client.set_nodelay(true).unwrap();
    while client.write_all(&[22, 3, 1, 0, 1, 1]).is_ok() {
        std::thread::sleep(Duration::from_millis(20));
    }
    eventually("all are ended", || {
        failed(&proxy, CloseReason::HandshakeTimeout) + failed(&proxy, CloseReason::HandshakeFailed)
            == 3
    });
    assert!(failed(&proxy, CloseReason::HandshakeTimeout) >= 2);
}

#[test]
fn a_flood_of_handshakes_keeps_nobody_out() {
    let authority = Authority::new("ca");
    let own = authority.sign(&["a.test"]);
    let mut proxy = Proxy::start(ProxySettings {
        workers: NonZeroUsize::MIN,
        session_descriptors: NonZeroUsize::new(512),
        ..settings()
    })
    .unwrap();
    let address = free_address();
    let config = tls_config(address, vec![terminate("a.test", server_tls(&[&own]), "e")]);
    proxy.apply(config, &endpoint_table([("e", echo())]));
    // More than may shake hands at a time, and fewer than there may be sessions.
    let stalled: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut client = connect(address);
            client.write_all(&[22, 3, 1]).unwrap();
            client
        })
        .collect();
    eventually("the first are ended", || failed(&proxy, CloseReason::HandshakeEvicted) >= 100);
    ping(&mut open(address, "a.test", &any_client(&authority)), "hello").unwrap();
    assert!(read_all(&stalled[0]).is_err(), "it was the first");
    drop(stalled);
    eventually("the others leave", || failed(&proxy, CloseReason::HandshakeAborted) > 0);
}

/// At the session limit who is at his handshake goes first, then who has said nothing since.
#[test]
fn silent_clients_make_room() {
    const SILENCE: Duration = Duration::from_millis(300);
    let authority = Authority::new("ca");
    let own = authority.sign(&["a.test"]);
    let mut proxy = Proxy::start(ProxySettings {
        workers: NonZeroUsize::MIN,
        session_descriptors: NonZeroUsize::new(8),
        silence: SILENCE,
        ..settings()
    })
    .unwrap();
    let address = free_address();
    let config = tls_config(address, vec![terminate("a.test", server_tls(&[&own]), "e")]);
    proxy.apply(config, &endpoint_table([("e", echo())]));
    let client = any_client(&authority);
    let open = || {
        let mut session = open(address, "a.test", &client);
        while session.conn.is_handshaking() {
            session.conn.complete_io(&mut session.sock).unwrap();
        }
        session
    };
    let mut used = open();
    ping(&mut used, "used").unwrap();
    let _silent = [open(), open()];
    let mut stalled = connect(address);
    stalled.write_all(&[22, 3, 1]).unwrap();
    std::thread::sleep(2 * SILENCE);
    let ended = |reason| common::ended(&proxy, reason);
    ping(&mut open(), "served").unwrap();
    eventually("the handshake ends", || failed(&proxy, CloseReason::HandshakeEvicted) == 1);
    assert_eq!(ended(CloseReason::EvictedUnused), 0);
    let mut more = [open(), open()];
    more.iter_mut().for_each(|session| ping(session, "served").unwrap());
    assert!((1..=2).contains(&ended(CloseReason::EvictedUnused)));
    ping(&mut used, "still here").unwrap();
}

#[test]
fn a_hello_that_is_too_large_is_not_read_to_its_end() {
    let authority = Authority::new("ca");
    let own = authority.sign(&["a.test"]);
    let (proxy, address) =
        proxy(vec![terminate("a.test", server_tls(&[&own]), "e")], [("e", echo())]);
    let mut client = connect(address);
    // A handshake message of 16 MiB.
    client.write_all(&[22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff]).unwrap();
    let _ = client.write_all(&[0; 64 << 10]);
    let _ = client.read_to_end(&mut Vec::new());
    expect_refusal(&proxy, CloseReason::HandshakeFailed);
}

/// Sends this, in parts, and returns all that is answered.
fn answer_to(address: SocketAddr, parts: &[&[u8]]) -> Vec<u8> {
    let mut client = connect(address);
    client.set_nodelay(true).unwrap();
    for part in parts {
        client.write_all(part).unwrap();
    }
    let mut answer = Vec::new();
    // Without words it is a reset.
    let _ = client.read_to_end(&mut answer);
    answer
}

#[test]
fn a_malformed_hello_gets_the_alert_that_rfc_8446_names() {
    const PROTOCOL_VERSION: u8 = 70;
    let record = |payload: &[u8]| [&[22, 3, 1, 0, payload.len() as u8][..], payload].concat();
    // Version 3.3, a random, no session, one suite, no compression but null.
    let body = [&[3, 3][..], &[7; 32], &[0], &[0, 2, 0x13, 1], &[1, 0]].concat();
    let hello = |body: &[u8]| [&[1, 0, 0, body.len() as u8][..], body].concat();
    let malformed: [(&str, Vec<u8>, u8); 9] = [
        ("a record of 16 KiB and a byte", vec![22, 3, 1, 0x40, 1], 22),
        ("a Finished", record(&[20, 0, 0, 0]), 10),
        ("application data", vec![23, 3, 3, 0, 1], 10),
        ("another message in the record", record(&[&hello(&body)[..], &[20]].concat()), 10),
        ("data within the hello", [record(&hello(&body)[..9]), vec![23, 3, 3, 0, 1]].concat(), 10),
        ("a body that is too short", record(&hello(&body[..20])), 50),
        ("extensions that are cut off", record(&hello(&[&body[..], &[0, 9]].concat())), 50),
        ("a message of 16 MiB", vec![22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff], 50),
        ("SSL 2.0", b"\x80\x2e\x01\x03\x01\x00\x15".to_vec(), PROTOCOL_VERSION),
    ];
    let authority = Authority::new("ca");
    let own = authority.sign(&["a.test"]);
    let ends = || terminate("", server_tls(&[&own]), "e");
    for listener in [ends(), passthrough("", "e")] {
        let (proxy, address) = proxy(vec![listener], [("e", echo())]);
        for (what, bytes, alert) in &malformed {
            let alert = [21, 3, 3, 0, 2, 2, *alert];
            assert_eq!(answer_to(address, &[bytes]), alert, "{what}");
            let (first, rest) = bytes.split_at(1);
            assert_eq!(answer_to(address, &[first, rest]), alert, "{what}, in two segments");
        }
        eventually("they are counted", || {
            failed(&proxy, CloseReason::HandshakeFailed) == 2 * malformed.len() as u64
        });
        // Who doesn't speak TLS would take an alert for something else.
        for other in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"SSH-2.0-x\r\n", &[0xff, 0xfb, 1, 0xff]] {
            assert_eq!(answer_to(address, &[other]), b"", "{other:?}");
        }
        eventually("they are counted", || failed(&proxy, CloseReason::NotTls) == 3);
    }
    // What only a server can judge: versions that are too old, compression, and extensions that come twice.
    let (_proxy, address) = proxy(vec![ends()], [("e", echo())]);
    let old = [&[3, 1][..], &body[2..]].concat();
    let answer = answer_to(address, &[&record(&hello(&old))]);
    assert_eq!(answer[5..], [2, PROTOCOL_VERSION], "{answer:?}");
    let twice = [&body[..], &[0, 8, 0, 23, 0, 0, 0, 23, 0, 0]].concat();
    let answer = answer_to(address, &[&record(&hello(&twice))]);
    assert_eq!(answer[5..], [2, 47], "{answer:?}");
}
