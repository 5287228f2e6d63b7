//! HTTP listeners, and the rules by which their requests find a backend.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{Hostname, ListenerId, Route};

/// The HTTP listeners that share a port, told apart by hostname. Those of HTTPS are in a
/// [`TlsPort`](crate::TlsPort).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpPort {
    /// The addresses to bind, each at `port`; never empty.
    pub addresses: Vec<IpAddr>,
    /// The port to bind; never 0.
    pub port: u16,
    /// The listeners; never empty, and no two of the same hostname.
    pub listeners: Vec<HttpListener>,
}

impl HttpPort {
    /// The sockets that the port is bound on.
    pub fn binds(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.addresses.iter().map(|ip| SocketAddr::new(*ip, self.port))
    }
}

/// An HTTP listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpListener {
    /// Whose listener it is.
    pub id: ListenerId,
    /// The hosts that it is for; any if missing.
    pub hostname: Option<Hostname>,
    /// The rules in the order of precedence: the first that matches a request takes it. A request
    /// that none matches is answered 404.
    pub rules: Vec<HttpRule>,
}

/// Which requests go where. Every condition has to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpRule {
    /// The hosts; any that the listener is for if missing.
    pub hostname: Option<Hostname>,
    /// The path.
    pub path: PathMatch,
    /// The headers.
    pub headers: Vec<HeaderMatch>,
    /// Where the requests go. A refused share is answered 500; a backend without an endpoint 503.
    pub route: Route,
}

/// Which paths are meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PathMatch {
    /// Just this one.
    Exact(Arc<str>),
    /// Those that begin with these path elements: `/a` means `/a` and `/a/b` and not `/ab`.
    Prefix(Arc<str>),
}

impl PathMatch {
    /// Whether a request's path, without its query, is meant. All paths together mean `*`, too, which stands
    /// for the whole server (RFC 9112, section 3.2.4).
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == &**exact,
            Self::Prefix(prefix) => {
                let prefix = prefix.trim_end_matches('/');
                path.strip_prefix(prefix).is_some_and(|rest| {
                    prefix.is_empty() || rest.is_empty() || rest.starts_with('/')
                })
            }
        }
    }

    /// What makes one match more specific than another: an exact one before a prefix, and a longer
    /// one before a shorter.
    pub fn specificity(&self) -> (bool, usize) {
        match self {
            Self::Exact(path) => (true, path.len()),
            Self::Prefix(path) => (false, path.len()),
        }
    }
}

/// A header that a request has to have, with just this value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderMatch {
    /// The header's name, in lower case.
    pub name: Arc<str>,
    /// Its value. Where a request repeats the header, its values joined by commas (RFC 9110,
    /// section 5.3).
    pub value: Arc<str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_at_a_path_element() {
        let prefix = PathMatch::Prefix("/a".into());
        assert!(prefix.matches("/a") && prefix.matches("/a/") && prefix.matches("/a/b"));
        assert!(!prefix.matches("/ab") && !prefix.matches("/"));
        let slash = PathMatch::Prefix("/a/".into());
        assert!(slash.matches("/a") && slash.matches("/a/b"));
        assert!(PathMatch::Prefix("/".into()).matches("/anything"));
        assert!(PathMatch::Prefix("/".into()).matches("*") && !prefix.matches("*"));
        assert!(!PathMatch::Exact("/a".into()).matches("/a/"));
    }
}
