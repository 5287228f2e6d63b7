use std::{collections::BTreeMap, net::SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{BackendId, ListenerId};

/// What the proxy really runs after it applied a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApplyReport {
    /// One entry for each listener of the configuration, HTTP's among them.
    pub listeners: BTreeMap<ListenerId, ListenerReport>,
    /// Backends some of whose names lead to the proxy's own host, where sessions may not go: each
    /// with a sentence for a person.
    pub refused_backends: BTreeMap<BackendId, String>,
    /// Who carries the sessions of TCP and UDP listeners, where the kernel may: nothing is said of
    /// them where it may not.
    pub paths: BTreeMap<ListenerId, PathReport>,
}

/// Who carries a listener's new sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PathReport {
    /// The kernel, by NAT.
    Kernel,
    /// The proxy, as the kernel can't: a clause for a person says why.
    Proxy(String),
}

/// What became of one listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ListenerReport {
    /// Bound on every address that it wants, and taking sessions.
    Bound,
    /// Not listening: at least one of its addresses can't be bound, and none is.
    Failed(BindFailure),
}

/// Why a socket could not be bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindFailure {
    /// The socket.
    pub bind: SocketAddr,
    /// What kind of failure, as far as it matters for what to do.
    pub kind: BindFailureKind,
    /// A sentence for a person: what failed and, where it can be told, which process is in the way.
    pub message: String,
}

/// The kinds of [`BindFailure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum BindFailureKind {
    /// Another socket has the port (EADDRINUSE).
    PortTaken,
    /// The address isn't one of this host's (EADDRNOTAVAIL).
    AddressNotAvailable,
    /// The process may not bind the port (EACCES).
    NotPermitted,
    /// Anything else, such as too many open files.
    Other,
}
