//! What goes through sessions that the proxy ends.

use std::{
    io::{Read, Write},
    net::Shutdown,
    sync::mpsc,
    thread,
};

use l4way_session::{CloseReason, HandshakeSnapshot};

use crate::{
    common::{connect, echo, ended, eventually, named, serve, total},
    support::*,
};

/// Bytes that differ everywhere, so that none can take another's place.
fn data(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn what_comes_out_is_what_went_in_however_much_and_in_both_versions() {
    let authority = Authority::new("ca");
    let own = authority.sign(&["a.test"]);
    let (proxy, address) =
        proxy(vec![terminate("a.test", server_tls(&[&own]), "e")], [("e", echo())]);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = client_config(&authority, None, &[version]);
        for length in [1, 100, 16_384, 16_385, 70_000, 3_000_000] {
            let mut session = open(address, "a.test", &client);
            let sent = data(length);
            let expected = sent.clone();
            ping(&mut session, "x").unwrap();
            // The client writes and reads in turn, in pieces that aren't records.
            let mut received = Vec::new();
            for piece in sent.chunks(30_001) {
                session.write_all(piece).unwrap();
                session.flush().unwrap();
                let mut buffer = vec![0; piece.len()];
                session.read_exact(&mut buffer).unwrap();
                received.extend(buffer);
            }
            assert_eq!(received, expected, "{length}");
            session.conn.send_close_notify();
            session.flush().unwrap();
            assert_eq!(session.read_to_end(&mut Vec::new()).unwrap(), 0);
        }
    }
    eventually("all end well", || ended(&proxy, CloseReason::Closed) == 12);
    let handshakes = proxy.counters().snapshot().handshakes;
    let kinds: Vec<_> = handshakes.iter().flat_map(HandshakeSnapshot::succeeded).collect();
    let of = |tls13| kinds.iter().filter(move |(kind, _)| kind.tls13 == tls13);
    assert_eq!([false, true].map(|tls13| of(tls13).map(|(_, n)| n).sum::<u64>()), [6, 6]);
    assert!(kinds.iter().any(|(kind, _)| kind.resumed), "{kinds:?}");
}

#[test]
fn a_slow_reader_gets_it_all() {
    const LENGTH: usize = 40 << 20;
    let authority = Authority::new("ca");
    let own = authority.sign(&["a.test"]);
    let endpoint = serve(|mut connection| {
        // The client may have gone with the proxy.
        let _ = connection.write_all(&data(LENGTH));
    });
    let (proxy, address) =
        proxy(vec![terminate("a.test", server_tls(&[&own]), "e")], [("e", endpoint)]);
    let mut session = open(address, "a.test", &any_client(&authority));
    session.conn.complete_io(&mut session.sock).unwrap();
    // Until nothing moves any more: the socket's buffers are full.
    let sent = || total(&proxy, |row| row.bytes_downstream);
    let mut before = 0;
    eventually("it comes to a halt", || {
        thread::sleep(std::time::Duration::from_millis(50));
        let now = sent();
        std::mem::replace(&mut before, now) == now && now > 0
    });
    assert!(sent() < LENGTH as u64);
    let mut received = Vec::new();
    session.read_to_end(&mut received).unwrap();
    assert!(received == data(LENGTH), "{} bytes came", received.len());
}

#[test]
fn an_endpoint_may_speak_first_and_its_end_is_told_as_tls_does() {
    let authority = Authority::new("ca");
    let own = authority.sign(&["a.test"]);
    let (_proxy, address) =
        proxy(vec![terminate("a.test", server_tls(&[&own]), "e")], [("e", named("hello"))]);
    let mut session = open(address, "a.test", &any_client(&authority));
    let mut text = String::new();
    // rustls fails here without a close_notify.
    session.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
}

#[test]
fn a_client_may_end_first_and_still_gets_the_answer() {
    let authority = Authority::new("ca");
    let own = authority.sign(&["a.test"]);
    let endpoint = serve(|mut connection| {
        let mut request = String::new();
        connection.read_to_string(&mut request).unwrap();
        connection.write_all(request.to_uppercase().as_bytes()).unwrap();
    });
    let (_proxy, address) =
        proxy(vec![terminate("a.test", server_tls(&[&own]), "e")], [("e", endpoint)]);
    for with_close_notify in [true, false] {
        let mut session = open(address, "a.test", &any_client(&authority));
        session.write_all(b"shout").unwrap();
        if with_close_notify {
            session.conn.send_close_notify();
        }
        session.flush().unwrap();
        session.sock.shutdown(Shutdown::Write).unwrap();
        let mut text = String::new();
        session.read_to_string(&mut text).unwrap();
        assert_eq!(text, "SHOUT");
    }
}

#[test]
fn what_was_changed_on_its_way_ends_the_session_and_reaches_nobody() {
    let authority = Authority::new("ca");
    let own = authority.sign(&["a.test"]);
    let (send, received) = mpsc::channel();
    let endpoint = serve(move |mut connection| {
        let mut bytes = Vec::new();
        let _ = connection.read_to_end(&mut bytes);
        send.send(bytes).unwrap();
    });
    let (proxy, address) =
        proxy(vec![terminate("a.test", server_tls(&[&own]), "e")], [("e", endpoint)]);
    let mut session = open(address, "a.test", &any_client(&authority));
    session.write_all(b"good").unwrap();
    session.flush().unwrap();
    eventually("it is there", || total(&proxy, |row| row.bytes_upstream) == 4);
    // A record that nobody sealed.
    session.sock.write_all(&[23, 3, 3, 0, 32]).unwrap();
    session.sock.write_all(&[7; 32]).unwrap();
    assert_eq!(received.recv().unwrap(), b"good");
    eventually("it is told", || ended(&proxy, CloseReason::TlsBroken) == 1);
}

#[test]
fn plain_bytes_are_not_taken_for_tls() {
    let authority = Authority::new("ca");
    let own = authority.sign(&["a.test"]);
    let (proxy, address) =
        proxy(vec![terminate("a.test", server_tls(&[&own]), "e")], [("e", echo())]);
    let mut client = connect(address);
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    // It is reset, or has been already.
    let _ = client.read(&mut [0; 1]);
    expect_refusal(&proxy, CloseReason::NotTls);
}
