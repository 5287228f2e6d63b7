use std::time::Duration;

use crate::TrustedProxies;

/// What holds for the sessions of all listeners. It may change at any time, and ends no session but
/// those of UDP that have been silent for a shorter time than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTerms {
    /// How long one endpoint has to accept a connection. Default: 5 s.
    pub connect_timeout: Duration,
    /// How long a UDP session may be silent. Default: 60 s.
    pub udp_session_timeout: Duration,
    /// What becomes of sessions that were used where there are as many as there may be. Default: they stay.
    pub at_limit: AtLimit,
}

/// What becomes of sessions that were used, and have been silent since, where there are as many as there
/// may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AtLimit {
    /// They stay, and clients wait for sessions to end.
    #[default]
    Wait,
    /// The client that has most makes room with the one that has been silent longest.
    Evict,
}

/// What holds for the requests of all HTTP and HTTPS listeners. It may change at any time, and holds for the
/// requests that come from then on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpTerms {
    /// The peers whose word counts for whom they forward a request. Default: nobody's.
    pub trusted_proxies: TrustedProxies,
}

impl Default for SessionTerms {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            udp_session_timeout: Duration::from_secs(60),
            at_limit: AtLimit::Wait,
        }
    }
}
