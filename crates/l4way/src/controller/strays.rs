//! What was made for Gateways that are no longer ours. No I/O.

use std::collections::BTreeSet;

use l4way_resources::{
    Snapshot,
    api::{Gateway, ObjectKey},
};
use serde_json::Value;

use super::{
    cluster::{Cluster, Owner},
    plan::{Step, removals},
};
use crate::controller::objects::{Kind, label};

/// What becomes of the objects of an owner that isn't one of our Gateways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// They stay: it may be a mistake, such as a GatewayClass that was deleted, and sessions would
    /// end with them.
    Stay,
    /// They go.
    Go,
    /// Those go that Kubernetes doesn't take away itself.
    Unowned,
}

/// The requests that take away what nobody needs.
pub(crate) fn find(
    cluster: &Cluster,
    ours: &BTreeSet<&Owner>,
    snapshot: &Snapshot,
    controller: &str,
) -> Vec<Step> {
    let strays = cluster.owners().filter(|(owner, _)| !ours.contains(owner));
    strays
        .flat_map(|(owner, owned)| {
            let fate = fate(owner, snapshot, controller);
            removals(owned.iter().filter(move |((kind, _), object)| goes(fate, *kind, object)))
        })
        .collect()
}

/// Whether an object is to be taken away. Pods go with their Deployment.
fn goes(fate: Fate, kind: Kind, object: &Value) -> bool {
    match fate {
        _ if kind == Kind::Pod => false,
        Fate::Stay => false,
        Fate::Go => true,
        Fate::Unowned => is_unowned(object),
    }
}

fn is_unowned(object: &Value) -> bool {
    object["metadata"]["ownerReferences"].as_array().is_none_or(Vec::is_empty)
}

fn fate(owner: &Owner, snapshot: &Snapshot, controller: &str) -> Fate {
    let Some(gateway) = gateway_of(owner, snapshot) else { return Fate::Unowned };
    let class = &gateway.spec.gateway_class_name;
    if label(class) != owner.class {
        return Fate::Go;
    }
    let class = snapshot.gateway_classes.get(&ObjectKey::new("", class.clone()));
    if class.is_some_and(|class| &*class.spec.controller_name != controller) {
        return Fate::Go;
    }
    Fate::Stay
}

fn gateway_of<'a>(owner: &Owner, snapshot: &'a Snapshot) -> Option<&'a Gateway> {
    let exact = ObjectKey::new(&*owner.namespace, &*owner.gateway);
    let shortened = || {
        snapshot.gateways.iter().find(|(key, _)| {
            *key.namespace == *owner.namespace && label(&key.name) == owner.gateway
        })
    };
    let found = snapshot.gateways.get_key_value(&exact).or_else(shortened);
    found.map(|(_, gateway)| &**gateway)
}

#[cfg(test)]
mod tests {
    use l4way_resources::AnyObject;
    use serde_json::json;

    use super::*;

    const OURS: &str = "l4way.dev/gateway-controller";

    fn owner(gateway: &str) -> Owner {
        Owner {
            namespace: "team".to_owned(),
            gateway: gateway.to_owned(),
            class: "l4way".to_owned(),
        }
    }

    fn object(kind: &str, value: Value) -> AnyObject {
        AnyObject::from_value(kind, value).unwrap().unwrap()
    }

    /// A Gateway of this class, and a class of this controller.
    fn snapshot(class: &str, classes: &[(&str, &str)]) -> Snapshot {
        let gateway = json!({
            "metadata": {"name": "gw", "namespace": "team"},
            "spec": {"gatewayClassName": class, "listeners": []},
        });
        let classes = classes.iter().map(|(name, controller)| {
            let class = json!({"metadata": {"name": name}, "spec": {"controllerName": controller}});
            object("GatewayClass", class)
        });
        classes.chain([object("Gateway", gateway)]).collect()
    }

    #[track_caller]
    fn assert_fate(snapshot: &Snapshot, gateway: &str, expected: Fate) {
        assert_eq!(fate(&owner(gateway), snapshot, OURS), expected);
    }

    #[test]
    fn what_a_deleted_gateway_had_is_kubernetes_to_take_away() {
        assert_fate(&snapshot("l4way", &[("l4way", OURS)]), "gone", Fate::Unowned);
    }

    #[test]
    fn a_gateway_that_is_somebody_elses_now_keeps_nothing() {
        assert_fate(&snapshot("other", &[("l4way", OURS)]), "gw", Fate::Go);
        assert_fate(&snapshot("l4way", &[("l4way", "example.com/other")]), "gw", Fate::Go);
    }

    #[test]
    fn a_class_that_was_deleted_ends_no_session() {
        assert_fate(&snapshot("l4way", &[]), "gw", Fate::Stay);
    }

    #[test]
    fn only_what_has_no_owner_is_ours_to_take_away() {
        let goes = |object: Value| goes(Fate::Unowned, Kind::RoleBinding, &object);
        assert!(goes(json!({"metadata": {}})));
        assert!(!goes(json!({"metadata": {"ownerReferences": [{"kind": "Gateway"}]}})));
    }

    #[test]
    fn a_pod_goes_with_its_deployment() {
        let pod = json!({"metadata": {"ownerReferences": [{"kind": "ReplicaSet"}]}});
        assert!(!goes(Fate::Go, Kind::Pod, &pod));
        assert!(goes(Fate::Go, Kind::Deployment, &pod));
    }
}
