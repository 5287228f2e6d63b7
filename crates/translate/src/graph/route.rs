use std::{ops::Range, sync::Arc};

use l4way_model::BackendId;
use l4way_resources::{
    Severity,
    api::{ExternalBackend, ObjectKey, Route, RouteKind, RouteRule},
};

use super::{
    Backends,
    http_rule::{self, HttpRuleNode, Unsupported},
    parent::ParentNode,
    policy::OfBackend,
};
use crate::{
    conditions,
    finding::{Findings, Outcome},
    suggest,
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
    /// An HTTPRoute's rules.
    pub(crate) http_rules: Vec<HttpRuleNode>,
    /// How it stands with each of its parents that is ours.
    pub(crate) parents: Vec<ParentNode>,
    /// What an HTTPRoute wants that isn't implemented.
    unsupported: Vec<String>,
    /// Whether each listener that it is attached to has another route instead.
    pub(crate) superseded: bool,
    /// It is invalid: what would be its sessions are nobody's.
    pub(crate) is_refused: bool,
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
    /// What the backend is, if it may lead out of the cluster.
    pub(crate) external: Option<ExternalBackend>,
    /// The BackendTLSPolicies that are about it.
    pub(crate) policies: OfBackend,
}

impl RouteNode {
    /// Reads a route, without its parents.
    pub(crate) fn new(kind: RouteKind, route: &Arc<Route>, backends: &mut Backends<'_>) -> Self {
        let mut node = Self {
            kind,
            object: route.clone(),
            targets: Vec::new(),
            http_rules: Vec::new(),
            parents: Vec::new(),
            unsupported: Vec::new(),
            superseded: false,
            is_refused: false,
            findings: Findings::default(),
        };
        node.read_rules(backends);
        node.check_default_gateways();
        node
    }

    /// A route that is invalid, whose sessions are refused, without its parents.
    pub(crate) fn refused(
        kind: RouteKind,
        object: Arc<Route>,
        http_rules: Vec<HttpRuleNode>,
    ) -> Self {
        let nowhere = TargetNode {
            pointer: "/spec/rules".to_owned(),
            weight: 1,
            backend: None,
            external: None,
            policies: OfBackend::default(),
        };
        Self {
            kind,
            object,
            targets: vec![nowhere],
            http_rules,
            parents: Vec::new(),
            unsupported: Vec::new(),
            superseded: false,
            is_refused: true,
            findings: Findings::default(),
        }
    }

    /// The name by which the graph knows it.
    pub(crate) fn key(&self) -> RouteKey {
        (self.kind, self.object.metadata.key())
    }

    /// A TCP or UDP route is one rule (`TCPRouteSpec.rules`, at most one item). Older versions of
    /// the API let more through: there is nothing by which to choose among them, so the first
    /// counts and the others are dropped, in the way that the API prescribes.
    fn read_rules(&mut self, backends: &mut Backends<'_>) {
        let object = self.object.clone();
        let rules = &object.spec.rules;
        let counting = match self.kind {
            RouteKind::Http => rules.len(),
            RouteKind::Tcp | RouteKind::Udp | RouteKind::Tls => 1,
        };
        let namespace = &object.metadata.namespace;
        for (rule_index, rule) in rules.iter().enumerate().take(counting) {
            let first_target = self.targets.len();
            for (index, reference) in rule.backend_refs.iter().enumerate() {
                let pointer = format!("/spec/rules/{rule_index}/backendRefs/{index}");
                let resolved = backends.resolve(self.kind, namespace, reference);
                match &resolved {
                    Ok(_) => {}
                    Err(outcome) if backends.is_refused(namespace, reference) => {
                        self.findings.told(outcome.clone());
                    }
                    Err(outcome) => self.findings.error(&*pointer, [outcome.clone()]),
                }
                if &*reference.kind == "Backend" && reference.port.is_some() {
                    let message = "A Backend's endpoints have their own ports; remove this one.";
                    self.findings.note(Severity::Warning, format!("{pointer}/port"), message);
                }
                let backend = resolved.ok();
                let external = backend.as_ref().and_then(|id| backends.external(id));
                let weight = reference.weight;
                let policies = backends.policies(self.kind, namespace, reference);
                self.targets.push(TargetNode { pointer, weight, backend, external, policies });
            }
            if self.kind == RouteKind::Http {
                let targets = first_target..self.targets.len();
                self.read_http_rule(rule_index, rule, targets);
            }
        }
        self.sum_up_http_rules();
        if rules.len() > counting {
            let message = format!(
                "Dropped Rule 1 to {}: a {} has only one rule; give each a route of its own",
                rules.len() - 1,
                self.kind
            );
            self.findings.error("/spec/rules/1", [conditions::route::dropped_rules(message)]);
        }
    }

    fn read_http_rule(&mut self, index: usize, rule: &RouteRule, targets: Range<usize>) {
        let (node, unsupported) = http_rule::read(rule, targets);
        self.http_rules.push(node);
        for Unsupported { field, what } in unsupported {
            let message = format!("This version of l4way doesn't implement {what}.");
            self.unsupported.push(format!("{what} in rule {index}"));
            self.findings.note(Severity::Error, format!("/spec/rules/{index}/{field}"), message);
        }
    }

    /// An HTTPRoute of which nothing is left isn't accepted; one of which something is says what it
    /// lacks.
    fn sum_up_http_rules(&mut self) {
        if self.unsupported.is_empty() || self.nothing_left().is_some() {
            return;
        }
        let message = format!("Dropped Rule, or part of it: {}", self.lacks());
        let outcome = conditions::route::dropped_rules(message);
        self.findings.tell(Severity::Warning, "/spec/rules", outcome);
    }

    fn lacks(&self) -> String {
        format!("this version of l4way doesn't implement {}", suggest::join(&self.unsupported))
    }

    /// Why no parent can accept the route, if it wants nothing but what isn't implemented.
    pub(crate) fn nothing_left(&self) -> Option<Outcome> {
        let carried = |rule: &HttpRuleNode| !rule.refused && !rule.matches.is_empty();
        let nothing = !self.unsupported.is_empty() && !self.http_rules.iter().any(carried);
        nothing.then(|| conditions::route::not_implemented(self.lacks()))
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
