use std::{fmt, num::NonZeroUsize, ops::RangeInclusive};

/// Limits that somebody asks for. `None`: as much as the system allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WantedLimits {
    /// The most descriptors that sessions use at a time.
    pub session_descriptors: Option<NonZeroUsize>,
    /// The most UDP sessions at a time.
    pub udp_sessions: Option<NonZeroUsize>,
}

/// Limits of sessions at a time, by what the system allows the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open files (`RLIMIT_NOFILE`); the soft limit has been raised to the hard one.
    pub descriptors: usize,
    /// Those that sessions may use: the size of the [`DescriptorBudget`](crate::DescriptorBudget).
    /// Two for a TCP session or a client of HTTP, one for a UDP session.
    pub session_descriptors: usize,
    /// Local ports for connections to endpoints (`net.ipv4.ip_local_port_range`). Each endpoint
    /// takes as many TCP sessions; of UDP sessions there are as many altogether.
    pub local_ports: RangeInclusive<u16>,
    /// The most UDP sessions.
    pub udp_sessions: usize,
}

impl Limits {
    /// Limits of a process that may have so many descriptors and gets these local ports, as far as
    /// `wanted` doesn't say otherwise.
    pub fn new(descriptors: usize, local_ports: RangeInclusive<u16>, wanted: WantedLimits) -> Self {
        // For listening sockets, files, the control side, and connections accepted meanwhile.
        let reserve = (descriptors / 10).clamp(32, 1_024);
        let session_descriptors = wanted
            .session_descriptors
            .map_or(descriptors.saturating_sub(reserve), |given| given.get().min(descriptors));
        let ports = local_ports.len();
        let udp_sessions = wanted
            .udp_sessions
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_is_limited_by_what_the_system_allows() {
        let limits = |descriptors, wanted| Limits::new(descriptors, 1..=1_000, wanted);
        let own = limits(1_000, WantedLimits::default());
        assert_eq!((own.session_descriptors, own.udp_sessions), (900, 900));
        assert_eq!(own.tcp_sessions(), 450);
        let few = WantedLimits {
            session_descriptors: NonZeroUsize::new(50),
            udp_sessions: NonZeroUsize::new(70),
        };
        let few = limits(1_000, few);
        assert_eq!((few.session_descriptors, few.udp_sessions), (50, 50));
        let many =
            WantedLimits { session_descriptors: NonZeroUsize::new(5_000), udp_sessions: None };
        assert_eq!(limits(1_000, many).session_descriptors, 1_000);
        assert_eq!(limits(20, WantedLimits::default()).session_descriptors, 0);
    }
}
