//! Whether the API server can be reached: said once when it is lost, and once when it is back.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kube::Client;
use tokio::{sync::Notify, time::Instant};
use tracing::{info, warn};

use crate::{connect::server_version, follow::Cause};

const PROBE_INTERVAL: Duration = Duration::from_millis(300);

/// Whether there is a connection to the API server.
#[derive(Debug, Default)]
pub struct Connection {
    lost_since: Mutex<Option<Instant>>,
    lost: Notify,
}

impl Connection {
    /// A request failed below HTTP.
    pub(crate) fn lost(&self, error: &str) {
        let mut lost_since = self.lock();
        if lost_since.is_none() {
            *lost_since = Some(Instant::now());
            warn!(error, "lost the API server; what is known stays in force until it is back");
            self.lost.notify_one();
        }
    }

    /// A request failed: says so in the log if the API server is gone. Returns why, for a person.
    pub fn failed(&self, error: &kube::Error) -> String {
        match Cause::of(error) {
            Cause::Connection(text) => {
                self.lost(&text);
                text
            }
            Cause::Status(_, text) | Cause::Other(text) => text,
        }
    }

    /// Whether it is lost, which the log says.
    pub fn is_lost(&self) -> bool {
        self.lock().is_some()
    }

    /// Asks a lost server until it answers, again and again.
    pub async fn watch_over(&self, client: Client) {
        loop {
            self.lost.notified().await;
            loop {
                tokio::time::sleep(PROBE_INTERVAL).await;
                if server_version(&client).await.is_ok() {
                    break;
                }
            }
            if let Some(since) = self.lock().take() {
                let after = format!("{:.1} s", since.elapsed().as_secs_f64());
                info!(after, "the API server is back");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.lost_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
