//! Objects that are there and can't be used. They stay in the graph: what one would close is closed, and
//! what one would have is nobody else's. Their mistakes have been told where they were read.

use std::{collections::BTreeMap, sync::Arc};

use l4way_resources::{
    Content, L4WAY_GROUP, Refused, Snapshot,
    api::{
        AllowedListeners, BackendTlsPolicy, BackendTlsPolicySpec, BackendTlsValidation, Gateway,
        GatewayAddress, GatewaySpec, Listener, ListenerSet, ListenerSetParentRef, ListenerSetSpec,
        ObjectKey, ObjectMeta, ParentRef, PolicyTargetRef, Route, RouteKind, RouteRule, RouteSpec,
    },
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::http_rule::{self, HttpRuleNode};

/// Why an object that was looked for isn't to be had: it can't be used, or there is none, with a hint at
/// what may be meant.
pub(crate) fn why_missing(
    snapshot: &Snapshot,
    kind: &str,
    key: &ObjectKey,
    hint: impl FnOnce() -> String,
) -> String {
    match snapshot.refused(kind, key) {
        Some(refused) => invalid(refused),
        None => format!("doesn't exist{}", hint()),
    }
}

/// What to say of an object that is invalid, behind its name.
pub(crate) fn invalid(refused: &Refused) -> String {
    match (&refused.place, &refused.name) {
        (Some(place), Some(_)) => format!("is invalid, see {place}"),
        (Some(place), None) => format!("may be what can't be read at {place}"),
        (None, _) => "is invalid".to_owned(),
    }
}

/// The BackendTLSPolicies that can't be used, each in every namespace where it may be, for all that it
/// may be for. Nothing else of them counts.
pub(crate) fn policies(snapshot: &Snapshot) -> Vec<Arc<BackendTlsPolicy>> {
    let mut policies = Vec::new();
    for refused in of_kind(snapshot, "BackendTLSPolicy") {
        for namespace in namespaces(snapshot, refused) {
            let policy = BackendTlsPolicy {
                metadata: metadata(refused, &namespace),
                spec: BackendTlsPolicySpec {
                    target_refs: targets(snapshot, refused, &namespace),
                    validation: BackendTlsValidation {
                        ca_certificate_refs: Vec::new(),
                        well_known_ca_certificates: None,
                        hostname: "".into(),
                        subject_alt_names: Vec::new(),
                    },
                    options: BTreeMap::new(),
                },
            };
            if !snapshot.backend_tls_policies.contains_key(&policy.metadata.key()) {
                policies.push(Arc::new(policy));
            }
        }
    }
    policies
}

/// The Gateways that can't be used, with the listeners and addresses that can be read.
pub(crate) fn gateways(snapshot: &Snapshot) -> Vec<Arc<Gateway>> {
    let gateways = of_kind(snapshot, "Gateway").filter_map(|refused| {
        let Content::Fields(fields) = &refused.content else { return None };
        let spec = &fields["spec"];
        let allowed = &spec["allowedListeners"];
        Some(Arc::new(Gateway {
            metadata: metadata(refused, refused.namespace.as_ref()?),
            spec: GatewaySpec {
                gateway_class_name: spec["gatewayClassName"].as_str().unwrap_or_default().into(),
                listeners: readable::<Listener>(&spec["listeners"]),
                addresses: readable::<GatewayAddress>(&spec["addresses"]),
                infrastructure: None,
                allowed_listeners: read::<AllowedListeners>(allowed),
                tls: None,
                default_scope: None,
            },
        }))
    });
    gateways.filter(|gateway| !snapshot.gateways.contains_key(&gateway.metadata.key())).collect()
}

/// The ListenerSets that can't be used, with the listeners that can be read.
pub(crate) fn listener_sets(snapshot: &Snapshot) -> Vec<Arc<ListenerSet>> {
    let sets = of_kind(snapshot, "ListenerSet").filter_map(|refused| {
        let Content::Fields(fields) = &refused.content else { return None };
        let spec = &fields["spec"];
        Some(Arc::new(ListenerSet {
            metadata: metadata(refused, refused.namespace.as_ref()?),
            spec: ListenerSetSpec {
                parent_ref: read::<ListenerSetParentRef>(&spec["parentRef"])?,
                listeners: readable::<Listener>(&spec["listeners"]),
            },
        }))
    });
    sets.filter(|set| !snapshot.listener_sets.contains_key(&set.metadata.key())).collect()
}

/// The routes that can't be used, with the parents and hostnames that can be read, and the rules of
/// HTTPRoutes. Those whose rules can't be read are for all requests.
pub(crate) fn routes(snapshot: &Snapshot) -> Vec<(RouteKind, Arc<Route>, Vec<HttpRuleNode>)> {
    let mut routes = Vec::new();
    for kind in RouteKind::ALL {
        for refused in of_kind(snapshot, kind.as_str()) {
            let Content::Fields(fields) = &refused.content else { continue };
            let Some(namespace) = &refused.namespace else { continue };
            let spec = &fields["spec"];
            let route = Route {
                metadata: metadata(refused, namespace),
                spec: RouteSpec {
                    hostnames: read(&spec["hostnames"]).unwrap_or_default(),
                    parent_refs: readable::<ParentRef>(&spec["parentRefs"]),
                    ..RouteSpec::default()
                },
            };
            if !snapshot.routes.contains_key(&(kind, route.metadata.key())) {
                routes.push((kind, Arc::new(route), http_rules(kind, &spec["rules"])));
            }
        }
    }
    routes
}

fn http_rules(kind: RouteKind, rules: &Value) -> Vec<HttpRuleNode> {
    if kind != RouteKind::Http {
        return Vec::new();
    }
    let rules = read::<Vec<RouteRule>>(rules).filter(|rules| !rules.is_empty());
    let rules = rules.unwrap_or_else(|| vec![RouteRule::default()]);
    let refused = |rule| HttpRuleNode { refused: true, ..http_rule::read(rule, 0..0).0 };
    rules.iter().map(refused).collect()
}

fn of_kind<'a>(snapshot: &'a Snapshot, kind: &str) -> impl Iterator<Item = &'a Refused> {
    snapshot.refused.iter().map(|refused| &**refused).filter(move |it| *it.kind == *kind)
}

/// The namespaces where it may be, of those that have something that a policy may be for.
fn namespaces(snapshot: &Snapshot, refused: &Refused) -> Vec<Arc<str>> {
    if let Some(namespace) = &refused.namespace {
        return vec![namespace.clone()];
    }
    let keys = snapshot.services.keys().chain(snapshot.backends.keys());
    let mut namespaces: Vec<_> = keys.map(|key| key.namespace.clone()).collect();
    namespaces.sort();
    namespaces.dedup();
    namespaces.retain(|namespace| refused.may_be_in(namespace));
    namespaces
}

/// What a policy may be for: what it names, if that can be read, and else whatever is there.
fn targets(snapshot: &Snapshot, refused: &Refused, namespace: &str) -> Vec<PolicyTargetRef> {
    let named = match &refused.content {
        Content::Fields(fields) => named_targets(&fields["spec"]["targetRefs"]),
        Content::Words(_) | Content::Unknown => None,
    };
    named.unwrap_or_else(|| {
        let beside = |keys: &mut dyn Iterator<Item = &ObjectKey>, kind| {
            let here =
                keys.filter(|key| *key.namespace == *namespace && refused.may_say(&key.name));
            here.map(|key| target(kind, key.name.clone(), None)).collect::<Vec<_>>()
        };
        let mut targets = beside(&mut snapshot.services.keys(), ("", "Service"));
        targets.extend(beside(&mut snapshot.backends.keys(), (L4WAY_GROUP, "Backend")));
        targets
    })
}

fn target(
    (group, kind): (&str, &str),
    name: Arc<str>,
    section_name: Option<Arc<str>>,
) -> PolicyTargetRef {
    PolicyTargetRef { group: group.into(), kind: kind.into(), name, section_name }
}

/// The targets that are written, if there are some and each has a name. One without a kind may be of
/// either.
fn named_targets(references: &Value) -> Option<Vec<PolicyTargetRef>> {
    let references = references.as_array().filter(|references| !references.is_empty())?;
    let mut targets = Vec::new();
    for reference in references {
        let text = |field: &str| reference[field].as_str();
        let name: Arc<str> = text("name")?.into();
        let section: Option<Arc<str>> = text("sectionName").map(Into::into);
        match text("group").zip(text("kind")) {
            Some(kind) => targets.push(target(kind, name, section)),
            None => {
                targets.push(target(("", "Service"), name.clone(), section.clone()));
                targets.push(target((L4WAY_GROUP, "Backend"), name, section));
            }
        }
    }
    Some(targets)
}

/// What its metadata are, as far as they can be read. If its name or age can't be, it is the first.
fn metadata(refused: &Refused, namespace: &str) -> ObjectMeta {
    let written = match &refused.content {
        Content::Fields(fields) => &fields["metadata"],
        Content::Words(_) | Content::Unknown => &Value::Null,
    };
    let created = match &written["creationTimestamp"] {
        Value::Null => None,
        time => Some(time.as_str().unwrap_or_default().to_owned()),
    };
    let place = || refused.place.as_ref().map_or_else(String::new, ToString::to_string).into();
    ObjectMeta {
        namespace: namespace.into(),
        uid: written["uid"].as_str().map(Into::into),
        generation: written["generation"].as_i64().unwrap_or_default(),
        creation_timestamp: if refused.name.is_some() { created } else { Some(String::new()) },
        name: refused.name.clone().unwrap_or_else(place),
        ..ObjectMeta::default()
    }
}

fn read<T: DeserializeOwned>(value: &Value) -> Option<T> {
    T::deserialize(value).ok()
}

/// The items of a list that can be read.
fn readable<T: DeserializeOwned>(list: &Value) -> Vec<T> {
    list.as_array().into_iter().flatten().filter_map(read).collect()
}
