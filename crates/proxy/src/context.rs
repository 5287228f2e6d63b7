use std::{
    ops::RangeInclusive,
    sync::Arc,
    time::{Duration, Instant},
};

use l4way_model::SessionTerms;
use l4way_proxy_core::{DescriptorBudget, DescriptorPool, HealthView, Rng};
use l4way_session::{SessionRecord, Tap, WorkerCounters};

use crate::{
    ProxySettings,
    loops::Loops,
    poll::Poll,
    routes::{Backends, Choosing},
};

/// What all sessions of a worker use, TCP and UDP alike.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) poll: Poll,
    /// The time of this turn of the loop.
    pub(crate) now: Instant,
    /// The same in tenths of a second, for what is kept of each session.
    pub(crate) tenths: Tenths,
    /// When the worker began, and when the next tenth does.
    pub(crate) begun: Instant,
    pub(crate) next_tenth: Instant,
    pub(crate) rng: Rng,
    pub(crate) settings: Arc<ProxySettings>,
    /// What the configuration says of all sessions.
    pub(crate) terms: SessionTerms,
    pub(crate) backends: Backends,
    /// What is known of endpoints.
    pub(crate) health: HealthView,
    /// The descriptors that sessions may use, and this worker's part of them, which has its number.
    pub(crate) budget: Arc<DescriptorBudget>,
    pub(crate) pool: Arc<DescriptorPool>,
    pub(crate) worker: usize,
    /// Whether sessions come back.
    pub(crate) loops: Loops,
    pub(crate) counters: Arc<WorkerCounters>,
    pub(crate) tap: Tap,
    /// The ports that the kernel gives to connections: an endpoint's may be among them.
    pub(crate) local_ports: RangeInclusive<u16>,
    /// The most UDP sessions that this worker may have.
    pub(crate) udp_session_limit: usize,
}

/// A time in tenths of a second from a worker's beginning: enough for 13 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tenths(u32);

impl Tenths {
    /// How long it is from an earlier time to this one.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::from(self.0.wrapping_sub(earlier.0)) * 100)
    }
}

/// The earlier of two times, of those that there are.
pub(crate) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if other < one { other } else { one }),
        (one, None) => one,
        (None, other) => other,
    }
}

impl Context {
    /// A turn of the loop begins.
    pub(crate) fn set_now(&mut self, now: Instant) {
        self.now = now;
        if now >= self.next_tenth {
            let since = now.saturating_duration_since(self.begun);
            let part = since.subsec_nanos() % 100_000_000;
            self.tenths =
                Tenths((since.as_secs() as u32).wrapping_mul(10) + since.subsec_millis() / 100);
            self.next_tenth = now + Duration::from_nanos(u64::from(100_000_000 - part));
        }
    }

    /// Tells of the end of a session. A record that the access log has no room for is counted.
    pub(crate) fn end(&self, record: impl FnOnce() -> SessionRecord) {
        if !self.tap.end(record) {
            self.counters.drop_record();
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
