//! Authorities, certificates, clients and configurations.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use l4way_model::{
    ClientValidation, Config, Hostname, KeyPair, Parts, Route, ServerTls, TlsListener, TlsMode,
    TlsOptions, TlsPort, TlsRoute,
};
use l4way_proxy::Proxy;
use l4way_session::{CloseReason, HandshakeSnapshot};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, SanType,
};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    crypto::aws_lc_rs, server::WebPkiClientVerifier,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};

use crate::common::{self, PATIENCE, listener_id, serve, settings};

/// Somebody who signs certificates.
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate for these names: of DNS, or a URI where there is a colon.
    pub(crate) fn sign(&self, names: &[&str]) -> Arc<KeyPair> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        let name = |name: &&str| match name.contains(':') {
            true => SanType::URI((*name).try_into().unwrap()),
            false => SanType::DnsName((*name).try_into().unwrap()),
        };
        params.subject_alt_names = names.iter().map(name).collect();
        params.distinguished_name.push(DnType::CommonName, names[0]);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        Arc::new(KeyPair {
            name: format!("test/{}", names[0]).into(),
            certificate_chain: pem.into(),
            private_key: key.serialize_pem().into(),
        })
    }

    pub(crate) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        roots
    }
}

fn der(pair: &KeyPair) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = CertificateDer::pem_slice_iter(pair.certificate_chain.as_bytes());
    let key = PrivateKeyDer::from_pem_slice(pair.private_key.as_bytes()).unwrap();
    (chain.map(Result::unwrap).collect(), key)
}

/// What a client is set up with.
pub(crate) fn client_config(
    authority: &Authority,
    certificate: Option<&KeyPair>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(authority.roots());
    Arc::new(match certificate.map(der) {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
        None => builder.with_no_client_auth(),
    })
}

pub(crate) fn any_client(authority: &Authority) -> Arc<ClientConfig> {
    client_config(authority, None, rustls::ALL_VERSIONS)
}

pub(crate) type Session = StreamOwned<ClientConnection, TcpStream>;

/// A client in the middle of nothing: its handshake is made by what it does first.
pub(crate) fn open(address: SocketAddr, name: &str, config: &Arc<ClientConfig>) -> Session {
    over(common::connect(address), name, config)
}

pub(crate) fn over(stream: TcpStream, name: &str, config: &Arc<ClientConfig>) -> Session {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    StreamOwned::new(ClientConnection::new(config.clone(), name).unwrap(), stream)
}

/// Sends bytes and awaits their echo.
pub(crate) fn ping(session: &mut Session, text: &str) -> io::Result<()> {
    session.write_all(text.as_bytes())?;
    session.flush()?;
    let mut reply = vec![0; text.len()];
    session.read_exact(&mut reply)?;
    assert_eq!(String::from_utf8(reply).unwrap(), text);
    Ok(())
}

/// An endpoint that ends TLS sessions itself; `serve` gets each.
pub(crate) fn tls_endpoint(
    pair: &KeyPair,
    clients: Option<&Authority>,
    with: impl Fn(StreamOwned<ServerConnection, TcpStream>) + Send + Sync + 'static,
) -> SocketAddr {
    let (chain, key) = der(pair);
    let provider: Arc<_> = aws_lc_rs::default_provider().into();
    let verifier = match clients {
        None => WebPkiClientVerifier::no_client_auth(),
        Some(authority) => {
            WebPkiClientVerifier::builder_with_provider(authority.roots().into(), provider.clone())
                .build()
                .unwrap()
        }
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    let config = Arc::new(config);
    serve(move |stream| {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        with(StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream));
    })
}

/// Sends back what comes, after a name, until the end or an error.
pub(crate) fn echo_after(
    name: &'static str,
) -> impl Fn(StreamOwned<ServerConnection, TcpStream>) + Send + Sync {
    move |mut stream| {
        let mut buffer = [0; 4096];
        let mut named = false;
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            if !std::mem::replace(&mut named, true) && stream.write_all(name.as_bytes()).is_err() {
                return;
            }
            if stream.write_all(&buffer[..n]).is_err() {
                return;
            }
        }
        stream.conn.send_close_notify();
        let _ = stream.flush();
    }
}

pub(crate) fn server_tls(certificates: &[&Arc<KeyPair>]) -> ServerTls {
    ServerTls {
        certificates: certificates.iter().map(|pair| (*pair).clone()).collect(),
        client_validation: None,
        options: TlsOptions::default(),
    }
}

pub(crate) fn validating(tls: ServerTls, authority: &Authority, optional: bool) -> ServerTls {
    let authorities = authority.pem.as_str().into();
    ServerTls { client_validation: Some(ClientValidation { authorities, optional }), ..tls }
}

pub(crate) fn hostname(name: &str) -> Option<Hostname> {
    (!name.is_empty()).then(|| Hostname::new(name))
}

/// Routes by the names that they are for; an empty one is any.
pub(crate) fn routes<'a>(routes: impl IntoIterator<Item = (&'a str, Route)>) -> Vec<TlsRoute> {
    let route = |(name, route)| TlsRoute { hostname: hostname(name), route };
    routes.into_iter().map(route).collect()
}

/// A listener, named as its hostname.
pub(crate) fn tls_listener(name: &str, mode: TlsMode) -> TlsListener {
    TlsListener {
        id: listener_id(if name.is_empty() { "any" } else { name }),
        hostname: hostname(name),
        handshake_timeout: Duration::from_secs(10),
        mode,
    }
}

pub(crate) fn passthrough(name: &str, backend: &str) -> TlsListener {
    let routes = routes([(name, common::route_to(backend))]);
    tls_listener(name, TlsMode::Passthrough { routes })
}

pub(crate) fn terminate(name: &str, tls: ServerTls, backend: &str) -> TlsListener {
    let routes = routes([(name, common::route_to(backend))]);
    tls_listener(name, TlsMode::Terminate { tls: Arc::new(tls), routes })
}

pub(crate) fn tls_config(address: SocketAddr, listeners: Vec<TlsListener>) -> Arc<Config> {
    let port = TlsPort { addresses: vec![address.ip()], port: address.port(), listeners };
    Arc::new(Parts { tls: vec![port], ..Parts::default() }.try_into().unwrap())
}

/// A proxy with one port of these listeners.
pub(crate) fn proxy<'a>(
    listeners: Vec<TlsListener>,
    backends: impl IntoIterator<Item = (&'a str, SocketAddr)>,
) -> (Proxy, SocketAddr) {
    proxy_with(settings(), listeners, backends)
}

pub(crate) fn proxy_with<'a>(
    settings: l4way_proxy::ProxySettings,
    listeners: Vec<TlsListener>,
    backends: impl IntoIterator<Item = (&'a str, SocketAddr)>,
) -> (Proxy, SocketAddr) {
    let mut proxy = Proxy::start(settings).unwrap();
    let address = common::free_address();
    let endpoints = endpoint_table(backends);
    common::all_bound(&proxy.apply(tls_config(address, listeners), &endpoints));
    (proxy, address)
}

pub(crate) fn endpoint_table<'a>(
    backends: impl IntoIterator<Item = (&'a str, SocketAddr)>,
) -> l4way_model::EndpointTable {
    common::endpoints(backends.into_iter().map(|(name, address)| (name, vec![address])))
}

/// How many handshakes failed for this reason.
pub(crate) fn failed(proxy: &Proxy, reason: CloseReason) -> u64 {
    let handshakes = proxy.counters().snapshot().handshakes;
    let failures = handshakes.iter().flat_map(HandshakeSnapshot::failed);
    failures.filter(|(known, _)| *known == reason).map(|(_, count)| count).sum()
}

/// Waits until one client was refused for this reason, in the handshakes and in the sessions.
pub(crate) fn expect_refusal(proxy: &Proxy, reason: CloseReason) {
    common::eventually(reason.as_str(), || failed(proxy, reason) == 1);
    common::eventually(reason.as_str(), || common::ended(proxy, reason) == 1);
    assert_eq!(common::total(proxy, |row| row.active()), 0);
}
