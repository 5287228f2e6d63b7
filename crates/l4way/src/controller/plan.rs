//! What to do so that a Gateway has what it should have. No I/O.

mod documents;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use l4way_resources::api::ObjectKey;
use serde_json::{Value, json};

pub(crate) use self::documents::{Documents, HASH, delivery};
use super::{
    cluster::{Cluster, Owned},
    objects::{Kind, Object},
    project::{covers, project},
};
use crate::delivery::{DocumentKind, Names, hash};

/// The annotation that tells what an object was last asked to be. It differs as well when something
/// is no longer asked for, which an object doesn't show otherwise.
pub(crate) const DESIRED: &str = "l4way.dev/desired";

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// Make the object what it should be.
    Apply {
        object: Object,
        /// Whether one of l4way's is there; otherwise there may be somebody else's.
        exists: bool,
    },
    /// Take the object away, if it is still this one.
    Delete { kind: Kind, key: ObjectKey, uid: String },
}

/// Requests in groups: a group begins when all of the one before it have succeeded.
pub(crate) type Steps = Vec<Vec<Step>>;

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
    needed.then(|| Step::Apply { object: desired.clone(), exists: observed.is_some() })
}

/// What the Gateway's infrastructure needs: its objects, sealed; labels over its pods, sealed; and the
/// end of what it has beyond that. Pods come when everything is there that they need, their
/// configuration among it.
pub(crate) fn infrastructure(
    desired: &[Object],
    overlays: &[Object],
    owned: &Owned,
    settled: &mut Settled,
    is_delivered: bool,
) -> Steps {
    let mut first: Vec<_> = desired
        .iter()
        .filter(|object| !comes_last(object.kind))
        .filter_map(|object| step(object, owned, settled))
        .collect();
    first.extend(overlays.iter().filter_map(|overlay| step(overlay, owned, settled)));
    let wanted: BTreeSet<_> = desired.iter().map(|object| (object.kind, &object.key)).collect();
    let unwanted = owned.iter().filter(|((kind, key), _)| {
        // Secrets are delivery's; Leases go with their pods.
        !matches!(kind, Kind::Secret | Kind::Lease | Kind::Pod) && !wanted.contains(&(*kind, key))
    });
    first.extend(removals(unwanted));
    let last = desired
        .iter()
        .filter(|object| comes_last(object.kind))
        .filter(|object| object.kind != Kind::Deployment || is_delivered)
        .filter_map(|object| step(object, owned, settled));
    [first, last.collect()].into_iter().filter(|group: &Vec<_>| !group.is_empty()).collect()
}

/// Whether the API server wants to know other objects before one of this kind: a Role before who
/// is bound to it, and all that pods need before the pods.
fn comes_last(kind: Kind) -> bool {
    matches!(kind, Kind::RoleBinding | Kind::Deployment)
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

/// Whether a Gateway's Secrets hold a configuration.
pub(crate) fn is_delivered(names: &Names, owned: &Owned, namespace: &Arc<str>) -> bool {
    let index = ObjectKey::new(namespace.clone(), names.index(DocumentKind::Config));
    let index = owned.get(&(Kind::Secret, index));
    index.is_some_and(|index| index["data"]["hash"].is_string())
}

#[cfg(test)]
mod tests;
