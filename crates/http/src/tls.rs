//! The TLS side of HTTPS listeners.

use std::{collections::BTreeMap, sync::Arc};

use l4way_model::{Config, HttpListener, KeyPair, ListenerId};
use rustls::{
    ServerConfig,
    client::verify_server_name,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{Acceptor, ClientHello, ParsedCertificate, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::io::AsyncWriteExt;
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use crate::{counters::HandshakeFailure, downstream::Downstream, host, table::Table};

const HTTP2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

/// A record with the fatal alert unrecognized_name (RFC 6066, section 3), before any keys.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// A TLS session with a client.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) stream: TlsStream<Downstream>,
    /// The host that the client asked for, in lower case.
    pub(crate) server_name: Option<String>,
    /// Whether it is to be HTTP/2.
    pub(crate) http2: bool,
}

/// Begins a TLS session as the listener that is for the client's host.
pub(crate) async fn accept(
    stream: Downstream,
    table: &Table,
) -> Result<Accepted, HandshakeFailure> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await;
    let mut start = start.map_err(|_| HandshakeFailure::Failed)?;
    let server_name = start.client_hello().server_name().map(host::normal);
    let listener = table.listener(server_name.as_deref());
    let Some(config) = listener.and_then(|listener| listener.tls.clone()) else {
        // The client may be gone already.
        let _ = start.io.write_all(&UNRECOGNIZED_NAME).await;
        let _ = start.io.shutdown().await;
        return Err(HandshakeFailure::UnrecognizedName);
    };
    let stream = start.into_stream(config).await.map_err(|_| HandshakeFailure::Failed)?;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(HTTP2);
    Ok(Accepted { stream, server_name, http2 })
}

/// What the HTTPS listeners show to clients, made anew only where it differs.
#[derive(Debug)]
pub(crate) struct Certificates {
    provider: Arc<CryptoProvider>,
    listeners: BTreeMap<ListenerId, Made>,
}

#[derive(Debug)]
struct Made {
    from: Vec<Arc<KeyPair>>,
    /// Or a sentence for a person.
    config: Result<Arc<ServerConfig>, String>,
}

impl Default for Certificates {
    fn default() -> Self {
        Self { provider: Arc::new(aws_lc_rs::default_provider()), listeners: BTreeMap::new() }
    }
}

impl Certificates {
    /// Makes those of `config`, and forgets the others.
    pub(crate) fn update(&mut self, config: &Config) {
        let mut before = std::mem::take(&mut self.listeners);
        let https = config.http_ports().iter().filter(|port| port.tls);
        for listener in https.flat_map(|port| &port.listeners) {
            let known =
                before.remove(&listener.id).filter(|made| made.from == listener.certificates);
            let made = known.unwrap_or_else(|| Made {
                from: listener.certificates.clone(),
                config: server_config(listener, &self.provider).map(Arc::new),
            });
            self.listeners.insert(listener.id.clone(), made);
        }
    }

    /// How a listener ends TLS sessions, if it can.
    pub(crate) fn config(&self, listener: &ListenerId) -> Option<Arc<ServerConfig>> {
        self.listeners.get(listener)?.config.as_ref().ok().cloned()
    }

    /// Why a listener can't end TLS sessions, if so.
    pub(crate) fn failure(&self, listener: &ListenerId) -> Option<&str> {
        self.listeners.get(listener)?.config.as_ref().err().map(String::as_str)
    }
}

fn server_config(
    listener: &HttpListener,
    provider: &Arc<CryptoProvider>,
) -> Result<ServerConfig, String> {
    let pairs = listener.certificates.iter().enumerate();
    let certified = pairs.map(|(index, pair)| {
        certified_key(pair, provider)
            .map(Arc::new)
            .map_err(|why| format!("certificate {} of listener {}: {why}", index + 1, listener.id))
    });
    let certified = certified.collect::<Result<Vec<_>, _>>()?;
    if certified.is_empty() {
        return Err(format!("listener {} has no certificate", listener.id));
    }
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("listener {}: {error}", listener.id))?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Chooser(certified)));
    config.alpn_protocols = vec![HTTP2.to_vec(), HTTP1.to_vec()];
    Ok(config)
}

/// Reads a key pair. What is wrong with it is said without showing any of it.
fn certified_key(pair: &KeyPair, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let chain = CertificateDer::pem_slice_iter(pair.certificate_chain.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| "the certificate is no PEM")?;
    let Some(first) = chain.first() else {
        return Err("there is no certificate in the PEM".to_owned());
    };
    ParsedCertificate::try_from(first).map_err(|_| "the certificate is no X.509 version 3")?;
    let key = PrivateKeyDer::from_pem_slice(pair.private_key.as_bytes())
        .map_err(|_| "the private key is no PEM of a PKCS #8, PKCS #1 or SEC1 key")?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            "the private key isn't the one of the certificate".to_owned()
        }
        _ => "the private key is of a kind that can't be used".to_owned(),
    })
}

/// Chooses among a listener's certificates; there is one at least.
#[derive(Debug)]
struct Chooser(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for Chooser {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let fits = |key: &&Arc<CertifiedKey>| name.as_ref().is_some_and(|name| fits(key, name));
        self.0.iter().find(fits).or(self.0.first()).cloned()
    }
}

/// Whether the host is among the certificate's names.
fn fits(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let parsed = key.end_entity_cert().and_then(ParsedCertificate::try_from);
    parsed.is_ok_and(|certificate| verify_server_name(&certificate, name).is_ok())
}
