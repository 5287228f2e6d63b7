//! How far the watches of raw kinds have come. No I/O here.

use std::{collections::BTreeMap, sync::Arc};

use kube::core::ObjectMeta;

use crate::place::Place;

/// How far the watch of a kind has come in a namespace. A watch tells of what has happened in the order of
/// resourceVersions, which are numbers that grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// How many lists of the kind have been complete.
    pub lists: u64,
    /// The resourceVersion of the last change in the namespace, deletions among them.
    pub version: u64,
}

/// How far all have come.
#[derive(Debug, Default)]
pub(crate) struct Progress(BTreeMap<String, OfKind>);

#[derive(Debug, Default)]
struct OfKind {
    /// How many lists of all namespaces have been complete.
    lists: u64,
    /// What came since, and lists of one namespace.
    namespaces: BTreeMap<Arc<str>, Seen>,
}

impl Progress {
    /// A list of the kind is complete.
    pub(crate) fn listed(&mut self, kind: &str, place: &Place) {
        let of_kind = self.0.entry(kind.to_owned()).or_default();
        // What was before it doesn't matter any more, nor do namespaces that have gone.
        if let Place::In(namespace) = place {
            let seen = of_kind.namespaces.entry(namespace.clone()).or_default();
            *seen = Seen { lists: seen.lists + 1, version: 0 };
        } else {
            of_kind.lists += 1;
            of_kind.namespaces.clear();
        }
    }

    /// A change of an object of the kind was told: this is the object, or what it was last.
    pub(crate) fn told(&mut self, kind: &str, object: &ObjectMeta) {
        let version = object.resource_version.as_ref().and_then(|version| version.parse().ok());
        let (Some(version), Some(of_kind)) = (version, self.0.get_mut(kind)) else { return };
        let namespace = object.namespace.as_deref().unwrap_or_default();
        match of_kind.namespaces.get_mut(namespace) {
            Some(seen) => seen.version = version,
            None => drop(of_kind.namespaces.insert(namespace.into(), Seen { lists: 0, version })),
        }
    }

    pub(crate) fn seen(&self, kind: &str, namespace: &str) -> Seen {
        let Some(OfKind { lists, namespaces }) = self.0.get(kind) else { return Seen::default() };
        let seen = namespaces.get(namespace).copied().unwrap_or_default();
        Seen { lists: lists + seen.lists, ..seen }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_is_progress_too() {
        let object = |namespace: &str, version: &str| ObjectMeta {
            namespace: Some(namespace.to_owned()),
            resource_version: Some(version.to_owned()),
            ..ObjectMeta::default()
        };
        let mut progress = Progress::default();
        assert_eq!(progress.seen("Service", "team"), Seen::default());
        progress.listed("Service", &Place::Everywhere);
        progress.told("Service", &object("team", "5"));
        progress.told("Service", &object("team", "7"));
        progress.told("Service", &object("other", "9"));
        progress.told("Role", &object("team", "11"));
        assert_eq!(progress.seen("Service", "team"), Seen { lists: 1, version: 7 });
        progress.listed("Service", &Place::Everywhere);
        assert_eq!(progress.seen("Service", "team"), Seen { lists: 2, version: 0 });
        progress.told("Service", &object("other", "13"));
        progress.listed("Service", &Place::In("team".into()));
        assert_eq!(progress.seen("Service", "team"), Seen { lists: 3, version: 0 });
        assert_eq!(progress.seen("Service", "other"), Seen { lists: 2, version: 13 });
    }
}
