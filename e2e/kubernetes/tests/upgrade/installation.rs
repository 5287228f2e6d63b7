//! The versions of l4way that are installed in turn.

use std::{env, path::PathBuf, process::Command};

use serde_json::Value;

use crate::{
    resilience::leader,
    support::{get, kubectl, project, wait_for},
};

pub(super) const SYSTEM: &str = "l4way-system";

/// An image, and the chart that goes with it.
#[derive(Debug)]
pub(super) struct Version {
    tar: String,
    pub(super) image: String,
    chart: PathBuf,
}

impl Version {
    /// The release that upgrades begin from.
    pub(super) fn release() -> Self {
        Self {
            tar: variable("L4WAY_RELEASE_TAR"),
            image: variable("L4WAY_RELEASE_IMAGE"),
            chart: variable("L4WAY_RELEASE_CHART").into(),
        }
    }

    /// This one.
    pub(super) fn this() -> Self {
        Self {
            tar: variable("L4WAY_TAR"),
            image: variable("L4WAY_IMAGE"),
            chart: project("charts/l4way"),
        }
    }

    /// Installs it, or upgrades what is installed to it, and waits until one of its controllers leads.
    pub(super) fn install(&self) {
        let installed = Command::new(project("e2e/cluster/install-l4way"))
            .env("CHART", &self.chart)
            .args([&self.tar, &self.image])
            .output()
            .expect("e2e/cluster/install-l4way runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, error) = (text(&installed.stdout), text(&installed.stderr));
        assert!(installed.status.success(), "can't install {self:?}: {out}{error}");
        wait_for(format_args!("a controller of {} to lead", self.image), || {
            let leader = leader();
            let images = controllers();
            let leads = images.iter().any(|(name, image)| *name == leader && *image == self.image);
            if leads { Ok(()) } else { Err(format!("{leader} leads among {images:?}")) }
        });
    }
}

/// The controllers that aren't ending, and their images.
fn controllers() -> Vec<(String, String)> {
    let selector = "app.kubernetes.io/name=l4way,app.kubernetes.io/component=controller";
    let list = get(SYSTEM, &["pods", "--selector", selector]);
    let pods = list["items"].as_array().into_iter().flatten();
    let live = pods.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    live.map(|pod| (text(&pod["metadata"]["name"]), text(&pod["spec"]["containers"][0]["image"])))
        .collect()
}

/// Takes away what is installed, but for the CRDs and what Gateways have.
pub(super) fn uninstall() {
    let helm =
        ["helm", "uninstall", "l4way", "--namespace", SYSTEM, "--ignore-not-found", "--wait"];
    let done = Command::new(project("e2e/cluster/in")).args(helm).status();
    assert!(done.expect("helm runs").success(), "can't uninstall");
    kubectl(&["wait", "gatewayclass/l4way", "--for=delete", "--timeout=60s"]);
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("no {name}: these tests are run by `make upgrade`"))
}
