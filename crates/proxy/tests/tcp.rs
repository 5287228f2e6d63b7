//! TCP sessions, over real sockets.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::{
    io::{Read, Write},
    net::{Ipv6Addr, Shutdown, TcpListener, TcpStream},
    num::NonZeroUsize,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use common::*;
use l4way_model::{Endpoint, EndpointAddress, EndpointTable, RefusedReason, Target};
use l4way_proxy::{Proxy, ProxySettings};
use l4way_session::CloseReason;
use socket2::{Domain, SockAddr, Socket, Type};

#[test]
fn bytes_go_both_ways() {
    let (proxy, address) = proxy_to(vec![echo()]);
    let client = connect(address);
    ping(&client, "hello");
    ping(&client, "again");
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&client).unwrap(), "");
    eventually("the session ends", || ended(&proxy, CloseReason::Closed) == 1);
    assert_eq!(total(&proxy, |row| row.opened), 1);
    assert_eq!(total(&proxy, |row| row.active()), 0);
    assert_eq!(total(&proxy, |row| row.bytes_upstream), 10);
    assert_eq!(total(&proxy, |row| row.bytes_downstream), 10);
    assert_eq!(total(&proxy, |row| row.connect_time.count()), 1);
}

#[test]
fn an_endpoint_may_speak_first() {
    let (_proxy, address) = proxy_to(vec![named("hello")]);
    assert_eq!(read_all(&connect(address)).unwrap(), "hello");
}

#[test]
fn the_client_may_end_first_and_still_gets_the_answer() {
    let (_proxy, address) = proxy_to(vec![serve(|mut connection| {
        let mut request = String::new();
        connection.read_to_string(&mut request).unwrap();
        connection.write_all(request.to_uppercase().as_bytes()).unwrap();
    })]);
    let mut client = connect(address);
    client.write_all(b"shout").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&client).unwrap(), "SHOUT");
}

#[test]
fn the_endpoint_may_end_first_and_still_gets_the_rest() {
    let (send, receive) = mpsc::channel();
    let (proxy, address) = proxy_to(vec![serve(move |mut connection| {
        connection.write_all(b"enough").unwrap();
        connection.shutdown(Shutdown::Write).unwrap();
        let mut rest = String::new();
        connection.read_to_string(&mut rest).unwrap();
        send.send(rest).unwrap();
    })]);
    let mut client = connect(address);
    assert_eq!(read_all(&client).unwrap(), "enough");
    client.write_all(b"one more thing").unwrap();
    drop(client);
    assert_eq!(receive.recv_timeout(PATIENCE).unwrap(), "one more thing");
    eventually("the session ends", || ended(&proxy, CloseReason::Closed) == 1);
}

#[test]
fn a_reset_by_the_client_reaches_the_endpoint() {
    let (send, receive) = mpsc::channel();
    let (proxy, address) = proxy_to(vec![serve(move |mut connection| {
        let mut first = [0; 5];
        connection.read_exact(&mut first).unwrap();
        connection.write_all(&first).unwrap();
        send.send(read_all(&connection).map_err(|error| error.kind())).unwrap();
    })]);
    let client = connect(address);
    ping(&client, "hello");
    reset(client);
    let result = receive.recv_timeout(PATIENCE).unwrap();
    assert_eq!(result, Err(std::io::ErrorKind::ConnectionReset));
    eventually("it is counted", || ended(&proxy, CloseReason::DownstreamReset) == 1);
}

#[test]
fn a_reset_by_the_endpoint_reaches_the_client_after_what_it_said() {
    let (proxy, address) = proxy_to(vec![serve(|mut connection| {
        let mut first = [0; 5];
        connection.read_exact(&mut first).unwrap();
        connection.write_all(b"no").unwrap();
        reset(connection);
    })]);
    let mut client = connect(address);
    client.write_all(b"hello").unwrap();
    let mut said = [0; 2];
    client.read_exact(&mut said).unwrap();
    assert_eq!(said, *b"no");
    assert_reset(&client);
    eventually("it is counted", || ended(&proxy, CloseReason::UpstreamReset) == 1);
}

#[test]
fn a_reset_after_a_half_close_is_still_a_reset() {
    let (accepted, connections) = mpsc::channel();
    let (proxy, address) = proxy_to(vec![serve(move |connection| {
        accepted.send(connection).unwrap();
    })]);
    let client = connect(address);
    client.shutdown(Shutdown::Write).unwrap();
    let upstream = connections.recv_timeout(PATIENCE).unwrap();
    upstream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(read_all(&upstream).unwrap(), "");
    reset(client);
    eventually("it is counted", || ended(&proxy, CloseReason::DownstreamReset) == 1);
    let mut upstream = upstream;
    eventually("the endpoint's side is gone", || upstream.write(b"x").is_err());
}

#[test]
fn an_endpoint_that_refuses_is_passed_over() {
    let (proxy, address) = proxy_to(vec![closed_port(), closed_port(), named("alive")]);
    for _ in 0..20 {
        assert_eq!(read_all(&connect(address)).unwrap(), "alive");
    }
    assert_eq!(total(&proxy, |row| row.opened), 20);
}

#[test]
fn early_data_survives_a_change_of_endpoint() {
    let (_proxy, address) = proxy_to(vec![closed_port(), closed_port(), echo()]);
    for _ in 0..20 {
        let mut client = connect(address);
        client.write_all(b"early").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_all(&client).unwrap(), "early");
    }
}

#[test]
fn an_endpoint_that_does_not_answer_is_passed_over_after_a_while() {
    let (_socket, _clients, hole) = black_hole();
    let addresses = vec![hole, named("alive")];
    let (mut proxy, address) = proxy_to(addresses.clone());
    set_connect_timeout(&mut proxy, address, Duration::from_millis(200), addresses);
    for _ in 0..6 {
        assert_eq!(read_all(&connect(address)).unwrap(), "alive");
    }
    assert_eq!(total(&proxy, |row| row.opened), 6);
}

#[test]
fn if_no_endpoint_answers_the_client_is_reset() {
    let (_socket, _clients, hole) = black_hole();
    let (mut proxy, address) = proxy_to(vec![hole]);
    set_connect_timeout(&mut proxy, address, Duration::from_millis(100), vec![hole]);
    assert_reset(&connect(address));
    eventually("it is counted", || ended(&proxy, CloseReason::ConnectTimeout) == 1);
}

#[test]
fn another_connect_timeout_ends_no_session_and_holds_for_the_next() {
    let (_socket, _clients, hole) = black_hole();
    let (mut proxy, address) = proxy_to(vec![echo()]);
    let established = connect(address);
    ping(&established, "before");
    set_connect_timeout(&mut proxy, address, Duration::from_secs(600), vec![hole]);
    let patient = connect(address);
    eventually("it waits for the endpoint", || total(&proxy, |row| row.active()) == 2);
    set_connect_timeout(&mut proxy, address, Duration::from_millis(100), vec![hole]);
    assert_reset(&connect(address));
    eventually("it is counted", || ended(&proxy, CloseReason::ConnectTimeout) == 1);
    ping(&established, "after");
    assert_eq!(total(&proxy, |row| row.active()), 2);
    drop(patient);
}

#[test]
fn if_every_endpoint_refuses_the_client_is_reset() {
    let (proxy, address) = proxy_to((0..5).map(|_| closed_port()).collect());
    assert_reset(&connect(address));
    eventually("it is counted", || ended(&proxy, CloseReason::ConnectRefused) == 1);
    assert_eq!(total(&proxy, |row| row.active()), 0);
}

#[test]
fn weights_are_shares_of_the_sessions() {
    let mut proxy = Proxy::start(settings()).unwrap();
    let address = free_address();
    let route = route([
        (3, Target::Backend(backend("a"))),
        (1, Target::Backend(backend("b"))),
        (0, Target::Backend(backend("never"))),
    ]);
    let table = endpoints([
        ("a", vec![named("a")]),
        ("b", vec![named("b")]),
        ("never", vec![named("never")]),
    ]);
    all_bound(&proxy.apply(config([listener("l", address, Some(route))]), &table));
    let answers: Vec<_> = (0..400).map(|_| read_all(&connect(address)).unwrap()).collect();
    let share = |name: &str| answers.iter().filter(|answer| *answer == name).count();
    assert_eq!(share("a") + share("b"), 400);
    assert!((290..=310).contains(&share("a")), "{} of 400 sessions to a", share("a"));
}

/// A listener with one of these refuses each session at once, and counts why.
#[test]
fn what_the_route_refuses_is_reset() {
    let invalid = route([(1, refused(RefusedReason::InvalidBackend))]);
    let weightless = route([(0, Target::Backend(backend("b")))]);
    let cases = [
        (None, CloseReason::NoRoute),
        (Some(route([])), CloseReason::NoWeight),
        (Some(weightless), CloseReason::NoWeight),
        (Some(invalid), CloseReason::InvalidBackend),
        (Some(route_to("without endpoints")), CloseReason::NoEndpoint),
    ];
    for (route, reason) in cases {
        let mut proxy = Proxy::start(settings()).unwrap();
        let address = free_address();
        let table = endpoints([("b", vec![named("b")])]);
        all_bound(&proxy.apply(config([listener("l", address, route)]), &table));
        let client = connect(address);
        assert_reset(&client);
        eventually("it is counted", || ended(&proxy, reason) == 1);
        assert_eq!(total(&proxy, |row| row.opened), 0, "{reason}");
        assert_eq!(total(&proxy, |row| row.refused().map(|(_, n)| n).sum()), 1, "{reason}");
    }
}

#[test]
fn an_invalid_share_does_not_grow_the_others() {
    let mut proxy = Proxy::start(settings()).unwrap();
    let address = free_address();
    let route =
        route([(1, Target::Backend(backend("b"))), (1, refused(RefusedReason::InvalidBackend))]);
    let table = endpoints([("b", vec![named("b")])]);
    all_bound(&proxy.apply(config([listener("l", address, Some(route))]), &table));
    let served = (0..200).filter(|_| read_all(&connect(address)).is_ok()).count();
    assert!((95..=105).contains(&served), "{served} of 200 sessions");
}

/// Bytes that show a loss, a swap or a repeat.
fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn a_hundred_mebibytes_arrive_as_they_were_in_both_directions_at_once() {
    const LENGTH: usize = 100 << 20;
    let down = Arc::new(pattern(1, LENGTH));
    let up = Arc::new(pattern(2, LENGTH));
    let exchange = |stream: TcpStream, say: Arc<Vec<u8>>, expect: Arc<Vec<u8>>| {
        let mut writer = stream.try_clone().unwrap();
        let writes = thread::spawn(move || {
            writer.write_all(&say).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut got = Vec::with_capacity(LENGTH);
        { stream }.read_to_end(&mut got).unwrap();
        writes.join().unwrap();
        assert!(got == *expect, "{} bytes came, and not the right ones", got.len());
    };
    let (say, expect) = (down.clone(), up.clone());
    let (proxy, address) = proxy_to(vec![serve(move |connection| {
        exchange(connection, say.clone(), expect.clone());
    })]);
    exchange(connect(address), up, down);
    eventually("the session ends", || ended(&proxy, CloseReason::Closed) == 1);
    assert_eq!(total(&proxy, |row| row.bytes_upstream), LENGTH as u64);
    assert_eq!(total(&proxy, |row| row.bytes_downstream), LENGTH as u64);
}

/// While one side doesn't read, the other can't write more than buffers hold; nothing is lost.
#[test]
fn a_slow_reader_slows_the_writer_down() {
    const LENGTH: usize = 64 << 20;
    let (accepted, connections) = mpsc::channel();
    let (proxy, address) = proxy_to(vec![serve(move |connection| {
        accepted.send(connection).unwrap();
    })]);
    let mut client = connect(address);
    client.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let bytes = pattern(3, LENGTH);
    let mut written = 0;
    // Until the writer has been held up for as long as its timeout.
    while let Ok(n) = client.write(&bytes[written..]) {
        written += n;
        assert!(written < LENGTH, "everything went into buffers");
    }
    // Two kernel buffers on each side, and what the proxy holds itself.
    assert!(written < 40 << 20, "{written} bytes in flight");
    let mut upstream = connections.recv_timeout(PATIENCE).unwrap();
    client.set_write_timeout(Some(PATIENCE)).unwrap();
    let rest = bytes[written..].to_vec();
    let writes = thread::spawn(move || {
        client.write_all(&rest).unwrap();
    });
    let mut got = Vec::new();
    upstream.read_to_end(&mut got).unwrap();
    writes.join().unwrap();
    assert!(got == bytes, "{} bytes came, and not the right ones", got.len());
    drop(upstream);
    eventually("the session ends", || total(&proxy, |row| row.active()) == 0);
}

#[test]
fn a_reset_is_noticed_while_the_other_side_is_full() {
    let (accepted, connections) = mpsc::channel();
    let (proxy, address) = proxy_to(vec![serve(move |connection| {
        accepted.send(connection).unwrap();
    })]);
    let mut client = connect(address);
    client.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let bytes = vec![7; 1 << 20];
    while client.write(&bytes).is_ok() {}
    let upstream = connections.recv_timeout(PATIENCE).unwrap();
    reset(client);
    eventually("it is counted", || ended(&proxy, CloseReason::DownstreamReset) == 1);
    drop(upstream);
}

#[test]
fn ipv6_on_both_sides() {
    let upstream = serve_on((Ipv6Addr::LOCALHOST, 0).into(), echo_all);
    let mut proxy = Proxy::start(settings()).unwrap();
    let free = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let config = config([listener("l", free, Some(route_to("b")))]);
    all_bound(&proxy.apply(config, &endpoints([("b", vec![upstream])])));
    ping(&connect(free), "hello");
}

#[test]
fn an_endpoint_may_be_a_unix_socket() {
    let path = std::env::temp_dir().join(format!("l4way-endpoint-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        let (mut connection, _) = socket.accept().unwrap();
        let mut request = String::new();
        connection.read_to_string(&mut request).unwrap();
        connection.write_all(request.to_uppercase().as_bytes()).unwrap();
    });
    let mut proxy = Proxy::start(settings()).unwrap();
    let address = free_address();
    let endpoint = Endpoint { address: EndpointAddress::Unix(Arc::new(path.clone())) };
    let table = EndpointTable([(backend("b"), [endpoint].into())].into());
    all_bound(&proxy.apply(config([listener("l", address, Some(route_to("b")))]), &table));
    let mut client = connect(address);
    client.write_all(b"hello").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_all(&client).unwrap(), "HELLO");
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_unix_socket_with_a_full_queue_is_waited_for() {
    let directory = std::env::temp_dir().join(format!("l4way-full-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("endpoint.sock");
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    // One place, and one more as Linux has it.
    socket.listen(1).unwrap();
    let mut proxy = Proxy::start(settings()).unwrap();
    let address = free_address();
    let config = config([listener("l", address, Some(route_to("b")))]);
    let endpoint = Endpoint { address: EndpointAddress::Unix(Arc::new(path)) };
    all_bound(&proxy.apply(config, &endpoints([("b", vec![endpoint])])));
    let clients: Vec<_> = (0..10).map(|_| connect(address)).collect();
    eventually("each has a session", || total(&proxy, |row| row.active()) == 10);
    thread::spawn(move || {
        while let Ok((connection, _)) = socket.accept() {
            (&connection).write_all(b"hello").unwrap();
        }
    });
    for client in &clients {
        assert_eq!(read_all(client).unwrap(), "hello");
    }
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn sessions_spread_over_endpoints_and_workers() {
    let upstreams: Vec<_> = (0..4).map(|_| echo()).collect();
    let (proxy, address) = proxy_to(upstreams);
    let clients: Vec<_> = (0..40).map(|_| connect(address)).collect();
    clients.iter().for_each(|client| ping(client, "hello"));
    assert_eq!(total(&proxy, |row| row.active()), 40);
    drop(clients);
    eventually("the sessions end", || total(&proxy, |row| row.active()) == 0);
}

/// However the two sides behave, a session ends when both are gone, and gives back what it used.
#[test]
fn every_session_ends() {
    let servers: [fn(TcpStream); 5] = [
        echo_all,
        drop,
        reset,
        |mut connection| {
            let _ = connection.write_all(b"hello");
        },
        |mut connection| {
            let _ = read_all(&connection);
            let _ = connection.write_all(b"goodbye");
        },
    ];
    let clients: [fn(TcpStream); 5] = [
        drop,
        reset,
        |mut stream| {
            let _ = stream.write_all(b"unread");
            reset(stream);
        },
        |mut stream| {
            let _ = stream.write_all(b"question");
            let _ = stream.shutdown(Shutdown::Write);
            let _ = read_all(&stream);
        },
        |stream| {
            let _ = stream.shutdown(Shutdown::Write);
            let _ = read_all(&stream);
        },
    ];
    let session_descriptors = NonZeroUsize::new(40);
    for server in servers {
        let settings = ProxySettings { session_descriptors, ..settings() };
        let (proxy, address) = proxy_with(settings, vec![serve(server)]);
        for client in clients.iter().cycle().take(100) {
            client(connect(address));
        }
        eventually("all have begun", || total(&proxy, |row| row.opened) >= 80);
        eventually("all have ended", || total(&proxy, |row| row.active()) == 0);
    }
}

#[test]
fn an_urgent_byte_stays_in_the_stream_both_ways() {
    let (_proxy, address) = proxy_to(vec![serve(|connection| {
        let mut request = [0; 7];
        (&connection).read_exact(&mut request).unwrap();
        (&connection).write_all(&request[..3]).unwrap();
        socket2::SockRef::from(&connection).send_out_of_band(&request[3..4]).unwrap();
        (&connection).write_all(&request[4..]).unwrap();
    })]);
    let client = connect(address);
    (&client).write_all(b"abc").unwrap();
    let socket = socket2::SockRef::from(&client);
    socket.set_out_of_band_inline(true).unwrap();
    socket.send_out_of_band(b"!").unwrap();
    (&client).write_all(b"def").unwrap();
    assert_eq!(read_all(&client).unwrap(), "abc!def");
}
