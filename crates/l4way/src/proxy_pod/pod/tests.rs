use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use clap::Parser;
use l4way_model::{
    GatewayId, Listener, ListenerId, Route, RouteId, ServicePort, Target, Transport, WeightedTarget,
};
use l4way_resources::api::{
    EndpointConditions, EndpointPort, EndpointSlice, ObjectMeta, SliceEndpoint,
};
use tokio::sync::mpsc;

use super::*;
use crate::{
    cli::{Cli, Command},
    delivery::Delivery,
    proxy_pod::{api_server::ApiServer, slices},
};

/// Where listeners are: an address that no other test takes ports of.
const POD: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 3);

/// A pod without an API server: what it follows is told to it by the test.
struct Harness {
    pod: Pod,
    answers: watch::Receiver<Option<Acknowledgement>>,
    _changes: mpsc::Receiver<Change>,
}

impl Harness {
    fn new() -> Self {
        let args = [
            "l4way",
            "proxy",
            "--name",
            "gw-l4way",
            "--namespace",
            "default",
            "--pod-name",
            "pod",
            "--pod-uid",
            "uid",
            "--pod-ips",
            "10.0.0.1",
            "--admin-address",
            "127.0.0.1:0",
            "--workers",
            "1",
        ];
        let Command::Proxy(args) = Cli::parse_from(args).command else { panic!("no proxy") };
        let serving = Serving::start(&args.sessions, args.admin_address).unwrap();
        let (watches, changes) = slices::Watches::new(ApiServer::absent());
        let (sender, answers) = watch::channel(None);
        let pod = Pod::new(&args, serving, watches, sender);
        Self { pod, answers, _changes: changes }
    }

    /// The hash of what is in force.
    fn hash(&self) -> Option<&str> {
        self.pod.in_force.as_ref().map(|in_force| &*in_force.hash)
    }

    /// The endpoints of a backend, as the data plane has them.
    fn endpoints(&self, backend: &BackendId) -> Vec<String> {
        let table = self.pod.in_force.as_ref().map(|in_force| &in_force.endpoints.table().0);
        let row = table.and_then(|table| table.get(backend)).cloned().unwrap_or_default();
        row.iter().map(|endpoint| endpoint.address.to_string()).collect()
    }

    fn answer(&self) -> Option<Acknowledgement> {
        self.answers.borrow().clone()
    }
}

fn backend(namespace: &str, name: &str) -> BackendId {
    BackendId {
        kind: "Service".into(),
        namespace: namespace.into(),
        name: name.into(),
        port: Some(5432),
        transport: Transport::Tcp,
    }
}

/// A configuration that sends what comes to `port` to the backend.
fn delivered(hash: &str, port: u16, backend: &BackendId, source: BackendSource) -> Arc<Delivered> {
    let route = Route {
        id: RouteId { kind: "TCPRoute".into(), namespace: "default".into(), name: "route".into() },
        targets: vec![WeightedTarget { weight: 1, target: Target::Backend(backend.clone()) }],
    };
    let listener = Listener {
        id: ListenerId {
            gateway: GatewayId::new("default", "gw"),
            listener_set: None,
            name: "db".into(),
        },
        transport: Transport::Tcp,
        addresses: vec![POD.into()],
        port,
        route: Some(route),
    };
    let config = Config::new([listener]).unwrap();
    let delivery = Delivery { config, backends: [(backend.clone(), source)].into() };
    Arc::new(Delivered { hash: hash.into(), delivery })
}

fn followed() -> BackendSource {
    BackendSource::Slices(ServicePort { name: "".into(), publish_not_ready: false })
}

fn slice(service: &str, address: SocketAddr) -> EndpointSlice {
    EndpointSlice {
        metadata: ObjectMeta {
            name: format!("{service}-1").into(),
            labels: [(EndpointSlice::SERVICE_NAME_LABEL.to_owned(), service.to_owned())].into(),
            ..ObjectMeta::default()
        },
        address_type: "IPv4".into(),
        endpoints: vec![SliceEndpoint {
            addresses: vec![address.ip().to_string().into()],
            conditions: EndpointConditions::default(),
            zone: None,
            hints: None,
        }],
        ports: vec![EndpointPort { port: Some(address.port()), ..EndpointPort::default() }],
    }
}

/// A port that nobody listens on.
fn free_port() -> u16 {
    TcpListener::bind((POD, 0)).unwrap().local_addr().unwrap().port()
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn a_configuration_is_in_force_when_its_endpoints_are_known() {
    let mut harness = Harness::new();
    let (db, web) = (backend("default", "db"), backend("other", "web"));
    assert_eq!(harness.pod.serving().phase(), Phase::Starting);

    harness.pod.deliver(delivered("one", free_port(), &db, followed()));
    assert_eq!(harness.hash(), None);
    let listed = vec![slice("db", address("10.0.0.2:5432"))];
    harness.pod.slices([Change::all("default", listed)].into_iter());
    assert_eq!(harness.hash(), Some("one"));
    assert_eq!(harness.endpoints(&db), ["10.0.0.2:5432"]);
    assert_eq!(harness.pod.serving().phase(), Phase::Serving);
    let answer = harness.answer().unwrap();
    assert_eq!((answer.hash.as_str(), answer.bound), ("one", 1));

    // The next one waits for another namespace, and what is in force goes on following.
    harness.pod.deliver(delivered("two", free_port(), &web, followed()));
    assert_eq!(harness.hash(), Some("one"));
    let moved = slice("db", address("10.0.0.3:5432"));
    harness.pod.slices([Change::one("default", moved)].into_iter());
    assert_eq!(harness.endpoints(&db), ["10.0.0.3:5432"]);
    harness.pod.slices([Change::all("other", Vec::new())].into_iter());
    assert_eq!(harness.hash(), Some("two"));
    assert_eq!(harness.endpoints(&web), [""; 0]);
}

#[tokio::test]
async fn a_backend_that_is_no_longer_named_is_followed_until_its_sessions_have_ended() {
    let mut harness = Harness::new();
    let (db, web) = (backend("default", "db"), backend("other", "web"));
    harness.pod.slices([Change::all("default", Vec::new())].into_iter());
    harness.pod.deliver(delivered("one", free_port(), &db, followed()));
    let listed = vec![slice("db", address("10.0.0.2:5432"))];
    harness.pod.slices([Change::all("default", listed)].into_iter());
    harness.pod.deliver(delivered("two", free_port(), &web, followed()));
    harness.pod.slices([Change::all("other", Vec::new())].into_iter());
    assert_eq!(harness.hash(), Some("two"));

    let moved = slice("db", address("10.0.0.3:5432"));
    harness.pod.slices([Change::one("default", moved)].into_iter());
    assert_eq!(harness.endpoints(&db), ["10.0.0.3:5432"]);
    // It has none.
    harness.pod.tick();
    assert_eq!(harness.endpoints(&db), [""; 0]);
    assert!(!harness.pod.slices.known().knows("default"), "it is no longer needed");
}

#[tokio::test]
async fn endpoints_on_the_own_host_are_refused_and_answered() {
    let mut harness = Harness::new();
    let db = backend("default", "db");
    harness.pod.deliver(delivered("one", free_port(), &db, followed()));
    let listed = vec![slice("db", address("169.254.169.254:80"))];
    harness.pod.slices([Change::all("default", listed)].into_iter());
    assert_eq!(harness.endpoints(&db), [""; 0]);
    let [(refused, sentence)] = &harness.answer().unwrap().refused_backends[..] else {
        panic!("{:?}", harness.answer())
    };
    assert_eq!(refused, &db);
    assert!(sentence.contains("169.254.169.254:80"), "{sentence}");

    let moved = slice("db", address("10.0.0.3:5432"));
    harness.pod.slices([Change::one("default", moved)].into_iter());
    assert_eq!(harness.endpoints(&db), ["10.0.0.3:5432"]);
    assert_eq!(harness.answer().unwrap().refused_backends, []);
}

#[tokio::test]
async fn a_pod_is_ready_while_a_listener_is_bound_and_until_it_leaves() {
    let mut harness = Harness::new();
    let (db, known) = (backend("default", "db"), || BackendSource::Known(Vec::new()));
    let taken = TcpListener::bind((POD, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    harness.pod.deliver(delivered("one", port, &db, known()));
    assert_eq!(harness.pod.serving().phase(), Phase::Starting);
    let answer = harness.answer().unwrap();
    assert_eq!((answer.bound, answer.failed.len()), (0, 1));

    drop(taken);
    harness.pod.tick();
    assert_eq!(harness.pod.serving().phase(), Phase::Serving);
    assert_eq!(harness.answer().unwrap().bound, 1);

    assert!(harness.pod.leave());
    harness.pod.deliver(delivered("two", free_port(), &db, known()));
    assert_eq!(harness.hash(), Some("two"));
    assert_eq!(harness.pod.serving().phase(), Phase::Leaving);
}

#[tokio::test]
async fn a_configuration_without_a_listener_is_ready() {
    let mut harness = Harness::new();
    let empty = Delivered { hash: "none".into(), delivery: Delivery::default() };
    harness.pod.deliver(Arc::new(empty));
    assert_eq!(harness.pod.serving().phase(), Phase::Serving);
}
