use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};

use crate::{ListenerId, Route};

/// The transport protocol of a listener or backend port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Transport {
    /// TCP (RFC 9293).
    Tcp,
    /// UDP (RFC 768).
    Udp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// A port to listen on, on one or more addresses, and the route that its sessions take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Whose listener it is.
    pub id: ListenerId,
    /// TCP or UDP.
    pub transport: Transport,
    /// The addresses to bind, each at `port`; never empty.
    pub addresses: Vec<IpAddr>,
    /// The port to bind; never 0.
    pub port: u16,
    /// Where sessions go. Without a route the port is open all the same, and every session is
    /// refused.
    pub route: Option<Route>,
}

impl Listener {
    /// The sockets that the listener is bound on.
    pub fn binds(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.addresses.iter().map(|ip| SocketAddr::new(*ip, self.port))
    }
}

/// Everything that a proxy carries, but for the endpoints: its listeners, no two of which want the
/// same socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    listeners: BTreeMap<ListenerId, Listener>,
}

impl Config {
    /// A configuration of these listeners.
    ///
    /// # Errors
    /// [`DuplicateBind`] if two of them want the same address, port and transport.
    pub fn new(listeners: impl IntoIterator<Item = Listener>) -> Result<Self, Box<DuplicateBind>> {
        let mut taken = BTreeMap::new();
        let mut config = Self::default();
        for listener in listeners {
            for bind in listener.binds() {
                if let Some(first) = taken.insert((listener.transport, bind), listener.id.clone()) {
                    let second = listener.id.clone();
                    return Err(Box::new(DuplicateBind { bind, first, second }));
                }
            }
            config.listeners.insert(listener.id.clone(), listener);
        }
        Ok(config)
    }

    /// The listeners, in the order of their ids.
    pub fn listeners(&self) -> impl ExactSizeIterator<Item = &Listener> {
        self.listeners.values()
    }

    /// The listener with this id.
    pub fn listener(&self, id: &ListenerId) -> Option<&Listener> {
        self.listeners.get(id)
    }
}

/// Two listeners of one configuration want the same socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DuplicateBind {
    /// The socket that both want.
    pub bind: SocketAddr,
    /// The listener that came first.
    pub first: ListenerId,
    /// The one that came after it.
    pub second: ListenerId,
}

impl fmt::Display for DuplicateBind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "listeners {} and {} both want {}", self.first, self.second, self.bind)
    }
}

impl std::error::Error for DuplicateBind {}
