use std::{collections::BTreeMap, sync::Arc};

use l4way_resources::{
    Content, Severity, Snapshot,
    api::{GatewayClass, GatewayParametersSpec, ObjectKey},
};

use super::{
    parameters::{self, NotFound},
    refused,
};
use crate::{Settings, conditions, finding::Findings};

/// Where a class says what its parameters are.
const POINTER: &str = "/spec/parametersRef";

/// A GatewayClass that is ours.
#[derive(Clone, Debug)]
pub(crate) struct ClassNode {
    pub(crate) object: Arc<GatewayClass>,
    /// How the proxies of its Gateways run in a cluster.
    pub(crate) parameters: GatewayParametersSpec,
    pub(crate) findings: Findings,
}

/// Whether there is no GatewayClass at all, and no other controller that Gateways may belong to.
pub(crate) fn are_missing(snapshot: &Snapshot, settings: &Settings) -> bool {
    let none = snapshot.gateway_classes.is_empty() && !snapshot.has_refused("GatewayClass");
    none && !settings.in_cluster
}

/// Why the Gateways of a class don't run, if it is invalid and may be one of ours.
pub(crate) fn refused(snapshot: &Snapshot, settings: &Settings, name: &str) -> Option<String> {
    let key = ObjectKey::new("", name);
    let refused = snapshot.refused("GatewayClass", &key);
    let refused = refused.filter(|_| !snapshot.gateway_classes.contains_key(&key))?;
    let controller = match &refused.content {
        Content::Fields(fields) => fields["spec"]["controllerName"].as_str(),
        Content::Words(_) | Content::Unknown => None,
    };
    let may_be_ours = controller.is_none_or(|name| *name == *settings.controller_name);
    may_be_ours.then(|| format!("GatewayClass {name} {}", refused::invalid(refused)))
}

/// Our GatewayClasses, by name.
pub(crate) fn build(snapshot: &Snapshot, settings: &Settings) -> BTreeMap<Arc<str>, ClassNode> {
    snapshot
        .gateway_classes
        .values()
        .filter(|class| class.spec.controller_name == settings.controller_name)
        .map(|class| (class.metadata.name.clone(), node(snapshot, settings, class)))
        .collect()
}

fn node(snapshot: &Snapshot, settings: &Settings, class: &Arc<GatewayClass>) -> ClassNode {
    let mut node = ClassNode {
        object: class.clone(),
        parameters: GatewayParametersSpec::default(),
        findings: Findings::default(),
    };
    if let Some(reference) = &class.spec.parameters_ref {
        match parameters::find(snapshot, settings, reference, reference.namespace.as_deref()) {
            Ok(found) => node.parameters = found.spec.clone(),
            Err(NotFound::Foreign(message)) if !settings.in_cluster => {
                node.findings.note(Severity::Warning, POINTER, parameters::passed_over(&message));
            }
            Err(NotFound::Refused(message)) => {
                node.findings.told(conditions::class::invalid_parameters(message));
            }
            Err(NotFound::Foreign(message) | NotFound::Missing(message)) => {
                let outcome = conditions::class::invalid_parameters(message);
                node.findings.error(POINTER, [outcome]);
            }
        }
    }
    node
}
