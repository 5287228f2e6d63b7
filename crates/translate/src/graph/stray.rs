//! Objects, or references of theirs, that lead to nothing of ours. They get no status, as they may
//! be another controller's, but whoever checks the manifests wants to know.

use std::{collections::BTreeMap, sync::Arc};

use l4way_resources::{
    ForeignPolicy, GATEWAY_GROUP, Severity, Snapshot,
    api::{ObjectKey, ObjectRef, ParentRef, ReferenceGrant, ReferenceGrantTo, Route, RouteKind},
};

use super::{
    ClassNode, GatewayNode, ListenerSetNode, PolicyNode, RouteKey, RouteNode, listener_set,
    namespace::unwatched,
    parent::{self, Parent},
};
use crate::{Settings, finding::Note, suggest};

/// The group of the Gateway API's kinds while they are tried out.
const EXPERIMENTAL_GROUP: &str = "gateway.networking.x-k8s.io";

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
    settings: &Settings,
    classes: &BTreeMap<Arc<str>, ClassNode>,
    gateways: &BTreeMap<ObjectKey, GatewayNode>,
    listener_sets: &BTreeMap<ObjectKey, ListenerSetNode>,
    policies: &BTreeMap<ObjectKey, PolicyNode>,
    routes: &BTreeMap<RouteKey, RouteNode>,
) -> Vec<Stray> {
    let mut strays: Vec<_> = stray_gateways(snapshot, classes, gateways).collect();
    strays.extend(stray_listener_sets(snapshot, settings, listener_sets));
    strays.extend(stray_policies(policies));
    strays.extend(foreign_policies(snapshot, gateways, listener_sets, routes));
    strays.extend(core_grants(snapshot));
    strays.extend(unreadable(snapshot));
    for ((kind, key), route) in &snapshot.routes {
        let references = route.spec.parent_refs.iter().enumerate();
        strays.extend(references.filter_map(|(index, reference)| {
            let named = parent::named(reference, &key.namespace);
            let (severity, message) = match named {
                Some(Parent::Gateway(gateway)) if !gateways.contains_key(&gateway) => {
                    stray_parent_gateway(snapshot, settings, &gateway)?
                }
                Some(Parent::ListenerSet(set)) if !listener_sets.contains_key(&set) => {
                    stray_parent_set(snapshot, settings, &set)?
                }
                Some(_) => return None,
                None => {
                    let only = !has_parent(route, key, gateways, listener_sets);
                    no_parent(reference, only, settings.in_cluster)
                }
            };
            let pointer = parent::pointer(index, "name");
            Some(Stray::new(kind.as_str(), key.clone(), severity, pointer, message))
        }));
        strays.extend(parentless(*kind, key, route));
    }
    strays
}

/// Whether a route names a parent of ours.
fn has_parent(
    route: &Route,
    key: &ObjectKey,
    gateways: &BTreeMap<ObjectKey, GatewayNode>,
    listener_sets: &BTreeMap<ObjectKey, ListenerSetNode>,
) -> bool {
    let parents = route.spec.parent_refs.iter();
    let mut named = parents.filter_map(|reference| parent::named(reference, &key.namespace));
    named.any(|parent| match parent {
        Parent::Gateway(gateway) => gateways.contains_key(&gateway),
        Parent::ListenerSet(set) => listener_sets.contains_key(&set),
    })
}

/// What to say of a reference to what can't be a parent. A Service may be a mesh's; any other kind is a
/// mistake, if nothing else carries the route and nobody else may.
fn no_parent(reference: &ParentRef, only: bool, in_cluster: bool) -> (Severity, String) {
    let ParentRef { group, kind, .. } = reference;
    let is_mesh = group.is_empty() && &**kind == "Service";
    let is_ours = [GATEWAY_GROUP, EXPERIMENTAL_GROUP].contains(&&**group) || !in_cluster;
    let severity = if only && is_ours && !is_mesh { Severity::Error } else { Severity::Warning };
    let cure = match &**kind {
        "XListenerSet" => format!("use a ListenerSet of group {GATEWAY_GROUP}, which it became"),
        _ => format!("use a Gateway or ListenerSet of group {GATEWAY_GROUP}"),
    };
    let what = if only { ", so the route gets no traffic" } else { "" };
    (severity, format!("{kind} of group {group:?} is no parent for l4way{what}; {cure}"))
}

fn parentless(kind: RouteKind, key: &ObjectKey, route: &Route) -> Option<Stray> {
    let message = "The route names no parent, so it gets no traffic; name a Gateway.".to_owned();
    route.spec.parent_refs.is_empty().then(|| {
        Stray::new(kind.as_str(), key.clone(), Severity::Error, "/spec/parentRefs", message)
    })
}

/// Policies of other implementations that are for something of ours: nobody enforces their rules.
fn foreign_policies(
    snapshot: &Snapshot,
    gateways: &BTreeMap<ObjectKey, GatewayNode>,
    listener_sets: &BTreeMap<ObjectKey, ListenerSetNode>,
    routes: &BTreeMap<RouteKey, RouteNode>,
) -> Vec<Stray> {
    let is_ours = |kind: &str, key: &ObjectKey| match kind {
        "Gateway" => gateways.contains_key(key),
        "ListenerSet" => listener_sets.contains_key(key),
        _ => {
            let route = RouteKind::ALL.into_iter().find(|route| route.as_str() == kind);
            let route = route.and_then(|route| routes.get(&(route, key.clone())));
            route.is_some_and(|route| !route.parents.is_empty())
        }
    };
    let stray = |policy: &Arc<ForeignPolicy>| {
        let ObjectRef { kind, key } = &policy.object;
        let named = policy.targets.iter().filter(|target| *target.group == *GATEWAY_GROUP);
        let mut named = named.map(|target| {
            let target_key = ObjectKey::new(key.namespace.clone(), target.name.clone());
            (&*target.kind, target_key)
        });
        let (target_kind, target) = named.find(|(kind, key)| is_ours(kind, key))?;
        let message = format!(
            "the rules of {kind} {key} ({}, at {}) for {target_kind} {target} are not enforced: l4way \
             doesn't know this kind; remove it, or let what knows it carry this traffic",
            policy.api_version, policy.place
        );
        let object = ObjectRef::new(target_kind, target);
        let note = Note { severity: Severity::Warning, pointer: String::new(), message };
        Some(Stray { object, note })
    };
    snapshot.foreign_policies.iter().filter_map(stray).collect()
}

/// Objects of a cluster that can't be used: who reads files has told of those that are in them.
fn unreadable(snapshot: &Snapshot) -> impl Iterator<Item = Stray> + '_ {
    let of_cluster = snapshot.refused.iter().filter(|refused| refused.place.is_none());
    of_cluster.filter_map(|refused| refused.reference()).map(|object| {
        let message =
            format!("{object} doesn't have the shape of its kind and isn't used; correct it");
        Stray::new(&object.kind, object.key, Severity::Error, "", message)
    })
}

/// ReferenceGrants that say `core` for the group that is written as nothing.
fn core_grants(snapshot: &Snapshot) -> impl Iterator<Item = Stray> + '_ {
    let said = |(key, grant): (&ObjectKey, &Arc<ReferenceGrant>)| {
        let is_core = |to: &ReferenceGrantTo| &*to.group == "core";
        let index = grant.spec.to.iter().position(is_core)?;
        let message = suggest::CORE_GROUP.to_owned();
        let pointer = format!("/spec/to/{index}/group");
        Some(Stray::new("ReferenceGrant", key.clone(), Severity::Warning, pointer, message))
    };
    snapshot.reference_grants.iter().filter_map(said)
}

fn stray_gateways<'a>(
    snapshot: &'a Snapshot,
    classes: &'a BTreeMap<Arc<str>, ClassNode>,
    gateways: &'a BTreeMap<ObjectKey, GatewayNode>,
) -> impl Iterator<Item = Stray> + 'a {
    let strays = snapshot.gateways.iter().filter(|(key, _)| !gateways.contains_key(key));
    strays.filter_map(|(key, gateway)| {
        let name = &gateway.spec.gateway_class_name;
        let class_key = ObjectKey::new("", name.clone());
        let class = snapshot.gateway_classes.get(&class_key);
        if class.is_none() && snapshot.refused("GatewayClass", &class_key).is_some() {
            return None;
        }
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
        Some(Stray::new("Gateway", key.clone(), severity, "/spec/gatewayClassName", message))
    })
}

fn stray_listener_sets<'a>(
    snapshot: &'a Snapshot,
    settings: &'a Settings,
    listener_sets: &'a BTreeMap<ObjectKey, ListenerSetNode>,
) -> impl Iterator<Item = Stray> + 'a {
    let strays = snapshot.listener_sets.iter().filter(|(key, _)| !listener_sets.contains_key(key));
    strays.filter_map(|(key, set)| {
        let (severity, message) = match listener_set::parent_key(set) {
            Some(gateway) => stray_parent_gateway(snapshot, settings, &gateway)?,
            None => (
                Severity::Warning,
                format!(
                    "{} is no parent for a ListenerSet; use a Gateway",
                    set.spec.parent_ref.kind
                ),
            ),
        };
        Some(Stray::new("ListenerSet", key.clone(), severity, "/spec/parentRef/name", message))
    })
}

/// Policies that change nothing of what we do. Their targets may be another controller's.
fn stray_policies(policies: &BTreeMap<ObjectKey, PolicyNode>) -> impl Iterator<Item = Stray> + '_ {
    let policies = policies.iter().filter(|(_, policy)| !policy.is_refused);
    let strays = policies.filter(|(_, policy)| policy.gateways.is_empty());
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

/// What to say of a parent that isn't ours; nothing where it is there and can't be used, which has been
/// told.
fn stray_parent_gateway(
    snapshot: &Snapshot,
    settings: &Settings,
    gateway: &ObjectKey,
) -> Option<(Severity, String)> {
    if snapshot.gateways.contains_key(gateway) {
        return Some((Severity::Warning, format!("Gateway {gateway} is not l4way's")));
    }
    if snapshot.refused("Gateway", gateway).is_some() {
        return None;
    }
    if !settings.is_watched(&gateway.namespace) {
        return Some((Severity::Warning, unwatched("Gateway", gateway)));
    }
    let hint = elsewhere(gateway, snapshot.gateways.keys());
    Some((Severity::Error, format!("Gateway {gateway} doesn't exist{hint}")))
}

fn stray_parent_set(
    snapshot: &Snapshot,
    settings: &Settings,
    set: &ObjectKey,
) -> Option<(Severity, String)> {
    if snapshot.listener_sets.contains_key(set) {
        let message = format!("ListenerSet {set} belongs to no Gateway of l4way's");
        return Some((Severity::Warning, message));
    }
    if snapshot.refused("ListenerSet", set).is_some() {
        return None;
    }
    if !settings.is_watched(&set.namespace) {
        return Some((Severity::Warning, unwatched("ListenerSet", set)));
    }
    let hint = elsewhere(set, snapshot.listener_sets.keys());
    Some((Severity::Error, format!("ListenerSet {set} doesn't exist{hint}")))
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
