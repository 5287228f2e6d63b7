use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

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
}
