//! OpenSSL, GnuTLS, curl and Mosquitto.

use std::{
    io::{Read, Write},
    net::TcpListener,
    process::Command,
    thread,
};

use serde_json::Value;

use super::support::*;
use crate::{
    l4way::{L4way, own_address, wait_for},
    manifests::{Manifests, backend},
};

/// An endpoint that answers each connection with the first line it gets.
fn echo_line() -> u16 {
    let socket = TcpListener::bind(local(0)).expect("a port");
    let port = socket.local_addr().expect("its address").port();
    thread::spawn(move || {
        for mut stream in socket.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut bytes = [0; 64];
                let n = stream.read(&mut bytes).unwrap_or(0);
                let _ = stream.write_all(&[b"echo ", &bytes[..n]].concat());
            });
        }
    });
    port
}

fn s_client(target: &str, pki: &Pki, args: &[&str]) -> String {
    let ca = pki.path("ca.crt");
    let all = [&["s_client", "-connect", target, "-CAfile", &ca, "-ign_eof"][..], args].concat();
    printed(&run("openssl", &all, b"hello\n"))
}

#[test]
fn openssl_and_gnutls_negotiate_what_the_listener_lets_them() {
    let (pki, address) = (Pki::new(), own_address());
    let options = "l4way.dev/alpn: 'mqtt,x'";
    let manifests = Manifests::of(&[
        gateway("", &[&terminate("tls", 8443, "a.test", options)]),
        pki.secret("a.test"),
        route("TLSRoute", "echo", "tls", "a.test"),
        backend("echo", local(echo_line())),
    ]);
    let l4way = L4way::run(&manifests, address, &[]);
    let target = format!("{address}:8443");
    let name = ["-servername", "a.test", "-verify_hostname", "a.test", "-verify_return_error"];
    for version in ["-tls1_2", "-tls1_3"] {
        let text = s_client(&target, &pki, &[&name[..], &[version, "-alpn", "mqtt"]].concat());
        assert!(text.contains("echo hello") && text.contains("ALPN protocol: mqtt"), "{text}");
        assert!(text.contains("Verify return code: 0 (ok)"), "{text}");
    }
    let old =
        s_client(&target, &pki, &[&name[..], &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]].concat());
    assert!(!old.contains("echo hello"), "{old}");
    let other = s_client(&target, &pki, &["-servername", "b.test"]);
    assert!(other.contains("unrecognized name"), "{other}");

    let session = pki.path("session");
    s_client(&target, &pki, &[&name[..], &["-tls1_2", "-sess_out", &session]].concat());
    let again = s_client(&target, &pki, &[&name[..], &["-tls1_2", "-sess_in", &session]].concat());
    assert!(again.contains("Reused") && again.contains("echo hello"), "{again}");

    let ca = pki.path("ca.crt");
    let host = address.to_string();
    let gnutls = [
        "--x509cafile",
        &ca,
        "--sni-hostname",
        "a.test",
        "--verify-hostname",
        "a.test",
        "-p",
        "8443",
        &host,
    ];
    let text = printed(&run("gnutls-cli", &gnutls, b"hello\n"));
    assert!(text.contains("Handshake was completed"), "{text}");

    let resumed = ["resumed=\"true\"", "version=\"1.2\""];
    wait_for("the metric", || {
        (l4way.metric("l4way_tls_handshakes_total", &resumed) == 1.0).then_some(())
    });
    let reason = ["reason=\"unrecognized_name\""];
    assert_eq!(l4way.metric("l4way_tls_handshakes_failed_total", &reason), 1.0);
    assert!(l4way.metric("l4way_certificate_expiry_timestamp_seconds", &["a.test"]) > 0.0);
}

#[test]
fn curl_finds_https_beside_tls_on_one_port() {
    let (pki, address) = (Pki::new(), own_address());
    let listeners = [
        "{name: https, protocol: HTTPS, port: 8443, hostname: web.test, tls: {certificateRefs: \
         [{name: web.test}]}}",
        "{name: tls, protocol: TLS, port: 8443, hostname: a.test, tls: {certificateRefs: [{name: \
         a.test}]}}",
    ];
    let web = Server::start(|port, folder| {
        std::fs::write(folder.join("page"), "the page").expect("a page");
        let mut command = Command::new("python3");
        command.args(["-m", "http.server", &port.to_string(), "--bind", "127.0.0.1"]);
        command.current_dir(folder);
        command
    });
    let manifests = Manifests::of(&[
        gateway("", &listeners),
        pki.secret("a.test"),
        pki.secret("web.test"),
        route("TLSRoute", "echo", "tls", "a.test"),
        route("HTTPRoute", "web", "https", "web.test"),
        backend("echo", local(echo_line())),
        backend("web", local(web.port)),
    ]);
    let _l4way = L4way::run(&manifests, address, &[]);
    let (ca, to) = (pki.path("ca.crt"), format!("web.test:8443:{address}"));
    for version in ["--http1.1", "--http2"] {
        let args =
            [version, "-sS", "--cacert", &ca, "--resolve", &to, "https://web.test:8443/page"];
        assert_eq!(printed(&run("curl", &args, b"")), "the page");
    }
    let text = s_client(&format!("{address}:8443"), &pki, &["-servername", "a.test"]);
    assert!(text.contains("echo hello"), "{text}");
}

#[test]
fn mosquitto_clients_with_a_certificate_get_to_the_broker_and_others_do_not() {
    let (pki, address) = (Pki::new(), own_address());
    let broker = Server::start(|port, folder| {
        let config = folder.join("mosquitto.conf");
        let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\n");
        std::fs::write(&config, text).expect("a configuration");
        let mut command = Command::new("/usr/sbin/mosquitto");
        command.arg("-c").arg(config);
        command
    });
    let frontend = "  tls: {frontend: {default: {validation: {caCertificateRefs: [{kind: ConfigMap, \
                    group: '', name: ca}]}}}}\n";
    // A client that dials an IP asks for no name: a TCPRoute takes it.
    let manifests = Manifests::of(&[
        gateway(frontend, &[&terminate("mqtts", 8883, "broker.test", "")]),
        pki.secret("broker.test"),
        pki.config_map(),
        route("TCPRoute", "broker", "mqtts", ""),
        backend("broker", local(broker.port)),
    ]);
    pki.sign("sensor.test");
    let log = pki.path("access.log");
    let l4way = L4way::run(&manifests, address, &["--access-log", &log]);
    let (ca, host) = (pki.path("ca.crt"), address.to_string());
    let (crt, key) = (pki.path("sensor.test.crt"), pki.path("sensor.test.key"));
    let common = ["-h", &host, "-p", "8883", "--cafile", &ca, "--insecure", "-t", "topic"];
    let own = ["--cert", &crt, "--key", &key];
    let publish = [&common[..], &own, &["-r", "-m", "21.5"]].concat();
    let published = run("mosquitto_pub", &publish, b"");
    assert!(published.status.success(), "{}", printed(&published));
    let subscribe = [&common[..], &own, &["-C", "1", "-W", "20"]].concat();
    assert_eq!(printed(&run("mosquitto_sub", &subscribe, b"")), "21.5\n");
    let without = run("mosquitto_pub", &[&common[..], &["-m", "0"]].concat(), b"");
    assert!(!without.status.success(), "{}", printed(&without));

    let records = wait_for("the records", || {
        let text = std::fs::read_to_string(&log).ok()?;
        let lines = text.lines().map(serde_json::from_str::<Value>);
        let records: Vec<_> = lines.map_while(Result::ok).collect();
        (records.len() >= 3).then_some(records)
    });
    let by = |reason: &str| records.iter().filter(|record| record["reason"] == reason).count();
    assert_eq!(by("client_certificate"), 1, "{records:#?}");
    let known = &records[0]["tls"];
    assert_eq!(known["client_subject"], "CN=sensor.test");
    assert_eq!(known["client_alternative_names"][0], "DNS:sensor.test");
    assert_eq!(known["client_verified"], true);
    assert!(!l4way.log().contains("PRIVATE"), "no key in the log");
}
