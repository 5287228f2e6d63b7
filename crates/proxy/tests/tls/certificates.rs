//! Certificates of either end, and sessions that are resumed.

use std::{sync::Arc, thread};

use l4way_model::{CipherSuite, ServerTls, TlsOptions, TlsVersion};
use l4way_proxy::{Proxy, ProxySettings};
use l4way_session::CloseReason;
use rustls::{HandshakeKind, ProtocolVersion};

use crate::{
    common::{echo, eventually, free_address, settings},
    support::*,
};

#[test]
fn a_new_certificate_is_the_next_handshakes_and_sessions_stay() {
    const CHANGES: usize = 100;
    let authority = Authority::new("ca");
    let pairs: Vec<_> = (0..2).map(|_| authority.sign(&["a.test"])).collect();
    let address = free_address();
    let endpoints = endpoint_table([("e", echo())]);
    let mut proxy = Proxy::start(settings()).unwrap();
    let config = |pair| tls_config(address, vec![terminate("a.test", server_tls(&[pair]), "e")]);
    proxy.apply(config(&pairs[0]), &endpoints);
    let client = any_client(&authority);
    let shown = |session: &mut Session| {
        ping(session, "hello").unwrap();
        session.conn.peer_certificates().unwrap()[0].clone()
    };
    let mut first = open(address, "a.test", &client);
    let before = shown(&mut first);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    // Without resumption, so that each is a full handshake.
                    let mut config = (*client).clone();
                    config.resumption = rustls::client::Resumption::disabled();
                    let config = Arc::new(config);
                    for _ in 0..CHANGES {
                        ping(&mut open(address, "a.test", &config), "hello").unwrap();
                    }
                })
            })
            .collect();
        for change in 1..=CHANGES {
            proxy.apply(config(&pairs[change % 2]), &endpoints);
            thread::yield_now();
        }
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
    proxy.apply(config(&pairs[1]), &endpoints);
    let mut config = (*client).clone();
    config.resumption = rustls::client::Resumption::disabled();
    assert_ne!(shown(&mut open(address, "a.test", &Arc::new(config))), before);
    ping(&mut first, "still there").unwrap();
    assert_eq!(failed(&proxy, CloseReason::HandshakeFailed), 0);
}

#[test]
fn sessions_are_resumed_at_any_worker_and_after_a_change_of_the_certificate() {
    let authority = Authority::new("ca");
    let pairs = [authority.sign(&["a.test"]), authority.sign(&["a.test"])];
    let address = free_address();
    let endpoints = endpoint_table([("e", echo())]);
    let mut proxy = Proxy::start(settings()).unwrap();
    let config = |pair| tls_config(address, vec![terminate("a.test", server_tls(&[pair]), "e")]);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        proxy.apply(config(&pairs[0]), &endpoints);
        let client = client_config(&authority, None, &[version]);
        let kind = || {
            let mut session = open(address, "a.test", &client);
            ping(&mut session, "hello").unwrap();
            session.conn.handshake_kind().unwrap()
        };
        assert_ne!(kind(), HandshakeKind::Resumed);
        assert!((0..20).all(|_| kind() == HandshakeKind::Resumed), "by two workers");
        proxy.apply(config(&pairs[1]), &endpoints);
        assert_eq!(kind(), HandshakeKind::Resumed);
    }
}

#[test]
fn a_session_is_not_resumed_where_more_is_asked_of_the_client() {
    let authority = Authority::new("ca");
    let own = authority.sign(&["a.test"]);
    let address = free_address();
    let endpoints = endpoint_table([("e", echo())]);
    let mut proxy = Proxy::start(settings()).unwrap();
    let config = |tls: ServerTls| tls_config(address, vec![terminate("a.test", tls, "e")]);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        proxy.apply(config(server_tls(&[&own])), &endpoints);
        let client = client_config(&authority, None, &[version]);
        ping(&mut open(address, "a.test", &client), "without a certificate").unwrap();
        ping(&mut open(address, "a.test", &client), "resumed").unwrap();
        proxy.apply(config(validating(server_tls(&[&own]), &authority, false)), &endpoints);
        ping(&mut open(address, "a.test", &client), "no longer").unwrap_err();
    }
}

#[test]
fn resumption_can_be_off() {
    let authority = Authority::new("ca");
    let own = authority.sign(&["a.test"]);
    let options = TlsOptions { resumption: false, ..TlsOptions::default() };
    let tls = ServerTls { options, ..server_tls(&[&own]) };
    let (_proxy, address) = proxy(vec![terminate("a.test", tls, "e")], [("e", echo())]);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = client_config(&authority, None, &[version]);
        for _ in 0..3 {
            let mut session = open(address, "a.test", &client);
            ping(&mut session, "hello").unwrap();
            assert_ne!(session.conn.handshake_kind(), Some(HandshakeKind::Resumed));
        }
    }
}

#[test]
fn versions_suites_and_protocols_are_as_the_options_say() {
    let authority = Authority::new("ca");
    let own = authority.sign(&["a.test"]);
    let options = TlsOptions {
        min_version: TlsVersion::Tls12,
        max_version: TlsVersion::Tls12,
        cipher_suites: vec![CipherSuite::EcdheEcdsaChacha20Poly1305Sha256],
        alpn: vec!["mqtt".into()],
        ..TlsOptions::default()
    };
    let tls = ServerTls { options, ..server_tls(&[&own]) };
    let (proxy, address) = proxy(vec![terminate("a.test", tls, "e")], [("e", echo())]);
    let offering = |protocols: &[&str]| {
        let mut config = (*any_client(&authority)).clone();
        config.alpn_protocols =
            protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config)
    };
    let mut session = open(address, "a.test", &offering(&["x", "mqtt"]));
    ping(&mut session, "hello").unwrap();
    assert_eq!(session.conn.protocol_version(), Some(ProtocolVersion::TLSv1_2));
    assert_eq!(session.conn.alpn_protocol(), Some(&b"mqtt"[..]));
    let suite = session.conn.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(suite, rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256);
    ping(&mut open(address, "a.test", &offering(&["x"])), "hello").unwrap_err();
    let newest = client_config(&authority, None, &[&rustls::version::TLS13]);
    ping(&mut open(address, "a.test", &newest), "hello").unwrap_err();
    eventually("they are counted", || failed(&proxy, CloseReason::HandshakeFailed) == 2);
}

#[test]
fn who_has_no_valid_certificate_is_kept_out_or_known() {
    let [authority, other] = ["ca", "other"].map(Authority::new);
    let own = authority.sign(&["a.test"]);
    let known = authority.sign(&["client.test", "spiffe://test/client"]);
    let unknown = other.sign(&["client.test"]);
    for optional in [false, true] {
        let (send, records) = std::sync::mpsc::sync_channel(16);
        let settings = ProxySettings { tap: l4way_session::Tap::to(send), ..settings() };
        let mut proxy = Proxy::start(settings).unwrap();
        let address = free_address();
        let tls = validating(server_tls(&[&own]), &authority, optional);
        let config = tls_config(address, vec![terminate("a.test", tls, "e")]);
        proxy.apply(config, &endpoint_table([("e", echo())]));
        let mut refused = 0;
        for (certificate, valid) in [(Some(&known), true), (Some(&unknown), false), (None, false)] {
            for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
                let certificate = certificate.map(|pair| &**pair);
                let client = client_config(&authority, certificate, &[version]);
                let mut session = open(address, "a.test", &client);
                let answered = ping(&mut session, "hello");
                assert_eq!(answered.is_ok(), valid || optional, "{answered:?}");
                drop(session);
                let record = records.recv().unwrap();
                let tls = record.tls.unwrap();
                assert_eq!(tls.server_name.as_deref(), Some("a.test"));
                if !valid && !optional {
                    refused += 1;
                    assert_eq!(record.reason, CloseReason::ClientCertificate);
                    continue;
                }
                assert_eq!(
                    tls.client.as_ref().map(|client| client.verified),
                    certificate.map(|_| valid)
                );
                if valid {
                    let client = tls.client.unwrap();
                    assert_eq!(client.subject, "CN=client.test");
                    let names = ["DNS:client.test", "URI:spiffe://test/client"];
                    assert_eq!(client.alternative_names, names);
                }
            }
        }
        assert_eq!(failed(&proxy, CloseReason::ClientCertificate), refused);
    }
}
