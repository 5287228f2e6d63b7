use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::BackendId;

/// Where the bytes for a backend go: one address that the proxy can connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// The address to connect to.
    pub address: EndpointAddress,
}

/// An endpoint's address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EndpointAddress {
    /// An IP address and port.
    Ip(SocketAddr),
    /// A stream socket in the file system (unix(7)).
    Unix(Arc<PathBuf>),
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl From<SocketAddr> for Endpoint {
    /// An IPv4-mapped address (`::ffff:192.0.2.1`, RFC 4291, section 2.5.5.2) is that of IPv4: it is the same
    /// endpoint, and is counted, logged and left out as that.
    fn from(address: SocketAddr) -> Self {
        let ip = address.ip().to_canonical();
        Self { address: EndpointAddress::Ip(SocketAddr::new(ip, address.port())) }
    }
}

/// The address that one is connected to who connects to `address`: the unspecified one means loopback, and an
/// IPv4-mapped one is that of IPv4 (RFC 4291, section 2.5.5.2).
pub fn connected_to(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        address if !address.is_unspecified() => address,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    }
}

impl Endpoint {
    /// Whether it is on the host that connects to it, as far as its address tells: loopback,
    /// link-local, unspecified, or a socket file.
    pub fn is_local(&self) -> bool {
        match &self.address {
            EndpointAddress::Unix(_) => true,
            EndpointAddress::Ip(address) => match address.ip().to_canonical() {
                IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local() || ip.is_unspecified(),
                IpAddr::V6(ip) => {
                    ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unspecified()
                }
            },
        }
    }
}

/// An endpoint by its place in an [`EndpointTable`], so that it is found among many at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointPlace {
    /// The backend.
    pub backend: BackendId,
    /// Which of its endpoints it is.
    pub index: usize,
    /// The address that is expected there: the table may have changed.
    pub address: EndpointAddress,
}

/// Where to find endpoints of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndpointSource {
    /// It is this one.
    Address(Endpoint),
    /// Every address of a host is one.
    Dns {
        /// The name to resolve.
        hostname: Arc<str>,
        /// The port at each address.
        port: u16,
    },
}

impl fmt::Display for EndpointSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(endpoint) => endpoint.address.fmt(f),
            Self::Dns { hostname, port } => write!(f, "{hostname}:{port}"),
        }
    }
}

/// How to come by all endpoints of a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendSource {
    /// They are these.
    Known(Vec<EndpointSource>),
    /// They are in the EndpointSlices of the Service that the backend's id names, which the proxy
    /// follows itself.
    Slices(ServicePort),
}

/// A Service's port, as far as its EndpointSlices are read by it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServicePort {
    /// The port's name, by which EndpointSlices know it; empty for an only port.
    pub name: Arc<str>,
    /// Whether pods count as ready however they are.
    pub publish_not_ready: bool,
}

/// Backends' endpoints that may take new sessions now. Where it stands for all of them, a backend that
/// is missing has none; where it stands for what has changed, such a backend has what it had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointTable(pub BTreeMap<BackendId, Arc<[Endpoint]>>);
