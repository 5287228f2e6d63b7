use l4way_resources::status::{RouteParentStatus, RouteStatus};

use crate::{
    Graph,
    conditions::{ACCEPTED, PARTIALLY_INVALID, SUPERSEDED, route},
    graph::RouteNode,
};

/// The status of a route of any kind: one entry for each parent that is ours.
pub(super) fn status(graph: &Graph, node: &RouteNode) -> RouteStatus {
    let generation = node.object.metadata.generation;
    let parents = node.parents.iter().map(|parent| {
        let refused = parent.findings.outcome(ACCEPTED);
        let mut outcomes = vec![refused.cloned().unwrap_or_else(route::accepted)];
        outcomes.push(node.resolved_refs());
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
