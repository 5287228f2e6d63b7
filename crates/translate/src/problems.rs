//! What somebody who checks manifests wants to know, before any proxy runs.

use l4way_resources::{
    Severity,
    api::{ObjectKey, ObjectMeta, ObjectRef, RouteKind},
};
use serde::Serialize;

use crate::{
    Graph,
    finding::{Findings, Note},
    graph::{ListenerNode, RouteNode},
};

/// Something that is wrong with an object, or keeps traffic from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The object.
    #[serde(flatten)]
    pub object: ObjectRef,
    /// The field that it is about, as a JSON pointer (RFC 6901) into the object.
    pub pointer: String,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong and what to do about it.
    pub message: String,
}

/// Everything that is wrong, and every route that gets no traffic with the reason: by kind and name,
/// then what leads to nothing of ours.
pub fn problems(graph: &Graph) -> Vec<Problem> {
    let mut problems = Problems::default();
    for class in graph.classes.values() {
        problems.findings("GatewayClass", &class.object.metadata, &class.findings);
    }
    for gateway in graph.gateways.values().filter(|gateway| !gateway.is_refused) {
        let metadata = &gateway.object.metadata;
        problems.findings("Gateway", metadata, &gateway.findings);
        problems.listeners("Gateway", metadata, &gateway.listeners);
    }
    for set in graph.listener_sets.values().filter(|set| !set.is_refused) {
        let metadata = &set.object.metadata;
        problems.findings("ListenerSet", metadata, &set.findings);
        problems.listeners("ListenerSet", metadata, &set.listeners);
    }
    for route in graph.routes.values().filter(|route| !route.is_refused) {
        let metadata = &route.object.metadata;
        problems.findings(route.kind.as_str(), metadata, &route.findings);
        for parent in &route.parents {
            problems.findings(route.kind.as_str(), metadata, &parent.findings);
        }
        problems.no_traffic(graph, route);
    }
    let policies = graph.policies.values().filter(|policy| !policy.is_refused);
    for policy in policies.filter(|policy| !policy.gateways.is_empty()) {
        problems.findings("BackendTLSPolicy", &policy.object.metadata, &policy.findings);
    }
    for stray in &graph.strays {
        problems.add(stray.object.clone(), &stray.note);
    }
    problems.0
}

#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn findings(&mut self, kind: &str, metadata: &ObjectMeta, findings: &Findings) {
        for note in findings.notes() {
            self.add(ObjectRef::new(kind, metadata.key()), note);
        }
    }

    fn listeners(&mut self, kind: &str, metadata: &ObjectMeta, listeners: &[ListenerNode]) {
        for listener in listeners {
            self.findings(kind, metadata, &listener.findings);
        }
    }

    fn add(&mut self, object: ObjectRef, note: &Note) {
        let Note { severity, pointer, message } = note.clone();
        self.0.push(Problem { object, pointer, severity, message });
    }

    fn of_route(&mut self, route: &RouteNode, severity: Severity, pointer: &str, message: String) {
        let object = ObjectRef::new(route.kind.as_str(), route.object.metadata.key());
        self.0.push(Problem { object, pointer: pointer.into(), severity, message });
    }

    /// Why an accepted route gets no traffic, or sends it nowhere, beyond what was found wrong.
    fn no_traffic(&mut self, graph: &Graph, route: &RouteNode) {
        for parent in &route.parents {
            for index in &parent.listeners {
                let listener = graph.listener(&parent.parent, *index);
                if let Some(why) = listener.and_then(|listener| why_closed(graph, listener)) {
                    self.of_route(route, Severity::Error, &parent.pointer("name"), why);
                }
            }
        }
        let weights: u64 = route.targets.iter().map(|target| u64::from(target.weight)).sum();
        // The rules of an HTTPRoute may do without backends.
        if weights == 0 && route.kind != RouteKind::Http {
            let message = "No backend has a weight above 0: every session is refused.".to_owned();
            self.of_route(route, Severity::Warning, "/spec/rules/0/backendRefs", message);
        }
        for target in route.targets.iter().filter(|target| target.weight > 0) {
            let node = target.backend.as_ref().and_then(|id| graph.backends.get(id));
            if let Some(why) = node.and_then(|node| node.warning.as_ref()) {
                self.of_route(route, Severity::Warning, &target.pointer, why.clone());
            }
        }
    }
}

/// Why a listener takes no sessions for any route, if it doesn't.
fn why_closed(graph: &Graph, listener: &ListenerNode) -> Option<String> {
    let id = &listener.id;
    let key = ObjectKey::new(id.gateway.namespace.clone(), id.gateway.name.clone());
    let gateway = graph.gateways.get(&key).filter(|gateway| !gateway.keeps_ports)?;
    if let Some((namespace, name)) = &id.listener_set {
        let key = ObjectKey::new(namespace.clone(), name.clone());
        graph.listener_sets.get(&key).filter(|set| !set.is_refused)?;
    }
    let why = if !listener.is_valid() {
        "it is not valid".to_owned()
    } else if !gateway.may_run() {
        format!("Gateway {key} is not accepted")
    } else if gateway.addresses.is_empty() {
        format!("Gateway {key} has no address")
    } else {
        return None;
    };
    Some(format!("no traffic through listener {id}: {why}"))
}
