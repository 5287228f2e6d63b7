//! TLS listeners that are away for a moment, see also `tests/returns.rs`.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use l4way_model::{Config, EndpointTable, ListenerReport, Parts, TlsListener, TlsMode, TlsPort};
use l4way_proxy::{Proxy, ProxySettings};
use l4way_session::CloseReason;

use crate::{
    common::{
        self, all_bound, assert_reset, connect, echo, free_address, listener, ping as ping_plain,
        route_to, settings,
    },
    support::*,
};

/// Sets a proxy up whose one worker looks at all deadlines in turn.
fn start() -> Proxy {
    let drain_deadline = Duration::from_secs(1);
    let settings = ProxySettings { workers: NonZeroUsize::MIN, drain_deadline, ..settings() };
    Proxy::start(settings).unwrap()
}

/// A port of these listeners, and the one that tells by its session when a deadline has passed.
fn config(
    address: std::net::SocketAddr,
    listeners: &[TlsListener],
    witness: Option<&l4way_model::Listener>,
) -> Arc<Config> {
    let (addresses, port) = (vec![address.ip()], address.port());
    let tls = match listeners {
        [] => Vec::new(),
        listeners => vec![TlsPort { addresses, port, listeners: listeners.to_vec() }],
    };
    let parts =
        Parts { tls, listeners: witness.cloned().into_iter().collect(), ..Parts::default() };
    Arc::new(parts.try_into().unwrap())
}

struct Scene {
    proxy: Proxy,
    address: std::net::SocketAddr,
    table: EndpointTable,
    witness: l4way_model::Listener,
}

impl Scene {
    fn new<'a>(backends: impl IntoIterator<Item = (&'a str, std::net::SocketAddr)>) -> Self {
        let witness = listener("witness", free_address(), Some(route_to("e")));
        let table = endpoint_table(backends);
        Self { proxy: start(), address: free_address(), table, witness }
    }

    /// The listeners of the port, which may be none.
    fn apply(&mut self, listeners: &[TlsListener], with_witness: bool) {
        let witness = with_witness.then_some(&self.witness);
        let config = config(self.address, listeners, witness);
        all_bound(&self.proxy.apply(config, &self.table));
    }

    /// Carries these listeners in turn, the last of them when the deadline of what the second took away
    /// passes.
    fn carry_until_the_deadline(&mut self, turns: &[&[TlsListener]]) {
        let address = self.witness.binds().next().unwrap();
        let witness = connect(address);
        ping_plain(&witness, "before");
        turns.iter().for_each(|listeners| self.apply(listeners, false));
        assert_reset(&witness);
    }
}

#[test]
fn tls_listeners_that_come_back_take_their_sessions_back() {
    let authority = Authority::new("ca");
    let pairs = [authority.sign(&["through.test"]), authority.sign(&["ended.test"])];
    let endpoint = tls_endpoint(&pairs[0], None, echo_after(""));
    let mut scene = Scene::new([("tls", endpoint), ("e", echo())]);
    let through = passthrough("through.test", "tls");
    let ended = terminate("ended.test", server_tls(&[&pairs[1]]), "e");
    let both = [through.clone(), ended.clone()];
    let client = any_client(&authority);
    // The port goes with both of them, its owner goes, or the other one does.
    for away in [&[][..], &[through], &[ended]] {
        scene.apply(&both, true);
        let mut sessions =
            ["through.test", "ended.test"].map(|name| open(scene.address, name, &client));
        sessions.iter_mut().for_each(|session| ping(session, "before").unwrap());
        scene.carry_until_the_deadline(&[away, &both]);
        for session in &mut sessions {
            ping(session, "after").unwrap();
        }
        for name in ["through.test", "ended.test"] {
            ping(&mut open(scene.address, name, &client), "a new client").unwrap();
        }
    }
}

#[test]
fn what_can_serve_nobody_for_a_moment_keeps_its_sessions() {
    let authority = Authority::new("ca");
    let pair = authority.sign(&["a.test"]);
    let mut scene = Scene::new([("e", echo())]);
    let good = terminate("a.test", server_tls(&[&pair]), "e");
    // Its Secret is gone, or has another key in it.
    let refused = tls_listener("a.test", TlsMode::Refused);
    let other = l4way_model::KeyPair {
        private_key: authority.sign(&["b.test"]).private_key.clone(),
        ..(*pair).clone()
    };
    let broken = terminate("a.test", server_tls(&[&Arc::new(other)]), "e");
    scene.apply(std::slice::from_ref(&good), true);
    let client = any_client(&authority);
    let mut session = open(scene.address, "a.test", &client);
    ping(&mut session, "before").unwrap();
    let witness = connect(scene.witness.binds().next().unwrap());
    ping_plain(&witness, "before");
    for bad in [refused, broken] {
        let config = config(scene.address, std::slice::from_ref(&bad), None);
        let report = scene.proxy.apply(config, &scene.table);
        let failed = matches!(report.listeners[&bad.id], ListenerReport::Failed(_));
        assert_eq!(failed, bad.mode != TlsMode::Refused);
        ping(&mut session, "meanwhile").unwrap();
    }
    scene.apply(&[good], false);
    assert_reset(&witness);
    ping(&mut session, "after").unwrap();
    ping(&mut open(scene.address, "a.test", &client), "a new client").unwrap();
}

#[test]
fn a_listener_that_goes_for_good_drains_whatever_its_siblings_do() {
    let authority = Authority::new("ca");
    let pairs = [authority.sign(&["a.test"]), authority.sign(&["b.test"])];
    let mut scene = Scene::new([("e", echo())]);
    let [a, b] = ["a.test", "b.test"].map(|name| {
        let pair = if name == "a.test" { &pairs[0] } else { &pairs[1] };
        terminate(name, server_tls(&[pair]), "e")
    });
    scene.apply(&[a.clone(), b.clone()], true);
    let client = any_client(&authority);
    let mut sessions = ["a.test", "b.test"].map(|name| open(scene.address, name, &client));
    sessions.iter_mut().for_each(|session| ping(session, "before").unwrap());
    let only_b = std::slice::from_ref(&b);
    scene.carry_until_the_deadline(&[only_b, &[], only_b]);
    let [of_a, of_b] = &mut sessions;
    ping(of_b, "after").unwrap();
    ping(of_a, "after").expect_err("its listener is gone");
    assert_eq!(common::ended(&scene.proxy, CloseReason::ListenerRemoved), 2);
}

#[test]
fn a_listener_that_was_of_tls_meanwhile_has_its_tcp_sessions() {
    let authority = Authority::new("ca");
    let pair = authority.sign(&["l"]);
    let mut scene = Scene::new([("e", echo())]);
    let plain = listener("l", scene.address, Some(route_to("e")));
    let tls = terminate("l", server_tls(&[&pair]), "e");
    let of_tcp = |listeners: Vec<_>| Arc::new(Config::new(listeners).unwrap());
    let before = of_tcp(vec![plain.clone(), scene.witness.clone()]);
    all_bound(&scene.proxy.apply(before, &scene.table));
    let session = connect(scene.address);
    ping_plain(&session, "before");
    scene.carry_until_the_deadline(&[&[], &[tls]]);
    ping_plain(&session, "meanwhile");
    let mut of_tls = open(scene.address, "l", &any_client(&authority));
    ping(&mut of_tls, "hello").unwrap();
    all_bound(&scene.proxy.apply(of_tcp(vec![plain]), &scene.table));
    ping_plain(&session, "after");
    ping(&mut of_tls, "after").unwrap();
}
