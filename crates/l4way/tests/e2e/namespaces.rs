//! Several hosts: network namespaces joined by veth pairs.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, UdpSocket},
    process::Command,
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::Duration,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{
    client::{connect, nc},
    l4way::{L4way, PATIENCE, wait_for},
    manifests::{Manifests, backend, gateway_on, route},
};

/// A network namespace, which goes when it is dropped.
pub(crate) struct Host {
    pub(crate) name: String,
}

impl Host {
    /// A host with nothing but its loopback interface.
    ///
    /// # Panics
    /// If it can't be made, which takes root: a test that needs it has not passed.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let host = Self { name: format!("l4way-{}-{n}", std::process::id()) };
        ip(&["netns", "add", &host.name]);
        ip(&["-n", &host.name, "link", "set", "lo", "up"]);
        host
    }

    /// Runs `work` on this host: its sockets, its threads and the processes it starts are there.
    pub(crate) fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.name)).expect("the namespace");
        thread::scope(|scope| {
            let on_host = scope.spawn(move || {
                use std::os::fd::AsFd;
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("root may enter a network namespace");
                work()
            });
            on_host.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Joins two hosts by a cable, and gives each end its addresses.
    pub(crate) fn join(&self, addresses: &[&str], other: &Self, other_addresses: &[&str]) {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let (near, far) = (format!("near{n}"), format!("far{n}"));
        ip(&[
            "link",
            "add",
            &near,
            "netns",
            &self.name,
            "type",
            "veth",
            "peer",
            "name",
            &far,
            "netns",
            &other.name,
        ]);
        for (host, link, addresses) in [(self, &near, addresses), (other, &far, other_addresses)] {
            for address in addresses {
                ip(&["-n", &host.name, "addr", "add", address, "dev", link, "nodad"]);
            }
            ip(&["-n", &host.name, "link", "set", link, "up"]);
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

pub(crate) fn ip(args: &[&str]) {
    let output = Command::new("ip").args(args).output().expect("ip is installed by `make setup`");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "ip {}: {error} (network namespaces need root)",
        args.join(" ")
    );
}

/// A client, a gateway and a backend, each a host of its own.
pub(crate) struct Network {
    pub(crate) client: Host,
    pub(crate) gateway: Host,
    pub(crate) backend: Host,
}

impl Network {
    pub(crate) fn new() -> Self {
        let network = Self { client: Host::new(), gateway: Host::new(), backend: Host::new() };
        network.client.join(
            &["192.0.2.1/24", "2001:db8:1::1/64"],
            &network.gateway,
            &["192.0.2.2/24", "192.0.2.3/24", "2001:db8:1::2/64"],
        );
        network.gateway.join(
            &["198.51.100.1/24", "2001:db8:2::1/64"],
            &network.backend,
            &["198.51.100.2/24", "2001:db8:2::2/64"],
        );
        network
    }
}

/// A TCP and a UDP listener on the gateway's second address of either family.
fn manifests(endpoint: &str) -> Manifests {
    let endpoint = endpoint.parse().expect("an address and port");
    Manifests::of(&[
        gateway_on(&["192.0.2.3", "2001:db8:1::2"], &[("tcp", "TCP", 7000), ("udp", "UDP", 7000)]),
        route("TCPRoute", &[("echo", 1)]),
        route("UDPRoute", &[("echo", 1)]),
        backend("echo", endpoint),
    ])
}

fn run_in(gateway: &Host, manifests: &Manifests, args: &[&str]) -> L4way {
    let l4way = gateway.enter(|| L4way::run(manifests, Ipv4Addr::LOCALHOST, args));
    gateway.enter(|| l4way.wait("both listeners", |report| report["phase"] == "serving"));
    l4way
}

/// Serves one TCP connection and one UDP datagram on `address`, by echoing them.
fn echo_once(backend: &Host, address: &str) {
    let address: SocketAddr = address.parse().expect("an address and port");
    let (tcp, udp) = backend.enter(|| {
        let tcp = TcpListener::bind(address).expect("the backend's TCP port");
        (tcp, UdpSocket::bind(address).expect("the backend's UDP port"))
    });
    thread::spawn(move || -> io::Result<()> {
        let (mut from, _) = tcp.accept()?;
        let mut to = from.try_clone()?;
        io::copy(&mut from, &mut to)?;
        Ok(())
    });
    thread::spawn(move || -> io::Result<()> {
        let mut datagram = [0; 65_536];
        let (length, from) = udp.recv_from(&mut datagram)?;
        udp.send_to(&datagram[..length], from)?;
        Ok(())
    });
}

/// What a client on its own host sees of TCP and UDP at `gateway`, over either family.
fn exchange(network: &Network, gateway: &str) {
    let gateway: SocketAddr = format!("{gateway}:7000").parse().expect("an address");
    network.client.enter(|| {
        let mut tcp = connect(gateway).expect("a connection");
        let message = vec![0x5a; 300_000];
        let mut sender = tcp.try_clone().expect("a second handle");
        let to_send = message.clone();
        let sending = thread::spawn(move || sender.write_all(&to_send));
        let mut answer = vec![0; message.len()];
        tcp.read_exact(&mut answer).expect("the echo");
        sending.join().expect("no panic").expect("all sent");
        assert!(answer == message, "the echo differs from what was sent");

        // Connected, so that a reply from any other address or port would not be received. Larger
        // than the cable's MTU: in fragments on both cables.
        let udp = UdpSocket::bind(SocketAddr::new(unspecified(gateway), 0)).expect("a socket");
        udp.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        udp.connect(gateway).expect("a peer");
        let datagram = vec![0xa5; 9_000];
        udp.send(&datagram).expect("sent");
        let mut reply = vec![0; 65_536];
        let length = udp.recv(&mut reply).expect("the reply");
        assert!(reply[..length] == datagram, "the reply differs from what was sent");
    });
}

fn unspecified(like: SocketAddr) -> std::net::IpAddr {
    match like {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    }
}

#[test]
fn hosts_reach_each_other_through_the_gateway() {
    let network = Network::new();
    for (family, backend, gateway) in [
        ("IPv4", "198.51.100.2:6000", "192.0.2.3"),
        ("IPv6", "[2001:db8:2::2]:6000", "[2001:db8:1::2]"),
        ("IPv4 to IPv6", "[2001:db8:2::2]:6000", "192.0.2.3"),
    ] {
        eprintln!("{family}");
        let manifests = manifests(backend);
        let _l4way = run_in(&network.gateway, &manifests, &[]);
        echo_once(&network.backend, backend);
        exchange(&network, gateway);
    }
}

#[test]
fn a_gateway_answers_only_on_its_addresses() {
    let network = Network::new();
    let manifests = manifests("198.51.100.2:6000");
    let l4way = run_in(&network.gateway, &manifests, &[]);
    network.client.enter(|| {
        let refused = connect("192.0.2.2:7000".parse().expect("an address"));
        assert_eq!(
            refused.expect_err("no listener there").kind(),
            io::ErrorKind::ConnectionRefused
        );
    });
    let report = network.gateway.enter(|| l4way.report());
    let addresses = &report["overview"]["gateways"][0]["addresses"];
    assert_eq!(addresses, &serde_json::json!(["192.0.2.3", "2001:db8:1::2"]));
}

#[test]
fn a_host_that_is_gone_costs_its_sessions_and_is_said() {
    let network = Network::new();
    let manifests = manifests("198.51.100.77:6000"); // nobody: ARP stays unanswered
    let l4way = run_in(&network.gateway, &manifests, &["--connect-timeout", "0.5"]);
    let answer = network.client.enter(|| {
        let mut stream = connect("192.0.2.3:7000".parse().expect("an address")).expect("accepted");
        stream.read(&mut [0]).map_err(|error| error.kind())
    });
    assert_eq!(answer, Err(io::ErrorKind::ConnectionReset));
    network.gateway.enter(|| {
        wait_for("the count of sessions that could not connect", || {
            let ended = l4way.metric("l4way_sessions_ended_total", &["reason=\"connect_"]);
            (ended >= 1.0).then_some(())
        });
    });
}

#[test]
fn an_address_that_is_not_ours_is_told() {
    let host = Host::new();
    let manifests = manifests("127.0.0.1:6000");
    let l4way = host.enter(|| L4way::run(&manifests, Ipv4Addr::LOCALHOST, &[]));
    let report = host.enter(|| l4way.report());
    let text = report["overview"].to_string();
    assert!(text.contains("192.0.2.3"), "{report:#}");
    assert!(!text.contains("\"type\":\"Programmed\",\"status\":\"True\""), "{report:#}");
    // nc's view of the same.
    let answer = host.enter(|| nc(&["-w", "1", "127.0.0.1", "7000"], "Hello\n"));
    assert_eq!(answer, "");
}

/// The number of a host's cable, of the last if it has several, once its own addresses of all links may
/// be used.
fn cable_number(host: &Host) -> u32 {
    // The fields: address, number of the interface, length of the prefix, scope, flags, name.
    const TENTATIVE: u32 = 0x40;
    let number = |field: &str| u32::from_str_radix(field, 16).expect("a number");
    let ready = || {
        let addresses = fs::read_to_string("/proc/thread-self/net/if_inet6").expect("addresses");
        let of_links = addresses.lines().filter(|line| line.starts_with("fe80"));
        let fields = of_links.map(|line| line.split_whitespace().collect::<Vec<_>>());
        let ready = fields.filter(|fields| number(fields[4]) & TENTATIVE == 0);
        let numbers: Vec<_> = ready.map(|fields| number(fields[1])).collect();
        // Each cable has one other address of IPv6.
        let cables = addresses.lines().filter(|line| line.starts_with("2001")).count();
        numbers.last().copied().filter(|_| numbers.len() == cables)
    };
    host.enter(|| wait_for("the addresses of its links", ready))
}

#[test]
fn what_comes_to_many_is_answered_from_an_address_that_can_send() {
    let network = Network::new();
    let manifests = Manifests::of(&[
        gateway_on(&["0.0.0.0", "::"], &[("udp", "UDP", 7000)]),
        route("UDPRoute", &[("echo", 1)]),
        backend("echo", "198.51.100.2:6000".parse().expect("an address and port")),
    ]);
    let _l4way = run_in(&network.gateway, &manifests, &[]);
    cable_number(&network.gateway);
    let cable = cable_number(&network.client);
    let echo = network.backend.enter(|| UdpSocket::bind("198.51.100.2:6000").expect("a port"));
    thread::spawn(move || -> io::Result<()> {
        let mut datagram = [0; 64];
        loop {
            let (length, from) = echo.recv_from(&mut datagram)?;
            echo.send_to(&datagram[..length], from)?;
        }
    });
    network.client.enter(|| {
        let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let all_nodes = SocketAddrV6::new(all_nodes, 7000, 0, cable);
        for (from, to, answers) in [
            // By a broadcast, by multicast from a global address, and from one of the link.
            ("192.0.2.1:0", "192.0.2.255:7000".parse().expect("an address"), "192.0.2."),
            ("192.0.2.1:0", "224.0.0.1:7000".parse().expect("an address"), "192.0.2."),
            ("[2001:db8:1::1]:0", all_nodes.into(), "2001:db8:1::2"),
            ("[::]:0", SocketAddr::from(all_nodes), "fe80:"),
        ] {
            let client = UdpSocket::bind(from).expect("a socket");
            client.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
            client.set_broadcast(true).expect("an option");
            let answer = wait_for((from, to), || {
                client.send_to(b"who is there?", to).expect("sent");
                client.recv_from(&mut [0; 64]).ok()
            });
            let by = answer.1.ip().to_string();
            assert!(by.starts_with(answers), "{to} is answered by {by}");
        }
    });
}
