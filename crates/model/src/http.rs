//! HTTP and HTTPS listeners, and the rules by which their requests find a backend.

use std::{fmt, net::IpAddr, net::SocketAddr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{ListenerId, Route};

/// The HTTP or HTTPS listeners that share a port, told apart by hostname.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpPort {
    /// The addresses to bind, each at `port`; never empty.
    pub addresses: Vec<IpAddr>,
    /// The port to bind; never 0.
    pub port: u16,
    /// Whether the listeners end TLS sessions (HTTPS): all of a port do, or none does.
    pub tls: bool,
    /// The listeners; never empty, and no two of the same hostname.
    pub listeners: Vec<HttpListener>,
}

impl HttpPort {
    /// The sockets that the port is bound on.
    pub fn binds(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        self.addresses.iter().map(|ip| SocketAddr::new(*ip, self.port))
    }
}

/// An HTTP or HTTPS listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpListener {
    /// Whose listener it is.
    pub id: ListenerId,
    /// The hosts that it is for; any if missing.
    pub hostname: Option<Hostname>,
    /// What it shows to clients, if it ends TLS sessions: then there is one at least. The first whose
    /// names fit the client's is taken, else the first.
    pub certificates: Vec<Arc<KeyPair>>,
    /// The rules in the order of precedence: the first that matches a request takes it. A request
    /// that none matches is answered 404.
    pub rules: Vec<HttpRule>,
}

/// A host, or every host below a domain: `*.example.com`. Lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Hostname(Arc<str>);

impl Hostname {
    /// The hostname as the API spells it.
    pub fn new(text: &str) -> Self {
        Self(text.to_ascii_lowercase().into())
    }

    /// The hostname, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The domain below which all hosts are meant, with its leading dot, if it is a wildcard.
    pub fn wildcard_suffix(&self) -> Option<&str> {
        self.0.strip_prefix('*')
    }

    /// Whether `host`, in lower case and without a port, is meant.
    pub fn matches(&self, host: &str) -> bool {
        match self.wildcard_suffix() {
            Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
            None => *self.0 == *host,
        }
    }

    /// What makes one hostname more specific than another: an exact one before a wildcard, and a
    /// longer one before a shorter.
    pub fn specificity(&self) -> (bool, usize) {
        (self.wildcard_suffix().is_none(), self.0.len())
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A certificate with its chain, and its private key, in PEM (RFC 7468). `Debug` shows neither.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPair {
    /// The certificate first, then those that lead to an authority.
    pub certificate_chain: Arc<str>,
    /// The private key.
    pub private_key: Arc<str>,
}

impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyPair")
    }
}

/// Which requests go where. Every condition has to hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Whether a request's path, without its query, is meant.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == &**exact,
            Self::Prefix(prefix) => {
                let prefix = prefix.trim_end_matches('/');
                path.strip_prefix(prefix)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
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
    fn a_wildcard_means_hosts_below_its_domain() {
        let wildcard = Hostname::new("*.Example.com");
        assert!(wildcard.matches("a.example.com"));
        assert!(wildcard.matches("a.b.example.com"));
        assert!(!wildcard.matches("example.com"));
        assert!(!wildcard.matches("aexample.com"));
        assert!(Hostname::new("example.com").matches("example.com"));
        assert!(Hostname::new("a.b").specificity() > wildcard.specificity());
    }

    #[test]
    fn a_prefix_ends_at_a_path_element() {
        let prefix = PathMatch::Prefix("/a".into());
        assert!(prefix.matches("/a") && prefix.matches("/a/") && prefix.matches("/a/b"));
        assert!(!prefix.matches("/ab") && !prefix.matches("/"));
        let slash = PathMatch::Prefix("/a/".into());
        assert!(slash.matches("/a") && slash.matches("/a/b"));
        assert!(PathMatch::Prefix("/".into()).matches("/anything"));
        assert!(!PathMatch::Exact("/a".into()).matches("/a/"));
    }

    #[test]
    fn a_key_is_never_shown() {
        let pair = KeyPair { certificate_chain: "chain".into(), private_key: "secret".into() };
        assert_eq!(format!("{pair:?}"), "KeyPair");
    }
}
