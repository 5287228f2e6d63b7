use std::{fmt, fs, ops::RangeInclusive};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Settings;

/// The kernel's range of local ports where none can be read (Linux's own default).
const DEFAULT_PORTS: RangeInclusive<u16> = 32_768..=60_999;

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

fn raise_descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    // No limit at all can't be: the kernel caps it at fs.nr_open.
    current.and_then(|current| current.try_into().ok()).unwrap_or(1 << 20)
}

/// The ports that the kernel gives to outgoing connections (ip(7), `ip_local_port_range`).
pub fn local_ports() -> RangeInclusive<u16> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    range.ok().and_then(|range| parse_range(&range)).unwrap_or(DEFAULT_PORTS)
}

fn parse_range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut numbers = text.split_whitespace().map(str::parse);
    let (Some(Ok(first)), Some(Ok(last)), None) = (numbers.next(), numbers.next(), numbers.next())
    else {
        return None;
    };
    (first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_range_is_two_numbers() {
        assert_eq!(parse_range("32768\t60999\n"), Some(32_768..=60_999));
        assert_eq!(parse_range("5 4"), None);
        assert_eq!(parse_range("5"), None);
        assert_eq!(parse_range(""), None);
    }
}
