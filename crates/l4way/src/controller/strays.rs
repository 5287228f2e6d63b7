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
use crate::controller::objects::label;

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
            let going = owned.iter().filter(move |(_, object)| match fate {
                Fate::Stay => false,
                Fate::Go => true,
                Fate::Unowned => is_unowned(object),
            });
            removals(going)
        })
        .collect()
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
