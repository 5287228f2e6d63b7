use std::{collections::BTreeMap, sync::Arc};

use l4way_resources::{
    Snapshot,
    api::{GatewayClass, GatewayParametersSpec},
};

use super::parameters;
use crate::{Settings, conditions, finding::Findings};

/// A GatewayClass that is ours.
#[derive(Clone, Debug)]
pub(crate) struct ClassNode {
    pub(crate) object: Arc<GatewayClass>,
    /// How the proxies of its Gateways run in a cluster.
    pub(crate) parameters: GatewayParametersSpec,
    pub(crate) findings: Findings,
}

/// Our GatewayClasses, by name.
pub(crate) fn build(snapshot: &Snapshot, settings: &Settings) -> BTreeMap<Arc<str>, ClassNode> {
    snapshot
        .gateway_classes
        .values()
        .filter(|class| class.spec.controller_name == settings.controller_name)
        .map(|class| (class.metadata.name.clone(), node(snapshot, class)))
        .collect()
}

fn node(snapshot: &Snapshot, class: &Arc<GatewayClass>) -> ClassNode {
    let mut node = ClassNode {
        object: class.clone(),
        parameters: GatewayParametersSpec::default(),
        findings: Findings::default(),
    };
    if let Some(reference) = &class.spec.parameters_ref {
        match parameters::find(snapshot, reference, reference.namespace.as_deref()) {
            Ok(found) => node.parameters = found.spec.clone(),
            Err(message) => {
                let outcome = conditions::class::invalid_parameters(message);
                node.findings.error("/spec/parametersRef", [outcome]);
            }
        }
    }
    node
}
