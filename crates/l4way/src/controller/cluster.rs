//! The objects that were made for Gateways, and their pods, as the watches last had them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use l4way_resources::api::{Gateway, ObjectKey};
use l4way_source_kube::{RawKind, Source, Wants};
use serde_json::Value;

use super::objects::{CLASS_NAME, Common, GATEWAY_NAME, GATEWAY_NAMESPACE, Kind, label};

/// The kinds that are made for Gateways, and their pods.
const KINDS: [Kind; 9] = [
    Kind::ServiceAccount,
    Kind::Role,
    Kind::RoleBinding,
    Kind::Secret,
    Kind::Lease,
    Kind::Service,
    Kind::PodDisruptionBudget,
    Kind::Pod,
    Kind::Deployment,
];

/// The selector of the objects that were made for Gateways, and of their pods.
pub(crate) const OWNED: &str =
    "app.kubernetes.io/managed-by=l4way,gateway.networking.k8s.io/gateway-name";

const NODE: &str = "Node";

/// What a source has to follow for the controller.
pub(crate) fn wants() -> Wants {
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
            }
        })
        .collect();
    raw.push(RawKind {
        version: "v1".to_owned(),
        kind: NODE.to_owned(),
        plural: "nodes".to_owned(),
        ..RawKind::default()
    });
    Wants { endpoint_slices: false, raw }
}

/// Whose an object is: the Gateway's namespace, and its name and class as labels have them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Owner {
    pub(crate) namespace: String,
    pub(crate) gateway: String,
    pub(crate) class: String,
}

impl Owner {
    /// The owner that the objects of this Gateway name.
    pub(crate) fn of(common: &Common<'_>) -> Self {
        let label = |key: &str| common.own_labels().get(key).cloned().unwrap_or_default();
        Self {
            namespace: common.provision.gateway.namespace.to_string(),
            gateway: label(GATEWAY_NAME),
            class: label(CLASS_NAME),
        }
    }

    /// The owner that the objects of this Gateway name.
    pub(crate) fn of_object(gateway: &Gateway) -> Self {
        Self {
            namespace: gateway.metadata.namespace.to_string(),
            gateway: label(&gateway.metadata.name),
            class: label(&gateway.spec.gateway_class_name),
        }
    }

    /// Whose an object is, by its labels.
    fn named_by(key: &ObjectKey, object: &Value) -> Option<Self> {
        let labels = &object["metadata"]["labels"];
        let label = |key: &str| labels[key].as_str();
        Some(Self {
            namespace: label(GATEWAY_NAMESPACE).unwrap_or(&key.namespace).to_owned(),
            gateway: label(GATEWAY_NAME)?.to_owned(),
            class: label(CLASS_NAME)?.to_owned(),
        })
    }
}

/// What there is, at one moment.
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    /// Each object by its kind and key, for each owner.
    owned: BTreeMap<Owner, Owned>,
    pub(crate) nodes: BTreeMap<ObjectKey, Arc<Value>>,
}

/// The objects of one Gateway.
pub(crate) type Owned = BTreeMap<(Kind, ObjectKey), Arc<Value>>;

/// What was written, until the watches have it.
#[derive(Debug, Default)]
pub(crate) struct Written(HashMap<(Kind, ObjectKey), Change>);

#[derive(Debug)]
struct Change {
    /// What the watch had when the answer came.
    before: Option<Arc<Value>>,
    /// What the API server answered; nothing if the object is to go.
    after: Option<Arc<Value>>,
}

impl Cluster {
    /// What the source has, with what was written since.
    pub(crate) fn new(source: &Source, written: &mut Written) -> Self {
        let mut owned: BTreeMap<Owner, Owned> = BTreeMap::new();
        let mut watched = HashMap::new();
        for kind in KINDS {
            let objects = source.raw(kind.as_str()).into_iter();
            watched.extend(objects.map(|(key, object)| ((kind, key), object)));
        }
        written.lay_over(&mut watched);
        for ((kind, key), object) in watched {
            if let Some(owner) = Owner::named_by(&key, &object) {
                owned.entry(owner).or_default().insert((kind, key), object);
            }
        }
        Self { owned, nodes: source.raw(NODE) }
    }

    #[cfg(test)]
    pub(crate) fn with(
        owned: BTreeMap<Owner, Owned>,
        nodes: BTreeMap<ObjectKey, Arc<Value>>,
    ) -> Self {
        Self { owned, nodes }
    }

    /// Everything that a Gateway has.
    pub(crate) fn of(&self, owner: &Owner) -> &Owned {
        static NOTHING: Owned = BTreeMap::new();
        self.owned.get(owner).unwrap_or(&NOTHING)
    }

    /// Every Gateway that has something, whether or not there is such a Gateway.
    pub(crate) fn owners(&self) -> impl Iterator<Item = (&Owner, &Owned)> {
        self.owned.iter()
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
        let before = source.raw_object(kind.as_str(), &key);
        // The watch may have been quicker, and know what has happened since.
        if before.as_ref().is_none_or(|before| version(before) < version(&answer)) {
            self.0.insert((kind, key), Change { before, after: Some(answer) });
        }
    }

    /// The API server has answered: the object of this UID goes.
    pub(crate) fn deleted(&mut self, source: &Source, kind: Kind, key: ObjectKey, uid: &str) {
        let before = source.raw_object(kind.as_str(), &key);
        if before.as_ref().is_some_and(|before| before["metadata"]["uid"] == uid) {
            self.0.insert((kind, key), Change { before, after: None });
        }
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
    use crate::controller::objects::{MANAGED_BY, MANAGER};

    #[test]
    fn what_is_ours_is_selected_by_its_labels() {
        assert_eq!(OWNED, format!("{MANAGED_BY}={MANAGER},{GATEWAY_NAME}"));
    }

    #[test]
    fn an_answer_holds_until_the_watch_goes_on() {
        let object = (Kind::Role, ObjectKey::new("team", "gw"));
        let [old, new, newer] = [1, 2, 3].map(|n| Arc::new(json!({ "version": n })));
        let mut written = Written::default();
        let change = Change { before: Some(old.clone()), after: Some(new.clone()) };
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
    fn a_binding_elsewhere_names_the_gateways_namespace() {
        let mut object = json!({"metadata": {"labels": {
            GATEWAY_NAME: "gw", CLASS_NAME: "l4way", GATEWAY_NAMESPACE: "team",
        }}});
        let key = ObjectKey::new("apps", "l4way-team-gw-l4way");
        assert_eq!(Owner::named_by(&key, &object).unwrap().namespace, "team");
        object["metadata"]["labels"][GATEWAY_NAMESPACE].take();
        assert_eq!(Owner::named_by(&key, &object).unwrap().namespace, "apps");
    }
}
