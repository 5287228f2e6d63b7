use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    time::Instant,
};

use l4way_model::{
    GatewayId, HttpListener, HttpPort, Listener, ListenerId, ListenerReport, Parts, Transport,
};

use super::*;

/// How long to wait for something that has to happen.
const PATIENCE: Duration = Duration::from_secs(60);

fn start() -> DataPlane {
    DataPlane::start(l4way_proxy::ProxySettings::default(), l4way_http::HttpSettings::default())
        .unwrap()
}

fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::new(127, 77, 0, 2), 0)).unwrap().local_addr().unwrap()
}

fn id(name: &str) -> ListenerId {
    ListenerId { gateway: GatewayId::new("default", "gw"), listener_set: None, name: name.into() }
}

/// A TCP listener on one address and an HTTP listener on the other.
fn config(tcp: SocketAddr, http: SocketAddr) -> Arc<Config> {
    let tcp = Listener {
        id: id("tcp"),
        transport: Transport::Tcp,
        addresses: vec![tcp.ip()],
        port: tcp.port(),
        route: None,
    };
    let listener = HttpListener { id: id("http"), hostname: None, rules: vec![] };
    let http =
        HttpPort { addresses: vec![http.ip()], port: http.port(), listeners: vec![listener] };
    let parts = Parts { listeners: vec![tcp], http: vec![http], ..Parts::default() };
    Arc::new(parts.try_into().unwrap())
}

/// What HTTP says there; nothing from a TCP listener without a route.
fn ask(address: SocketAddr) -> String {
    let mut answer = String::new();
    let asked = TcpStream::connect(address).and_then(|mut stream| {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: any\r\nConnection: close\r\n\r\n")?;
        stream.read_to_string(&mut answer)
    });
    asked.map(|_| answer).unwrap_or_default()
}

#[test]
fn two_ports_change_sides_in_one_step() {
    let mut data_plane = start();
    let (one, two) = (free_address(), free_address());
    for (tcp, http) in [(one, two), (two, one), (one, two)] {
        let report = data_plane.apply(config(tcp, http), &EndpointTable::default());
        assert_eq!(report.listeners.len(), 2);
        let bound = report.listeners.values().all(|report| *report == ListenerReport::Bound);
        assert!(bound, "{report:?}");
        assert!(ask(http).starts_with("HTTP/1.1 404"));
        assert_eq!(ask(tcp), "");
    }
}

#[test]
fn ports_of_either_side_are_tried_again() {
    let mut data_plane = start();
    let (tcp, http) = (free_address(), free_address());
    let mut holders = vec![TcpListener::bind(http).unwrap(), TcpListener::bind(tcp).unwrap()];
    data_plane.apply(config(tcp, http), &EndpointTable::default());
    assert_eq!(data_plane.retry_failed(), None);
    for bound in 1..=2 {
        holders.pop();
        let report = data_plane.retry_failed().expect("a port is free now");
        assert_eq!(report.listeners.len(), 2);
        let reports = report.listeners.values();
        let now = reports.filter(|report| **report == ListenerReport::Bound).count();
        assert_eq!(now, bound, "{report:?}");
    }
}

#[test]
fn both_sides_drain() {
    let mut data_plane = start();
    let (tcp, http) = (free_address(), free_address());
    data_plane.apply(config(tcp, http), &EndpointTable::default());
    let mut stream = TcpStream::connect(http).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while data_plane.active_sessions() == 0 {
        assert!(Instant::now() < deadline, "the connection isn't there");
        std::thread::yield_now();
    }
    data_plane.drain(Duration::from_secs(3_600));
    assert!(!data_plane.is_drained(), "its first request may be on its way");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: any\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    while !data_plane.is_drained() {
        assert!(Instant::now() < deadline, "it isn't drained");
        std::thread::yield_now();
    }
}
