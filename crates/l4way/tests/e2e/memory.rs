//! What idle connections cost, and those that don't read.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
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

/// A server that answers requests for `/big` with more than sockets hold; its address.
fn big_answers(address: Ipv4Addr) -> SocketAddr {
    let listener = TcpListener::bind((address, 0)).expect("a free port");
    let bound = listener.local_addr().expect("an address");
    let serve = |mut stream: TcpStream| -> std::io::Result<()> {
        let mut request = [0; 1_024];
        let read = stream.read(&mut request)?;
        let length: usize = if request[..read].starts_with(b"GET /big ") { 16 << 20 } else { 5 };
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n")?;
        for _ in 0..length.div_ceil(1 << 16) {
            stream.write_all(&[b'x'; 1 << 16][..length.min(1 << 16)])?;
        }
        Ok(())
    };
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || serve(stream));
        }
    });
    bound
}

#[test]
fn readers_of_http_that_stall_add_less_than_64_kib_each() {
    const READERS: usize = 400;
    raise_descriptor_limit();
    let address = own_address();
    let manifests = Manifests::of(&[
        gateway(&[("http", "HTTP", 9000)]),
        route("HTTPRoute", &[("big", 1)]),
        backend("big", big_answers(address)),
    ]);
    let l4way = L4way::run(&manifests, address, &[]);
    l4way.wait("the listener", |report| report["phase"] == "serving");
    let ask = |path: &str| {
        let mut stream = connect((address, 9000).into()).expect("a connection");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: any\r\nConnection: close\r\n\r\n")
            .expect("a request");
        stream
    };
    let small = || {
        let mut answer = String::new();
        ask("/").read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("xxxxx"), "{answer}");
    };
    small();
    let before = l4way.resident();
    let stalled: Vec<_> = (0..READERS).map(|_| ask("/big")).collect();
    let held = || l4way.metric("l4way_memory_held_bytes", &[]);
    wait_for("all of them to be stalled", || (held() >= (READERS * 16_384) as f64).then_some(()));
    small();
    let added = l4way.resident().saturating_sub(before);
    eprintln!("{READERS} stalled readers add {} bytes each", added / READERS as u64);
    assert!(added < READERS as u64 * 65_536, "{READERS} stalled readers add {added} bytes");
    drop(stalled);
    wait_for("nothing to be held", || (held() == 0.0).then_some(()));
}
