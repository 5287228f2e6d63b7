//! Objects, or references of theirs, that lead to nothing of ours. They get no status, as they may
//! be another controller's, but whoever checks the manifests wants to know.

use std::{collections::BTreeMap, sync::Arc};

use l4way_resources::{
    Severity, Snapshot,
    api::{ObjectKey, ObjectRef, Route, RouteKind},
};

use super::{
    ClassNode, GatewayNode, ListenerSetNode, PolicyNode, listener_set,
    parent::{self, Parent},
};
use crate::{finding::Note, suggest};

/// Something to tell about an object that isn't in the graph, or not with this part of it.
#[derive(Clone, Debug)]
pub(crate) struct Stray {
    pub(crate) object: ObjectRef,
    pub(crate) note: Note,
}

impl Stray {
    fn new(
        kind: &str,
        key: ObjectKey,
        severity: Severity,
        pointer: impl Into<String>,
        message: String,
    ) -> Self {
        let note = Note { severity, pointer: pointer.into(), message };
        Self { object: ObjectRef::new(kind, key), note }
    }
}

/// Finds what leads to nothing of ours.
pub(crate) fn find(
    snapshot: &Snapshot,
    classes: &BTreeMap<Arc<str>, ClassNode>,
    gateways: &BTreeMap<ObjectKey, GatewayNode>,
    listener_sets: &BTreeMap<ObjectKey, ListenerSetNode>,
    policies: &BTreeMap<ObjectKey, PolicyNode>,
) -> Vec<Stray> {
    let mut strays: Vec<_> = stray_gateways(snapshot, classes, gateways).collect();
    strays.extend(stray_listener_sets(snapshot, listener_sets));
    strays.extend(stray_policies(policies));
    for ((kind, key), route) in &snapshot.routes {
        let references = route.spec.parent_refs.iter().enumerate();
        strays.extend(references.filter_map(|(index, reference)| {
            let named = parent::named(reference, &key.namespace);
            let (severity, message) = match named {
                Some(Parent::Gateway(gateway)) if !gateways.contains_key(&gateway) => {
                    stray_parent_gateway(snapshot, &gateway)
                }
                Some(Parent::ListenerSet(set)) if !listener_sets.contains_key(&set) => {
                    stray_parent_set(snapshot, &set)
                }
                Some(_) => return None,
                None => (
                    Severity::Warning,
                    format!(
                        "{} of group {:?} is no parent for l4way; use a Gateway or ListenerSet",
                        reference.kind, reference.group
                    ),
                ),
            };
            let pointer = parent::pointer(index, "name");
            Some(Stray::new(kind.as_str(), key.clone(), severity, pointer, message))
        }));
        strays.extend(parentless(*kind, key, route));
    }
    strays
}

fn parentless(kind: RouteKind, key: &ObjectKey, route: &Route) -> Option<Stray> {
    let message = "The route names no parent, so it gets no traffic; name a Gateway.".to_owned();
    route.spec.parent_refs.is_empty().then(|| {
        Stray::new(kind.as_str(), key.clone(), Severity::Error, "/spec/parentRefs", message)
    })
}

fn stray_gateways<'a>(
    snapshot: &'a Snapshot,
    classes: &'a BTreeMap<Arc<str>, ClassNode>,
    gateways: &'a BTreeMap<ObjectKey, GatewayNode>,
) -> impl Iterator<Item = Stray> + 'a {
    let strays = snapshot.gateways.iter().filter(|(key, _)| !gateways.contains_key(key));
    strays.map(|(key, gateway)| {
        let name = &gateway.spec.gateway_class_name;
        let class = snapshot.gateway_classes.get(&ObjectKey::new("", name.clone()));
        let (severity, message) = match class {
            Some(class) => (
                Severity::Warning,
                format!(
                    "GatewayClass {name} belongs to controller {}, so l4way leaves the Gateway \
                     alone",
                    class.spec.controller_name
                ),
            ),
            None => (
                Severity::Error,
                format!(
                    "GatewayClass {name} doesn't exist, so no controller takes the Gateway up; \
                     l4way's classes are {}",
                    suggest::list(classes.keys().map(|name| &**name))
                ),
            ),
        };
        Stray::new("Gateway", key.clone(), severity, "/spec/gatewayClassName", message)
    })
}

fn stray_listener_sets<'a>(
    snapshot: &'a Snapshot,
    listener_sets: &'a BTreeMap<ObjectKey, ListenerSetNode>,
) -> impl Iterator<Item = Stray> + 'a {
    let strays = snapshot.listener_sets.iter().filter(|(key, _)| !listener_sets.contains_key(key));
    strays.map(|(key, set)| {
        let (severity, message) = match listener_set::parent_key(set) {
            Some(gateway) => stray_parent_gateway(snapshot, &gateway),
            None => (
                Severity::Warning,
                format!(
                    "{} is no parent for a ListenerSet; use a Gateway",
                    set.spec.parent_ref.kind
                ),
            ),
        };
        Stray::new("ListenerSet", key.clone(), severity, "/spec/parentRef/name", message)
    })
}

/// Policies that change nothing of what we do. Their targets may be another controller's.
fn stray_policies(policies: &BTreeMap<ObjectKey, PolicyNode>) -> impl Iterator<Item = Stray> + '_ {
    let strays = policies.iter().filter(|(_, policy)| policy.gateways.is_empty());
    strays.map(|(key, policy)| {
        let why = match policy.missing_target() {
            Some(missing) => missing.to_owned(),
            None => "no route of l4way's sends anything to its targets but what clients encrypt \
                     themselves, or datagrams"
                .to_owned(),
        };
        let message = format!("The policy has no effect: {why}.");
        let pointer = "/spec/targetRefs";
        Stray::new("BackendTLSPolicy", key.clone(), Severity::Warning, pointer, message)
    })
}

fn stray_parent_gateway(snapshot: &Snapshot, gateway: &ObjectKey) -> (Severity, String) {
    if snapshot.gateways.contains_key(gateway) {
        return (Severity::Warning, format!("Gateway {gateway} is not l4way's"));
    }
    let hint = elsewhere(gateway, snapshot.gateways.keys());
    (Severity::Error, format!("Gateway {gateway} doesn't exist{hint}"))
}

fn stray_parent_set(snapshot: &Snapshot, set: &ObjectKey) -> (Severity, String) {
    if snapshot.listener_sets.contains_key(set) {
        return (Severity::Warning, format!("ListenerSet {set} belongs to no Gateway of l4way's"));
    }
    let hint = elsewhere(set, snapshot.listener_sets.keys());
    (Severity::Error, format!("ListenerSet {set} doesn't exist{hint}"))
}

/// Where there is one of this name, or what name may be meant.
fn elsewhere<'a>(wanted: &ObjectKey, keys: impl Iterator<Item = &'a ObjectKey> + Clone) -> String {
    let same_name = keys.clone().find(|key| key.name == wanted.name);
    same_name.map_or_else(
        || {
            let here = keys.filter(|key| key.namespace == wanted.namespace);
            suggest::did_you_mean(&wanted.name, here.map(|key| &*key.name))
        },
        |key| format!("; there is one in namespace {}: set the namespace", key.namespace),
    )
}
