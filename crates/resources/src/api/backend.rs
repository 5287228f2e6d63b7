use std::{net::IpAddr, path::PathBuf, sync::Arc};

use serde::Deserialize;

use super::Object;

/// Endpoints that no Service describes (`l4way.dev/v1alpha1`).
pub type Backend = Object<BackendSpec>;

/// The spec of a [`Backend`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct BackendSpec {
    /// The endpoints, which share the backend's sessions evenly.
    pub endpoints: Vec<BackendEndpoint>,
}

/// One endpoint of a [`Backend`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BackendEndpoint {
    /// An IP address and port.
    Ip(BackendIpEndpoint),
    /// A name to resolve, and a port.
    Fqdn(BackendFqdnEndpoint),
    /// A stream socket in the file system.
    Unix(BackendUnixEndpoint),
}

/// An IP address and port.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct BackendIpEndpoint {
    /// The address.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
}

/// A name to resolve, and a port.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct BackendFqdnEndpoint {
    /// The name.
    pub hostname: Arc<str>,
    /// The port.
    pub port: u16,
}

/// A stream socket in the file system.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct BackendUnixEndpoint {
    /// The socket's absolute path.
    pub path: PathBuf,
}
