use std::{collections::BTreeMap, sync::Arc};

use l4way_model::ListenerId;
use l4way_resources::{
    GATEWAY_GROUP, Snapshot,
    api::{FromNamespaces, ListenerSet, ListenerSetParentRef, ObjectKey},
};

use super::{Certificates, GatewayNode, ListenerNode, Namespaces, Referrer, gateway, refused, tls};
use crate::{
    conditions::{self, ACCEPTED},
    finding::Findings,
};

/// A ListenerSet whose parent is one of our Gateways.
#[derive(Clone, Debug)]
pub(crate) struct ListenerSetNode {
    pub(crate) object: Arc<ListenerSet>,
    /// The parent.
    pub(crate) gateway: ObjectKey,
    pub(crate) listeners: Vec<ListenerNode>,
    /// It is invalid, and its listeners take nothing; what they have is nobody else's.
    pub(crate) is_refused: bool,
    pub(crate) findings: Findings,
}

impl ListenerSetNode {
    /// Whether the parent lets its listeners in. Whether one of them is valid, its status tells.
    pub(crate) fn is_allowed(&self) -> bool {
        self.findings.outcome(ACCEPTED).is_none()
    }

    fn new(set: &Arc<ListenerSet>, parent: &GatewayNode, certificates: &Certificates<'_>) -> Self {
        let key = set.metadata.key();
        let referrer = Referrer { kind: "ListenerSet", namespace: &key.namespace };
        let gateway = parent.object.metadata.key();
        let listeners = set.spec.listeners.iter().enumerate().map(|(index, listener)| {
            let id = ListenerId {
                gateway: gateway::id(&gateway),
                listener_set: Some((key.namespace.clone(), key.name.clone())),
                name: listener.name.clone(),
            };
            let mut node = ListenerNode::new(id, key.namespace.clone(), index, listener);
            tls::check_certificates(&mut node, listener, referrer, certificates);
            parent.check_frontend_of(&mut node, certificates);
            node
        });
        Self {
            object: set.clone(),
            listeners: listeners.collect(),
            gateway,
            is_refused: false,
            findings: Findings::default(),
        }
    }

    /// The same ListenerSet as one that is invalid, of which only the listeners could be read.
    fn refuse(&mut self) {
        self.is_refused = true;
        self.listeners.iter_mut().for_each(|listener| listener.is_refused = true);
    }

    fn check_allowed(&mut self, parent: &GatewayNode, namespaces: &Namespaces<'_>) {
        let choice = parent
            .object
            .spec
            .allowed_listeners
            .as_ref()
            .and_then(|allowed| allowed.namespaces.clone())
            .unwrap_or_default();
        let home = &parent.object.metadata.namespace;
        let namespace = &self.object.metadata.namespace;
        if namespaces.chosen(&choice, FromNamespaces::None, home, namespace) {
            return;
        }
        let unknown = namespaces.labels_unknown(namespace);
        let message = format!(
            "Gateway {} does not allow ListenerSets from namespace {namespace}; its \
             spec.allowedListeners.namespaces would have to choose it{unknown}",
            self.gateway
        );
        self.findings.error("/spec/parentRef", conditions::listener_set::not_allowed(message));
    }
}

/// The Gateway that a ListenerSet names, if it names a Gateway.
pub(crate) fn parent_key(set: &ListenerSet) -> Option<ObjectKey> {
    let ListenerSetParentRef { group, kind, name, namespace } = &set.spec.parent_ref;
    (&**group == GATEWAY_GROUP && &**kind == "Gateway").then(|| ObjectKey {
        namespace: namespace.clone().unwrap_or_else(|| set.metadata.namespace.clone()),
        name: name.clone(),
    })
}

/// The ListenerSets of our Gateways, which learn of those that they allow.
pub(crate) fn build(
    snapshot: &Snapshot,
    gateways: &mut BTreeMap<ObjectKey, GatewayNode>,
    namespaces: &Namespaces<'_>,
    certificates: &Certificates<'_>,
) -> BTreeMap<ObjectKey, ListenerSetNode> {
    let refused = refused::listener_sets(snapshot);
    let mut oldest_first: Vec<_> = snapshot.listener_sets.values().chain(&refused).collect();
    oldest_first.sort_by(|a, b| a.metadata.age_order().cmp(&b.metadata.age_order()));
    let mut sets = BTreeMap::new();
    for set in oldest_first {
        let Some(parent) = parent_key(set).and_then(|key| gateways.get_mut(&key)) else { continue };
        let mut node = ListenerSetNode::new(set, parent, certificates);
        if !snapshot.listener_sets.contains_key(&set.metadata.key()) {
            node.refuse();
        }
        node.check_allowed(parent, namespaces);
        if node.is_allowed() {
            parent.listener_sets.push(set.metadata.key());
        }
        sets.insert(set.metadata.key(), node);
    }
    sets
}
