use std::{fmt, net::SocketAddr};

use crate::Transport;

/// A socket that listens, by what makes it one of a kind on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bind {
    /// TCP or UDP.
    pub transport: Transport,
    /// The address and port.
    pub address: SocketAddr,
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.transport, self.address)
    }
}
