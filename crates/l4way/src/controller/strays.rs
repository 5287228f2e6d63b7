//! What was made for Gateways that are no longer ours. No I/O.

use std::collections::{BTreeMap, BTreeSet};

use l4way_resources::{
    Snapshot,
    api::{Gateway, ObjectKey},
};
use l4way_translate::Settings;
use serde_json::Value;

use super::{
    cluster::Cluster,
    objects::{CLASS_NAME, GATEWAY_NAMESPACE, Kind, label},
    ownership::Owner,
    plan::{Step, removals},
};

/// The requests that take away what nobody needs. What a Gateway owned that is gone, Kubernetes takes away; what is
/// nobody's isn't ours to touch.
pub(crate) fn find(
    cluster: &Cluster,
    ours: &BTreeSet<&Owner>,
    snapshot: &Snapshot,
    settings: &Settings,
) -> Vec<Step> {
    let mut others = cluster.owners().filter(|(owner, _)| !ours.contains(owner)).peekable();
    let mut gateways = BTreeMap::new();
    if others.peek().is_some() {
        let all = snapshot.gateways.values();
        gateways.extend(all.map(|gateway| (Owner::of(&gateway.metadata), &**gateway)));
    }
    let strays = others.filter_map(|(owner, owned)| Some((*gateways.get(owner)?, owned)));
    let strays = strays.flat_map(|(gateway, owned)| {
        owned.iter().filter(move |((kind, _), object)| {
            // Pods go with their Deployment.
            *kind != Kind::Pod && !is_kept(object, gateway, snapshot, settings)
        })
    });
    // Of a Gateway in a namespace that isn't watched nothing is known: it may still be there.
    let left = cluster.left().iter().filter(|(_, binding)| {
        let namespace = binding["metadata"]["labels"][GATEWAY_NAMESPACE].as_str();
        namespace.is_some_and(|namespace| settings.is_watched(namespace))
    });
    removals(strays.chain(left)).collect()
}

/// Whether an object of a Gateway that isn't ours stays: its class may be missing by mistake, such as a GatewayClass
/// that was deleted, and sessions would end with the object.
fn is_kept(object: &Value, gateway: &Gateway, snapshot: &Snapshot, settings: &Settings) -> bool {
    let class = &gateway.spec.gateway_class_name;
    if object["metadata"]["labels"][CLASS_NAME] != label(class) {
        return false;
    }
    let class = snapshot.gateway_classes.get(&ObjectKey::new("", class.clone()));
    class.is_none_or(|class| class.spec.controller_name == settings.controller_name)
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::Arc};

    use l4way_resources::AnyObject;
    use serde_json::json;

    use super::*;
    use crate::controller::{
        objects::{GATEWAY_NAME, OWNER_HASH},
        ownership::sort,
    };

    const OURS: &str = "l4way.dev/gateway-controller";

    fn object(kind: &str, value: Value) -> AnyObject {
        AnyObject::from_value(kind, &value).unwrap().unwrap()
    }

    /// A Gateway of this class, and a class of this controller.
    fn snapshot(class: &str, classes: &[(&str, &str)]) -> Snapshot {
        let gateway = json!({
            "metadata": {"name": "gw", "namespace": "team", "uid": "1"},
            "spec": {"gatewayClassName": class, "listeners": []},
        });
        let classes = classes.iter().map(|(name, controller)| {
            let class = json!({"metadata": {"name": name}, "spec": {"controllerName": controller}});
            object("GatewayClass", class)
        });
        classes.chain([object("Gateway", gateway)]).collect()
    }

    /// What was made for a Gateway of this UID: a Service, a Deployment and its pod, and a binding elsewhere; and a
    /// Service that only has the labels.
    fn cluster(uid: &str, snapshot: &Snapshot) -> Cluster {
        let labels = json!({GATEWAY_NAME: "gw", CLASS_NAME: "l4way"});
        let metadata = |id: &str, kind: &str, owner: &str| {
            let version = "gateway.networking.k8s.io/v1";
            let owner = json!({"apiVersion": version, "kind": kind, "name": "gw", "uid": owner});
            json!({"metadata": {"uid": id, "labels": labels, "ownerReferences": [owner]}})
        };
        let owner = Owner::new("team".into(), Some(uid.into()));
        let mut elsewhere = json!({"metadata": {"uid": "binding", "labels": labels}});
        elsewhere["metadata"]["labels"][GATEWAY_NAMESPACE] = "team".into();
        elsewhere["metadata"]["labels"][OWNER_HASH] = owner.hash().into();
        let binding = format!("l4way-team-gw-{}", owner.hash());
        let nobodys = json!({"metadata": {"uid": "nobodys", "labels": labels}});
        let objects: HashMap<_, _> = [
            (Kind::Service, "team", "gw-l4way", metadata("service", "Gateway", uid)),
            (Kind::Deployment, "team", "gw-l4way", metadata("deployment", "Gateway", uid)),
            (Kind::ReplicaSet, "team", "gw-l4way-1", metadata("set", "Deployment", "deployment")),
            (Kind::Pod, "team", "pod", metadata("pod", "ReplicaSet", "set")),
            (Kind::RoleBinding, "apps", &binding, elsewhere),
            (Kind::Service, "team", "nobodys", nobodys),
        ]
        .into_iter()
        .map(|(kind, ns, name, value)| ((kind, ObjectKey::new(ns, name)), Arc::new(value)))
        .collect();
        Cluster::with(sort(&objects, &snapshot.gateways), BTreeMap::new())
    }

    #[track_caller]
    fn assert_removed(uid: &str, snapshot: &Snapshot, expected: &[&str]) {
        assert_removed_where(uid, snapshot, &Settings::in_cluster(), expected);
    }

    fn assert_removed_where(
        uid: &str,
        snapshot: &Snapshot,
        settings: &Settings,
        expected: &[&str],
    ) {
        let steps = find(&cluster(uid, snapshot), &BTreeSet::new(), snapshot, settings);
        let uid = |step: &Step| match step {
            Step::Delete { uid, .. } => uid.clone(),
            Step::Apply { .. } => panic!("{step:?}"),
        };
        let removed: BTreeSet<_> = steps.iter().map(uid).collect();
        assert_eq!(removed, expected.iter().map(|uid| (*uid).to_owned()).collect());
    }

    #[test]
    fn what_a_deleted_gateway_had_is_kubernetes_to_take_away() {
        let snapshot = snapshot("l4way", &[("l4way", OURS)]);
        // One of the same name has come in its place.
        assert_removed("before", &snapshot, &["binding"]);
    }

    #[test]
    fn a_gateway_that_is_somebody_elses_now_keeps_nothing() {
        let all = ["service", "deployment", "binding"];
        assert_removed("1", &snapshot("other", &[("l4way", OURS)]), &all);
        assert_removed("1", &snapshot("l4way", &[("l4way", "example.com/other")]), &all);
    }

    #[test]
    fn a_class_that_was_deleted_ends_no_session() {
        assert_removed("1", &snapshot("l4way", &[]), &[]);
    }

    #[test]
    fn what_a_gateway_has_that_is_not_watched_stays() {
        let watched = Some(["apps".into()].into());
        let settings = Settings { watched, ..Settings::in_cluster() };
        assert_removed_where("gone", &Snapshot::default(), &settings, &[]);
        assert_removed("gone", &Snapshot::default(), &["binding"]);
    }

    #[test]
    fn what_our_gateways_have_stays() {
        let snapshot = snapshot("l4way", &[("l4way", OURS)]);
        let owner = Owner::new("team".into(), Some("1".into()));
        let steps =
            find(&cluster("1", &snapshot), &[&owner].into(), &snapshot, &Settings::in_cluster());
        assert_eq!(steps, []);
    }
}
