//! Servers, and places where none is.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::OwnedFd,
    thread,
    time::Duration,
};

use rustix::net::{AddressFamily, SocketType, bind, listen, socket, sockopt::set_socket_reuseaddr};

use super::super::client::unused;

/// What listeners lead to.
pub(super) struct Backends {
    /// It echoes.
    pub(super) lives: SocketAddr,
    pub(super) lives_udp: SocketAddr,
    /// Nobody is there.
    pub(super) refuses: SocketAddr,
    pub(super) dead_udp: SocketAddr,
    /// It answers no SYN.
    pub(super) silent: SocketAddr,
    /// It dies and comes back.
    pub(super) flapping: SocketAddr,
    pub(super) http: SocketAddr,
    /// It sends as much as it can.
    pub(super) bulk: SocketAddr,
    _silent: (OwnedFd, Vec<TcpStream>),
}

impl Backends {
    pub(super) fn start(address: Ipv4Addr, lives: SocketAddr) -> Self {
        let (silent, queue) = silent(address);
        Self {
            lives,
            lives_udp: echo_udp(address),
            refuses: unused(address),
            dead_udp: UdpSocket::bind((address, 0)).and_then(|s| s.local_addr()).expect("a port"),
            silent,
            flapping: unused(address),
            http: server(address, http),
            bulk: server(address, bulk),
            _silent: queue,
        }
    }
}

/// A server that nobody will accept connections of: its queue is full, and SYNs go unanswered.
fn silent(address: Ipv4Addr) -> (SocketAddr, (OwnedFd, Vec<TcpStream>)) {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
    set_socket_reuseaddr(&socket, true).expect("an option");
    let SocketAddr::V4(free) = unused(address) else { unreachable!("it is IPv4") };
    bind(&socket, &free).expect("a port");
    listen(&socket, 0).expect("a queue");
    let patience = Duration::from_millis(300);
    let connect = |_| TcpStream::connect_timeout(&free.into(), patience).ok();
    let queue = (0..16).map_while(connect).collect();
    (free.into(), (socket, queue))
}

fn echo_udp(address: Ipv4Addr) -> SocketAddr {
    let socket = UdpSocket::bind((address, 0)).expect("a free port");
    let bound = socket.local_addr().expect("an address");
    thread::spawn(move || {
        let mut datagram = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut datagram) {
            let _ = socket.send_to(&datagram[..length], from);
        }
    });
    bound
}

/// A server that does this with each connection, until the test ends.
fn server(address: Ipv4Addr, serve: fn(TcpStream)) -> SocketAddr {
    let listener = TcpListener::bind((address, 0)).expect("a free port");
    let bound = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || serve(stream));
        }
    });
    bound
}

/// Sends until the client is gone.
fn bulk(mut stream: TcpStream) {
    let bytes = [0x5a; 64 << 10];
    while stream.write_all(&bytes).is_ok() {}
}

/// Answers `/bulk` without an end, and everything else with its path.
fn http(mut stream: TcpStream) {
    let mut request = Vec::new();
    let mut bytes = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut bytes) {
        request.extend_from_slice(&bytes[..length]);
        let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&request[..end]).into_owned();
        request.drain(..end + 4);
        let path = head.split(' ').nth(1).unwrap_or_default();
        if path == "/bulk" {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            return bulk(stream);
        }
        let length = path.len();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{path}");
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}
