//! What to do so that a Gateway has what it should have. No I/O.

mod documents;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use l4way_delivery::{DocumentKind, Names, hash};
use l4way_resources::api::ObjectKey;
use serde_json::{Value, json};

pub(crate) use self::documents::{Documents, HASH, delivered, delivery};
use super::{
    cluster::Cluster,
    objects::{Kind, Object},
    ownership::{Owned, is_unhashed},
    project::{covers, project},
    work::Id,
};

/// The annotation that tells what an object was last asked to be. It differs as well when something
/// is no longer asked for, which an object doesn't show otherwise.
pub(crate) const DESIRED: &str = "l4way.dev/desired";

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// Make the object what it should be.
    Apply {
        object: Object,
        /// The UID of the Gateway's, if it has one; otherwise there may be somebody else's.
        uid: Option<String>,
    },
    /// Take the object away, if it is still this one.
    Delete { kind: Kind, key: ObjectKey, uid: String },
}

impl Step {
    /// The object that the request is about.
    pub(crate) fn id(&self) -> Id {
        match self {
            Self::Apply { object, .. } => (object.kind, object.key.clone()),
            Self::Delete { kind, key, .. } => (*kind, key.clone()),
        }
    }
}

/// What the API server made of objects: it may write a value in another way than we do, which is no
/// reason to ask again.
#[derive(Debug, Default)]
pub(crate) struct Settled(HashMap<(Kind, ObjectKey), Answer>);

#[derive(Debug)]
struct Answer {
    mark: String,
    /// The object as it was found to be right.
    object: Arc<Value>,
    projection: Value,
}

/// Marks an object with what is asked of it.
pub(crate) fn seal(object: &mut Object) {
    let mark = hash(object.value.to_string().as_bytes());
    let annotations = &mut object.value["metadata"]["annotations"];
    if annotations.is_null() {
        *annotations = json!({});
    }
    annotations[DESIRED] = mark[..16].into();
}

/// What an object was last asked to be.
pub(crate) fn mark(object: &Value) -> Option<&str> {
    object["metadata"]["annotations"][DESIRED].as_str()
}

/// Whether somebody has asked for the object's end.
pub(crate) fn is_ending(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

impl Settled {
    /// The API server answered to this request with this object.
    pub(crate) fn answered(&mut self, object: &Object, answer: &Arc<Value>) {
        let answer = Answer {
            mark: mark(&object.value).unwrap_or_default().to_owned(),
            projection: project(answer, &object.value),
            object: answer.clone(),
        };
        self.0.insert((object.kind, object.key.clone()), answer);
    }

    /// Forgets the objects that aren't there any more, when they have become many.
    pub(crate) fn tidy(&mut self, cluster: &Cluster) {
        let there = cluster.owners().map(|(_, owned)| owned.len()).sum::<usize>();
        if self.0.len() > 2 * there + 64 {
            let there: HashSet<_> = cluster.owners().flat_map(|(_, owned)| owned.keys()).collect();
            self.0.retain(|object, _| there.contains(object));
        }
    }

    /// Whether an object is as a sealed one asks for.
    fn is_right(&mut self, desired: &Object, observed: &Arc<Value>) -> bool {
        let id = (desired.kind, desired.key.clone());
        let asked = mark(&desired.value).unwrap_or_default();
        let answer = self.0.get(&id).filter(|answer| answer.mark == asked);
        if answer.is_some_and(|answer| Arc::ptr_eq(&answer.object, observed)) {
            return true;
        }
        let right = covers(observed, &desired.value)
            || answer.is_some_and(|answer| project(observed, &desired.value) == answer.projection);
        if right {
            self.answered(desired, observed);
        }
        right
    }
}

/// The request that an object needs, if it isn't as it should be. One that is ending is waited for.
fn step(desired: &Object, owned: &Owned, settled: &mut Settled) -> Option<Step> {
    let observed = owned.get(&(desired.kind, desired.key.clone()));
    let needed = observed
        .is_none_or(|observed| !is_ending(observed) && !settled.is_right(desired, observed));
    let uid = observed.and_then(|observed| observed["metadata"]["uid"].as_str());
    needed.then(|| Step::Apply { object: desired.clone(), uid: uid.map(str::to_owned) })
}

/// What the Gateway's infrastructure needs now: its objects, sealed; labels over its pods, sealed; and the
/// end of what it has beyond that. Each is a request of its own, and what an object can't be without has to
/// be there first: of a Deployment also the configuration.
pub(crate) fn infrastructure(
    desired: &[Object],
    overlays: &[Object],
    owned: &Owned,
    settled: &mut Settled,
    is_delivered: bool,
) -> Vec<Step> {
    let all = desired.iter().chain(overlays);
    let mut steps: Vec<_> = all.filter_map(|object| step(object, owned, settled)).collect();
    let has = |kind: &Kind| {
        let mut of_kind = desired.iter().filter(|object| object.kind == *kind);
        of_kind.all(|object| owned.contains_key(&(*kind, object.key.clone())))
    };
    steps.retain(|step| match step.id().0 {
        Kind::Deployment if !is_delivered => false,
        kind => needs(kind).iter().all(has),
    });
    let wanted: BTreeSet<_> = desired.iter().map(|object| (object.kind, &object.key)).collect();
    let unwanted = owned.iter().filter(|((kind, key), object)| {
        // Secrets are delivery's; Leases go with their pods.
        !matches!(kind, Kind::Secret | Kind::Lease | Kind::Pod)
            && !wanted.contains(&(*kind, key))
            && !waits_for_successor(*kind, key, object, desired, owned)
    });
    steps.extend(removals(unwanted));
    steps
}

/// Whether an object is a RoleBinding of an earlier release, in a namespace where the one that takes its place isn't
/// there yet.
fn waits_for_successor(
    kind: Kind,
    key: &ObjectKey,
    object: &Value,
    desired: &[Object],
    owned: &Owned,
) -> bool {
    kind == Kind::RoleBinding
        && is_unhashed(object)
        && desired.iter().any(|object| {
            let id = (object.kind, object.key.clone());
            object.kind == kind && object.key.namespace == key.namespace && !owned.contains_key(&id)
        })
}

/// The kinds of objects that one of this kind isn't made without. A ServiceAccount or Role of the name may
/// be somebody else's: whoever is that would get rights, and pods those of his.
fn needs(kind: Kind) -> &'static [Kind] {
    match kind {
        Kind::RoleBinding => &[Kind::ServiceAccount, Kind::Role],
        Kind::Deployment => &[Kind::ServiceAccount],
        _ => &[],
    }
}

/// Takes objects away.
pub(crate) fn removals<'a>(
    objects: impl Iterator<Item = (&'a (Kind, ObjectKey), &'a Arc<Value>)>,
) -> impl Iterator<Item = Step> {
    objects.filter(|(_, object)| !is_ending(object)).map(|((kind, key), object)| Step::Delete {
        kind: *kind,
        key: key.clone(),
        uid: object["metadata"]["uid"].as_str().unwrap_or_default().to_owned(),
    })
}

/// The Secrets that there are, in the order of their names.
pub(crate) fn secrets(owned: &Owned) -> Vec<Arc<Value>> {
    let secrets = owned.iter().filter(|((kind, _), _)| *kind == Kind::Secret);
    secrets.map(|(_, secret)| secret.clone()).collect()
}

/// What a Gateway that isn't accepted needs of RoleBindings for endpoints: these, sealed, and no others.
pub(crate) fn endpoint_bindings(
    desired: &[Object],
    owned: &Owned,
    settled: &mut Settled,
) -> Vec<Step> {
    let wanted: BTreeSet<_> = desired.iter().map(|object| &object.key).collect();
    let unwanted = owned.iter().filter(|((kind, key), object)| {
        // The one that lets proxies read their configuration names a Role.
        *kind == Kind::RoleBinding
            && object["roleRef"]["kind"] == "ClusterRole"
            && !wanted.contains(key)
            && !waits_for_successor(*kind, key, object, desired, owned)
    });
    let steps = desired.iter().filter_map(|object| step(object, owned, settled));
    steps.chain(removals(unwanted)).collect()
}

/// Whether there is a Secret in which a Gateway's configuration would be.
pub(crate) fn is_written(names: &Names, owned: &Owned) -> bool {
    let index = names.index(DocumentKind::Config);
    owned.keys().any(|(kind, key)| *kind == Kind::Secret && *key.name == *index)
}

/// Whether a Gateway's Secrets hold a configuration.
pub(crate) fn is_delivered(names: &Names, owned: &Owned, namespace: &Arc<str>) -> bool {
    let index = ObjectKey::new(namespace.clone(), names.index(DocumentKind::Config));
    let index = owned.get(&(Kind::Secret, index));
    index.is_some_and(|index| index["data"]["hash"].is_string())
}

#[cfg(test)]
mod tests;
