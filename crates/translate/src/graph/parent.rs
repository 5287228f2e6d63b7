//! How a route stands with each of its parents: which listeners it is attached to, or why to none.

use std::collections::BTreeMap;

use l4way_resources::{
    GATEWAY_GROUP,
    api::{ExternalBackend, FromNamespaces, ObjectKey, ParentRef, RouteKind},
};

use super::{GatewayNode, ListenerNode, ListenerSetNode, Namespaces, RouteNode, hostname};
use crate::{
    conditions::route as conditions,
    finding::{Findings, Outcome},
    suggest,
};

/// The object that a parentRef leads to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Parent {
    Gateway(ObjectKey),
    ListenerSet(ObjectKey),
}

/// One parentRef of a route that leads to a parent of ours.
#[derive(Clone, Debug)]
pub(crate) struct ParentNode {
    /// Its place in `spec.parentRefs`.
    pub(crate) index: usize,
    pub(crate) reference: ParentRef,
    pub(crate) parent: Parent,
    /// The places, among the parent's, of the listeners that the route is attached to.
    pub(crate) listeners: Vec<usize>,
    pub(crate) findings: Findings,
}

impl ParentNode {
    /// The JSON pointer to one of its fields in the route.
    pub(crate) fn pointer(&self, field: &str) -> String {
        pointer(self.index, field)
    }
}

/// The JSON pointer to a field of a parentRef in its route.
pub(crate) fn pointer(index: usize, field: &str) -> String {
    format!("/spec/parentRefs/{index}/{field}")
}

/// Everything that a route may attach to.
pub(crate) struct Parents<'a> {
    pub(crate) gateways: &'a BTreeMap<ObjectKey, GatewayNode>,
    pub(crate) listener_sets: &'a BTreeMap<ObjectKey, ListenerSetNode>,
    pub(crate) namespaces: &'a Namespaces<'a>,
}

/// What a parentRef of a route in `namespace` names, if it is of a kind that can be a parent.
pub(crate) fn named(reference: &ParentRef, namespace: &str) -> Option<Parent> {
    let namespace = reference.namespace.as_deref().unwrap_or(namespace);
    let key = ObjectKey::new(namespace, reference.name.clone());
    match (&*reference.group, &*reference.kind) {
        (GATEWAY_GROUP, "Gateway") => Some(Parent::Gateway(key)),
        (GATEWAY_GROUP, "ListenerSet") => Some(Parent::ListenerSet(key)),
        _ => None,
    }
}

impl Parents<'_> {
    /// Attaches the route to the listeners of its parents that it names and that take it.
    pub(crate) fn attach(&self, route: &RouteNode) -> Vec<ParentNode> {
        let references = route.object.spec.parent_refs.iter().enumerate();
        references.filter_map(|(index, reference)| self.parent(route, index, reference)).collect()
    }

    /// `None` if the parent isn't one of ours.
    fn parent(&self, route: &RouteNode, index: usize, reference: &ParentRef) -> Option<ParentNode> {
        let parent = named(reference, &route.object.metadata.namespace)?;
        let (listeners, not_allowed, is_refused) = match &parent {
            Parent::Gateway(key) => {
                let gateway = self.gateways.get(key)?;
                (&gateway.listeners, None, gateway.is_refused)
            }
            Parent::ListenerSet(key) => {
                let set = self.listener_sets.get(key)?;
                let not_allowed = (!set.is_allowed()).then_some(&set.gateway);
                (&set.listeners, not_allowed, set.is_refused)
            }
        };
        let mut node = ParentNode {
            index,
            reference: reference.clone(),
            parent,
            listeners: Vec::new(),
            findings: Findings::default(),
        };
        if let Some(outcome) = route.nothing_left() {
            node.findings.told(outcome);
            return Some(node);
        }
        let attached = match not_allowed {
            Some(gateway) => Err((
                "name",
                conditions::no_matching_parent(format!(
                    "ListenerSet {} is not allowed by Gateway {gateway}; see its status",
                    reference.name
                )),
            )),
            None => self.listeners(route, reference, listeners),
        };
        self.check_external(route, &mut node);
        match attached {
            Ok(listeners) => node.listeners = listeners,
            // What is wrong with the parent has been told, and may be the reason.
            Err(_) if is_refused => {
                let message = format!("{} {} is invalid", reference.kind, reference.name);
                node.findings.told(conditions::no_matching_parent(message));
            }
            Err((field, outcome)) => {
                let pointer = pointer(index, field);
                node.findings.error(pointer, [outcome]);
            }
        }
        Some(node)
    }

    /// Tells of backends that the Gateway doesn't let its routes use.
    fn check_external(&self, route: &RouteNode, node: &mut ParentNode) {
        let gateway = match &node.parent {
            Parent::Gateway(key) => Some(key),
            Parent::ListenerSet(key) => self.listener_sets.get(key).map(|set| &set.gateway),
        };
        let Some(gateway) = gateway.and_then(|key| self.gateways.get(key)) else { return };
        for target in &route.targets {
            let Some(external) = target.external.filter(|external| !gateway.allows(*external))
            else {
                continue;
            };
            let kind = match external {
                ExternalBackend::Backend => "a Backend",
                ExternalBackend::ExternalName => "a Service of type ExternalName",
            };
            let message = format!(
                "Gateway {} doesn't let its routes name {kind}, which may lead out of the cluster: \
                 its share of the sessions is refused; whoever runs the Gateway can allow it by \
                 externalBackends in GatewayParameters",
                gateway.id()
            );
            node.findings.error(&*target.pointer, [conditions::unsupported_value(message)]);
        }
    }

    /// The listeners that the reference names and that take the route.
    ///
    /// # Errors
    /// If there are none, the field of the reference that is to blame, and the outcome.
    fn listeners(
        &self,
        route: &RouteNode,
        reference: &ParentRef,
        listeners: &[ListenerNode],
    ) -> Result<Vec<usize>, (&'static str, Outcome)> {
        let named: Vec<_> = listeners.iter().filter(|l| names(reference, l)).collect();
        if named.is_empty() {
            return Err(no_such_listener(reference, listeners));
        }
        let namespace = &route.object.metadata.namespace;
        let allowing: Vec<_> = named
            .iter()
            .filter(|listener| {
                listener.kinds.contains(&route.kind) && self.allows(listener, namespace)
            })
            .collect();
        let field = if reference.section_name.is_some() { "sectionName" } else { "name" };
        if allowing.is_empty() {
            let message = self.why_not_allowed(route, &named);
            return Err((field, conditions::not_allowed_by_listeners(message)));
        }
        let matching: Vec<_> = allowing
            .iter()
            .filter(|listener| hostnames_match(route, listener))
            .map(|listener| listener.index)
            .collect();
        if matching.is_empty() {
            let hostnames = allowing.iter().filter_map(|listener| listener.hostname.as_deref());
            let message = format!(
                "no hostname of the route matches that of a listener; the listeners' are {}",
                suggest::list(hostnames)
            );
            return Err((field, conditions::no_matching_listener_hostname(message)));
        }
        Ok(matching)
    }

    fn allows(&self, listener: &ListenerNode, namespace: &str) -> bool {
        let default = FromNamespaces::Same;
        self.namespaces.chosen(&listener.namespaces, default, &listener.home, namespace)
    }

    fn why_not_allowed(&self, route: &RouteNode, listeners: &[&ListenerNode]) -> String {
        let of_kind = listeners.iter().any(|listener| listener.kinds.contains(&route.kind));
        if of_kind {
            let namespace = &route.object.metadata.namespace;
            return format!(
                "no listener allows routes from namespace {namespace}; its \
                 allowedRoutes.namespaces would have to choose it{}",
                self.namespaces.labels_unknown(namespace)
            );
        }
        let kinds = listeners.iter().map(|listener| {
            let kinds: Vec<_> = listener.kinds.iter().map(|kind| kind.as_str()).collect();
            let kinds = if kinds.is_empty() { "nothing".into() } else { kinds.join(" and ") };
            format!("listener {:?} takes {kinds}", listener.id.name)
        });
        format!("no listener takes {}s: {}", route.kind, suggest::join(kinds))
    }
}

/// Whether the reference, as far as it is narrower than the whole parent, names this listener.
fn names(reference: &ParentRef, listener: &ListenerNode) -> bool {
    reference.section_name.as_ref().is_none_or(|name| *name == listener.id.name)
        && reference.port.is_none_or(|port| port == listener.port)
}

fn no_such_listener(reference: &ParentRef, listeners: &[ListenerNode]) -> (&'static str, Outcome) {
    let names = || listeners.iter().map(|listener| &*listener.id.name);
    let parent = format!("{} {}", reference.kind, reference.name);
    let section = reference.section_name.as_deref();
    let port_of_section =
        listeners.iter().find(|l| Some(&*l.id.name) == section).map(|listener| listener.port);
    let (field, message) = match (section, reference.port, port_of_section) {
        (Some(section), Some(port), Some(actual)) => {
            ("port", format!("listener {section:?} of {parent} is on port {actual}, not on {port}"))
        }
        (Some(section), _, _) => (
            "sectionName",
            format!(
                "{parent} has no listener {section:?}{}; it has {}",
                suggest::did_you_mean(section, names()),
                suggest::list(names()),
            ),
        ),
        (None, Some(port), _) => {
            let ports = suggest::join(listeners.iter().map(|listener| listener.port));
            ("port", format!("{parent} has no listener on port {port}; its ports are {ports}"))
        }
        (None, None, _) => ("name", format!("{parent} has no listener")),
    };
    (field, conditions::no_matching_parent(message))
}

fn hostnames_match(route: &RouteNode, listener: &ListenerNode) -> bool {
    let hostnames = &route.object.spec.hostnames;
    match (route.kind, &listener.hostname) {
        (RouteKind::Tls | RouteKind::Http, Some(of_listener)) => {
            hostnames.is_empty()
                || hostnames.iter().any(|hostname| hostname::intersect(hostname, of_listener))
        }
        _ => true,
    }
}
