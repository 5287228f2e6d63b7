//! The Kubernetes objects that a Gateway is given, as functions of what is asked for it. No I/O.

mod access;
mod deployment;
mod disruption;
mod kind;
mod names;
pub(crate) mod network_policy;
mod service;

use std::collections::{BTreeMap, BTreeSet};

use l4way_delivery::shortened;
use l4way_resources::{GATEWAY_GROUP, api::ObjectKey};
use l4way_translate::Provision;
use serde_json::{Value, json};

pub(crate) use self::{
    access::endpoint_bindings,
    deployment::CONTAINER,
    kind::Kind,
    names::{ObjectNames, second},
    network_policy::{Leaving, MetricsFrom},
    service::{ServiceType, is_local, service_type},
};

/// The field manager of everything that l4way applies, and the value of [`MANAGED_BY`].
pub(crate) const MANAGER: &str = "l4way";
/// The label that everything of l4way's has.
pub(crate) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The label that says what of l4way's it is.
pub(crate) const NAME: &str = "app.kubernetes.io/name";
/// The value of [`NAME`] on everything that is made for a Gateway.
pub(crate) const PROXY: &str = "l4way-proxy";
/// The label with the name of the Gateway that an object is for.
pub(crate) const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
/// The label with the name of the Gateway's class.
pub(crate) const CLASS_NAME: &str = "gateway.networking.k8s.io/gateway-class-name";
/// The label with the Gateway's namespace, on what is in other namespaces.
pub(crate) const GATEWAY_NAMESPACE: &str = "l4way.dev/gateway-namespace";

/// The label with what stands for the Gateway that an object in another namespace is for.
pub(crate) const OWNER_HASH: &str = "l4way.dev/owner";

/// The longest that a label's value may be.
const LONGEST_LABEL: usize = 63;

/// What shapes the objects beside the Gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The proxies' image, where no GatewayParameters name one.
    pub(crate) image: String,
    /// How it is pulled; Kubernetes' own default if missing.
    pub(crate) image_pull_policy: Option<String>,
    /// The ClusterRole that lets a proxy follow EndpointSlices, where a RoleBinding names it.
    pub(crate) endpoints_role: String,
    /// Who may read proxies' metrics, if Gateways are to have NetworkPolicies.
    pub(crate) metrics_from: Option<MetricsFrom>,
    /// Features that every configuration requires of proxies, beside those that it needs.
    pub(crate) requires: BTreeSet<String>,
}

/// An object as it should be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Object {
    pub(crate) kind: Kind,
    pub(crate) key: ObjectKey,
    pub(crate) value: Value,
}

/// A name as a label's value.
pub(crate) fn label(name: &str) -> String {
    shortened(name, LONGEST_LABEL)
}

/// What all objects of a Gateway have in common.
#[derive(Clone, Debug)]
pub(crate) struct Common<'a> {
    pub(crate) provision: &'a Provision,
    pub(crate) names: &'a ObjectNames,
    /// The labels by which the Gateway's pods are selected; no infrastructure label wins over them.
    own: BTreeMap<String, String>,
}

impl<'a> Common<'a> {
    /// Of this Gateway's objects.
    pub(crate) fn new(provision: &'a Provision, names: &'a ObjectNames) -> Self {
        let Provision { gateway, class, .. } = provision;
        let own = [
            (MANAGED_BY, MANAGER.to_owned()),
            (NAME, PROXY.to_owned()),
            (GATEWAY_NAME, label(&gateway.name)),
            (CLASS_NAME, label(class)),
        ];
        Self { provision, names, own: own.map(|(key, value)| (key.to_owned(), value)).into() }
    }

    /// The labels that no change of the Gateway changes.
    pub(crate) fn own_labels(&self) -> &BTreeMap<String, String> {
        &self.own
    }

    /// The labels of its pods that only they have.
    fn selector(&self) -> BTreeMap<&str, &str> {
        let own = self.own.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        own.filter(|(key, _)| *key != NAME).collect()
    }

    /// The labels, with those that the Gateway asks for.
    pub(crate) fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.provision.labels.clone();
        labels.extend(self.own.clone());
        labels
    }

    /// The metadata of an object that goes when the Gateway goes.
    fn metadata(&self, kind: Kind, name: &str) -> Value {
        let Provision { gateway, annotations, .. } = self.provision;
        let mut metadata = json!({
            "name": name,
            "namespace": gateway.namespace,
            "labels": self.labels(),
        });
        if !annotations.is_empty() && self.is_annotated(kind) {
            metadata["annotations"] = json!(annotations);
        }
        if let Some(owner) = self.owner() {
            metadata["ownerReferences"] = json!([owner]);
        }
        metadata
    }

    /// The Gateway, as the owner of what goes with it.
    fn owner(&self) -> Option<Value> {
        let Provision { gateway, uid, .. } = self.provision;
        let uid = uid.as_ref()?;
        Some(json!({
            "apiVersion": format!("{GATEWAY_GROUP}/v1"),
            "kind": "Gateway",
            "name": gateway.name,
            "uid": uid,
            "controller": true,
            "blockOwnerDeletion": true,
        }))
    }

    /// Whether an object of this kind has the annotations that the Gateway asks for. By an annotation a
    /// replicator spreads keys, or rights to read them, over namespaces, and a cloud gives a ServiceAccount
    /// an identity.
    fn is_annotated(&self, kind: Kind) -> bool {
        let account = self.provision.parameters.service_account.as_ref();
        let asked = account.and_then(|account| account.infrastructure_annotations.as_deref());
        match kind {
            Kind::Secret | Kind::Role | Kind::RoleBinding => false,
            Kind::ServiceAccount => asked == Some("Copy"),
            _ => true,
        }
    }

    /// An object of this kind, of which there is one, from the parts of it that are its kind's own.
    fn named(&self, kind: Kind, parts: Value) -> Object {
        self.object(kind, self.names.of(kind), parts)
    }

    /// An object of the Gateway's namespace, from the parts of it that are its kind's own.
    pub(crate) fn object(&self, kind: Kind, name: &str, parts: Value) -> Object {
        Object::new(kind, self.metadata(kind, name), parts)
    }
}

impl Object {
    fn new(kind: Kind, metadata: Value, parts: Value) -> Self {
        let text = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
        let key = ObjectKey::new(text("namespace"), text("name"));
        let mut value = json!({
            "apiVersion": kind.api_version(),
            "kind": kind.as_str(),
            "metadata": metadata,
        });
        if let (Value::Object(value), Value::Object(parts)) = (&mut value, parts) {
            value.extend(parts);
        }
        Self { kind, key, value }
    }
}

/// A pod of a Gateway.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PodId {
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// Everything that the Gateway is to have but its configuration, in the order in which it is made:
/// what pods need comes before the pods. `leaving` are ports that its NetworkPolicy still admits.
pub(crate) fn desired(
    common: &Common<'_>,
    settings: &Settings,
    pods: &[PodId],
    leaving: &Leaving,
) -> Vec<Object> {
    let mut objects =
        vec![access::service_account(common), access::role(common, pods), access::binding(common)];
    objects.extend(access::endpoint_bindings(common, settings));
    objects.extend(pods.iter().map(|pod| access::lease(common, pod)));
    objects.extend(service::service(common));
    objects.push(disruption::budget(common));
    objects.extend(network_policy::policy(common, settings, leaving));
    objects.push(deployment::deployment(common, settings));
    objects
}

/// The labels and annotations that the Gateway asks for, as they are laid over a running pod: the
/// pod's template has none of them, for a change of it would end every session.
pub(crate) fn pod_metadata(common: &Common<'_>, pod: &PodId) -> Object {
    let provision = common.provision;
    let metadata = json!({
        "name": pod.name,
        "namespace": provision.gateway.namespace,
        // So that a pod of the same name that has come since isn't meant.
        "uid": pod.uid,
        "labels": common.labels(),
        "annotations": provision.annotations,
    });
    Object::new(Kind::Pod, metadata, json!({}))
}

#[cfg(test)]
pub(crate) mod tests;
