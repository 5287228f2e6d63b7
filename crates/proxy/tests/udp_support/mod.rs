//! A proxy with one UDP listener, and clients and backends that the test itself speaks for.
#![allow(dead_code, reason = "each test file uses some of it")]

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
        mpsc::{Receiver, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use l4way_model::{
    BackendId, Config, Endpoint, EndpointTable, GatewayId, Listener, ListenerId, ListenerReport,
    RefusedReason, Route, RouteId, SessionTerms, Target, Transport, WeightedTarget,
};
use l4way_proxy::{Proxy, ProxySettings};
use l4way_session::{CloseReason, RowSnapshot, SessionRecord, Tap};

/// How long to wait for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
pub(crate) const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub(crate) fn settings() -> ProxySettings {
    ProxySettings { workers: NonZeroUsize::new(2).expect("not 0"), ..ProxySettings::default() }
}

/// A socket that waits, but not for ever.
pub(crate) fn socket(ip: IpAddr) -> UdpSocket {
    let socket = UdpSocket::bind((ip, 0)).expect("a free port");
    socket.set_read_timeout(Some(PATIENCE)).expect("a valid timeout");
    socket
}

/// A client of `to`.
pub(crate) fn client(to: SocketAddr) -> UdpSocket {
    let ip = if to.is_ipv4() { LOCALHOST } else { "::1".parse().expect("an address") };
    let socket = socket(ip);
    socket.connect(to).expect("loopback is reachable");
    socket
}

/// The next datagram, and who sent it.
pub(crate) fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65_536];
    let (length, from) = socket.recv_from(&mut buffer).expect("a datagram in time");
    buffer.truncate(length);
    (buffer, from)
}

/// Whether nothing waits to be received.
pub(crate) fn is_silent(socket: &UdpSocket) -> bool {
    socket.set_nonblocking(true).expect("a socket can be non-blocking");
    let silent = socket.recv(&mut [0]).is_err();
    socket.set_nonblocking(false).expect("a socket can be blocking");
    silent
}

pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// A port that no other test uses: outside the range that the kernel gives out by itself.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Apart from that of other test processes, some of which run at the same time.
    let start = (std::process::id() % 100) as u16 * 100;
    loop {
        let port = 20_000 + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        let free = |ip: &str| UdpSocket::bind((ip, port)).is_ok();
        if free("0.0.0.0") && free("::") {
            return port;
        }
    }
}

pub(crate) fn backend(name: &str) -> BackendId {
    BackendId {
        kind: "Service".into(),
        namespace: "default".into(),
        name: name.into(),
        port: Some(53),
        transport: Transport::Udp,
    }
}

pub(crate) fn to(name: &str, weight: u32) -> WeightedTarget {
    WeightedTarget { weight, target: Target::Backend(backend(name)) }
}

pub(crate) fn refused(reason: RefusedReason, weight: u32) -> WeightedTarget {
    WeightedTarget { weight, target: Target::Refused(reason) }
}

pub(crate) fn route(targets: &[WeightedTarget]) -> Route {
    let id = RouteId { kind: "UDPRoute".into(), namespace: "default".into(), name: "route".into() };
    Route { id, targets: targets.to_vec() }
}

pub(crate) fn listener_id(name: &str) -> ListenerId {
    let gateway = GatewayId::new("default", "gateway");
    ListenerId { gateway, listener_set: None, name: name.into() }
}

/// A proxy under test, and what it was told last.
pub(crate) struct Bench {
    pub(crate) proxy: Proxy,
    pub(crate) records: Receiver<SessionRecord>,
    endpoints: EndpointTable,
    listener: Listener,
    terms: SessionTerms,
}

impl Bench {
    /// A proxy that listens on `ip` and sends everything to the backend `a`.
    pub(crate) fn new(ip: IpAddr, settings: ProxySettings) -> Self {
        let (sink, records) = sync_channel(4_096);
        let settings = ProxySettings { tap: Tap::to(sink), ..settings };
        let proxy = Proxy::start(settings).expect("threads and epoll");
        let listener = Listener {
            id: listener_id("dns"),
            transport: Transport::Udp,
            addresses: vec![ip],
            port: free_port(),
            route: Some(route(&[to("a", 1)])),
        };
        let (endpoints, terms) = (EndpointTable::default(), SessionTerms::default());
        let mut bench = Self { proxy, records, endpoints, listener, terms };
        bench.apply();
        bench
    }

    /// The same on 127.0.0.1 with a backend `a` of one endpoint, which is returned.
    pub(crate) fn with_backend(settings: ProxySettings) -> (Self, UdpSocket) {
        let endpoint = socket(LOCALHOST);
        let mut bench = Self::new(LOCALHOST, settings);
        bench.set_endpoints("a", &[&endpoint]);
        (bench, endpoint)
    }

    /// Where clients write to.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::new(self.listener.addresses[0], self.listener.port)
    }

    pub(crate) fn client(&self) -> UdpSocket {
        client(self.address())
    }

    pub(crate) fn set_endpoints(&mut self, name: &str, sockets: &[&UdpSocket]) {
        let address = |socket: &&UdpSocket| socket.local_addr().expect("a bound socket").into();
        self.set_addresses(name, sockets.iter().map(address).collect());
    }

    pub(crate) fn set_addresses(&mut self, name: &str, endpoints: Vec<Endpoint>) {
        self.endpoints.0.insert(backend(name), endpoints.into());
        self.proxy.update_endpoints(&self.endpoints);
    }

    /// Tells nothing of a backend's endpoints any more.
    pub(crate) fn forget_endpoints(&mut self, name: &str) {
        self.endpoints.0.remove(&backend(name));
        self.proxy.update_endpoints(&self.endpoints);
    }

    /// There is no such backend any more, from the next configuration on.
    pub(crate) fn delete_backend(&mut self, name: &str) {
        self.endpoints.0.remove(&backend(name));
    }

    pub(crate) fn set_route(&mut self, route: Option<Route>) {
        self.listener.route = route;
        self.apply();
    }

    pub(crate) fn rename_listener(&mut self, name: &str) {
        self.listener.id = listener_id(name);
        self.apply();
    }

    /// How long sessions may be silent from now on.
    pub(crate) fn set_session_timeout(&mut self, udp_session_timeout: Duration) {
        self.terms.udp_session_timeout = udp_session_timeout;
        self.apply();
    }

    pub(crate) fn apply(&mut self) {
        self.apply_config([self.listener.clone()]);
    }

    /// Has a listener on this address, with the same port, in the place of its own.
    pub(crate) fn replace_listener(&mut self, name: &str, ip: IpAddr) {
        let other =
            Listener { id: listener_id(name), addresses: vec![ip], ..self.listener.clone() };
        self.apply_config([other]);
    }

    pub(crate) fn remove_listener(&mut self) {
        self.apply_config([]);
    }

    fn apply_config(&mut self, listeners: impl IntoIterator<Item = Listener>) {
        let config = Arc::new(Config::new(listeners).expect("one listener").with_terms(self.terms));
        let report = self.proxy.apply(config, &self.endpoints);
        let bound = |report: &ListenerReport| *report == ListenerReport::Bound;
        assert!(report.listeners.values().all(bound), "not bound: {report:?}");
    }

    /// The sum of a counter over all rows.
    pub(crate) fn sum(&self, counter: impl Fn(&RowSnapshot) -> u64) -> u64 {
        self.proxy.counters().snapshot().rows.iter().map(counter).sum()
    }

    /// Sessions that ended, or datagrams that were refused, for this reason.
    pub(crate) fn count(&self, reason: CloseReason) -> u64 {
        self.sum(|row| row.count(reason))
    }

    pub(crate) fn active(&self) -> u64 {
        self.sum(RowSnapshot::active)
    }

    pub(crate) fn opened(&self) -> u64 {
        self.sum(|row| row.opened)
    }

    pub(crate) fn record(&self) -> SessionRecord {
        self.records.recv_timeout(PATIENCE).expect("a record in time")
    }
}

/// Sends `payload` and waits until it is at the endpoint; returns the address it came from.
pub(crate) fn carry(client: &UdpSocket, endpoint: &UdpSocket, payload: &[u8]) -> SocketAddr {
    client.send(payload).expect("loopback takes it");
    let (received, from) = receive(endpoint);
    assert!(received == payload, "{} bytes became {}", payload.len(), received.len());
    from
}

/// The same and back; checks that the reply comes from where the client wrote to.
pub(crate) fn round_trip(client: &UdpSocket, endpoint: &UdpSocket, payload: &[u8]) {
    let from = carry(client, endpoint, payload);
    endpoint.send_to(payload, from).expect("loopback takes it");
    let (received, from) = receive(client);
    assert!(received == payload, "{} bytes became {}", payload.len(), received.len());
    assert_eq!(from, client.peer_addr().expect("a connected client"));
}

/// How many sessions went to each backend.
pub(crate) fn opened_by_backend(bench: &Bench) -> BTreeMap<String, u64> {
    let rows = bench.proxy.counters().snapshot().rows;
    let named = rows.iter().filter_map(|row| Some((row.labels.backend.clone()?, row.opened)));
    named.map(|(backend, opened)| (backend.name.to_string(), opened)).collect()
}
