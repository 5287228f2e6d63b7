//! Manifests, and how they change.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
};

use super::{
    super::{
        manifests::{Manifests, backend, backend_of},
        tls::authority::{Authority, Pair},
    },
    backends::Backends,
    port,
};

/// The name that the certificate is for.
pub(super) const NAME: &str = "soak.test";

/// The folder that l4way reads: the Secret, and what nobody of the established may notice the changes
/// of, each in files of their own.
pub(super) struct Files {
    pub(super) manifests: Manifests,
    pub(super) authority: Authority,
    steady: String,
    away: String,
    changes: AtomicUsize,
}

impl Files {
    pub(super) fn new(backends: &Backends) -> Self {
        let manifests = Manifests::empty();
        let authority = Authority::new("soak");
        let listeners = [
            ("steady", "TCP", port::STEADY),
            ("mixed", "TCP", port::MIXED),
            ("flapping", "TCP", port::FLAPPING),
            ("bulk", "TCP", port::BULK),
            ("steady-udp", "UDP", port::STEADY_UDP),
            ("mixed-udp", "UDP", port::MIXED_UDP),
            ("http", "HTTP", port::HTTP),
        ];
        let lives = backends.lives;
        let steady = [
            gateway("gw", &listeners, true),
            served("TCPRoute", "steady", &[lives]),
            served("TCPRoute", "mixed", &[lives, backends.refuses, backends.silent]),
            served("TCPRoute", "flapping", &[lives, backends.flapping]),
            served("TCPRoute", "bulk", &[backends.bulk]),
            served("UDPRoute", "steady-udp", &[backends.lives_udp]),
            served("UDPRoute", "mixed-udp", &[backends.lives_udp, backends.dead_udp]),
            served("HTTPRoute", "http", &[backends.http]),
            served("TLSRoute", "tls", &[lives]),
        ];
        let away = gateway("away", &[("away", "TCP", port::AWAY)], false)
            + &route("TCPRoute", "away", "away", &[("away", 1)])
            + "---\n"
            + &backend("away", lives);
        let files = Self {
            manifests,
            authority,
            steady: steady.join("---\n"),
            away,
            changes: AtomicUsize::new(0),
        };
        files.manifests.write("steady.yaml", &files.steady);
        files.manifests.write("away.yaml", &files.away);
        files.renew();
        files
    }

    /// A new certificate in place of the one there is.
    fn renew(&self) {
        let Pair { certificate, key } = self.authority.sign(NAME);
        let secret = format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: tls}}\ntype: kubernetes.io/tls\n\
             stringData: {{tls.crt: {certificate:?}, tls.key: {key:?}}}\n"
        );
        self.manifests.write("secret.yaml", &secret);
    }

    /// Ends with a listener that is there, whatever the last change was.
    pub(super) fn put_back(&self) {
        self.manifests.write("away.yaml", &self.away);
    }

    /// Makes the next of a row of changes. Two in a row leave everything as it was, and no listener
    /// with established sessions is away for longer than it drains.
    pub(super) fn change(&self, backends: &Backends) {
        let count = self.changes.fetch_add(1, Ordering::Relaxed);
        let passing = |weights: [u32; 2]| {
            gateway("passing", &[("passing", "TCP", port::PASSING)], false)
                + &route(
                    "TCPRoute",
                    "passing",
                    "passing",
                    &[("one", weights[0]), ("two", weights[1])],
                )
                + "---\n"
                + &backend("one", backends.lives)
                + "---\n"
                + &backend("two", backends.refuses)
        };
        match count % 12 {
            0 => self.manifests.write("passing.yaml", &passing([1, 1])),
            1 => self.manifests.write("passing.yaml", &passing([7, 2])),
            2 => self.manifests.remove("passing.yaml"),
            3 | 9 => self.manifests.remove("away.yaml"),
            4 | 10 => self.manifests.write("away.yaml", &self.away),
            5 => self.manifests.write("steady.yaml", &self.steady.replace("port: 9000", "port: x")),
            6 => self.manifests.write("steady.yaml", &self.steady),
            7 => self.manifests.write("secret.yaml", "kind: ["),
            8 => self.renew(),
            _ => self.manifests.write("passing.yaml", ""),
        }
    }
}

fn gateway(name: &str, listeners: &[(&str, &str, u16)], with_tls: bool) -> String {
    let mut text = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\n\
         spec:\n  gatewayClassName: l4way\n  listeners:\n"
    );
    for (name, protocol, port) in listeners {
        text += &format!("  - {{name: {name}, protocol: {protocol}, port: {port}}}\n");
    }
    if with_tls {
        let port = port::TLS;
        text += &format!(
            "  - {{name: tls, protocol: TLS, port: {port}, hostname: {NAME}, \
             tls: {{certificateRefs: [{{name: tls}}]}}}}\n"
        );
    }
    text + "---\n"
}

fn route(kind: &str, gateway: &str, listener: &str, backends: &[(&str, u32)]) -> String {
    let names = if kind == "TLSRoute" { format!("  hostnames: [{NAME}]\n") } else { String::new() };
    let mut text = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {listener}}}\n\
         spec:\n  parentRefs: [{{name: {gateway}, sectionName: {listener}}}]\n{names}  rules:\n  \
         - backendRefs:\n"
    );
    for (name, weight) in backends {
        text +=
            &format!("    - {{group: l4way.dev, kind: Backend, name: {name}, weight: {weight}}}\n");
    }
    text
}

/// A route of the Gateway `gw`, and its Backend with these endpoints; both have the listener's name.
fn served(kind: &str, listener: &str, endpoints: &[SocketAddr]) -> String {
    route(kind, "gw", listener, &[(listener, 1)]) + "---\n" + &backend_of(listener, endpoints)
}
