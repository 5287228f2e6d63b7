//! The kernel path: sessions that nftables carries, between hosts, and what is said of them.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::Command,
    thread,
};

use rustix::process::Signal;
use serde_json::Value;

use super::{
    client::{connect, echo},
    l4way::{BINARY, L4way, PATIENCE, wait_for},
    manifests::{Manifests, backend, gateway_on, route},
    namespaces::{Host, Network, ip},
};

const GATEWAY: &str = "192.0.2.3:7000";
const GATEWAY_V6: &str = "[2001:db8:1::2]:7000";
const ENDPOINT: &str = "198.51.100.2:6000";
const OTHER_ENDPOINT: &str = "198.51.100.2:6001";
const ENDPOINT_V6: &str = "[2001:db8:2::2]:6000";

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address and port")
}

/// Hosts of which the one in the middle forwards.
fn network() -> Network {
    let network = Network::new();
    network.gateway.enter(|| {
        for path in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            fs::write(format!("/proc/sys/net/{path}"), "1").expect("forwarding");
        }
    });
    network
}

/// Serves on an address until the test ends: says whom it sees, and then echoes.
fn mirror(host: &Host, at: &str) {
    let at = address(at);
    let (tcp, udp) = host.enter(|| {
        (TcpListener::bind(at).expect("a TCP port"), UdpSocket::bind(at).expect("a UDP port"))
    });
    thread::spawn(move || {
        for stream in tcp.incoming() {
            let Ok(mut stream) = stream else { break };
            thread::spawn(move || -> std::io::Result<()> {
                let seen = stream.peer_addr()?.ip();
                writeln!(stream, "{seen}")?;
                std::io::copy(&mut stream.try_clone()?, &mut stream)?;
                Ok(())
            });
        }
    });
    thread::spawn(move || -> std::io::Result<()> {
        let mut datagram = [0; 2_048];
        loop {
            let (length, from) = udp.recv_from(&mut datagram)?;
            let text = String::from_utf8_lossy(&datagram[..length]).into_owned();
            udp.send_to(format!("{at} {} {text}", from.ip()).as_bytes(), from)?;
        }
    });
}

/// A listener of either protocol on the gateway's addresses, whose routes go to these backends.
fn manifests(backends: &[(&str, &str, u32)]) -> Vec<String> {
    let refs: Vec<_> = backends.iter().map(|(name, _, weight)| (*name, *weight)).collect();
    let listeners = [("tcp", "TCP", 7000), ("udp", "UDP", 7000)];
    let mut documents = vec![
        gateway_on(&["192.0.2.3", "2001:db8:1::2"], &listeners),
        route("TCPRoute", &refs),
        route("UDPRoute", &refs),
    ];
    let known = backends.iter().filter(|(_, address, _)| !address.is_empty());
    documents.extend(known.map(|(name, at, _)| backend(name, address(at))));
    documents
}

fn run(host: &Host, manifests: &Manifests, args: &[&str]) -> L4way {
    let l4way = host.enter(|| L4way::run(manifests, Ipv4Addr::LOCALHOST, args));
    host.enter(|| l4way.wait("both listeners", |report| report["phase"] == "serving"));
    l4way
}

/// Waits until every listener is on this path.
fn wait_for_path(host: &Host, l4way: &L4way, path: &str) {
    host.enter(|| {
        l4way.wait(path, |report| {
            let listeners = report["overview"]["listeners"].as_array().expect("listeners");
            !listeners.is_empty()
                && listeners.iter().all(|listener| match &listener["dataPath"] {
                    Value::String(on) => on == path,
                    Value::Object(on) => on.contains_key(path),
                    _ => false,
                })
        })
    });
}

/// A session, and whom its endpoint sees.
fn open(host: &Host, to: &str) -> (TcpStream, String) {
    let stream = host.enter(|| connect(address(to))).expect("a connection");
    let mut seen = String::new();
    BufReader::with_capacity(1, &stream).read_line(&mut seen).expect("a line");
    (stream, seen.trim().to_owned())
}

fn udp_socket(host: &Host, to: &str) -> UdpSocket {
    let any = if to.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = host.enter(|| UdpSocket::bind(any)).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket.connect(address(to)).expect("a peer");
    socket
}

/// Which endpoint answers, and whom it sees.
fn ask_udp(socket: &UdpSocket) -> (String, String) {
    socket.send(b"Hello").expect("sent");
    let mut answer = [0; 2_048];
    let length = socket.recv(&mut answer).expect("an answer");
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    let mut words = answer.split(' ').map(str::to_owned);
    (words.next().expect("an endpoint"), words.next().expect("a client"))
}

fn nft(host: &Host, args: &[&str]) -> String {
    let output = host.enter(|| Command::new("nft").args(args).output());
    let output = output.expect("nft is installed by `make setup`");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "nft {}: {error}", args.join(" "));
    String::from_utf8(output.stdout).expect("text")
}

/// The sum of a metric's samples, asked for on the host.
fn metric(host: &Host, l4way: &L4way, name: &str, labels: &[&str]) -> f64 {
    host.enter(|| l4way.metric(name, labels))
}

fn records(path: &std::path::Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("a record")).collect()
}

#[test]
fn both_families_and_protocols_are_carried_counted_and_recorded() {
    let network = network();
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("access.log");
    for (gateway, endpoint, seen_as) in
        [(GATEWAY, ENDPOINT, "198.51.100.1"), (GATEWAY_V6, ENDPOINT_V6, "2001:db8:2::1")]
    {
        let _ = fs::remove_file(&log);
        mirror(&network.backend, endpoint);
        let manifests = Manifests::of(&manifests(&[("echo", endpoint, 1)]));
        let log_path = log.to_str().expect("text");
        let args = ["--data-path", "kernel", "--access-log", log_path];
        let mut l4way = run(&network.gateway, &manifests, &args);
        wait_for_path(&network.gateway, &l4way, "kernel");

        let (mut stream, seen) = open(&network.client, gateway);
        assert_eq!(seen, seen_as);
        let message = vec![0x5a; 300_000];
        echo(&mut stream, &message).expect("an echo");
        drop(stream);
        let udp = udp_socket(&network.client, gateway);
        assert_eq!(ask_udp(&udp), (endpoint.to_owned(), seen_as.to_owned()));
        // Clients on the gateway itself.
        let (mut own, _) = open(&network.gateway, gateway);
        echo(&mut own, b"Hello").expect("an echo");
        drop(own);

        let ended = wait_for("two records", || {
            let records = records(&log);
            (records.len() == 2).then_some(records)
        });
        // Which of the two ended first isn't said.
        let from_client = |record: &&Value| record["bytes_upstream"].as_u64() > Some(5);
        let record = ended.iter().find(from_client).expect("the client's session");
        assert_eq!(record["reason"], "closed", "{record}");
        assert_eq!(record["endpoint"], endpoint, "{record}");
        assert_eq!(record["backend"], "Backend/default/echo", "{record}");
        assert_eq!(record["local"], gateway, "{record}");
        assert_eq!(record["connect_seconds"], Value::Null, "{record}");
        // Options beside timestamps, as of selective acknowledgement, count as payload.
        let sent = record["bytes_upstream"].as_u64().expect("a number");
        assert!((300_000..310_000).contains(&sent), "{record}");

        let metric = |name: &str, labels: &[&str]| metric(&network.gateway, &l4way, name, labels);
        let (tcp, udp) = ("protocol=\"TCP\"", "protocol=\"UDP\"");
        assert_eq!(metric("l4way_sessions_opened_total", &[tcp]), 2.0);
        assert_eq!(metric("l4way_sessions_active", &[tcp]), 0.0);
        assert_eq!(metric("l4way_sessions_active", &[udp]), 1.0);
        assert_eq!(metric("l4way_session_datagrams_total", &[udp, "upstream"]), 1.0);
        assert_eq!(metric("l4way_session_bytes_total", &[udp, "upstream"]), 5.0);
        let at = format!("endpoint=\"{endpoint}\"");
        assert_eq!(metric("l4way_kernel_endpoint_sessions_opened_total", &[&at]), 3.0);
        assert_eq!(metric("l4way_listener_on_kernel_path", &[]), 2.0);

        l4way.signal(Signal::INT);
        assert!(l4way.ended().success());
        let last = records(&log);
        assert_eq!(last.last().expect("a record")["reason"], "shutdown", "{last:?}");
    }
}

/// Where no interface but loopback has an address, none can stand in for the client's.
#[test]
fn clients_on_a_host_with_only_loopback_get_through() {
    const OWN: &str = "192.0.2.9";
    let host = Host::new();
    // (where clients write to, the endpoint, whom that sees)
    let ways = [
        ("127.0.0.1:7000", "127.0.0.1:6000", "127.0.0.1"),
        ("127.0.0.2:7000", "127.0.0.3:6000", "127.0.0.1"),
        ("[::1]:7000", "[::1]:6000", "::1"),
        ("192.0.2.9:7000", "192.0.2.9:6000", OWN),
    ];
    ip(&["-n", &host.name, "addr", "add", &format!("{OWN}/32"), "dev", "lo", "scope", "host"]);
    ways.iter().for_each(|(_, endpoint, _)| mirror(&host, endpoint));
    for (gateway, endpoint, seen_as) in ways {
        let at = address(gateway).ip().to_string();
        let listeners = [("tcp", "TCP", 7000), ("udp", "UDP", 7000)];
        let manifests = Manifests::of(&[
            gateway_on(&[&at], &listeners),
            route("TCPRoute", &[("echo", 1)]),
            route("UDPRoute", &[("echo", 1)]),
            backend("echo", address(endpoint)),
        ]);
        let l4way = run(&host, &manifests, &["--data-path", "kernel"]);
        wait_for_path(&host, &l4way, "kernel");
        let (mut stream, seen) = open(&host, gateway);
        assert_eq!(seen, seen_as, "of a client of {gateway}");
        echo(&mut stream, b"Hello").expect("an echo");
        let udp = udp_socket(&host, gateway);
        assert_eq!(ask_udp(&udp), (endpoint.to_owned(), seen_as.to_owned()));
        let opened = metric(&host, &l4way, "l4way_kernel_endpoint_sessions_opened_total", &[]);
        assert_eq!(opened, 2.0);
    }
}

#[test]
fn shares_are_spread_by_weight_and_refused_ones_are_reset() {
    let network = network();
    mirror(&network.backend, ENDPOINT);
    mirror(&network.backend, OTHER_ENDPOINT);
    let backends = [("one", ENDPOINT, 1), ("other", OTHER_ENDPOINT, 1), ("missing", "", 2)];
    let manifests = Manifests::of(&manifests(&backends));
    let l4way = run(&network.gateway, &manifests, &["--data-path", "kernel"]);
    wait_for_path(&network.gateway, &l4way, "kernel");
    let refused = network.client.enter(|| {
        let connects = (0..200).map(|_| connect(address(GATEWAY)));
        connects.filter(|result| result.is_err()).count()
    });
    // Half of them; 12 sigmas are 85.
    assert!((15..185).contains(&refused), "{refused} of 200");
    let metric = |name: &str, labels: &[&str]| metric(&network.gateway, &l4way, name, labels);
    wait_for("the count of refused sessions", || {
        let counted = metric("l4way_sessions_refused_total", &["invalid_backend", "TCP"]);
        (counted == refused as f64).then_some(())
    });
    let opened = |backend: &str| metric("l4way_sessions_opened_total", &[backend, "TCP"]);
    let (one, other) = (opened("Backend/default/one"), opened("Backend/default/other"));
    assert_eq!(one + other, 200.0 - refused as f64);
    assert!(one > 0.0 && other > 0.0, "{one} and {other}");
}

#[test]
fn a_listener_changes_paths_and_no_session_notices() {
    let network = network();
    mirror(&network.backend, ENDPOINT);
    mirror(&network.backend, ENDPOINT_V6);
    // Endpoints of both families are more than NAT can do.
    let mixed = manifests(&[("v4", ENDPOINT, 1), ("v6", ENDPOINT_V6, 0), ("more", ENDPOINT_V6, 1)]);
    let one = manifests(&[("v4", ENDPOINT, 1)]);
    let two_families = {
        let mut documents = one.clone();
        documents.pop();
        documents.push(
            "apiVersion: l4way.dev/v1alpha1\nkind: Backend\nmetadata: {name: v4}\nspec:\n  \
             endpoints:\n  - {ip: {address: 198.51.100.2, port: 6000}}\n  \
             - {ip: {address: '2001:db8:2::2', port: 6000}}\n"
                .to_owned(),
        );
        documents
    };
    let manifests = Manifests::of(&mixed);
    let l4way = run(&network.gateway, &manifests, &["--data-path", "auto"]);
    wait_for_path(&network.gateway, &l4way, "proxy");
    let why = network.gateway.enter(|| l4way.report()).to_string();
    assert!(why.contains("it has endpoints of IPv4 and of IPv6"), "{why}");

    let (mut by_proxy, _) = open(&network.client, GATEWAY);
    let udp_by_proxy = udp_socket(&network.client, GATEWAY);
    let before = ask_udp(&udp_by_proxy);

    manifests.write_all(&one);
    wait_for_path(&network.gateway, &l4way, "kernel");
    let (mut by_kernel, _) = open(&network.client, GATEWAY);
    let udp_by_kernel = udp_socket(&network.client, GATEWAY);
    ask_udp(&udp_by_kernel);
    echo(&mut by_proxy, b"still there").expect("the proxy's session");
    // The flow's endpoint stays: the kernel would have sent it to the one that is left.
    if before.0 == ENDPOINT {
        assert_eq!(ask_udp(&udp_by_proxy), before);
    }
    let opened = |labels: &[&str]| {
        metric(&network.gateway, &l4way, "l4way_kernel_endpoint_sessions_opened_total", labels)
    };
    assert_eq!((opened(&["TCP"]), opened(&["UDP"])), (1.0, 1.0));

    manifests.write_all(&two_families);
    wait_for_path(&network.gateway, &l4way, "proxy");
    echo(&mut by_kernel, b"still there").expect("the kernel's session");
    echo(&mut by_proxy, b"still there").expect("the proxy's session");
    assert_eq!(ask_udp(&udp_by_kernel).0, ENDPOINT);
    let (mut new, _) = open(&network.client, GATEWAY);
    echo(&mut new, b"new").expect("a new session");
    assert_eq!((opened(&["TCP"]), opened(&["UDP"])), (1.0, 1.0));
}

#[test]
fn udp_flows_leave_an_endpoint_that_is_gone_and_connections_stay() {
    let network = network();
    mirror(&network.backend, ENDPOINT);
    mirror(&network.backend, OTHER_ENDPOINT);
    let manifests = Manifests::of(&self::manifests(&[("echo", ENDPOINT, 1)]));
    let l4way = run(&network.gateway, &manifests, &["--data-path", "kernel"]);
    wait_for_path(&network.gateway, &l4way, "kernel");
    let (mut stream, _) = open(&network.client, GATEWAY);
    let udp = udp_socket(&network.client, GATEWAY);
    assert_eq!(ask_udp(&udp).0, ENDPOINT);
    manifests.write_all(&self::manifests(&[("echo", OTHER_ENDPOINT, 1)]));
    let labels = ["endpoint_removed"];
    wait_for("the flow's end", || {
        let ended = metric(&network.gateway, &l4way, "l4way_sessions_ended_total", &labels);
        (ended == 1.0).then_some(())
    });
    assert_eq!(ask_udp(&udp).0, OTHER_ENDPOINT);
    echo(&mut stream, b"still there").expect("the connection");
}

#[test]
fn silent_udp_flows_end_after_their_timeout() {
    let network = network();
    mirror(&network.backend, ENDPOINT);
    let manifests = Manifests::of(&manifests(&[("echo", ENDPOINT, 1)]));
    let args = ["--data-path", "kernel", "--udp-session-timeout", "1"];
    let l4way = run(&network.gateway, &manifests, &args);
    wait_for_path(&network.gateway, &l4way, "kernel");
    ask_udp(&udp_socket(&network.client, GATEWAY));
    wait_for("the flow's end", || {
        let labels = ["session_timeout"];
        let ended = metric(&network.gateway, &l4way, "l4way_sessions_ended_total", &labels);
        (ended == 1.0).then_some(())
    });
}

#[test]
fn leaving_lets_sessions_end_and_leaves_no_rule() {
    let network = network();
    mirror(&network.backend, ENDPOINT);
    let manifests = Manifests::of(&manifests(&[("echo", ENDPOINT, 1)]));
    let mut l4way = run(&network.gateway, &manifests, &["--data-path", "kernel"]);
    wait_for_path(&network.gateway, &l4way, "kernel");
    let (mut stream, _) = open(&network.client, GATEWAY);
    l4way.signal(Signal::TERM);
    wait_for("new sessions to be refused", || {
        network.client.enter(|| connect(address(GATEWAY))).is_err().then_some(())
    });
    echo(&mut stream, b"still there").expect("the session");
    assert!(nft(&network.gateway, &["list", "tables"]).contains("inet l4way"));
    drop(stream);
    assert!(l4way.ended().success());
    assert_eq!(nft(&network.gateway, &["list", "tables"]), "");
}

#[test]
fn a_session_that_outlives_the_deadline_is_reset() {
    let network = network();
    mirror(&network.backend, ENDPOINT);
    let manifests = Manifests::of(&manifests(&[("echo", ENDPOINT, 1)]));
    let args = ["--data-path", "kernel", "--drain-timeout", "0.2"];
    let mut l4way = run(&network.gateway, &manifests, &args);
    wait_for_path(&network.gateway, &l4way, "kernel");
    let (mut stream, _) = open(&network.client, GATEWAY);
    l4way.signal(Signal::TERM);
    assert!(l4way.ended().success());
    assert_eq!(nft(&network.gateway, &["list", "tables"]), "");
    let reset = echo(&mut stream, b"anybody?").expect_err("the session is gone");
    assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn the_next_process_takes_over_from_one_that_died() {
    let network = network();
    mirror(&network.backend, ENDPOINT);
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("access.log");
    let manifests = Manifests::of(&manifests(&[("echo", ENDPOINT, 1)]));
    let args = ["--data-path", "kernel", "--access-log", log.to_str().expect("text")];
    let mut l4way = run(&network.gateway, &manifests, &args);
    wait_for_path(&network.gateway, &l4way, "kernel");
    let (mut stream, _) = open(&network.client, GATEWAY);
    l4way.signal(Signal::KILL);
    l4way.ended();
    echo(&mut stream, b"still there").expect("the session");
    let (mut meanwhile, _) = open(&network.client, GATEWAY);
    echo(&mut meanwhile, b"new").expect("a session without any l4way");

    let l4way = run(&network.gateway, &manifests, &args);
    wait_for_path(&network.gateway, &l4way, "kernel");
    echo(&mut stream, b"still there").expect("the session");
    echo(&mut meanwhile, b"still there").expect("the session");
    let active = || metric(&network.gateway, &l4way, "l4way_sessions_active", &["TCP"]);
    wait_for("both sessions to be known", || (active() == 2.0).then_some(()));
    drop((stream, meanwhile));
    let ended = wait_for("both records", || {
        let records = records(&log);
        (records.len() == 2).then_some(records)
    });
    assert!(ended.iter().all(|record| record["reason"] == "closed"), "{ended:?}");
}

/// Rules such as kube-proxy's, a firewall's reload, and a second l4way.
#[test]
fn tables_of_others_are_left_alone_and_ours_is_kept() {
    let network = network();
    mirror(&network.backend, ENDPOINT);
    let theirs = "table ip kube-proxy { chain nat { type nat hook prerouting priority dstnat; \
                  ip daddr 192.0.2.2 tcp dport 80 dnat to 198.51.100.2:6000; }; \
                  chain post { type nat hook postrouting priority srcnat; \
                  ip daddr 198.51.100.2 tcp dport 6000 ct original ip daddr 192.0.2.2 masquerade; }; }";
    nft(&network.gateway, &[theirs]);
    let before = nft(&network.gateway, &["list", "table", "ip", "kube-proxy"]);
    let manifests = Manifests::of(&manifests(&[("echo", ENDPOINT, 1)]));
    let mut l4way = run(&network.gateway, &manifests, &["--data-path", "kernel"]);
    wait_for_path(&network.gateway, &l4way, "kernel");
    for to in [GATEWAY, "192.0.2.2:80"] {
        let (mut stream, seen) = open(&network.client, to);
        assert_eq!(seen, "198.51.100.1");
        echo(&mut stream, b"Hello").expect("an echo");
    }
    let opened = metric(&network.gateway, &l4way, "l4way_sessions_opened_total", &["TCP"]);
    assert_eq!(opened, 1.0, "another's session was counted as ours");

    let elsewhere = Manifests::of(&[gateway_on(&["192.0.2.2"], &[("tcp", "TCP", 7001)])]);
    let second = run(&network.gateway, &elsewhere, &["--data-path", "auto"]);
    let report = network.gateway.enter(|| second.report()).to_string();
    assert!(report.contains("another l4way uses it"), "{report}");
    drop(second);

    nft(&network.gateway, &["flush", "ruleset"]);
    let tables = nft(&network.gateway, &["list", "tables"]);
    assert!(tables.contains("inet l4way") && !tables.contains("kube-proxy"), "{tables}");
    open(&network.client, GATEWAY);
    nft(&network.gateway, &[theirs]);
    l4way.signal(Signal::INT);
    assert!(l4way.ended().success());
    assert_eq!(nft(&network.gateway, &["list", "table", "ip", "kube-proxy"]), before);
    assert_eq!(nft(&network.gateway, &["list", "tables"]).trim(), "table ip kube-proxy");
}

#[test]
fn endpoints_may_see_clients_themselves() {
    let network = network();
    mirror(&network.backend, ENDPOINT);
    ip(&["-n", &network.backend.name, "route", "add", "192.0.2.0/24", "via", "198.51.100.1"]);
    let manifests = Manifests::of(&manifests(&[("echo", ENDPOINT, 1)]));
    let args = ["--data-path", "kernel", "--kernel-source-address", "keep"];
    let l4way = run(&network.gateway, &manifests, &args);
    wait_for_path(&network.gateway, &l4way, "kernel");
    let (mut stream, seen) = open(&network.client, GATEWAY);
    assert_eq!(seen, "192.0.2.1");
    echo(&mut stream, b"Hello").expect("an echo");
    let udp = udp_socket(&network.client, GATEWAY);
    assert_eq!(ask_udp(&udp).1, "192.0.2.1");
}

#[test]
fn without_the_privilege_the_proxy_carries_all_and_says_so() {
    let network = network();
    mirror(&network.backend, ENDPOINT);
    let manifests = Manifests::of(&manifests(&[("echo", ENDPOINT, 1)]));
    let command = |data_path: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set=-net_admin", "--inh-caps=-net_admin", BINARY, "run", "-f"]);
        command.arg(manifests.path()).args(["--admin-address", "127.0.0.1:0"]);
        command.args(["--data-path", data_path]);
        command
    };
    let l4way = network.gateway.enter(|| L4way::start(command("auto")));
    wait_for_path(&network.gateway, &l4way, "proxy");
    let said = l4way.log();
    let why = "the proxy carries every session, not the kernel: ";
    assert_eq!(said.matches(why).count(), 1, "{said}");
    assert!(said.contains("it needs CAP_NET_ADMIN"), "{said}");
    let (mut stream, _) = open(&network.client, GATEWAY);
    echo(&mut stream, b"Hello").expect("an echo");
    let mut byte = [0; 1];
    stream.set_nonblocking(true).expect("a socket");
    assert!(stream.read(&mut byte).is_err());

    let output = network.gateway.enter(|| command("kernel").output()).expect("setpriv ran");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.contains("--data-path kernel: "), "{error}");
}

#[test]
fn a_host_that_does_not_forward_leaves_it_to_the_proxy() {
    let network = Network::new();
    mirror(&network.backend, ENDPOINT);
    let manifests = Manifests::of(&manifests(&[("echo", ENDPOINT, 1)]));
    let l4way = run(&network.gateway, &manifests, &["--data-path", "auto"]);
    wait_for_path(&network.gateway, &l4way, "proxy");
    let report = network.gateway.enter(|| l4way.report()).to_string();
    assert!(report.contains("net.ipv4.ip_forward is 0"), "{report}");
    open(&network.client, GATEWAY);
    network.gateway.enter(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1")).expect("forwarding");
    wait_for_path(&network.gateway, &l4way, "kernel");
    open(&network.client, GATEWAY);
}
