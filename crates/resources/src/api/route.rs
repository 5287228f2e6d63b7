//! Routes. The kinds differ in little more than their names, so one shape serves them all.

use std::{collections::BTreeMap, fmt, sync::Arc};

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

/// The spec of a [`Route`].
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
    /// Which requests an HTTPRoute's rule is for: those that fit one of them.
    pub matches: Vec<HttpRouteMatch>,
    /// What an HTTPRoute's rule does to requests. Their types alone are read: none is implemented.
    pub filters: Vec<HttpFilter>,
    /// Fields of an HTTPRoute's rule that aren't implemented, with what they hold.
    #[serde(flatten)]
    pub other: BTreeMap<String, serde_json::Value>,
}

/// A filter of an HTTPRoute, by its type.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct HttpFilter {
    /// Such as `RequestRedirect`.
    #[serde(rename = "type")]
    pub kind: Arc<str>,
}

/// Which requests are meant. Every condition has to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpRouteMatch {
    /// The path.
    pub path: HttpPathMatch,
    /// The headers.
    pub headers: Vec<HttpHeaderMatch>,
    /// Other conditions, which aren't implemented: `method`, `queryParams`.
    #[serde(flatten)]
    pub other: BTreeMap<String, serde_json::Value>,
}

/// Which paths are meant.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct HttpPathMatch {
    /// `Exact`, `PathPrefix` or `RegularExpression`.
    #[serde(rename = "type")]
    pub kind: Arc<str>,
    /// The path.
    pub value: Arc<str>,
}

impl Default for HttpPathMatch {
    fn default() -> Self {
        Self { kind: "PathPrefix".into(), value: "/".into() }
    }
}

/// A header that a request has to have.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct HttpHeaderMatch {
    /// `Exact` or `RegularExpression`.
    #[serde(rename = "type", default = "exact")]
    pub kind: Arc<str>,
    /// The header's name, in any case.
    pub name: Arc<str>,
    /// Its value.
    pub value: Arc<str>,
}

fn exact() -> Arc<str> {
    "Exact".into()
}
