use std::{collections::BTreeMap, sync::Arc};

use l4way_resources::{Snapshot, api::GatewayClass};

use crate::{Settings, conditions, finding::Findings};

/// A GatewayClass that is ours.
#[derive(Clone, Debug)]
pub(crate) struct ClassNode {
    pub(crate) object: Arc<GatewayClass>,
    pub(crate) findings: Findings,
}

/// Our GatewayClasses, by name.
pub(crate) fn build(snapshot: &Snapshot, settings: &Settings) -> BTreeMap<Arc<str>, ClassNode> {
    snapshot
        .gateway_classes
        .values()
        .filter(|class| class.spec.controller_name == settings.controller_name)
        .map(|class| (class.metadata.name.clone(), node(class)))
        .collect()
}

fn node(class: &Arc<GatewayClass>) -> ClassNode {
    let mut findings = Findings::default();
    if let Some(parameters) = &class.spec.parameters_ref {
        let message = format!(
            "parametersRef names {} {:?}, but l4way has no kind of parameters; remove it",
            parameters.kind, parameters.name
        );
        let outcome = conditions::class::invalid_parameters(message);
        findings.error("/spec/parametersRef", [outcome]);
    }
    ClassNode { object: class.clone(), findings }
}
