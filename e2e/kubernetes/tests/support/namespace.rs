use std::thread;

use super::{Gateway, apply, echo, gateway, kubectl, route, try_kubectl};

/// A namespace for one test, which is removed with it.
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes the namespace `e2e-NAME`. One of an earlier run goes first.
    pub(crate) fn new(name: &str) -> Self {
        Self::with_labels(name, "")
    }

    /// Makes the namespace with labels, as YAML gives them within braces.
    pub(crate) fn with_labels(name: &str, labels: &str) -> Self {
        let name = format!("e2e-{name}");
        kubectl(&["delete", "namespace", &name, "--ignore-not-found"]);
        let manifest = format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n"
        );
        apply(&name, &manifest);
        Self { name }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Applies manifests.
    pub(crate) fn apply(&self, manifests: &str) {
        apply(&self.name, manifests);
    }

    /// Waits until Deployments are available.
    pub(crate) fn available(&self, deployments: &[&str]) {
        for name in deployments {
            let deployment = format!("deployment/{name}");
            self.kubectl(&["wait", "--for=condition=Available", "--timeout=120s", &deployment]);
        }
    }

    /// Makes a Gateway `gw` with a TCP listener on port 9000 and `more` in its spec, and an application
    /// `app` behind it by the TCPRoute `route`; waits until that answers.
    pub(crate) fn serving(&self, more: &str) -> Gateway<'_> {
        let gw = self.deployed(9000, more);
        gw.serves(9000);
        gw
    }

    /// As [`serving`](Self::serving), with a listener on another port; waits only until the
    /// application is available.
    pub(crate) fn deployed(&self, port: u16, more: &str) -> Gateway<'_> {
        self.apply(
            &(gateway("gw", &[("tcp", "TCP", port)], more)
                + &echo("app", "TCP")
                + &route("TCPRoute", "route", "gw/tcp", &[("app", 5000, 1)])),
        );
        self.available(&["app"]);
        Gateway::new(&self.name, "gw")
    }

    /// Runs kubectl in it.
    pub(crate) fn kubectl(&self, args: &[&str]) -> String {
        let mut all = vec!["--namespace", &self.name];
        all.extend(args);
        kubectl(&all)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if thread::panicking() {
            explain(&self.name);
        }
        let _ =
            try_kubectl(&["delete", "namespace", &self.name, "--wait=false", "--ignore-not-found"]);
    }
}

/// Shows what a person would look at to see why a test of this namespace has failed.
pub(crate) fn explain(namespace: &str) {
    let show = |args: &[&str]| {
        let mut all = vec!["--namespace", namespace];
        all.extend(args);
        let text = try_kubectl(&all).unwrap_or_else(|error| error);
        eprintln!("--- kubectl {}\n{text}", all.join(" "));
    };
    show(&[
        "get",
        "all,gateways,tcproutes,udproutes,httproutes,endpointslices",
        "--output",
        "wide",
    ]);
    show(&["describe", "gateways,tcproutes,udproutes,httproutes"]);
    show(&["describe", "pods"]);
    show(&["logs", "--selector", "app.kubernetes.io/name=l4way-proxy", "--prefix", "--tail=50"]);
    let controllers =
        ["logs", "--namespace", "l4way-system", "--prefix", "--tail=50", "--selector"];
    let mut controllers = controllers.to_vec();
    controllers.push("app.kubernetes.io/name=l4way");
    eprintln!("--- the controllers\n{}", try_kubectl(&controllers).unwrap_or_else(|error| error));
}
