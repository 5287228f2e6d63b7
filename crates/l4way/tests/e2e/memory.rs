//! What idle connections cost.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    thread,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{
    client::connect,
    l4way::{L4way, own_address, wait_for},
    manifests::{Manifests, backend, gateway, route},
};

const CONNECTIONS: usize = 5_000;
const MEBIBYTE: u64 = 1024 * 1024;

/// Both ends of every session are descriptors of this process.
fn raise_descriptor_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("the hard limit");
    let enough = maximum.is_none_or(|maximum| maximum > 2 * CONNECTIONS as u64 + 1_000);
    assert!(enough, "this test takes a hard limit of descriptors above 11,000: {maximum:?}");
}

/// A server that accepts, and keeps what it accepted; its address.
fn sink(address: Ipv4Addr) -> SocketAddr {
    let listener = TcpListener::bind((address, 0)).expect("a free port");
    let bound = listener.local_addr().expect("an address");
    thread::spawn(move || {
        let accepted: Vec<_> = listener.incoming().map_while(Result::ok).collect();
        drop(accepted);
    });
    bound
}

#[test]
fn five_thousand_idle_connections_add_less_than_16_mib() {
    raise_descriptor_limit();
    let address = own_address();
    let manifests = Manifests::of(&[
        gateway(&[("tcp", "TCP", 9000)]),
        route("TCPRoute", &[("sink", 1)]),
        backend("sink", sink(address)),
    ]);
    let l4way = L4way::run(&manifests, address, &[]);
    l4way.wait("the listener", |report| report["phase"] == "serving");
    let active = || l4way.metric("l4way_sessions_active", &["protocol=\"TCP\""]);
    // Whatever is allocated once is there before the first reading.
    let _first = connect((address, 9000).into()).expect("a connection");
    wait_for("the first session", || (active() == 1.0).then_some(()));
    let before = l4way.resident();

    let mut open = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        open.push(connect((address, 9000).into()).expect("a connection"));
    }
    wait_for("all sessions", || (active() > CONNECTIONS as f64).then_some(()));
    let added = l4way.resident().saturating_sub(before);
    eprintln!("{CONNECTIONS} connections add {} bytes each", added / CONNECTIONS as u64);
    assert!(added < 16 * MEBIBYTE, "{CONNECTIONS} idle connections add {added} bytes");
}
