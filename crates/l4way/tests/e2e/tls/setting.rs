//! A Gateway with TLS, and l4way that runs it.

use std::net::{Ipv4Addr, SocketAddr};

use super::{
    super::{
        l4way::{L4way, own_address, wait_for},
        manifests::{Manifests, backend},
    },
    authority::{Authority, Pair},
};

/// What a test's l4way is told.
#[derive(Default)]
pub(crate) struct Setting {
    listeners: String,
    frontend: String,
    documents: Vec<String>,
}

impl Setting {
    /// Adds a listener, as a Gateway's manifest has it in braces.
    pub(crate) fn listener(mut self, listener: &str) -> Self {
        self.listeners += &format!("  - {{{listener}}}\n");
        self
    }

    /// Adds a Secret.
    pub(crate) fn secret(mut self, name: &str, pair: &Pair) -> Self {
        self.documents.push(format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\ntype: kubernetes.io/tls\n\
             stringData: {{tls.crt: {:?}, tls.key: {:?}}}\n",
            pair.certificate, pair.key,
        ));
        self
    }

    /// Adds a ConfigMap of an authority.
    pub(crate) fn authority(mut self, name: &str, authority: &Authority) -> Self {
        self.documents.push(format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{ca.crt: {:?}}}\n",
            authority.pem
        ));
        self
    }

    /// Demands certificates of clients, signed by the authority of this ConfigMap.
    pub(crate) fn demanding(mut self, name: &str) -> Self {
        self.frontend = format!(
            "  tls: {{frontend: {{default: {{validation: {{caCertificateRefs: \
             [{{group: '', kind: ConfigMap, name: {name}}}]}}}}}}}}\n"
        );
        self
    }

    /// Sends what comes to a listener to an endpoint, by a route of this kind.
    pub(crate) fn route(mut self, kind: &str, listener: &str, names: &str, to: SocketAddr) -> Self {
        let names =
            if names.is_empty() { names.into() } else { format!("  hostnames: [{names}]\n") };
        self.documents.push(format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: {listener}}}\n\
             spec:\n  parentRefs: [{{name: gw, sectionName: {listener}}}]\n{names}  rules:\n  \
             - backendRefs: [{{group: l4way.dev, kind: Backend, name: {listener}}}]\n"
        ));
        self.documents.push(backend(listener, to));
        self
    }

    /// Begins TLS with a listener's endpoint: the name it has to show, and the ConfigMap of who
    /// may have signed it.
    pub(crate) fn policy(mut self, listener: &str, name: &str, authority: &str) -> Self {
        self.documents.push(format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\n\
             metadata: {{name: {listener}}}\nspec:\n  \
             targetRefs: [{{group: l4way.dev, kind: Backend, name: {listener}}}]\n  \
             validation: {{hostname: {name}, caCertificateRefs: \
             [{{group: '', kind: ConfigMap, name: {authority}}}]}}\n"
        ));
        self
    }

    /// Runs l4way, and waits until all listeners serve.
    pub(crate) fn run(self, args: &[&str]) -> Running {
        self.run_on(own_address(), args)
    }

    /// The same on this address.
    pub(crate) fn run_on(mut self, address: Ipv4Addr, args: &[&str]) -> Running {
        self.documents.push(format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: gw}}\n\
             spec:\n  gatewayClassName: l4way\n{}  listeners:\n{}",
            self.frontend, self.listeners
        ));
        let manifests = Manifests::of(&self.documents);
        let l4way = L4way::run(&manifests, address, args);
        let report = l4way.wait("the listeners", |report| report["phase"] == "serving");
        let problems = report["problems"].as_array().expect("a list of problems");
        assert!(problems.iter().all(|problem| problem["severity"] == "note"), "{problems:#?}");
        Running { l4way, ip: address.to_string(), _manifests: manifests }
    }
}

/// A running l4way, and where.
pub(crate) struct Running {
    pub(crate) l4way: L4way,
    pub(crate) ip: String,
    _manifests: Manifests,
}

impl Running {
    /// Waits until a metric of samples with all of `labels` has come to `count`.
    pub(crate) fn counts(&self, name: &str, labels: &[&str], count: u32) {
        wait_for(format!("{count} {name} {labels:?}"), || {
            (self.l4way.metric(name, labels) == f64::from(count)).then_some(())
        });
    }
}
