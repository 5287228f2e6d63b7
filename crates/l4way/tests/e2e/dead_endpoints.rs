//! What l4way says of endpoints at which nobody answers.

use std::net::{SocketAddr, TcpListener};

use super::{
    client::{ask, echo_server},
    l4way::{L4way, own_address, wait_for},
    manifests::{Manifests, gateway, route},
};

const PORT: u16 = 9000;

/// A Backend `b` with these endpoints.
fn backend(endpoints: &[SocketAddr]) -> String {
    let mut text = "apiVersion: l4way.dev/v1alpha1\nkind: Backend\nmetadata: {name: b}\n\
                    spec:\n  endpoints:\n"
        .to_owned();
    for endpoint in endpoints {
        let (ip, port) = (endpoint.ip(), endpoint.port());
        text += &format!("  - ip: {{address: '{ip}', port: {port}}}\n");
    }
    text
}

/// The samples of a metric about the only backend.
fn samples(l4way: &L4way, metric: &str) -> Vec<String> {
    let (_, text) = l4way.get("/metrics");
    text.lines().filter(|line| line.starts_with(metric)).map(str::to_owned).collect()
}

#[test]
fn a_dead_endpoint_is_told_when_it_goes_and_when_it_is_back() {
    let address = own_address();
    let lives = echo_server(address);
    let dead = TcpListener::bind((address, 0)).and_then(|socket| socket.local_addr());
    let dead = dead.expect("a free port");
    let manifests = Manifests::of(&[
        gateway(&[("tcp", "TCP", PORT)]),
        route("TCPRoute", &[("b", 1)]),
        backend(&[lives, dead]),
    ]);
    let l4way = L4way::run(&manifests, address, &[]);
    l4way.wait("the listener", |report| report["phase"] == "serving");
    let states = |taken: u8, passed_over: u8| {
        let sample = |state: &str, count: u8| {
            format!(
                "l4way_backend_endpoints{{backend=\"Backend/default/b\",state=\"{state}\"}} {count}"
            )
        };
        [sample("taken", taken), sample("passed_over", passed_over)]
    };
    assert_eq!(samples(&l4way, "l4way_backend_endpoints{"), states(2, 0));

    let client = SocketAddr::from((address, PORT));
    wait_for("a session that meets the dead one", || {
        assert_eq!(ask(client).expect("the other one answers"), "Hello TCP\n");
        (samples(&l4way, "l4way_backend_endpoints{") == states(1, 1)).then_some(())
    });
    let attempts = samples(&l4way, "l4way_backend_failed_attempts_total{");
    let [refused] = &attempts[..] else { panic!("{attempts:?}") };
    assert!(refused.contains("reason=\"refused\""), "{refused}");
    let told = |what: &str| {
        wait_for(what, || {
            let log = l4way.log();
            let line = log.lines().find(|line| line.contains(what))?;
            assert!(line.contains(&dead.to_string()), "{line}");
            assert!(line.contains("Backend/default/b"), "{line}");
            Some(())
        });
    };
    told("nobody answers at an endpoint");

    // Without a client.
    let _back = TcpListener::bind(dead).expect("its port");
    told("an endpoint answers again");
    assert_eq!(samples(&l4way, "l4way_backend_endpoints{"), states(2, 0));
}
