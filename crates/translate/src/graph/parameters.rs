//! What `parametersRef` leads to.

use std::sync::Arc;

use l4way_resources::{
    L4WAY_GROUP, Snapshot,
    api::{GatewayParameters, ObjectKey, ParametersRef},
};

use super::{namespace::unwatched, refused};
use crate::{Settings, suggest};

/// Why there are no parameters, and what to do.
pub(crate) enum NotFound {
    /// They are another implementation's.
    Foreign(String),
    /// They are there and can't be used.
    Refused(String),
    Missing(String),
}

/// What to say of another implementation's parameters where Gateways run without.
pub(crate) fn passed_over(why: &str) -> String {
    format!("{why}. Without a cluster these count for nothing, so the Gateways run without them.")
}

/// The GatewayParameters that the reference leads to, in `namespace`.
///
/// # Errors
/// Why there are none, and what to do.
pub(crate) fn find<'a>(
    snapshot: &'a Snapshot,
    settings: &Settings,
    reference: &ParametersRef,
    namespace: Option<&str>,
) -> Result<&'a Arc<GatewayParameters>, NotFound> {
    let ParametersRef { group, kind, name, .. } = reference;
    if (&**group, &**kind) != (L4WAY_GROUP, "GatewayParameters") {
        return Err(NotFound::Foreign(format!(
            "{kind} of group {group:?} holds no parameters for l4way; refer to GatewayParameters of \
             group {L4WAY_GROUP}"
        )));
    }
    let namespace = namespace.ok_or_else(|| {
        NotFound::Missing(format!(
            "GatewayParameters {name} are in a namespace; name it in parametersRef.namespace"
        ))
    })?;
    let key = ObjectKey::new(namespace, name.clone());
    snapshot.gateway_parameters.get(&key).ok_or_else(|| {
        if let Some(refused) = snapshot.refused("GatewayParameters", &key) {
            let why = refused::invalid(refused);
            return NotFound::Refused(format!("GatewayParameters {key}: the object {why}"));
        }
        if !settings.is_watched(namespace) {
            return NotFound::Missing(unwatched("GatewayParameters", &key));
        }
        let beside =
            snapshot.gateway_parameters.keys().filter(|other| other.namespace == key.namespace);
        let hint = suggest::did_you_mean(name, beside.map(|other| &*other.name));
        NotFound::Missing(format!("GatewayParameters {key} don't exist{hint}"))
    })
}
