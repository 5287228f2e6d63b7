use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::BackendId;

/// Where the bytes for a backend go: one address that the proxy can connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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
    fn from(address: SocketAddr) -> Self {
        Self { address: EndpointAddress::Ip(address) }
    }
}

/// Every backend's endpoints that may take new sessions now. A backend that is missing here has
/// none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointTable(pub BTreeMap<BackendId, Arc<[Endpoint]>>);
