//! What l4way says of endpoints at which nobody answers.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
};

use serde_json::Value;

use super::{
    client::{ask, connect, echo, echo_server, unused},
    l4way::{L4way, PATIENCE, own_address, wait_for},
    manifests::{Manifests, backend, backend_of, gateway, route},
};

const PORT: u16 = 9000;

/// An endpoint's row in the report.
fn row(l4way: &L4way, endpoint: SocketAddr) -> Value {
    let report = l4way.report();
    let rows = report["endpoints"]["rows"].as_array().expect("rows").iter();
    let mut rows = rows.filter(|row| row["endpoint"] == endpoint.to_string());
    rows.next().unwrap_or_else(|| panic!("no {endpoint} in {report:#}")).clone()
}

/// The samples of a metric about the only backend.
fn samples(l4way: &L4way, metric: &str) -> Vec<String> {
    let (_, text) = l4way.get("/metrics");
    text.lines().filter(|line| line.starts_with(metric)).map(str::to_owned).collect()
}

#[test]
fn a_dead_endpoint_is_told_when_it_goes_and_when_it_is_back() {
    let address = own_address();
    let lives = echo_server(address);
    let dead = unused(address);
    let manifests = Manifests::of(&[
        gateway(&[("tcp", "TCP", PORT)]),
        route("TCPRoute", &[("b", 1)]),
        backend_of("b", &[lives, dead]),
    ]);
    let l4way = L4way::run(&manifests, address, &[]);
    l4way.wait("the listener", |report| report["phase"] == "serving");
    let states = |taken: u8, passed_over: u8| {
        let sample = |state: &str, count: u8| {
            format!(
                "l4way_backend_endpoints{{backend=\"Backend/default/b\",state=\"{state}\"}} {count}"
            )
        };
        [sample("taken", taken), sample("passed_over", passed_over)]
    };
    assert_eq!(samples(&l4way, "l4way_backend_endpoints{"), states(2, 0));

    let client = SocketAddr::from((address, PORT));
    wait_for("a session that meets the dead one", || {
        assert_eq!(ask(client).expect("the other one answers"), "Hello TCP\n");
        (samples(&l4way, "l4way_backend_endpoints{") == states(1, 1)).then_some(())
    });
    let attempts = samples(&l4way, "l4way_backend_failed_attempts_total{");
    let [refused] = &attempts[..] else { panic!("{attempts:?}") };
    assert!(refused.contains("reason=\"refused\""), "{refused}");
    let told = |what: &str| {
        wait_for(what, || {
            let log = l4way.log();
            let line = log.lines().find(|line| line.contains(what))?;
            assert!(line.contains(&dead.to_string()), "{line}");
            assert!(line.contains("Backend/default/b"), "{line}");
            Some(())
        });
    };
    told("nobody answers at an endpoint");
    let (code, table) = l4way.status(&[]);
    assert_eq!(code, Some(0), "the other one answers: {table}");
    let line = table.lines().find(|line| line.contains(&dead.to_string())).expect(&table);
    for part in ["Backend/default/b", "passed over, tried again", "refused", " ago"] {
        assert!(line.contains(part), "{part}: {line}");
    }

    // Without a client.
    let _back = TcpListener::bind(dead).expect("its port");
    told("an endpoint answers again");
    assert_eq!(samples(&l4way, "l4way_backend_endpoints{"), states(2, 0));
    let row = row(&l4way, dead);
    assert_eq!(row["passedOver"], false, "{row}");
    assert_eq!(row["lastError"]["reason"], "refused", "{row}");
}

#[test]
fn status_is_not_green_when_a_route_leads_to_nobody() {
    let address = own_address();
    let dead = [unused(address), unused(address)];
    let manifests = Manifests::of(&[
        gateway(&[("tcp", "TCP", PORT)]),
        route("TCPRoute", &[("b", 1)]),
        backend_of("b", &dead),
    ]);
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("access.log");
    let l4way = L4way::run(&manifests, address, &["--access-log", log.to_str().expect("UTF-8")]);
    l4way.wait("the listener", |report| report["phase"] == "serving");
    assert!(ask((address, PORT).into()).is_err(), "nobody is there");
    let (code, table) = l4way.status(&[]);
    assert_eq!(code, Some(1), "{table}");
    let said = "! route TCPRoute/default/route: nobody answers at any of the 2 endpoints of \
                Backend/default/b";
    assert!(table.contains(said), "{table}");
    let line = wait_for("its line in the access log", || {
        let text = fs::read_to_string(&log).ok()?;
        serde_json::from_str::<Value>(text.lines().next()?).ok()
    });
    assert_eq!((&line["reason"], &line["attempts"]), (&"connect_refused".into(), &2.into()));

    let _back = TcpListener::bind(dead[1]).expect("its port");
    wait_for("a green status", || (l4way.status(&[]).0 == Some(0)).then_some(()));
    let row = row(&l4way, dead[0]);
    assert_eq!(row["passedOver"], true, "{row}");
}

#[test]
fn the_access_log_tells_which_sessions_another_endpoint_saved() {
    let address = own_address();
    let (lives, dead) = (echo_server(address), unused(address));
    let manifests = Manifests::of(&[
        gateway(&[("tcp", "TCP", PORT)]),
        route("TCPRoute", &[("b", 1)]),
        backend_of("b", &[lives, dead]),
    ]);
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("access.log");
    let l4way = L4way::run(&manifests, address, &["--access-log", log.to_str().expect("UTF-8")]);
    l4way.wait("the listener", |report| report["phase"] == "serving");
    let mut sessions = 0;
    wait_for("a session that meets the dead one", || {
        sessions += 1;
        assert_eq!(ask((address, PORT).into()).expect("the other one answers"), "Hello TCP\n");
        (l4way.metric("l4way_backend_failed_attempts_total", &[]) > 0.0).then_some(())
    });
    let lines = wait_for("a line for each session", || {
        let text = fs::read_to_string(&log).ok()?;
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let lines: Vec<_> = lines.collect();
        (lines.len() == sessions).then_some(lines)
    });
    assert!(lines.iter().all(|line| line["endpoint"] == lives.to_string()), "{lines:#?}");
    assert!(lines.iter().all(|line| line["reason"] == "closed"), "{lines:#?}");
    let attempts: Vec<_> = lines.iter().map(|line| line["attempts"].clone()).collect();
    let saved = attempts.iter().filter(|&attempts| *attempts == 2).count();
    assert_eq!(saved, 1, "{attempts:?}");
    assert!(attempts.iter().all(|attempts| *attempts == 1 || *attempts == 2), "{attempts:?}");
}

#[test]
fn status_counts_the_sessions_of_each_endpoint_whoever_carries_them() {
    let address = own_address();
    let tcp = echo_server(address);
    let udp = UdpSocket::bind((address, 0)).expect("a free port");
    let http = TcpListener::bind((address, 0)).expect("a free port");
    let [to_udp, to_http] =
        [udp.local_addr(), http.local_addr()].map(|at| at.expect("its address"));
    let of = |kind: &str, name: &str| {
        route(kind, &[(name, 1)])
            .replace("{name: route}", &format!("{{name: {name}}}"))
            .replace("[{name: gw}]", &format!("[{{name: gw, sectionName: {name}}}]"))
    };
    let manifests = Manifests::of(&[
        gateway(&[("tcp", "TCP", PORT), ("udp", "UDP", PORT), ("http", "HTTP", PORT + 1)]),
        of("TCPRoute", "tcp") + "---\n" + &backend("tcp", tcp),
        of("UDPRoute", "udp") + "---\n" + &backend("udp", to_udp),
        of("HTTPRoute", "http") + "---\n" + &backend("http", to_http),
    ]);
    let l4way = L4way::run(&manifests, address, &["--workers", "3"]);
    l4way.wait("the listener", |report| report["phase"] == "serving");

    let mut held: Vec<_> =
        (0..7).map(|_| connect((address, PORT).into()).expect("a connection")).collect();
    held.iter_mut().for_each(|stream| echo(stream, b"hello").expect("an echo"));
    let client = UdpSocket::bind((address, 0)).expect("a client");
    client.send_to(b"hello", (address, PORT)).expect("a datagram");
    udp.set_read_timeout(Some(PATIENCE)).expect("a socket");
    udp.recv(&mut [0; 8]).expect("the datagram");
    let mut request = TcpStream::connect((address, PORT + 1)).expect("a connection");
    request.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("a request");
    let (mut asked, _) = http.accept().expect("the request's connection");
    asked.read_exact(&mut [0; 3]).expect("the request");

    let counted = |counts: [u64; 3]| {
        wait_for(counts, || {
            let now =
                [tcp, to_udp, to_http].map(|endpoint| row(&l4way, endpoint)["sessions"].clone());
            (now == counts.map(Value::from)).then_some(())
        });
    };
    counted([7, 1, 1]);
    held.truncate(2);
    drop((request, asked));
    counted([2, 1, 0]);
    let (code, table) = l4way.status(&["--all-endpoints"]);
    assert_eq!(code, Some(0), "{table}");
    assert!(table.contains("BACKEND ") && table.contains(&tcp.to_string()), "{table}");
}
