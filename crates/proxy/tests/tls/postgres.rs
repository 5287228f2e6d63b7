//! Clients that begin as PostgreSQL's do. Real ones are in the tests of the binary.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    time::Instant,
};

use l4way_model::{Authorities, BackendTls, Target, TlsMode};
use l4way_proxy_core::EndpointStore;
use l4way_session::CloseReason;

use crate::{
    common::{self, connect, echo, ended, eventually, route, serve},
    support::*,
};

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const GSS_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];

/// Asks for TLS, after GSSAPI if `gss`.
fn ask(address: std::net::SocketAddr, gss: bool) -> TcpStream {
    let mut stream = connect(address);
    let requests = [(GSS_REQUEST, b'N'), (SSL_REQUEST, b'S')];
    for (request, answer) in &requests[usize::from(!gss)..] {
        stream.write_all(request).unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        assert_eq!(byte, [*answer]);
    }
    stream
}

/// What a server of PostgreSQL does before TLS: `answer` to the request.
fn answering(answer: u8, inner: std::net::SocketAddr) -> std::net::SocketAddr {
    serve(move |mut connection| {
        let mut request = [0; 8];
        connection.read_exact(&mut request).unwrap();
        assert_eq!(request, SSL_REQUEST);
        connection.write_all(&[answer]).unwrap();
        if answer != b'S' {
            return;
        }
        let mut server = TcpStream::connect(inner).unwrap();
        let (mut from, mut to) = (connection.try_clone().unwrap(), server.try_clone().unwrap());
        let up = std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(std::net::Shutdown::Write);
        });
        let _ = std::io::copy(&mut server, &mut connection);
        let _ = connection.shutdown(std::net::Shutdown::Write);
        up.join().unwrap();
    })
}

#[test]
fn a_request_for_tls_is_answered_and_the_hello_behind_it_routed() {
    let authority = Authority::new("ca");
    let [a, b] = ["a.test", "b.test"].map(|name| authority.sign(&[name]));
    let through = answering(b'S', tls_endpoint(&a, None, echo_after("a:")));
    let listeners = vec![passthrough("a.test", "a"), terminate("b.test", server_tls(&[&b]), "b")];
    let (_proxy, address) = proxy(listeners, [("a", through), ("b", echo())]);
    let client = any_client(&authority);
    for gss in [false, true] {
        for (name, prefix) in [("a.test", "a:"), ("b.test", "")] {
            let mut session = over(ask(address, gss), name, &client);
            session.write_all(b"hello").unwrap();
            let mut answer = vec![0; prefix.len() + 5];
            session.read_exact(&mut answer).unwrap();
            assert_eq!(answer, format!("{prefix}hello").as_bytes());
        }
    }
    // Others aren't disturbed.
    ping(&mut open(address, "b.test", &client), "hello").unwrap();
}

#[test]
fn an_endpoint_that_refuses_tls_gets_nothing() {
    let authority = Authority::new("ca");
    let a = authority.sign(&["a.test"]);
    let endpoint = answering(b'N', tls_endpoint(&a, None, echo_after("")));
    let store = EndpointStore::new(Instant::now());
    let mut settings = common::settings();
    settings.process.endpoints = store.clone();
    let (proxy, address) =
        proxy_with(settings, vec![passthrough("a.test", "a")], [("a", endpoint)]);
    for count in 1..5 {
        let mut session = over(ask(address, false), "a.test", &any_client(&authority));
        ping(&mut session, "hello").unwrap_err();
        eventually("it is told", || ended(&proxy, CloseReason::UpstreamTlsFailed) == count);
    }
    // The client chose to begin so: it takes the endpoint away from nobody.
    assert_eq!(store.passed_over(), []);
    assert!(store.knows_any(), "it is noted all the same");
}

#[test]
fn tls_to_the_endpoint_is_begun_as_the_client_began() {
    let authority = Authority::new("ca");
    let [own, inner] = ["a.test", "db.test"].map(|name| authority.sign(&[name]));
    let direct = tls_endpoint(&inner, None, |mut stream| {
        let mut bytes = [0; 5];
        stream.read_exact(&mut bytes).unwrap();
        let alpn = stream.conn.alpn_protocol().unwrap_or_default().to_vec();
        stream.write_all(&alpn).unwrap();
        stream.conn.send_close_notify();
        stream.flush().unwrap();
    });
    let asked = answering(b'S', direct);
    let tls = BackendTls {
        server_name: "db.test".into(),
        alternative_names: Vec::new(),
        authorities: Authorities::These(authority.pem.as_str().into()),
        client_certificate: None,
    };
    let target = Target::TlsBackend(common::backend("e"), Arc::new(tls));
    let listeners = || {
        let mode = TlsMode::Terminate {
            tls: server_tls(&[&own]).into(),
            routes: routes([("a.test", route([(1, target.clone())]))]),
        };
        vec![tls_listener("a.test", mode)]
    };
    let answer = |mut session: Session| {
        session.write_all(b"hello").unwrap();
        let mut answer = String::new();
        session.read_to_string(&mut answer).unwrap();
        answer
    };
    let client = any_client(&authority);
    let (_proxy, address) = proxy(listeners(), [("e", asked)]);
    assert_eq!(answer(over(ask(address, false), "a.test", &client)), "");
    // libpq's sslnegotiation=direct insists on its application protocol.
    let mut config = (*client).clone();
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    let (_proxy, address) = proxy(listeners(), [("e", direct)]);
    let mut session = open(address, "a.test", &config.into());
    session.conn.complete_io(&mut session.sock).unwrap();
    assert_eq!(session.conn.alpn_protocol(), Some(&b"postgresql"[..]));
    assert_eq!(answer(session), "postgresql");
}

#[test]
fn a_client_without_tls_is_told_why_it_has_to_leave() {
    let authority = Authority::new("ca");
    let own = authority.sign(&["a.test"]);
    let listeners = vec![terminate("a.test", server_tls(&[&own]), "e")];
    let (proxy, address) = proxy(listeners, [("e", echo())]);
    let mut client = connect(address);
    client.write_all(&[0, 0, 0, 14, 0, 3, 0, 0, b'u', 0, b'x', 0, 0, 0]).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(answer[0], b'E');
    assert_eq!(u32::from_be_bytes(answer[1..5].try_into().unwrap()) as usize, answer.len() - 1);
    assert!(String::from_utf8(answer).unwrap().contains("sslmode=require"));
    expect_refusal(&proxy, CloseReason::NotTls);
}

#[test]
fn what_comes_before_the_answer_ends_it() {
    let authority = Authority::new("ca");
    let own = authority.sign(&["a.test"]);
    let listeners = vec![terminate("a.test", server_tls(&[&own]), "e")];
    let (proxy, address) = proxy(listeners, [("e", echo())]);
    let mut client = connect(address);
    client.write_all(&[&SSL_REQUEST[..], b"injected"].concat()).unwrap();
    assert!(common::read_all(&client).unwrap_or_default().is_empty());
    expect_refusal(&proxy, CloseReason::HandshakeFailed);
}
