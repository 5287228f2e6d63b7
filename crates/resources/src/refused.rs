//! Objects that are there and can't be used.

use std::{collections::BTreeSet, fmt, sync::Arc};

use serde_json::Value;

use crate::{
    Place,
    api::{ObjectKey, ObjectRef},
};

/// An object that is there and can't be used, as far as it can be read.
///
/// It isn't the same as none: what it would close stays closed. So whatever of it can't be read stands
/// for anything.
#[derive(Clone, PartialEq)]
pub struct Refused {
    /// The kind: one of those that are read.
    pub kind: Arc<str>,
    /// The namespace, empty for a kind that is in none; `None` if it can't be told.
    pub namespace: Option<Arc<str>>,
    /// The name; `None` if it can't be told.
    pub name: Option<Arc<str>>,
    /// Where it is written; `None` if it is in a cluster.
    pub place: Option<Place>,
    /// What it says.
    pub content: Content,
}

/// What a [`Refused`] object says.
#[derive(Clone, PartialEq)]
pub enum Content {
    /// Its fields, not all of which are right.
    Fields(Value),
    /// Its document can't be parsed. These are its words, and the names that it has are among them.
    Words(Arc<BTreeSet<Arc<str>>>),
    /// Nothing can be told.
    Unknown,
}

impl Refused {
    /// Its kind, namespace and name, if all can be told.
    pub fn reference(&self) -> Option<ObjectRef> {
        let key = ObjectKey { namespace: self.namespace.clone()?, name: self.name.clone()? };
        Some(ObjectRef { kind: self.kind.clone(), key })
    }

    /// Whether it may be the object of this kind and key.
    pub fn may_be(&self, kind: &str, key: &ObjectKey) -> bool {
        *self.kind == *kind && self.may_be_in(&key.namespace) && self.may_be_named(&key.name)
    }

    /// Whether it may be in this namespace.
    pub fn may_be_in(&self, namespace: &str) -> bool {
        match &self.namespace {
            Some(own) => **own == *namespace,
            // Where none is written, it is the default one.
            None => namespace.is_empty() || namespace == "default" || self.may_say(namespace),
        }
    }

    fn may_be_named(&self, name: &str) -> bool {
        self.name.as_ref().map_or_else(|| self.may_say(name), |own| **own == *name)
    }

    /// Whether a name may be written in it, where fields can't be told apart.
    pub fn may_say(&self, name: &str) -> bool {
        match &self.content {
            Content::Words(words) => words.contains(name),
            Content::Fields(_) | Content::Unknown => true,
        }
    }
}

/// What it says may be secret, so that only what it is is shown.
impl fmt::Debug for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused")
            .field("kind", &self.kind)
            .field("namespace", &self.namespace)
            .field("name", &self.name)
            .field("place", &self.place.as_ref().map(ToString::to_string))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(namespace: Option<&str>, name: Option<&str>, content: Content) -> Refused {
        Refused {
            kind: "Service".into(),
            namespace: namespace.map(Into::into),
            name: name.map(Into::into),
            place: None,
            content,
        }
    }

    #[test]
    fn what_cannot_be_read_may_be_anything() {
        let may_be = |refused: &Refused, key: &str| {
            let (namespace, name) = key.split_once('/').unwrap();
            refused.may_be("Service", &ObjectKey::new(namespace, name))
        };
        let known = refused(Some("a"), Some("b"), Content::Unknown);
        assert!(may_be(&known, "a/b") && !may_be(&known, "a/c") && !may_be(&known, "c/b"));
        assert!(!known.may_be("Secret", &ObjectKey::new("a", "b")));
        let nameless = refused(Some("a"), None, Content::Unknown);
        assert!(may_be(&nameless, "a/c") && !may_be(&nameless, "c/b"));
        let words = ["a", "b"].map(Arc::from).into_iter().collect();
        let unparsed = refused(None, None, Content::Words(Arc::new(words)));
        assert!(may_be(&unparsed, "a/b") && may_be(&unparsed, "default/b"));
        assert!(!may_be(&unparsed, "a/c") && !may_be(&unparsed, "c/b"));
    }
}
