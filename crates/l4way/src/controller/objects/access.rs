//! Who the proxies are to the API server, and what they may do there: read their configuration,
//! answer in the Leases that were made for them, and follow the endpoints of their backends.

use l4way_delivery::DocumentKind;
use serde_json::{Value, json};

use super::{Common, GATEWAY_NAMESPACE, Kind, OWNER_HASH, Object, PodId, Settings};
use crate::controller::ownership::{BINDING_PREFIX, Owner};

const RBAC_GROUP: &str = "rbac.authorization.k8s.io";

pub(super) fn service_account(common: &Common<'_>) -> Object {
    // The proxies' pods mount the token all the same; no other pod does by accident.
    let parts = json!({"automountServiceAccountToken": false});
    common.named(Kind::ServiceAccount, parts)
}

pub(super) fn role(common: &Common<'_>, pods: &[PodId]) -> Object {
    let names = &common.names.documents;
    let documents = [DocumentKind::Config, DocumentKind::Keys];
    let secrets: Vec<_> = documents.into_iter().flat_map(|kind| names.secrets(kind)).collect();
    let mut rules = vec![json!({
        "apiGroups": [""],
        "resources": ["secrets"],
        "resourceNames": secrets,
        "verbs": ["get", "list", "watch"],
    })];
    // A rule without names would be for all.
    if !pods.is_empty() {
        let leases: Vec<_> = pods.iter().map(|pod| names.lease(&pod.uid)).collect();
        rules.push(json!({
            "apiGroups": ["coordination.k8s.io"],
            "resources": ["leases"],
            "resourceNames": leases,
            "verbs": ["get", "patch", "update"],
        }));
    }
    common.named(Kind::Role, json!({ "rules": rules }))
}

pub(super) fn binding(common: &Common<'_>) -> Object {
    common.named(Kind::RoleBinding, bound(common, "Role", common.names.of(Kind::Role)))
}

/// The Lease in which the proxy in a pod answers. It goes with the pod.
pub(super) fn lease(common: &Common<'_>, pod: &PodId) -> Object {
    let name = common.names.documents.lease(&pod.uid);
    let mut lease = common.object(Kind::Lease, &name, json!({}));
    lease.value["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "v1",
        "kind": "Pod",
        "name": pod.name,
        "uid": pod.uid,
        "controller": true,
        "blockOwnerDeletion": false,
    }]);
    lease
}

/// One binding in each namespace with endpoints of the Gateway's backends. An owner in another namespace isn't one
/// to Kubernetes, so there they are known by a hash of the owner, and taken away by us.
pub(crate) fn endpoint_bindings<'a>(
    common: &'a Common<'_>,
    settings: &'a Settings,
) -> impl Iterator<Item = Object> + 'a {
    let gateway = &common.provision.gateway;
    let hash = Owner::new(gateway.namespace.clone(), common.provision.uid.clone()).hash();
    let name = binding_name(&format!("{}-{}", gateway.namespace, common.names.plain()), &hash);
    common.provision.endpoint_namespaces.iter().map(move |namespace| {
        let mut labels = common.own_labels().clone();
        labels.insert(GATEWAY_NAMESPACE.to_owned(), gateway.namespace.to_string());
        labels.insert(OWNER_HASH.to_owned(), hash.clone());
        let mut metadata = json!({"name": name, "namespace": namespace, "labels": labels});
        if *namespace == gateway.namespace {
            metadata["ownerReferences"] = common.owner().into_iter().collect();
        }
        let parts = bound(common, "ClusterRole", &settings.endpoints_role);
        Object::new(Kind::RoleBinding, metadata, parts)
    })
}

/// A name that shows whose the binding is, as far as there is room, and ends with the hash.
fn binding_name(readable: &str, hash: &str) -> String {
    const LONGEST: usize = 63;
    let room = LONGEST - BINDING_PREFIX.len() - 1 - hash.len();
    let end = readable.floor_char_boundary(room);
    format!("{BINDING_PREFIX}{}-{hash}", readable[..end].trim_end_matches(['-', '.']))
}

/// What a RoleBinding says that gives the Gateway's ServiceAccount a role.
fn bound(common: &Common<'_>, kind: &str, name: &str) -> Value {
    json!({
        "roleRef": {"apiGroup": RBAC_GROUP, "kind": kind, "name": name},
        "subjects": [{
            "kind": "ServiceAccount",
            "name": common.names.of(Kind::ServiceAccount),
            "namespace": common.provision.gateway.namespace,
        }],
    })
}
