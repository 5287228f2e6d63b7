use std::{
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use l4way_proxy::{Keepalive, Records};
use l4way_proxy_core::EndpointStore;

/// How an [`HttpProxy`] behaves, apart from what it carries and on which terms.
///
/// [`HttpProxy`]: crate::HttpProxy
#[derive(Clone, Debug)]
pub struct Settings {
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
    /// How long a client has for the head of a request. As hyper has it, an HTTP/1.1 connection
    /// without a request is closed after the same time. Default: 10 s.
    pub header_timeout: Duration,
    /// The most connections without TLS at a time, for each address of a port: further ones wait to
    /// be accepted. Default: 16,384.
    pub max_connections: NonZeroUsize,
    /// How long a connection to an endpoint is kept for the next request. Default: 30 s.
    pub pool_timeout: Duration,
    /// Where a record of each connection of HTTPS goes when it ends. Of one that began while they were
    /// off, it has the server name and nothing else of the TLS session. Default: nowhere.
    pub records: Records,
    /// What is known of endpoints, shared by all that connect to them. Default: nothing yet.
    pub endpoints: Arc<EndpointStore>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect_attempts: NonZeroUsize::MIN.saturating_add(2),
            drain_deadline: Duration::from_secs(60),
            keepalive: Keepalive::default(),
            backlog: 4_096,
            header_timeout: Duration::from_secs(10),
            max_connections: NonZeroUsize::MIN.saturating_add(16_383),
            pool_timeout: Duration::from_secs(30),
            records: Records::default(),
            endpoints: EndpointStore::new(Instant::now()),
        }
    }
}
