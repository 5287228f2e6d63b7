use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{BackendId, BackendTls, RouteId};

/// Where a listener's sessions go: one of several targets, picked for each session by weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The route object.
    pub id: RouteId,
    /// The targets in the manifest's order. If there are none, or every weight is 0, each session
    /// is refused.
    pub targets: Vec<WeightedTarget>,
}

/// A target and its share of the sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedTarget {
    /// The share, relative to the sum of the route's weights: 0 to 1,000,000.
    pub weight: u32,
    /// What happens to the share.
    pub target: Target,
}

/// What a share of the sessions meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// One of the backend's endpoints.
    Backend(BackendId),
    /// One of the backend's endpoints, in a TLS session that the proxy begins.
    TlsBackend(BackendId, Arc<BackendTls>),
    /// Nothing: a TCP connection is reset, a datagram dropped. Kept in the route so that the other
    /// targets' shares don't grow (Gateway API, `BackendRef`).
    Refused(RefusedReason),
}

impl Route {
    /// How TLS is spoken to its backends, as far as it is.
    pub fn backend_tls(&self) -> impl Iterator<Item = (&BackendId, &Arc<BackendTls>)> {
        self.targets.iter().filter_map(|weighted| match &weighted.target {
            Target::TlsBackend(backend, tls) => Some((backend, tls)),
            Target::Backend(_) | Target::Refused(_) => None,
        })
    }
}

impl Target {
    /// The backend, if there is one.
    pub fn backend(&self) -> Option<&BackendId> {
        match self {
            Self::Backend(backend) | Self::TlsBackend(backend, _) => Some(backend),
            Self::Refused(_) => None,
        }
    }
}

/// Why the configuration refuses sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusedReason {
    /// The listener has no route.
    NoRoute,
    /// No listener or route is for the server name that a TLS client asks for, or for clients that
    /// ask for none.
    UnrecognizedName,
    /// The route's backendRef can't be resolved: not found, not permitted, or of no known kind.
    InvalidBackend,
    /// The weights of the route sum to 0.
    NoWeight,
    /// The backend has no endpoint that takes new sessions.
    NoEndpoint,
}

impl RefusedReason {
    /// The reason as metrics and records spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoRoute => "no_route",
            Self::UnrecognizedName => "unrecognized_name",
            Self::InvalidBackend => "invalid_backend",
            Self::NoWeight => "no_weight",
            Self::NoEndpoint => "no_endpoint",
        }
    }
}

impl fmt::Display for RefusedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
