//! What ends the TLS sessions of clients.

use std::{collections::BTreeMap, sync::Arc};

use l4way_model::{Config, ListenerId, ServerTls, TlsListener, TlsMode};
use l4way_session::ClientIdentity;
use rustls::{
    ServerConfig,
    client::verify_server_name,
    crypto::aws_lc_rs::Ticketer,
    server::{
        ClientHello, NoServerSessionStorage, ParsedCertificate, ProducesTickets,
        ResolvesServerCert, WebPkiClientVerifier, danger::ClientCertVerifier,
    },
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::{
    POSTGRESQL,
    certificate::certified_key,
    client::{LetIn, verifier},
    identity::identity,
    provider::{provider_for, versions},
};

/// The application protocols of an HTTPS listener that names none.
const HTTP: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Ends the TLS sessions of a listener's clients. Cloning it is a few reference counts.
#[derive(Clone, Debug)]
pub struct Terminator {
    config: Arc<ServerConfig>,
    /// For clients that offer PostgreSQL's application protocol where the listener names none.
    postgresql: Option<Arc<ServerConfig>>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

impl Terminator {
    /// The configuration for a client that offers PostgreSQL's application protocol, or doesn't.
    pub fn config(&self, offers_postgresql: bool) -> &Arc<ServerConfig> {
        match &self.postgresql {
            Some(config) if offers_postgresql => config,
            _ => &self.config,
        }
    }

    /// Who a client is that has shown these certificates, the first its own.
    pub fn identify(&self, chain: &[CertificateDer<'_>]) -> Option<ClientIdentity> {
        let (own, intermediates) = chain.split_first()?;
        let verified = self.verifier.as_ref().is_some_and(|verifier| {
            verifier.verify_client_cert(own, intermediates, UnixTime::now()).is_ok()
        });
        identity(own, verified)
    }

    fn new(
        tls: &ServerTls,
        https: bool,
        tickets: Arc<dyn ProducesTickets>,
    ) -> Result<Self, String> {
        let certified = tls.certificates.iter().map(|pair| {
            let key = certified_key(pair).map_err(|why| format!("Secret {} {why}", pair.name));
            key.map(Arc::new)
        });
        let certified = certified.collect::<Result<Vec<_>, String>>()?;
        if certified.is_empty() {
            return Err("there is no certificate to end TLS sessions with".to_owned());
        }
        let verifier = tls.client_validation.as_ref().map(verifier).transpose()?;
        let asks = match (&verifier, &tls.client_validation) {
            (Some(verifier), Some(validation)) if validation.optional => {
                Arc::new(LetIn(verifier.clone()))
            }
            (Some(verifier), _) => verifier.clone(),
            (None, _) => WebPkiClientVerifier::no_client_auth(),
        };
        let options = &tls.options;
        let mut config = ServerConfig::builder_with_provider(provider_for(options))
            .with_protocol_versions(&versions(options))
            .map_err(|error| format!("TLS sessions can't be ended: {error}"))?
            .with_client_cert_verifier(asks)
            .with_cert_resolver(Arc::new(Chooser(certified)));
        config.alpn_protocols = match (&*options.alpn, https) {
            ([], true) => HTTP.map(<[u8]>::to_vec).to_vec(),
            (named, _) => named.iter().map(|protocol| protocol.as_bytes().to_vec()).collect(),
        };
        // Tickets need no memory here, and any worker can read them.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        if options.resumption {
            config.ticketer = tickets;
        } else {
            config.send_tls13_tickets = 0;
        }
        let postgresql = config.alpn_protocols.is_empty().then(|| {
            let mut config = config.clone();
            config.alpn_protocols = vec![POSTGRESQL.to_vec()];
            Arc::new(config)
        });
        Ok(Self { config: Arc::new(config), postgresql, verifier })
    }
}

/// What ends the TLS sessions of a configuration's listeners, made anew only where it differs.
#[derive(Debug, Default)]
pub struct Terminators(BTreeMap<ListenerId, Made>);

#[derive(Debug)]
struct Made {
    from: (Arc<ServerTls>, bool),
    /// A ticket holds what was checked of the client, so it is good for this listener only, and only
    /// while it checks the same.
    tickets: Option<Arc<dyn ProducesTickets>>,
    /// Or a sentence for a person.
    terminator: Result<Terminator, String>,
}

impl Terminators {
    /// Makes those of `config`, and forgets the others.
    pub fn update(&mut self, config: &Config) {
        let mut before = std::mem::take(&mut self.0);
        let listeners = config.tls_ports().iter().flat_map(|port| &port.listeners);
        for TlsListener { id, mode, .. } in listeners {
            let Some(tls) = mode.tls() else { continue };
            let from = (tls.clone(), matches!(mode, TlsMode::Https { .. }));
            let made = match before.remove(id) {
                Some(made) if made.from == from => made,
                known => Made::new(from, known),
            };
            self.0.insert(id.clone(), made);
        }
    }

    /// How a listener ends TLS sessions, if it does and can.
    pub fn get(&self, listener: &ListenerId) -> Option<&Terminator> {
        self.0.get(listener)?.terminator.as_ref().ok()
    }

    /// Why a listener can't end TLS sessions, if so.
    pub fn failure(&self, listener: &ListenerId) -> Option<&str> {
        self.0.get(listener)?.terminator.as_ref().err().map(String::as_str)
    }
}

impl Made {
    fn new(from: (Arc<ServerTls>, bool), before: Option<Self>) -> Self {
        let (tls, https) = &from;
        let same_clients = |made: &Self| made.from.0.client_validation == tls.client_validation;
        let tickets = before.filter(same_clients).and_then(|made| made.tickets);
        let tickets = tickets.map_or_else(Ticketer::new, Ok);
        let terminator = match &tickets {
            Ok(tickets) => Terminator::new(tls, *https, tickets.clone()),
            Err(error) => Err(format!("keys for session tickets can't be made: {error}")),
        };
        Self { tickets: tickets.ok(), terminator, from }
    }
}

/// Chooses among a listener's certificates; there is one at least.
#[derive(Debug)]
struct Chooser(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for Chooser {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // One that the client can't verify is as good as none.
        let usable =
            |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let fits = |key: &&Arc<CertifiedKey>| name.as_ref().is_some_and(|name| fits(key, name));
        let usable = || self.0.iter().filter(usable);
        usable().find(fits).or_else(|| usable().next()).or(self.0.first()).cloned()
    }
}

/// Whether the host is among the certificate's names.
fn fits(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let parsed = key.end_entity_cert().and_then(ParsedCertificate::try_from);
    parsed.is_ok_and(|certificate| verify_server_name(&certificate, name).is_ok())
}
