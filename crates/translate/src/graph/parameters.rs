//! What `parametersRef` leads to.

use std::sync::Arc;

use l4way_resources::{
    L4WAY_GROUP, Snapshot,
    api::{GatewayParameters, ObjectKey, ParametersRef},
};

use crate::suggest;

/// The GatewayParameters that the reference leads to, in `namespace`.
///
/// # Errors
/// Why there are none, and what to do.
pub(crate) fn find<'a>(
    snapshot: &'a Snapshot,
    reference: &ParametersRef,
    namespace: Option<&str>,
) -> Result<&'a Arc<GatewayParameters>, String> {
    let ParametersRef { group, kind, name, .. } = reference;
    if (&**group, &**kind) != (L4WAY_GROUP, "GatewayParameters") {
        return Err(format!(
            "{kind} of group {group:?} holds no parameters for l4way; refer to GatewayParameters of \
             group {L4WAY_GROUP}"
        ));
    }
    let namespace = namespace.ok_or_else(|| {
        format!("GatewayParameters {name} are in a namespace; name it in parametersRef.namespace")
    })?;
    let key = ObjectKey::new(namespace, name.clone());
    snapshot.gateway_parameters.get(&key).ok_or_else(|| {
        let beside =
            snapshot.gateway_parameters.keys().filter(|other| other.namespace == key.namespace);
        let hint = suggest::did_you_mean(name, beside.map(|other| &*other.name));
        format!("GatewayParameters {key} don't exist{hint}")
    })
}
