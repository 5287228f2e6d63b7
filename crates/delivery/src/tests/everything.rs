//! A configuration in which nothing is at its default, and one in which all is that may be.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc, time::Duration};

use l4way_model::{
    AlternativeName, AtLimit, Authorities, BackendId, BackendSource, BackendTls, CipherSuite,
    ClientValidation, Config, Endpoint, EndpointAddress, EndpointSource, GatewayId, HeaderMatch,
    Hostname, HttpListener, HttpPort, HttpRule, KeyPair, Listener, ListenerId, Parts, PathMatch,
    RefusedReason, Route, RouteId, ServerTls, ServicePort, SessionTerms, Target, TlsListener,
    TlsMode, TlsOptions, TlsPort, TlsRoute, TlsVersion, Transport, WeightedTarget,
};

use crate::Logs;

fn id(name: &str) -> ListenerId {
    ListenerId { gateway: GatewayId::new("team", "gw"), listener_set: None, name: name.into() }
}

fn backend(kind: &str, name: &str, port: Option<u16>, transport: Transport) -> BackendId {
    BackendId { kind: kind.into(), namespace: "team".into(), name: name.into(), port, transport }
}

fn db() -> BackendId {
    backend("Service", "db", Some(5432), Transport::Tcp)
}

fn route(kind: &str, targets: impl IntoIterator<Item = (u32, Target)>) -> Route {
    let targets = targets.into_iter().map(|(weight, target)| WeightedTarget { weight, target });
    Route {
        id: RouteId { kind: kind.into(), namespace: "team".into(), name: "route".into() },
        targets: targets.collect(),
    }
}

pub(super) fn pair(name: &str) -> Arc<KeyPair> {
    Arc::new(KeyPair {
        name: name.into(),
        certificate_chain: format!("chain of {name}").into(),
        private_key: format!("key of {name}").into(),
    })
}

fn server(certificates: &[&str]) -> ServerTls {
    ServerTls {
        certificates: certificates.iter().map(|name| pair(name)).collect(),
        client_validation: None,
        options: TlsOptions::default(),
    }
}

fn plain() -> Vec<Listener> {
    let any = vec![Ipv4Addr::UNSPECIFIED.into()];
    let in_set =
        ListenerId { listener_set: Some(("apps".into(), "more".into())), ..id("from-a-set") };
    let targets = [(3, Target::Backend(db())), (1, Target::Refused(RefusedReason::InvalidBackend))];
    vec![
        Listener {
            id: id("tcp"),
            transport: Transport::Tcp,
            addresses: any.clone(),
            port: 9000,
            route: Some(route("TCPRoute", targets)),
        },
        Listener {
            id: in_set,
            transport: Transport::Udp,
            addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            port: 53,
            route: None,
        },
    ]
}

fn tls_listener(name: &str, hostname: Option<&str>, mode: TlsMode) -> TlsListener {
    TlsListener {
        id: id(name),
        hostname: hostname.map(Hostname::new),
        handshake_timeout: Duration::from_secs(10),
        mode,
    }
}

fn tls() -> TlsPort {
    let validation =
        ClientValidation { authorities: "authorities of clients".into(), optional: true };
    let options = TlsOptions {
        min_version: TlsVersion::Tls13,
        max_version: TlsVersion::Tls13,
        cipher_suites: vec![CipherSuite::Aes256GcmSha384],
        alpn: vec!["mqtt".into()],
        resumption: false,
    };
    let strict =
        ServerTls { client_validation: Some(validation), options, ..server(&["team/a", "team/b"]) };
    let to_backend = BackendTls {
        server_name: "db.example".into(),
        alternative_names: vec![
            AlternativeName::Dns("other.example".into()),
            AlternativeName::Uri("spiffe://example/db".into()),
        ],
        authorities: Authorities::These("authorities of db".into()),
        client_certificate: Some(pair("team/client")),
    };
    let named = |hostname: Option<&str>, target| TlsRoute {
        hostname: hostname.map(Hostname::new),
        route: route("TLSRoute", [(1, target)]),
    };
    let terminate = TlsMode::Terminate {
        tls: Arc::new(strict),
        routes: vec![
            named(Some("db.example"), Target::TlsBackend(db(), Arc::new(to_backend))),
            named(None, Target::Backend(backend("Backend", "out", None, Transport::Tcp))),
        ],
    };
    let passthrough =
        TlsMode::Passthrough { routes: vec![named(Some("*.pass.example"), Target::Backend(db()))] };
    let https = TlsMode::Https { tls: Arc::new(server(&["team/web"])), rules: rules() };
    let mut terminate = tls_listener("terminate", Some("db.example"), terminate);
    terminate.handshake_timeout = Duration::from_millis(2_500);
    TlsPort {
        addresses: vec![Ipv4Addr::UNSPECIFIED.into()],
        port: 443,
        listeners: vec![
            terminate,
            tls_listener("pass", Some("*.pass.example"), passthrough),
            tls_listener("web", None, https),
            tls_listener("broken", Some("broken.example"), TlsMode::Refused),
        ],
    }
}

fn rules() -> Vec<HttpRule> {
    let header = HeaderMatch { name: "x-canary".into(), value: "yes".into() };
    let to_system = BackendTls {
        server_name: "web.example".into(),
        alternative_names: Vec::new(),
        authorities: Authorities::System,
        client_certificate: None,
    };
    vec![
        HttpRule {
            hostname: Some(Hostname::new("web.example")),
            path: PathMatch::Exact("/exact".into()),
            headers: vec![header],
            route: route("HTTPRoute", [(1, Target::TlsBackend(db(), Arc::new(to_system)))]),
        },
        HttpRule {
            hostname: None,
            path: PathMatch::Prefix("/".into()),
            headers: Vec::new(),
            route: route("HTTPRoute", [(0, Target::Backend(db()))]),
        },
    ]
}

pub(super) fn terms() -> SessionTerms {
    SessionTerms {
        connect_timeout: Duration::from_secs(7),
        udp_session_timeout: Duration::from_secs(77),
        at_limit: AtLimit::Wait,
    }
}

pub(super) fn logs() -> Logs {
    Logs { level: "debug".into(), format: "text".into(), access_log: true }
}

/// A listener of each kind, with all that they can have.
pub(super) fn config() -> Config {
    let http = HttpPort {
        addresses: vec![Ipv4Addr::UNSPECIFIED.into()],
        port: 80,
        listeners: vec![HttpListener {
            id: id("http"),
            hostname: Some(Hostname::new("*.example")),
            rules: rules(),
        }],
    };
    let parts = Parts {
        listeners: plain(),
        tls: vec![tls()],
        http: vec![http],
        terms: terms(),
        ..Parts::default()
    };
    parts.try_into().unwrap()
}

/// Backends with endpoints of every kind.
pub(super) fn backends() -> BTreeMap<BackendId, BackendSource> {
    let known = vec![
        EndpointSource::Address(Endpoint::from(
            "192.0.2.7:5432".parse::<std::net::SocketAddr>().unwrap(),
        )),
        EndpointSource::Address(Endpoint {
            address: EndpointAddress::Unix(Arc::new("/run/db.sock".into())),
        }),
        EndpointSource::Dns { hostname: "db.example".into(), port: 5432 },
    ];
    let slices =
        BackendSource::Slices(ServicePort { name: "postgres".into(), publish_not_ready: true });
    let unnamed = BackendSource::Slices(ServicePort { name: "".into(), publish_not_ready: false });
    [
        (db(), slices),
        (backend("Service", "web", Some(80), Transport::Tcp), unnamed),
        (backend("Backend", "out", None, Transport::Tcp), BackendSource::Known(known)),
    ]
    .into()
}
