//! The admin endpoint and `l4way status`.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, TcpStream},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    process::Command,
};

use rustix::process::Signal;

use super::{
    client::{ask, connect},
    l4way::{BINARY, L4way, own_address, wait_for},
    manifests::Manifests,
};

#[test]
fn status_prints_what_run_printed() {
    let manifests = Manifests::copy_of("examples/tutorial");
    let l4way = L4way::run(&manifests, own_address(), &["--demo-backends"]);
    l4way.wait("the listeners", |report| report["phase"] == "serving");
    let (code, table) = l4way.status(&[]);
    assert_eq!(code, Some(0), "{table}");
    for line in table.lines().filter(|line| line.starts_with("default/")) {
        wait_for(line, || l4way.stdout().contains(line).then_some(()));
    }

    let (_, json) = l4way.status(&["-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json, l4way.report());
    let (_, yaml) = l4way.status(&["-o", "yaml"]);
    assert!(yaml.contains("message: Route is accepted by the Gateway."), "{yaml}");
}

#[test]
fn status_tells_what_is_wrong_by_its_exit_code_and_in_words() {
    let manifests = Manifests::copy_of("examples/tutorial");
    let l4way = L4way::run(&manifests, own_address(), &["--demo-backends"]);
    manifests.write(
        "typo.yaml",
        "apiVersion: gateway.networking.k8s.io/v1\nkind: TCPRoute\nmetadata: {name: typo}\n\
         spec:\n  parentRefs: [{name: tcp-udp-gateway, sectionName: tcp-listner}]\n  \
         rules: [{backendRefs: [{name: tcp-echo-service, port: 5000}]}]\n",
    );
    l4way.wait("the new route", |report| report["overview"].to_string().contains("typo"));
    let (code, table) = l4way.status(&[]);
    assert_eq!(code, Some(1), "{table}");
    assert!(table.contains("NoMatchingParent") && table.contains("tcp-listener"), "{table}");
}

#[test]
fn status_without_a_running_l4way_says_what_to_do() {
    let output = Command::new(BINARY)
        .args(["status", "--admin-address", "127.0.0.1:1"])
        .output()
        .expect("l4way status");
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8(output.stderr).expect("text");
    assert!(error.contains("l4way run"), "{error}");
}

#[test]
fn health_readiness_and_metrics() {
    let manifests = Manifests::copy_of("examples/tutorial");
    let address = own_address();
    let l4way = L4way::run(&manifests, address, &["--demo-backends"]);
    l4way.wait("the listeners", |report| report["phase"] == "serving");
    assert_eq!(l4way.get("/healthz").0, 200);
    assert_eq!(l4way.get("/readyz").0, 200);
    assert_eq!(l4way.get("/nothing").0, 404);

    ask((address, 9000).into()).expect("an answer");
    let labels = [
        "gateway=\"default/tcp-udp-gateway\"",
        "listener=\"tcp-listener\"",
        "route=\"TCPRoute/default/tcp-echo-route\"",
        "backend=\"Service/default/tcp-echo-service:5000\"",
    ];
    wait_for("the session's end to be counted", || {
        let ended = l4way.metric("l4way_sessions_ended_total", &labels);
        (ended == 1.0).then_some(())
    });
    assert_eq!(l4way.metric("l4way_sessions_opened_total", &labels), 1.0);
    assert_eq!(l4way.metric("l4way_sessions_active", &labels), 0.0);
    assert_eq!(l4way.metric("l4way_session_bytes_total", &labels), (10 + 21) as f64);
    assert_eq!(l4way.metric("l4way_connect_seconds_count", &labels), 1.0);
}

#[test]
fn what_names_others_is_for_this_user_only() {
    let manifests = Manifests::copy_of("examples/tutorial");
    let l4way = L4way::run(&manifests, own_address(), &["--demo-backends"]);
    l4way.wait("the listeners", |report| report["phase"] == "serving");
    let (code, text) = l4way.get("/status");
    assert_eq!(code, 404);
    assert!(text.contains("l4way status") && !text.contains("tcp-udp-gateway"), "{text}");
    assert_eq!(l4way.get_privately("/healthz"), (200, "ok\n".to_owned()));
    let mode = fs::metadata(&l4way.socket).expect("the socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// Runs the tutorial, with the admin endpoint there and the socket where l4way has it.
fn run_plain(manifests: &Manifests, address: Ipv4Addr) -> L4way {
    let mut command = Command::new(BINARY);
    command.args(["run", "--demo-backends", "-f"]).arg(manifests.path());
    command.args(["--address", &address.to_string(), "--admin-address"]);
    command.arg(format!("{address}:9902"));
    L4way::start_plain(command)
}

#[test]
fn status_finds_the_socket_by_the_admin_address() {
    let manifests = Manifests::copy_of("examples/tutorial");
    let address = own_address();
    let ask = || {
        let mut command = Command::new(BINARY);
        command.args(["status", "--admin-address", &format!("{address}:9902"), "-o", "json"]);
        command.output().expect("l4way status").stdout
    };
    let mut l4way = run_plain(&manifests, address);
    let json = |bytes: Vec<u8>| serde_json::from_slice::<serde_json::Value>(&bytes).expect("JSON");
    l4way.wait("the listeners", |report| report["phase"] == "serving");
    assert_eq!(json(ask()), l4way.report());
    // The next one replaces what a process has left that was killed.
    l4way.signal(Signal::KILL);
    l4way.ended();
    assert!(l4way.socket.exists());
    let mut l4way = run_plain(&manifests, address);
    l4way.wait("the listeners", |report| report["phase"] == "serving");
    assert_eq!(json(ask()), l4way.report());
    l4way.signal(Signal::TERM);
    assert!(l4way.ended().success());
    assert!(!l4way.socket.exists(), "it is removed at the end");
}

#[test]
fn the_socket_of_another_process_is_left_alone_until_that_ends() {
    let manifests = Manifests::copy_of("examples/tutorial");
    let mut first = L4way::run(&manifests, own_address(), &["--demo-backends"]);
    let mut command = Command::new(BINARY);
    let address = own_address();
    command.args(["run", "--demo-backends", "-f"]).arg(manifests.path());
    command.args(["--address", &address.to_string(), "--admin-address", "127.0.0.1:0"]);
    command.arg("--admin-socket").arg(&first.socket);
    let of_both = |report: &serde_json::Value| report["objects"].to_string();
    let before = of_both(&first.report());
    let second = L4way::start_plain_at(command, first.socket.clone());
    wait_for("what is in the way", || {
        second.log().contains("another process answers there").then_some(())
    });
    wait_for("readiness", || (second.get("/readyz").0 == 200).then_some(()));
    ask((address, 9000).into()).expect("an answer");
    assert_eq!(of_both(&first.report()), before);
    first.signal(Signal::TERM);
    assert!(first.ended().success());
    second.wait("its own report", |report| report.to_string().contains(&address.to_string()));
}

#[test]
fn without_a_place_for_the_socket_sessions_go_on() {
    let manifests = Manifests::copy_of("examples/tutorial");
    let address = own_address();
    let mut command = Command::new(BINARY);
    command.args(["run", "--demo-backends", "-f"]).arg(manifests.path());
    command.args(["--address", &address.to_string(), "--admin-address", "127.0.0.1:0"]);
    command.args(["--admin-socket", "/dev/null/admin.sock"]);
    let l4way = L4way::start_plain_at(command, "/dev/null/admin.sock".into());
    wait_for("what is wrong", || l4way.log().contains("can't be made").then_some(()));
    wait_for("readiness", || (l4way.get("/readyz").0 == 200).then_some(()));
    ask((address, 9000).into()).expect("an answer");
    assert_eq!(l4way.get("/status").0, 404, "it isn't elsewhere instead");
}

/// Asks on a connection that goes on, and returns the answer's head.
fn ask_for(stream: &mut TcpStream, path: &str) -> String {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: l4way\r\n\r\n").expect("a request");
    let mut answer = String::new();
    let mut byte = [0];
    while !answer.ends_with("ok\n") {
        stream.read_exact(&mut byte).expect("an answer");
        answer.push(byte[0].into());
    }
    answer
}

/// Whether the other side has ended this connection.
fn has_ended(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("a socket that doesn't block");
    match stream.peek(&mut [0]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

#[test]
fn a_silent_crowd_keeps_neither_probes_nor_clients_out() {
    let manifests = Manifests::copy_of("examples/tutorial");
    let address = own_address();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 400 && exec \"$@\"", "sh", BINARY, "run", "--demo-backends"]);
    command.args(["--admin-address", "127.0.0.1:0", "--address", &address.to_string(), "-f"]);
    command.arg(manifests.path());
    let l4way = L4way::start(command);
    l4way.wait("the listeners", |report| report["phase"] == "serving");
    let mut regular = connect(l4way.admin).expect("a connection");
    let mut crowd = Vec::new();
    // 400 descriptors leave room for 20. Between two requests of the one in use two crowds may be accepted, one
    // late and the next at once: together they are fewer than its place is worth.
    for _ in 0..63 {
        crowd.extend((0..8).map(|_| connect(l4way.admin).expect("a connection")));
        let answer = ask_for(&mut regular, "/healthz");
        assert!(answer.starts_with("HTTP/1.1 200 "), "one in use isn't closed: {answer}");
        assert_eq!(l4way.get("/healthz"), (200, "ok\n".to_owned()));
        ask((address, 9000).into()).expect("an answer of the demo backend");
    }
    // The socket has places of its own, and so has the endpoint.
    let mut private_crowd = Vec::new();
    for _ in 0..50 {
        private_crowd
            .extend((0..10).map(|_| UnixStream::connect(&l4way.socket).expect("a connection")));
        assert_eq!(l4way.get_privately("/healthz"), (200, "ok\n".to_owned()));
        assert_eq!(l4way.get("/healthz"), (200, "ok\n".to_owned()));
    }
    ask((address, 9000).into()).expect("an answer of the demo backend");
    wait_for("the most idle connections to be closed", || {
        let open = crowd.iter().filter(|stream| !has_ended(stream)).count();
        (open < 20).then_some(())
    });
}

#[test]
fn a_connection_that_asks_nothing_is_closed() {
    let manifests = Manifests::copy_of("examples/tutorial");
    let l4way = L4way::run(&manifests, own_address(), &["--demo-backends"]);
    let silent = connect(l4way.admin).expect("a connection");
    let mut unfinished = connect(l4way.admin).expect("a connection");
    unfinished.write_all(b"GET /healthz HTTP/1.1\r\nHost:").expect("half a request");
    let mut done = connect(l4way.admin).expect("a connection");
    ask_for(&mut done, "/healthz");
    // One that asks on and on, and takes no answer.
    let mut deaf = connect(l4way.admin).expect("a connection");
    deaf.set_nonblocking(true).expect("a socket that doesn't block");
    let request = b"GET /metrics HTTP/1.1\r\nHost: l4way\r\n\r\n";
    while deaf.write(request).is_ok_and(|written| written == request.len()) {}
    for (what, stream) in
        [("silent", silent), ("unfinished", unfinished), ("idle", done), ("deaf", deaf)]
    {
        wait_for(what, || match what {
            // Its answers come before the end.
            "deaf" => stream.take_error().expect("a state").map(drop).or_else(|| {
                let sent = (&stream).write(request);
                sent.is_err_and(|error| error.kind() != ErrorKind::WouldBlock).then_some(())
            }),
            _ => has_ended(&stream).then_some(()),
        });
    }
}
