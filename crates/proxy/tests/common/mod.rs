//! What the tests of the data plane share: configurations, endpoints, and waiting.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use l4way_model::{
    ApplyReport, BackendId, Config, Endpoint, EndpointTable, GatewayId, Listener, ListenerId,
    ListenerReport, RefusedReason, Route, RouteId, SessionTerms, Target, Transport, WeightedTarget,
};
use l4way_proxy::{Proxy, ProxySettings};
use l4way_session::{CloseReason, RowSnapshot};
use socket2::{Domain, Socket, Type};

/// How long anything may take before a test gives up on it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `condition` holds.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(2));
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

pub(crate) fn backend(name: &str) -> BackendId {
    BackendId {
        kind: "Service".into(),
        namespace: "test".into(),
        name: name.into(),
        port: Some(80),
        transport: Transport::Tcp,
    }
}

pub(crate) fn route(targets: impl IntoIterator<Item = (u32, Target)>) -> Route {
    let weighted = |(weight, target)| WeightedTarget { weight, target };
    Route {
        id: RouteId { kind: "TCPRoute".into(), namespace: "test".into(), name: "route".into() },
        targets: targets.into_iter().map(weighted).collect(),
    }
}

/// A route to one backend.
pub(crate) fn route_to(name: &str) -> Route {
    route([(1, Target::Backend(backend(name)))])
}

pub(crate) fn refused(reason: RefusedReason) -> Target {
    Target::Refused(reason)
}

pub(crate) fn listener(name: &str, address: SocketAddr, route: Option<Route>) -> Listener {
    Listener {
        id: listener_id(name),
        transport: Transport::Tcp,
        addresses: vec![address.ip()],
        port: address.port(),
        route,
    }
}

pub(crate) fn config(listeners: impl IntoIterator<Item = Listener>) -> Arc<Config> {
    Arc::new(Config::new(listeners).unwrap())
}

pub(crate) fn endpoints<'a, E: Into<Endpoint>>(
    backends: impl IntoIterator<Item = (&'a str, Vec<E>)>,
) -> EndpointTable {
    let row = |(name, endpoints): (&str, Vec<E>)| {
        (backend(name), endpoints.into_iter().map(Into::into).collect::<Vec<_>>().into())
    };
    EndpointTable(backends.into_iter().map(row).collect())
}

pub(crate) fn settings() -> ProxySettings {
    ProxySettings { workers: NonZeroUsize::new(2).unwrap(), ..ProxySettings::default() }
}

/// A proxy with one listener, `l`, that leads to these endpoints of the backend `b`.
pub(crate) fn proxy_to(endpoint_addresses: Vec<SocketAddr>) -> (Proxy, SocketAddr) {
    proxy_with(settings(), endpoint_addresses)
}

pub(crate) fn proxy_with(
    settings: ProxySettings,
    addresses: Vec<SocketAddr>,
) -> (Proxy, SocketAddr) {
    let mut proxy = Proxy::start(settings).unwrap();
    let address = free_address();
    let config = config([listener("l", address, Some(route_to("b")))]);
    all_bound(&proxy.apply(config, &endpoints([("b", addresses)])));
    (proxy, address)
}

/// Carries the same as [`proxy_with`] with another connect timeout.
pub(crate) fn set_connect_timeout(
    proxy: &mut Proxy,
    address: SocketAddr,
    connect_timeout: Duration,
    addresses: Vec<SocketAddr>,
) {
    let config = Config::new([listener("l", address, Some(route_to("b")))]).unwrap();
    let config = config.with_terms(SessionTerms { connect_timeout, ..SessionTerms::default() });
    all_bound(&proxy.apply(Arc::new(config), &endpoints([("b", addresses)])));
}

pub(crate) fn all_bound(report: &ApplyReport) {
    let bound = report.listeners.values().all(|report| *report == ListenerReport::Bound);
    assert!(bound, "{report:?}");
}

/// The counters of all rows together.
pub(crate) fn total(proxy: &Proxy, count: impl Fn(&RowSnapshot) -> u64) -> u64 {
    proxy.counters().snapshot().rows.iter().map(count).sum()
}

/// How many sessions ended, or were refused, for this reason.
pub(crate) fn ended(proxy: &Proxy, reason: CloseReason) -> u64 {
    total(proxy, |row| row.count(reason))
}

/// An endpoint: each connection is served by `serve` in a thread of its own.
pub(crate) fn serve(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    serve_on((Ipv4Addr::LOCALHOST, 0).into(), serve)
}

pub(crate) fn serve_on(
    address: SocketAddr,
    serve: impl Fn(TcpStream) + Send + Sync + 'static,
) -> SocketAddr {
    let socket = TcpListener::bind(address).unwrap();
    let address = socket.local_addr().unwrap();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for connection in socket.incoming().map_while(Result::ok) {
            let serve = serve.clone();
            thread::spawn(move || serve(connection));
        }
    });
    address
}

/// An endpoint that sends back what it gets, until the end of it.
pub(crate) fn echo() -> SocketAddr {
    serve(echo_all)
}

pub(crate) fn echo_all(mut connection: TcpStream) {
    let mut reader = connection.try_clone().unwrap();
    // A peer that resets is part of some tests.
    let _ = io::copy(&mut reader, &mut connection);
}

/// An endpoint that says its name and ends.
pub(crate) fn named(name: &'static str) -> SocketAddr {
    serve(move |mut connection| {
        let _ = connection.write_all(name.as_bytes());
    })
}

/// An address where nobody listens.
pub(crate) fn closed_port() -> SocketAddr {
    free_address()
}

/// An endpoint that never answers: its accept queue is full, so that SYNs are dropped.
pub(crate) fn black_hole() -> (Socket, Vec<Socket>, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(localhost(), 0).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap();
    let fill = |_| {
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        client.set_nonblocking(true).unwrap();
        let _ = client.connect(&address);
        client
    };
    let clients = (0..8).map(fill).collect();
    (socket, clients, address.as_socket().unwrap())
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// All that comes from a connection until its end.
pub(crate) fn read_all(mut stream: &TcpStream) -> io::Result<String> {
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Sends a line and awaits its echo.
pub(crate) fn ping(mut stream: &TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).unwrap();
    let mut reply = vec![0; text.len()];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(String::from_utf8(reply).unwrap(), text);
}

/// Asserts that the connection is reset rather than ended.
pub(crate) fn assert_reset(stream: &TcpStream) {
    let error = read_all(stream).expect_err("a reset");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

/// Makes closing the connection a reset.
pub(crate) fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

pub(crate) fn localhost() -> IpAddr {
    Ipv4Addr::LOCALHOST.into()
}
