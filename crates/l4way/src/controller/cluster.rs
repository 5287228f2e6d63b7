//! The objects that were made for Gateways, and their pods, as the watches last had them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use l4way_resources::{
    Store,
    api::{Gateway, ObjectKey},
};
use l4way_source_kube::{RawKind, Seen, Source, Wants};
use serde_json::Value;

use super::{
    objects::Kind,
    ownership::{self, Owned, Owner, Sorted},
};

/// The kinds that are made for Gateways, and their pods and what these are made by.
pub(super) const KINDS: [Kind; 11] = [
    Kind::ServiceAccount,
    Kind::Role,
    Kind::RoleBinding,
    Kind::Secret,
    Kind::Lease,
    Kind::Service,
    Kind::PodDisruptionBudget,
    Kind::NetworkPolicy,
    Kind::Pod,
    Kind::ReplicaSet,
    Kind::Deployment,
];

/// The selector of what may have been made for Gateways, and of their pods. Others may have these labels, too.
pub(crate) const OWNED: &str =
    "app.kubernetes.io/managed-by=l4way,gateway.networking.k8s.io/gateway-name";

const NODE: &str = "Node";

/// What a source has to follow for the controller, in these namespaces; in all if there are none.
pub(crate) fn wants(namespaces: BTreeSet<String>) -> Wants {
    let mut raw: Vec<_> = KINDS
        .iter()
        .map(|kind| {
            let resource = kind.resource();
            RawKind {
                group: resource.group,
                version: resource.version,
                kind: resource.kind,
                plural: resource.plural,
                label_selector: Some(OWNED.to_owned()),
                // Only whose it is.
                metadata_only: *kind == Kind::ReplicaSet,
                cluster_scoped: false,
                is_kept: Some(ownership::can_be_a_gateways),
            }
        })
        .collect();
    raw.push(RawKind {
        version: "v1".to_owned(),
        kind: NODE.to_owned(),
        plural: "nodes".to_owned(),
        cluster_scoped: true,
        ..RawKind::default()
    });
    Wants { endpoint_slices: false, raw, namespaces }
}

/// What there is, at one moment.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    objects: Sorted,
    pub(crate) nodes: BTreeMap<ObjectKey, Arc<Value>>,
}

/// What was written, until the watches have it.
#[derive(Debug, Default)]
pub(crate) struct Written(HashMap<(Kind, ObjectKey), Change>);

#[derive(Debug)]
struct Change {
    /// What the watch had when the answer came.
    before: Option<Arc<Value>>,
    /// What the API server answered; nothing if the object is to go.
    after: Option<Arc<Value>>,
    /// How many lists the watch had completed then.
    lists: u64,
}

impl Change {
    /// Whether a watch that has come so far has told of it, and perhaps of what has happened since.
    fn is_told(&self, seen: Seen) -> bool {
        let answered = self.after.as_deref().and_then(version);
        seen.lists > self.lists || answered.is_some_and(|answered| answered <= seen.version)
    }
}

impl Cluster {
    /// What the source has, with what was written since.
    pub(crate) fn new(source: &Source, gateways: &Store<Gateway>, written: &mut Written) -> Self {
        let mut watched = HashMap::new();
        // Before the objects are taken, or they might be older than that.
        written.forget_told(|kind, key| source.seen(kind.as_str(), &key.namespace));
        for kind in KINDS {
            let objects = source.raw(kind.as_str()).into_iter();
            watched.extend(objects.map(|(key, object)| ((kind, key), object)));
        }
        written.lay_over(&mut watched);
        let objects = ownership::sort(&watched, gateways);
        Self { objects, nodes: source.raw(NODE) }
    }

    #[cfg(test)]
    pub(crate) fn with(objects: Sorted, nodes: BTreeMap<ObjectKey, Arc<Value>>) -> Self {
        Self { objects, nodes }
    }

    /// Everything that a Gateway has.
    pub(crate) fn of(&self, owner: &Owner) -> &Owned {
        static NOTHING: Owned = BTreeMap::new();
        self.objects.owned.get(owner).unwrap_or(&NOTHING)
    }

    /// Every Gateway that has something, whether or not there is such a Gateway.
    pub(crate) fn owners(&self) -> impl Iterator<Item = (&Owner, &Owned)> {
        self.objects.owned.iter()
    }

    /// What no Gateway needs any more and Kubernetes doesn't take away.
    pub(crate) fn left(&self) -> &Owned {
        &self.objects.left
    }
}

impl Written {
    /// The API server has answered: the object is this now.
    pub(crate) fn applied(
        &mut self,
        source: &Source,
        kind: Kind,
        key: ObjectKey,
        answer: Arc<Value>,
    ) {
        let seen = source.seen(kind.as_str(), &key.namespace);
        let before = source.raw_object(kind.as_str(), &key);
        // The watch may have been quicker, and know what has happened since.
        let is_news = before.as_ref().is_none_or(|before| version(before) < version(&answer));
        let change = Change { before, after: Some(answer), lists: seen.lists };
        if is_news && !change.is_told(seen) {
            self.0.insert((kind, key), change);
        }
    }

    /// The API server has answered: the object of this UID goes.
    pub(crate) fn deleted(&mut self, source: &Source, kind: Kind, key: ObjectKey, uid: &str) {
        let Seen { lists, .. } = source.seen(kind.as_str(), &key.namespace);
        let before = source.raw_object(kind.as_str(), &key);
        if before.as_ref().is_some_and(|before| before["metadata"]["uid"] == uid) {
            self.0.insert((kind, key), Change { before, after: None, lists });
        }
    }

    /// Forgets the answers that the watches have told of: an object that was made and deleted since isn't
    /// there, though they have it no more than before.
    fn forget_told(&mut self, seen: impl Fn(Kind, &ObjectKey) -> Seen) {
        self.0.retain(|(kind, key), change| !change.is_told(seen(*kind, key)));
    }

    /// Puts the answers in the place of what the watches had before them, and forgets those that the
    /// watches have gone beyond.
    fn lay_over(&mut self, watched: &mut HashMap<(Kind, ObjectKey), Arc<Value>>) {
        self.0.retain(|object, change| {
            let same = match (&change.before, watched.get(object)) {
                (Some(before), Some(now)) => Arc::ptr_eq(before, now),
                (None, None) => true,
                _ => false,
            };
            if same {
                match &change.after {
                    Some(after) => watched.insert(object.clone(), after.clone()),
                    None => watched.remove(object),
                };
            }
            same
        });
    }
}

/// Which of two states of an object is the later one: versions are numbers that grow.
fn version(object: &Value) -> Option<u64> {
    object["metadata"]["resourceVersion"].as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::controller::objects::{GATEWAY_NAME, MANAGED_BY, MANAGER};

    #[test]
    fn what_is_ours_is_selected_by_its_labels() {
        assert_eq!(OWNED, format!("{MANAGED_BY}={MANAGER},{GATEWAY_NAME}"));
    }

    #[test]
    fn an_answer_holds_until_the_watch_goes_on() {
        let object = (Kind::Role, ObjectKey::new("team", "gw"));
        let [old, new, newer] = [1, 2, 3].map(|n| Arc::new(json!({ "version": n })));
        let mut written = Written::default();
        let change = Change { before: Some(old.clone()), after: Some(new.clone()), lists: 1 };
        written.0.insert(object.clone(), change);

        let seen = |written: &mut Written, has: &Arc<Value>| {
            let mut watched = HashMap::from([(object.clone(), has.clone())]);
            written.lay_over(&mut watched);
            watched.remove(&object).unwrap()
        };
        assert_eq!(seen(&mut written, &old), new);
        assert_eq!(seen(&mut written, &newer), newer);
        // It has been forgotten.
        assert_eq!(seen(&mut written, &old), old);
    }

    #[test]
    fn what_was_made_and_deleted_at_once_is_not_there() {
        let object = (Kind::Service, ObjectKey::new("team", "gw"));
        let answer = Arc::new(json!({"metadata": {"resourceVersion": "7"}}));
        let is_there = |seen: Seen| {
            let mut written = Written::default();
            let change = Change { before: None, after: Some(answer.clone()), lists: 1 };
            written.0.insert(object.clone(), change);
            written.forget_told(|_, _| seen);
            let mut watched = HashMap::new();
            written.lay_over(&mut watched);
            watched.contains_key(&object)
        };
        assert!(is_there(Seen { lists: 1, version: 6 }), "the watch is on its way");
        assert!(!is_there(Seen { lists: 1, version: 7 }), "it has told of it, and has it no more");
        assert!(!is_there(Seen { lists: 1, version: 9 }));
        assert!(!is_there(Seen { lists: 2, version: 0 }), "a new list hasn't got it");
    }
}
