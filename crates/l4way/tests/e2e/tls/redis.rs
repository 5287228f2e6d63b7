//! Redis, with TLS and without.

use std::{fs::File, io::Read, process::Command};

use super::{
    super::l4way::{own_address, wait_for},
    authority::{Authority, Pair},
    daemon::{Daemon, Said, client},
    setting::{Running, Setting},
};

/// A server that takes only TLS if it has a certificate, and only plain connections if not.
fn server(pair: Option<&Pair>) -> Daemon {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let address = own_address();
    let mut command = Command::new("redis-server");
    command.args(["--bind", &address.to_string(), "--protected-mode", "no", "--save", ""]);
    command.arg("--dir").arg(folder.path());
    match pair {
        None => command.args(["--port", "6379"]),
        Some(pair) => {
            let (certificate, key) = pair.write(folder.path(), "server");
            command.args(["--port", "0", "--tls-port", "6379", "--tls-auth-clients", "no"]);
            command.args(["--tls-cert-file", &certificate, "--tls-key-file", &key]);
            command.args(["--tls-ca-cert-file", &certificate])
        }
    };
    Daemon::start(folder, (address, 6379).into(), &mut command)
}

fn redis(ip: &str, args: &[&str], input: &[u8]) -> Said {
    client("redis-cli", &[&["-e", "-h", ip], args].concat(), input)
}

/// 20 MB that don't repeat and don't compress.
fn noise() -> Vec<u8> {
    let mut noise = vec![0; 20_000_000];
    let mut random = File::open("/dev/urandom").expect("the machine's randomness");
    random.read_exact(&mut noise).expect("20 MB of it");
    noise
}

/// Sets and gets through l4way and around it: what comes out is what was put in.
fn the_same_both_ways(running: &Running, tls: &[&str], server: &Daemon, around: &[&str]) {
    let through = |args: &[&str], input: &[u8]| redis(&running.ip, &[tls, args].concat(), input);
    let direct = server.ip();
    let around = |args: &[&str], input: &[u8]| redis(&direct, &[around, args].concat(), input);
    // The client adds a line feed to what it gets.
    let same = |said: Said, put: &[u8]| said.ok && said.stdout.strip_suffix(b"\n") == Some(put);
    assert_eq!(through(&["PING"], b"").good(), "PONG");
    let (up, down) = (noise(), noise());
    assert_eq!(through(&["-x", "SET", "up"], &up).good(), "OK");
    assert!(same(around(&["GET", "up"], b""), &up), "what went up differs");
    assert_eq!(around(&["-x", "SET", "down"], &down).good(), "OK");
    assert!(same(through(&["GET", "down"], b""), &down), "what came down differs");
}

#[test]
fn redis_with_tls_is_passed_through() {
    let authority = Authority::new("ours");
    let server = server(Some(&authority.sign("a.test")));
    let running = Setting::default()
        .listener(
            "name: redis, protocol: TLS, port: 6379, hostname: a.test, tls: {mode: Passthrough}",
        )
        .route("TLSRoute", "redis", "a.test", server.address)
        .run(&[]);
    let ca = authority.file();
    let tls = ["--tls", "--sni", "a.test", "--cacert", &ca];
    the_same_both_ways(&running, &tls, &server, &tls);
}

#[test]
fn redis_without_tls_is_reached_by_tls() {
    let authority = Authority::new("ours");
    let server = server(None);
    let running = Setting::default()
        .secret("a", &authority.sign("a.test"))
        .listener(
            "name: redis, protocol: TLS, port: 6379, hostname: a.test, \
             tls: {certificateRefs: [{name: a}]}",
        )
        .route("TLSRoute", "redis", "a.test", server.address)
        .run(&[]);
    let ca = authority.file();
    let tls = ["--tls", "--sni", "a.test", "--cacert", &ca];
    the_same_both_ways(&running, &tls, &server, &[]);
}

#[test]
fn redis_with_tls_is_reached_without_by_a_policy() {
    let authority = Authority::new("ours");
    let server = server(Some(&authority.sign("a.test")));
    let ca = authority.file();
    let tls = ["--tls", "--sni", "a.test", "--cacert", &ca];
    redis(&server.ip(), &["PING"], b"").bad();
    let mut setting = Setting::default()
        .authority("right", &authority)
        .authority("wrong", &Authority::new("another"));
    let policies = [("good", 6379, "a.test", "right"), ("signer", 6380, "a.test", "wrong")];
    for (name, port, host, ca) in [policies[0], policies[1], ("name", 6381, "b.test", "right")] {
        setting = setting
            .listener(&format!("name: {name}, protocol: TCP, port: {port}"))
            .route("TCPRoute", name, "", server.address)
            .policy(name, host, ca);
    }
    let running = setting.run(&[]);
    the_same_both_ways(&running, &[], &server, &tls);
    for (listener, port) in [("signer", "6380"), ("name", "6381")] {
        redis(&running.ip, &["-p", port, "PING"], b"").bad();
        // The client may try twice.
        let labels = [&*format!("listener=\"{listener}\""), "reason=\"upstream_tls_failed\""];
        wait_for(labels, || {
            let ended = running.l4way.metric("l4way_sessions_ended_total", &labels);
            [1.0, 2.0].contains(&ended).then_some(())
        });
    }
}
