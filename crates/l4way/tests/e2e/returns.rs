//! Objects that are away for a moment, as with `git checkout`, `rsync`, or `kubectl delete` and `create`.

use std::{
    fs,
    io::Read,
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    thread,
};

use super::{
    client::{ask, connect, echo, echo_server},
    l4way::{L4way, PATIENCE, own_address, wait_for},
    manifests::{Manifests, backend},
};

const API: &str = "apiVersion: gateway.networking.k8s.io/v1\n";

fn class(name: &str) -> String {
    format!(
        "{API}kind: GatewayClass\nmetadata: {{name: {name}}}\n\
         spec: {{controllerName: l4way.dev/gateway-controller}}\n"
    )
}

/// A TCP and a UDP listener on a port.
fn listeners(port: u16) -> String {
    format!(
        "  listeners:\n  - {{name: tcp, protocol: TCP, port: {port}}}\n  \
         - {{name: udp, protocol: UDP, port: {port}}}\n"
    )
}

fn gateway(name: &str, class: &str, port: u16) -> String {
    format!(
        "{API}kind: Gateway\nmetadata: {{name: {name}}}\nspec:\n  gatewayClassName: {class}\n  \
         allowedListeners: {{namespaces: {{from: Same}}}}\n{}",
        listeners(port)
    )
}

fn listener_set(name: &str, gateway: &str, port: u16) -> String {
    format!(
        "{API}kind: ListenerSet\nmetadata: {{name: {name}}}\nspec:\n  parentRef: {{name: {gateway}}}\n{}",
        listeners(port)
    )
}

/// A TCPRoute and a UDPRoute of what has this kind and name.
fn routes(kind: &str, name: &str) -> String {
    let route = |protocol: &str| {
        let lower = protocol.to_lowercase();
        format!(
            "{API}kind: {protocol}Route\nmetadata: {{name: {name}}}\nspec:\n  parentRefs: \
             [{{kind: {kind}, name: {name}, sectionName: {lower}}}]\n  rules:\n  - backendRefs: \
             [{{group: l4way.dev, kind: Backend, name: {lower}}}]\n"
        )
    };
    format!("{}---\n{}", route("TCP"), route("UDP"))
}

/// A server that tells each client which port it comes from.
fn port_teller(address: Ipv4Addr) -> SocketAddr {
    let socket = UdpSocket::bind((address, 0)).expect("a free port");
    let bound = socket.local_addr().expect("an address");
    thread::spawn(move || {
        while let Ok((_, from)) = socket.recv_from(&mut [0; 64]) {
            let _ = socket.send_to(&from.port().to_be_bytes(), from);
        }
    });
    bound
}

/// The port that the UDP session of this client has toward its endpoint.
fn upstream_port(client: &UdpSocket) -> u16 {
    let mut port = [0; 2];
    client.send(b"which?").expect("sent");
    client.recv(&mut port).expect("an answer");
    u16::from_be_bytes(port)
}

/// A client of both listeners on a port, and the UDP session's port.
fn clients(address: Ipv4Addr, port: u16) -> (TcpStream, UdpSocket, u16) {
    let mut tcp = connect((address, port).into()).expect("a connection");
    echo(&mut tcp, b"before").expect("an open connection");
    let udp = UdpSocket::bind((address, 0)).expect("a socket");
    udp.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    udp.connect((address, port)).expect("a peer");
    let of_session = upstream_port(&udp);
    (tcp, udp, of_session)
}

#[test]
fn what_is_away_for_a_moment_costs_no_session() {
    let address = own_address();
    let manifests = Manifests::empty();
    manifests.write("class.yaml", &class("l4way"));
    manifests.write("gateway-c.yaml", &gateway("c", "l4way", 9103));
    manifests.write("gateway-d.yaml", &gateway("d", "l4way", 9004));
    for (kind, name) in [("Gateway", "a"), ("Gateway", "b"), ("ListenerSet", "set")] {
        manifests.write(&format!("routes-{name}.yaml"), &routes(kind, name));
    }
    manifests.write("routes-witness.yaml", &routes("Gateway", "witness"));
    manifests.write("tcp.yaml", &backend("tcp", echo_server(address)));
    manifests.write("udp.yaml", &backend("udp", port_teller(address)));
    manifests.write("gateway-a.yaml", &gateway("a", "other", 9001));
    // What goes: a class, a Gateway, a ListenerSet, and routes.
    let away = [
        ("class-other.yaml", class("other")),
        ("gateway-b.yaml", gateway("b", "l4way", 9002)),
        ("set.yaml", listener_set("set", "c", 9003)),
        ("routes-d.yaml", routes("Gateway", "d")),
    ];
    away.iter().for_each(|(file, text)| manifests.write(file, text));
    // This one goes with them and doesn't come back: its session tells when the deadline has passed.
    manifests.write("witness.yaml", &gateway("witness", "l4way", 9005));
    let l4way = L4way::run(&manifests, address, &["--drain-timeout", "8"]);
    l4way.wait("the listeners", |report| report["phase"] == "serving");

    const PORTS: [u16; 4] = [9001, 9002, 9003, 9004];
    let mut sessions = PORTS.map(|port| clients(address, port));
    let (mut witness, ..) = clients(address, 9005);
    let remove = |file: &str| fs::remove_file(manifests.path().join(file)).expect("it was there");
    away.iter().for_each(|(file, _)| remove(file));
    remove("witness.yaml");
    for port in PORTS {
        wait_for(("nobody is served", port), || ask((address, port).into()).err());
    }
    for (tcp, udp, of_session) in &mut sessions {
        echo(tcp, b"meanwhile").expect("it drains");
        assert_eq!(upstream_port(udp), *of_session);
    }
    away.iter().for_each(|(file, text)| manifests.write(file, text));
    for port in PORTS {
        wait_for(("clients are served", port), || ask((address, port).into()).ok());
    }
    witness.read(&mut [0]).expect_err("its time is over");
    for (tcp, udp, of_session) in &mut sessions {
        echo(tcp, b"after").expect("it was taken back");
        assert_eq!(upstream_port(udp), *of_session);
    }
}
