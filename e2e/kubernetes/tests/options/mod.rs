//! Options of the chart that change how everything is: l4way is installed with them, and as it was afterwards.
//!
//! These tests run alone: `e2e/kubernetes/run`.

mod admission;
mod network_policy;

use std::{env, process::Command};

use crate::support::project;

/// How the other tests have it installed.
const AS_EVER: [&str; 4] = [
    "--set",
    "admissionPolicy.enabled=true,admissionPolicy.hostNetwork=true",
    "--set",
    "admissionPolicy.images={docker.io/l4way/nowhere}",
];

/// l4way with other options, until this is dropped.
struct Installed;

impl Installed {
    /// Brings what is installed to the options of the other tests and these.
    fn with(options: &[&str]) -> Self {
        install(&[&AS_EVER[..], options].concat()).unwrap_or_else(|error| panic!("{error}"));
        Self
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        let _ = install(&AS_EVER);
    }
}

fn install(options: &[&str]) -> Result<(), String> {
    let [tar, image] = ["L4WAY_TAR", "L4WAY_IMAGE"]
        .map(|name| env::var(name).unwrap_or_else(|_| panic!("e2e/kubernetes/run sets {name}")));
    cluster("install-l4way", &[&[&*tar, &*image], options].concat())
}

/// Runs one of the cluster's scripts.
fn cluster(script: &str, args: &[&str]) -> Result<(), String> {
    let script = project("e2e/cluster").join(script);
    let done = Command::new(&script).args(args).output().expect("the script runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if done.status.success() {
        return Ok(());
    }
    Err(format!("{} {args:?}: {}{}", script.display(), text(&done.stdout), text(&done.stderr)))
}
