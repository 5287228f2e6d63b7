//! TLS sessions that the proxy begins with endpoints.

use std::{
    io::Read,
    net::SocketAddr,
    sync::{Arc, mpsc},
};

use l4way_model::{AlternativeName, Authorities, BackendTls, Config, KeyPair, Target};
use l4way_proxy::Proxy;
use l4way_session::CloseReason;

use crate::{
    common::{self, all_bound, connect, ended, eventually, free_address, route, serve, settings},
    support::*,
};

fn backend_tls(authority: &Authority, name: &str) -> BackendTls {
    BackendTls {
        server_name: name.into(),
        alternative_names: Vec::new(),
        authorities: Authorities::These(authority.pem.as_str().into()),
        client_certificate: None,
    }
}

/// A proxy with a TCP listener, whose sessions go on in TLS.
fn tcp_proxy(tls: BackendTls, endpoint: SocketAddr) -> (Proxy, SocketAddr) {
    let mut proxy = Proxy::start(settings()).unwrap();
    let address = free_address();
    let target = Target::TlsBackend(common::backend("e"), Arc::new(tls));
    let listener = common::listener("l", address, Some(route([(1, target)])));
    let config = Arc::new(Config::new([listener]).unwrap());
    all_bound(&proxy.apply(config, &endpoint_table([("e", endpoint)])));
    (proxy, address)
}

#[test]
fn an_endpoint_that_proves_its_name_gets_the_session() {
    let authority = Authority::new("ca");
    let own = authority.sign(&["db.test", "spiffe://test/db"]);
    let endpoint = tls_endpoint(&own, None, echo_after(""));
    let by_name = backend_tls(&authority, "db.test");
    let other = |names: Vec<AlternativeName>| BackendTls {
        alternative_names: names,
        ..backend_tls(&authority, "other.test")
    };
    let uri = AlternativeName::Uri("spiffe://test/db".into());
    let dns = AlternativeName::Dns("db.test".into());
    for tls in
        [by_name, other(vec![uri.clone()]), other(vec![AlternativeName::Dns("x".into()), dns])]
    {
        let (proxy, address) = tcp_proxy(tls, endpoint);
        let client = connect(address);
        common::ping(&client, "hello");
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(common::read_all(&client).unwrap(), "");
        eventually("it ends well", || ended(&proxy, CloseReason::Closed) == 1);
    }
}

#[test]
fn an_endpoint_that_does_not_gets_nothing() {
    let [authority, other] = ["ca", "other"].map(Authority::new);
    let own = authority.sign(&["db.test"]);
    let endpoint = tls_endpoint(&own, None, echo_after(""));
    let uri = vec![AlternativeName::Uri("spiffe://test/db".into())];
    let plain = serve(|mut connection| {
        let mut bytes = [0; 1];
        // Of TLS it gets a hello, and nothing of what the client says.
        if connection.read_exact(&mut bytes).is_ok() {
            assert_eq!(bytes, [22]);
        }
    });
    for (tls, endpoint) in [
        (backend_tls(&other, "db.test"), endpoint),
        (backend_tls(&authority, "web.test"), endpoint),
        (BackendTls { alternative_names: uri, ..backend_tls(&authority, "db.test") }, endpoint),
        (backend_tls(&authority, "db.test"), plain),
    ] {
        let (proxy, address) = tcp_proxy(tls, endpoint);
        let mut client = connect(address);
        std::io::Write::write_all(&mut client, b"secret").unwrap();
        assert!(common::read_all(&client).unwrap_or_default().is_empty());
        eventually("it is told", || {
            ended(&proxy, CloseReason::UpstreamTlsFailed)
                + ended(&proxy, CloseReason::UpstreamReset)
                == 1
        });
        assert_eq!(common::total(&proxy, |row| row.bytes_upstream), 0);
    }
}

#[test]
fn authorities_that_are_none_refuse_the_sessions() {
    let authority = Authority::new("ca");
    let own = authority.sign(&["db.test"]);
    let tls = BackendTls {
        authorities: Authorities::These("none".into()),
        ..backend_tls(&authority, "db.test")
    };
    let (proxy, address) = tcp_proxy(tls, tls_endpoint(&own, None, echo_after("")));
    common::assert_reset(&connect(address));
    eventually("it is told", || ended(&proxy, CloseReason::InvalidBackend) == 1);
}

#[test]
fn the_proxy_shows_its_certificate_to_endpoints_that_ask() {
    let [authority, clients] = ["ca", "clients"].map(Authority::new);
    let own = authority.sign(&["db.test"]);
    let (send, shown) = mpsc::channel();
    let endpoint = tls_endpoint(&own, Some(&clients), move |mut stream| {
        if stream.read(&mut [0; 1]).is_ok() {
            send.send(stream.conn.peer_certificates().map(<[_]>::to_vec)).unwrap();
        }
    });
    let with = |certificate: Option<Arc<KeyPair>>| BackendTls {
        client_certificate: certificate,
        ..backend_tls(&authority, "db.test")
    };
    let (_proxy, address) = tcp_proxy(with(Some(clients.sign(&["gateway.test"]))), endpoint);
    let mut client = connect(address);
    std::io::Write::write_all(&mut client, b"x").unwrap();
    assert!(shown.recv().unwrap().is_some());
    let (_proxy, address) = tcp_proxy(with(None), endpoint);
    let mut client = connect(address);
    std::io::Write::write_all(&mut client, b"x").unwrap();
    assert!(common::read_all(&client).unwrap_or_default().is_empty());
}

#[test]
fn two_gateways_may_show_one_backend_certificates_of_their_own() {
    let authority = Authority::new("ca");
    let own = authority.sign(&["db.test"]);
    let (send, shown) = mpsc::channel();
    let endpoint = tls_endpoint(&own, Some(&authority), move |mut stream| {
        if stream.read(&mut [0; 1]).is_ok() {
            let chain = stream.conn.peer_certificates().unwrap();
            send.send(chain[0].to_vec()).unwrap();
        }
    });
    let addresses = [free_address(), free_address()];
    let names = ["one.test", "two.test"];
    let listeners = addresses.iter().zip(names).map(|(address, name)| {
        let client_certificate = Some(authority.sign(&[name]));
        let tls = BackendTls { client_certificate, ..backend_tls(&authority, "db.test") };
        let target = Target::TlsBackend(common::backend("e"), Arc::new(tls));
        common::listener(name, *address, Some(route([(1, target)])))
    });
    let mut proxy = Proxy::start(settings()).unwrap();
    let config = Arc::new(Config::new(listeners).unwrap());
    all_bound(&proxy.apply(config, &endpoint_table([("e", endpoint)])));
    let certificates = addresses.map(|address| {
        let mut client = connect(address);
        std::io::Write::write_all(&mut client, b"x").unwrap();
        shown.recv_timeout(common::PATIENCE).unwrap()
    });
    assert_ne!(certificates[0], certificates[1]);
}

#[test]
fn a_session_may_be_tls_on_both_sides() {
    let authority = Authority::new("ca");
    let [own, inner] = ["a.test", "db.test"].map(|name| authority.sign(&[name]));
    let endpoint = tls_endpoint(&inner, None, echo_after("db:"));
    let target =
        Target::TlsBackend(common::backend("e"), Arc::new(backend_tls(&authority, "db.test")));
    let mode = l4way_model::TlsMode::Terminate {
        tls: server_tls(&[&own]).into(),
        routes: routes([("a.test", route([(1, target)]))]),
    };
    let (_proxy, address) = proxy(vec![tls_listener("a.test", mode)], [("e", endpoint)]);
    let mut session = open(address, "a.test", &any_client(&authority));
    std::io::Write::write_all(&mut session, b"hello").unwrap();
    let mut answer = [0; 8];
    session.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"db:hello");
    ping(&mut session, &"x".repeat(100_000)).unwrap();
}
