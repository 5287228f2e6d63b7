//! Routes. The kinds differ in little more than their names, so one shape serves them all.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{BackendRef, Object, ParentRef};

/// A TCPRoute, UDPRoute, TLSRoute or HTTPRoute; which one it is, [`RouteKind`] tells beside it.
pub type Route = Object<RouteSpec>;

/// The kinds of route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RouteKind {
    /// TCP connections.
    #[serde(rename = "TCPRoute")]
    Tcp,
    /// UDP sessions.
    #[serde(rename = "UDPRoute")]
    Udp,
    /// TLS connections, by server name.
    #[serde(rename = "TLSRoute")]
    Tls,
    /// HTTP requests.
    #[serde(rename = "HTTPRoute")]
    Http,
}

impl RouteKind {
    /// Every kind of route.
    pub const ALL: [Self; 4] = [Self::Tcp, Self::Udp, Self::Tls, Self::Http];

    /// The kind as the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCPRoute",
            Self::Udp => "UDPRoute",
            Self::Tls => "TLSRoute",
            Self::Http => "HTTPRoute",
        }
    }
}

impl fmt::Display for RouteKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The spec of a [`Route`]. What HTTPRoutes have beyond it isn't read: HTTP has no data path yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteSpec {
    /// The hostnames that the route is for, where its kind has them; any if empty.
    pub hostnames: Vec<Arc<str>>,
    /// Where the route wants to attach.
    pub parent_refs: Vec<ParentRef>,
    /// Where sessions go.
    pub rules: Vec<RouteRule>,
    /// Whether the route attaches to default Gateways (GEP-3793).
    pub use_default_gateways: Option<Arc<str>>,
}

/// One rule of a [`Route`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouteRule {
    /// The rule's name.
    pub name: Option<Arc<str>>,
    /// Where sessions go.
    pub backend_refs: Vec<BackendRef>,
}
