//! NetworkPolicies, enforced: clients are pods, since no policy keeps a pod's own node out.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    os::fd::AsFd,
    thread,
    time::Duration,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};

use super::{Installed, cluster};
use crate::support::{
    Ask, Gateway, Namespace, PATIENCE, ask, ask_udp, echo, exists, gateway, get, parameters, route,
    server_saying_who, wait_for,
};

const SYSTEM: &str = "l4way-system";
/// The ports of proxies' and controllers' metrics.
const PROXY_METRICS: u16 = 19_902;
const CONTROLLER_METRICS: u16 = 9902;

/// Who may read metrics: pods of namespaces with this label.
const READERS: &str = "metrics: reader";
const OPTION: [&str; 2] = [
    "--set-json",
    r#"networkPolicy={"enabled":true,"metricsFrom":[{"namespaceSelector":{"matchLabels":{"metrics":"reader"}}}]}"#,
];

/// NetworkPolicies are enforced until this is dropped.
struct Enforced;

impl Enforced {
    fn new() -> Self {
        cluster("policies-enforced", &["yes"]).unwrap_or_else(|error| panic!("{error}"));
        Self
    }
}

impl Drop for Enforced {
    fn drop(&mut self) {
        let _ = cluster("policies-enforced", &["no"]);
    }
}

/// A pod from which clients connect.
struct Client<'a> {
    namespace: &'a Namespace,
}

impl<'a> Client<'a> {
    /// Makes one.
    fn new(namespace: &'a Namespace) -> Self {
        namespace.apply(&echo("client", "TCP"));
        namespace.available(&["client"]);
        Self { namespace }
    }

    /// Does something in the pod's network.
    fn here<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let pods = get(self.namespace.name(), &["pods", "--selector=app=client"]);
        let uid = pods["items"][0]["metadata"]["uid"].as_str().expect("the client's pod");
        let network = network_of(uid);
        let in_pod = || {
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("root may do that");
            work()
        };
        thread::scope(|scope| scope.spawn(in_pod).join().expect("no panic"))
    }

    /// A connection, which is waited for as long as SYNs go unanswered.
    fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let stream = self.here(|| TcpStream::connect_timeout(&to, PATIENCE))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// Whether packets to there get no answer, after a SYN and its first repetitions.
    fn is_shut_out(&self, to: SocketAddr) -> bool {
        let connected = self.here(|| TcpStream::connect_timeout(&to, Duration::from_secs(4)));
        matches!(connected, Err(error) if error.kind() == ErrorKind::TimedOut)
    }

    #[track_caller]
    fn reads_metrics(&self, of: SocketAddr) {
        let mut stream = self.connect(of).expect("it is let in");
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: l4way\r\nConnection: close\r\n\r\n")
            .expect("it is let in");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        assert!(text.contains("l4way_"), "{text}");
    }
}

/// The network namespace of a pod, by a process of it: its cgroup is called after its UID.
fn network_of(pod: &str) -> File {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let mut of_pod = processes.filter(|process| {
        let cgroups = fs::read_to_string(process.path().join("cgroup"));
        cgroups.is_ok_and(|cgroups| cgroups.contains(pod))
    });
    let process = of_pod.next().expect("a process of the pod").path();
    File::open(process.join("ns/net")).expect("its network")
}

/// The ports that the Gateway's policy lets everybody to.
fn open_ports(gw: Gateway<'_>) -> Vec<(u64, String)> {
    let policy = gw.owned("networkpolicy");
    let rules = policy["spec"]["ingress"].as_array().expect("rules").iter();
    let open = rules.filter(|rule| rule["from"].is_null());
    let ports = open.filter_map(|rule| rule["ports"].as_array()).flatten();
    let port = |port: &Value| {
        let protocol = port["protocol"].as_str().unwrap_or_default().to_owned();
        (port["port"].as_u64().unwrap_or_default(), protocol)
    };
    ports.map(port).collect()
}

fn answered(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"still there?\n")?;
    match stream.read(&mut [0; 256])? {
        0 => Err(ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

fn pod_address(gw: Gateway<'_>) -> IpAddr {
    gw.pods()[0].ip.parse().expect("its address")
}

fn controller_address() -> SocketAddr {
    let selector = "--selector=app.kubernetes.io/component=controller";
    let pods = get(SYSTEM, &["pods", selector, "--field-selector=status.phase=Running"]);
    let mut pods = pods["items"].as_array().expect("a list").iter();
    let stays = pods.find(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    let ip = stays.and_then(|pod| pod["status"]["podIP"].as_str()).expect("a controller");
    SocketAddr::new(ip.parse().expect("its address"), CONTROLLER_METRICS)
}

#[test]
fn listeners_are_for_everybody_and_metrics_for_those_who_are_named() {
    let _installed = Installed::with(&OPTION);
    let _enforced = Enforced::new();
    let [namespace, others] = ["policy", "policy-others"].map(Namespace::new);
    let readers = Namespace::with_labels("policy-readers", READERS);
    let (stranger, reader) = (Client::new(&others), Client::new(&readers));
    namespace.apply(
        &(gateway("gw", &[("tcp", "TCP", 9000), ("udp", "UDP", 9001)], "")
            + &echo("app", "TCP")
            + &echo("app-udp", "UDP")
            + &route("TCPRoute", "tcp", "gw/tcp", &[("app", 5000, 1)])
            + &route("UDPRoute", "udp", "gw/udp", &[("app-udp", 5000, 1)])),
    );
    namespace.available(&["app", "app-udp"]);
    let gw = Gateway::new(namespace.name(), "gw");
    let address = gw.programmed();
    for client in [&stranger, &reader] {
        let tcp = SocketAddr::new(address, 9000);
        wait_for("an answer", || match client.here(|| ask(tcp)) {
            Ok(Ask::Answer(answer)) if answer == "Hello from app!\n" => Ok(()),
            other => Err(format!("{other:?}")),
        });
        wait_for("an answer by UDP", || client.here(|| ask_udp(SocketAddr::new(address, 9001))));
    }
    let metrics = SocketAddr::new(pod_address(gw), PROXY_METRICS);
    for port in [metrics, controller_address()] {
        reader.reads_metrics(port);
        assert!(stranger.is_shut_out(port), "{port}");
    }
    assert!(reader.is_shut_out(SocketAddr::new(pod_address(gw), 9002)), "no listener has it");

    // Backends under default deny let the proxies in as the documentation says.
    let deny = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: default-deny}\n\
                spec: {podSelector: {matchLabels: {app: app}}, policyTypes: [Ingress]}\n";
    namespace.apply(deny);
    let in_vain = || stranger.here(|| ask(SocketAddr::new(address, 9000)));
    wait_for("the backend to be shut", || match in_vain() {
        Ok(Ask::Answer(answer)) => Err(answer),
        _ => Ok(()),
    });
    let admit = fs::read_to_string(crate::support::project("docs/kubernetes.md")).expect("docs");
    let (_, admit) =
        admit.split_once("<!-- policy of a backend -->\n```yaml\n").expect("the example");
    let (admit, _) = admit.split_once("```").expect("its end");
    namespace.apply(&admit.replace("GATEWAY_NAMESPACE", namespace.name()));
    wait_for("the backend to be open to proxies", || match in_vain() {
        Ok(Ask::Answer(answer)) if answer == "Hello from app!\n" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let pods = get(namespace.name(), &["pods", "--selector=app=app"]);
    let backend = pods["items"][0]["status"]["podIP"].as_str().expect("its address");
    let backend = SocketAddr::new(backend.parse().expect("an address"), 5000);
    assert!(stranger.is_shut_out(backend), "and to nobody else");
}

#[test]
fn sessions_outlast_their_listener_and_new_listeners_are_open_when_they_are_programmed() {
    let _installed = Installed::with(&OPTION);
    let _enforced = Enforced::new();
    let [namespace, others] = ["policy-listeners", "policy-clients"].map(Namespace::new);
    let client = Client::new(&others);
    let (reference, parameters) = parameters("gw", "{drainSeconds: 30}");
    let of = |ports: &[u16]| {
        let listeners: Vec<_> = ports.iter().map(|port| (format!("tcp-{port}"), *port)).collect();
        let listeners: Vec<_> =
            listeners.iter().map(|(name, port)| (&**name, "TCP", *port)).collect();
        gateway("gw", &listeners, &reference)
    };
    namespace.apply(
        &(parameters
            + &of(&[9000, 9100])
            + &server_saying_who("app", "TCP")
            + &route("TCPRoute", "route", "gw", &[("app", 5000, 1)])),
    );
    namespace.available(&["app"]);
    let gw = Gateway::new(namespace.name(), "gw");
    let outside = SocketAddr::new(gw.programmed(), 9000);
    wait_for("the application to answer", || match ask(outside) {
        Ok(Ask::Answer(_)) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    // Not by the Service: kube-proxy has a time of its own.
    let connected = |port: u16| {
        let to = SocketAddr::new(pod_address(gw), port);
        let mut stream = client.connect(to).expect("it is open");
        answered(&mut stream).expect("an answer");
        stream
    };
    let [mut stays, mut leaves] = [9000, 9100].map(connected);

    namespace.apply(&of(&[9000, 9200]));
    gw.programmed();
    let mut comes = connected(9200);
    let ports = [9000, 9100, 9200].map(|port| (port, "TCP".to_owned()));
    assert_eq!(open_ports(gw), ports, "the one that is gone has sessions");
    answered(&mut leaves).expect("its listener drains");
    io::copy(&mut leaves, &mut io::sink()).expect_err("its drain has ended");
    wait_for("the port to be closed", || {
        let ports = open_ports(gw);
        if ports.contains(&(9100, "TCP".to_owned())) { Err(format!("{ports:?}")) } else { Ok(()) }
    });
    let in_pod = SocketAddr::new(pod_address(gw), 9100);
    wait_for("packets to be dropped", || {
        if client.is_shut_out(in_pod) { Ok(()) } else { Err("they are answered") }
    });
    for stream in [&mut stays, &mut comes] {
        answered(stream).expect("it goes on");
    }
}

#[test]
fn it_is_taken_away_and_the_host_network_has_none() {
    let installed = Installed::with(&OPTION);
    let namespace = Namespace::new("policy-off");
    let (reference, object) = parameters("gw", "{hostNetwork: true}");
    namespace.apply(&object);
    let gw = namespace.deployed(610, &reference);
    gw.serves(610);
    let message = gw.wait("Programmed", "True", "Programmed");
    assert!(message.contains("No NetworkPolicy restricts"), "{message}");
    assert!(!exists(gw.namespace(), "networkpolicy", &gw.base()));
    namespace.apply(&gateway("gw", &[("tcp", "TCP", 610)], ""));
    wait_for("the policy", || {
        let there = exists(gw.namespace(), "networkpolicy", &gw.base());
        if there { Ok(()) } else { Err("there is none") }
    });
    assert!(exists(SYSTEM, "networkpolicy", "l4way-controller"));

    drop(installed);
    wait_for("no policy", || {
        let there = exists(gw.namespace(), "networkpolicy", &gw.base());
        if there { Err("there is one") } else { Ok(()) }
    });
    assert!(!exists(SYSTEM, "networkpolicy", "l4way-controller"));
    let message = gw.wait("Programmed", "True", "Programmed");
    assert_eq!(json!(message.contains("NetworkPolicy")), false);
}
