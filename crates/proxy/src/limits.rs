use std::{fmt, ops::RangeInclusive};

use l4way_host::{local_ports, raise_descriptors};

use crate::Settings;

/// How much the proxy can carry at a time, by what the system allows the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open files (`RLIMIT_NOFILE`); the soft limit has been raised to the hard one.
    pub descriptors: usize,
    /// Those that sessions may use: the size of the [`Budget`](crate::Budget). Two for a TCP session or a
    /// client of HTTP, one for a UDP session.
    pub session_descriptors: usize,
    /// Local ports for connections to endpoints (`net.ipv4.ip_local_port_range`). Each endpoint
    /// takes as many TCP sessions; of UDP sessions there are as many altogether.
    pub local_ports: RangeInclusive<u16>,
    /// The most UDP sessions.
    pub udp_sessions: usize,
}

impl Limits {
    /// Raises the limit of open files as far as the process may, and reads what limits sessions.
    pub fn probe(settings: &Settings) -> Self {
        let descriptors = raise_descriptors();
        // For listening sockets, files, the control side, and connections accepted meanwhile.
        let reserve = (descriptors / 10).clamp(32, 1_024);
        let session_descriptors = settings
            .session_descriptors
            .map_or(descriptors.saturating_sub(reserve), |given| given.get().min(descriptors));
        let local_ports = local_ports();
        let ports = local_ports.len();
        let udp_sessions = settings
            .udp_session_limit
            .map_or(ports - ports / 10, |given| given.get())
            .min(session_descriptors);
        Self { descriptors, session_descriptors, local_ports, udp_sessions }
    }

    /// The most TCP sessions, if there are no UDP sessions.
    pub fn tcp_sessions(&self) -> usize {
        self.session_descriptors / 2
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} open files, {} of them for sessions: up to {} of TCP or clients of HTTP, or {} of UDP \
             (local ports {}-{})",
            self.descriptors,
            self.session_descriptors,
            self.tcp_sessions(),
            self.udp_sessions,
            self.local_ports.start(),
            self.local_ports.end(),
        )
    }
}
