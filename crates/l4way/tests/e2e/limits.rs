//! What happens when the system has no more to give.

use std::{
    collections::VecDeque,
    fs,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream},
    os::fd::OwnedFd,
    process::Command,
    time::Instant,
};

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use super::{
    client::{ask, connect as client, echo, echo_server},
    l4way::{BINARY, L4way, PATIENCE, own_address, wait_for},
    manifests::{Manifests, backend, gateway, route},
    namespaces::Host,
};

/// Connects from an address of its own, as each has all local ports to itself.
fn connect_from(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket: OwnedFd = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    bind(&socket, &SocketAddrV4::new(from, 0)).expect("an address");
    connect(&socket, &to).expect("a connection");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

#[test]
fn without_local_ports_accepting_slows_down_and_goes_on_later() {
    Host::new().enter(|| {
        let gateway_address = SocketAddr::from((Ipv4Addr::LOCALHOST, 9000));
        let endpoint = echo_server(Ipv4Addr::LOCALHOST);
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", "50000 50007").expect("the range");
        let manifests = Manifests::of(&[
            gateway(&[("tcp", "TCP", 9000)]),
            route("TCPRoute", &[("echo", 1)]),
            backend("echo", endpoint),
        ]);
        let l4way = L4way::run(&manifests, Ipv4Addr::LOCALHOST, &[]);

        // Each session takes a local port toward the endpoint, until there is none.
        let mut clients = (1..100).map(|n| Ipv4Addr::new(127, 0, 1, n));
        let mut open = Vec::new();
        loop {
            let client = clients.next().expect("more sessions than ports");
            let mut stream = connect_from(client, gateway_address);
            match echo(&mut stream, b"hello") {
                Ok(()) => open.push(stream),
                Err(_) => break,
            }
        }
        wait_for("the pause to be counted", || {
            let pauses = l4way.metric("l4way_accept_pauses_total", &["cause=\"out_of_resources\""]);
            (pauses >= 1.0).then_some(())
        });

        for stream in &mut open {
            echo(stream, b"still here").expect("the others are untouched");
        }
        drop(open);
        wait_for("ports to be free again", || ask(gateway_address).ok());
    });
}

#[test]
fn the_session_limit_is_told_now_and_then_however_often_it_is_reached() {
    let address = own_address();
    let gateway_address = SocketAddr::from((address, 9000));
    let manifests = Manifests::of(&[
        gateway(&[("tcp", "TCP", 9000)]),
        route("TCPRoute", &[("echo", 1)]),
        backend("echo", echo_server(address)),
    ]);
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 100 && exec \"$@\"", "sh", BINARY, "run", "--workers", "1"]);
    command.args(["--admin-address", "127.0.0.1:0", "--address", &address.to_string(), "-f"]);
    command.arg(manifests.path());
    let started = Instant::now();
    let l4way = L4way::start(command);
    l4way.wait("the listener", |report| report["phase"] == "serving");

    let pauses = || l4way.metric("l4way_accept_pauses_total", &["cause=\"session_limit\""]);
    let mut open = VecDeque::new();
    wait_for("the limit", || {
        open.push_back(client(gateway_address).expect("a connection"));
        (pauses() >= 1.0).then_some(())
    });
    // Each that ends lets one in that waits, and the limit is reached again.
    for _ in 0..3 {
        open.push_back(client(gateway_address).expect("a connection"));
    }
    wait_for("the limit to be reached again and again", || {
        open.pop_front();
        open.push_back(client(gateway_address).expect("a connection"));
        (pauses() >= 20.0).then_some(())
    });
    let log = l4way.log();
    let told = log.lines().filter(|line| line.contains("the session limit is reached")).count();
    let most = 1 + started.elapsed().as_secs() / 10;
    assert!(told >= 1 && told as u64 <= most, "told {told} times and not {most}: {log}");
    assert!(log.contains("route=TCPRoute/default/route"), "whose sessions these are: {log}");
}
