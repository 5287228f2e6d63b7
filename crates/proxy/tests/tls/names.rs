//! Which listener and route a server name leads to.

use std::{
    fs,
    io::{Read, Write},
    path::Path,
    sync::mpsc,
};

use l4way_model::{RefusedReason, TlsMode};
use l4way_session::CloseReason;

use crate::{
    common::{
        connect, echo, ended, eventually, free_address, named, refused, route, route_to, serve,
        settings,
    },
    support::*,
};

/// The alert unrecognized_name in a record of its own: of level 2 it is fatal, of level 1 a warning.
fn unrecognized_name(level: u8) -> [u8; 7] {
    [21, 3, 3, 0, 2, level, 112]
}

#[test]
fn a_session_that_goes_through_is_unchanged_however_its_hello_is_cut() {
    let hellos = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proxy-core/tests/hellos");
    let index = fs::read_to_string(hellos.join("index.txt")).unwrap();
    let mut tried = 0;
    for line in index.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<_> = line.split('\t').collect();
        let [file, "hello", name, ..] = fields[..] else { continue };
        let hello = fs::read(hellos.join(file)).unwrap();
        let (send, received) = mpsc::channel();
        let expected = hello.len() + 4;
        let endpoint = serve(move |mut connection| {
            let mut bytes = vec![0; expected];
            connection.read_exact(&mut bytes).unwrap();
            send.send(bytes).unwrap();
            connection.write_all(b"answer").unwrap();
        });
        let listener =
            tls_listener("", TlsMode::Passthrough { routes: routes([("", route_to("b"))]) });
        let (_proxy, address) = proxy(vec![listener], [("b", endpoint)]);
        let mut client = connect(address);
        for part in hello.chunks(100) {
            client.write_all(part).unwrap();
        }
        client.write_all(b"more").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "answer", "{file} ({name})");
        assert_eq!(received.recv().unwrap(), [&hello[..], b"more"].concat(), "{file}");
        tried += 1;
    }
    assert!(tried > 10, "there are hellos in {index}");
}

#[test]
fn listeners_of_both_modes_share_a_port_by_name() {
    let authority = Authority::new("ca");
    let [own, a, b] = ["x.test", "a.test", "b.test"].map(|name| authority.sign(&[name]));
    let listeners = vec![
        passthrough("a.test", "a"),
        terminate("*.test", server_tls(&[&own, &b]), "b"),
        passthrough("*.c.test", "c"),
    ];
    let deep = authority.sign(&["d.c.test"]);
    let backends = [
        ("a", tls_endpoint(&a, None, echo_after("a:"))),
        ("b", echo()),
        ("c", tls_endpoint(&deep, None, echo_after("c:"))),
    ];
    let (proxy, address) = proxy(listeners, backends);
    let client = any_client(&authority);
    for (name, prefix) in [("a.test", "a:"), ("b.test", ""), ("x.test", ""), ("d.c.test", "c:")] {
        let mut session = open(address, name, &client);
        session.write_all(b"hello").unwrap();
        let mut answer = vec![0; prefix.len() + 5];
        session.read_exact(&mut answer).unwrap();
        assert_eq!(String::from_utf8(answer).unwrap(), format!("{prefix}hello"), "{name}");
    }
    let mut stranger = open(address, "test.example", &client);
    ping(&mut stranger, "?").unwrap_err();
    expect_refusal_of_name(&proxy);
}

fn expect_refusal_of_name(proxy: &l4way_proxy::Proxy) {
    eventually("it is counted", || failed(proxy, CloseReason::UnrecognizedName) == 1);
    eventually("it is counted", || ended(proxy, CloseReason::UnrecognizedName) == 1);
}

#[test]
fn who_asks_for_nothing_that_is_there_gets_the_alert() {
    let authority = Authority::new("ca");
    let own = authority.sign(&["a.test"]);
    let by_name = |hostname, route_name| {
        let routes = routes([(route_name, route_to("b"))]);
        let tls = server_tls(&[&own]).into();
        tls_listener(hostname, TlsMode::Terminate { tls, routes })
    };
    // No listener, no route, a listener that can't serve, and one that only lets sessions through.
    for (listener, level) in [
        (by_name("a.test", "a.test"), 2),
        (by_name("", "a.test"), 2),
        (tls_listener("*.test", TlsMode::Refused), 1),
        (passthrough("a.test", "b"), 1),
    ] {
        let (proxy, address) = proxy(vec![listener], [("b", echo())]);
        let mut client = connect(address);
        client.write_all(&hello_for("b.test")).unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, unrecognized_name(level));
        expect_refusal(&proxy, CloseReason::UnrecognizedName);
    }
}

/// RFC 8446 (section 9.2) has an alert of its own for a client that names nobody where it has to.
#[test]
fn who_names_nobody_is_told_that_a_name_is_missing() {
    let authority = Authority::new("ca");
    let own = authority.sign(&["a.test"]);
    let missing_extension = [21, 3, 3, 0, 2, 2, 109];
    for (listener, alert) in [
        (terminate("a.test", server_tls(&[&own]), "b"), missing_extension),
        (passthrough("a.test", "b"), unrecognized_name(1)),
    ] {
        let (proxy, address) = proxy(vec![listener], [("b", echo())]);
        let mut client = connect(address);
        client.write_all(&hello_for("192.0.2.1")).unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, alert);
        expect_refusal(&proxy, CloseReason::UnrecognizedName);
    }
}

/// The hello of a client that asks for this name.
fn hello_for(name: &str) -> Vec<u8> {
    let authority = Authority::new("ca");
    let name = rustls_pki_types::ServerName::try_from(name.to_owned()).unwrap();
    let mut client = rustls::ClientConnection::new(any_client(&authority), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

#[test]
fn routes_of_a_listener_go_by_name_and_one_may_be_for_all() {
    let authority = Authority::new("ca");
    let own = authority.sign(&["a.test", "b.test", "c.d.test", "127.0.0.1.test"]);
    let routes = routes([
        ("a.test", route_to("a")),
        ("*.d.test", route_to("d")),
        ("*.test", route([(1, refused(RefusedReason::InvalidBackend))])),
        ("", route_to("rest")),
    ]);
    let tls = server_tls(&[&own]).into();
    let listeners = vec![tls_listener("", TlsMode::Terminate { tls, routes })];
    let (proxy, address) =
        proxy(listeners, [("a", named("a")), ("d", named("d")), ("rest", named("rest"))]);
    let client = any_client(&authority);
    let answer = |name: &str| {
        let mut session = open(address, name, &client);
        let mut answer = String::new();
        session.read_to_string(&mut answer).map(|_| answer)
    };
    assert_eq!(answer("a.test").unwrap(), "a");
    assert_eq!(answer("c.d.test").unwrap(), "d");
    answer("b.test").unwrap_err();
    eventually("it is refused", || ended(&proxy, CloseReason::InvalidBackend) == 1);
    // Without a name: rustls sends none for an address, and the first certificate is shown.
    let mut config = (*client).clone();
    config.enable_sni = false;
    let mut session = open(address, "a.test", &config.into());
    let mut answer = String::new();
    session.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "rest");
}

#[test]
fn a_listener_keeps_its_sessions_when_its_port_changes() {
    let authority = Authority::new("ca");
    let [a, b] = ["a.test", "b.test"].map(|name| authority.sign(&[name]));
    let address = free_address();
    let mut proxy = l4way_proxy::Proxy::start(settings()).unwrap();
    let endpoints = endpoint_table([("e", echo())]);
    let listeners = |names: &[&str]| {
        let listener = |name: &&str| terminate(name, server_tls(&[&a, &b]), "e");
        tls_config(address, names.iter().map(listener).collect())
    };
    proxy.apply(listeners(&["b.test"]), &endpoints);
    let client = any_client(&authority);
    let mut before = open(address, "b.test", &client);
    ping(&mut before, "before").unwrap();
    // The socket's owner is the first listener, which is another one now, and then gone.
    for names in [&["a.test", "b.test"][..], &["b.test"], &["a.test", "b.test"]] {
        proxy.apply(listeners(names), &endpoints);
        ping(&mut before, "during").unwrap();
        ping(&mut open(address, "b.test", &client), "new").unwrap();
    }
    ping(&mut open(address, "a.test", &client), "new").unwrap();
    proxy.apply(listeners(&["a.test"]), &endpoints);
    ping(&mut before, "its listener drains").unwrap();
    ping(&mut open(address, "b.test", &client), "gone").unwrap_err();
}
