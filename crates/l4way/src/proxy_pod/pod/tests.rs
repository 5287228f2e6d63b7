use std::{
    cell::Cell,
    io::Read,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    rc::Rc,
    time::Duration,
};

use clap::Parser;
use l4way_delivery::{Contents, Logs};
use l4way_model::{
    GatewayId, KeyPair, Listener, ListenerId, Parts, Route, RouteId, ServerTls, ServicePort,
    Target, TlsListener, TlsMode, TlsOptions, TlsPort, Transport, WeightedTarget,
};
use l4way_resources::api::{
    EndpointConditions, EndpointPort, EndpointSlice, ObjectMeta, SliceEndpoint,
};
use tokio::sync::mpsc;

use super::*;
use crate::{
    admin::AdminPlaces,
    cli::{Cli, Command},
    proxy_pod::{api_server::ApiServer, slices},
};

/// Where listeners are: an address that no other test takes ports of.
const POD: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 3);

/// A pod without an API server: what it follows is told to it by the test.
struct Harness {
    pod: Pod,
    answers: watch::Receiver<Answer>,
    /// Whether key pairs are followed.
    follows_keys: Rc<Cell<bool>>,
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
        // Nobody asks for it.
        let socket = Some("/dev/null/admin.sock".into());
        let admin = AdminPlaces { address: args.admin_address, socket };
        let serving = Serving::start(&args.sessions, admin).unwrap();
        let (watches, changes) = slices::Watches::new(ApiServer::absent());
        let (sender, answers) = watch::channel(Answer::starting());
        let follows_keys = Rc::new(Cell::new(false));
        let follow = follows_keys.clone();
        let pod = Pod::new(&args, serving, watches, sender, move || follow.set(true));
        Self { pod, answers, follows_keys, _changes: changes }
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
        self.answers.borrow().acknowledgement.clone()
    }

    /// Why the latest document of this kind is refused.
    fn refused(&self, kind: DocumentKind) -> Option<String> {
        let answer = self.answers.borrow();
        answer.identity.refused.get(&kind).map(|refused| refused.refusal.message.clone())
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
fn delivered(
    hash: &str,
    port: u16,
    backend: &BackendId,
    source: BackendSource,
) -> Arrival<Delivery> {
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
    let backends = [(backend.clone(), source)].into();
    let (delivery, _) = written(&config, &backends);
    arrival(hash, delivery)
}

fn written(config: &Config, backends: &BTreeMap<BackendId, BackendSource>) -> (Delivery, KeyPairs) {
    let (logs, requires) = (Logs::default(), BTreeSet::new());
    Delivery::new(Contents { config, backends, logs: &logs, requires: &requires })
}

fn arrival<D>(hash: &str, document: D) -> Arrival<D> {
    Arrival { hash: hash.into(), document: Ok(Arc::new(document)) }
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
async fn where_nobody_answers_is_told_at_most_every_ten_seconds_and_only_if_it_is_different() {
    let mut harness = Harness::new();
    let db = backend("default", "db");
    let port = free_port();
    harness.pod.deliver(delivered("one", port, &db, followed()));
    // No way leads to a group (connect(2), ENETUNREACH).
    let listed = vec![slice("db", address("224.0.0.1:5432"))];
    harness.pod.slices([Change::all("default", listed)].into_iter());
    assert_eq!(harness.hash(), Some("one"));
    let mut client = TcpStream::connect((POD, port)).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap_or(0), 0, "the session has ended");

    let began = Instant::now();
    let told = |harness: &mut Harness, seconds| {
        harness.answers.mark_unchanged();
        harness.pod.tell_endpoints(began + Duration::from_secs(seconds));
        let is_told = harness.answers.has_changed().unwrap();
        is_told.then(|| harness.answers.borrow().endpoints.backends.len())
    };
    assert_eq!(told(&mut harness, 0), None);
    assert_eq!(told(&mut harness, 11), Some(1));
    assert_eq!(harness.answers.borrow().endpoints.backends[0].reason, "unreachable");
    assert_eq!(told(&mut harness, 30), None, "it is as it was");
    harness.pod.slices([Change::all("default", Vec::new())].into_iter());
    assert_eq!(told(&mut harness, 35), None);
    assert_eq!(told(&mut harness, 41), Some(0));
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
async fn one_outside_of_the_cluster_is_kept_as_long_and_not_when_it_is_deleted() {
    let mut harness = Harness::new();
    let (db, web) = (backend("default", "db"), backend("other", "web"));
    let known = || {
        let endpoint = l4way_model::EndpointSource::Address(address("192.0.2.1:5432").into());
        BackendSource::Known(vec![endpoint])
    };
    harness.pod.deliver(delivered("one", free_port(), &db, known()));
    harness.pod.deliver(delivered("two", free_port(), &web, known()));
    assert_eq!(harness.endpoints(&db), ["192.0.2.1:5432"], "it is no longer named");
    harness.pod.tick();
    assert_eq!(harness.endpoints(&db), [""; 0], "it has no sessions");

    harness.pod.deliver(delivered("three", free_port(), &db, known()));
    let gone = [(db.clone(), BackendSource::Known(Vec::new()))].into();
    let (delivery, _) = written(&Config::default(), &gone);
    harness.pod.deliver(arrival("four", delivery));
    assert_eq!((harness.hash(), harness.endpoints(&db)), (Some("four"), vec![]), "it is deleted");
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
    harness.pod.deliver(arrival("none", Delivery::default()));
    assert_eq!(harness.pod.serving().phase(), Phase::Serving);
}

/// A configuration with a TLS listener that shows the key pair of this name, and that key pair.
fn terminating(hash: &str, port: u16, name: &str, key: &str) -> (Arrival<Delivery>, KeyPairs) {
    let pair = KeyPair {
        name: name.into(),
        certificate_chain: format!("chain {key}").into(),
        private_key: format!("key {key}").into(),
    };
    let tls = ServerTls {
        certificates: vec![Arc::new(pair)],
        client_validation: None,
        options: TlsOptions::default(),
    };
    let listener = TlsListener {
        id: ListenerId {
            gateway: GatewayId::new("default", "gw"),
            listener_set: None,
            name: "tls".into(),
        },
        hostname: None,
        handshake_timeout: Duration::from_secs(10),
        mode: TlsMode::Terminate { tls: Arc::new(tls), routes: Vec::new() },
    };
    let tls = vec![TlsPort { addresses: vec![POD.into()], port, listeners: vec![listener] }];
    let config = Parts { tls, ..Parts::default() }.try_into().unwrap();
    let (delivery, keys) = written(&config, &BTreeMap::new());
    (arrival(hash, delivery), keys)
}

/// The keys that listeners show now.
fn shown(harness: &Harness) -> Vec<String> {
    let config = harness.pod.in_force.as_ref().map(|in_force| in_force.config.clone());
    let config = config.unwrap_or_default();
    config.key_pairs().map(|pair| pair.private_key.to_string()).collect()
}

fn invented() -> Refusal {
    Refusal {
        features: ["invented".to_owned()].into(),
        message: "it lacks the feature \"invented\"".to_owned(),
    }
}

#[tokio::test]
async fn a_configuration_waits_for_its_key_pairs() {
    let mut harness = Harness::new();
    let (config, keys) = terminating("one", free_port(), "default/cert", "old");
    assert!(!harness.follows_keys.get());
    harness.pod.deliver(config);
    assert!(harness.follows_keys.get());
    assert_eq!(harness.pod.waits_until(), None);
    assert_eq!(harness.hash(), None);

    harness.pod.deliver_keys(arrival("k1", keys));
    assert_eq!(harness.hash(), Some("one"));
    let answer = harness.answer().unwrap();
    assert_eq!((answer.hash.as_str(), answer.keys.as_deref()), ("one", Some("k1")));
}

#[tokio::test]
async fn certificates_are_renewed_and_endpoints_followed_while_a_configuration_is_refused() {
    let mut harness = Harness::new();
    let port = free_port();
    let (config, keys) = terminating("one", port, "default/cert", "old");
    harness.pod.deliver_keys(arrival("k1", keys));
    harness.pod.deliver(config);
    harness.pod.deliver(Arrival { hash: "two".into(), document: Err(invented()) });
    assert_eq!(harness.hash(), Some("one"));
    assert!(harness.refused(DocumentKind::Config).unwrap().contains("invented"));
    assert_eq!(harness.answer().unwrap().hash, "one");

    let (_, renewed) = terminating("", port, "default/cert", "new");
    harness.pod.deliver_keys(arrival("k2", renewed));
    assert_eq!(shown(&harness), ["key new"]);
    assert_eq!(harness.answer().unwrap().keys.as_deref(), Some("k2"));

    // What the refused configuration no longer names stays with the one in force.
    harness.pod.deliver_keys(arrival("k3", KeyPairs::default()));
    assert_eq!(shown(&harness), ["key new"]);

    let (config, keys) = terminating("three", port, "default/other", "other");
    harness.pod.deliver_keys(arrival("k4", keys));
    harness.pod.deliver(config);
    assert_eq!(harness.hash(), Some("three"));
    assert_eq!(harness.refused(DocumentKind::Config), None);
    assert_eq!(shown(&harness), ["key other"]);
}

#[tokio::test]
async fn key_pairs_that_cannot_be_read_change_nothing() {
    let mut harness = Harness::new();
    let (config, keys) = terminating("one", free_port(), "default/cert", "old");
    harness.pod.deliver_keys(arrival("k1", keys));
    harness.pod.deliver(config);
    harness.pod.deliver_keys(Arrival { hash: "k2".into(), document: Err(invented()) });
    assert_eq!(shown(&harness), ["key old"]);
    assert_eq!(harness.answer().unwrap().keys.as_deref(), Some("k1"));
    assert!(harness.refused(DocumentKind::Keys).is_some());
}

#[tokio::test]
async fn a_pod_that_refuses_its_first_configuration_is_not_ready() {
    let mut harness = Harness::new();
    harness.pod.deliver(Arrival { hash: "one".into(), document: Err(invented()) });
    assert_eq!(harness.pod.serving().phase(), Phase::Starting);
    assert_eq!(harness.answer(), None);
    let report = harness.pod.serving().publish(Arc::new(StatusReport::starting()));
    assert!(report.notes.iter().any(|note| note.contains("invented")), "{:?}", report.notes);
}
