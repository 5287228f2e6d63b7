use std::collections::HashMap;

use l4way_model::Hostname;

/// Values by hostname, for looking up the one that is for a host: an exact name goes before a wildcard,
/// a longer wildcard before a shorter one, and what is for any host comes last.
#[derive(Clone, Debug)]
pub struct Hostnames<T> {
    exact: HashMap<Box<str>, T>,
    /// By the domain below which all hosts are meant, without a leading dot.
    wildcards: HashMap<Box<str>, T>,
    any: Option<T>,
}

impl<T> Hostnames<T> {
    /// Values with their hostnames; without one they are for any host. Of two for one hostname the
    /// first counts.
    pub fn new(values: impl IntoIterator<Item = (Option<Hostname>, T)>) -> Self {
        let mut hostnames = Self { exact: HashMap::new(), wildcards: HashMap::new(), any: None };
        for (hostname, value) in values {
            let Some(hostname) = hostname else {
                hostnames.any.get_or_insert(value);
                continue;
            };
            match hostname.wildcard_suffix() {
                Some(suffix) => {
                    let domain = suffix.strip_prefix('.').unwrap_or(suffix);
                    hostnames.wildcards.entry(domain.into()).or_insert(value);
                }
                None => {
                    hostnames.exact.entry(hostname.as_str().into()).or_insert(value);
                }
            }
        }
        hostnames
    }

    /// The value for `host`, which is in lower case and without a final dot. A client that names no
    /// host gets what is for any.
    pub fn get(&self, host: Option<&str>) -> Option<&T> {
        let named = host.and_then(|host| {
            let wildcard = || parents(host).find_map(|domain| self.wildcards.get(domain));
            self.exact.get(host).or_else(wildcard)
        });
        named.or(self.any.as_ref())
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, host: Option<&str>) -> Option<&mut T> {
        let Some(host) = host else { return self.any.as_mut() };
        if let Some(value) = self.exact.get_mut(host) {
            return Some(value);
        }
        let domains = parents(host).find(|domain| self.wildcards.contains_key(*domain));
        match domains {
            Some(domain) => self.wildcards.get_mut(domain),
            None => self.any.as_mut(),
        }
    }

    /// All of them, in no order.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.exact.values_mut().chain(self.wildcards.values_mut()).chain(&mut self.any)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcards.is_empty() && self.any.is_none()
    }
}

/// The domains that a host is below, the nearest first. An empty label is no host.
fn parents(host: &str) -> impl Iterator<Item = &str> {
    host.match_indices('.').filter(|(dot, _)| *dot > 0).map(|(dot, _)| &host[dot + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(names: &[Option<&'static str>]) -> Hostnames<&'static str> {
        Hostnames::new(names.iter().map(|name| (name.map(Hostname::new), name.unwrap_or("any"))))
    }

    #[test]
    fn the_most_specific_hostname_takes_a_host() {
        let mut names = of(&[None, Some("*.com"), Some("*.example.com"), Some("a.example.com")]);
        for (host, expected) in [
            (Some("a.example.com"), "a.example.com"),
            (Some("b.example.com"), "*.example.com"),
            (Some("b.a.example.com"), "*.example.com"),
            (Some("example.com"), "*.com"),
            (Some("example.org"), "any"),
            (None, "any"),
        ] {
            assert_eq!(names.get_mut(host).copied(), Some(expected), "{host:?}");
            assert_eq!(names.get(host).copied(), Some(expected), "{host:?}");
        }
    }

    #[test]
    fn a_host_that_nothing_is_for_gets_nothing() {
        let mut names = of(&[Some("*.example.com")]);
        assert_eq!(names.get_mut(Some("example.com")), None);
        assert_eq!(names.get_mut(Some("aexample.com")), None);
        assert_eq!(names.get_mut(Some(".example.com")), None);
        assert_eq!(names.get_mut(None), None);
        assert!(of(&[]).is_empty());
    }

    #[test]
    fn the_first_of_two_counts() {
        let pair = [("a", 1), ("a", 2)].map(|(name, value)| (Some(Hostname::new(name)), value));
        assert_eq!(Hostnames::new(pair).get_mut(Some("a")), Some(&mut 1));
    }
}
