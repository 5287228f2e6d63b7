use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    num::NonZeroUsize,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use l4way_http::HttpProxy;
use l4way_model::{
    BackendId, Config, Endpoint, EndpointTable, GatewayId, HttpListener, HttpPort, HttpRule,
    Listener, ListenerId, ListenerReport, Parts, PathMatch, PathReport, Route, RouteId, Target,
    Transport, WeightedTarget,
};
use l4way_proxy::{Proxy, ProxySettings};

use super::*;

/// How long to wait for something that has to happen.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where the proxy listens: an address that nothing else takes ports of.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 1);

/// One sample: its name, its labels and its value.
type Sample = (String, BTreeMap<String, String>, f64);

/// Reads OpenMetrics text as strictly as its specification says, as far as l4way uses it.
fn parse(text: &str) -> Vec<Sample> {
    let mut families = BTreeSet::new();
    let (mut family, mut kind) = (String::new(), String::new());
    let mut samples = Vec::new();
    let body = text.strip_suffix("# EOF\n").expect("an end mark");
    for line in body.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').expect(line);
            assert!(families.insert(name.to_owned()), "{name} is there twice");
            assert!(name.starts_with("l4way_") && is_name(name), "{name}");
            assert!(help.ends_with('.') && !help.contains("  "), "{help}");
            family = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            kind = rest.strip_prefix(&format!("{family} ")).expect(line).to_owned();
        } else if let Some(rest) = line.strip_prefix("# UNIT ") {
            let unit = rest.strip_prefix(&format!("{family} ")).expect(line);
            assert!(family.ends_with(&format!("_{unit}")), "{line}");
        } else {
            let sample = parse_sample(line);
            let suffix = sample.0.strip_prefix(&family).expect(line);
            let allowed: &[&str] = match kind.as_str() {
                "counter" => &["_total"],
                "gauge" => &[""],
                "info" => &["_info"],
                "histogram" => &["_bucket", "_sum", "_count"],
                other => panic!("type {other}"),
            };
            assert!(allowed.contains(&suffix), "{line} is no sample of a {kind}");
            samples.push(sample);
        }
    }
    let ids: BTreeSet<_> = samples.iter().map(|(name, labels, _)| (name, labels)).collect();
    assert_eq!(ids.len(), samples.len(), "no sample is there twice");
    samples
}

fn parse_sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').expect(line);
    let value = value.parse().expect(line);
    let Some((name, labels)) = series.split_once('{') else {
        assert!(is_name(series), "{line}");
        return (series.to_owned(), BTreeMap::new(), value);
    };
    let mut parsed = BTreeMap::new();
    let mut rest = labels.strip_suffix("\"}").expect(line);
    loop {
        let (label, after) = rest.split_once("=\"").expect(line);
        let (text, next) = after.split_once("\",").map_or((after, None), |(a, b)| (a, Some(b)));
        assert!(is_name(label) && !text.contains(['"', '\\']), "{line}");
        assert!(parsed.insert(label.to_owned(), text.to_owned()).is_none(), "{line}");
        match next {
            Some(next) => rest = next,
            None => return (name.to_owned(), parsed, value),
        }
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|first: char| first.is_ascii_digit())
        && text.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
}

/// The sum of the samples of this name whose labels hold these.
fn value(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> f64 {
    let matching = samples.iter().filter(|(known, has, _)| {
        known == name
            && labels.iter().all(|(label, text)| has.get(*label).is_some_and(|known| known == text))
    });
    matching.map(|(_, _, value)| value).sum()
}

fn scrape(proxy: &Proxy) -> Vec<Sample> {
    let sessions = proxy.counters().snapshot();
    let counters = CounterSnapshot { sessions, ..CounterSnapshot::default() };
    parse(&render(&counters, &ControlMetrics::default()))
}

/// Waits until the metric has this value.
fn expect(proxy: &Proxy, name: &str, labels: &[(&str, &str)], expected: f64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = value(&scrape(proxy), name, labels);
        if found == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{name} {labels:?} is {found}, not {expected}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn backend(transport: Transport) -> BackendId {
    BackendId {
        kind: "Service".into(),
        namespace: "default".into(),
        name: "echo".into(),
        port: Some(7),
        transport,
    }
}

fn listener(name: &str, transport: Transport, route: bool) -> Listener {
    let weighted = WeightedTarget { weight: 1, target: Target::Backend(backend(transport)) };
    Listener {
        id: ListenerId {
            gateway: GatewayId::new("default", "edge"),
            listener_set: None,
            name: name.into(),
        },
        transport,
        addresses: vec![IpAddr::V4(GATEWAY)],
        port: free_port(),
        route: route.then(|| Route {
            id: RouteId {
                kind: format!("{transport}Route").into(),
                namespace: "default".into(),
                name: "echo".into(),
            },
            targets: vec![weighted],
        }),
    }
}

fn free_port() -> u16 {
    TcpListener::bind((GATEWAY, 0)).unwrap().local_addr().unwrap().port()
}

/// An endpoint that answers the first bytes, or datagram, with "pong".
fn endpoints() -> EndpointTable {
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let table = [(Transport::Tcp, tcp.local_addr()), (Transport::Udp, udp.local_addr())];
    let table = table.map(|(transport, address)| {
        (backend(transport), Arc::from([Endpoint::from(address.unwrap())]))
    });
    thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 64]);
            let _ = stream.write_all(b"pong");
        }
    });
    thread::spawn(move || {
        while let Ok((_, client)) = udp.recv_from(&mut [0; 64]) {
            let _ = udp.send_to(b"pong", client);
        }
    });
    EndpointTable(table.into())
}

#[test]
fn sessions_are_counted_by_gateway_listener_route_and_backend() {
    let settings = ProxySettings { workers: NonZeroUsize::MIN, ..ProxySettings::default() };
    let mut proxy = Proxy::start(settings).unwrap();
    let listeners = [
        listener("tcp", Transport::Tcp, true),
        listener("udp", Transport::Udp, true),
        listener("lost", Transport::Tcp, false),
    ];
    let [tcp, udp, lost] =
        listeners.each_ref().map(|listener| SocketAddr::from((GATEWAY, listener.port)));
    let report = proxy.apply(Arc::new(Config::new(listeners).unwrap()), &endpoints());
    assert!(report.listeners.values().all(|bound| *bound == ListenerReport::Bound), "{report:?}");

    let mut stream = TcpStream::connect(tcp).unwrap();
    stream.write_all(b"ping!").unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
    drop(stream);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.send_to(b"ping!!", udp).unwrap();
    socket.recv(&mut [0; 64]).unwrap();
    let _ = TcpStream::connect(lost).map(|mut stream| stream.read(&mut [0; 1]));

    let labels = [
        ("gateway", "default/edge"),
        ("listener", "tcp"),
        ("route", "TCPRoute/default/echo"),
        ("backend", "Service/default/echo:7"),
        ("protocol", "TCP"),
    ];
    let with = |more: &[(&'static str, &'static str)]| [&labels, more].concat();
    expect(&proxy, "l4way_sessions_ended_total", &with(&[("class", "normal")]), 1.0);
    let samples = scrape(&proxy);
    assert_eq!(value(&samples, "l4way_sessions_opened_total", &labels), 1.0);
    assert_eq!(value(&samples, "l4way_sessions_active", &labels), 0.0);
    for (direction, bytes) in [("upstream", 5.0), ("downstream", 4.0)] {
        let labels = with(&[("direction", direction)]);
        assert_eq!(value(&samples, "l4way_session_bytes_total", &labels), bytes, "{direction}");
    }
    assert_eq!(value(&samples, "l4way_connect_seconds_count", &labels), 1.0);
    assert_eq!(value(&samples, "l4way_connect_seconds_bucket", &with(&[("le", "+Inf")])), 1.0);
    assert!(value(&samples, "l4way_connect_seconds_sum", &labels) > 0.0);

    expect(&proxy, "l4way_first_reply_seconds_count", &[("listener", "udp")], 1.0);
    let samples = scrape(&proxy);
    let udp = [("listener", "udp"), ("direction", "upstream")];
    assert_eq!(value(&samples, "l4way_session_datagrams_total", &udp), 1.0);
    assert_eq!(value(&samples, "l4way_sessions_active", &[("listener", "udp")]), 1.0);
    let lost = [("listener", "lost"), ("reason", "no_route"), ("route", ""), ("backend", "")];
    expect(&proxy, "l4way_sessions_refused_total", &lost, 1.0);
    proxy.stop();
}

#[test]
fn requests_are_counted_by_gateway_listener_route_and_backend() {
    let mut proxy = HttpProxy::start(l4way_http::HttpSettings::default()).unwrap();
    let Listener { id, addresses, port, route, .. } = listener("web", Transport::Tcp, true);
    let rule = HttpRule {
        hostname: None,
        path: PathMatch::Prefix("/echo".into()),
        headers: Vec::new(),
        route: route.unwrap(),
    };
    let web = HttpListener { id, hostname: None, rules: vec![rule] };
    let port = HttpPort { addresses, port, listeners: vec![web] };
    let address = port.binds().next().unwrap();
    let config = Arc::new(Parts { http: vec![port], ..Parts::default() }.try_into().unwrap());
    proxy.prepare(&config, &EndpointTable::default());
    proxy.listen();
    for path in ["/echo", "/"] {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    }
    let http = proxy.counters().snapshot();
    let counters = CounterSnapshot { http, ..CounterSnapshot::default() };
    let samples = parse(&render(&counters, &ControlMetrics::default()));
    let listener = [("gateway", "default/edge"), ("listener", "web")];
    let route = [("route", "TCPRoute/default/echo"), ("backend", "Service/default/echo:7")];
    let none = [("route", ""), ("backend", "")];
    for (labels, code, reason) in [(route, "5xx", "no_endpoint"), (none, "4xx", "no_route")] {
        let labels = [listener, labels].concat();
        let with = |more| [&labels[..], &[more]].concat();
        assert_eq!(value(&samples, "l4way_http_requests_total", &with(("code", code))), 1.0);
        assert_eq!(value(&samples, "l4way_http_errors_total", &with(("reason", reason))), 1.0);
    }
    assert!(samples.iter().any(|(name, ..)| name == "l4way_http_connections_active"));
}

#[test]
fn what_is_known_outside_of_the_proxy_is_there() {
    let certificate = Certificate {
        listener: listener("tls", Transport::Tcp, false).id,
        name: "default/cert".into(),
        not_after: 1_800_000_000,
    };
    let memory = Arc::new(MemoryBudget::new(NonZeroUsize::MIN.saturating_add(7)));
    memory.hold(9);
    let control = ControlMetrics {
        bad_files: 1,
        invalid_objects: 2,
        unbound_listeners: 3,
        superseded_routes: 4,
        reloads: 5,
        last_good_reload: Some(UNIX_EPOCH + Duration::from_secs(1_700_000_000)),
        session_descriptors: 6,
        unwritten_records: 7,
        certificates: vec![certificate],
        paths: [(listener("db", Transport::Tcp, false).id, PathReport::Kernel)].into(),
        endpoints: None,
        memory: Some(memory),
    };
    let samples = parse(&render(&CounterSnapshot::default(), &control));
    for (name, expected) in [
        ("l4way_bad_files", 1.0),
        ("l4way_invalid_objects", 2.0),
        ("l4way_unbound_listeners", 3.0),
        ("l4way_superseded_routes", 4.0),
        ("l4way_reloads_total", 5.0),
        ("l4way_last_good_reload_timestamp_seconds", 1_700_000_000.0),
        ("l4way_session_descriptors_max", 6.0),
        ("l4way_access_log_records_dropped_total", 7.0),
        ("l4way_certificate_expiry_timestamp_seconds", 1_800_000_000.0),
        ("l4way_listener_on_kernel_path", 1.0),
        ("l4way_build_info", 1.0),
        ("l4way_memory_budget_bytes", 8.0),
        ("l4way_memory_held_bytes", 9.0),
    ] {
        assert_eq!(value(&samples, name, &[]), expected, "{name}");
    }
}
