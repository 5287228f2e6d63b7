//! What is asked of an API server, and what is made of its answers.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod contents;
mod fake_api;
mod namespaces;

use std::time::Duration;

use l4way_resources::Snapshot;
use l4way_source_kube::Source;
use tokio::time::timeout;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until the snapshot fits.
async fn wait(source: &mut Source, fits: impl Fn(&Snapshot) -> bool) -> Snapshot {
    let waiting = async {
        loop {
            if let Some(snapshot) = source.snapshot().filter(|snapshot| fits(snapshot)) {
                return snapshot;
            }
            source.changed().await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("the snapshot fits in time")
}
