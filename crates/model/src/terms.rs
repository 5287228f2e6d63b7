use std::time::Duration;

/// What holds for the sessions of all listeners. It may change at any time, and ends no session but
/// those of UDP that have been silent for a shorter time than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTerms {
    /// How long one endpoint has to accept a connection. Default: 5 s.
    pub connect_timeout: Duration,
    /// How long a UDP session may be silent. Default: 60 s.
    pub udp_session_timeout: Duration,
}

impl Default for SessionTerms {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            udp_session_timeout: Duration::from_secs(60),
        }
    }
}
