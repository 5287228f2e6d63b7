use std::slice;

use serde_json::json;

use super::*;
use crate::controller::{
    cluster::KINDS,
    objects::{CLASS_NAME, MANAGED_BY, MANAGER},
};

const GATEWAY_API: &str = "gateway.networking.k8s.io/v1";

/// What anybody may write on an object.
fn labels() -> Value {
    json!({
        MANAGED_BY: MANAGER, GATEWAY_NAME: "gw", CLASS_NAME: "l4way", GATEWAY_NAMESPACE: "team",
    })
}

fn reference(kind: &str, uid: &str) -> Value {
    let version = if kind == "Gateway" { GATEWAY_API } else { "v1" };
    json!({"apiVersion": version, "kind": kind, "name": "gw", "uid": uid})
}

/// An object of this UID, and what it says of who owns it.
fn object(uid: &str, owners: &[Value]) -> Arc<Value> {
    let metadata = json!({"uid": uid, "labels": labels(), "ownerReferences": owners});
    Arc::new(json!({ "metadata": metadata }))
}

fn owned_by(uid: &str, kind: &str, owner: &str) -> Arc<Value> {
    object(uid, &[reference(kind, owner)])
}

fn gateways() -> Store<Gateway> {
    let all = [("team", "gw", "1"), ("team", "other", "2")];
    let gateway = |(namespace, name, uid): (&str, &str, &str)| {
        let metadata = json!({"namespace": namespace, "name": name, "uid": uid});
        let spec = json!({"gatewayClassName": "l4way", "listeners": []});
        let value = json!({"metadata": metadata, "spec": spec});
        (ObjectKey::new(namespace, name), Arc::new(serde_json::from_value(value).unwrap()))
    };
    all.into_iter().map(gateway).collect()
}

fn gw() -> Owner {
    Owner::new("team".into(), Some("1".into()))
}

/// A cluster in which `team/gw` has a Deployment with a pod, and its Lease.
struct World(HashMap<(Kind, ObjectKey), Arc<Value>>);

impl World {
    fn new() -> Self {
        let mut world = Self(HashMap::new());
        world.add(Kind::Deployment, "team", "gw-l4way", owned_by("deployment", "Gateway", "1"));
        world.add(
            Kind::ReplicaSet,
            "team",
            "gw-l4way-1",
            owned_by("set", "Deployment", "deployment"),
        );
        world.add(Kind::Pod, "team", "pod", owned_by("pod", "ReplicaSet", "set"));
        world.add(Kind::Lease, "team", "gw-l4way-pod", owned_by("lease", "Pod", "pod"));
        world
    }

    fn add(&mut self, kind: Kind, namespace: &str, name: &str, object: Arc<Value>) {
        self.0.insert((kind, ObjectKey::new(namespace, name)), object);
    }

    fn sort(&self) -> Sorted {
        let sorted = sort(&self.0, &gateways());
        self.assert_rest_is_of_no_use(&sorted);
        sorted
    }

    /// Sees to it that nothing is missed that isn't kept.
    fn assert_rest_is_of_no_use(&self, sorted: &Sorted) {
        let is_kept = |kind: Kind, name: &str, object: &Value| {
            let mut object = object.clone();
            object["kind"] = kind.as_str().into();
            object["metadata"]["name"] = name.into();
            can_be_a_gateways(&object)
        };
        let mut kept = self.0.clone();
        kept.retain(|(kind, key), object| is_kept(*kind, &key.name, object));
        let kept = sort(&kept, &gateways());
        assert_eq!((&kept.owned, &kept.left), (&sorted.owned, &sorted.left));
    }

    /// The UIDs of what a Gateway has.
    fn uids(&self, owner: &Owner) -> Vec<String> {
        let owned = self.sort().owned.remove(owner).unwrap_or_default();
        let uid = |object: &Arc<Value>| object["metadata"]["uid"].as_str().unwrap().to_owned();
        let mut uids: Vec<_> = owned.values().map(uid).collect();
        uids.sort();
        uids
    }

    /// Sees to it that the Gateway has what it has without strangers.
    #[track_caller]
    fn assert_unmoved(&self) {
        assert_eq!(self.uids(&gw()), ["deployment", "lease", "pod"]);
        assert!(self.sort().left.is_empty());
    }
}

#[test]
fn what_descends_from_the_gateway_is_its() {
    let mut world = World::new();
    world.assert_unmoved();
    world.add(Kind::Service, "team", "gw-l4way", owned_by("service", "Gateway", "1"));
    assert_eq!(world.uids(&gw()), ["deployment", "lease", "pod", "service"]);
    let other = Owner::new("team".into(), Some("2".into()));
    assert!(world.uids(&other).is_empty());
}

#[test]
fn labels_alone_make_nothing_the_gateways() {
    let mut world = World::new();
    for kind in KINDS {
        for namespace in ["team", "attacker"] {
            let mut forged = object("forged", &[]);
            world.add(kind, namespace, "forged", forged.clone());
            Arc::make_mut(&mut forged)["kind"] = kind.as_str().into();
            assert!(!can_be_a_gateways(&forged));
        }
    }
    world.assert_unmoved();
}

#[test]
fn an_owner_in_another_namespace_is_none() {
    let mut world = World::new();
    for (kind, owner, uid) in [
        (Kind::Deployment, "Gateway", "1"),
        (Kind::Secret, "Gateway", "1"),
        (Kind::Pod, "ReplicaSet", "set"),
        (Kind::Lease, "Pod", "pod"),
    ] {
        world.add(kind, "attacker", "forged", owned_by("forged", owner, uid));
    }
    let set = owned_by("forged-set", "Deployment", "deployment");
    world.add(Kind::ReplicaSet, "attacker", "forged", set);
    world.add(Kind::Pod, "attacker", "second", owned_by("second", "ReplicaSet", "forged-set"));
    // Nor is a step on the way.
    world.add(Kind::Pod, "team", "third", owned_by("third", "ReplicaSet", "forged-set"));
    world.assert_unmoved();
}

#[test]
fn pods_descend_through_what_was_made_and_leases_through_pods() {
    let mut world = World::new();
    world.add(Kind::Pod, "team", "a", owned_by("a", "Gateway", "1"));
    world.add(Kind::Pod, "team", "b", owned_by("b", "ReplicaSet", "somebodys"));
    let set = owned_by("somebodys", "Deployment", "somebodys");
    world.add(Kind::ReplicaSet, "team", "somebodys", set);
    world.add(Kind::Lease, "team", "c", owned_by("c", "Gateway", "1"));
    world.add(Kind::Lease, "team", "d", owned_by("d", "Pod", "b"));
    world.assert_unmoved();
}

#[test]
fn another_groups_gateway_owns_nothing_of_ours() {
    let mut world = World::new();
    let mut owner = reference("Gateway", "1");
    owner["apiVersion"] = "networking.istio.io/v1".into();
    world.add(Kind::Service, "team", "gw-l4way", object("service", &[owner]));
    world.assert_unmoved();
}

fn binding(uid: &str, hash: Option<&str>) -> Arc<Value> {
    let mut binding = json!({"metadata": {"uid": uid, "labels": labels()}});
    if let Some(hash) = hash {
        binding["metadata"]["labels"][OWNER_HASH] = hash.into();
    }
    Arc::new(binding)
}

#[test]
fn a_binding_elsewhere_is_known_by_its_owners_hash() {
    let mut world = World::new();
    let (hash, gone) = (gw().hash(), Owner::new("team".into(), Some("gone".into())).hash());
    let mut add = |namespace: &str, name: String, object| {
        world.add(Kind::RoleBinding, namespace, &name, object);
    };
    add("apps", format!("l4way-team-gw-{hash}"), binding("ours", Some(&hash)));
    add("apps", format!("l4way-team-gw-{gone}"), binding("left", Some(&gone)));
    // Somebody else's: the name or the place isn't as ours are.
    add("apps", "mine".to_owned(), binding("forged", Some(&hash)));
    add("other", "l4way-team-gw-0".to_owned(), binding("forged", Some(&hash)));
    add("team", format!("l4way-team-gw-{hash}"), binding("forged", Some(&hash)));
    assert_eq!(world.uids(&gw()), ["deployment", "lease", "ours", "pod"]);
    let left: Vec<_> = world.sort().left.into_values().collect();
    assert_eq!(left, [binding("left", Some(&gone))]);
}

#[test]
fn a_binding_of_an_earlier_release_is_known_by_its_labels() {
    let mut world = World::new();
    world.add(Kind::RoleBinding, "apps", "l4way-team-gw-l4way", binding("old", None));
    world.add(Kind::RoleBinding, "team", "l4way-team-gw-l4way", binding("own", None));
    world.add(Kind::RoleBinding, "apps", "mine", binding("forged", None));
    assert_eq!(world.uids(&gw()), ["deployment", "lease", "old", "own", "pod"]);
    assert!(is_unhashed(&binding("old", None)));
    assert!(!is_unhashed(&binding("new", Some("1"))));
    assert!(!is_unhashed(&owned_by("own", "Gateway", "1")));
}

/// Whose an object with these owners is to the Gateway of UID 1.
fn holder_with(owners: &[Value]) -> Holder {
    let found = object("found", owners);
    let desired = object("", &[reference("Gateway", "1")]);
    holder(&found["metadata"], &desired["metadata"])
}

#[test]
fn what_has_the_name_is_ours_or_an_earlier_gateways_or_somebody_elses() {
    let (ours, earlier) = (reference("Gateway", "1"), reference("Gateway", "0"));
    let mut named_otherwise = earlier.clone();
    named_otherwise["name"] = "web".into();
    let somebody = reference("Deployment", "5");
    assert_eq!(holder_with(slice::from_ref(&ours)), Holder::Itself);
    assert_eq!(holder_with(&[somebody.clone(), ours]), Holder::Itself);
    assert_eq!(holder_with(slice::from_ref(&earlier)), Holder::Earlier);
    assert_eq!(holder_with(&[earlier, somebody]), Holder::SomebodyElse, "it isn't collected");
    assert_eq!(holder_with(&[named_otherwise]), Holder::SomebodyElse);
    assert_eq!(holder_with(&[]), Holder::SomebodyElse, "labels say nothing");
}

#[test]
fn a_binding_elsewhere_is_ours_if_it_has_our_hash() {
    let desired = binding("", Some("1"));
    let holder_of = |found: &Value| holder(&found["metadata"], &desired["metadata"]);
    assert_eq!(holder_of(&binding("found", Some("1"))), Holder::Itself);
    assert_eq!(holder_of(&binding("found", Some("2"))), Holder::SomebodyElse);
    assert_eq!(holder_of(&binding("found", None)), Holder::SomebodyElse);
}
