//! OpenSSL's and GnuTLS's clients.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener},
    thread,
};

use serde_json::Value;

use super::{
    super::l4way::{own_address, wait_for},
    authority::Authority,
    daemon::{Said, client},
    setting::{Running, Setting},
};

const LISTENER: &str = "name: tls, protocol: TLS, port: 8443, hostname: a.test, \
                        tls: {certificateRefs: [{name: a}]";

/// A server that reads a line, sends it back after "plain: ", and leaves; its address.
fn one_line_server() -> SocketAddr {
    let listener = TcpListener::bind((own_address(), 0)).expect("a free port");
    let bound = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut line = String::new();
                let _ = BufReader::new(&stream).read_line(&mut line);
                let _ = (&stream).write_all(format!("plain: {line}").as_bytes());
            });
        }
    });
    bound
}

/// A Gateway that ends TLS for `a.test` in front of [`one_line_server`].
fn terminating(authority: &Authority, options: &str) -> Setting {
    Setting::default()
        .secret("a", &authority.sign("a.test"))
        .listener(&format!("{LISTENER}, options: {{{options}}}}}"))
        .route("TLSRoute", "tls", "a.test", one_line_server())
}

fn s_client(to: &Running, authority: &Authority, name: &str, args: &[&str]) -> Said {
    let target = format!("{}:8443", to.ip);
    let ca = authority.file();
    let mut all = vec!["s_client", "-connect", &target, "-servername", name, "-CAfile", &ca];
    all.extend(["-verify_return_error", "-verify_hostname", name, "-ign_eof"]);
    all.extend(args);
    client("openssl", &all, b"hello\n")
}

#[test]
fn openssl_agrees_on_versions_and_protocols() {
    let authority = Authority::new("ours");
    let running = terminating(&authority, "l4way.dev/alpn: 'mqtt,x'").run(&[]);
    for (flag, version, label) in [("-tls1_2", "TLSv1.2", "1.2"), ("-tls1_3", "TLSv1.3", "1.3")] {
        let said = s_client(&running, &authority, "a.test", &[flag, "-alpn", "y,x"]).good();
        assert!(said.contains("plain: hello"), "{said}");
        assert!(said.contains("Verification: OK"), "{said}");
        assert!(said.contains(&format!("New, {version}")), "{said}");
        assert!(said.contains("ALPN protocol: x"), "{said}");
        let labels = [&*format!("version=\"{label}\""), "resumed=\"false\""];
        running.counts("l4way_tls_handshakes_total", &labels, 1);
    }
    let said = s_client(&running, &authority, "a.test", &["-alpn", "y"]).bad();
    assert!(said.contains("alert no application protocol"), "{said}");
    let said = s_client(&running, &authority, "a.test", &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]);
    assert!(said.bad().contains("SSL alert number"), "{}", said.all());
}

#[test]
fn openssl_is_kept_to_the_options() {
    let authority = Authority::new("ours");
    let options = "l4way.dev/max-version: '1.2', \
                   l4way.dev/cipher-suites: TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
    let running = terminating(&authority, options).run(&[]);
    let said = s_client(&running, &authority, "a.test", &[]).good();
    assert!(said.contains("New, TLSv1.2, Cipher is ECDHE-ECDSA-AES128-GCM-SHA256"), "{said}");
    let said = s_client(&running, &authority, "a.test", &["-tls1_3"]).bad();
    assert!(said.contains("alert protocol version"), "{said}");
}

#[test]
fn openssl_resumes_sessions() {
    let authority = Authority::new("ours");
    let running = terminating(&authority, "").run(&[]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    for version in ["-tls1_2", "-tls1_3"] {
        let file = folder.path().join(version);
        let file = file.to_str().expect("UTF-8");
        let ask = |flag| s_client(&running, &authority, "a.test", &[version, flag, file]).good();
        let said = ask("-sess_out");
        assert!(said.contains("New, TLS"), "{said}");
        let said = ask("-sess_in");
        assert!(said.contains("Reused, TLS"), "{said}");
        assert!(said.contains("plain: hello"), "{said}");
    }
    running.counts("l4way_tls_handshakes_total", &["resumed=\"true\""], 2);
}

#[test]
fn openssl_without_a_good_certificate_is_refused_with_an_alert() {
    let (authority, other) = (Authority::new("ours"), Authority::new("another"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let log = folder.path().join("access.log");
    let running = terminating(&authority, "")
        .authority("clients", &authority)
        .demanding("clients")
        .run(&["--access-log", log.to_str().expect("UTF-8")]);
    for version in ["-tls1_2", "-tls1_3"] {
        let ask =
            |args: &[&str]| s_client(&running, &authority, "a.test", &[&[version], args].concat());
        let (certificate, key) = authority.files("client.test");
        let said = ask(&["-cert", &certificate, "-key", &key]).good();
        assert!(said.contains("plain: hello"), "{said}");
        let said = ask(&[]).bad();
        assert!(said.contains("alert certificate required"), "{said}");
        let (certificate, key) = other.files("client.test");
        let said = ask(&["-cert", &certificate, "-key", &key]).bad();
        assert!(said.contains("alert unknown ca"), "{said}");
    }
    let records = wait_for("a record of each client", || {
        let log = fs::read_to_string(&log).ok()?;
        let records: Vec<Value> = log.lines().flat_map(serde_json::from_str).collect();
        (records.len() == 6).then_some(records)
    });
    let served: Vec<_> = records.iter().filter(|record| record["class"] == "normal").collect();
    assert_eq!(served.len(), 2, "{records:#?}");
    for record in served {
        let tls = &record["tls"];
        assert_eq!(tls["server_name"], "a.test", "{record:#}");
        assert_eq!(tls["client_subject"], "CN=client.test", "{record:#}");
        assert_eq!(tls["client_alternative_names"], serde_json::json!(["DNS:client.test"]));
        assert_eq!(tls["client_verified"], true, "{record:#}");
    }
    let refused = records.iter().filter(|record| record["reason"] == "client_certificate");
    assert_eq!(refused.count(), 4, "{records:#?}");
}

#[test]
fn openssl_that_asks_for_an_unknown_name_is_told_by_an_alert() {
    let authority = Authority::new("ours");
    let running = terminating(&authority, "").run(&[]);
    let said = s_client(&running, &authority, "b.test", &[]).bad();
    assert!(said.contains("unrecognized name"), "{said}");
    let target = format!("{}:8443", running.ip);
    let nameless = ["s_client", "-connect", &target, "-noservername"];
    for (version, alert) in [("-tls1_3", "missing extension"), ("-tls1_2", "unrecognized name")] {
        let said = client("openssl", &[&nameless[..], &[version]].concat(), b"").bad();
        assert!(said.contains(alert), "{version}: {said}");
    }
    running.counts("l4way_tls_handshakes_failed_total", &["reason=\"unrecognized_name\""], 3);
}

#[test]
fn gnutls_is_served() {
    let authority = Authority::new("ours");
    let running = terminating(&authority, "").run(&[]);
    for priority in ["NORMAL:-VERS-ALL:+VERS-TLS1.2", "NORMAL:-VERS-ALL:+VERS-TLS1.3"] {
        let args = ["--x509cafile", &authority.file(), "--sni-hostname", "a.test"];
        let more = ["--verify-hostname", "a.test", "--port", "8443", "--priority", priority];
        let all = [&args[..], &more, &[&running.ip]].concat();
        let said = client("gnutls-cli", &all, b"hello\n").good();
        assert!(said.contains("Handshake was completed"), "{said}");
        assert!(said.contains("plain: hello"), "{said}");
    }
}
