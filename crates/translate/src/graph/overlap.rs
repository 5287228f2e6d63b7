//! Listeners on one port that a client with TLS could take for each other, as they are for the same
//! name or have certificates for it (Gateway API, `OverlappingTLSConfig`).

use std::{collections::HashMap, iter};

use l4way_resources::Severity;

use super::{ListenerNode, Protocol};
use crate::{conditions::listener as conditions, finding::Outcome};

/// The hostname of a listener that has none: a wildcard for every name.
const ANY: &str = "*.";

/// Marks the overlapping ones among the listeners of a Gateway and of its ListenerSets.
pub(crate) fn mark<'a>(listeners: impl IntoIterator<Item = &'a mut ListenerNode>) {
    let mut by_port: HashMap<u16, Vec<&mut ListenerNode>> = HashMap::new();
    for listener in listeners {
        let begins_with_tls = listener.protocol.is_some_and(Protocol::begins_with_tls);
        if begins_with_tls && !listener.is_conflicted() {
            by_port.entry(listener.port).or_default().push(listener);
        }
    }
    for listeners in by_port.into_values() {
        let found = find(&listeners);
        for (listener, (field, outcome)) in
            listeners.into_iter().zip(found).filter_map(|(l, found)| Some((l, found?)))
        {
            listener.findings.tell(Severity::Note, listener.pointer(field), outcome);
        }
    }
}

/// For each of the listeners on one port, the field that overlaps, and the outcome.
fn find(listeners: &[&mut ListenerNode]) -> Vec<Option<(&'static str, Outcome)>> {
    let mut certificates = Names::new(1);
    let mut hostnames = Names::new(usize::MAX);
    for (owner, listener) in listeners.iter().enumerate() {
        listener.tls.names().for_each(|name| certificates.add(name, owner));
        hostnames.add(hostname(listener), owner);
    }
    let overlap = |(owner, listener): (usize, &&mut ListenerNode)| {
        let mut names = listener.tls.names();
        if let Some(other) = names.find_map(|name| certificates.other_owner(name, owner)) {
            let message = format!(
                "its certificate is for a name that the certificate of {} is for, too: a client \
                 that reuses a connection may reach either",
                listeners[other].describe()
            );
            let outcome = conditions::overlapping_certificates(message);
            return Some(("tls/certificateRefs", outcome));
        }
        let other = hostnames.other_owner(hostname(listener), owner)?;
        let message = format!(
            "its hostname overlaps that of {}: a client that reuses a connection may reach either",
            listeners[other].describe()
        );
        let field = if listener.hostname.is_some() { "hostname" } else { "port" };
        Some((field, conditions::overlapping_hostnames(message)))
    };
    listeners.iter().enumerate().map(overlap).collect()
}

fn hostname(listener: &ListenerNode) -> &str {
    listener.hostname.as_deref().unwrap_or(ANY)
}

/// Names, exact (`a.example.com`) or with a wildcard in front (`*.example.com`), and who has them:
/// finds two that overlap without comparing each with each.
struct Names<'a> {
    /// How many labels a wildcard stands for, at most: 1 in certificates (RFC 9525, section 6.3).
    wildcard: usize,
    exact: HashMap<&'a str, Owners>,
    /// Wildcards, by what comes after `*.`.
    wildcards: HashMap<&'a str, Owners>,
    /// Whatever a wildcard of this would overlap.
    beneath: HashMap<&'a str, Owners>,
}

impl<'a> Names<'a> {
    fn new(wildcard: usize) -> Self {
        let (exact, wildcards, beneath) = Default::default();
        Self { wildcard, exact, wildcards, beneath }
    }

    fn add(&mut self, name: &'a str, owner: usize) {
        match name.strip_prefix("*.") {
            Some(suffix) => self.wildcards.entry(suffix).or_default().add(owner),
            None => self.exact.entry(name).or_default().add(owner),
        }
        for parent in parents(name).take(self.wildcard) {
            self.beneath.entry(parent).or_default().add(owner);
        }
    }

    /// Who else has a name that overlaps this one.
    fn other_owner(&self, name: &str, owner: usize) -> Option<usize> {
        let same = match name.strip_prefix("*.") {
            Some(suffix) => self.beneath.get(suffix),
            None => self.exact.get(name),
        };
        let wider = parents(name).take(self.wildcard).map(|parent| self.wildcards.get(parent));
        iter::once(same).chain(wider).flatten().find_map(|owners| owners.other_than(owner))
    }
}

/// The name without its first label, then without its first two, down to nothing.
fn parents(name: &str) -> impl Iterator<Item = &str> {
    iter::successors(Some(parent(name)), |name| (!name.is_empty()).then(|| parent(name)))
}

fn parent(name: &str) -> &str {
    name.split_once('.').map_or("", |(_, parent)| parent)
}

/// The first two who have a name: enough to know another one.
#[derive(Default)]
struct Owners([Option<usize>; 2]);

impl Owners {
    fn add(&mut self, owner: usize) {
        match self.0 {
            [None, _] => self.0[0] = Some(owner),
            [Some(first), None] if first != owner => self.0[1] = Some(owner),
            _ => {}
        }
    }

    fn other_than(&self, owner: usize) -> Option<usize> {
        self.0.into_iter().flatten().find(|other| *other != owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether each overlaps the other, where a wildcard stands for that many labels at most.
    fn overlap(wildcard: usize, left: &str, right: &str) -> bool {
        let mut names = Names::new(wildcard);
        names.add(left, 0);
        names.add(right, 1);
        let one = names.other_owner(left, 0).is_some();
        assert_eq!(names.other_owner(right, 1).is_some(), one, "{left} {right}");
        one
    }

    #[test]
    fn a_wildcard_in_a_hostname_stands_for_labels() {
        let overlap = |left, right| overlap(usize::MAX, left, right);
        assert!(overlap("a.example.com", "a.example.com"));
        assert!(overlap("*.example.com", "a.example.com"));
        assert!(overlap("*.example.com", "a.b.example.com"));
        assert!(overlap("*.example.com", "*.b.example.com"));
        assert!(overlap(ANY, "a.example.com"));
        assert!(overlap(ANY, "*.com"));
        assert!(overlap(ANY, ANY));
        assert!(!overlap("*.example.com", "example.com"));
        assert!(!overlap("*.example.com", "a.example.net"));
        assert!(!overlap("a.example.com", "b.example.com"));
    }

    #[test]
    fn a_wildcard_in_a_certificate_stands_for_one_label() {
        let overlap = |left, right| overlap(1, left, right);
        assert!(overlap("*.example.com", "a.example.com"));
        assert!(overlap("*.example.com", "*.example.com"));
        assert!(!overlap("*.example.com", "a.b.example.com"));
        assert!(!overlap("*.example.com", "*.b.example.com"));
        assert!(!overlap("*.example.com", "example.com"));
    }

    #[test]
    fn nobody_overlaps_alone() {
        let mut names = Names::new(1);
        names.add("*.example.com", 0);
        names.add("a.example.com", 0);
        assert_eq!(names.other_owner("a.example.com", 0), None);
        names.add("a.example.com", 7);
        assert_eq!(names.other_owner("*.example.com", 0), Some(7));
    }
}
