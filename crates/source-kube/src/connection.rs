//! Whether the API server can be reached: said once when it is lost, and once when it is back.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use kube::Client;
use tokio::{sync::Notify, time::Instant};
use tracing::{info, warn};

use crate::connect::{Chain, server_version};

const PROBE_INTERVAL: Duration = Duration::from_millis(300);

/// Why a request failed.
pub(crate) enum Cause {
    /// The server's own answer.
    Status(u16, String),
    /// No answer.
    Connection(String),
    /// An answer that can't be read, and the like.
    Other(String),
}

impl Cause {
    pub(crate) fn of(error: &kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Status(status.code, status.message.clone()),
            kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => {
                Self::Connection(Chain(error).to_string())
            }
            error => Self::Other(Chain(error).to_string()),
        }
    }
}

/// What is known of the connection.
#[derive(Debug, Default)]
pub(crate) struct Connection {
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

    /// Asks a lost server until it answers.
    pub(crate) async fn watch_over(&self, client: Client) {
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
