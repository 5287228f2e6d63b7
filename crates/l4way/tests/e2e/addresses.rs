//! Addresses of IPv4 that are written as those of IPv6.

use std::net::{IpAddr, SocketAddr};

use super::{
    client::{ask, echo_server},
    l4way::{L4way, own_address},
    manifests::{Manifests, backend, gateway, gateway_on, route},
};

#[test]
fn mapped_addresses_are_those_of_ipv4() {
    let address = own_address();
    let mapped = IpAddr::V6(address.to_ipv6_mapped());
    let endpoint = echo_server(address);
    let listeners = [("tcp", "TCP", 9000)];
    for (gateway, argument) in [
        (gateway_on(&[&mapped.to_string()], &listeners), "127.0.0.1".to_owned()),
        (gateway(&listeners), mapped.to_string()),
    ] {
        let manifests =
            Manifests::of(&[gateway, route("TCPRoute", &[("b", 1)]), backend("b", endpoint)]);
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("access.log");
        let arguments = ["--access-log", log.to_str().expect("text"), "--address", &argument];
        let mut command = std::process::Command::new(super::l4way::BINARY);
        command.arg("run").arg("-f").arg(manifests.path()).args(arguments);
        command.args(["--admin-address", "127.0.0.1:0"]);
        let l4way = L4way::start(command);
        let report = l4way.wait("the listener", |report| report["phase"] == "serving");
        assert_eq!(report["overview"]["gateways"][0]["addresses"][0], address.to_string());
        assert_eq!(ask((address, 9000).into()).expect("an echo"), "Hello TCP\n");
        let line = super::l4way::wait_for("a record", || {
            let text = std::fs::read_to_string(&log).ok()?;
            text.lines().next().map(str::to_owned)
        });
        let record: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(record["local"], SocketAddr::from((address, 9000)).to_string(), "{line}");
    }
}
