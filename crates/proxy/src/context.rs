use std::{
    ops::RangeInclusive,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};

use l4way_model::SessionTerms;
use l4way_proxy_core::{HealthView, Rng};

use crate::{
    Records, SessionRecord, Settings,
    counters::WorkerCounters,
    poll::Poll,
    routes::{Backends, Choosing},
};

/// What all sessions of a worker use, TCP and UDP alike.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) poll: Poll,
    /// The time of this turn of the loop.
    pub(crate) now: Instant,
    pub(crate) rng: Rng,
    pub(crate) settings: Arc<Settings>,
    /// What the configuration says of all sessions.
    pub(crate) terms: SessionTerms,
    pub(crate) backends: Backends,
    /// What is known of endpoints.
    pub(crate) health: HealthView,
    pub(crate) descriptors: Arc<Descriptors>,
    pub(crate) counters: Arc<WorkerCounters>,
    pub(crate) records: Records,
    /// The ports that the kernel gives to connections: an endpoint's may be among them.
    pub(crate) local_ports: RangeInclusive<u16>,
    /// The most UDP sessions that this worker may have.
    pub(crate) udp_session_limit: usize,
}

impl Context {
    /// Hands a record over, if records are on, or counts it as dropped.
    pub(crate) fn record(&self, record: impl FnOnce() -> SessionRecord) {
        if !self.records.record(record) {
            self.counters.records_dropped.add(1);
        }
    }
}

impl Context {
    /// The backends, and what their endpoints are chosen by.
    pub(crate) fn choosing(&mut self) -> (&Backends, Choosing<'_>) {
        let Self { backends, rng, health, now, .. } = self;
        (backends, Choosing { rng, health, now: *now })
    }
}

/// A worker's share of the descriptors that sessions may use. Others take of it too, for the
/// connections that they hand over.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Descriptors {
    limit: usize,
    used: AtomicUsize,
}

impl Descriptors {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0) }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Relaxed)
    }

    /// Whether `count` more may be used.
    pub(crate) fn allow(&self, count: usize) -> bool {
        self.used() + count <= self.limit
    }

    pub(crate) fn take(&self, count: usize) {
        self.used.fetch_add(count, Relaxed);
    }

    /// Takes `count` if that many are left.
    pub(crate) fn try_take(&self, count: usize) -> bool {
        let taken = |used| Some(used + count).filter(|used| *used <= self.limit);
        self.used.fetch_update(Relaxed, Relaxed, taken).is_ok()
    }

    pub(crate) fn give_back(&self, count: usize) {
        self.used.fetch_sub(count, Relaxed);
    }
}
