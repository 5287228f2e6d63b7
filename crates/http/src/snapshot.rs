use std::sync::Arc;

use crate::{ErrorReason, RequestLabels};

/// All counters at one time.
#[derive(Clone, Debug, Default)]
pub struct HttpSnapshot {
    /// One row for each listener, route and backend, in the order of their labels.
    pub rows: Vec<RequestRowSnapshot>,
    /// Client connections there are, upgraded ones among them.
    pub active_connections: u64,
    /// Times that accepting was paused for lack of descriptors or memory (accept(2) failed).
    pub accept_pauses: u64,
    /// Times that connections waited for the session limit.
    pub limit_pauses: u64,
    /// Idle connections that had to leave at the session limit, so that there was room for others.
    pub idle_evictions: u64,
    /// Records of connections that the sink had no room for.
    pub records_dropped: u64,
}

/// The counters of one listener, route and backend.
#[derive(Clone, Debug)]
pub struct RequestRowSnapshot {
    /// What it is about.
    pub labels: Arc<RequestLabels>,
    pub(crate) answered: [u64; 5],
    pub(crate) errors: [u64; ErrorReason::ALL.len()],
    /// Connections that were upgraded to another protocol.
    pub upgrades: u64,
}

impl RequestRowSnapshot {
    /// Requests that were answered, by l4way or an endpoint, by class of the status code (`2xx`, …),
    /// those without any left out.
    pub fn answered(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"];
        classes.into_iter().zip(self.answered).filter(|&(_, count)| count > 0)
    }

    /// Requests that no endpoint answered, or not to the end, by reason, those without any left
    /// out.
    pub fn errors(&self) -> impl Iterator<Item = (ErrorReason, u64)> + '_ {
        ErrorReason::ALL.iter().copied().zip(self.errors).filter(|&(_, count)| count > 0)
    }

    /// How many requests there were of this reason.
    pub fn count(&self, reason: ErrorReason) -> u64 {
        self.errors[reason as usize]
    }
}
