use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    BackendId, HttpPort, HttpRule, HttpTerms, KeyPair, ListenerId, Route, SessionTerms, TlsPort,
};

/// The transport protocol of a listener or backend port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Transport {
    /// TCP (RFC 9293).
    Tcp,
    /// UDP (RFC 768).
    Udp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// A port to listen on, on one or more addresses, and the route that its sessions take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Whose listener it is.
    pub id: ListenerId,
    /// TCP or UDP.
    pub transport: Transport,
    /// The addresses to bind, each at `port`; never empty.
    pub addresses: Vec<IpAddr>,
    /// The port to bind; never 0.
    pub port: u16,
    /// Where sessions go. Without a route the port is open all the same, and every session is
    /// refused.
    pub route: Option<Route>,
}

impl Listener {
    /// The sockets that the listener is bound on.
    pub fn binds(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.addresses.iter().map(|ip| SocketAddr::new(*ip, self.port))
    }
}

/// Everything that a proxy carries, but for the endpoints: its listeners, no two of which want the
/// same socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    listeners: BTreeMap<ListenerId, Listener>,
    tls: Vec<TlsPort>,
    http: Vec<HttpPort>,
    terms: SessionTerms,
    http_terms: HttpTerms,
    gateway_uid: Option<Arc<str>>,
}

/// What a [`Config`] is made of: its listeners, by what tells those of a port apart, and the terms of
/// their sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// TCP and UDP listeners: nothing, so each has a port to itself.
    pub listeners: Vec<Listener>,
    /// TLS and HTTPS listeners: the server name that a client asks for.
    pub tls: Vec<TlsPort>,
    /// HTTP listeners: the host of each request.
    pub http: Vec<HttpPort>,
    /// What holds for all sessions. The defaults, if a configuration doesn't say.
    pub terms: SessionTerms,
    /// What holds for all HTTP requests. The defaults, if a configuration doesn't say.
    pub http_terms: HttpTerms,
    /// The UID of the Gateway, in a cluster: by it HTTP requests are known that come back, to whichever of its
    /// proxies.
    pub gateway_uid: Option<Arc<str>>,
}

impl From<Config> for Parts {
    fn from(config: Config) -> Self {
        let Config { listeners, tls, http, terms, http_terms, gateway_uid } = config;
        let listeners = listeners.into_values().collect();
        Self { listeners, tls, http, terms, http_terms, gateway_uid }
    }
}

impl TryFrom<Parts> for Config {
    type Error = Box<DuplicateBind>;

    /// Fails if two listeners want the same address, port and transport.
    fn try_from(parts: Parts) -> Result<Self, Self::Error> {
        let Parts { listeners, tls, http, terms, http_terms, gateway_uid } = parts;
        let mut taken = BTreeMap::new();
        let mut take =
            |transport, bind, id: &ListenerId| match taken.insert((transport, bind), id.clone()) {
                Some(first) => Err(Box::new(DuplicateBind { bind, first, second: id.clone() })),
                None => Ok(()),
            };
        let mut config = Self { terms, http_terms, gateway_uid, ..Self::default() };
        for listener in listeners {
            for bind in listener.binds() {
                take(listener.transport, bind, &listener.id)?;
            }
            config.listeners.insert(listener.id.clone(), listener);
        }
        for port in tls {
            let Some(owner) = port.owner() else { continue };
            for bind in port.binds() {
                take(Transport::Tcp, bind, owner)?;
            }
            config.tls.push(port);
        }
        for port in http {
            let Some(first) = port.listeners.first() else { continue };
            for bind in port.binds() {
                take(Transport::Tcp, bind, &first.id)?;
            }
            config.http.push(port);
        }
        Ok(config)
    }
}

impl Config {
    /// A configuration of these TCP and UDP listeners.
    ///
    /// # Errors
    /// [`DuplicateBind`] if two of them want the same address, port and transport.
    pub fn new(listeners: impl IntoIterator<Item = Listener>) -> Result<Self, Box<DuplicateBind>> {
        Parts { listeners: listeners.into_iter().collect(), ..Parts::default() }.try_into()
    }

    /// The ports with TLS and HTTPS listeners.
    pub fn tls_ports(&self) -> &[TlsPort] {
        &self.tls
    }

    /// The ports with HTTP listeners.
    pub fn http_ports(&self) -> &[HttpPort] {
        &self.http
    }

    /// The same configuration on other terms.
    #[must_use]
    pub fn with_terms(self, terms: SessionTerms) -> Self {
        Self { terms, ..self }
    }

    /// The same configuration of the Gateway with this UID.
    #[must_use]
    pub fn with_gateway_uid(self, gateway_uid: Option<Arc<str>>) -> Self {
        Self { gateway_uid, ..self }
    }

    /// The UID of the Gateway, if there is one in a cluster.
    pub fn gateway_uid(&self) -> Option<&Arc<str>> {
        self.gateway_uid.as_ref()
    }

    /// The same configuration with other terms of HTTP requests.
    #[must_use]
    pub fn with_http_terms(self, http_terms: HttpTerms) -> Self {
        Self { http_terms, ..self }
    }

    /// What holds for all HTTP requests.
    pub fn http_terms(&self) -> &HttpTerms {
        &self.http_terms
    }

    /// What holds for all sessions.
    pub fn terms(&self) -> SessionTerms {
        self.terms
    }

    /// The ids of all listeners.
    pub fn listener_ids(&self) -> impl Iterator<Item = &ListenerId> {
        let tls = self.tls.iter().flat_map(|port| &port.listeners);
        let http = self.http.iter().flat_map(|port| &port.listeners);
        let ids = self.listeners.keys().chain(tls.map(|listener| &listener.id));
        ids.chain(http.map(|listener| &listener.id))
    }

    /// The routes of sessions: all but those of HTTP requests.
    pub fn session_routes(&self) -> impl Iterator<Item = &Route> {
        let tls = self.tls.iter().flat_map(|port| &port.listeners);
        let tls = tls.flat_map(|listener| listener.mode.routes()).map(|route| &route.route);
        self.listeners.values().filter_map(|listener| listener.route.as_ref()).chain(tls)
    }

    /// The rules of HTTP requests, of HTTPS listeners and others.
    pub fn http_rules(&self) -> impl Iterator<Item = &HttpRule> {
        let https = self.tls.iter().flat_map(|port| &port.listeners);
        let http = self.http.iter().flat_map(|port| &port.listeners);
        let https = https.flat_map(|listener| listener.mode.rules());
        https.chain(http.flat_map(|listener| &listener.rules))
    }

    /// The routes of all listeners.
    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.session_routes().chain(self.http_rules().map(|rule| &rule.route))
    }

    /// The key pairs that listeners and backends are shown, some of them several times.
    pub fn key_pairs(&self) -> impl Iterator<Item = &Arc<KeyPair>> {
        let listeners = self.tls.iter().flat_map(|port| &port.listeners);
        let shown = listeners.filter_map(|listener| listener.mode.tls());
        let shown = shown.flat_map(|tls| &tls.certificates);
        let to_backends = self.routes().flat_map(Route::backend_tls);
        shown.chain(to_backends.filter_map(|(_, tls)| tls.client_certificate.as_ref()))
    }

    /// The backends that sessions go to, some of them several times.
    pub fn session_backends(&self) -> impl Iterator<Item = &BackendId> {
        let targets = self.session_routes().flat_map(|route| &route.targets);
        targets.filter_map(|weighted| weighted.target.backend())
    }

    /// The TCP and UDP listeners, in the order of their ids.
    pub fn listeners(&self) -> impl ExactSizeIterator<Item = &Listener> {
        self.listeners.values()
    }

    /// The TCP or UDP listener with this id.
    pub fn listener(&self, id: &ListenerId) -> Option<&Listener> {
        self.listeners.get(id)
    }
}

/// Two listeners of one configuration want the same socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DuplicateBind {
    /// The socket that both want.
    pub bind: SocketAddr,
    /// The listener that came first.
    pub first: ListenerId,
    /// The one that came after it.
    pub second: ListenerId,
}

impl fmt::Display for DuplicateBind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "listeners {} and {} both want {}", self.first, self.second, self.bind)
    }
}

impl std::error::Error for DuplicateBind {}
