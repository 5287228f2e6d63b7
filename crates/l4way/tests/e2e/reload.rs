//! Changes of the manifests, under traffic and with mistakes.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use super::{
    client::{ask, connect, echo, echo_server},
    l4way::{L4way, PATIENCE, own_address, wait_for},
    manifests::{Manifests, backend, gateway, route},
};

/// A TCP listener on 9000, and a route to two Backends with these weights.
fn weighted(backends: [SocketAddr; 2], weights: [u32; 2]) -> Vec<String> {
    vec![
        gateway(&[("tcp", "TCP", 9000)]),
        route("TCPRoute", &[("a", weights[0]), ("b", weights[1])]),
        backend("a", backends[0]),
        backend("b", backends[1]),
    ]
}

fn running(weights: [u32; 2]) -> (Manifests, L4way, Ipv4Addr, [SocketAddr; 2]) {
    let address = own_address();
    let backends = [echo_server(address), echo_server(address)];
    let manifests = Manifests::of(&weighted(backends, weights));
    let l4way = L4way::run(&manifests, address, &[]);
    l4way.wait("the listener", |report| report["phase"] == "serving");
    (manifests, l4way, address, backends)
}

fn opened(l4way: &L4way, backend: &str) -> f64 {
    l4way
        .metric("l4way_sessions_opened_total", &[&format!("backend=\"Backend/default/{backend}\"")])
}

struct SetWhenDropped<'a>(&'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_weight_change_under_traffic_resets_nothing() {
    let (manifests, l4way, address, backends) = running([1, 0]);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        // Even if an assertion fails: the scope waits for its threads.
        let stop_at_the_end = SetWhenDropped(&stop);
        let clients: Vec<_> = (0..200)
            .map(|_| connect((address, 9000).into()).expect("a connection"))
            .map(|mut stream| {
                let stop = &stop;
                scope.spawn(move || {
                    let mut rounds = 0_u32;
                    while !stop.load(Ordering::Relaxed) {
                        echo(&mut stream, &rounds.to_be_bytes()).expect("an open connection");
                        rounds += 1;
                        // Steady traffic, not a fight for the CPU.
                        thread::sleep(Duration::from_millis(20));
                    }
                    echo(&mut stream, b"the last").expect("an open connection");
                })
            })
            .collect();

        for weights in [[1, 1], [0, 1], [3, 7], [1, 0], [0, 1]] {
            let reloads = l4way.metric("l4way_reloads_total", &[]);
            manifests.write_all(&weighted(backends, weights));
            wait_for("the new weights in force", || {
                (l4way.metric("l4way_reloads_total", &[]) > reloads).then_some(())
            });
            let before = ["a", "b"].map(|backend| opened(&l4way, backend));
            for _ in 0..20 {
                ask((address, 9000).into()).expect("an answer");
            }
            let after = ["a", "b"].map(|backend| opened(&l4way, backend));
            for (weight, (before, after)) in weights.iter().zip(before.iter().zip(after)) {
                assert_eq!(after > *before, *weight > 0, "{weights:?}: {before} to {after}");
            }
        }
        drop(stop_at_the_end);
        for client in clients {
            client.join().expect("no session was touched");
        }
    });
    assert_eq!(l4way.metric("l4way_sessions_ended_total", &["_reset\""]), 0.0);
}

#[test]
fn a_file_that_turns_bad_loses_nothing() {
    let (manifests, l4way, address, backends) = running([1, 1]);
    let good = weighted(backends, [1, 1]).join("---\n");
    for bad in [
        good.replace("port: 9000", "port: 900000"),
        good.replace("parentRefs:", "parentRef:"),
        good.replace("kind: TCPRoute\n", "kind: TCPRoute\n\tx: {"),
        "\u{0}".to_owned(),
        String::new(),
    ] {
        manifests.write("all.yaml", &bad);
        let report = l4way.wait("the error", |report| {
            report["problems"].as_array().is_some_and(|problems| {
                problems.iter().any(|problem| problem["severity"] == "error")
            })
        });
        assert!(report["problems"].to_string().contains("all.yaml"), "{report:#}");
        assert_eq!(report["phase"], "serving");
        assert_eq!(ask((address, 9000).into()).expect("an answer"), "Hello TCP\n");
        assert!(l4way.metric("l4way_bad_files", &[]) >= 1.0);

        manifests.write("all.yaml", &good);
        l4way.wait("no error", |report| report["problems"].as_array().is_some_and(Vec::is_empty));
        assert_eq!(l4way.metric("l4way_bad_files", &[]), 0.0);
    }
}

#[test]
fn a_removed_listener_takes_nothing_new_and_its_sessions_drain() {
    let (manifests, l4way, address, backends) = running([1, 1]);
    let mut old = connect((address, 9000).into()).expect("a connection");
    echo(&mut old, b"before").expect("an open connection");

    let mut moved = weighted(backends, [1, 1]);
    moved[0] = gateway(&[("tcp", "TCP", 9100)]);
    manifests.write_all(&moved);
    wait_for("the new port", || ask((address, 9100).into()).ok());
    wait_for("the old port closed", || connect((address, 9000).into()).err());
    echo(&mut old, b"after").expect("the old session is drained, not cut");
    assert_eq!(l4way.report()["phase"], "serving");
}

#[test]
fn a_taken_port_is_told_with_its_holder_and_retried() {
    let address = own_address();
    let holder = TcpListener::bind((address, 9000)).expect("a free port");
    let backends = [echo_server(address), echo_server(address)];
    let manifests = Manifests::of(&weighted(backends, [1, 1]));
    let l4way = L4way::run(&manifests, address, &[]);
    let report = l4way.wait("the listener's trouble", |report| {
        report["overview"].to_string().contains("PortUnavailable")
    });
    let text = report["overview"].to_string();
    assert!(text.contains(&format!("{}", std::process::id())), "names the holder: {report:#}");

    drop(holder);
    l4way.wait("the port to be taken over", |report| report["phase"] == "serving");
    assert_eq!(ask((address, 9000).into()).expect("an answer"), "Hello TCP\n");
}

#[test]
fn a_udp_session_moves_when_its_endpoint_is_gone() {
    let address = own_address();
    let [first, second] = [(); 2].map(|()| UdpSocket::bind((address, 0)).expect("a socket"));
    for socket in [&first, &second] {
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    }
    let to = |socket: &UdpSocket| {
        [
            gateway(&[("udp", "UDP", 9001)]),
            route("UDPRoute", &[("a", 1)]),
            backend("a", socket.local_addr().expect("an address")),
        ]
    };
    let manifests = Manifests::of(&to(&first));
    let l4way = L4way::run(&manifests, address, &[]);
    l4way.wait("the listener", |report| report["phase"] == "serving");

    let client = UdpSocket::bind((address, 0)).expect("a socket");
    client.connect((address, 9001)).expect("a peer");
    client.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut buffer = [0; 64];
    client.send(b"one").expect("sent");
    let (length, gateway) = first.recv_from(&mut buffer).expect("the first endpoint has it");
    first.send_to(&buffer[..length], gateway).expect("sent");
    assert_eq!(client.recv(&mut buffer).expect("a reply"), 3);

    manifests.write_all(&to(&second));
    second.set_nonblocking(true).expect("a mode");
    let gateway = wait_for("the second endpoint to have it", || {
        client.send(b"two").expect("sent");
        second.recv_from(&mut buffer).ok().map(|(_, gateway)| gateway)
    });
    second.send_to(b"from the second", gateway).expect("sent");
    assert_eq!(client.recv(&mut buffer).expect("a reply"), b"from the second".len());
}

/// A backend whose address may be somebody else's by now keeps no session, be it deleted with its route's
/// change or after it. One that is only not named any more does.
#[test]
fn a_udp_session_moves_when_its_backend_is_deleted() {
    let address = own_address();
    let [first, second] = [(); 2].map(|()| UdpSocket::bind((address, 0)).expect("a socket"));
    let is_at = |socket: &UdpSocket| {
        socket.set_nonblocking(true).expect("a mode");
        socket.recv(&mut [0; 64]).is_ok()
    };
    let to = |name: &str, there: &[(&str, &UdpSocket)]| {
        let mut documents = vec![gateway(&[("udp", "UDP", 9001)]), route("UDPRoute", &[(name, 1)])];
        let backends = there
            .iter()
            .map(|(name, socket)| backend(name, socket.local_addr().expect("an address")));
        documents.extend(backends);
        documents
    };
    let both = [("a", &first), ("b", &second)];
    let manifests = Manifests::of(&to("a", &both));
    let l4way = L4way::run(&manifests, address, &[]);
    l4way.wait("the listener", |report| report["phase"] == "serving");
    let client = UdpSocket::bind((address, 0)).expect("a socket");
    client.connect((address, 9001)).expect("a peer");
    let comes_to = |socket: &UdpSocket| {
        wait_for("a datagram", || {
            client.send(b"?").expect("sent");
            is_at(socket).then_some(())
        });
    };
    comes_to(&first);
    // With its route's change.
    manifests.write_all(&to("b", &both[1..]));
    comes_to(&second);
    // Only the route changes, and the backend goes later.
    let reloads = || l4way.metric("l4way_reloads_total", &[]);
    let before = reloads();
    manifests.write_all(&to("a", &both));
    wait_for("the change", || (reloads() > before).then_some(()));
    while is_at(&first) || is_at(&second) {}
    comes_to(&second);
    assert!(!is_at(&first), "the session stays with the backend that is there");
    manifests.write_all(&to("a", &both[..1]));
    comes_to(&first);
}
