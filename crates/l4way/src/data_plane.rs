//! Everything that carries bytes, as one: TCP and UDP listeners, and HTTP's.

use std::{io, sync::Arc, time::Duration};

use l4way_http::HttpProxy;
use l4way_model::{ApplyReport, Config, EndpointTable};
use l4way_proxy::{Limits, Proxy};

/// The running proxies, seen from the one thread that controls them. Dropping it ends all sessions.
#[derive(Debug)]
pub(crate) struct DataPlane {
    sessions: Proxy,
    http: HttpProxy,
    applied: ApplyReport,
}

/// What is counted. Cheap to share.
#[derive(Clone, Debug)]
pub(crate) struct Counters {
    sessions: Arc<l4way_proxy::Counters>,
    http: Arc<l4way_http::Counters>,
}

/// All counters at one time.
#[derive(Clone, Debug, Default)]
pub(crate) struct CounterSnapshot {
    /// Of TCP and UDP sessions.
    pub(crate) sessions: l4way_proxy::CounterSnapshot,
    /// Of HTTP requests.
    pub(crate) http: l4way_http::CounterSnapshot,
}

impl DataPlane {
    /// Starts with nothing to carry yet.
    ///
    /// # Errors
    /// If threads, epoll instances or eventfds can't be made.
    pub(crate) fn start(
        mut sessions: l4way_proxy::Settings,
        http: l4way_http::Settings,
    ) -> io::Result<Self> {
        let http = HttpProxy::start(http)?;
        sessions.https = Some(http.https());
        let sessions = Proxy::start(sessions)?;
        Ok(Self { sessions, http, applied: ApplyReport::default() })
    }

    /// Carries `config` from now on, with these endpoints. Only what differs from before is
    /// touched.
    pub(crate) fn apply(&mut self, config: Arc<Config>, endpoints: &EndpointTable) -> ApplyReport {
        // A port may pass from either side to the other: both let go of theirs before either takes
        // new ones.
        self.http.prepare(&config, endpoints);
        self.applied = self.sessions.apply(config, endpoints);
        self.applied.listeners.extend(self.http.listen());
        self.applied.clone()
    }

    /// Sends new sessions and requests to these endpoints from now on.
    pub(crate) fn update_endpoints(&mut self, endpoints: &EndpointTable) {
        self.sessions.update_endpoints(endpoints);
        self.http.update_endpoints(endpoints);
    }

    /// Tries again to bind the listeners that failed. A new report if it differs from the last.
    pub(crate) fn retry_failed(&mut self) -> Option<ApplyReport> {
        let sessions = self.sessions.retry_failed();
        let http = self.http.retry_failed();
        if sessions.is_none() && http.is_none() {
            return None;
        }
        if let Some(report) = sessions {
            self.applied.listeners.extend(report.listeners);
        }
        self.applied.listeners.extend(http.unwrap_or_default());
        Some(self.applied.clone())
    }

    /// Takes no new sessions and connections any more. Those that are left after `within` are
    /// reset.
    pub(crate) fn drain(&mut self, within: Duration) {
        self.sessions.drain(within);
        self.http.drain(within);
    }

    /// Whether all have ended after [`drain`](Self::drain).
    pub(crate) fn is_drained(&self) -> bool {
        self.sessions.wait(Duration::ZERO) && self.http.is_drained()
    }

    /// How many sessions there are, HTTP's connections among them.
    pub(crate) fn active_sessions(&self) -> u64 {
        let snapshot = self.counters().snapshot();
        let sessions = snapshot.sessions.rows.iter().map(l4way_proxy::RowSnapshot::active);
        sessions.sum::<u64>() + snapshot.http.active_connections
    }

    /// The counters, to be read by any thread at any time.
    pub(crate) fn counters(&self) -> Counters {
        Counters { sessions: self.sessions.counters(), http: self.http.counters() }
    }

    /// What the system allows.
    pub(crate) fn limits(&self) -> &Limits {
        self.sessions.limits()
    }
}

impl Counters {
    /// All of them at one time.
    pub(crate) fn snapshot(&self) -> CounterSnapshot {
        CounterSnapshot { sessions: self.sessions.snapshot(), http: self.http.snapshot() }
    }
}

#[cfg(test)]
mod tests;
