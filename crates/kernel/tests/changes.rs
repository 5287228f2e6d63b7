//! What may change while the kernel carries sessions: the terms of a configuration, and records.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    fs::File,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsFd,
    process::Command,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use l4way_kernel::{KernelPath, KernelSettings, SourceAddress};
use l4way_model::{
    ApplyReport, BackendId, Config, EndpointTable, GatewayId, Listener, ListenerId, PathReport,
    Route, RouteId, SessionTerms, Target, Transport, WeightedTarget,
};
use l4way_proxy::Proxy;
use l4way_session::{CloseReason, RowSnapshot, Tap};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// How long anything may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(60);

const LISTENER: &str = "192.0.2.1:7000";
const ENDPOINT: &str = "192.0.2.2:6000";

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Puts this thread, and those that it starts, on a host of its own, which is gone with the last of
/// them.
fn enter_new_host(name: &str) {
    let name = format!("l4way-kernel-{}-{name}", std::process::id());
    let ip = |args: &[&str]| {
        let status = Command::new("ip").args(args).status().expect("ip is installed");
        assert!(status.success(), "ip {}: network namespaces need root", args.join(" "));
    };
    ip(&["netns", "add", &name]);
    ip(&["-n", &name, "link", "set", "lo", "up"]);
    for address in ["192.0.2.1/32", "192.0.2.2/32"] {
        ip(&["-n", &name, "addr", "add", address, "dev", "lo"]);
    }
    let namespace = File::open(format!("/run/netns/{name}")).unwrap();
    ip(&["netns", "del", &name]);
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
}

/// A proxy and the kernel path in front of it, with a listener of either protocol.
struct Bench {
    proxy: Proxy,
    kernel: Option<KernelPath>,
    terms: SessionTerms,
    /// What answers UDP.
    endpoint: UdpSocket,
}

impl Bench {
    /// Begins without the kernel path.
    fn new() -> Self {
        let tcp = TcpListener::bind(ENDPOINT).unwrap();
        thread::spawn(move || {
            for stream in tcp.incoming().map_while(Result::ok) {
                thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
            }
        });
        let endpoint = UdpSocket::bind(ENDPOINT).unwrap();
        endpoint.set_read_timeout(Some(PATIENCE)).unwrap();
        let proxy = Proxy::start(l4way_proxy::ProxySettings::default()).unwrap();
        let mut bench = Self { proxy, kernel: None, terms: SessionTerms::default(), endpoint };
        bench.apply();
        bench
    }

    fn start_kernel(&mut self, tap: Tap) {
        self.start_draining_kernel(tap, PATIENCE);
    }

    /// The same, where sessions have so long when their listener is gone.
    fn start_draining_kernel(&mut self, tap: Tap, drain_deadline: Duration) {
        let settings = KernelSettings {
            source_address: SourceAddress::Masquerade,
            drain_deadline,
            tap,
            counters: self.proxy.counters(),
        };
        self.kernel = Some(KernelPath::start(settings).unwrap());
        self.apply();
    }

    fn set_udp_timeout(&mut self, seconds: u64) {
        self.terms.udp_session_timeout = Duration::from_secs(seconds);
        self.apply();
    }

    fn apply(&mut self) {
        self.carry(&[listener(Transport::Tcp), listener(Transport::Udp)]);
    }

    fn carry(&mut self, listeners: &[Listener]) {
        let listeners = listeners.to_vec();
        let config = Arc::new(Config::new(listeners).unwrap().with_terms(self.terms));
        let endpoints = [Transport::Tcp, Transport::Udp].map(backend);
        let row = |id| (id, vec![address(ENDPOINT).into()].into());
        let endpoints = EndpointTable(endpoints.map(row).into());
        let bound = self.proxy.apply(config.clone(), &endpoints);
        let proxied = |ids: &[ListenerId]| self.proxy.udp_flows(ids);
        if let Some(kernel) = &mut self.kernel {
            let paths = kernel.apply(&config, &endpoints, &bound, &proxied);
            assert!(paths.values().all(|path| *path == PathReport::Kernel), "{paths:?}");
        }
    }

    /// Has the proxy carry these listeners from now on.
    fn leave_to_proxy(&mut self, listeners: &[Listener]) {
        let config = Config::new(listeners.to_vec()).unwrap().with_terms(self.terms);
        let endpoints = [Transport::Tcp, Transport::Udp].map(backend);
        let row = |id| (id, vec![address(ENDPOINT).into()].into());
        let endpoints = EndpointTable(endpoints.map(row).into());
        let kernel = self.kernel.as_mut().unwrap();
        // As if their ports weren't bound.
        let paths = kernel.apply(&config, &endpoints, &ApplyReport::default(), &|_| Vec::new());
        assert!(paths.values().all(|path| *path != PathReport::Kernel), "{paths:?}");
    }

    /// Looks until a session of each of these listeners has ended with it. A row that nobody needs any
    /// more is seen once.
    fn await_removed(&mut self, listeners: &[Listener]) {
        let deadline = Instant::now() + PATIENCE;
        let mut left: BTreeSet<_> = listeners.iter().map(|listener| &listener.id).collect();
        while !left.is_empty() {
            assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {left:?}");
            thread::sleep(Duration::from_millis(20));
            let kernel = self.kernel.as_mut().unwrap();
            kernel.tick();
            kernel.observer().refresh();
            for row in self.proxy.counters().snapshot().rows {
                if row.count(CloseReason::ListenerRemoved) > 0 {
                    left.remove(&row.labels.listener);
                }
            }
        }
    }

    /// A client's datagram and the answer. Returns whom the endpoint sees.
    fn exchange(&self, client: &UdpSocket) -> SocketAddr {
        client.send(b"Hello").unwrap();
        let mut datagram = [0; 16];
        let (length, from) = self.endpoint.recv_from(&mut datagram).unwrap();
        self.endpoint.send_to(&datagram[..length], from).unwrap();
        client.recv(&mut datagram).unwrap();
        from
    }

    /// The sum of a counter over the listener of a protocol.
    fn sum(&self, transport: Transport, count: impl Fn(&RowSnapshot) -> u64) -> u64 {
        if let Some(kernel) = &self.kernel {
            kernel.observer().refresh();
        }
        let rows = self.proxy.counters().snapshot().rows;
        rows.iter().filter(|row| row.labels.transport == transport).map(count).sum()
    }

    fn wait(&self, what: &str, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition() {
            assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn backend(transport: Transport) -> BackendId {
    let (kind, namespace, name) = ("Backend".into(), "test".into(), transport.to_string().into());
    BackendId { kind, namespace, name, port: None, transport }
}

fn listener(transport: Transport) -> Listener {
    let at = address(LISTENER);
    let id = RouteId { kind: "Route".into(), namespace: "test".into(), name: "r".into() };
    let target = Target::Backend(backend(transport));
    Listener {
        id: ListenerId {
            gateway: GatewayId::new("test", "gw"),
            listener_set: None,
            name: transport.to_string().into(),
        },
        transport,
        addresses: vec![at.ip()],
        port: at.port(),
        route: Some(Route { id, targets: vec![WeightedTarget { weight: 1, target }] }),
    }
}

fn udp_client() -> UdpSocket {
    let client = UdpSocket::bind("0.0.0.0:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.connect(address(LISTENER)).unwrap();
    client
}

fn ping(mut stream: &TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"Hello").unwrap();
    stream.read_exact(&mut [0; 5]).unwrap();
}

#[test]
fn another_udp_timeout_is_that_of_new_flows_and_ends_none() {
    enter_new_host("timeout");
    let mut bench = Bench::new();
    let proxied = udp_client();
    let by_proxy = bench.exchange(&proxied);
    bench.start_kernel(Tap::default());
    let tcp = TcpStream::connect(LISTENER).unwrap();
    ping(&tcp);
    let first = udp_client();
    let by_kernel = bench.exchange(&first);

    // The proxy's own session would end, too, were it silent for so long.
    bench.set_udp_timeout(4);
    assert_eq!(bench.exchange(&proxied), by_proxy, "the proxy's session stays with it");
    let second = udp_client();
    bench.exchange(&second);
    let timed_out = |row: &RowSnapshot| row.count(CloseReason::SessionTimeout);
    bench.wait("what is silent ends, but for the first", || {
        bench.sum(Transport::Udp, timed_out) == 2
    });
    assert_eq!(bench.exchange(&first), by_kernel);
    assert_eq!(bench.sum(Transport::Udp, |row| row.opened), 3);
    ping(&tcp);

    // A time that there has been before.
    bench.set_udp_timeout(60);
    bench.exchange(&udp_client());
    ping(&tcp);
    ping(&TcpStream::connect(LISTENER).unwrap());
    assert_eq!(bench.sum(Transport::Udp, RowSnapshot::active), 2);
    assert_eq!(bench.sum(Transport::Tcp, |row| row.opened), 2);
}

#[test]
fn records_are_switched_on_while_sessions_run() {
    enter_new_host("records");
    let mut bench = Bench::new();
    let tap = Tap::default();
    bench.start_kernel(tap.clone());
    let before = TcpStream::connect(LISTENER).unwrap();
    ping(&before);
    let is_behind = |bench: &mut Bench| bench.kernel.as_mut().unwrap().tick();
    assert!(!is_behind(&mut bench));

    let (send, written) = mpsc::sync_channel(16);
    tap.switch_on(Some(send));
    assert!(is_behind(&mut bench));
    bench.apply();
    assert!(!is_behind(&mut bench));
    let after = TcpStream::connect(LISTENER).unwrap();
    ping(&after);
    let client = after.local_addr().unwrap();
    drop(after);
    let record = written.recv_timeout(PATIENCE).unwrap();
    assert_eq!((record.downstream, record.reason), (client, CloseReason::Closed));

    let client = before.local_addr().unwrap();
    drop(before);
    let record = written.recv_timeout(PATIENCE).unwrap();
    assert_eq!((record.downstream, record.reason), (client, CloseReason::Closed));
    assert!(record.duration > Duration::ZERO);
}

#[test]
fn a_listener_that_comes_back_takes_its_sessions_back() {
    enter_new_host("returns");
    let mut bench = Bench::new();
    bench.start_draining_kernel(Tap::default(), Duration::from_secs(2));
    // The third goes with the others and doesn't come back: its session tells when the deadline has
    // passed.
    let listeners = [listener(Transport::Tcp), listener(Transport::Udp)];
    let mut witness = listener(Transport::Tcp);
    witness.id.name = "witness".into();
    witness.port += 1;
    let all = [&listeners[..], &[witness.clone()]].concat();
    bench.carry(&all);
    let tcp = TcpStream::connect(LISTENER).unwrap();
    let gone = TcpStream::connect((address(LISTENER).ip(), witness.port)).unwrap();
    [&tcp, &gone].into_iter().for_each(ping);
    let udp = udp_client();
    let by = bench.exchange(&udp);

    bench.carry(&[]);
    ping(&tcp);
    assert_eq!(bench.exchange(&udp), by);
    bench.carry(&listeners);
    bench.await_removed(&[witness]);
    ping(&tcp);
    assert_eq!(bench.exchange(&udp), by);
    assert_eq!(bench.sum(Transport::Udp, RowSnapshot::active), 1);

    // Those that the proxy carries when they go have sessions of the kernel, too.
    bench.leave_to_proxy(&listeners);
    ping(&tcp);
    bench.carry(&[]);
    bench.await_removed(&listeners);
}
