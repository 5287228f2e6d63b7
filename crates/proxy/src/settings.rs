use std::{
    num::NonZeroUsize,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use l4way_host::{local_ports, memory, raise_descriptors};
use l4way_proxy_core::{Limits, ProcessWide, WantedLimits};
use l4way_session::{Keepalive, Tap};

use crate::HttpsSink;

/// How a proxy behaves, apart from what it carries and on which terms.
#[derive(Clone, Debug)]
pub struct ProxySettings {
    /// Worker threads. Default: one for each CPU that the process may use.
    pub workers: NonZeroUsize,
    /// How many endpoints a TCP session tries before it is reset. Default: 3.
    pub connect_attempts: NonZeroUsize,
    /// Keepalive probes on both sides of a TCP session. Default: see [`Keepalive`].
    pub keepalive: Keepalive,
    /// How many connections wait for being accepted, per worker and socket; the kernel caps it at
    /// `net.core.somaxconn`. Default: 4,096.
    pub backlog: u32,
    /// The most UDP sessions at a time, over all workers. Default: what descriptors and local ports
    /// allow, see [`Limits`].
    ///
    /// [`Limits`]: l4way_proxy_core::Limits
    pub udp_session_limit: Option<NonZeroUsize>,
    /// The most descriptors that sessions use at a time, over all workers: two for a TCP session,
    /// one for a UDP session. Default: what `RLIMIT_NOFILE` allows, less a reserve.
    pub session_descriptors: Option<NonZeroUsize>,
    /// How long a client has to have been silent before it may have to leave, so that there is room
    /// for the next one at the limit. Default: 30 s.
    pub silence: Duration,
    /// How long the sessions of a removed listener may go on. Default: 60 s.
    pub drain_deadline: Duration,
    /// Tap through which sessions are told of. Default: nobody listens.
    pub tap: Tap,
    /// State that all share who carry sessions in this process. Default: nothing is known of
    /// endpoints yet, a quarter of the [`memory`] may be held, and the budget of descriptors is its
    /// own.
    pub process: ProcessWide,
    /// How long a peer has taken nothing that may be reset when the memory budget is used up.
    /// Default: 30 s.
    pub stalled: Duration,
    /// Who serves the clients of HTTPS listeners; without one they are refused. Default: none.
    pub https: Option<Arc<dyn HttpsSink>>,
}

impl ProxySettings {
    /// Limits of sessions with these settings. Raises the soft limit of open files to the hard one.
    pub fn limits(&self) -> Limits {
        let wanted = WantedLimits {
            session_descriptors: self.session_descriptors,
            udp_sessions: self.udp_session_limit,
        };
        Limits::new(raise_descriptors(), local_ports(), wanted)
    }
}

impl Default for ProxySettings {
    fn default() -> Self {
        Self {
            workers: thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            connect_attempts: NonZeroUsize::MIN.saturating_add(2),
            keepalive: Keepalive::default(),
            backlog: 4_096,
            udp_session_limit: None,
            session_descriptors: None,
            silence: Duration::from_secs(30),
            drain_deadline: Duration::from_secs(60),
            tap: Tap::default(),
            process: ProcessWide::new(Instant::now(), memory()),
            stalled: Duration::from_secs(30),
            https: None,
        }
    }
}
