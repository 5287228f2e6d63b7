use l4way_resources::{
    GATEWAY_GROUP,
    api::ParentRef,
    status::{PolicyAncestorStatus, PolicyStatus},
};

use crate::{
    Graph,
    conditions::{self, ACCEPTED, RESOLVED_REFS, policy},
    graph::PolicyNode,
};

/// How many ancestors a policy's status may have (`PolicyStatus.ancestors`).
const MAX_ANCESTORS: usize = 16;

/// The status of a BackendTLSPolicy: one entry for each Gateway of ours that it is about.
pub(super) fn status(graph: &Graph, node: &PolicyNode) -> PolicyStatus {
    let generation = node.object.metadata.generation;
    let found = |kind| node.findings.outcome(kind).cloned();
    let outcomes = [
        found(ACCEPTED).unwrap_or_else(policy::accepted),
        found(RESOLVED_REFS).unwrap_or_else(conditions::resolved_refs),
    ];
    let ancestors = node.gateways.iter().take(MAX_ANCESTORS).map(|gateway| PolicyAncestorStatus {
        ancestor_ref: ParentRef {
            group: GATEWAY_GROUP.into(),
            kind: "Gateway".into(),
            namespace: Some(gateway.namespace.clone()),
            name: gateway.name.clone(),
            section_name: None,
            port: None,
        },
        controller_name: graph.controller_name.clone(),
        conditions: outcomes.iter().map(|outcome| outcome.observed(generation)).collect(),
    });
    PolicyStatus { ancestors: ancestors.collect() }
}
