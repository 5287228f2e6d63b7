use std::sync::Arc;

use l4way_model::BackendId;
use l4way_resources::{
    Severity,
    api::{ObjectKey, Route, RouteKind},
};

use super::{Backends, parent::ParentNode};
use crate::{
    conditions,
    finding::{Findings, Outcome},
};

/// The kind, namespace and name of a route.
pub(crate) type RouteKey = (RouteKind, ObjectKey);

/// A route of any kind.
#[derive(Clone, Debug)]
pub(crate) struct RouteNode {
    pub(crate) kind: RouteKind,
    pub(crate) object: Arc<Route>,
    /// Where its sessions go, in the order of the manifest.
    pub(crate) targets: Vec<TargetNode>,
    /// How it stands with each of its parents that is ours.
    pub(crate) parents: Vec<ParentNode>,
    pub(crate) findings: Findings,
}

/// Where a share of a route's sessions goes.
#[derive(Clone, Debug)]
pub(crate) struct TargetNode {
    /// Its JSON pointer in the route.
    pub(crate) pointer: String,
    pub(crate) weight: u32,
    /// `None` if it can't be used.
    pub(crate) backend: Option<BackendId>,
}

impl RouteNode {
    /// Reads a route, without its parents.
    pub(crate) fn new(kind: RouteKind, route: &Arc<Route>, backends: &mut Backends<'_>) -> Self {
        let mut node = Self {
            kind,
            object: route.clone(),
            targets: Vec::new(),
            parents: Vec::new(),
            findings: Findings::default(),
        };
        node.read_rules(backends);
        node.check_default_gateways();
        node
    }

    /// The name by which the graph knows it.
    pub(crate) fn key(&self) -> RouteKey {
        (self.kind, self.object.metadata.key())
    }

    /// A TCP or UDP route is one rule (`TCPRouteSpec.rules`, at most one item). Older versions of
    /// the API let more through: there is nothing by which to choose among them, so the first
    /// counts and the others are dropped, in the way that the API prescribes.
    fn read_rules(&mut self, backends: &mut Backends<'_>) {
        let rules = &self.object.spec.rules;
        let counting = match self.kind {
            RouteKind::Http => rules.len(),
            RouteKind::Tcp | RouteKind::Udp | RouteKind::Tls => 1,
        };
        let namespace = &self.object.metadata.namespace;
        for (rule_index, rule) in rules.iter().enumerate().take(counting) {
            for (index, reference) in rule.backend_refs.iter().enumerate() {
                let pointer = format!("/spec/rules/{rule_index}/backendRefs/{index}");
                let resolved = backends.resolve(self.kind, namespace, reference);
                if let Err(outcome) = &resolved {
                    self.findings.error(&*pointer, [outcome.clone()]);
                }
                if &*reference.kind == "Backend" && reference.port.is_some() {
                    let message = "A Backend's endpoints have their own ports; remove this one.";
                    self.findings.note(Severity::Warning, format!("{pointer}/port"), message);
                }
                let backend = resolved.ok();
                self.targets.push(TargetNode { pointer, weight: reference.weight, backend });
            }
        }
        if rules.len() > counting {
            let message = format!(
                "Dropped Rule 1 to {}: a {} has only one rule; give each a route of its own",
                rules.len() - 1,
                self.kind
            );
            self.findings.error("/spec/rules/1", [conditions::route::dropped_rules(message)]);
        }
    }

    fn check_default_gateways(&mut self) {
        let scope = self.object.spec.use_default_gateways.as_deref();
        if scope.is_some_and(|scope| scope != "None") {
            self.findings.note(
                Severity::Error,
                "/spec/useDefaultGateways",
                "Default Gateways are not supported; name the Gateway in parentRefs.",
            );
        }
    }

    /// What there is to say of all its references: the first that can't be used, and then the
    /// others.
    pub(crate) fn resolved_refs(&self) -> Outcome {
        self.findings
            .outcome(conditions::RESOLVED_REFS)
            .cloned()
            .unwrap_or_else(conditions::resolved_refs)
    }
}
