//! Whose an object is. Labels say which objects to look at, never whose they are, for anybody may write
//! them: an object is a Gateway's that is in the Gateway's namespace and descends from its UID. Who may
//! write owner references there may as well write the objects themselves. No I/O.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use l4way_delivery::hash;
use l4way_resources::{
    GATEWAY_GROUP, Store,
    api::{Gateway, ObjectKey, ObjectMeta},
};
use serde_json::Value;

use super::objects::{GATEWAY_NAME, GATEWAY_NAMESPACE, Kind, OWNER_HASH, label};

/// A Gateway, as what tells it from those that had its name before.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Owner {
    pub(crate) namespace: Arc<str>,
    pub(crate) uid: Arc<str>,
}

impl Owner {
    /// The owner of what is made for the Gateway with this metadata.
    pub(crate) fn of(metadata: &ObjectMeta) -> Self {
        Self::new(metadata.namespace.clone(), metadata.uid.clone())
    }

    /// The owner of what is made for a Gateway of this namespace and UID.
    pub(crate) fn new(namespace: Arc<str>, uid: Option<Arc<str>>) -> Self {
        Self { namespace, uid: uid.unwrap_or_default() }
    }

    /// What stands for the owner where it can't own: in other namespaces. It doesn't tell the UID, by which
    /// others could name the Gateway as an owner.
    pub(crate) fn hash(&self) -> String {
        const LENGTH: usize = 10;
        let mut hash = hash(self.uid.as_bytes());
        hash.truncate(LENGTH);
        hash
    }
}

/// Who has the name that an object of a Gateway's is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// The Gateway itself.
    Itself,
    /// An earlier Gateway of the same name, which is gone: Kubernetes is about to collect the object.
    Earlier,
    SomebodyElse,
}

/// Whose an object is that has the name of a desired one, by the metadata of both.
pub(crate) fn holder(found: &Value, desired: &Value) -> Holder {
    let wanted = references(desired).next();
    let Some(wanted) = wanted else {
        // In another namespace than its Gateway.
        let hash = |metadata: &Value| metadata["labels"][OWNER_HASH].clone();
        let is_ours = hash(desired).is_string() && hash(found) == hash(desired);
        return if is_ours { Holder::Itself } else { Holder::SomebodyElse };
    };
    if references(found).any(|reference| reference["uid"] == wanted["uid"]) {
        return Holder::Itself;
    }
    let mut all = references(found);
    match (all.next(), all.next()) {
        (Some(only), None)
            if is_gateway(only) && is_gateway(wanted) && only["name"] == wanted["name"] =>
        {
            Holder::Earlier
        }
        _ => Holder::SomebodyElse,
    }
}

fn references(metadata: &Value) -> impl Iterator<Item = &Value> {
    metadata["ownerReferences"].as_array().into_iter().flatten()
}

fn is_gateway(reference: &Value) -> bool {
    let group = reference["apiVersion"].as_str().and_then(|version| version.split_once('/'));
    reference["kind"] == "Gateway" && group.is_some_and(|(group, _)| group == GATEWAY_GROUP)
}

/// The UID of the owner that is of this kind.
fn owner_uid<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    let of_kind = |reference: &&Value| match kind {
        "Gateway" => is_gateway(reference),
        _ => reference["kind"] == kind,
    };
    references(&object["metadata"]).find(of_kind)?["uid"].as_str()
}

/// Whether an object can be a Gateway's, as far as it says itself. The others belong to nobody that [`sort`]
/// knows, so they needn't be kept, however many of them somebody labels as ours.
pub(crate) fn can_be_a_gateways(object: &Value) -> bool {
    let kind = object["kind"].as_str().unwrap_or_default();
    let owner = match kind {
        "ReplicaSet" => "Deployment",
        "Pod" => "ReplicaSet",
        "Lease" => "Pod",
        _ => "Gateway",
    };
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    owner_uid(object, owner).is_some() || kind == "RoleBinding" && name.starts_with(BINDING_PREFIX)
}

/// Objects by their kinds and keys.
pub(crate) type Owned = BTreeMap<(Kind, ObjectKey), Arc<Value>>;

/// Objects by whose they are. Those that are nobody's are left out.
#[derive(Debug, Default)]
pub(crate) struct Sorted {
    pub(crate) owned: BTreeMap<Owner, Owned>,
    /// RoleBindings in other namespaces than their Gateways, which are gone.
    pub(crate) left: Owned,
}

/// Sorts objects by whose they are.
pub(crate) fn sort(
    objects: &HashMap<(Kind, ObjectKey), Arc<Value>>,
    gateways: &Store<Gateway>,
) -> Sorted {
    let lineage = Lineage::new(objects);
    let mut elsewhere = Elsewhere { gateways, by_hash: None };
    let mut sorted = Sorted::default();
    for (id, object) in objects {
        let (kind, key) = id;
        let place = match lineage.gateway_of(*kind, key, object) {
            Some(uid) => Place::Of(Owner::new(key.namespace.clone(), Some(uid.into()))),
            None if *kind == Kind::RoleBinding => elsewhere.place(key, object),
            None => Place::Nobodys,
        };
        let objects = match place {
            Place::Of(owner) => sorted.owned.entry(owner).or_default(),
            Place::Left => &mut sorted.left,
            Place::Nobodys => continue,
        };
        objects.insert(id.clone(), object.clone());
    }
    sorted
}

/// Where an object belongs.
enum Place {
    Of(Owner),
    Left,
    Nobodys,
}

/// By what each object was made: for its UID its namespace and the UID of its owner.
struct Lineage<'a> {
    deployments: Parents<'a>,
    replica_sets: Parents<'a>,
    pods: Parents<'a>,
}

type Parents<'a> = HashMap<&'a str, (&'a str, &'a str)>;

impl<'a> Lineage<'a> {
    fn new(objects: &'a HashMap<(Kind, ObjectKey), Arc<Value>>) -> Self {
        Self {
            deployments: parents(objects, Kind::Deployment, "Gateway"),
            replica_sets: parents(objects, Kind::ReplicaSet, "Deployment"),
            pods: parents(objects, Kind::Pod, "ReplicaSet"),
        }
    }

    /// The UID of the Gateway that an object descends from, each step in the object's namespace.
    fn gateway_of(&self, kind: Kind, key: &ObjectKey, object: &'a Value) -> Option<&'a str> {
        let up = |parents: &Parents<'a>, uid: &str| {
            let (namespace, parent) = *parents.get(uid)?;
            (namespace == &*key.namespace).then_some(parent)
        };
        let of_replica_set = |uid: &str| {
            let deployment = up(&self.replica_sets, uid)?;
            up(&self.deployments, deployment)
        };
        match kind {
            Kind::Pod => of_replica_set(owner_uid(object, "ReplicaSet")?),
            Kind::Lease => of_replica_set(up(&self.pods, owner_uid(object, "Pod")?)?),
            _ => owner_uid(object, "Gateway"),
        }
    }
}

/// The owners of objects of one kind, which are of another.
fn parents<'a>(
    objects: &'a HashMap<(Kind, ObjectKey), Arc<Value>>,
    kind: Kind,
    owners: &str,
) -> Parents<'a> {
    let of_kind = objects.iter().filter(|((other, _), _)| *other == kind);
    let parents = of_kind.filter_map(|((_, key), object)| {
        let uid = object["metadata"]["uid"].as_str()?;
        Some((uid, (&*key.namespace, owner_uid(object, owners)?)))
    });
    parents.collect()
}

/// Whose RoleBindings are that no Gateway can own, for they are in other namespaces.
struct Elsewhere<'a> {
    gateways: &'a Store<Gateway>,
    /// Owners by their hashes, once one is asked for.
    by_hash: Option<HashMap<String, Owner>>,
}

impl Elsewhere<'_> {
    fn place(&mut self, key: &ObjectKey, object: &Value) -> Place {
        let labels = &object["metadata"]["labels"];
        let label = |key: &str| labels[key].as_str();
        // A name of another form was given by somebody else.
        let Some(namespace) = label(GATEWAY_NAMESPACE) else { return Place::Nobodys };
        if !key.name.starts_with(BINDING_PREFIX) {
            return Place::Nobodys;
        }
        let owner = match label(OWNER_HASH) {
            Some(hash) if !key.name.ends_with(hash) => return Place::Nobodys,
            Some(hash) => self.by_hash().get(hash).cloned(),
            // From before there were hashes.
            None => label(GATEWAY_NAME).and_then(|name| self.named(namespace, name)),
        };
        match owner {
            // In its own namespace a Gateway owns what is its.
            Some(owner) if *owner.namespace == *key.namespace && !is_unhashed(object) => {
                Place::Nobodys
            }
            Some(owner) => Place::Of(owner),
            None => Place::Left,
        }
    }

    fn by_hash(&mut self) -> &HashMap<String, Owner> {
        self.by_hash.get_or_insert_with(|| {
            let owners = self.gateways.values().map(|gateway| Owner::of(&gateway.metadata));
            owners.map(|owner| (owner.hash(), owner)).collect()
        })
    }

    /// The Gateway of this namespace whose name as a label is this.
    fn named(&self, namespace: &str, name: &str) -> Option<Owner> {
        let exact = self.gateways.get(&ObjectKey::new(namespace, name));
        let shortened = || {
            let mut gateways = self.gateways.iter();
            gateways.find(|(key, _)| &*key.namespace == namespace && label(&key.name) == name)
        };
        let found = exact.or_else(|| shortened().map(|(_, gateway)| gateway));
        found.map(|gateway| Owner::of(&gateway.metadata))
    }
}

/// What the names of RoleBindings in other namespaces begin with.
pub(crate) const BINDING_PREFIX: &str = "l4way-";

/// Whether a RoleBinding is one of those of earlier releases, which had no hash and no owner.
pub(crate) fn is_unhashed(binding: &Value) -> bool {
    let metadata = &binding["metadata"];
    metadata["labels"][OWNER_HASH].is_null() && references(metadata).next().is_none()
}

#[cfg(test)]
mod tests;
