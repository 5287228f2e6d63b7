//! Which contents are wanted, and which have been read, of kinds that are followed by outlines alone. No
//! I/O here.

use std::collections::{BTreeMap, BTreeSet};

use l4way_resources::api::ObjectRef;

/// A resourceVersion: a decimal number of any length that grows with every change
/// (Kubernetes API concepts, "Resource versions").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Version(Box<str>);

impl From<&str> for Version {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl Version {
    fn is_before(&self, other: &Self) -> bool {
        (self.0.len(), &self.0) < (other.0.len(), &other.0)
    }
}

/// What is there, what is wanted of it, and what has been read.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// All objects, as their watches have them.
    there: BTreeMap<ObjectRef, Version>,
    wanted: BTreeSet<ObjectRef>,
    /// What was read of each, as long as it is wanted and there.
    read: BTreeMap<ObjectRef, Version>,
    /// Those that are to be read.
    due: BTreeSet<ObjectRef>,
    /// Those that are being read.
    busy: BTreeSet<ObjectRef>,
    /// Those that were there when they were first wanted, until it is known what they hold or that they
    /// can't be read. One that comes later isn't waited for: until it has been read, it is as if its news
    /// took longer.
    awaited: BTreeSet<ObjectRef>,
}

impl Contents {
    /// An object is there, in this version.
    pub(crate) fn note(&mut self, object: ObjectRef, version: Version) {
        self.there.insert(object.clone(), version);
        self.check(object);
    }

    /// An object isn't there any more.
    pub(crate) fn forget(&mut self, object: &ObjectRef) {
        self.there.remove(object);
        self.read.remove(object);
        self.due.remove(object);
        self.awaited.remove(object);
    }

    /// Wants the contents of these objects from now on. Returns those that have been wanted until now.
    pub(crate) fn want(&mut self, wanted: BTreeSet<ObjectRef>) -> Vec<ObjectRef> {
        let before = std::mem::replace(&mut self.wanted, wanted);
        let unwanted: Vec<_> = before.difference(&self.wanted).cloned().collect();
        for object in &unwanted {
            self.read.remove(object);
            self.due.remove(object);
            self.awaited.remove(object);
        }
        let new: Vec<_> = self.wanted.difference(&before).cloned().collect();
        for object in new {
            if self.there.contains_key(&object) {
                self.awaited.insert(object.clone());
                self.check(object);
            }
        }
        unwanted
    }

    /// Whether all that was wanted has been read, as far as it was there and can be.
    pub(crate) fn is_complete(&self) -> bool {
        self.awaited.is_empty()
    }

    /// An object to read, which is to be told to [`read`](Self::read) or [`failed`](Self::failed).
    pub(crate) fn next(&mut self) -> Option<ObjectRef> {
        let object = self.due.iter().find(|object| !self.busy.contains(object))?.clone();
        self.due.remove(&object);
        self.busy.insert(object.clone());
        Some(object)
    }

    /// This version of an object was read. Whether it counts.
    pub(crate) fn read(&mut self, object: &ObjectRef, version: Version) -> bool {
        self.busy.remove(object);
        if !self.is_wanted(object) {
            return false;
        }
        self.awaited.remove(object);
        self.due.remove(object);
        self.read.insert(object.clone(), version);
        self.check(object.clone());
        true
    }

    /// An object could not be read.
    pub(crate) fn failed(&mut self, object: &ObjectRef) {
        self.busy.remove(object);
    }

    /// An object can't be read, or isn't there though its watch hasn't told yet: nobody is to wait for it.
    /// Whether nothing is known of what it holds.
    pub(crate) fn give_up(&mut self, object: &ObjectRef) -> bool {
        self.awaited.remove(object);
        self.is_wanted(object) && !self.read.contains_key(object)
    }

    /// An object is to be read again. Whether there is still reason to.
    pub(crate) fn retry(&mut self, object: &ObjectRef) -> bool {
        let wanted = self.is_wanted(object);
        if wanted {
            self.due.insert(object.clone());
        }
        wanted
    }

    /// The objects that are there.
    pub(crate) fn there(&self) -> impl Iterator<Item = &ObjectRef> {
        self.there.keys()
    }

    fn is_wanted(&self, object: &ObjectRef) -> bool {
        self.wanted.contains(object) && self.there.contains_key(object)
    }

    /// Has an object read that is wanted, unless what is known of it is as new as its watch.
    fn check(&mut self, object: ObjectRef) {
        let Some(version) = self.there.get(&object).filter(|_| self.wanted.contains(&object))
        else {
            return;
        };
        if self.read.get(&object).is_none_or(|read| read.is_before(version)) {
            self.due.insert(object);
        }
    }
}

#[cfg(test)]
mod tests {
    use l4way_resources::api::ObjectKey;

    use super::*;

    fn secret(name: &str) -> ObjectRef {
        ObjectRef::new("Secret", ObjectKey::new("apps", name))
    }

    fn note(contents: &mut Contents, name: &str, version: &str) {
        contents.note(secret(name), version.into());
    }

    fn want(contents: &mut Contents, names: &[&str]) -> Vec<ObjectRef> {
        contents.want(names.iter().map(|name| secret(name)).collect())
    }

    #[test]
    fn only_what_is_wanted_and_there_is_read() {
        let mut contents = Contents::default();
        note(&mut contents, "other", "1");
        note(&mut contents, "tls", "2");
        assert_eq!(contents.next(), None);
        want(&mut contents, &["tls", "missing"]);
        assert!(!contents.is_complete());
        assert_eq!(contents.next(), Some(secret("tls")));
        assert_eq!(contents.next(), None, "it is being read");
        assert!(contents.read(&secret("tls"), "2".into()));
        assert!(contents.is_complete());
        // One that comes later is read, and nobody waits for it.
        note(&mut contents, "missing", "3");
        assert!(contents.is_complete());
        assert_eq!(contents.next(), Some(secret("missing")));
    }

    #[test]
    fn a_change_is_read_once_however_late_its_watch_is() {
        let mut contents = Contents::default();
        note(&mut contents, "tls", "9");
        want(&mut contents, &["tls"]);
        assert_eq!(contents.next(), Some(secret("tls")));
        // It changes while it is being read, and the answer is newer yet.
        note(&mut contents, "tls", "10");
        assert_eq!(contents.next(), None);
        assert!(contents.read(&secret("tls"), "11".into()));
        assert_eq!(contents.next(), None);
        note(&mut contents, "tls", "11");
        assert_eq!(contents.next(), None);
        // An answer that is older than the watch is asked for again.
        note(&mut contents, "tls", "12");
        assert!(contents.next().is_some());
        assert!(contents.read(&secret("tls"), "11".into()));
        assert!(contents.next().is_some());
    }

    #[test]
    fn what_is_no_longer_wanted_or_there_is_dropped() {
        let mut contents = Contents::default();
        for name in ["a", "b"] {
            note(&mut contents, name, "1");
        }
        want(&mut contents, &["a", "b"]);
        let (a, b) = (contents.next().unwrap(), contents.next().unwrap());
        assert!(contents.read(&a, "1".into()));
        assert_eq!(want(&mut contents, &["b"]), std::slice::from_ref(&a));
        assert!(!contents.is_complete());
        contents.forget(&b);
        assert!(contents.is_complete());
        assert!(!contents.read(&b, "1".into()), "it is gone");
        assert!(!contents.retry(&b));
        // It is read anew when it is wanted again.
        want(&mut contents, &["a"]);
        assert_eq!(contents.next(), Some(a));
    }

    #[test]
    fn nobody_waits_for_what_cannot_be_read() {
        let mut contents = Contents::default();
        note(&mut contents, "tls", "1");
        want(&mut contents, &["tls"]);
        let tls = contents.next().unwrap();
        contents.failed(&tls);
        assert!(!contents.is_complete());
        assert_eq!(contents.next(), None);
        assert!(contents.give_up(&tls), "nothing is known of it");
        assert!(contents.is_complete());
        assert!(contents.retry(&tls));
        assert_eq!(contents.next(), Some(tls.clone()));
        assert!(contents.read(&tls, "1".into()));
        assert!(!contents.give_up(&tls), "what was read stays");
    }
}
