use std::{
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use l4way_host::memory;
use l4way_proxy_core::ProcessWide;
use l4way_session::{Keepalive, Tap};

/// How an [`HttpProxy`] behaves, apart from what it carries and on which terms.
///
/// [`HttpProxy`]: crate::HttpProxy
#[derive(Clone, Debug)]
pub struct HttpSettings {
    /// How many endpoints a request tries to connect to before it is answered 503 or 504.
    /// Default: 3.
    pub connect_attempts: NonZeroUsize,
    /// How long the connections of a removed port may go on. Default: 60 s.
    pub drain_deadline: Duration,
    /// Keepalive probes of TCP on both sides. Default: see [`Keepalive`].
    pub keepalive: Keepalive,
    /// How many connections wait for being accepted, per socket; the kernel caps it at
    /// `net.core.somaxconn`. Default: 4,096.
    pub backlog: u32,
    /// How long who may be silent. Default: see [`Timeouts`].
    pub timeouts: Timeouts,
    /// How long a connection has to have been idle before it may have to end, so that there is room for
    /// the next one at the limit. Default: 30 s.
    pub silence: Duration,
    /// How long a connection to an endpoint is kept for the next request. Default: 30 s.
    pub pool_timeout: Duration,
    /// Tap through which connections of HTTPS are told of. Of one that began while nobody listened,
    /// the record has the server name and nothing else of the TLS session. Default: nobody listens.
    pub tap: Tap,
    /// State that all share who carry sessions in this process. Default: nothing is known of
    /// endpoints yet, a quarter of the [`memory`] may be held, and the budget of descriptors is its
    /// own.
    pub process: ProcessWide,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            connect_attempts: NonZeroUsize::MIN.saturating_add(2),
            drain_deadline: Duration::from_secs(60),
            keepalive: Keepalive::default(),
            backlog: 4_096,
            timeouts: Timeouts::default(),
            silence: Duration::from_secs(30),
            pool_timeout: Duration::from_secs(30),
            tap: Tap::default(),
            process: ProcessWide::new(Instant::now(), memory()),
        }
    }
}

/// How long a side may be silent. None of these is for a whole request or answer; connections that were
/// upgraded and streams of gRPC have none but the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For the head of a request, from its first byte or the connection's begin to its end. Default: 10 s.
    pub head: Duration,
    /// For more of a request's body to come, and for more of either body to be taken. Default: 60 s.
    pub body_idle: Duration,
    /// For the next request of a connection. Default: 75 s.
    pub keep_alive_idle: Duration,
    /// For an endpoint to answer, or to go on with its answer. Default: 5 minutes.
    pub stream_idle: Duration,
    /// After how long who takes nothing may be reset when the memory budget is used up. Default: 30 s.
    pub stalled: Duration,
}

impl Timeouts {
    /// The one that passes first.
    pub(crate) fn shortest(&self) -> Duration {
        let Self { head, body_idle, keep_alive_idle, stream_idle, stalled } = *self;
        head.min(body_idle).min(keep_alive_idle).min(stream_idle).min(stalled)
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            body_idle: Duration::from_secs(60),
            keep_alive_idle: Duration::from_secs(75),
            stream_idle: Duration::from_secs(300),
            stalled: Duration::from_secs(30),
        }
    }
}
