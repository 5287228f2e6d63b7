use l4way_model::ApplyReport;
use l4way_resources::status::{RouteParentStatus, RouteStatus};

use crate::{
    Graph,
    conditions::{ACCEPTED, PARTIALLY_INVALID, RESOLVED_REFS, SUPERSEDED, route},
    finding::Outcome,
    graph::RouteNode,
};

/// The status of a route of any kind: one entry for each parent that is ours.
pub(super) fn status(graph: &Graph, node: &RouteNode, report: &ApplyReport) -> RouteStatus {
    let generation = node.object.metadata.generation;
    let parents = node.parents.iter().map(|parent| {
        let refused = parent.findings.outcome(ACCEPTED);
        let mut outcomes = vec![refused.cloned().unwrap_or_else(route::accepted)];
        let refused_backend = parent.findings.outcome(RESOLVED_REFS).cloned();
        let refused_backend = refused_backend.or_else(|| on_own_host(node, report));
        outcomes.push(refused_backend.unwrap_or_else(|| node.resolved_refs()));
        if refused.is_none() {
            outcomes.extend(node.findings.outcome(PARTIALLY_INVALID).cloned());
        }
        outcomes.extend(parent.findings.outcome(SUPERSEDED).cloned());
        RouteParentStatus {
            parent_ref: parent.reference.clone(),
            controller_name: graph.controller_name.clone(),
            conditions: outcomes.iter().map(|outcome| outcome.observed(generation)).collect(),
        }
    });
    RouteStatus { parents: parents.collect() }
}

/// What a proxy found out of a backend: that a name of it leads to the proxy's own host.
fn on_own_host(node: &RouteNode, report: &ApplyReport) -> Option<Outcome> {
    let backends = node.targets.iter().filter_map(|target| target.backend.as_ref());
    let refused = backends.filter_map(|backend| report.refused_backends.get(backend)).next()?;
    Some(route::unsupported_value(refused.clone()))
}
