use std::{cell::Cell, sync::Arc, time::Instant};

use l4way_proxy_core::Rng;

use crate::{Settings, counters::WorkerCounters, poll::Poll, record::Recorder, routes::Backends};

/// What all sessions of a worker use, TCP and UDP alike.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) poll: Poll,
    /// The time of this turn of the loop.
    pub(crate) now: Instant,
    pub(crate) rng: Rng,
    pub(crate) settings: Arc<Settings>,
    pub(crate) backends: Backends,
    pub(crate) descriptors: Descriptors,
    pub(crate) counters: Arc<WorkerCounters>,
    pub(crate) records: Recorder,
    /// The most UDP sessions that this worker may have.
    pub(crate) udp_session_limit: usize,
}

/// A worker's share of the descriptors that sessions may use.
#[derive(Debug)]
pub(crate) struct Descriptors {
    limit: usize,
    used: Cell<usize>,
}

impl Descriptors {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, used: Cell::new(0) }
    }

    /// How many there are, used or not.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Whether `count` more may be used.
    pub(crate) fn allow(&self, count: usize) -> bool {
        self.used.get() + count <= self.limit
    }

    pub(crate) fn take(&self, count: usize) {
        self.used.set(self.used.get() + count);
    }

    pub(crate) fn give_back(&self, count: usize) {
        self.used.set(self.used.get().saturating_sub(count));
    }
}
