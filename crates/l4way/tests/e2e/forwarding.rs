//! Whom l4way believes for whom a request is forwarded.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
};

use super::{
    l4way::{L4way, own_address},
    manifests::{Manifests, backend, gateway, route},
};

/// An endpoint that answers with the head of the request; its address.
fn mirror(address: Ipv4Addr) -> SocketAddr {
    let listener = TcpListener::bind((address, 0)).expect("a free port");
    let bound = listener.local_addr().expect("an address");
    let serve = |mut stream: TcpStream| -> std::io::Result<()> {
        let mut came = Vec::new();
        let mut byte = [0];
        while !came.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte)?;
            came.push(byte[0]);
        }
        write!(stream, "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")?;
        stream.write_all(&came)
    };
    thread::spawn(move || listener.incoming().map_while(Result::ok).try_for_each(serve));
    bound
}

#[test]
fn a_trusted_proxy_is_believed_and_nobody_else() {
    let address = own_address();
    let manifests = Manifests::of(&[
        gateway(&[("http", "HTTP", 80)]),
        route("HTTPRoute", &[("mirror", 1)]),
        backend("mirror", mirror(address)),
    ]);
    let seen = |args: &[&str]| {
        let l4way = L4way::run(&manifests, address, args);
        l4way.wait("the listener", |report| report["phase"] == "serving");
        let mut client = TcpStream::connect((address, 80)).expect("a connection");
        let head =
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n";
        client.write_all(head.as_bytes()).expect("a request");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("an answer");
        let line = answer.lines().find(|line| line.starts_with("x-forwarded-for: "));
        (line.expect("the header").to_owned(), client.local_addr().expect("an address").ip())
    };
    let (line, ip) = seen(&[]);
    assert_eq!(line, format!("x-forwarded-for: {ip}"));
    let (line, ip) = seen(&["--http-trusted-proxies", "198.51.100.0/24,127.0.0.0/8"]);
    assert_eq!(line, format!("x-forwarded-for: 192.0.2.1, {ip}"));
}
