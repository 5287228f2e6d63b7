//! MQTT over TLS: Mosquitto's broker, which speaks none here, and its clients.

use std::{fs, process::Command};

use super::{
    super::l4way::own_address,
    authority::Authority,
    daemon::{Daemon, Said, client},
    setting::{Running, Setting},
};

fn broker() -> Daemon {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let address = own_address();
    let config = folder.path().join("config");
    let text = format!("listener 1883 {address}\nallow_anonymous true\nlog_dest stderr\n");
    fs::write(&config, text).expect("a configuration");
    let mut command = Command::new("/usr/sbin/mosquitto");
    Daemon::start(folder, (address, 1883).into(), command.arg("-c").arg(&config))
}

/// Runs a client that dials an IP.
fn mqtt(program: &str, to: &Running, authority: &Authority, args: &[&str]) -> Said {
    let ca = authority.file();
    let all = ["-h", &to.ip, "-p", "8883", "--cafile", &ca, "-q", "1", "-t", "topic"];
    client(program, &[&all, args].concat(), b"")
}

#[test]
fn mqtt_clients_need_a_certificate() {
    let authority = Authority::new("ours");
    let broker = broker();
    let address = own_address();
    let running = Setting::default()
        .secret("ip", &authority.sign(&address.to_string()))
        .authority("clients", &authority)
        .demanding("clients")
        .listener("name: mqtt, protocol: TLS, port: 8883, tls: {certificateRefs: [{name: ip}]}")
        .route("TCPRoute", "mqtt", "", broker.address)
        .run_on(address, &[]);
    let (certificate, key) = authority.files("client.test");
    let own = ["--cert", &certificate, "--key", &key];
    let publish = ["--retain", "-m", "hello"];
    mqtt("mosquitto_pub", &running, &authority, &[&own[..], &publish].concat()).good();
    let said = mqtt("mosquitto_sub", &running, &authority, &[&own[..], &["-C", "1"]].concat());
    assert_eq!(said.good(), "hello");

    mqtt("mosquitto_pub", &running, &authority, &publish).bad();
    let another = Authority::new("another");
    let (certificate, key) = another.files("client.test");
    let other = ["--cert", &certificate, "--key", &key];
    mqtt("mosquitto_pub", &running, &authority, &[&other[..], &publish].concat()).bad();
    running.counts("l4way_tls_handshakes_failed_total", &["reason=\"client_certificate\""], 2);
}
