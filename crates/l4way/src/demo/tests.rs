use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use l4way_resources::{
    AnyObject, Snapshot,
    api::{EndpointSlice, ObjectKey},
};
use serde_json::{Value, json};

use super::Demo;

/// How long to wait for something that has to happen.
const PATIENCE: Duration = Duration::from_secs(60);

fn deployment(name: &str, replicas: u32, containers: &Value) -> AnyObject {
    object(
        "Deployment",
        json!({
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name, "tier": "demo"}},
                    "spec": {"containers": containers},
                },
            },
        }),
    )
}

fn echo(port: u16, args: &[&str]) -> Value {
    let listen = format!(":{port}");
    let args: Vec<&str> = ["-listen", &listen].into_iter().chain(args.iter().copied()).collect();
    json!({"name": "echo", "args": args})
}

fn service(name: &str, app: &str, ports: &Value) -> AnyObject {
    object(
        "Service",
        json!({
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"selector": {"app": app}, "ports": ports},
        }),
    )
}

fn object(kind: &str, value: Value) -> AnyObject {
    AnyObject::from_value(kind, &value).unwrap().unwrap()
}

/// Applies the objects; panics if there is something to say about them.
fn apply(demo: &mut Demo, objects: impl IntoIterator<Item = AnyObject>) -> Snapshot {
    let mut snapshot: Snapshot = objects.into_iter().collect();
    assert_eq!(demo.apply(&mut snapshot), []);
    snapshot
}

/// The addresses that the slices give a Service's port.
fn endpoints(snapshot: &Snapshot, service: &str, port: &str) -> Vec<SocketAddr> {
    let slices = snapshot.endpoint_slices.values();
    let slices = slices.filter(|slice| slice.service_name() == Some(service));
    slices.flat_map(|slice| slice_endpoints(slice, port)).collect()
}

fn slice_endpoints(slice: &EndpointSlice, port: &str) -> Vec<SocketAddr> {
    let Some(port) = slice.ports.iter().find(|named| named.name.as_deref() == Some(port)) else {
        return Vec::new();
    };
    let ips = slice.endpoints.iter().map(|endpoint| endpoint.ip().unwrap());
    ips.map(|ip| SocketAddr::new(ip, port.port.unwrap())).collect()
}

fn only(endpoints: Vec<SocketAddr>) -> SocketAddr {
    assert_eq!(endpoints.len(), 1, "{endpoints:?}");
    endpoints[0]
}

/// What the server answers on a new connection to "hello", and the connection.
fn hello(endpoint: SocketAddr, answer: &str) -> TcpStream {
    let mut stream = TcpStream::connect(endpoint).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"hello").unwrap();
    expect(&mut stream, answer);
    stream
}

fn expect(stream: &mut TcpStream, answer: &str) {
    let mut received = vec![0; answer.len()];
    stream.read_exact(&mut received).unwrap();
    assert_eq!(String::from_utf8_lossy(&received), answer);
}

fn expect_end(mut stream: TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
}

fn udp_answer(endpoint: SocketAddr, datagram: &[u8]) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(endpoint).unwrap();
    socket.send(datagram).unwrap();
    let mut buffer = [0; 2048];
    let length = socket.recv(&mut buffer).unwrap();
    buffer[..length].to_vec()
}

#[test]
fn a_text_is_sent_once_after_the_first_bytes_and_the_connection_stays() {
    let mut demo = Demo::start().unwrap();
    let snapshot = apply(
        &mut demo,
        [
            deployment("a", 1, &json!([echo(5000, &["-text", "Hello from TCP Echo!"])])),
            service("a", "a", &json!([{"port": 80, "targetPort": 5000}])),
        ],
    );
    let endpoint = only(endpoints(&snapshot, "a", ""));
    assert!(endpoint.ip().is_loopback());
    assert_eq!(endpoint.port(), 5000);

    let mut stream = hello(endpoint, "Hello from TCP Echo!\n");
    stream.write_all(&[b'x'; 100_000]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    expect_end(stream);

    let silent = TcpStream::connect(endpoint).unwrap();
    silent.shutdown(Shutdown::Write).unwrap();
    expect_end(silent);
}

#[test]
fn without_a_text_everything_comes_back_after_a_half_close_too() {
    let mut demo = Demo::start().unwrap();
    let snapshot = apply(
        &mut demo,
        [
            deployment("a", 1, &json!([echo(5000, &[])])),
            service("a", "a", &json!([{"port": 5000}])),
        ],
    );
    let sent: Vec<u8> = (0..4_000_000_u32).map(|index| (index % 251) as u8).collect();
    let mut stream = TcpStream::connect(only(endpoints(&snapshot, "a", ""))).unwrap();
    let mut writer = stream.try_clone().unwrap();
    let mut received = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            writer.write_all(&sent).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        stream.read_to_end(&mut received).unwrap();
    });
    assert!(received == sent, "{} of {} bytes came back", received.len(), sent.len());
}

#[test]
fn each_datagram_is_answered() {
    let mut demo = Demo::start().unwrap();
    let snapshot = apply(
        &mut demo,
        [
            deployment("text", 1, &json!([echo(5001, &["-text", "Hello from UDP Echo!", "-udp"])])),
            deployment("echo", 1, &json!([echo(5001, &["-udp"])])),
            service("text", "text", &json!([{"port": 5001, "protocol": "UDP"}])),
            service("echo", "echo", &json!([{"port": 5001, "protocol": "UDP"}])),
        ],
    );
    let text = only(endpoints(&snapshot, "text", ""));
    assert_eq!(udp_answer(text, b"1"), b"Hello from UDP Echo!\n");
    assert_eq!(udp_answer(text, b""), b"Hello from UDP Echo!\n");
    let echo = only(endpoints(&snapshot, "echo", ""));
    assert_eq!(udp_answer(echo, &[7; 1400]), [7; 1400]);
}

#[test]
fn a_reload_neither_moves_a_replica_nor_cuts_its_connections() {
    let mut demo = Demo::start().unwrap();
    let backend = |replicas, text| {
        [
            deployment("a", replicas, &json!([echo(5017, &["-text", text])])),
            service("a", "a", &json!([{"port": 5017}])),
        ]
    };
    let other = deployment("0-other", 3, &json!([echo(5017, &["-text", "other"])]));

    let before = apply(&mut demo, backend(1, "one"));
    let endpoint = only(endpoints(&before, "a", ""));
    let old = hello(endpoint, "one\n");
    let silent = TcpStream::connect(endpoint).unwrap();

    let after = apply(&mut demo, backend(2, "two").into_iter().chain([other]));
    let scaled = endpoints(&after, "a", "");
    assert_eq!((scaled.len(), scaled[0]), (2, endpoint));
    assert_ne!(scaled[0].ip(), scaled[1].ip());
    for endpoint in scaled {
        hello(endpoint, "two\n");
    }
    for stream in [old, silent] {
        stream.shutdown(Shutdown::Write).unwrap();
        expect_end(stream);
    }

    let none = apply(&mut demo, backend(0, "two"));
    assert_eq!(endpoints(&none, "a", ""), []);
    // A connection that comes just before the socket closes is reset; no other test has the port.
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(endpoint).is_ok() {
        assert!(Instant::now() < deadline, "{endpoint} still listens");
    }
}

#[test]
fn an_address_whose_port_is_taken_is_skipped() {
    let objects = || {
        [
            deployment("a", 1, &json!([echo(5000, &["-text", "hi"])])),
            service("a", "a", &json!([{"port": 5000}])),
        ]
    };
    let (mut first, mut second) = (Demo::start().unwrap(), Demo::start().unwrap());
    let first = only(endpoints(&apply(&mut first, objects()), "a", ""));
    let second = only(endpoints(&apply(&mut second, objects()), "a", ""));
    assert_ne!(first.ip(), second.ip());
    for endpoint in [first, second] {
        hello(endpoint, "hi\n");
    }
}

#[test]
fn a_port_that_is_taken_on_every_address_is_said() {
    let everywhere = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = everywhere.local_addr().unwrap().port();
    let mut snapshot: Snapshot = [
        deployment("a", 3, &json!([echo(port, &[])])),
        service("a", "a", &json!([{"port": port}])),
    ]
    .into_iter()
    .collect();
    let mut demo = Demo::start().unwrap();
    let notes = demo.apply(&mut snapshot);
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(notes[0].message.contains("taken"), "{}", notes[0]);
    assert_eq!(endpoints(&snapshot, "a", ""), []);
    drop(everywhere);
    assert_eq!(demo.apply(&mut snapshot), []);
    assert_eq!(endpoints(&snapshot, "a", "").len(), 3);
}

#[test]
fn ports_are_found_by_number_name_and_protocol() {
    let mut demo = Demo::start().unwrap();
    let mut tcp = echo(5000, &["-text", "tcp"]);
    tcp["ports"] = json!([{"containerPort": 5000, "name": "main"}]);
    let mut udp = echo(5000, &["-text", "udp", "-udp"]);
    udp["ports"] = json!([{"containerPort": 5000, "name": "main", "protocol": "UDP"}]);
    let snapshot = apply(
        &mut demo,
        [
            deployment("a", 1, &json!([tcp, udp])),
            service(
                "a",
                "a",
                &json!([
                    {"name": "stream", "port": 1, "targetPort": "main"},
                    {"name": "datagram", "port": 1, "targetPort": "main", "protocol": "UDP"},
                    {"name": "unnamed", "port": 5000},
                    {"name": "unknown", "port": 2, "targetPort": "other"},
                    {"name": "closed", "port": 3, "targetPort": 5003},
                ]),
            ),
        ],
    );
    hello(only(endpoints(&snapshot, "a", "stream")), "tcp\n");
    assert_eq!(udp_answer(only(endpoints(&snapshot, "a", "datagram")), b"x"), b"udp\n");
    hello(only(endpoints(&snapshot, "a", "unnamed")), "tcp\n");
    assert_eq!(endpoints(&snapshot, "a", "unknown"), []);
    assert!(TcpStream::connect(only(endpoints(&snapshot, "a", "closed"))).is_err());
}

#[test]
fn services_that_are_somebody_elses_are_left_alone() {
    let mut demo = Demo::start().unwrap();
    let ports = json!([{"port": 5000}]);
    let mut foreign = service("foreign", "a", &ports);
    let AnyObject::Service(service_object) = &mut foreign else { unreachable!() };
    std::sync::Arc::make_mut(service_object).metadata.namespace = "other".into();
    let snapshot = apply(
        &mut demo,
        [
            deployment("a", 1, &json!([echo(5000, &[])])),
            service("elsewhere", "b", &ports),
            foreign,
            object(
                "Service",
                json!({
                    "metadata": {"name": "selectorless", "namespace": "default"},
                    "spec": {"ports": ports},
                }),
            ),
            object(
                "Service",
                json!({
                    "metadata": {"name": "external", "namespace": "default"},
                    "spec": {
                        "type": "ExternalName", "externalName": "example.com",
                        "selector": {"app": "a"}, "ports": ports,
                    },
                }),
            ),
            service("own", "a", &ports),
            object(
                "EndpointSlice",
                json!({
                    "metadata": {
                        "name": "own-1", "namespace": "default",
                        "labels": {"kubernetes.io/service-name": "own"},
                    },
                    "addressType": "IPv4", "endpoints": [],
                }),
            ),
        ],
    );
    let slices: Vec<&ObjectKey> = snapshot.endpoint_slices.keys().collect();
    assert_eq!(slices, [&ObjectKey::new("default", "own-1")]);
}

#[test]
fn what_has_no_demo_backend_is_said() {
    let mut demo = Demo::start().unwrap();
    let sleeper = json!({"name": "sleeper", "command": ["sleep", "inf"]});
    let mut twin = echo(5000, &["-text", "b"]);
    twin["name"] = json!("twin");
    let mut snapshot: Snapshot = [
        deployment("a", 1, &json!([echo(5000, &["-text", "a"]), twin, sleeper])),
        deployment("b", 1, &json!([sleeper])),
        service("a", "a", &json!([{"port": 5000}])),
        service("b", "b", &json!([{"port": 5000}])),
    ]
    .into_iter()
    .collect();
    let notes: Vec<String> = demo.apply(&mut snapshot).iter().map(ToString::to_string).collect();
    let expected = [
        "Deployment default/a: container sleeper has no demo backend: it doesn't listen as an echo \
         (-listen :PORT)",
        "Deployment default/a: container twin has no demo backend: another container of the pod \
         listens on TCP port 5000 already",
        "Deployment default/b: container sleeper has no demo backend: it doesn't listen as an echo \
         (-listen :PORT)",
    ];
    assert_eq!(notes, expected);
    hello(only(endpoints(&snapshot, "a", "")), "a\n");
    assert_eq!(endpoints(&snapshot, "b", ""), []);
}
