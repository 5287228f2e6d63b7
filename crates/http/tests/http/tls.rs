use std::{io, net::SocketAddr, num::NonZeroUsize, sync::Arc, time::Duration};

use hyper::{Request, StatusCode};
use l4way_http::{HttpProxy, HttpSettings};
use l4way_model::{
    ApplyReport, BindFailureKind, Config, EndpointTable, HttpListener, KeyPair, ListenerReport,
    Parts, ServerTls, TlsListener, TlsMode, TlsOptions, TlsPort,
};
use l4way_proxy::Proxy;
use l4way_session::{CloseReason, HandshakeSnapshot, Tap};
use rcgen::CertifiedKey;
use rustls::{
    AlertDescription, ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::CertificateDer,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    client::{Answer, Body, connect, http1, http2, request},
    endpoint::{named, patient},
    support::{all_to, endpoints, free_address, listener, listener_id},
};

fn key_pair(names: &[&str]) -> Arc<KeyPair> {
    let own: Vec<_> = names.iter().map(ToString::to_string).collect();
    let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(own).unwrap();
    Arc::new(KeyPair {
        name: names.join(",").into(),
        certificate_chain: cert.pem().into(),
        private_key: signing_key.serialize_pem().into(),
    })
}

fn https(hostname: &str, backend: &str, certificates: &[Arc<KeyPair>]) -> TlsListener {
    let HttpListener { id, hostname, rules } = listener(hostname, all_to(backend));
    let tls = Arc::new(ServerTls {
        certificates: certificates.to_vec(),
        client_validation: None,
        options: TlsOptions::default(),
    });
    let handshake_timeout = Duration::from_secs(10);
    TlsListener { id, hostname, handshake_timeout, mode: TlsMode::Https { tls, rules } }
}

/// Both sides of HTTPS: who accepts clients, and who serves them.
struct Sides {
    sessions: Proxy,
    http: HttpProxy,
}

impl Sides {
    fn start() -> Self {
        Self::with(HttpSettings::default())
    }

    fn with(settings: HttpSettings) -> Self {
        let http = HttpProxy::start(settings).unwrap();
        let settings = l4way_proxy::ProxySettings {
            workers: NonZeroUsize::MIN,
            https: Some(http.https()),
            ..l4way_proxy::ProxySettings::default()
        };
        Self { sessions: Proxy::start(settings).unwrap(), http }
    }

    /// Carries these listeners on one port.
    fn apply(
        &mut self,
        address: SocketAddr,
        listeners: Vec<TlsListener>,
        endpoints: &EndpointTable,
    ) -> ApplyReport {
        let port = TlsPort { addresses: vec![address.ip()], port: address.port(), listeners };
        self.apply_ports(vec![port], endpoints)
    }

    fn apply_ports(&mut self, tls: Vec<TlsPort>, endpoints: &EndpointTable) -> ApplyReport {
        let parts = Parts { tls, ..Parts::default() };
        let config: Arc<Config> = Arc::new(parts.try_into().unwrap());
        self.http.prepare(&config, endpoints);
        self.sessions.apply(config, endpoints)
    }
}

/// A TLS session with who shows one of these certificates for the host.
async fn session(
    address: SocketAddr,
    host: &str,
    trusted: &[&Arc<KeyPair>],
    protocol: &str,
) -> io::Result<TlsStream<TcpStream>> {
    use rustls::pki_types::pem::PemObject;
    let mut roots = RootCertStore::empty();
    for pair in trusted {
        let pem = pair.certificate_chain.as_bytes();
        roots.add(CertificateDer::from_pem_slice(pem).unwrap()).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let name = host.to_owned().try_into().unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, connect(address).await).await
}

#[tokio::test]
async fn a_client_gets_the_listener_and_certificate_of_the_host_it_names() {
    let (a, b) = (named("a").await, named("b").await);
    let [exact, other, wildcard] =
        [&["a.example.com"][..], &["b.example.com"], &["*.example.com"]].map(key_pair);
    let address = free_address();
    let listeners = vec![
        https("*.example.com", "b", &[wildcard.clone(), other.clone()]),
        https("a.example.com", "a", std::slice::from_ref(&exact)),
    ];
    let mut sides = Sides::start();
    sides.apply(address, listeners, &endpoints([("a", vec![a]), ("b", vec![b])]));

    let stream = session(address, "a.example.com", &[&exact], "http/1.1").await.unwrap();
    let mut client = http1(stream).await;
    let response = client.send_request(request("a.example.com", "/")).await.unwrap();
    let answer = Answer::read(response).await.unwrap();
    assert_eq!(answer.name(), "a");
    assert!(answer.text.contains("x-forwarded-proto: https\n"), "{}", answer.text);

    let stream = session(address, "x.example.com", &[&wildcard], "h2").await.unwrap();
    let mut client = http2(stream).await;
    let ask = |uri: &str| Request::get(uri).body(Body::new()).unwrap();
    let response = client.send_request(ask("https://x.example.com/")).await.unwrap();
    assert_eq!(Answer::read(response).await.unwrap().name(), "b");
    let response = client.send_request(ask("https://y.example.com/")).await.unwrap();
    assert_eq!(Answer::read(response).await.unwrap().name(), "b", "it is the same listener");
    let response = client.send_request(ask("https://a.example.com/")).await.unwrap();
    assert_eq!(response.status(), StatusCode::MISDIRECTED_REQUEST);

    let error = session(address, "example.org", &[&exact], "h2").await.unwrap_err();
    let error = error.into_inner().unwrap().downcast::<rustls::Error>().unwrap();
    let expected = rustls::Error::AlertReceived(AlertDescription::UnrecognisedName);
    assert_eq!(*error, expected);
    let handshakes = sides.sessions.counters().snapshot().handshakes;
    let mut failures = handshakes.iter().flat_map(HandshakeSnapshot::failed);
    assert_eq!(failures.next(), Some((CloseReason::UnrecognizedName, 1)));
    let succeeded = handshakes.iter().flat_map(HandshakeSnapshot::succeeded);
    assert_eq!(succeeded.map(|(_, count)| count).sum::<u64>(), 2);
}

#[tokio::test]
async fn of_several_certificates_the_one_that_fits_is_shown() {
    let pairs = ["a.test", "b.test"].map(|name| key_pair(&[name]));
    let address = free_address();
    let mut sides = Sides::start();
    sides.apply(address, vec![https("", "a", &pairs)], &endpoints([]));
    let [a, b] = &pairs;
    session(address, "a.test", &[a], "h2").await.unwrap();
    session(address, "b.test", &[b], "h2").await.unwrap();
    session(address, "c.test", &[a, b], "h2").await.unwrap_err();
}

#[tokio::test]
async fn a_bad_key_pair_takes_its_listener_out_and_no_other() {
    let [good, stranger] = ["good.test", "bad.test"].map(|name| key_pair(&[name]));
    let mismatched = Arc::new(KeyPair {
        name: "mismatched.test".into(),
        certificate_chain: good.certificate_chain.clone(),
        private_key: stranger.private_key.clone(),
    });
    let text = |text: &str| {
        let (certificate_chain, private_key) = (text.into(), good.private_key.clone());
        Arc::new(KeyPair { name: "empty.test".into(), certificate_chain, private_key })
    };
    let address = free_address();
    let listeners = vec![
        https("", "a", std::slice::from_ref(&good)),
        https("mismatched.test", "a", &[good.clone(), mismatched]),
        https("empty.test", "a", &[text("")]),
        https("none.test", "a", &[]),
    ];
    let mut sides = Sides::start();
    let report = sides.apply(address, listeners, &endpoints([])).listeners;
    assert_eq!(report[&listener_id("")], ListenerReport::Bound);
    for name in ["mismatched.test", "empty.test", "none.test"] {
        let ListenerReport::Failed(failure) = &report[&listener_id(name)] else {
            panic!("{name}: {report:?}");
        };
        assert_eq!(failure.kind, BindFailureKind::Other);
        let what = if name == "none.test" { "no certificate" } else { name };
        assert!(failure.message.contains(what), "{}", failure.message);
        session(address, name, &[&good], "h2").await.unwrap_err();
    }
    assert!(sides.sessions.retry_failed().is_none(), "a certificate doesn't get better");
    session(address, "good.test", &[&good], "h2").await.unwrap();
}

#[tokio::test]
async fn a_connection_is_told_when_it_has_ended() {
    let pair = key_pair(&["a.test"]);
    let (send, records) = std::sync::mpsc::sync_channel(8);
    let mut sides = Sides::with(HttpSettings { tap: Tap::to(send), ..HttpSettings::default() });
    let address = free_address();
    let backend = named("a").await;
    sides.apply(
        address,
        vec![https("a.test", "a", std::slice::from_ref(&pair))],
        &endpoints([("a", vec![backend])]),
    );
    let stream = session(address, "a.test", &[&pair], "http/1.1").await.unwrap();
    let mut client = http1(stream).await;
    let response = client.send_request(request("a.test", "/")).await.unwrap();
    Answer::read(response).await.unwrap();
    drop(client);
    let record = tokio::task::spawn_blocking(move || (records.recv().unwrap(), records));
    let (record, records) = record.await.unwrap();
    assert_eq!(record.labels.listener, listener_id("a.test"));
    assert_eq!(record.reason, CloseReason::Closed);
    assert!(record.bytes_upstream > 0 && record.bytes_downstream > 0, "{record:?}");
    let tls = record.tls.unwrap();
    assert_eq!(tls.server_name.as_deref(), Some("a.test"));
    assert_eq!((tls.version, tls.application_protocol.as_deref()), (Some("1.3"), Some("http/1.1")));
    // A client that trusts somebody else ends its handshake.
    let stranger = key_pair(&["a.test"]);
    session(address, "a.test", &[&stranger], "h2").await.unwrap_err();
    let refused = tokio::task::spawn_blocking(move || records.recv().unwrap()).await.unwrap();
    assert_eq!(refused.reason, CloseReason::HandshakeFailed);
}

#[tokio::test]
async fn an_https_port_that_comes_back_takes_its_connections_back() {
    let (waits, mut arrivals, may_answer) = patient().await;
    let (table, certificates) = (endpoints([("b", vec![waits])]), [key_pair(&["a.test"])]);
    let listeners = vec![https("a.test", "b", &certificates)];
    let drain_deadline = Duration::from_secs(1);
    let mut sides = Sides::with(HttpSettings { drain_deadline, ..HttpSettings::default() });
    // The second doesn't come back, so that its request tells when the deadline has passed.
    let ports = [free_address(), free_address()];
    let port = |address: SocketAddr| TlsPort {
        addresses: vec![address.ip()],
        port: address.port(),
        listeners: listeners.clone(),
    };
    sides.apply_ports(ports.map(port).into(), &table);
    let mut asked = Vec::new();
    for address in ports {
        let stream = session(address, "a.test", &[&certificates[0]], "http/1.1").await.unwrap();
        let mut client = http1(stream).await;
        asked.push(tokio::spawn(client.send_request(request("a.test", "/"))));
        arrivals.recv().await.unwrap();
    }
    sides.apply_ports(Vec::new(), &table);
    sides.apply_ports(vec![port(ports[0])], &table);
    let [stays, goes] = asked.try_into().unwrap();
    goes.await.unwrap().expect_err("its port is gone");
    may_answer.add_permits(2);
    let answer = Answer::read(stays.await.unwrap().unwrap()).await.unwrap();
    assert_eq!(answer.name(), "patient");
}
