//! HTTPS by curl, on one port with TLS that goes through and TLS that is ended.

use std::{fs, process::Command};

use super::{
    super::l4way::own_address,
    authority::Authority,
    daemon::{Daemon, client},
    setting::Setting,
};

/// A plain web server of a file.
fn plain(text: &str) -> Daemon {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("file"), text).expect("a file");
    let ip = own_address();
    let mut command = Command::new("python3");
    command.args(["-m", "http.server", "--bind", &ip.to_string(), "8080"]);
    command.current_dir(folder.path());
    Daemon::start(folder, (ip, 8080).into(), &mut command)
}

/// A web server of a file, by HTTP/1.0 in TLS.
fn secure(authority: &Authority, name: &str, text: &str) -> Daemon {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("file"), text).expect("a file");
    let (certificate, key) = authority.sign(name).write(folder.path(), "server");
    let address = (own_address(), 8443).into();
    let mut command = Command::new("openssl");
    command.args(["s_server", "-WWW", "-cert", &certificate, "-key", &key]);
    command.args(["-accept", &format!("{address}")]);
    command.current_dir(folder.path());
    Daemon::start(folder, address, &mut command)
}

#[test]
fn curl_gets_https_beside_tls_on_one_port() {
    let authority = Authority::new("ours");
    let web = plain("web");
    let inner = plain("ended");
    let through = secure(&authority, "through.test", "through");
    let listener = |name, protocol, tls| {
        format!("name: {name}, protocol: {protocol}, port: 443, hostname: {name}.test, tls: {tls}")
    };
    let running = Setting::default()
        .secret("web", &authority.sign("web.test"))
        .secret("ended", &authority.sign("ended.test"))
        .listener(&listener("web", "HTTPS", "{certificateRefs: [{name: web}]}"))
        .route("HTTPRoute", "web", "web.test", web.address)
        .listener(&listener("ended", "TLS", "{certificateRefs: [{name: ended}]}"))
        .route("TLSRoute", "ended", "ended.test", inner.address)
        .listener(&listener("through", "TLS", "{mode: Passthrough}"))
        .route("TLSRoute", "through", "through.test", through.address)
        .run(&[]);
    let ca = authority.file();
    let curl = |name: &str, args: &[&str]| {
        let resolve = format!("{name}.test:443:{}", running.ip);
        let url = format!("https://{name}.test/file");
        let all = ["-sS", "--fail", "--cacert", &ca, "--resolve", &resolve, &url];
        client("curl", &[&all, args].concat(), b"")
    };
    let version = ["-w", " by HTTP/%{http_version}"];
    let said = curl("web", &[&["--http1.1"], &version[..]].concat());
    assert_eq!(said.good(), "web by HTTP/1.1");
    let said = curl("web", &[&["--http2"], &version[..]].concat());
    assert_eq!(said.good(), "web by HTTP/2");
    for name in ["ended", "through"] {
        assert_eq!(curl(name, &["--http1.1"]).good(), name);
        assert_eq!(curl(name, &["--http2"]).good(), name);
    }
    let said = curl("other", &[]).bad();
    assert!(said.contains("unrecognized name"), "{said}");
}
