use std::time::Duration;

/// Times after which a silent TCP peer is probed, and given up (tcp(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first probe (`TCP_KEEPIDLE`). Default: 60 s.
    pub idle: Duration,
    /// Time between probes (`TCP_KEEPINTVL`). Default: 15 s.
    pub interval: Duration,
    /// Probes without an answer before the connection is given up (`TCP_KEEPCNT`). Default: 4.
    pub probes: u32,
}

impl Default for Keepalive {
    fn default() -> Self {
        Self { idle: Duration::from_secs(60), interval: Duration::from_secs(15), probes: 4 }
    }
}
