//! Configurations, and waiting.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use ipnet::IpNet;
use l4way_http::{ErrorReason, HttpProxy, HttpSettings};
use l4way_model::{
    BackendId, Config, EndpointTable, GatewayId, Hostname, HttpListener, HttpPort, HttpRule,
    HttpTerms, ListenerId, ListenerReport, Parts, PathMatch, RefusedReason, Route, RouteId, Target,
    Transport, WeightedTarget,
};
use tokio::time::{Instant, sleep};

/// How long anything may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `condition` holds.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

/// An address of this host that nobody listens on and that no other test uses.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let [high, low] = (std::process::id() as u16).to_be_bytes();
    let test = NEXT.fetch_add(1, Ordering::Relaxed) % 200 + 10;
    let ip = Ipv4Addr::new(127, test as u8, high, low);
    TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap()
}

pub(crate) fn listener_id(name: &str) -> ListenerId {
    ListenerId { gateway: GatewayId::new("test", "gw"), listener_set: None, name: name.into() }
}

pub(crate) fn backend_id(name: &str) -> BackendId {
    BackendId {
        kind: "Service".into(),
        namespace: "test".into(),
        name: name.into(),
        port: Some(80),
        transport: Transport::Tcp,
    }
}

pub(crate) fn backend(name: &str) -> Target {
    Target::Backend(backend_id(name))
}

pub(crate) fn invalid() -> Target {
    Target::Refused(RefusedReason::InvalidBackend)
}

/// A rule for the paths below this one.
pub(crate) fn rule(path: &str, targets: impl IntoIterator<Item = (u32, Target)>) -> HttpRule {
    let weighted = |(weight, target)| WeightedTarget { weight, target };
    let id = RouteId { kind: "HTTPRoute".into(), namespace: "test".into(), name: path.into() };
    HttpRule {
        hostname: None,
        path: PathMatch::Prefix(path.into()),
        headers: Vec::new(),
        route: Route { id, targets: targets.into_iter().map(weighted).collect() },
    }
}

/// A rule for all paths, to one backend.
pub(crate) fn all_to(name: &str) -> Vec<HttpRule> {
    vec![rule("/", [(1, backend(name))])]
}

/// A listener, named as its hostname; an empty one means any host.
pub(crate) fn listener(hostname: &str, rules: Vec<HttpRule>) -> HttpListener {
    HttpListener {
        id: listener_id(hostname),
        hostname: (!hostname.is_empty()).then(|| Hostname::new(hostname)),
        rules,
    }
}

pub(crate) fn port(address: SocketAddr, listeners: Vec<HttpListener>) -> HttpPort {
    HttpPort { addresses: vec![address.ip()], port: address.port(), listeners }
}

pub(crate) fn config(ports: impl IntoIterator<Item = HttpPort>) -> Arc<Config> {
    let http = ports.into_iter().collect();
    Arc::new(Parts { http, ..Parts::default() }.try_into().unwrap())
}

pub(crate) fn endpoints<'a>(
    backends: impl IntoIterator<Item = (&'a str, Vec<SocketAddr>)>,
) -> EndpointTable {
    let row = |(name, addresses): (&str, Vec<SocketAddr>)| {
        let endpoints = addresses.into_iter().map(Into::into).collect::<Vec<_>>();
        (backend_id(name), endpoints.into())
    };
    EndpointTable(backends.into_iter().map(row).collect())
}

pub(crate) fn start() -> HttpProxy {
    HttpProxy::start(HttpSettings::default()).unwrap()
}

/// A proxy with one port, without TLS.
pub(crate) fn proxy_with<'a>(
    listeners: Vec<HttpListener>,
    backends: impl IntoIterator<Item = (&'a str, Vec<SocketAddr>)>,
) -> (HttpProxy, SocketAddr) {
    proxy_with_settings(HttpSettings::default(), listeners, backends)
}

/// The same, with these terms for requests.
pub(crate) fn proxy_with_terms<'a>(
    http_terms: HttpTerms,
    listeners: Vec<HttpListener>,
    backends: impl IntoIterator<Item = (&'a str, Vec<SocketAddr>)>,
) -> (HttpProxy, SocketAddr) {
    let mut proxy = start();
    let address = free_address();
    let config = (*config([port(address, listeners)])).clone().with_http_terms(http_terms);
    proxy.prepare(&config.into(), &endpoints(backends));
    let report = proxy.listen();
    assert!(report.values().all(|report| *report == ListenerReport::Bound), "{report:?}");
    (proxy, address)
}

/// Terms on which these networks are trusted.
pub(crate) fn trusting(networks: &[&str]) -> HttpTerms {
    let networks = networks.iter().map(|network| network.parse::<IpNet>().unwrap());
    HttpTerms { trusted_proxies: networks.collect() }
}

/// The same, with settings of its own.
pub(crate) fn proxy_with_settings<'a>(
    settings: HttpSettings,
    listeners: Vec<HttpListener>,
    backends: impl IntoIterator<Item = (&'a str, Vec<SocketAddr>)>,
) -> (HttpProxy, SocketAddr) {
    let mut proxy = HttpProxy::start(settings).unwrap();
    let address = free_address();
    apply(&mut proxy, [port(address, listeners)], &endpoints(backends));
    (proxy, address)
}

/// Applies what has to be bound.
pub(crate) fn apply(
    proxy: &mut HttpProxy,
    ports: impl IntoIterator<Item = HttpPort>,
    endpoints: &EndpointTable,
) {
    proxy.prepare(&config(ports), endpoints);
    let report = proxy.listen();
    let bound = report.values().all(|report| *report == ListenerReport::Bound);
    assert!(bound, "{report:?}");
}

/// How many requests weren't answered by an endpoint for this reason.
pub(crate) fn errors(proxy: &HttpProxy, reason: ErrorReason) -> u64 {
    proxy.counters().snapshot().rows.iter().map(|row| row.count(reason)).sum()
}
